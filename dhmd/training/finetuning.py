"""An encoder of text that is trained along with the model: its vectors are made anew in every step.

The frozen encoder's vectors are what the aligned cache holds as text, and the model's pretraining
reads them; here they are where training starts. They are normalised by the same numbers, so that
the first step of `finetune` sees what `contextual` sees.

Legend: E members, B utterances, K sub-words, T words, H the encoder's width, O outputs.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dhmd.base.errors import DhmdError
from dhmd.base.hashing import file_sha256
from dhmd.data.aligned import ENCODER_SOURCE
from dhmd.data.aligned.corpus import Corpus
from dhmd.data.text.encoder import Encoder, pool_words, takes_types
from dhmd.models.batch import Batch, TokenBatch
from dhmd.models.registry import AnyModel
from dhmd.models.stacked.members import Members
from dhmd.training.device_corpus import CLIP, Normalisation

FOLDER = "encoder"  # in a model folder

_PREFIX = "encoder."


class Finetuned(nn.Module):
    """A model that reads its text through an encoder with weights of each member's own.

    Its parameters are the model's (`model.…`) and the encoder's (`encoder.…`), `[E, …]` all.

    Args:
        place: text's place among the modalities.
        normalisation: of text, as the frozen encoder gives it.
    """

    def __init__(
        self,
        model: AnyModel,
        members: Members,
        encoder: Encoder,
        place: int,
        normalisation: Normalisation,
    ) -> None:
        super().__init__()
        self.model, self.task, self.members, self.place = model, model.task, members, place
        self.encoder = copy.deepcopy(encoder.model).requires_grad_(True).to(members.device)
        self._takes_types = takes_types(encoder.model)
        for parameter in self.encoder.parameters():
            shape = (members.count, *parameter.shape)
            parameter.data = parameter.detach().expand(shape).clone()
        mean_H, std_H = (
            torch.from_numpy(normalisation.mean_I),
            torch.from_numpy(normalisation.std_I),
        )
        self._mean_H = mean_H.float().to(members.device)
        self._std_H = std_H.float().to(members.device)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The model's own; their gradients reach the encoder."""
        return self.model.losses(self.read(batch))

    def predict(self, batch: Batch) -> Tensor:
        """Outputs `[E, B, O]`."""
        return self.model.predict(self.read(batch))

    def read(self, batch: Batch) -> Batch:
        """The same batch with text as the encoder has it now."""
        assert batch.tokens is not None
        mask_EGBT = batch.masks[self.place]
        self.encoder.train(self.members.training)
        read = [
            self._of_member(member, batch.tokens, mask_EGBT.shape[-1])
            for member in range(self.members.count)
        ]
        scaled = (torch.stack(read).unsqueeze(1) - self._mean_H) / self._std_H
        features = list(batch.features)
        features[self.place] = scaled.clamp(-CLIP, CLIP) * mask_EGBT.unsqueeze(-1)
        return replace(batch, features=features)

    def _of_member(self, member: int, tokens: TokenBatch, steps: int) -> Tensor:
        """`[B, T, H]`."""
        weights = {name: value[member] for name, value in self.encoder.named_parameters()}
        inputs = {
            "input_ids": tokens.ids_EBK[member],
            "attention_mask": tokens.mask_EBK[member].long(),
        }
        if self._takes_types:
            inputs["token_type_ids"] = tokens.types_EBK[member]
        with self._dropout_stream(member):
            hidden_BKH = functional_call(self.encoder, weights, kwargs=inputs).last_hidden_state
        return pool_words(hidden_BKH, tokens.steps_EBK[member], steps)

    @contextmanager
    def _dropout_stream(self, member: int) -> Iterator[None]:
        """The encoder's dropout from the member's own stream, which a resumed run finds again."""
        if not self.members.training:
            yield
            return
        device = self.members.device
        word_W = torch.empty(1, dtype=torch.int64, device=device)
        self.members.dropout[member].fill(word_W)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(int(word_W[0]))
            yield


def is_encoders(name: str) -> bool:
    """Whether a parameter of `Finetuned` belongs to its encoder."""
    return name.startswith(_PREFIX)


def check_tokens(corpus: Corpus, encoder: Encoder) -> None:
    """The cache was made for this encoder to be trained along.

    Raises:
        DhmdError: it was not.
    """
    if corpus.sources.get(ENCODER_SOURCE) != encoder.digest or corpus.tokens is None:
        raise DhmdError(
            f"{corpus.name}'s aligned cache does not hold what {encoder.files.name} reads: run "
            "align again"
        )


def save_encoder(folder: Path, encoder: Encoder) -> dict[str, str]:
    """The encoder's files but for its weights, which are each seed's; their sha256."""
    (folder / FOLDER).mkdir()
    files = {}
    for path in encoder.files.paths:
        if ".safetensors" not in path.name:
            shutil.copyfile(path, folder / FOLDER / path.name)
            files[f"{FOLDER}/{path.name}"] = file_sha256(path)
    return files
