"""Word vectors from a GloVe text file, zipped or not: only the words that a corpus uses."""

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


def read_vectors(path: Path, words: Collection[str]) -> tuple[dict[str, Array], int]:
    """The vectors of `words`, and their width; words that the file lacks are left out.

    A line is a word and its numbers, separated by spaces. Case decides; a word that is absent as
    written is looked up in lower case. Entries of several words (GloVe 840B has some) are passed
    over.

    Raises:
        DhmdError: the file is not such a file.
    """
    wanted = {word for word in words} | {word.lower() for word in words}
    found: dict[str, Array] = {}
    width = 0
    with _lines(path) as lines:
        for number, line in enumerate(progress(lines, "word vectors", unit="word"), 1):
            if not width:
                width = _width(line, path)
            word, _, rest = line.partition(" ")
            if word not in wanted or word in found:
                continue
            values = rest.split()
            if len(values) > width:
                continue
            try:
                found[word] = np.array(values, dtype=np.float32)
            except ValueError as error:
                raise DhmdError(f"{path}, line {number}: not a word and {width} numbers") from error
            if len(values) != width:
                raise DhmdError(f"{path}, line {number}: not a word and {width} numbers")
    if not width:
        raise DhmdError(f"{path} holds no word vectors")
    vectors = {}
    for word in words:
        vector = found.get(word, found.get(word.lower()))
        if vector is not None:
            vectors[word] = vector
    return vectors, width


def _width(line: str, path: Path) -> int:
    width = len(line.split()) - 1
    if width < 2:
        raise DhmdError(f"{path}, line 1: not a word and its numbers")
    return width


@contextmanager
def _lines(path: Path) -> Iterator[IO[str]]:
    try:
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                members = [name for name in archive.namelist() if name.endswith(".txt")]
                if len(members) != 1:
                    raise DhmdError(f"{path} holds {len(members)} .txt files, expected one")
                with archive.open(members[0]) as member:
                    yield io.TextIOWrapper(member, encoding="utf-8", errors="replace")
        else:
            with open(path, encoding="utf-8", errors="replace") as stream:
                yield stream
    except NotImplementedError as error:
        raise DhmdError(
            f"cannot read {path}, it is packed in a way that is not known here "
            f"({first_line(error)}): give the unpacked text file instead"
        ) from error
    except RuntimeError as error:  # zipfile's word for a password
        raise DhmdError(
            f"cannot read {path} ({first_line(error)}): give the unpacked text file instead"
        ) from error
    except (OSError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise DhmdError(
            f"cannot read {path}, it is damaged ({first_line(error)}): fetch it again"
        ) from error
