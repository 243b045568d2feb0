"""Modality encoders (method section 1), and self-attention and cross-modal attention (section 3).

Legend: E members, M modalities, B utterances, T steps, I features, D width, O outputs,
W = (M − 1) D, or D without cross-modal attention.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from dhmd.models.batch import EnsembleBatch
from dhmd.models.config import ModelConfig
from dhmd.models.learner import Learner
from dhmd.models.members import Members
from dhmd.models.stacked.attention import TransformerEncoder
from dhmd.models.stacked.layers import (
    GRU,
    Dropout,
    Linear,
    TemporalConvolution,
    by_group,
    masked_mean,
    zero_padding,
)
from dhmd.models.task import Task


class ModalityEncoder(nn.Module):
    """The encoder `X_m = Conv1d_m(x_m)`; maps `[E, 1, B, T, I]` to `[E, 1, B, T, D]`.

    The output is zero on padding. With `recurrent`, it is the sum of a GRU's two directions instead
    of the convolution.
    """

    def __init__(
        self,
        members: Members,
        inputs: int,
        width: int,
        *,
        kernel: int,
        recurrent: bool,
        input_dropout: float,
    ) -> None:
        super().__init__()
        self.dropout = Dropout(members, input_dropout)
        if recurrent:
            self.gru = GRU(members, inputs, width)
        else:
            self.convolution = TemporalConvolution(members, inputs, width, kernel)
        self.recurrent = recurrent

    def forward(self, x_EGBTI: Tensor, mask_EGBT: Tensor) -> Tensor:
        x_EGBTI = self.dropout(x_EGBTI)
        if self.recurrent:
            x_EGBTD = self.gru(x_EGBTI, mask_EGBT).sum(1, keepdim=True)
        else:
            x_EGBTD = self.convolution(x_EGBTI)
        return zero_padding(x_EGBTD, mask_EGBT)


def modality_encoders(
    members: Members, inputs: dict[str, int], config: ModelConfig
) -> nn.ModuleList:
    """Build one encoder per modality, in the order of `inputs`."""
    return nn.ModuleList(
        ModalityEncoder(
            members,
            size,
            config.width,
            kernel=config.kernels[name],
            recurrent=config.recurrent.get(name, False),
            input_dropout=config.dropout.input[name],
        )
        for name, size in inputs.items()
    )


def copy_encoders(
    modules: nn.ModuleList,
    modalities: Sequence[str],
    encoders: Mapping[str, Mapping[str, Tensor]],
) -> None:
    """Copy pretrained weights into encoders of `modality_encoders`, in place.

    Args:
        encoders: by modality, parameters of `ModalityEncoder` by name, `[E, …]` each.

    Raises:
        ValueError: a shape differs.
    """
    for encoder, modality in zip(modules, modalities, strict=True):
        for name, value in encoders[modality].items():
            parameter = encoder.get_parameter(name)
            if parameter.shape != value.shape:
                raise ValueError(
                    f"the pretrained encoder of {modality} does not fit the model: "
                    "run the pretrain stage again"
                )
            with torch.no_grad():
                parameter.copy_(value)


class UnimodalModel(Learner):
    """One encoder with a temporary head, for pretraining (ours).

    The head reads the masked mean of rectified steps, so that single words can add to the output.
    """

    def __init__(
        self, members: Members, task: Task, modality: str, inputs: int, config: ModelConfig
    ) -> None:
        super().__init__()
        self.task = task
        (self.encoder,) = modality_encoders(members, {modality: inputs}, config)
        self.hidden = Linear(members, 1, config.width, config.width)
        self.dropout = Dropout(members, config.dropout.output)
        self.head = Linear(members, 1, config.width, task.outputs)

    def predict(self, batch: EnsembleBatch) -> Tensor:
        (features,), (mask,) = batch.features, batch.masks
        pooled = masked_mean(self.encoder(features, mask).relu(), mask)
        out: Tensor = self.head(self.dropout(self.hidden(pooled).relu()))
        return out[:, 0]

    def losses(self, batch: EnsembleBatch) -> dict[str, Tensor]:
        """Return `total` and `task`, `[E]`; the loss is 0 for utterances without the modality."""
        loss_EB = self.task.loss(self.predict(batch), batch.labels_EB)
        task = (loss_EB * batch.weight_EB * batch.present_EMB[:, 0]).sum(-1)
        return {"total": task, "task": task}


class SelfAttention(nn.Module):
    """One self-attention encoder per modality; keeps the shapes `[E, 1, B, T_m, D]`."""

    def __init__(
        self, members: Members, modalities: tuple[str, ...], width: int, config: ModelConfig
    ) -> None:
        super().__init__()
        self.encoder = TransformerEncoder(members, width, config, attended=modalities)

    def forward(self, steps: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        return by_group(self.encoder, steps, masks)


class CrossModalAttention(nn.Module):
    """Attention from prt_m to every other prt_n, concatenated, then self-attention (MulT, DMD).

    `[E, 1, B, T_m, D]` each → `[E, 1, B, T_m, W]` each. Every pair of modalities has its own
    encoder; all pairs run as one stack where lengths agree. With one modality, or with
    `model.cross_modal` off, only the self-attention remains, and W = D.
    """

    def __init__(
        self, members: Members, modalities: tuple[str, ...], width: int, config: ModelConfig
    ) -> None:
        super().__init__()
        count = len(modalities)
        crossing = config.cross_modal and count > 1
        self.pairs = [
            (target, source)
            for target in range(count)
            for source in range(count)
            if crossing and target != source
        ]
        self.width = (count - 1) * width if crossing else width
        self.cross: TransformerEncoder | None = None
        if crossing:
            sources = [modalities[source] for _, source in self.pairs]
            self.cross = TransformerEncoder(members, width, config, attended=sources)
        self.memory = TransformerEncoder(members, self.width, config, attended=modalities)

    def forward(self, steps: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        if self.cross is not None:
            attended = by_group(
                self.cross,
                [steps[target] for target, _ in self.pairs],
                [masks[source] for _, source in self.pairs],
                [steps[source] for _, source in self.pairs],
            )
            steps = [
                torch.cat(
                    [x for x, (t, _) in zip(attended, self.pairs, strict=True) if t == target],
                    dim=-1,
                )
                for target in range(len(masks))
            ]
        return by_group(self.memory, steps, masks)
