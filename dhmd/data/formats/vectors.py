"""Read the word vectors of a corpus from a GloVe text file, which may be zipped."""

from __future__ import annotations

import io
import lzma
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.progress import progress

Array = np.ndarray[Any, Any]

_DAMAGE = (OSError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)


def read_vectors(path: Path, words: Collection[str]) -> tuple[dict[str, Array], int]:
    """Return the vectors of those of `words` that the file has, and the width of a vector.

    A line is a word and its numbers, separated by spaces. If the file lacks a word, its lower-case
    form is used. Entries of several words, as in GloVe 840B, are skipped.

    Raises:
        DhmdError: the file is damaged or has another form.
    """
    candidates = {*words, *(word.lower() for word in words)}
    table: dict[str, Array] = {}
    width = 0
    with _lines(path) as lines:
        for n, line in enumerate(progress(lines, "word vectors", unit="word"), 1):
            width = width or len(line.split()) - 1
            if width < 2:
                raise DhmdError(f"{path}, line {n}: not a word and its numbers")
            word, _, rest = line.partition(" ")
            if word not in candidates or word in table:
                continue
            values = rest.split()
            if len(values) > width:
                continue
            try:
                table[word] = np.array(values, dtype=np.float32).reshape(width)
            except ValueError as error:
                raise DhmdError(f"{path}, line {n}: not a word and {width} numbers") from error
    if not width:
        raise DhmdError(f"{path} has no word vectors")
    vectors = {word: table.get(word, table.get(word.lower())) for word in words}
    return {word: vector for word, vector in vectors.items() if vector is not None}, width


@contextmanager
def _lines(path: Path) -> Iterator[IO[str]]:
    try:
        if path.suffix.lower() != ".zip":
            with open(path, encoding="utf-8", errors="replace") as stream:
                yield stream
            return
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith(".txt")]
            if len(members) != 1:
                raise DhmdError(f"{path} has {len(members)} .txt files, but must have one")
            with archive.open(members[0]) as member:
                yield io.TextIOWrapper(member, encoding="utf-8", errors="replace")
    except (NotImplementedError, RuntimeError) as error:  # RuntimeError: the archive has a password
        raise DhmdError(
            f"cannot unpack {path} ({first_line(error)}): use the unpacked text file instead"
        ) from error
    except _DAMAGE as error:
        raise DhmdError(
            f"cannot read {path}, it is damaged ({first_line(error)}): download the file again"
        ) from error
