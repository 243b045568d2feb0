from __future__ import annotations

import pytest

from dhmd.base.addresses import redact_address, redact_credentials

USERS = ("u:pw", "u:p@w", "u:p/w", "u:12/w", "pw", "p/w", "u:/pw", "u:p:/@/w", "u:p%2Fw")


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("scheme", ["http", "https", "ftp", "postgresql", "mysql+pymysql", "s3"])
def test_user_and_password_are_removed(scheme: str, user: str) -> None:
    address = f"{scheme}://{user}@host:1/x"
    assert redact_address(address) == f"{scheme}://host:1/x"
    assert redact_credentials(f"no ({address}) there") == f"no ({scheme}://host:1/x) there"


@pytest.mark.parametrize(
    ("address", "redacted"),
    [
        ("http://u:p?w@host/x", "http://…"),  # or a query: http://u/?w@host
        ("http://host/x?token=a@b", "http://…"),
        ("http://host/x#a@b", "http://…"),
        ("http://host/x?token=t", "http://host/x"),
        ("http://u:p w@host/x#t", "http://host/x"),
        (" http://u:pw@host", "http://host"),
        ("http:u:pw@host", "http:host"),
        ("http:///pw@host", "http:///host"),
        ("//u:pw@host/x", "//host/x"),
        ("mssql+pyodbc:///?odbc_connect=PWD%3Dp", "mssql+pyodbc:///"),
        ("sqlite:////home/me@work/x.db?timeout=3", "sqlite:////home/me@work/x.db"),
        ("file:///home/me@work/mlruns", "file:///home/me@work/mlruns"),
        ("sqlite://", "sqlite://"),
        ("me@work/runs#1", "me@work/runs#1"),
    ],
)
def test_an_address_is_redacted(address: str, redacted: str) -> None:
    assert redact_address(address) == redacted


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a 'http://u:p?w@host/x': no", "a 'http://… no"),
        ("from http://u:p/w@a to http://u:p@w@b.", "from http://a to http://b."),
        ("at sqlite:////home/me@work/x.db: no", "at sqlite:////home/me@work/x.db: no"),
        ("sqlite:///x,http://u:p/w@host", "sqlite:///x,http://host"),
        ("write to me@work, or http://host/x", "write to me@work, or http://host/x"),
    ],
)
def test_credentials_in_a_text_are_redacted(text: str, expected: str) -> None:
    assert redact_credentials(text) == expected
