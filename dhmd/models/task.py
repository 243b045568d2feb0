"""Regression and classification: the meaning and the loss of a model's outputs.

Legend: E members, B utterances, O outputs, C classes; `…` stands for E and other leading axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Task:
    """Regression of a label in [low, high], or classification into `classes` ≥ 2 classes.

    Classification has at least two logits, also for binary tasks, so that a distillation divergence
    over them is meaningful.
    """

    classes: int | None = None
    low: float = -3.0
    high: float = 3.0

    @property
    def outputs(self) -> int:
        """O: 1 for regression, C for classification."""
        return self.classes or 1

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """Compute L1, or cross-entropy, of each utterance: `[…, B, O]` and `[…, B]` → `[…, B]`.

        The gradient reaches `output` only.
        """
        if self.classes is None:
            return (output[..., 0] - labels).abs()
        shape = output.shape[:-1]
        index = labels.long().expand(shape).reshape(-1)
        flat = output.reshape(-1, self.classes)
        return nn.functional.cross_entropy(flat, index, reduction="none").view(shape)

    def distance(self, output: Tensor, teacher: Tensor, tau: float) -> Tensor:
        """Compute the distance between a student's output and a teacher's prediction, `[…]`.

        Squared error, or τ² · KL(teacher ‖ student) at temperature τ. The gradient reaches `output`
        only.

        Args:
            teacher: values, or probabilities.
        """
        teacher = teacher.detach()
        if self.classes is None:
            return (output[..., 0] - teacher[..., 0]).square()
        log_teacher = torch.log_softmax(teacher.clamp_min(1e-6).log() / tau, dim=-1)
        log_student = torch.log_softmax(output / tau, dim=-1)
        divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(-1)
        return divergence * tau**2

    def predictions(self, output: Tensor) -> Tensor:
        """Convert outputs to predictions: values as they are, or probabilities; `[…, O]`."""
        return output if self.classes is None else output.softmax(-1)

    def stored(self, output: Tensor) -> Tensor:
        """Convert outputs to the form of outputs.h5: values `[…]`, or probabilities `[…, C]`."""
        return output[..., 0] if self.classes is None else output.softmax(-1)

    def margin_classes(self, labels: Tensor) -> Tensor:
        """Convert labels to the classes of the margin loss: clipped, rounded half to even."""
        if self.classes is None:
            return labels.clamp(self.low, self.high).round()
        return labels
