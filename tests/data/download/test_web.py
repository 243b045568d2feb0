"""Downloads from servers with faults: retries, continued downloads and error messages."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from dhmd.data.download.web import PARTIAL_FOLDER, Transfer
from tests.data.download.conftest import (
    LABELS,
    QUICK,
    WORDS,
    FakeRecipe,
    FakeSequence,
    hdf5_body,
    sha256,
)
from tests.data.download.server import (
    Behaviour,
    Handler,
    body_without_length,
    in_turn,
    no_answer,
    run_server,
    status,
    truncated_body,
    whole_body,
)

FOUND = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %b\r\n\r\n"
LATER = b"HTTP/1.1 503 no\r\nContent-Length: 0\r\nRetry-After: %b\r\n\r\n"
FIVE = b"HTTP/1.1 200 OK\r\n%b\r\n\r\nhello"
INVALID = "its address, the target of a redirect, or its response is invalid"


def ranges(server) -> list[str | None]:
    """Return the Range headers of the requests for a file."""
    return [headers.get("Range") for requested, headers in server.requests if requested == WORDS]


def without_range(body: bytes) -> Behaviour:
    """Send the whole body, and ignore the Range header."""

    def answer(handler: Handler) -> None:
        handler.head(200, Content_Length=len(body), ETag='"w1"')
        handler.wfile.write(body)

    return answer


def test_a_truncated_body_is_continued(served, server, project, words):
    server.files[WORDS] = in_turn(
        truncated_body(words, 70_000, ETag='"w1"'), whole_body(words, ETag='"w1"')
    )
    project.get(served)
    assert project.read("words.csd") == words
    assert ranges(server) == [None, "bytes=70000-"]
    assert server.requests[1][1]["If-Range"] == '"w1"'
    assert not list((project.root / PARTIAL_FOLDER).rglob("body"))


def test_the_next_run_continues_an_interrupted_download(served, server, project, words):
    server.files[WORDS] = truncated_body(words, 30_000, ETag='"w1"')
    message = project.error_message(served)
    assert f"the body ended after 90000 of {len(words)} bytes (3 attempts)" in message
    server.files[WORDS] = whole_body(words, ETag='"w1"')
    server.requests.clear()
    project.get(served)
    assert ranges(server) == ["bytes=90000-"]
    assert project.read("words.csd") == words


def test_complete_files_are_not_downloaded_again(served, server, project, words):
    labels = server.files[LABELS]
    server.files[LABELS] = status(404)
    project.error_message(served)
    server.files[LABELS] = labels
    server.requests.clear()
    project.get(served)
    assert [path for path, _ in server.requests] == [LABELS]
    assert project.read("words.csd") == words


NEWER = hdf5_body(7)


@pytest.mark.parametrize(
    "behaviour",
    [
        lambda old: in_turn(
            truncated_body(old, 70_000, ETag='"w1"'), whole_body(NEWER, ETag='"w2"')
        ),
        # A server that ignores If-Range and joins two versions.
        lambda old: in_turn(
            truncated_body(old, 70_000, ETag='"w1"'),
            truncated_body(NEWER, 10_000, ETag='"w2"'),
            whole_body(NEWER, ETag='"w2"'),
        ),
        lambda old: in_turn(truncated_body(old, 70_000, ETag='"w1"'), without_range(NEWER)),
        lambda old: in_turn(
            truncated_body(old, 70_000, ETag='"w1"'), status(416), whole_body(NEWER)
        ),
        lambda old: in_turn(truncated_body(old, 70_000), whole_body(NEWER)),
    ],
)
def test_two_versions_are_never_joined(served, server, project, words, behaviour):
    server.files[WORDS] = behaviour(words)
    project.get(served)
    assert project.read("words.csd") == NEWER


def test_a_download_is_continued_only_with_a_validator_or_a_hash(served, server, project, words):
    server.files[WORDS] = in_turn(truncated_body(words, 70_000), whole_body(words))
    project.get(served)
    assert ranges(server) == [None, None]
    server.requests.clear()
    server.files[WORDS] = in_turn(truncated_body(words, 70_000), whole_body(words))
    project.get(served.pinned("words", sha256=sha256(words)))
    assert ranges(server) == [None, "bytes=70000-"]
    # The hash shows that the parts do not fit, so the whole body is downloaded again.
    server.files[WORDS] = in_turn(
        truncated_body(hdf5_body(9), 70_000), whole_body(words), whole_body(words)
    )
    project.get(served.pinned("words", sha256=sha256(words)))
    assert project.read("words.csd") == words


@pytest.mark.parametrize(
    ("behaviour", "pins", "reason", "requests"),
    [
        (lambda body: status(401), {}, "log-in needed (401)", 1),
        (lambda body: status(403), {}, "forbidden (403)", 1),
        (lambda body: status(404), {}, "not found (404)", 1),
        (lambda body: status(500), {}, "internal server error (500) (3 attempts)", 3),
        (lambda body: status(429, Retry_After="0"), {}, "(429) (3 attempts)", 3),
        (lambda body: whole_body(b"<p>", Content_Type="text/html; charset=x"), {}, "a web page", 1),
        (lambda body: body_without_length(body[:-20_000]), {}, "it is not a whole HDF5 file", 1),
        (
            lambda body: truncated_body(body, 30_000),
            {},
            "ended after 30000 of {size} bytes (3 attempts)",
            3,
        ),
        (
            lambda body: whole_body(body),
            {"bytes": 7},
            "offers {size} bytes, but the recipe has 7",
            1,
        ),
        (
            lambda body: body_without_length(body),
            {"bytes": 7},
            "more than the announced 7 bytes",
            1,
        ),
        (
            lambda body: body_without_length(body),
            {"bytes": 10**6},
            "has {size} bytes, but the recipe",
            1,
        ),
        (
            lambda body: whole_body(body),
            {"sha256": "0" * 64},
            "the sha256 of the file is {sha256}, but the recipe has " + "0" * 64,
            1,
        ),
        (
            lambda body: whole_body(body, Content_Encoding="gzip"),
            {},
            "it has a Content-Encoding",
            1,
        ),
        (lambda body: status(302, Location="ftp://127.0.0.1/x"), {}, "an unsafe address", 1),
        (lambda body: status(302, Location="file:///etc/passwd"), {}, "an unsafe address", 1),
    ],
)
def test_each_fault_has_a_reason(served, server, project, words, behaviour, pins, reason, requests):
    server.files[WORDS] = behaviour(words)
    message = project.error_message(served.pinned("words", **pins))
    assert f"; {server.url}: " in message
    assert reason.format(size=len(words), sha256=sha256(words)) in message
    assert len(server.requests) == requests
    if pins.get("sha256"):
        assert not Transfer(server.url + WORDS, project.root, QUICK).body.exists()


def raw(answer: bytes) -> Behaviour:
    """Send the bytes of a whole response, valid or not."""

    def write(handler: Handler) -> None:
        handler.wfile.write(answer)
        handler.close_connection = True

    return write


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (FOUND % b"http://[bad/x", INVALID),
        (FOUND % b"http://u:pass/word@h/x", INVALID),
        (FOUND % b"http://a..b/x", INVALID),
        (FOUND % b"http://\xff\xfe.example/x", INVALID),
        (FOUND % b"ftp://u:pass/word@h/x?token=word", "it redirects to an unsafe address"),
        (LATER % b"\xb2", INVALID),
        (LATER % b"Mon, 01 Jan 2020 00:00:00 +99999999999999999999", "unavailable (503) (3"),
        (b"\x00\x1b[31mword\r\n\r\n", "the connection broke off (3 attempts)"),
        (FIVE % b"Content-Encoding: \x1b[2Jword", "it has a Content-Encoding"),
        (FIVE % b"Transfer-Encoding: chunked\r\n\r\nzz", "the connection broke off"),
        (FIVE % b'ETag: "a\x0b"\r\nContent-Length: 50', "the body ended after 5 of 50 bytes (3"),
    ],
)
def test_invalid_responses_have_a_reason(server, project, answer, reason):
    recipe = FakeRecipe(format="x", sources=(server.url,), sequences={"a": FakeSequence("a.bin")})
    server.files["/a.bin"] = raw(answer)
    message = project.error_message(recipe)
    assert reason in message
    assert "word" not in message
    server.files["/mirror/a.bin"] = whole_body(b"abc")
    project.get(replace(recipe, sources=(server.url, f"{server.url}/mirror")))
    assert project.read("a.bin") == b"abc"


def test_a_request_is_retried_after_a_temporary_error(served, server, project, words):
    server.files[WORDS] = in_turn(status(503), status(500), whole_body(words))
    project.get(served)
    assert project.read("words.csd") == words


def test_pauses_grow_and_obey_retry_after(served, server, project, monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr("urllib3.util.retry.time.sleep", pauses.append)
    server.files[WORDS] = in_turn(status(500), status(500), status(503, Retry_After="7"))
    policy = replace(QUICK, attempts=5, pause_s=1.0, max_pause_s=60.0)
    project.error_message(served, policy=policy)
    assert sorted(pauses)[0] <= 2.0
    assert 7.0 in pauses


def test_a_silent_server_times_out(served, server, project):
    release = threading.Event()
    server.files[WORDS] = no_answer(release)
    assert "no answer in time (3 attempts)" in project.error_message(served)
    release.set()


def test_a_redirect_is_followed_without_credentials_to_another_server(served, server, project):
    with run_server() as other:
        other.files["/elsewhere"] = server.files[WORDS]
        # `localhost` is another host than 127.0.0.1.
        target = f"http://localhost:{other.server_address[1]}/elsewhere"
        server.files[WORDS] = status(302, Location=target)
        project.get(replace(served, sources=(server.url.replace("//", "//anna:secret@"),)))
        assert "Authorization" in server.requests[0][1]
        assert [path for path, _ in other.requests] == ["/elsewhere"]
        assert "Authorization" not in other.requests[0][1]


def test_credentials_are_sent_but_not_shown(served, server, project):
    secret = replace(served, sources=(server.url.replace("//", "//anna:s%40cret@"),))
    project.get(secret)
    assert server.requests[0][1]["Authorization"] == "Basic YW5uYTpzQGNyZXQ="
    written = b"".join(p.read_bytes() for p in project.root.rglob("*") if p.is_file())
    assert b"cret@" not in written
    server.files[WORDS] = status(403)
    project.output.rename(project.root / "moved")
    message = project.error_message(secret)
    assert "cret" not in message
    assert "anna" not in message


def test_a_proxy_from_the_environment_is_used(served, server, project, monkeypatch, words):
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "")
    for path in (WORDS, LABELS):
        server.files["http://corpus.invalid" + path] = server.files[path]
    project.get(replace(served, sources=("http://corpus.invalid",)))
    assert project.read("words.csd") == words


@pytest.mark.parametrize("proxy", ["http://me:hun/ter@[x", "http:hunter", "http://me:hunter@h:x"])
def test_messages_do_not_have_the_password_of_a_proxy(served, project, proxy, monkeypatch):
    monkeypatch.setenv("http_proxy", proxy)
    message = project.error_message(replace(served, sources=("http://corpus.invalid",)))
    assert "http://corpus.invalid: " in message
    assert "hun" not in message


def test_a_full_disk_is_an_error_before_the_download(served, project, monkeypatch):
    class Full:
        free = 10

    monkeypatch.setattr("dhmd.data.download.web.shutil.disk_usage", lambda path: Full)
    assert "free some disk space and run the command again" in project.error_message(served)


def test_a_partial_folder_that_cannot_be_written_is_an_error(served, project):
    (project.root / ".dhmd").write_text("a file")
    assert "cannot write" in project.error_message(served)


def test_a_dataset_is_downloaded_from_the_hub(server, project, monkeypatch, tmp_path):
    recipe = FakeRecipe(format="x", sequences={"a": FakeSequence("part/a b.bin")})
    path = "/datasets/me/emotions/resolve/v1.0/raw/part/a%20b.bin"
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", "hf_word")
    with run_server() as store:
        store.files["/signed"] = whole_body(b"abc")
        target = f"http://localhost:{store.server_address[1]}/signed"
        server.files[path] = status(302, Location=target)
        project.get(replace(recipe, sources=("hf://me/emotions@v1.0/raw",)))
        assert project.read("a b.bin") == b"abc"
        assert server.requests[0][1]["Authorization"] == "Bearer hf_word"
        assert "Authorization" not in store.requests[0][1]  # the token is for the hub alone

    other = replace(project, root=tmp_path / "other")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    (tmp_path / "token").write_text("hf_file\n")
    message = other.error_message(replace(recipe, sources=("hf://datasets/me/private",)))
    assert "/datasets/me/private/resolve/main: not found (404)" in message
    assert server.requests[-1][1]["Authorization"] == "Bearer hf_file"
    assert "hf_file" not in message


@pytest.mark.parametrize("source", ["hf://me", "hf://me/x?y", "hf://me/x@a@b", "hf://me/x/../y"])
def test_invalid_addresses_of_the_hub_are_errors(source, project):
    recipe = FakeRecipe(sources=(source,), sequences={"a": FakeSequence("a.bin")})
    assert "is not hf://owner/dataset@revision/folder" in project.error_message(recipe)
