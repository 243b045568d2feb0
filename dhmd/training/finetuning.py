"""Fine-tune a text encoder together with the model (`features.text: finetune`).

The aligned features file stores the vectors of the frozen encoder, which the model's pretraining
reads. Fine-tuned vectors are normalised by the same numbers, so that the first step of `finetune`
reads the same text as `contextual`.

Legend: E members, B utterances, K sub-words, T words, H the encoder's width, O outputs.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from dhmd.base.errors import DhmdError
from dhmd.data.aligned import ENCODER_SOURCE
from dhmd.data.aligned.corpus import Corpus
from dhmd.data.text.encoder import Encoder, pool_words, takes_token_type_ids
from dhmd.models.batch import EnsembleBatch, TokenBatch
from dhmd.models.learner import Learner, ParameterGroup
from dhmd.models.members import Members
from dhmd.training.device_corpus import CLIP, Normalisation

FOLDER = "encoder"  # in a model folder

_PREFIX, _MODEL = "encoder.", "model."


class Finetuned(Learner):
    """A model that reads text through an encoder; every member has its own encoder weights.

    Parameters are the model's (`model.…`) and the encoder's (`encoder.…`), all `[E, …]`.

    Args:
        text: index of text among the modalities.
        normalisation: of the frozen encoder's vectors.
        learning_rate: of the encoder, as a factor of `train.lr`.
        gradient_checkpointing: whether the encoder's layers are computed again in the backward
            pass, which takes less memory and gives the same numbers.

    Raises:
        DhmdError: `gradient_checkpointing` with an encoder that does not support it.
    """

    capturable = False

    def __init__(
        self,
        model: Learner,
        members: Members,
        encoder: Encoder,
        text: int,
        normalisation: Normalisation,
        *,
        learning_rate: float = 1.0,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.task, self.members, self.text = model, model.task, members, text
        self.phases, self.alternate = model.phases, model.alternate
        self.batch_by, self.pretraining_epochs = model.batch_by, model.pretraining_epochs
        self.learning_rate = learning_rate
        self.encoder = copy.deepcopy(encoder.model).requires_grad_(True).to(members.device)
        self._takes_token_type_ids = takes_token_type_ids(encoder.model)
        self._layers = [m for m in self.encoder.modules() if hasattr(m, "gradient_checkpointing")]
        self._gradient_checkpointing = gradient_checkpointing
        if gradient_checkpointing and not self._layers:
            raise DhmdError(
                f"features.finetune.gradient_checkpointing is true, but {encoder.files.name} does "
                "not support it"
            )
        for parameter in self.encoder.parameters():
            shape = (members.count, *parameter.shape)
            parameter.data = parameter.detach().expand(shape).clone()
        mean_H, std_H = (
            torch.from_numpy(normalisation.mean_I),
            torch.from_numpy(normalisation.std_I),
        )
        self._mean_H = mean_H.float().to(members.device)
        self._std_H = std_H.float().to(members.device)

    def losses(self, batch: EnsembleBatch) -> dict[str, Tensor]:
        """Return the losses of the model; their gradients reach the encoder."""
        losses = self.model.losses(self.read(batch))
        self.mode = self.model.mode
        return losses

    def predict(self, batch: EnsembleBatch) -> Tensor:
        return self.model.predict(self.read(batch))

    def details(self, batch: EnsembleBatch) -> dict[str, Tensor]:
        return self.model.details(self.read(batch))

    def parameter_group(self, name: str) -> ParameterGroup:
        """Return the group; the encoder has its own learning rate and a warm-up."""
        if name.startswith(_PREFIX):
            return ParameterGroup(learning_rate=self.learning_rate, warmup=True)
        return self.model.parameter_group(name.removeprefix(_MODEL))

    def stored_name(self, name: str) -> str:
        own = name.removeprefix(_MODEL)
        return name if own == name else _MODEL + self.model.stored_name(own)

    def member_buffers(self) -> dict[str, Tensor]:
        return {_MODEL + name: value for name, value in self.model.member_buffers().items()}

    def load_member_buffers(self, buffers: Mapping[str, Tensor]) -> None:
        self.model.load_member_buffers(
            {name.removeprefix(_MODEL): value for name, value in buffers.items()}
        )

    def read(self, batch: EnsembleBatch) -> EnsembleBatch:
        """Return the batch with the encoder's features as text, if it has tokens."""
        self.model.skip, self.model.mode = self.skip, self.mode or self.model.mode
        if batch.tokens is None:
            return batch
        mask_EGBT = batch.masks[self.text]
        read = [
            self._of_member(member, batch.tokens, mask_EGBT.shape[-1])
            for member in range(self.members.count)
        ]
        scaled = (torch.stack(read).unsqueeze(1) - self._mean_H) / self._std_H
        features = list(batch.features)
        features[self.text] = scaled.clamp(-CLIP, CLIP) * mask_EGBT.unsqueeze(-1)
        return replace(batch, features=features, tokens=None)

    def _of_member(self, member: int, tokens: TokenBatch, steps: int) -> Tensor:
        """Return the encoder's features of one member's batch, `[B, T, H]`."""
        weights = {name: value[member] for name, value in self.encoder.named_parameters()}
        inputs = {
            "input_ids": tokens.ids_EBK[member],
            "attention_mask": tokens.mask_EBK[member].long(),
        }
        if self._takes_token_type_ids:
            inputs["token_type_ids"] = tokens.types_EBK[member]
        if self._gradient_checkpointing:
            self._checkpoint_layers(weights)
        # Dropout reads torch's random state: seed it from the member's stream, so that a resumed
        # run draws the same masks.
        with self.members.torch_random(member) if self.training else nullcontext():
            hidden_BKH = functional_call(self.encoder, weights, kwargs=inputs).last_hidden_state
        return pool_words(hidden_BKH, tokens.steps_EBK[member], steps)

    def _checkpoint_layers(self, weights: Mapping[str, Tensor]) -> None:
        """Let each layer of the encoder be computed again with one member's weights.

        The backward pass comes after `functional_call`, which has put the own weights back then.
        """
        again = _Caller(self.encoder)
        own = {f"encoder.{name}": value for name, value in weights.items()}

        def layer(call: Callable[..., object], *args: object) -> object:
            def run(*args: object) -> object:
                return functional_call(again, own, (call, *args))

            return checkpoint(run, *args, use_reentrant=False)

        for module in self._layers:
            module.gradient_checkpointing = True
            module._gradient_checkpointing_func = layer


class _Caller(nn.Module):
    """Calls a function while `functional_call` has the encoder's weights replaced."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, call: Callable[..., object], *args: object) -> object:
        return call(*args)


def check_tokens(corpus: Corpus, encoder: Encoder) -> None:
    """Check that the aligned features file was made for fine-tuning this encoder.

    Raises:
        DhmdError: it was not.
    """
    if corpus.sources.get(ENCODER_SOURCE) != encoder.digest or corpus.tokens is None:
        raise DhmdError(
            f"the aligned features file of {corpus.name} has no tokens for "
            f"{encoder.files.name}: run align again"
        )


def save_encoder(folder: Path, encoder: Encoder) -> None:
    """Copy the encoder's files except its weights, which are stored per seed."""
    (folder / FOLDER).mkdir()
    for path in encoder.files.paths:
        if ".safetensors" not in path.name:
            shutil.copyfile(path, folder / FOLDER / path.name)
