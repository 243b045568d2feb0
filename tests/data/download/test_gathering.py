"""Every way a server or a folder can fail to give a file, and what the user is told."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from dhmd.base.errors import DhmdError
from dhmd.data.download import download, read_manifest
from dhmd.data.download.partial import PARTIAL_FOLDER, Partial
from dhmd.data.download.web import Patience
from tests.data.download.conftest import FakeRecipe, FakeSequence, hdf5_body
from tests.data.download.server import (
    Behaviour,
    Server,
    cut,
    drip,
    silent,
    status,
    then,
    unmeasured,
    whole,
)

QUICK = Patience(attempts=3, timeout_s=0.5, pause_s=0.001, longest_pause_s=0.01)
WORDS = "/language/W.csd"
LABELS = "/labels/L.csd"


def sha(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def get(
    recipe: FakeRecipe, output: Path, root: Path, override: str | None = None, **patience: object
) -> None:
    download(
        recipe,
        override=override,
        root=root,
        output=output,
        patience=replace(QUICK, **patience),
    )


def refused(recipe: FakeRecipe, output: Path, root: Path, override: str | None = None) -> str:
    """The sentence; nothing half done may be left in the output's folder."""
    with pytest.raises(DhmdError) as caught:
        get(recipe, output, root, override)
    assert not output.exists()
    assert list(output.parent.glob("*")) == []
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def served(recipe: FakeRecipe, server: Server, words: bytes, labels: bytes) -> FakeRecipe:
    """The recipe with the good server as its only source."""
    server.files = {WORDS: whole(words, ETag='"w1"'), LABELS: whole(labels, ETag='"l1"')}
    return replace(recipe, sources=(server.url,))


def test_all_files_arrive_with_a_stable_manifest(served, output, tmp_path, words, labels):
    get(served, output, tmp_path)
    assert (output / "words.csd").read_bytes() == words
    assert (output / "labels.csd").read_bytes() == labels
    first = (output / "sources.json").read_bytes()
    assert json.loads(first) == {
        "labels.csd": {"bytes": len(labels), "sha256": sha(labels)},
        "words.csd": {"bytes": len(words), "sha256": sha(words)},
    }
    assert read_manifest(output)["words.csd"].sha256 == sha(words)
    get(served, output, tmp_path)
    assert (output / "sources.json").read_bytes() == first
    assert sorted(p.name for p in output.iterdir()) == ["labels.csd", "sources.json", "words.csd"]


def test_nothing_partial_is_left_after_success(served, output, tmp_path):
    get(served, output, tmp_path)
    left = [p for p in (tmp_path / PARTIAL_FOLDER).iterdir() if p.suffix != ".lock"]
    assert left == []


def test_cut_body_is_resumed_by_range(served, server, output, tmp_path, words):
    server.files[WORDS] = then(cut(words, 70_000, ETag='"w1"'), whole(words, ETag='"w1"'))
    get(served, output, tmp_path)
    assert (output / "words.csd").read_bytes() == words
    requests = [headers for path, headers in server.asked if path == WORDS]
    assert requests[1]["Range"] == "bytes=70000-"
    assert requests[1]["If-Range"] == '"w1"'


def test_interrupted_stage_resumes_in_the_next_run(served, server, output, tmp_path, words):
    server.files[WORDS] = cut(words, 30_000, ETag='"w1"')
    message = refused(served, output, tmp_path)
    assert f"the body ended after 90000 of {len(words)} bytes (3 attempts)" in message
    server.files[WORDS] = whole(words, ETag='"w1"')
    server.asked.clear()
    get(served, output, tmp_path)
    assert server.asked[0][1]["Range"] == "bytes=90000-"
    assert (output / "words.csd").read_bytes() == words


def test_finished_files_are_not_fetched_again(served, server, output, tmp_path, words, labels):
    server.files[LABELS] = status(404)
    refused(served, output, tmp_path)
    server.files[LABELS] = whole(labels)
    server.asked.clear()
    get(served, output, tmp_path)
    assert [path for path, _ in server.asked] == [LABELS]
    assert (output / "words.csd").read_bytes() == words


def test_file_that_changed_between_attempts_is_fetched_anew(
    served, server, output, tmp_path, words
):
    newer = hdf5_body(7)
    server.files[WORDS] = then(cut(words, 70_000, ETag='"w1"'), whole(newer, ETag='"w2"'))
    get(served, output, tmp_path)
    assert (output / "words.csd").read_bytes() == newer


