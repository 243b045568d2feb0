"""Modality encoders (method section 1): `X_m = Conv1d_m(x_m)`, and the model that pretrains one.

Legend: R replicas, B utterances, T steps, I features, D width, O outputs.
"""

from __future__ import annotations

from torch import Tensor, nn

from dhmd.models.batch import Batch
from dhmd.models.stacked.dropout import Dropout
from dhmd.models.stacked.linear import Linear, TemporalConvolution
from dhmd.models.stacked.pooling import masked_mean, zero_padding
from dhmd.models.stacked.replicas import Replicas
from dhmd.models.task import Task


class ModalityEncoder(nn.Module):
    """`[R, 1, B, T, I]` → `[R, 1, B, T, D]`, zeros on padding."""

    def __init__(
        self, replicas: Replicas, inputs: int, width: int, *, kernel: int, input_dropout: float
    ) -> None:
        super().__init__()
        self.dropout = Dropout(replicas, input_dropout)
        self.convolution = TemporalConvolution(replicas, inputs, width, kernel)

    def forward(self, x_RGBTI: Tensor, mask_RGBT: Tensor) -> Tensor:
        return zero_padding(self.convolution(self.dropout(x_RGBTI)), mask_RGBT)


class UnimodalModel(nn.Module):
    """One encoder with a throw-away head: what `pretrain` trains [ours].

    The head sees a masked mean of rectified steps, so that words may count by their presence.
    """

    def __init__(
        self,
        replicas: Replicas,
        task: Task,
        inputs: int,
        width: int,
        *,
        kernel: int,
        input_dropout: float,
        output_dropout: float,
    ) -> None:
        super().__init__()
        self.task = task
        self.encoder = ModalityEncoder(
            replicas, inputs, width, kernel=kernel, input_dropout=input_dropout
        )
        self.hidden = Linear(replicas, 1, width, width)
        self.dropout = Dropout(replicas, output_dropout)
        self.head = Linear(replicas, 1, width, task.outputs)

    def predict(self, batch: Batch) -> Tensor:
        """Outputs `[R, B, O]`."""
        (features,), (mask,) = batch.features, batch.masks
        pooled = masked_mean(self.encoder(features, mask).relu(), mask)
        out: Tensor = self.head(self.dropout(self.hidden(pooled).relu()))
        return out[:, 0]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """`total` and its parts by name, each `[R]`; utterances without the modality count 0."""
        each_RB = self.task.loss(self.predict(batch), batch.labels_RB)
        task = (each_RB * batch.weight_RB * batch.present_RMB[:, 0]).sum(-1)
        return {"total": task, "task": task}
