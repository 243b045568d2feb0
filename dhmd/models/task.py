"""The task: what an output means and what a wrong one costs.

Legend: E members, B utterances, O outputs, C classes; `…` stands for E and what lies between.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Task:
    """Regression of a label in [low, high], or classification into `classes` ≥ 2 classes.

    Classification has at least two logits, also for binary tasks, so that a distillation divergence
    over them means something.
    """

    classes: int | None = None
    low: float = -3.0
    high: float = 3.0

    @property
    def outputs(self) -> int:
        """O: 1 for regression, C for classification."""
        return self.classes or 1

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """L1, or cross-entropy, of each utterance: `[…, B, O]` and `[…, B]` → `[…, B]`.

        Gradient reaches `output` only.
        """
        if self.classes is None:
            return (output[..., 0] - labels).abs()
        shape = output.shape[:-1]
        index = labels.long().expand(shape).reshape(-1)
        flat = output.reshape(-1, self.classes)
        return nn.functional.cross_entropy(flat, index, reduction="none").view(shape)

    def distance(self, output: Tensor, teacher: Tensor, tau: float) -> Tensor:
        """How far a student's output is from a teacher's prediction, `[…]` without O.

        Squared error, or τ² · KL(teacher ‖ student) at temperature τ; `teacher` holds values, or
        probabilities. Gradient reaches `output` only.
        """
        teacher = teacher.detach()
        if self.classes is None:
            return (output[..., 0] - teacher[..., 0]).square()
        log_teacher = torch.log_softmax(teacher.clamp_min(1e-6).log() / tau, dim=-1)
        log_student = torch.log_softmax(output / tau, dim=-1)
        divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(-1)
        return divergence * tau**2

    def present(self, output: Tensor) -> Tensor:
        """Outputs as predictions: values clipped to nothing, or probabilities; `[…, O]`."""
        return output if self.classes is None else output.softmax(-1)

    def margin_classes(self, labels: Tensor) -> Tensor:
        """Labels as the classes of the margin loss: clipped, rounded half to even."""
        if self.classes is None:
            return labels.clamp(self.low, self.high).round()
        return labels
