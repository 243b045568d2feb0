"""Downloads from several sources, folders and placed files into one folder."""

from __future__ import annotations

import errno
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from dhmd.base import files as atomic
from dhmd.base.errors import DhmdError
from dhmd.data.download import SourceError, check_contents, read_file_records
from dhmd.data.download.web import PARTIAL_FOLDER, Transfer
from tests.data.download.conftest import (
    LABELS,
    QUICK,
    WORDS,
    FakeRecipe,
    FakeSequence,
    Project,
    hdf5_body,
    sha256,
)
from tests.data.download.server import (
    Server,
    body_without_length,
    status,
    truncated_body,
    whole_body,
)


def test_all_files_are_downloaded_and_listed(served, project, words, labels):
    project.get(served)
    assert (project.read("words.csd"), project.read("labels.csd")) == (words, labels)
    first = project.read("sources.json")
    assert json.loads(first) == {
        "labels.csd": {"bytes": len(labels), "sha256": sha256(labels)},
        "words.csd": {"bytes": len(words), "sha256": sha256(words)},
    }
    assert read_file_records(project.output)["words.csd"].sha256 == sha256(words)
    project.get(served)
    assert project.read("sources.json") == first
    assert sorted(p.name for p in project.output.iterdir()) == [
        "labels.csd",
        "sources.json",
        "words.csd",
    ]


def test_an_error_names_the_file_and_all_sources(served, server, project):
    server.files[WORDS] = status(404)
    (project.root / "mirror").mkdir()
    many = replace(served, sources=("http://127.0.0.1:9", "mirror", server.url))
    assert project.error_message(many) == (
        "recipes/tiny.yaml: no source provides W.csd (tried 4 sources: data/placed/tiny: "
        "this folder does not exist; http://127.0.0.1:9: Connection refused (3 attempts); mirror: "
        f"this folder has no file W.csd; {server.url}: not found (404)); "
        "download it by hand and put it in data/placed/tiny/"
    )
    server.requests.clear()
    assert project.error_message(many, override="nowhere") == (
        "recipes/tiny.yaml: no source provides W.csd (tried 1 source: "
        "nowhere: this folder does not exist); "
        "correct data.sources.tiny in params.yaml, or set it to null"
    )
    assert server.requests == []


def test_a_mirror_is_used_when_the_first_source_fails(served, server, project, words):
    server.files["/mirror" + WORDS] = server.files.pop(WORDS)
    server.files["/mirror" + LABELS] = server.files[LABELS]
    project.get(replace(served, sources=(server.url, server.url + "/mirror/")))
    assert project.read("words.csd") == words


