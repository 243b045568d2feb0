"""Modality encoders (method section 1): `X_m = Conv1d_m(x_m)`, and the model that pretrains one.

Legend: E members, B utterances, T steps, I features, D width, O outputs.
"""

from __future__ import annotations

from torch import Tensor, nn

from dhmd.models.batch import Batch
from dhmd.models.stacked.dropout import Dropout
from dhmd.models.stacked.linear import Linear, TemporalConvolution
from dhmd.models.stacked.members import Members
from dhmd.models.stacked.pooling import masked_mean, zero_padding
from dhmd.models.task import Task


class ModalityEncoder(nn.Module):
    """`[E, 1, B, T, I]` → `[E, 1, B, T, D]`, zeros on padding."""

    def __init__(
        self, members: Members, inputs: int, width: int, *, kernel: int, input_dropout: float
    ) -> None:
        super().__init__()
        self.dropout = Dropout(members, input_dropout)
        self.convolution = TemporalConvolution(members, inputs, width, kernel)

    def forward(self, x_EGBTI: Tensor, mask_EGBT: Tensor) -> Tensor:
        return zero_padding(self.convolution(self.dropout(x_EGBTI)), mask_EGBT)


class UnimodalModel(nn.Module):
    """One encoder with a throw-away head: what `pretrain` trains [ours].

    The head sees a masked mean of rectified steps, so that words may count by their presence.
    """

    def __init__(
        self,
        members: Members,
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
            members, inputs, width, kernel=kernel, input_dropout=input_dropout
        )
        self.hidden = Linear(members, 1, width, width)
        self.dropout = Dropout(members, output_dropout)
        self.head = Linear(members, 1, width, task.outputs)

    def predict(self, batch: Batch) -> Tensor:
        """Outputs `[E, B, O]`."""
        (features,), (mask,) = batch.features, batch.masks
        pooled = masked_mean(self.encoder(features, mask).relu(), mask)
        out: Tensor = self.head(self.dropout(self.hidden(pooled).relu()))
        return out[:, 0]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """`total` and its parts by name, each `[E]`; utterances without the modality count 0."""
        each_EB = self.task.loss(self.predict(batch), batch.labels_EB)
        task = (each_EB * batch.weight_EB * batch.present_EMB[:, 0]).sum(-1)
        return {"total": task, "task": task}