def test_server_that_ignores_if_range_cannot_mix_two_versions(
    served, server, output, tmp_path, words
):
    newer = hdf5_body(7)
    server.files[WORDS] = then(
        cut(words, 70_000, ETag='"w1"'), cut(newer, 10_000, ETag='"w2"'), whole(newer, ETag='"w2"')
    )
    get(served, output, tmp_path)
    assert (output / "words.csd").read_bytes() == newer


def test_without_validator_or_hash_nothing_is_joined(served, server, output, tmp_path, words):
    server.files[WORDS] = then(cut(words, 70_000), whole(words))
    get(served, output, tmp_path)
    requests = [headers for path, headers in server.asked if path == WORDS]
    assert "Range" not in requests[1]
    assert (output / "words.csd").read_bytes() == words


def test_pinned_hash_allows_resuming_without_validator(served, server, output, tmp_path, words):
    server.files[WORDS] = then(cut(words, 70_000), whole(words))
    get(served.pinned("words", sha256=sha(words)), output, tmp_path)
    assert [h for p, h in server.asked if p == WORDS][1]["Range"] == "bytes=70000-"


def test_badly_joined_pieces_are_replaced_by_a_whole_body(served, server, output, tmp_path, words):
    other = hdf5_body(9)
    server.files[WORDS] = then(cut(other, 70_000), whole(words), whole(words))
    get(served.pinned("words", sha256=sha(words)), output, tmp_path)
    assert (output / "words.csd").read_bytes() == words


def test_server_without_range_starts_over(served, server, output, tmp_path, words):
    def no_range(handler):
        handler.head(200, Content_Length=len(words), ETag='"w1"')
        handler.wfile.write(words)

    server.files[WORDS] = then(cut(words, 70_000, ETag='"w1"'), no_range)
    get(served, output, tmp_path)
    assert (output / "words.csd").read_bytes() == words


def test_range_not_satisfiable_starts_over(served, server, output, tmp_path, words):
    server.files[WORDS] = then(
        cut(words, 70_000, ETag='"w1"'), status(416), whole(words, ETag='"w1"')
    )
    get(served, output, tmp_path)
    assert (output / "words.csd").read_bytes() == words


@pytest.mark.parametrize(
    ("code", "words_said"),
    [(401, "log-in needed (401)"), (403, "forbidden (403)"), (404, "not found (404)")],
)
def test_refusing_status_is_not_retried(served, server, output, tmp_path, code, words_said):
    server.files[WORDS] = status(code)
    assert f"{server.url}: {words_said}; place" in refused(served, output, tmp_path)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("misbehave", "pins", "reason"),
    [
        (lambda body: status(403), {}, "forbidden (403)"),
        (lambda body: status(404), {}, "not found (404)"),
        (lambda body: status(500), {}, "internal server error (500) (3 attempts)"),
        (lambda body: status(503), {}, "service unavailable (503) (3 attempts)"),
        (
            lambda body: whole(b"<html>", Content_Type="text/html"),
            {},
            "a web page came instead of the file (an error or log-in page)",
        ),
        (
            lambda body: unmeasured(b"<html><body>Moved</body></html>"),
            {},
            "a web page came instead of the file (an error or log-in page)",
        ),
        (lambda body: unmeasured(b""), {}, "the file is empty"),
        (
            lambda body: cut(body, 30_000),
            {},
            "the body ended after 30000 of {bytes} bytes (3 attempts)",
        ),
        (lambda body: whole(body), {"bytes": 7}, "it offers {bytes} bytes where the recipe says 7"),
        (
            lambda body: unmeasured(body[:-5]),
            {"bytes": 300_000},
            "it holds {short} bytes where the recipe says 300000",
        ),
        (
            lambda body: unmeasured(body),
            {"bytes": 7},
            "it sends more than the 7 bytes that were announced",
        ),
        (
            lambda body: whole(body),
            {"sha256": "0" * 64},
            "its content changed: sha256 {sha256} where the recipe says " + "0" * 64,
        ),
    ],
)
def test_each_misbehaviour_has_its_whole_sentence(
    served, server, output, tmp_path, words, misbehave, pins, reason
):
    server.files[WORDS] = misbehave(words)
    said = reason.format(bytes=len(words), short=len(words) - 5, sha256=sha(words))
    assert refused(served.pinned("words", **pins), output, tmp_path) == (
        f"cannot get words of tiny (language/W.csd); tried data/placed/tiny: no such folder; "
        f"{server.url}: {said}; place the file by hand as data/placed/tiny/W.csd, or set "
        "data.sources.tiny to a folder or mirror that has it, and run again"
    )


