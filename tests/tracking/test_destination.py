from __future__ import annotations

from pathlib import Path

import pytest

from dhmd.tracking.config import TrackingConfig
from dhmd.tracking.destination import redact, resolve_destination, shown_uri, workspace_root


def resolve(root: Path, uri: str | None = None, **environ: str) -> str:
    return resolve_destination(TrackingConfig(uri=uri), root, environ).uri


def test_the_default_is_a_database_at_the_root(tmp_path: Path) -> None:
    found = resolve_destination(TrackingConfig(), tmp_path, {})
    assert found.uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert found.database == tmp_path / "mlflow.db"
    assert found.artefacts == (tmp_path / "mlruns").as_uri()


def test_a_temporary_copy_uses_the_users_workspace(tmp_path: Path) -> None:
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "x"
    assert resolve(copy, DVC_ROOT=str(tmp_path)) == f"sqlite:///{tmp_path}/mlflow.db"
    assert workspace_root(copy, {"DVC_ROOT": str(tmp_path / "gone")}) == copy


def test_the_environment_counts_where_params_say_nothing(tmp_path: Path) -> None:
    uri = "http://127.0.0.1:5000"
    assert resolve(tmp_path, MLFLOW_TRACKING_URI=uri) == uri
    assert resolve(tmp_path, MLFLOW_TRACKING_URI="") == f"sqlite:///{tmp_path}/mlflow.db"


def test_params_win_over_the_environment(tmp_path: Path) -> None:
    assert resolve(tmp_path, "http://a", MLFLOW_TRACKING_URI="http://b") == "http://a"


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("sqlite:///runs/x.db", "runs/x.db"),
        ("sqlite:///./x.db", "x.db"),
        ("sqlite:///a/../x.db?timeout=3", "x.db"),
    ],
)
def test_a_relative_database_counts_from_the_root(tmp_path: Path, uri: str, file: str) -> None:
    found = resolve_destination(TrackingConfig(uri=uri), tmp_path, {})
    assert found.database == tmp_path / file
    assert found.uri == f"sqlite:///{tmp_path / file}"


def test_an_absolute_database_stays_where_it_is(tmp_path: Path) -> None:
    found = resolve_destination(TrackingConfig(uri="sqlite:////var/x.db"), tmp_path, {})
    assert found.database == Path("/var/x.db")


def test_a_server_has_no_database_here(tmp_path: Path) -> None:
    found = resolve_destination(TrackingConfig(uri="https://u:pw@h/p?token=t"), tmp_path, {})
    assert found.database is None
    assert found.artefacts is None
    assert found.uri == "https://u:pw@h/p?token=t"
    assert found.shown == "https://h/p"


@pytest.mark.parametrize(
    "uri",
    [
        "https://user:p@ss@host/x",
        "https://user:pa/ss@host/x",
        "https://user:12/ss@host/x",
        "https://to/ken@host/x?a=b",
        "postgresql://user:secret@host/x?password=p",
        "postgresql://user:sec/ret@host/x",
    ],
)
def test_a_shown_uri_has_no_credentials(uri: str) -> None:
    shown = shown_uri(uri)
    assert shown.endswith("://host/x")


def test_redact_removes_every_credential() -> None:
    environ = {"MLFLOW_TRACKING_TOKEN": "tok123", "MLFLOW_TRACKING_PASSWORD": "hunter2"}
    text = "GET https://me:pw1@h/x?api_key=abc&page=2 failed: Bearer tok123, hunter2"
    told = redact(text, environ)
    assert told == "GET https://h/x?api_key=…&page=2 failed: Bearer …, …"


@pytest.mark.parametrize(
    ("uri", "text", "told"),
    [
        ("", "no http://u:p@ss@host/x", "no http://host/x"),
        ("", "no http://u:p/ss@host/x", "no http://host/x"),
        ("", "sqlite:////home/me@work/x.db is", "sqlite:////home/me@work/x.db is"),
        (
            "postgresql://u:p w@h/d",
            "bad URL 'postgresql://u:p w@h/d'",
            "bad URL 'postgresql://h/d'",
        ),
        # As requests tells what urllib3 made of the address.
        ("http://u:12/s@h", "host='u', port=12, url: /s@h/api", "host='u', port=12, url: /…@h/api"),
        ("sqlite:////a@b/x.db?y=1", "cannot open /a@b/x.db", "cannot open /a@b/x.db"),
    ],
)
def test_redact_knows_the_stores_address(uri: str, text: str, told: str) -> None:
    assert redact(text, {"MLFLOW_TRACKING_URI": uri}) == told
