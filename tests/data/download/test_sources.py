"""Parse valid and invalid sources; no message contains a password."""

from __future__ import annotations

from pathlib import Path

import pytest

from dhmd.base.errors import DhmdError
from dhmd.data.download.sources import Folder, WebSource, parse_source

ROOT = Path("/repository")


@pytest.mark.parametrize(
    "address",
    [
        "https://user:hun/ter@host/x",
        "https://user:12/hunter@host/x",  # could be parsed as the server `user` at port 12
        "https://hunter/hunter@host/x",
        "https://user:hunter?a@host/x",
        "https://user:1?hunter@host/x",
        "https://user:1#hunter@host/x",
        "https:user:hunter@host/x",
        "https:///user:hunter@host/x",
        "ftp://user:hun/hunter@host/x?token=hunter",
        "https://host/x?token=hunter@hunter",
        "https://user:hunter@a..b/x",
        "https://user:hunter@[host/x",
        "https://user:hunter@host:port/x",
        "https://user:hunter@host\ud800/x",
        " https://user:hunter@host/x?a=b",
    ],
)
def test_messages_on_invalid_addresses_do_not_have_the_password(address):
    with pytest.raises(DhmdError) as caught:
        parse_source(address, ROOT)
    message = str(caught.value)
    assert message.startswith(f"source {address.strip().partition(':')[0]}:")
    assert "hun" not in message
    assert "\n" not in message


@pytest.mark.parametrize("source", ["ftp://host/x", "file:///etc", "s3://bucket"])
def test_other_schemes_are_errors(source):
    with pytest.raises(DhmdError, match="is neither an http") as caught:
        parse_source(source, ROOT)
    assert source in str(caught.value)


def test_an_at_sign_in_the_path_must_be_quoted():
    with pytest.raises(DhmdError) as caught:
        parse_source("https://user:12/34@host/x", ROOT)
    assert str(caught.value) == (
        "source https://host/x has an @ in its path: write / ? # and @ of a user or password as "
        "%2F %3F %23 and %40, and @ of a path too"
    )
    written = parse_source("https://user:12%2F34@host/p%401.0", ROOT)
    assert isinstance(written, WebSource)
    assert (written.base, written.credentials) == ("https://host/p%401.0", ("user", "12/34"))
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
def test_the_base_of_an_address_is_normalised(address, base):
    source = parse_source(address, ROOT)
    assert isinstance(source, WebSource)
    assert source.base == base


def test_a_source_may_be_a_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    for text, path in (("a@b/c", ROOT / "a@b/c"), ("~/x", "/home/me/x"), ("/y", "/y")):
        source = parse_source(text, ROOT)
        assert isinstance(source, Folder)
        assert (source.path, str(source)) == (Path(path), text)
    with pytest.raises(DhmdError, match=r"^source ~no\.such\.user/x names an unknown home folder"):
        parse_source("~no.such.user/x", ROOT)
