"""What is left of members once they are trained, and how such parts become one.

Members that trained in a process of their own come back as a file of this; the rest of the job
does not know where they trained.

Legend: E members, N utterances.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import whole_file
from dhmd.training.history import MARKS
from dhmd.training.outputs import Arrays
from dhmd.training.tensor_file import write_tensors
from dhmd.training.trainer import History

_PARAMETER, _ARRAY = "parameter/", "array/"


@dataclass(frozen=True)
class Part:
    """Trained members.

    Attributes:
        names: one a member, as in the history.
        parameters: `[E, …]` by name.
        arrays: what they say of the corpus, `[E, N, …]` by name.
        history: rows of these members alone.
    """

    names: list[str]
    parameters: dict[str, Tensor]
    arrays: Arrays
    history: History

    def of(self, names: Sequence[str]) -> Part:
        """Some of the members, in the given order; the history keeps its own."""
        if list(names) == self.names:
            return self
        index = [self.names.index(name) for name in names]
        return Part(
            list(names),
            {name: value[index] for name, value in self.parameters.items()},
            {name: value[index] for name, value in self.arrays.items()},
            [row for row in self.history if row[0] in names],
        )

    def write(self, path: Path) -> None:
        """Write all of it to one file.

        Raises:
            DhmdError: the disk is full or the folder cannot be written.
        """
        tensors = {f"{_PARAMETER}{name}": value.cpu() for name, value in self.parameters.items()}
        tensors |= {f"{_ARRAY}{name}": torch.from_numpy(v) for name, v in self.arrays.items()}
        notes = {"names": json.dumps(self.names), "history": json.dumps(self.history)}
        with whole_file(path) as temporary:
            write_tensors(temporary, {n: t.contiguous() for n, t in tensors.items()}, notes)

    @staticmethod
    def read(path: Path) -> Part:
        """What `write` wrote.

        Raises:
            DhmdError: the file is not there or damaged.
        """
        parameters: dict[str, Tensor] = {}
        arrays: Arrays = {}
        try:
            with safe_open(path, framework="pt") as stored:
                notes = stored.metadata()
                for key in stored.keys():  # noqa: SIM118 - not a mapping
                    if key.startswith(_ARRAY):
                        arrays[key.removeprefix(_ARRAY)] = stored.get_tensor(key).numpy()
                    else:
                        parameters[key.removeprefix(_PARAMETER)] = stored.get_tensor(key)
            history = [
                (r, int(e), name, float(v)) for r, e, name, v in json.loads(notes["history"])
            ]
            return Part(json.loads(notes["names"]), parameters, arrays, history)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise DhmdError(
                f"{path}, which a worker of this training wrote, cannot be read "
                f"({first_line(error)}): run it again"
            ) from error


def joined(parts: Sequence[Part], names: Sequence[str]) -> Part:
    """Parts as one, its members and its history in the order of `names`, as if trained together.

    An epoch's rows stand together, and the marks of selected epochs at the end.
    """
    place = {name: index for index, name in enumerate(names)}
    rows = [row for part in parts for row in part.history]

    def order(row: tuple[str, int, str, float]) -> tuple[bool, int, int]:
        is_mark = row[2] in MARKS
        return is_mark, 0 if is_mark else row[1], place[row[0]]

    whole = Part(
        [name for part in parts for name in part.names],
        {
            name: torch.cat([part.parameters[name] for part in parts])
            for name in parts[0].parameters
        },
        {name: np.concatenate([part.arrays[name] for part in parts]) for name in parts[0].arrays},
        sorted(rows, key=order),
    )
    return whole.of([name for name in names if name in whole.names])
