"""Explanations of single predictions: edges, codes, auxiliary outputs, contributions of modalities.

An explanation describes what the model's output depends on. It does not explain the speaker.

S seeds, N utterances, M modalities, O outputs (1, or one per class), K dictionary codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from dhmd.base.errors import DhmdError
from dhmd.data.aligned import Corpus
from dhmd.evaluation.model_outputs import (
    AUXILIARY,
    CODES,
    EDGES,
    EMBEDDING,
    MISSING_GROUP,
    ModelOutputs,
    arrays_in_group,
)

Array = np.ndarray[Any, Any]

# Groups of arrays that only the first seed has.
_FIRST_SEED: Final = (f"{CODES}/", f"{EMBEDDING}/")
# A word in fewer utterances describes these utterances rather than the code.
_MIN_UTTERANCES: Final = 5
_MIN_LIFT: Final = 1.0  # minimum increase of a listed word, in standard errors
_MIN_ACTIVATION: Final = 0.01  # minimum activation of a listed code
_MAX_CODES: Final = 6  # maximum number per space and modality
_MAX_WORDS: Final = 8  # maximum number per code


class Word(NamedTuple):
    """A word that activates a code.

    Attributes:
        text: the word.
        num_utterances: number of utterances with the word.
        activation: mean activation of the code in these utterances.
    """

    text: str
    num_utterances: int
    activation: float


# The words of each pair of space and code.
CodeWords = Mapping[tuple[str, int], Sequence[Word]]


class WordIndex:
    """An index of the words of utterances.

    Args:
        words: words of all utterances.
        rows: indices of the utterances that have text.

    Attributes:
        vocabulary: the distinct words, sorted.
        occurs: sparse 0/1 matrix [word, row].
    """

    def __init__(self, words: Sequence[Sequence[str]], rows: Array) -> None:
        self.rows = rows
        self.vocabulary = sorted({word for row in rows for word in words[row]})
        indices = {word: index for index, word in enumerate(self.vocabulary)}
        pairs = [(indices[w], column) for column, row in enumerate(rows) for w in {*words[row]}]
        word, column = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2).T
        shape = (len(self.vocabulary), len(rows))
        self.occurs = csr_array((np.ones(len(word)), (word, column)), shape)

    def words_of(self, activation_N: Array, limit: int) -> list[Word]:
        """Return the words in whose utterances a code is most active, at most `limit`.

        Words are ranked by their mean activation minus that of all utterances, in standard errors:
        a rare word must exceed the mean by more than a frequent one.

        Args:
            activation_N: activation of the code in all utterances.
            limit: the largest number of words.
        """
        values = activation_N[self.rows].astype(np.float64)
        if not len(values) or not self.vocabulary or values.std() == 0:
            return []
        count: Array = self.occurs.sum(axis=1)
        mean = self.occurs @ values / count
        lift = (mean - values.mean()) / (values.std() / np.sqrt(count))
        order = np.argsort(-lift, kind="stable")  # ties stay in alphabetical order
        order = order[(count[order] >= _MIN_UTTERANCES) & (lift[order] >= _MIN_LIFT)]
        return [Word(self.vocabulary[n], int(count[n]), float(mean[n])) for n in order[:limit]]


@dataclass(frozen=True, eq=False)
class Explanation:
    """The explanation of one prediction. Components that the model does not have are empty.

    Attributes:
        id: id of the utterance.
        words: its words; None if they are unknown.
        outputs: one row per seed: the prediction, or the probabilities, one column per class.
        edges: mean weight over seeds by space, one row per source (teacher), one column per target
            (student); NaN where the target is absent.
        auxiliary: mean output of the auxiliary heads over seeds by space, one row per modality.
        codes: active codes of the first seed: space, modality, code, activation, and the words
            that activate the code most.
        contributions: one row per modality: the output with all modalities (`full`), the output
            without this one (`without`), their `difference` (mean over seeds) and its `std`. The
            output of a classification is the probability of the predicted class. NaN where the
            modality cannot be dropped, because it is absent or the only one.
    """

    id: str
    words: tuple[str, ...] | None
    outputs: pd.DataFrame
    edges: Mapping[str, pd.DataFrame]
    auxiliary: Mapping[str, pd.DataFrame]
    codes: pd.DataFrame
    contributions: pd.DataFrame


@dataclass(frozen=True, eq=False, kw_only=True)
class Explanations:
    """The explanations of N predictions; `explanations[id]` is the `Explanation` of one of them.

    Attributes:
        task: regression, classification or multilabel.
        class_names: () for regression.
        arrays: arrays `[S, N, …]` by their names in outputs.h5: `prediction` (numbers, or
            probabilities with classes as the last axis) and, where the model has them,
            `missing/<modality>`, `edges/<space>`, `vertex/<space>` (outputs of the auxiliary
            heads), and `codes/<space>` `[N, M, K]` of the first seed.
        present_NM: whether an utterance has a modality.
        words: words of each utterance; None if they are unknown.
        code_words: the words that activate each code most, by space and code.
    """

    task: str
    ids: tuple[str, ...]
    seeds: tuple[int, ...]
    modalities: tuple[str, ...]
    class_names: tuple[str, ...]
    arrays: Mapping[str, Array]
    present_NM: Array
    words: Sequence[Sequence[str]] | None = None
    code_words: CodeWords = field(default_factory=dict)

    def __getitem__(self, utterance: str) -> Explanation:
        """Return the explanation of an utterance by its id.

        Raises:
            DhmdError: there is no such utterance.
        """
        if utterance not in self.ids:
            examples = ", ".join(self.ids[:3])
            raise DhmdError(f"there is no utterance {utterance!r}; the ids are {examples}, …")
        n, names = self.ids.index(utterance), list(self.modalities)
        columns = list(self.class_names) or ["prediction"]
        change_SM = self.contributions[:, n]
        full = float(self.explained_output[:, n].mean())
        sources, targets = pd.Index(names, name="source"), pd.Index(names, name="target")
        codes = [
            {
                "space": space,
                "modality": names[m],
                "code": code,
                "activation": activation,
                "words": ", ".join(word.text for word in self.code_words.get((space, code), ())),
            }
            for space, array in arrays_in_group(self.arrays, CODES).items()
            for m, activations in enumerate(array[n])
            for code, activation in active_codes(activations)
        ]
        return Explanation(
            id=utterance,
            words=None if self.words is None else tuple(self.words[n]),
            outputs=pd.DataFrame(self.outputs[:, n], pd.Index(self.seeds, name="seed"), columns),
            edges={
                space: pd.DataFrame(array[:, n].mean(0), sources, targets)
                for space, array in arrays_in_group(self.arrays, EDGES).items()
            },
            auxiliary={
                space: pd.DataFrame(array[:, n].mean(0).reshape(len(names), -1), names, columns)
                for space, array in arrays_in_group(self.arrays, AUXILIARY).items()
            },
            codes=pd.DataFrame(codes, columns=["space", "modality", "code", "activation", "words"]),
            contributions=pd.DataFrame(
                {
                    "full": full,
                    "without": full - change_SM.mean(0),
                    "difference": change_SM.mean(0),
                    "std": change_SM.std(0, ddof=1) if len(change_SM) > 1 else np.nan,
                },
                pd.Index(names, name="modality"),
            ),
        )

    def select_seeds(self, seeds: Sequence[int]) -> Explanations:
        """Return the explanations of these seeds, such as those that did not diverge."""
        if tuple(seeds) == self.seeds:
            return self
        rows = [self.seeds.index(seed) for seed in seeds]
        arrays = {k: a if k.startswith(_FIRST_SEED) else a[rows] for k, a in self.arrays.items()}
        return replace(self, seeds=tuple(seeds), arrays=arrays)

    @cached_property
    def outputs(self) -> Array:
        """Predictions, or probabilities of the classes, `[S, N, O]`."""
        return self._with_outputs(self.arrays["prediction"])

    @cached_property
    def _predicted(self) -> Array:
        """Index `[N]` of the explained output: the class with the highest mean probability."""
        best: Array = self.outputs.mean(0).argmax(-1)
        return best

    @cached_property
    def contributions(self) -> Array:
        """Explained output with all modalities minus that without one, `[S, N, M]`.

        NaN where the modality is absent or the only one, or where the difference is unknown.
        """
        contributions = np.full((*self.outputs.shape[:2], len(self.modalities)), np.nan)
        for m, name in enumerate(self.modalities):
            if (without := self.arrays.get(f"{MISSING_GROUP}/{name}")) is not None:
                reduced = self._select_output(self._with_outputs(without))
                contributions[..., m] = self.explained_output - reduced
        contributions[:, ~self.present_NM | (self.present_NM.sum(1, keepdims=True) < 2)] = np.nan
        return contributions

    @cached_property
    def explained_output(self) -> Array:
        """Prediction, or probability of the predicted class, `[S, N]`."""
        return self._select_output(self.outputs)

    def _select_output(self, outputs: Array) -> Array:
        selected: Array = outputs[:, np.arange(len(self.ids)), self._predicted]
        return selected

    def _with_outputs(self, array: Array) -> Array:
        return array.reshape(len(self.seeds), len(self.ids), -1).astype(np.float64)


def explain_outputs(
    outputs: ModelOutputs, corpus: Corpus, rows: Array, code_words: CodeWords
) -> Explanations:
    """Explain predictions of a model on its training corpus from the outputs of the train stage.

    Args:
        outputs: read with `interpretability`.
        corpus: the training corpus.
        rows: indices of the utterances.
        code_words: from `corpus_code_words`.
    """
    arrays = {
        name: array[rows] if name.startswith(_FIRST_SEED) else array[:, rows]
        for name, array in outputs.arrays.items()
    }
    return Explanations(
        task=outputs.task,
        ids=tuple(corpus.ids[n] for n in rows),
        seeds=outputs.seeds,
        modalities=outputs.modalities,
        class_names=corpus.class_names,
        arrays=arrays,
        present_NM=modality_presence(outputs, corpus)[rows],
        words=None if corpus.words is None else [corpus.words[n] for n in rows],
        code_words=code_words,
    )


def corpus_code_words(outputs: ModelOutputs, corpus: Corpus) -> CodeWords:
    """Return the words that activate each code of a model over its training corpus."""
    if corpus.words is None:
        return {}
    present_NM = modality_presence(outputs, corpus)
    return words_of_codes(outputs.codes, corpus.words, outputs.modalities, present_NM)


def modality_presence(outputs: ModelOutputs, corpus: Corpus) -> Array:
    """Return whether each utterance of the corpus has each modality of the model, `[N, M]`."""
    columns = [corpus.modalities.index(name) for name in outputs.modalities]
    present_NM: Array = corpus.present_NM[:, columns]
    return present_NM


def active_codes(activation_K: Array) -> list[tuple[int, float]]:
    """Return pairs of code and activation for the most active codes, largest first."""
    order = np.argsort(-activation_K, kind="stable")[:_MAX_CODES]
    return [(int(k), float(activation_K[k])) for k in order if activation_K[k] >= _MIN_ACTIVATION]


def words_of_codes(
    codes: Mapping[str, Array],
    words: Sequence[Sequence[str]],
    modalities: Sequence[str],
    present_NM: Array,
) -> CodeWords:
    """Return the words that activate each code for the modality text.

    Args:
        codes: activations `[N, M, K]` of each space.
        words: words of each utterance.
        modalities: names of the M modalities.
        present_NM: whether an utterance has a modality.

    Returns:
        (space, code) -> words; empty for models without text.
    """
    if "text" not in modalities:
        return {}
    text = tuple(modalities).index("text")
    rows = np.flatnonzero(present_NM[:, text])
    index = WordIndex(words, rows)
    code_words = {}
    for space, codes_NMK in codes.items():
        for code in np.flatnonzero((codes_NMK[rows, text] >= _MIN_ACTIVATION).any(0)).tolist():
            if top_words := index.words_of(codes_NMK[:, text, code], _MAX_WORDS):
                code_words[space, code] = top_words
    return code_words
