"""Trivial baselines: scores that any trained model must beat (ours).

They are the median label of the train split (for classification, its most frequent class), and
ridge regressions on features pooled over time: one on all modalities and one per modality. The
penalty and the pooling (mean, or mean, standard deviation and maximum) are selected on the
validation split.

N utterances, M modalities, F pooled features, C targets (1, or one per class).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dhmd.base.errors import DhmdError
from dhmd.base.label_sets import decode_sets, encode_sets
from dhmd.data.aligned import Corpus, Ragged
from dhmd.evaluation.metrics import PRIMARY_METRIC, Floats, Ints, deterioration_sign, score

POOLINGS: tuple[tuple[str, ...], ...] = (("mean",), ("mean", "std", "max"))


def trivial_baselines(corpus: Corpus, alphas: Sequence[float]) -> dict[str, Any]:
    """Compute the content of `trivial_baselines.json`.

    Args:
        corpus: a corpus with its test labels.
        alphas: candidate penalties of the ridge regressions.

    Returns:
        {name: {"inputs", "pooling", "alpha", "test": {metric: value}, "undefined"}}.
    """
    y_N = corpus.labels_N.astype(np.float64)
    split = {name: corpus.index(name) for name in ("train", "valid", "test")}
    test = split["test"]

    def test_scores(p_N: Floats) -> dict[str, Any]:
        scores = score(corpus.task, p_N[test], y_N[test])
        return {"test": scores.values, "undefined": list(scores.undefined)}

    result = {"median": test_scores(np.full(len(y_N), train_constant(corpus)))}
    pooled: dict[tuple[str, ...], dict[str, Floats]] = {pooling: {} for pooling in POOLINGS}
    for m, modality in enumerate(corpus.modalities):
        features = corpus.features[modality]
        statistics = step_statistics(features)
        present_N = corpus.present_NM[:, m] & (features.lengths > 0)
        for pooling in POOLINGS:
            pooled[pooling][modality] = pooled_features(
                statistics, present_N, split["train"], pooling
            )
    inputs_of = {"ridge": tuple(corpus.modalities)}
    if len(corpus.modalities) > 1:
        inputs_of |= {f"ridge_{modality}": (modality,) for modality in corpus.modalities}
    for name, inputs in inputs_of.items():
        fits = {}
        for pooling in POOLINGS:
            x_NF = np.concatenate([pooled[pooling][modality] for modality in inputs], axis=1)
            fits[pooling] = ridge(corpus.task, x_NF, y_N, split, alphas)
        # Ties go to the first, simpler pooling.
        pooling = min(POOLINGS, key=lambda p: fits[p].valid_error)
        result[name] = {
            "inputs": list(inputs),
            "pooling": list(pooling),
            "alpha": fits[pooling].alpha,
            **test_scores(fits[pooling].p_N),
        }
    return result


def train_constant(corpus: Corpus) -> float:
    """Return the best constant prediction on the train split.

    It is the median label of a regression, the most frequent class of a classification, or the set
    of the classes that more than half of the utterances of a multi-label task have.
    """
    train = corpus.labels_N[corpus.index("train")].astype(np.float64)
    if corpus.task == "multilabel":
        return float(encode_sets(decode_sets(train).mean(0) - 0.5))
    if corpus.task == "classification":
        classes, counts = np.unique(train, return_counts=True)
        return float(classes[counts.argmax()])
    return float(np.median(train))


def step_statistics(features: Ragged) -> dict[str, Floats]:
    """Compute mean, standard deviation and maximum over the steps of each utterance.

    Returns:
        {"mean", "std", "max"}: arrays [N, width], 0 for utterances without steps.
    """
    shape = (len(features), features.values.shape[1])
    mean, std, maximum = (np.zeros(shape) for _ in range(3))
    for n in np.flatnonzero(features.lengths).tolist():
        steps = features[n].astype(np.float64)
        mean[n], std[n], maximum[n] = steps.mean(0), steps.std(0), steps.max(0)
    return {"mean": mean, "std": std, "max": maximum}


def pooled_features(
    statistics: Mapping[str, Floats],
    present_N: NDArray[np.bool_],
    train: Ints,
    pooling: Sequence[str] = ("mean",),
) -> Floats:
    """Concatenate statistics over steps, and standardise them with the train split.

    Args:
        statistics: from `step_statistics`.
        present_N: whether an utterance has the modality.
        train: indices of the train split.
        pooling: names of the statistics.

    Returns:
        Features [N, F]; 0, the mean, where the modality is absent.
    """
    values = np.concatenate([statistics[name] for name in pooling], axis=1)
    rows = train[present_N[train]]
    if len(rows) == 0:
        return np.zeros_like(values)
    centre, spread = values[rows].mean(0), values[rows].std(0)
    standardised: Floats = (values - centre) / np.where(spread > 0, spread, 1.0)
    standardised[~present_N] = 0.0
    return standardised


@dataclass(frozen=True)
class Ridge:
    """A fitted ridge regression.

    Attributes:
        alpha: the selected penalty.
        valid_error: primary metric on the validation split, negated where larger is better.
        p_N: predictions of all utterances.
    """

    alpha: float
    valid_error: float
    p_N: Floats


def ridge(
    task: str, x_NF: Floats, y_N: Floats, split: Mapping[str, Ints], alphas: Sequence[float]
) -> Ridge:
    """Fit a ridge regression with the penalty that is best on validation in the primary metric.

    Each class is one 0/1 target. The class with the largest output is predicted, in a multi-label
    task all classes with an output above ½. Ties go to the larger penalty.

    Args:
        task: regression, classification or multilabel.
        x_NF: features.
        y_N: labels; those of the test split are not used.
        split: indices of train, valid and test.
        alphas: candidate penalties.
    """
    train, valid = split["train"], split["valid"]
    targets_NC = y_N[:, None]
    classes = np.unique(y_N[train])
    if task == "classification":
        targets_NC = (targets_NC == classes).astype(np.float64)
    elif task == "multilabel":
        targets_NC = decode_sets(y_N).astype(np.float64)
    centre_F, offset_C = x_NF[train].mean(0), targets_NC[train].mean(0)
    a = x_NF[train] - centre_F
    # All penalties share one eigendecomposition, that of the smaller Gram matrix.
    wide = a.shape[1] > a.shape[0]
    values, vectors = np.linalg.eigh(a @ a.T if wide else a.T @ a)
    centred_NC = targets_NC[train] - offset_C
    projected = vectors.T @ (centred_NC if wide else a.T @ centred_NC)
    metric = PRIMARY_METRIC[task]
    best: Ridge | None = None
    for alpha in sorted(alphas, reverse=True):
        solution = vectors @ (projected / (np.maximum(values, 0.0) + alpha)[:, None])
        weights_FC = a.T @ solution if wide else solution
        out_NC = (x_NF - centre_F) @ weights_FC + offset_C
        p_N = out_NC[:, 0]
        if task == "classification":
            p_N = classes[out_NC.argmax(1)]
        elif task == "multilabel":
            p_N = encode_sets(out_NC - 0.5)
        error = deterioration_sign(metric) * score(task, p_N[valid], y_N[valid]).values[metric]
        if best is None or error < best.valid_error:
            best = Ridge(alpha, error, p_N)
    if best is None:
        raise DhmdError("evaluate.ridge_alphas is empty, but must have at least one penalty")
    return best
