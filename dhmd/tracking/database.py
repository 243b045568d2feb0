"""What a SQLite tracking database needs around MLflow: a quick look, a lock, a whole beginning."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from dhmd.base.errors import first_line
from dhmd.tracking.replay import StoreError

LOCK_SECONDS = 3.0  # how long another's transaction may take
SET_UP_SECONDS = 120.0  # how long another process may take to set a new database up


def try_database(database: Path) -> None:
    """Begin a write and take it back, so that a lock or a damage shows in seconds.

    MLflow itself waits for 20 s a query, and for minutes where it cannot open the file.
    """
    uri = f"file:{quote(str(database))}?mode=rw"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=LOCK_SECONDS)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
    except sqlite3.Error as error:
        raise StoreError(f"{database}: {first_line(error)}") from error


def exists(database: Path) -> bool:
    """Whether there is a database, or anything else that is not for us to replace."""
    return database.exists() and database.stat().st_size > 0


def make_folder(folder: Path) -> None:
    """Create it where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot create {folder}: {error.strerror}") from error


@contextmanager
def set_up_lock(database: Path) -> Iterator[None]:
    """One process at a time creates the tables: two at once break each other's migration."""
    path = database.with_name(f"{database.name}.lock")
    try:
        stream = open(path, "w", encoding="utf-8")  # noqa: SIM115 - closed below, with the lock
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error
    with stream:
        deadline = time.monotonic() + SET_UP_SECONDS
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreError(f"another process is setting {database} up") from None
                time.sleep(0.1)
        yield


def create_whole(database: Path, migrate: Callable[[str], object]) -> None:
    """Let `migrate(uri)` set a new file up beside `database`, then put it in its place.

    Killed halfway, MLflow's migration would leave a database that it never opens again. `migrate`
    need not sync. To be called under `set_up_lock`.
    """
    new = database.with_name(f"{database.name}.new")
    for left in (new, new.with_name(f"{new.name}-journal")):
        left.unlink(missing_ok=True)
    migrate(uri_of(new))
    descriptor = os.open(new, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(new, database)


def uri_of(database: Path) -> str:
    """The URI of the file, by a relative path where its own cannot stand in one.

    `%`, `?` and `#` mean something in a URI, and SQLAlchemy's versions differ in how to escape
    them. The folder becomes the working folder then, which this process needs for nothing else.
    """
    if not set("%?#") & set(str(database)):
        return f"sqlite:///{database}"
    os.chdir(database.parent)
    return f"sqlite:///{database.name}"
