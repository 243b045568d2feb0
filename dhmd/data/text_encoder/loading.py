"""An encoder in memory: safetensors weights, no code of the model's own, no network.

Legend: B utterances, K sub-words, H the encoder's width.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from dhmd.base.errors import DhmdError, first_line
from dhmd.data.text_encoder.extra import optional
from dhmd.data.text_encoder.places import Place, find_encoder
from dhmd.data.text_encoder.subwords import Subwords, split_words

# What transformers lets through of damaged or foreign files.
_READ_ERRORS = (
    OSError,
    ValueError,
    RuntimeError,
    LookupError,
    ImportError,
    TypeError,
    AttributeError,
    SafetensorError,
)

_FALLBACK_LENGTH = 512  # sub-words, of models that name no longest input


@dataclass(frozen=True, eq=False)
class Encoder:
    """A pretrained encoder with its tokenizer.

    Attributes:
        place: where it came from.
        digest: sha256 of its files.
        model: of transformers, in evaluation mode.
        tokenizer: a fast one of transformers.
    """

    place: Place
    digest: str
    model: Any
    tokenizer: Any

    @property
    def width(self) -> int:
        """H."""
        return int(self.model.config.hidden_size)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """One name an output."""
        return tuple(f"{self.place.name}_{index}" for index in range(self.width))

    @property
    def vocabulary(self) -> int:
        """How many tokens it knows."""
        return int(self.model.config.vocab_size)

    @property
    def longest(self) -> int:
        """Sub-words that it reads in one pass, special tokens among them."""
        positions = int(getattr(self.model.config, "max_position_embeddings", _FALLBACK_LENGTH))
        # RoBERTa's positions begin after the padding's; its tokenizer knows.
        return max(8, min(positions, int(self.tokenizer.model_max_length)))

    def split(self, words: Sequence[str]) -> list[Subwords]:
        """The words of an utterance as sub-words, in as many passes as their number needs."""
        return split_words(self.tokenizer, words, self.longest)

    def hidden(self, ids_BK: Tensor, mask_BK: Tensor, types_BK: Tensor) -> Tensor:
        """The last layer's vectors, `[B, K, H]`."""
        return last_hidden(self.model, ids_BK, mask_BK, types_BK)


def last_hidden(model: Any, ids_BK: Tensor, mask_BK: Tensor, types_BK: Tensor) -> Tensor:
    """The last layer's vectors of any encoder, `[B, K, H]`.

    Args:
        mask_BK: true on sub-words that are to be attended to.
        types_BK: segment ids, given to models that know them.
    """
    more = {"token_type_ids": types_BK} if takes_types(model) else {}
    output = model(input_ids=ids_BK, attention_mask=mask_BK.long(), **more)
    hidden: Tensor = output.last_hidden_state
    return hidden


def takes_types(model: Any) -> bool:
    """Whether the model reads segment ids."""
    return "token_type_ids" in inspect.signature(model.forward).parameters


def load_encoder(written: str | None, root: Path, *, device: torch.device | None = None) -> Encoder:
    """The encoder that `features.encoder` means, as float32.

    Raises:
        DhmdError: the extra is not installed, or the encoder is absent or not usable.
    """
    optional("transformers")
    place = find_encoder(written, root)
    model = _read(place)
    tokenizer = _tokenizer(place)
    model.eval().requires_grad_(False)
    model.to(device or torch.device("cpu"))
    return Encoder(place=place, digest=place.digest(), model=model, tokenizer=tokenizer)


def _read(place: Place) -> Any:
    transformers = _quiet()
    try:
        model, found = transformers.AutoModel.from_pretrained(
            str(place.folder),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            # The others choose their kernels by machine, and some have no deterministic gradient.
            attn_implementation="eager",
            output_loading_info=True,
        )
    except _READ_ERRORS as error:
        raise DhmdError(
            f"{place.folder} is no encoder that transformers can read: {first_line(error)[:300]}"
        ) from error
    # A head on top of the first sub-word, which nothing here reads.
    absent = sorted(name for name in found["missing_keys"] if "pooler" not in name)
    if absent or found["mismatched_keys"]:
        raise DhmdError(
            f"{place.folder} lacks weights of its own model, such as "
            f"{(absent or sorted(map(str, found['mismatched_keys'])))[0]}"
        )
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    if getattr(model.config, "is_encoder_decoder", False):
        raise DhmdError(
            f"{place.folder} has a decoder too: features.encoder must be an encoder alone"
        )
    return model


def _tokenizer(place: Place) -> Any:
    transformers = _quiet()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(place.folder),
            local_files_only=True,
            trust_remote_code=False,
            use_fast=True,
            # Byte-level tokenizers need it for words that come one by one; others ignore it.
            add_prefix_space=True,
        )
    except _READ_ERRORS as error:
        raise DhmdError(
            f"{place.folder} holds no tokenizer that transformers can read: "
            f"{first_line(error)[:300]}"
        ) from error
    if not tokenizer.is_fast:
        raise DhmdError(
            f"{place.folder} has a tokenizer that does not say which word a sub-word belongs to: "
            "features.text needs a model with a tokenizer.json or a vocab.txt"
        )
    return tokenizer


def _quiet() -> Any:
    """transformers, without its bars and remarks."""
    transformers = optional("transformers")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers
