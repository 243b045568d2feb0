"""Whatever ends a download after the last byte has come: nothing is fetched a second time."""

from __future__ import annotations

import errno
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from dhmd.base import files
from dhmd.base.errors import DhmdError
from dhmd.data.download import download
from dhmd.data.download.partial import PARTIAL_FOLDER, Partial
from dhmd.data.download.web import Patience
from tests.data.download.conftest import FakeRecipe, hdf5_body
from tests.data.download.server import Server, unmeasured, whole

QUICK = Patience(attempts=2, timeout_s=0.5, pause_s=0.001, longest_pause_s=0.01)
PATHS = ("/language/W.csd", "/labels/L.csd")


@pytest.fixture
def served(recipe: FakeRecipe, server: Server, words: bytes, labels: bytes) -> FakeRecipe:
    server.files = {path: whole(body) for path, body in zip(PATHS, (words, labels), strict=True)}
    return replace(recipe, sources=(server.url,))


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def no_links(*_: object) -> None:
    raise OSError(errno.EXDEV, "Invalid cross-device link")


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("failure", ["manifest", "rename", "Ctrl-C", "stop", "kill"])
def test_a_failure_after_the_transfers_costs_no_transfer(
    served: FakeRecipe,
    server: Server,
    output: Path,
    tmp_path: Path,
    words: bytes,
    failure: str,
    links: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def get() -> None:
        download(served, override=None, root=tmp_path, output=output, patience=QUICK)

    if not links:
        monkeypatch.setattr("dhmd.data.download.partial.os.link", no_links)
    healthy_sync, healthy_replace = files._sync, os.replace
    with monkeypatch.context() as patch:
        if failure == "manifest":
            patch.setattr("dhmd.data.download.gathering.write_manifest", full)
        elif failure == "rename":

            def replaced(path: Path, target: Path) -> None:
                full() if target == output else healthy_replace(path, target)

            patch.setattr("dhmd.base.files.os.replace", replaced)
        else:

            def sync(path: Path) -> None:
                if path.name != "words.csd":
                    healthy_sync(path)
                elif failure == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                else:
                    raise KeyboardInterrupt if failure == "Ctrl-C" else SystemExit(143)

            patch.setattr("dhmd.base.files._sync", sync)
        if failure == "kill":
            child = os.fork()
            if child == 0:
                try:
                    get()
                finally:
                    os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        else:
            with pytest.raises((DhmdError, KeyboardInterrupt, SystemExit)):
                get()
            assert list(output.parent.glob("*")) == []
    assert sorted(path for path, _ in server.asked) == sorted(PATHS)
    server.asked.clear()
    get()
    assert server.asked == []
    assert (output / "words.csd").read_bytes() == words
    # Nothing else holds the file now, and nothing is kept twice.
    assert (output / "words.csd").stat().st_nlink == 1
    assert [p for p in (tmp_path / PARTIAL_FOLDER).iterdir() if p.suffix != ".lock"] == []


def test_a_body_that_is_shared_is_never_written_into(
    served: FakeRecipe,
    server: Server,
    output: Path,
    tmp_path: Path,
    words: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A kill may leave the raw folder in its place and the body, its twin, in the partial one."""
    url = f"{server.url}{PATHS[0]}"
    with monkeypatch.context() as patch:
        patch.setattr(Partial, "discard", lambda partial: None)
        download(served, override=None, root=tmp_path, output=output, patience=QUICK)
    twin = Partial(tmp_path, url)
    assert twin.body.samefile(output / "words.csd")
    newer = hdf5_body(7)
    server.files[PATHS[0]] = unmeasured(newer)
    (twin.folder / "state.json").unlink()  # the worst: nothing says that it is complete
    other = output.with_name("other")
    download(served, override=None, root=tmp_path, output=other, patience=QUICK)
    assert (other / "words.csd").read_bytes() == newer
    assert (output / "words.csd").read_bytes() == words


def test_an_address_that_is_named_twice_is_no_other_process(
    served: FakeRecipe, server: Server, output: Path, tmp_path: Path
) -> None:
    del server.files[PATHS[1]]
    twice = replace(served, sources=(server.url, server.url.replace("//", "//me:pw@")))
    with pytest.raises(DhmdError, match=r"not found \(404\); http\S+ not found \(404\); place"):
        download(twice, override=None, root=tmp_path, output=output, patience=QUICK)