@pytest.mark.parametrize("code", [500, 502, 503, 429])
def test_failing_status_is_retried_then_said(served, server, output, tmp_path, code):
    server.files[WORDS] = status(code, Retry_After="0")
    message = refused(served, output, tmp_path)
    assert f"({code}) (3 attempts)" in message
    assert len(server.asked) == 3


def test_failing_status_that_recovers(served, server, output, tmp_path, words):
    server.files[WORDS] = then(status(503), status(500), whole(words))
    get(served, output, tmp_path)
    assert (output / "words.csd").read_bytes() == words


def test_pauses_double_and_obey_retry_after(served, server, output, tmp_path, monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr("dhmd.data.download.web.time.sleep", pauses.append)
    server.files[WORDS] = then(status(500), status(500), status(503, Retry_After="7"))
    with pytest.raises(DhmdError):
        get(served, output, tmp_path, attempts=4, pause_s=1.0, longest_pause_s=60.0)
    assert pauses == [1.0, 2.0, 7.0]


def test_html_by_type_is_refused(served, server, output, tmp_path):
    server.files[WORDS] = whole(b"<p>Please log in</p>", Content_Type="text/html; charset=utf-8")
    assert "a web page came instead of the file" in refused(served, output, tmp_path)


def test_html_by_content_is_refused(served, server, output, tmp_path):
    page = b"\n<!DOCTYPE html><html><body>Moved</body></html>"
    server.files[WORDS] = whole(page, Content_Type="application/octet-stream")
    assert "a web page came instead of the file" in refused(served, output, tmp_path)
    assert not Partial(tmp_path, server.url + WORDS).body.exists()


def test_empty_body_is_refused(served, server, output, tmp_path):
    server.files[WORDS] = unmeasured(b"")
    assert "the file is empty" in refused(served, output, tmp_path)


def test_unmeasured_body_is_taken_when_whole(served, server, output, tmp_path, words):
    server.files[WORDS] = unmeasured(words)
    get(served, output, tmp_path)
    assert (output / "words.csd").read_bytes() == words


def test_unmeasured_truncated_body_is_refused_by_its_format(
    served, server, output, tmp_path, words
):
    server.files[WORDS] = unmeasured(words[:-20_000])
    assert "it is not a whole HDF5 file" in refused(served, output, tmp_path)


def test_wrong_announced_length_is_refused_before_the_body(served, server, output, tmp_path, words):
    message = refused(served.pinned("words", bytes=len(words) + 1), output, tmp_path)
    assert f"it offers {len(words)} bytes where the recipe says {len(words) + 1}" in message


def test_unmeasured_body_beyond_the_recipe_is_stopped(served, server, output, tmp_path, words):
    server.files[WORDS] = unmeasured(words + b"more")
    message = refused(served.pinned("words", bytes=len(words)), output, tmp_path)
    assert f"it sends more than the {len(words)} bytes" in message


def test_unmeasured_body_short_of_the_recipe_is_refused(served, server, output, tmp_path, words):
    server.files[WORDS] = unmeasured(words[:-5])
    message = refused(served.pinned("words", bytes=len(words)), output, tmp_path)
    assert f"it holds {len(words) - 5} bytes where the recipe says {len(words)}" in message


def test_changed_content_is_refused_and_not_kept(served, server, output, tmp_path, words):
    pinned = served.pinned("words", bytes=len(words), sha256="0" * 64)
    message = refused(pinned, output, tmp_path)
    assert f"its content changed: sha256 {sha(words)} where the recipe says {'0' * 64}" in message
    assert not Partial(tmp_path, server.url + WORDS).body.exists()


def test_unasked_encoding_is_refused(served, server, output, tmp_path, words):
    server.files[WORDS] = whole(words, Content_Encoding="gzip")
    assert "the body is encoded as gzip" in refused(served, output, tmp_path)


def test_silent_server_times_out(served, server, output, tmp_path):
    release = threading.Event()
    server.files[WORDS] = silent(release)
    message = refused(served, output, tmp_path)
    release.set()
    assert "no answer in time (3 attempts)" in message


def test_dripping_server_times_out(served, server, output, tmp_path, words):
    release = threading.Event()
    server.files[WORDS] = drip(words, release)
    with pytest.raises(DhmdError, match=r"it sent \d+ bytes in 0.2 s \(2 attempts\)"):
        get(served, output, tmp_path, attempts=2, timeout_s=0.2)
    release.set()


def test_unwritable_state_folder_is_said(served, output, tmp_path):
    (tmp_path / ".dhmd").write_text("a file")
    assert "cannot write" in refused(served, output, tmp_path)


def test_file_that_changes_while_it_is_copied_is_refused(
    recipe, output, tmp_path, words, monkeypatch
):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "W.csd").write_bytes(words)

    def growing(path):
        yield path.read_bytes() + b"more"

    monkeypatch.setattr("dhmd.data.download.gathering._pieces", growing)
    message = refused(recipe, output, tmp_path, override="mine")
    assert "W.csd changed while it was copied" in message


