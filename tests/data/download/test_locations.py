"""What is a source, and that no message shows the password of one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dhmd.base.errors import DhmdError
from dhmd.data.download.locations import Folder, Web, parse_source

ROOT = Path("/repository")


@pytest.mark.parametrize(
    "address",
    [
        "https://user:hun/ter@host/x",
        "https://user:12/hunter@host/x",  # the server `user` at port 12, to who reads it as it is
        "https://hunter/hunter@host/x",
        "https://user:hunter?a@host/x",
        "https://user:1?hunter@host/x",
        "https://user:1#hunter@host/x",
        "https:user:hunter@host/x",
        "https:///user:hunter@host/x",
        "ftp://user:hun/hunter@host/x?token=hunter",
        "ftp://host/x?token=hunter",
        "https://host/x?token=hunter@hunter",
        "https://user:hunter@a..b/x",
        "https://user:hunter@[host/x",
        "https://user:hunter@host:port/x",
        "https://user:hunter@host\ud800/x",
        " https://user:hunter@host/x?a=b",
    ],
)
def test_a_refused_address_shows_no_password(address: str) -> None:
    with pytest.raises(DhmdError) as caught:
        parse_source(address, ROOT)
    message = str(caught.value)
    assert message.startswith(f"source {address.strip().partition(':')[0]}:")
    assert "hun" not in message
    assert "\n" not in message


def test_an_at_behind_the_server_is_refused_with_what_to_write() -> None:
    with pytest.raises(DhmdError) as caught:
        parse_source("https://user:12/34@host/x", ROOT)
    assert str(caught.value) == (
        "source https://host/x has an @ behind its server: write / ? # and @ of a user or "
        "password as %2F %3F %23 and %40, and @ of a path too"
    )
    written = parse_source("https://user:12%2F34@host/p%401.0", ROOT)
    assert isinstance(written, Web)
    assert written.base == "https://host/p%401.0"
    assert written.authorization == "Basic dXNlcjoxMi8zNA=="  # user:12/34
    assert written.url("a@b") == "https://host/p%401.0/a%40b"


@pytest.mark.parametrize(
    ("address", "base"),
    [
        ("HTTPS://u:p@ss@Host:8443/x/", "https://host:8443/x"),
        (" http://host ", "http://host"),
        ("http://bücher.example/é und b", "http://xn--bcher-kva.example/%C3%A9%20und%20b"),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
        ("http://host/a%20b~(c)", "http://host/a%20b~(c)"),
    ],
)
def test_the_base_of_an_address(address: str, base: str) -> None:
    source = parse_source(address, ROOT)
    assert isinstance(source, Web)
    assert source.base == base


def test_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for text, path in (("a@b/c", ROOT / "a@b/c"), ("~/x", "/home/me/x"), ("/y", "/y")):
        source = parse_source(text, ROOT)
        assert isinstance(source, Folder)
        assert (source.path, str(source)) == (Path(path), text)


def test_a_home_folder_that_nobody_has_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DhmdError, match=r"^source ~no\.such\.user/x names a home folder"):
        parse_source("~no.such.user/x", ROOT)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    with pytest.raises(DhmdError, match=r"^source ~/x names a home folder"):
        parse_source(f"~{os.sep}x", ROOT)
