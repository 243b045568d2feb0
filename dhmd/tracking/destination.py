"""Which tracking store, and how it may be named in public."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dhmd.base.addresses import HIDDEN, shown_address, without_credentials
from dhmd.tracking.config import TrackingConfig

DATABASE_NAME = "mlflow.db"
ARTEFACTS_NAME = "mlruns"


@dataclass(frozen=True)
class Destination:
    """A tracking store. `uri` may hold a password: print `shown` instead."""

    uri: str
    shown: str
    database: Path | None  # the SQLite file, for a store of that kind
    artefacts: str | None  # artefact root of a new experiment; None: the server decides


def workspace_root(root: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of the user's own workspace.

    DVC runs queued and temporary experiments in a copy below `.dvc/tmp/exps` that it deletes
    later, and names the real workspace in DVC_ROOT: what must outlive the copy belongs there.
    """
    named = environ.get("DVC_ROOT")
    return Path(named).resolve() if named and Path(named).is_dir() else root.resolve()


def resolve_destination(
    config: TrackingConfig, root: Path, environ: Mapping[str, str] = os.environ
) -> Destination:
    """The store in force: `tracking.uri`, else MLFLOW_TRACKING_URI, else SQLite at the root.

    An explicit value in params.yaml wins over the environment, as `-S tracking.uri=…` is the
    more deliberate of the two. A relative SQLite path counts from the workspace's root, whatever
    folder the process runs in.
    """
    home = workspace_root(root, environ)
    uri = config.uri or environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DATABASE_NAME}"
    database = _sqlite_file(uri, home)
    if database is None:
        return Destination(uri=uri, shown=shown_uri(uri), database=None, artefacts=None)
    absolute = f"sqlite:///{database}"
    artefacts = (database.parent / ARTEFACTS_NAME).as_uri()
    return Destination(uri=absolute, shown=absolute, database=database, artefacts=artefacts)


def _sqlite_file(uri: str, home: Path) -> Path | None:
    prefix = "sqlite:///"
    path = uri.removeprefix(prefix).partition("?")[0] if uri.startswith(prefix) else ""
    if not path or path == ":memory:":
        return None
    return Path(os.path.normpath(home / path))


def shown_uri(uri: str) -> str:
    """The URI without user, password and query, which may carry a token."""
    return shown_address(uri)


def redact(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """The text without credentials: those inside URLs, and those of MLflow's own variables."""
    uri = environ.get("MLFLOW_TRACKING_URI", "")
    shown = shown_uri(uri)
    if "@" in uri and "@" not in shown:
        # As a whole first: its password may hold blanks, at which an address in a text ends.
        text = text.replace(uri, shown)
        if path := _path_in_password(uri):
            text = text.replace(f"/{path}@", f"/{HIDDEN}@")
    text = without_credentials(text)
    text = re.sub(
        r"(?i)([?&][\w.-]*(?:token|key|password|secret)[\w.-]*=)[^&\s'\")]+", r"\1…", text
    )
    for name in ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        secret = environ.get(name)
        if secret:
            text = text.replace(secret, HIDDEN)
    return text


def _path_in_password(uri: str) -> str:
    """What HTTP libraries take for the path, and name alone, where a password holds a `/`."""
    return uri.partition("//")[2].rpartition("@")[0].partition("/")[2]
