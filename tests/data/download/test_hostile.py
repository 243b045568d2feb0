"""Answers that the libraries below stumble over: a reason in words, and the next source."""

from __future__ import annotations

from pathlib import Path

import pytest

from dhmd.base.errors import DhmdError
from dhmd.data.download import download
from dhmd.data.download.contents import Expected, check_contents
from dhmd.data.download.failures import SourceFailure
from dhmd.data.download.web import Patience
from tests.data.download.conftest import FakeRecipe, FakeSequence
from tests.data.download.server import Behaviour, Handler, Server, whole

QUICK = Patience(attempts=2, timeout_s=0.5, pause_s=0.001, longest_pause_s=0.01)
FOUND = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %b\r\n\r\n"
LATER = b"HTTP/1.1 503 no\r\nContent-Length: 0\r\nRetry-After: %b\r\n\r\n"
FIVE = b"HTTP/1.1 200 OK\r\n%b\r\n\r\nhello"
PARSED = "its address, one that it redirects to, or the proxy's cannot be understood"


def raw(answer: bytes) -> Behaviour:
    def write(handler: Handler) -> None:
        handler.wfile.write(answer)
        handler.close_connection = True

    return write


def got(server: Server, root: Path, *sources: str) -> bytes:
    recipe = FakeRecipe(
        format="x", sources=sources or (server.url,), sequences={"a": FakeSequence("a.bin")}
    )
    output = root / "raw" / "tiny"
    download(recipe, override=None, root=root, output=output, patience=QUICK)
    return (output / "a.bin").read_bytes()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (FOUND % b"http://[bad/x", PARSED),
        (FOUND % b"http://u:pass/word@h/x", PARSED),
        (FOUND % b"http://a..b/x", PARSED),
        (FOUND % b"http://%b.com/x" % (b"a" * 70), PARSED),
        (FOUND % b"http://\xff\xfe.example/x", PARSED),
        (FOUND % b"ftp://u:pass/word@h/x?token=word", "it redirects to ftp://h/x, which is unsafe"),
        (LATER % b"\xb2", "service unavailable (503) (2 attempts)"),
        (LATER % b"Mon, 01 Jan 2020 00:00:00 +99999999999999999999", "(503) (2 attempts)"),
        (LATER % b"Mon, 01 Jan 2020 99999999999999999999:00:00 GMT", "(503) (2 attempts)"),
        (b"\x00\x1b[31mred\r\n\r\n", "??[31mred (2 attempts)"),
        (b"B" * 60_000 + b"\r\n\r\n", "B" * 200 + "… (2 attempts)"),
        (FIVE % b"Content-Encoding: \x1b[2J", "the body is encoded as ?[2J, which"),
        (FIVE % b"Transfer-Encoding: chunked\r\n\r\nzz", "the connection broke: IncompleteRead"),
        (FIVE % b'ETag: "a\x0b"\r\nContent-Length: 50', "the body ended after 5 of 50 bytes (2"),
    ],
)
def test_the_next_source_is_tried(
    server: Server, tmp_path: Path, answer: bytes, reason: str
) -> None:
    server.files["/a.bin"] = raw(answer)
    server.files["/mirror/a.bin"] = whole(b"abc")
    with pytest.raises(DhmdError) as caught:
        got(server, tmp_path)
    assert f"{server.url}: " in str(caught.value)
    assert reason in str(caught.value)
    assert "word" not in str(caught.value)
    assert str(caught.value).isprintable()
    assert got(server, tmp_path, server.url, f"{server.url}/mirror") == b"abc"


@pytest.mark.parametrize("length", [b"\xb2", b"9" * 5000, b"-5", b"1e3"])
def test_a_length_that_is_none_counts_as_not_given(
    server: Server, tmp_path: Path, length: bytes
) -> None:
    server.files["/a.bin"] = raw(FIVE % (b"Content-Length: " + length))
    assert got(server, tmp_path) == b"hello"


@pytest.mark.parametrize("proxy", ["http://me:hun/ter@[x", "http:hunter", "http://me:hunter@h:x"])
def test_a_proxys_password_is_not_told(
    server: Server, tmp_path: Path, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(DhmdError) as caught:
        got(server, tmp_path, "http://corpus.invalid")
    assert "http://corpus.invalid: " in str(caught.value)
    assert "hun" not in str(caught.value)


@pytest.mark.parametrize("source", ["a" * 300, "locked"])
def test_a_folder_that_cannot_be_looked_into(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = FakeRecipe(format="x", sequences={"a": FakeSequence("a.bin")})
    healthy = Path.exists

    def exists(path: Path) -> bool:  # root may look everywhere
        if path.name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return healthy(path)

    monkeypatch.setattr(Path, "exists", exists)
    with pytest.raises(DhmdError, match=rf"tried {source}: it cannot be read: \[Errno"):
        download(recipe, override=source, root=tmp_path, output=tmp_path / "o", patience=QUICK)


def test_a_damaged_directory_of_a_large_zip(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    # The locator of a 64-bit directory, on disk 1 of 9, and the end of the 32-bit one.
    path.write_bytes(
        b"PK\x06\x07" + (1).to_bytes(4, "little") + bytes(8) + (9).to_bytes(4, "little")
        + b"PK\x05\x06" + bytes(18)
    )  # fmt: skip
    with pytest.raises(SourceFailure, match=r"it is not a whole \.npz file"):
        check_contents(path, name="x.npz", expected=Expected())
