"""Fine-tune a text encoder together with the model (`features.text: finetune`).

The aligned features file stores the vectors of the frozen encoder, which the model's pretraining
reads. Fine-tuned vectors are normalised by the mean and standard deviation of the frozen ones, so
that the first step of `finetune` sees the same text features as `contextual`.

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
from dhmd.data.text.encoder import TextEncoder, pool_words, takes_token_type_ids
from dhmd.models.batch import EnsembleBatch, TokenBatch
from dhmd.models.learner import Learner, ParameterGroup
from dhmd.models.members import Members
from dhmd.training.device_corpus import CLIP, Normalisation

FOLDER = "encoder"  # the encoder's folder in a model folder

_PREFIX, _MODEL = "encoder.", "model."


class FinetunedModel(Learner):
    """A model with a text encoder that is trained; every member has its own encoder weights.

    Parameters are the model's (`model.…`) and the encoder's (`encoder.…`), all `[E, …]`.

    Args:
        text: the index of text among the modalities.
        normalisation: the normalisation of the frozen encoder's vectors.
        learning_rate: the encoder's learning rate, as a factor of `train.lr`.
        gradient_checkpointing: whether the encoder's layers are recomputed in the backward
            pass, which takes less memory and gives the same gradients.

    Raises:
        DhmdError: `gradient_checkpointing` is set and the encoder does not support it.
    """

    capturable = False

    def __init__(
        self,
        model: Learner,
        members: Members,
        encoder: TextEncoder,
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
                "not support gradient checkpointing"
            )
        for parameter in self.encoder.parameters():
            shape = (members.count, *parameter.shape)
            parameter.data = parameter.detach().expand(shape).clone()
        self._mean_H = torch.from_numpy(normalisation.mean_I).float().to(members.device)
        self._std_H = torch.from_numpy(normalisation.std_I).float().to(members.device)

    def losses(self, batch: EnsembleBatch) -> dict[str, Tensor]:
        """Return the losses of the model; their gradients reach the encoder."""
        losses = self.model.losses(self.encode_text(batch))
        self.mode = self.model.mode
        return losses

    def predict(self, batch: EnsembleBatch) -> Tensor:
        return self.model.predict(self.encode_text(batch))

    def details(self, batch: EnsembleBatch) -> dict[str, Tensor]:
        return self.model.details(self.encode_text(batch))

    def parameter_group(self, name: str) -> ParameterGroup:
        """Return the parameter's group; the encoder has its own learning rate and a warm-up."""
        if name.startswith(_PREFIX):
            return ParameterGroup(learning_rate=self.learning_rate, warmup=True)
        return self.model.parameter_group(name.removeprefix(_MODEL))

    def stored_name(self, name: str) -> str:
        if not name.startswith(_MODEL):
            return name
        return _MODEL + self.model.stored_name(name.removeprefix(_MODEL))

    def member_buffers(self) -> dict[str, Tensor]:
        return {_MODEL + name: value for name, value in self.model.member_buffers().items()}

    def load_member_buffers(self, buffers: Mapping[str, Tensor]) -> None:
        self.model.load_member_buffers(
            {name.removeprefix(_MODEL): value for name, value in buffers.items()}
        )

    def encode_text(self, batch: EnsembleBatch) -> EnsembleBatch:
        """Return the batch with the encoder's vectors as text features, if it has tokens."""
        self.model.skip, self.model.mode = self.skip, self.mode or self.model.mode
        if batch.tokens is None:
            return batch
        mask_EGBT = batch.masks[self.text]
        vectors = [
            self._encode(member, batch.tokens, mask_EGBT.shape[-1])
            for member in range(self.members.count)
        ]
        scaled = (torch.stack(vectors).unsqueeze(1) - self._mean_H) / self._std_H
        features = list(batch.features)
        features[self.text] = scaled.clamp(-CLIP, CLIP) * mask_EGBT.unsqueeze(-1)
        return replace(batch, features=features, tokens=None)

    def _encode(self, member: int, tokens: TokenBatch, steps: int) -> Tensor:
        """Return the vectors of the words in one member's batch, `[B, T, H]`."""
        weights = {name: value[member] for name, value in self.encoder.named_parameters()}
        inputs = {
            "input_ids": tokens.ids_EBK[member],
            "attention_mask": tokens.mask_EBK[member].long(),
        }
        if self._takes_token_type_ids:
            inputs["token_type_ids"] = tokens.types_EBK[member]
        if self._gradient_checkpointing:
            self._checkpoint_layers(weights)
        # Dropout uses torch's random state. It is seeded from the member's stream, so that a
        # resumed run has the same dropout masks.
        with self.members.torch_random(member) if self.training else nullcontext():
            hidden_BKH = functional_call(self.encoder, weights, kwargs=inputs).last_hidden_state
        return pool_words(hidden_BKH, tokens.steps_EBK[member], steps)

    def _checkpoint_layers(self, weights: Mapping[str, Tensor]) -> None:
        """Checkpoint each layer of the encoder, so that it is recomputed with these weights.

        By the time of the backward pass, `functional_call` has restored the module's own weights,
        so the recomputation needs a `functional_call` of its own.
        """
        caller = _Caller(self.encoder)
        member_weights = {f"encoder.{name}": value for name, value in weights.items()}

        def layer(call: Callable[..., object], *args: object) -> object:
            def run(*args: object) -> object:
                return functional_call(caller, member_weights, (call, *args))

            return checkpoint(run, *args, use_reentrant=False)

        for module in self._layers:
            module.gradient_checkpointing = True
            module._gradient_checkpointing_func = layer


class _Caller(nn.Module):
    """Calls a function while `functional_call` replaces the encoder's weights."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, call: Callable[..., object], *args: object) -> object:
        return call(*args)


def check_tokens(corpus: Corpus, encoder: TextEncoder) -> None:
    """Check that the aligned features file has the tokens of this encoder.

    Raises:
        DhmdError: the file has no tokens, or those of another encoder.
    """
    if corpus.sources.get(ENCODER_SOURCE) != encoder.digest or corpus.tokens is None:
        raise DhmdError(
            f"the aligned features file of {corpus.name} has no tokens for "
            f"{encoder.files.name}: run the align stage again"
        )


def save_encoder(folder: Path, encoder: TextEncoder) -> None:
    """Copy the encoder's files into a model folder, without its weights: each seed has its own."""
    (folder / FOLDER).mkdir()
    for path in encoder.files.paths:
        if ".safetensors" not in path.name:
            shutil.copyfile(path, folder / FOLDER / path.name)
