"""Explain a trained model's predictions, utterance by utterance.

N utterances, M modalities.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dhmd.base.errors import DhmdError
from dhmd.data.aligned import read_corpus
from dhmd.data.aligned.corpus import Array, Corpus
from dhmd.evaluation.explanations import (
    CodeWords,
    Explanations,
    corpus_code_words,
    words_of_codes,
)
from dhmd.evaluation.model_outputs import (
    CODES,
    EMBEDDING,
    MISSING_GROUP,
    OUTPUTS,
    group,
    read_outputs,
)
from dhmd.models.learner import Learner
from dhmd.models.members import Members
from dhmd.recipes import repository_root
from dhmd.training.device_corpus import DeviceCorpus
from dhmd.training.outputs import predict_without, scatter
from dhmd.training.trainer import evaluation
from dhmd.training.weights import Description


def explain(
    learner: Learner,
    members: Members,
    description: Description,
    data: DeviceCorpus,
    ids: Sequence[str],
    *,
    words: Sequence[Sequence[str]] | None = None,
    code_words: CodeWords | None = None,
) -> Explanations:
    """Explain the utterances of `data` with a loaded model.

    Args:
        learner, members, description: of `load_model`.
        data: N utterances, normalised.
        ids: of the N utterances.
        words: of each utterance, if they are known.
        code_words: what activates the dictionary codes; None to find it among `words`.
    """

    def outputs() -> Iterator[tuple[Array, dict[str, Tensor]]]:
        rows, buckets = np.arange(len(ids)), description.configuration.train.buckets
        for some, batch in evaluation(learner, members, data, rows, buckets):
            details = learner.details(batch).items()
            found = {key: value for key, value in details if not key.startswith(EMBEDDING)}
            for m, name in enumerate(data.modalities):
                drop_MB = torch.zeros_like(batch.present_EMB[0])
                drop_MB[m] = True
                found[f"{MISSING_GROUP}/{name}"] = predict_without(learner, batch, drop_MB)
            yield some, found

    with torch.no_grad():
        arrays = scatter(outputs(), len(ids))
    # Codes of different seeds do not correspond.
    codes = {space: array[0] for space, array in group(arrays, CODES).items()}
    arrays |= {f"{CODES}/{space}": codes_NMK for space, codes_NMK in codes.items()}
    present_NM = (data.lengths_MN > 0).T
    if code_words is None and words is not None:
        code_words = words_of_codes(codes, words, data.modalities, present_NM)
    return Explanations(
        task=description.task.kind,
        ids=tuple(ids),
        seeds=description.seeds,
        modalities=tuple(data.modalities),
        class_names=description.class_names,
        arrays=arrays,
        present_NM=present_NM,
        words=words,
        code_words=code_words or {},
    )


def trained_code_words(
    model: Path, description: Description, corpus: Corpus | None = None
) -> CodeWords | None:
    """Return the words of a model's dictionary codes over its training data.

    Args:
        model: the model directory, with the outputs of the train stage.
        description: of the model.
        corpus: the training data; None looks for it in the repository.

    Returns:
        None if the outputs or the training data are not here, or have no words.
    """
    if corpus is None:
        path = repository_root() / "data" / "aligned" / f"{description.dataset}.h5"
        try:
            corpus = read_corpus(path, fold=description.fold)
        except DhmdError:  # there is none, or one of another version
            return None
    if corpus.identity != description.identity or not (model / OUTPUTS).is_file():
        return None
    outputs = read_outputs(model, interpretability=True)
    return corpus_code_words(outputs, corpus) or None
