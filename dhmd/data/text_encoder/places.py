"""Which folder an encoder lies in: the bundled one, a folder, or the local copy of a named one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import file_sha256, json_sha256
from dhmd.data.text_encoder.extra import BUNDLED, bundled_folder, optional

# What a model is made of; a repository may hold the same weights in other forms, and examples.
FILES = (
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "*.model",
)
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


@dataclass(frozen=True)
class Place:
    """An encoder that is here.

    Attributes:
        written: as params.yaml has it, None for the bundled one.
        name: what it is called in the names of its features.
        folder: where its files lie.
    """

    written: str | None
    name: str
    folder: Path

    @property
    def files(self) -> list[Path]:
        """Its files, sorted by name."""
        return sorted({path for pattern in FILES for path in self.folder.glob(pattern)})

    @property
    def complete(self) -> bool:
        """Whether there are a configuration and weights."""
        return (self.folder / "config.json").is_file() and any(self.folder.glob("*.safetensors"))

    def digest(self) -> str:
        """The sha256 over names and contents of its files, wherever they lie."""
        return json_sha256({path.name: file_sha256(path) for path in self.files})


def find_encoder(written: str | None, root: Path) -> Place:
    """The encoder that `features.encoder` means; a relative folder counts from `root`.

    A model named as on the Hugging Face hub is looked for in the local copies first, and fetched
    only if it is not among them.

    Raises:
        DhmdError: there is no such folder, no weights in it, or no such model to be had.
    """
    if written is None:
        return _checked(Place(None, BUNDLED, bundled_folder()))
    folder = root / Path(written).expanduser()
    if folder.is_dir():
        return _checked(Place(written, folder.resolve().name, folder))
    if not _NAME.fullmatch(written):
        raise DhmdError(
            f"features.encoder is {written!r}, but there is no such folder, and it is no name of a "
            "model either"
        )
    return _named(written)


def _checked(place: Place) -> Place:
    if not place.complete:
        raise DhmdError(
            f"{place.folder} is no encoder: it must hold config.json and weights as *.safetensors "
            "(other forms of weights are programs, and are not read)"
        )
    return place


def _named(name: str) -> Place:
    """The local copy of a model, else what the hub gives."""
    hub = optional("huggingface_hub")
    for local in (True, False):
        try:
            folder = hub.snapshot_download(name, allow_patterns=list(FILES), local_files_only=local)
        except (OSError, ValueError, RuntimeError, hub.errors.HfHubHTTPError) as error:
            if local:
                continue
            raise DhmdError(
                f"features.encoder is {name!r}, but there is neither such a folder nor a local "
                f"copy of a model of this name, and it cannot be fetched ({first_line(error)[:200]}"
                "): give a folder that holds it"
            ) from error
        place = Place(name, name.rpartition("/")[2], Path(folder))
        if place.complete or not local:
            return _checked(place)
    raise AssertionError("unreachable")
