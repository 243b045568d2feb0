"""Regression, classification and multi-label tasks: the meaning and the loss of outputs.

Legend: E members, B utterances, O outputs, C classes; `…` stands for E and other leading axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Task:
    """Regression of a label in [low, high], or one of `classes` classes, or any set of them.

    Classification has at least two logits, also for binary tasks, so that a distillation divergence
    over them is meaningful. A multi-label task has one logit per class; its labels are sets of
    classes as numbers (dhmd/base/label_sets.py).
    """

    classes: int | None = None
    low: float = -3.0
    high: float = 3.0
    multilabel: bool = False

    @property
    def kind(self) -> str:
        """Regression, classification or multilabel, as in recipes and aligned features files."""
        if self.classes is None:
            return "regression"
        return "multilabel" if self.multilabel else "classification"

    @property
    def outputs(self) -> int:
        """O: 1 for regression, C for classes."""
        return self.classes or 1

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of each utterance: `[…, B, O]` and `[…, B]` → `[…, B]`.

        It is L1, cross-entropy, or the mean binary cross-entropy over classes. The gradient reaches
        `output` only.
        """
        if self.classes is None:
            return (output[..., 0] - labels).abs()
        if self.multilabel:
            members = self.members(labels).expand_as(output)
            return nn.functional.binary_cross_entropy_with_logits(
                output, members, reduction="none"
            ).mean(-1)
        shape = output.shape[:-1]
        index = labels.long().expand(shape).reshape(-1)
        flat = output.reshape(-1, self.classes)
        return nn.functional.cross_entropy(flat, index, reduction="none").view(shape)

    def distance(self, output: Tensor, teacher: Tensor, tau: float) -> Tensor:
        """Compute the distance between a student's output and a teacher's prediction, `[…]`.

        Squared error, or τ² · KL(teacher ‖ student) at temperature τ, of a multi-label task the
        mean over classes. The gradient reaches `output` only.

        Args:
            teacher: values, or probabilities.
        """
        teacher = teacher.detach()
        if self.classes is None:
            return (output[..., 0] - teacher[..., 0]).square()
        if self.multilabel:
            logit = teacher.logit(1e-6) / tau
            student = torch.stack([output, torch.zeros_like(output)], -1).div(tau).log_softmax(-1)
            wanted = torch.stack([logit, torch.zeros_like(logit)], -1).log_softmax(-1)
            return (wanted.exp() * (wanted - student)).sum(-1).mean(-1) * tau**2
        log_teacher = torch.log_softmax(teacher.clamp_min(1e-6).log() / tau, dim=-1)
        log_student = torch.log_softmax(output / tau, dim=-1)
        divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(-1)
        return divergence * tau**2

    def predictions(self, output: Tensor) -> Tensor:
        """Convert outputs to predictions: values as they are, or probabilities; `[…, O]`."""
        if self.classes is None:
            return output
        return output.sigmoid() if self.multilabel else output.softmax(-1)

    def stored(self, output: Tensor) -> Tensor:
        """Convert outputs to the form of outputs.h5: values `[…]`, or probabilities `[…, C]`."""
        return output[..., 0] if self.classes is None else self.predictions(output)

    def prediction_loss(self, prediction: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of predictions (see `predictions`): L1, or minus the log-likelihood.

        Args:
            prediction: `[…, O]`.
            labels: broadcast to `[…]`.
        """
        if self.classes is None:
            return (prediction[..., 0] - labels).abs()
        likelihood = self._likelihood(prediction, labels).clamp_min(1e-6).log()
        return -likelihood.mean(-1)

    def prediction_error(self, prediction: Tensor, labels: Tensor) -> Tensor:
        """Compute the error of predictions: L1, or 1 minus the probability of the label."""
        if self.classes is None:
            return (prediction[..., 0] - labels).abs()
        return 1 - self._likelihood(prediction, labels).mean(-1)

    def _likelihood(self, prediction: Tensor, labels: Tensor) -> Tensor:
        """Return the probability of the true class `[…, 1]`, or of each class's truth `[…, C]`."""
        if self.multilabel:
            return torch.where(self.members(labels) > 0, prediction, 1 - prediction)
        classes = torch.arange(prediction.shape[-1], device=labels.device)
        # Not `gather`, whose gradient is a scatter (see `stacked.layers.masked_max`).
        chosen = labels.unsqueeze(-1) == classes
        return (prediction * chosen).sum(-1, keepdim=True)

    def members(self, labels: Tensor) -> Tensor:
        """Convert a multi-label task's labels `[…]` to 0 and 1 `[…, C]`."""
        assert self.classes is not None
        digits = torch.arange(self.classes, device=labels.device)
        return ((labels.long().unsqueeze(-1) >> digits) & 1).to(labels.dtype)

    def correct(self, output: Tensor, labels: Tensor) -> Tensor:
        """Return 1 for a correct class, else 0; of a multi-label task the share of classes."""
        if self.multilabel:
            return ((output > 0) == (self.members(labels) > 0)).float().mean(-1)
        return (output.argmax(-1) == labels).float()

    def margin_classes(self, labels: Tensor) -> Tensor:
        """Convert labels to the classes of the margin loss: clipped, rounded half to even."""
        if self.classes is None:
            return labels.clamp(self.low, self.high).round()
        return labels
