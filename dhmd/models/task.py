"""Regression, classification and multi-label tasks: losses and predictions of model outputs.

Legend: E members, B utterances, O outputs, C classes; `…` stands for E and any other leading axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Task:
    """The predicted label: a number in [low, high], one of `classes` classes, or a set of them.

    Classification has one logit per class, also for two classes, so that distillation has a
    divergence between distributions. A multi-label task has one logit per class; its labels are
    sets of classes, encoded as numbers (dhmd/base/label_sets.py).
    """

    classes: int | None = None
    low: float = -3.0
    high: float = 3.0
    multilabel: bool = False

    @property
    def kind(self) -> str:
        """`regression`, `classification` or `multilabel`, as in dataset configs."""
        if self.classes is None:
            return "regression"
        return "multilabel" if self.multilabel else "classification"

    @property
    def outputs(self) -> int:
        """Number of outputs O: 1 for regression, else the number of classes."""
        return self.classes or 1

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of each utterance from outputs `[…, B, O]` and labels `[…, B]`.

        L1, cross-entropy, or the mean over classes of binary cross-entropy. The gradient reaches
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

        The squared error, or `τ² KL(teacher ‖ student)` at temperature τ; in a multi-label task the
        mean over classes. The gradient reaches `output` only.

        Args:
            output: the student's outputs, `[…, O]`.
            teacher: values, or probabilities, `[…, O]`.
        """
        teacher = teacher.detach()
        if self.classes is None:
            return (output[..., 0] - teacher[..., 0]).square()
        if self.multilabel:
            logit = teacher.logit(1e-6) / tau
            student = torch.stack([output, torch.zeros_like(output)], -1).div(tau).log_softmax(-1)
            target = torch.stack([logit, torch.zeros_like(logit)], -1).log_softmax(-1)
            return (target.exp() * (target - student)).sum(-1).mean(-1) * tau**2
        log_teacher = torch.log_softmax(teacher.clamp_min(1e-6).log() / tau, dim=-1)
        log_student = torch.log_softmax(output / tau, dim=-1)
        divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(-1)
        return divergence * tau**2

    def predictions(self, output: Tensor) -> Tensor:
        """Convert outputs to predictions `[…, O]`: the values themselves, or probabilities."""
        if self.classes is None:
            return output
        return output.sigmoid() if self.multilabel else output.softmax(-1)

    def stored(self, output: Tensor) -> Tensor:
        """Convert outputs to the predictions of outputs.h5: `[…]`, or probabilities `[…, C]`."""
        return output[..., 0] if self.classes is None else self.predictions(output)

    def prediction_loss(self, prediction: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of predictions: L1, or the negative log-likelihood; `[…]`.

        Args:
            prediction: values, or probabilities (see `predictions`), `[…, O]`.
            labels: labels that broadcast to `[…]`.
        """
        if self.classes is None:
            return (prediction[..., 0] - labels).abs()
        likelihood = self._likelihood(prediction, labels).clamp_min(1e-6).log()
        return -likelihood.mean(-1)

    def prediction_error(self, prediction: Tensor, labels: Tensor) -> Tensor:
        """Compute the error of predictions: L1, or `1 − p(label)`; `[…]`."""
        if self.classes is None:
            return (prediction[..., 0] - labels).abs()
        return 1 - self._likelihood(prediction, labels).mean(-1)

    def _likelihood(self, prediction: Tensor, labels: Tensor) -> Tensor:
        """Return the probability of the label `[…, 1]`, or of each class of a set `[…, C]`."""
        if self.multilabel:
            return torch.where(self.members(labels) > 0, prediction, 1 - prediction)
        classes = torch.arange(prediction.shape[-1], device=labels.device)
        # Not `gather`, whose gradient is a scatter (see `stacked.layers.masked_max`).
        one_hot = labels.unsqueeze(-1) == classes
        return (prediction * one_hot).sum(-1, keepdim=True)

    def members(self, labels: Tensor) -> Tensor:
        """Convert the labels of a multi-label task, `[…]`, to a 0 or 1 per class, `[…, C]`."""
        assert self.classes is not None
        digits = torch.arange(self.classes, device=labels.device)
        return ((labels.long().unsqueeze(-1) >> digits) & 1).to(labels.dtype)

    def correct(self, output: Tensor, labels: Tensor) -> Tensor:
        """Return 1 for a correct class, else 0; in a multi-label task, the fraction correct."""
        if self.multilabel:
            return ((output > 0) == (self.members(labels) > 0)).float().mean(-1)
        return (output.argmax(-1) == labels).float()

    def margin_classes(self, labels: Tensor) -> Tensor:
        """Return the classes of the margin loss: numbers are clipped and rounded half to even."""
        if self.classes is None:
            return labels.clamp(self.low, self.high).round()
        return labels