def test_dead_server_is_not_waited_for_at_every_file(served, output, tmp_path, server, monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr("dhmd.data.download.web.time.sleep", pauses.append)
    get(replace(served, sources=("http://127.0.0.1:9", server.url)), output, tmp_path)
    assert len(pauses) == QUICK.attempts - 1
    assert (output / "labels.csd").exists()


def test_all_sources_are_named_with_their_reason(served, server, output, tmp_path):
    server.files[WORDS] = status(404)
    many = replace(served, sources=("http://127.0.0.1:9", "mirror", server.url))
    (tmp_path / "mirror").mkdir()
    message = refused(many, output, tmp_path)
    assert "http://127.0.0.1:9: [Errno 111] Connection refused (3 attempts)" in message
    assert "mirror: no file W.csd there" in message
    assert f"{server.url}: not found (404)" in message


def test_mirror_is_used_when_the_first_fails(served, server, output, tmp_path, words):
    server.files["/mirror" + WORDS] = server.files.pop(WORDS)
    server.files["/mirror" + LABELS] = server.files[LABELS]
    get(replace(served, sources=(server.url, server.url + "/mirror/")), output, tmp_path)
    assert (output / "words.csd").read_bytes() == words


def test_redirect_is_followed(served, server, output, tmp_path, words):
    server.files["/elsewhere"] = server.files[WORDS]
    server.files[WORDS] = status(302, Location="/elsewhere")
    get(served, output, tmp_path)
    assert (output / "words.csd").read_bytes() == words


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/x", "file:///etc/passwd"])
def test_redirect_out_of_http_is_refused(served, server, output, tmp_path, target):
    server.files[WORDS] = status(302, Location=target)
    message = refused(served, output, tmp_path)
    assert "unsafe" in message or "(302)" in message


def test_credentials_are_sent_and_never_shown(served, server, output, tmp_path, words):
    secret = server.url.replace("//", "//anna:s%40cret@")
    get(replace(served, sources=(secret,)), output, tmp_path)
    assert server.asked[0][1]["Authorization"] == "Basic YW5uYTpzQGNyZXQ="
    written = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert b"cret@" not in written
    server.files[WORDS] = status(403)
    message = refused(replace(served, sources=(secret,)), output.parent / "other" / "x", tmp_path)
    assert "cret" not in message
    assert "anna" not in message


def test_credentials_do_not_follow_a_redirect(served, server, output, tmp_path):
    server.files["/elsewhere"] = server.files[WORDS]
    server.files[WORDS] = status(302, Location=server.url + "/elsewhere")
    secret = server.url.replace("//", "//anna:secret@")
    get(replace(served, sources=(secret,)), output, tmp_path)
    redirected = next(headers for path, headers in server.asked if path == "/elsewhere")
    assert "Authorization" not in redirected


def test_proxy_from_the_environment_is_used(served, server, output, tmp_path, monkeypatch, words):
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "")
    server.files["http://corpus.invalid" + WORDS] = server.files[WORDS]
    server.files["http://corpus.invalid" + LABELS] = server.files[LABELS]
    get(replace(served, sources=("http://corpus.invalid",)), output, tmp_path)
    assert (output / "words.csd").read_bytes() == words


def test_file_being_received_elsewhere_is_refused(served, server, output, tmp_path):
    with Partial(tmp_path, server.url + WORDS).locked():
        message = refused(served, output, tmp_path)
    assert message == (
        f"another process is downloading {server.url}{WORDS}: wait until it has ended"
    )


def test_full_disk_is_said_before_the_body(served, output, tmp_path, monkeypatch):
    class Full:
        free = 10

    monkeypatch.setattr("dhmd.data.download.web.shutil.disk_usage", lambda path: Full)
    assert "make room and run again" in refused(served, output, tmp_path)


