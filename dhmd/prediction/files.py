"""Which file of a folder is which sequence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dhmd.base.errors import DhmdError
from dhmd.data.alignment import Origin


@dataclass(frozen=True, kw_only=True)
class InputFiles:
    """What a folder has for a model.

    Attributes:
        paths: sequence -> file.
        modalities: those of the model's that have a file, in its order.
        missing: modality -> the names that its file might have had.
    """

    paths: dict[str, Path]
    modalities: tuple[str, ...]
    missing: dict[str, str]


def find_files(folder: Path, origin: Origin, modalities: Sequence[str]) -> InputFiles:
    """Find the reference and each modality's file by sequence name or by its name at the source.

    Raises:
        DhmdError: no such folder, nothing for the model in it, no words, or one sequence twice.
    """
    if not folder.is_dir():
        raise DhmdError(f"{folder} is no folder: --input must be one that holds .csd files")
    names = {sequence: _names(sequence, origin) for sequence in _wanted(origin, modalities)}
    paths = {}
    for sequence, candidates in names.items():
        here = [folder / name for name in candidates if (folder / name).is_file()]
        if len(here) > 1:
            raise DhmdError(
                f"{folder} holds both {here[0].name} and {here[1].name}, which are one sequence, "
                f"{sequence}: leave one of them"
            )
        if here:
            paths[sequence] = here[0]
    said = {sequence: " or ".join(candidates) for sequence, candidates in names.items()}
    if not paths:
        raise DhmdError(
            f"{folder} holds no file for the model: it reads {', '.join(said.values())}"
        )
    if origin.reference not in paths:
        raise DhmdError(
            f"{folder} has no {said[origin.reference]}, whose rows are the words that everything "
            "is aligned to: add it"
        )
    sequence_of = {modality: origin.modalities[modality] for modality in modalities}
    there = tuple(name for name in modalities if sequence_of[name] in paths)
    if not there:
        wanted = ", ".join(said[sequence] for sequence in sequence_of.values())
        raise DhmdError(f"{folder} has no modality of the model: add at least one of {wanted}")
    missing = {name: said[sequence_of[name]] for name in modalities if name not in there}
    return InputFiles(paths=paths, modalities=there, missing=missing)


def _wanted(origin: Origin, modalities: Sequence[str]) -> list[str]:
    absent = [name for name in modalities if name not in origin.modalities]
    if absent:
        raise DhmdError(f"model.json's origin names no sequence of {absent[0]}: train again")
    return list(dict.fromkeys([origin.reference, *(origin.modalities[m] for m in modalities)]))


def _names(sequence: str, origin: Origin) -> list[str]:
    """File names that a sequence may go by; one that several share tells them not apart."""
    own = f"{sequence}.csd"
    shared = Counter(origin.files.values())
    sequences = {*origin.modalities.values(), origin.reference}
    other = origin.files.get(sequence)
    if other is None or shared[other] > 1 or other.removesuffix(".csd") in sequences:
        return [own]
    return [own, other]