def test_an_unreachable_server_is_tried_only_once(served, server, project, monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr("urllib3.util.retry.time.sleep", pauses.append)
    project.get(replace(served, sources=("http://127.0.0.1:9", server.url)))
    assert len(pauses) < QUICK.attempts


def test_a_folder_has_a_file_at_its_path_or_at_the_top(recipe, project, words, labels):
    folder = project.root / "mine"
    (folder / "language").mkdir(parents=True)
    (folder / "language" / "W.csd").write_bytes(words)
    (folder / "L.csd").write_bytes(labels)
    project.get(recipe, override="mine")
    assert (project.read("words.csd"), project.read("labels.csd")) == (words, labels)
    (project.output / "words.csd").write_bytes(b"overwritten")
    assert (folder / "language" / "W.csd").read_bytes() == words


def test_a_placed_file_comes_first(served, server, project, words):
    placed = project.root / "data" / "placed" / "tiny" / "W.csd"
    placed.parent.mkdir(parents=True)
    placed.write_bytes(hdf5_body(5))
    project.get(served)
    assert project.read("words.csd") == placed.read_bytes()
    assert [path for path, _ in server.requests] == [LABELS]
    placed.write_bytes(words[:-1000])  # truncated: the server's is used
    project.get(served)
    assert project.read("words.csd") == words


def test_a_source_may_be_a_single_file(project):
    recipe = FakeRecipe(format="mmsa", sequences={"pickle": FakeSequence("aligned_50.pkl")})
    source_file = project.root / "my file.pkl"
    source_file.write_bytes(b"\x80\x04}.")
    project.get(recipe, override=str(source_file))
    assert project.read("aligned_50.pkl") == source_file.read_bytes()


def test_a_folder_with_the_name_of_a_file_is_an_error(recipe, project):
    (project.root / "mine" / "W.csd").mkdir(parents=True)
    assert "W.csd in this folder is not a regular file" in project.error_message(
        recipe, override="mine"
    )


@pytest.mark.parametrize("source", ["a" * 300, "locked"])
def test_a_folder_that_cannot_be_read_is_an_error(recipe, project, source, monkeypatch):
    original = Path.exists

    def exists(path: Path) -> bool:  # root can read any folder
        if path.name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(Path, "exists", exists)
    assert f"{source}: it cannot be read: [Errno" in project.error_message(recipe, override=source)


@pytest.mark.parametrize(
    "path", ["../W.csd", "/etc/passwd", "a/../../b", "", "a\\b", "c:/x", "a\nb", "dir/"]
)
def test_paths_outside_of_the_source_are_errors(recipe, project, path):
    message = project.error_message(replace(recipe, sequences={"words": FakeSequence(path)}))
    assert message.startswith("recipes/tiny.yaml: sequences.words: path ")
    assert "not a plain relative path" in message


def test_recipes_without_files_to_download_are_errors(recipe, project):
    assert "generated data" in project.error_message(replace(recipe, format="generated"))
    assert "sequences is empty" in project.error_message(replace(recipe, sequences={}))
    twice = replace(recipe, sequences={"a": FakeSequence("W.csd"), "b": FakeSequence("W.csd")})
    assert "name the same file" in project.error_message(twice)


@pytest.mark.parametrize(
    ("name", "body", "expected"),
    [
        ("x.csd", b"", "the file is empty"),
        ("x.csd", b"\xef\xbb\xbf\n<!DOCTYPE html>", "it is a web page"),
        ("x.csd", hdf5_body(1)[:-1000], "it is not a whole HDF5 file"),
        ("x.pkl", b"\x80\x04}", "it is not a whole pickle"),
        ("x.npz", b"PK nonsense", r"it is not a whole \.npz file"),
        (
            "x.npz",  # the locator of a 64-bit directory, on disk 1 of 9
            b"PK\x06\x07" + bytes([1, 0, 0, 0]) + bytes(8) + bytes([9, 0, 0, 0])
            + b"PK\x05\x06" + bytes(18),
            r"it is not a whole \.npz file",
        ),
    ],
)  # fmt: skip
def test_truncated_files_and_web_pages_are_errors(tmp_path, name, body, expected):
    path = tmp_path / name
    path.write_bytes(body)
    with pytest.raises(SourceError, match=expected):
        check_contents(path, name=name, expected=FakeSequence(name))


def test_a_failure_does_not_remove_an_earlier_output(served, server, project, words):
    project.get(served)
    before = {path.name: path.read_bytes() for path in project.output.iterdir()}
    for behaviour in (
        status(404),
        status(500),
        truncated_body(words, 1000),
        body_without_length(b"<html>"),
    ):
        server.files[WORDS] = behaviour
        with pytest.raises(DhmdError):
            project.get(served)
    assert {path.name: path.read_bytes() for path in project.output.iterdir()} == before


def disk_full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("failure", ["list", "rename", "Ctrl-C", "kill"])
def test_a_failure_after_the_downloads_repeats_none(
    served: FakeRecipe,
    server: Server,
    project: Project,
    words: bytes,
    failure: str,
    links: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = project.output
    if not links:
        monkeypatch.setattr("dhmd.data.download.web.os.link", disk_full)
    original_sync, original_replace = atomic._sync, os.replace
    with monkeypatch.context() as patch:
        if failure == "list":
            patch.setattr("dhmd.data.download.raw_folder.write_file_records", disk_full)
        elif failure == "rename":

            def replaced(path: Path, target: Path) -> None:
                disk_full() if target == output else original_replace(path, target)

            patch.setattr("dhmd.base.files.os.replace", replaced)
        else:

            def sync(path: Path) -> None:
                if path.name != "words.csd":
                    original_sync(path)
                elif failure == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                else:
                    raise KeyboardInterrupt

            patch.setattr("dhmd.base.files._sync", sync)
        if failure == "kill":
            child = os.fork()
            if child == 0:
                try:
                    project.get(served)
                finally:
                    os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        else:
            with pytest.raises((DhmdError, KeyboardInterrupt)):
                project.get(served)
            assert list(output.parent.glob("*")) == []
    assert sorted(path for path, _ in server.requests) == sorted([WORDS, LABELS])
    server.requests.clear()
    project.get(served)
    assert server.requests == []
    assert project.read("words.csd") == words
    # The partial download is removed.
    assert (output / "words.csd").stat().st_nlink == 1
    assert not list((project.root / PARTIAL_FOLDER).rglob("body"))


def test_a_pinned_file_of_an_earlier_download_is_reused(served, server, project, words):
    earlier_file = project.root / "kept"
    earlier_file.write_bytes(words)
    pinned = served.pinned("words", sha256=sha256(words))
    project.get(pinned, earlier={"words.csd": earlier_file, "labels.csd": earlier_file})
    # Without a sha256, the other file may differ from the server's.
    assert [path for path, _ in server.requests] == [LABELS]
    assert project.read("words.csd") == words
    assert not (project.output / "words.csd").samefile(earlier_file)
    earlier_file.write_bytes(hdf5_body(8))
    project.get(pinned, earlier={"words.csd": earlier_file})
    assert project.read("words.csd") == words


def test_a_file_that_another_process_downloads_is_an_error(served, server, project):
    with Transfer(server.url + WORDS, project.root, QUICK).locked():
        message = project.error_message(served)
    assert message == (
        f"another process is downloading {server.url}{WORDS}: wait until that process ends"
    )


def test_two_sources_may_have_the_same_address(served, server, project):
    server.files = {WORDS: whole_body(hdf5_body(1))}
    twice = replace(served, sources=(server.url, server.url.replace("//", "//me:pw@")))
    assert project.error_message(twice).count("not found (404)") == 2


@pytest.mark.parametrize(("text", "expected"), [(None, "is missing"), ("[1]", "is damaged")])
def test_a_missing_or_damaged_list_is_an_error(tmp_path, text, expected):
    if text is not None:
        (tmp_path / "sources.json").write_text(text)
    with pytest.raises(DhmdError, match=f"sources.json {expected}: run the download stage again"):
        read_file_records(tmp_path)