def test_folder_in_the_sources_layout_and_flat(recipe, output, tmp_path, words, labels):
    folder = tmp_path / "mine"
    (folder / "language").mkdir(parents=True)
    (folder / "language" / "W.csd").write_bytes(words)
    (folder / "L.csd").write_bytes(labels)
    get(recipe, output, tmp_path, override="mine")
    assert (output / "words.csd").read_bytes() == words
    assert (output / "labels.csd").read_bytes() == labels
    (output / "words.csd").write_bytes(b"overwritten")
    assert (folder / "language" / "W.csd").read_bytes() == words


def test_override_replaces_all_other_sources(served, server, output, tmp_path):
    message = refused(served, output, tmp_path, override="nowhere")
    assert "tried nowhere: no such folder; place" in message
    assert server.asked == []


def test_file_placed_by_hand_comes_first(served, server, output, tmp_path):
    placed = tmp_path / "data" / "placed" / "tiny" / "W.csd"
    placed.parent.mkdir(parents=True)
    placed.write_bytes(hdf5_body(5))
    get(served, output, tmp_path)
    assert (output / "words.csd").read_bytes() == placed.read_bytes()
    assert [path for path, _ in server.asked] == [LABELS]


def test_placed_file_of_the_wrong_content_is_said_and_passed_over(served, output, tmp_path, words):
    placed = tmp_path / "data" / "placed" / "tiny" / "W.csd"
    placed.parent.mkdir(parents=True)
    placed.write_bytes(words[:-1000])
    get(served, output, tmp_path)
    assert (output / "words.csd").read_bytes() == words


def test_single_file_as_source(output, tmp_path):
    recipe = FakeRecipe(format="mmsa", sequences={"pickle": FakeSequence("aligned_50.pkl")})
    mine = tmp_path / "my file.pkl"
    mine.write_bytes(b"\x80\x04}.")
    get(recipe, output, tmp_path, override=str(mine))
    assert (output / "aligned_50.pkl").read_bytes() == mine.read_bytes()
    mine.write_bytes(b"\x80\x04}")
    output = output.with_name("other")
    with pytest.raises(DhmdError, match="not a whole pickle"):
        get(recipe, output, tmp_path, override=str(mine))


def test_folder_in_place_of_a_file_is_refused(recipe, output, tmp_path):
    (tmp_path / "mine" / "W.csd").mkdir(parents=True)
    assert "W.csd there is not a file" in refused(recipe, output, tmp_path, override="mine")


@pytest.mark.parametrize(
    "path", ["../W.csd", "/etc/passwd", "a/../../b", "", "a\\b", "c:/x", "a\nb", "dir/"]
)
def test_paths_that_leave_the_source_are_refused(recipe, output, tmp_path, path):
    bad = replace(recipe, sequences={"words": FakeSequence(path)})
    message = refused(bad, output, tmp_path)
    assert "recipe tiny: sequences.words" in message
    assert "not a plain relative path" in message


@pytest.mark.parametrize("source", ["ftp://host/x", "file:///etc", "s3://bucket"])
def test_other_schemes_are_refused(recipe, output, tmp_path, source):
    message = refused(recipe, output, tmp_path, override=source)
    assert message == f"source {source} is neither http(s) nor a folder: use one of these"


def test_bad_address_is_refused_without_its_password(recipe, output, tmp_path):
    message = refused(recipe, output, tmp_path, override="ftp://anna:secret@host/x")
    assert "secret" not in message
    message = refused(recipe, output, tmp_path, override="http://host/x?token=secret")
    assert "secret" not in message


def test_generated_corpus_is_not_downloaded(recipe, output, tmp_path):
    generated = replace(recipe, format="generated")
    assert "generated data" in refused(generated, output, tmp_path)


def test_two_names_for_one_file_are_refused(recipe, output, tmp_path):
    twice = replace(recipe, sequences={"a": FakeSequence("W.csd"), "b": FakeSequence("W.csd")})
    assert "are one file" in refused(twice, output, tmp_path)


def test_recipe_without_files_is_refused(recipe, output, tmp_path):
    assert "sequences names no file" in refused(replace(recipe, sequences={}), output, tmp_path)


def behaviours(words: bytes) -> list[Behaviour]:
    return [status(404), status(500), cut(words, 1000), unmeasured(b"<html>")]


def test_failure_keeps_an_earlier_output(served, server, output, tmp_path, words):
    get(served, output, tmp_path)
    before = sorted((p.name, p.read_bytes()) for p in output.iterdir())
    for behaviour in behaviours(words):
        server.files[WORDS] = behaviour
        with pytest.raises(DhmdError):
            get(served, output, tmp_path)
    assert sorted((p.name, p.read_bytes()) for p in output.iterdir()) == before
