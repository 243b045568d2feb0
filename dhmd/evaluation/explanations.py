"""What a model computed for single utterances: edges, codes, auxiliary outputs, contributions.

An explanation describes what the model's output depends on; it does not explain the speaker.

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
    group,
)

Array = np.ndarray[Any, Any]

# A word of fewer utterances describes those utterances rather than the code.
_MIN_UTTERANCES: Final = 5
# In standard errors: words below it are not listed.
_MIN_LIFT: Final = 1.0
_MIN_ACTIVATION: Final = 0.01  # of a code that is listed
_MAX_CODES: Final = 6  # per space and modality
_MAX_WORDS: Final = 8  # per code


class Word(NamedTuple):
    """A word, the number of its utterances, and the mean activation of a code in them."""

    text: str
    utterances: int
    activation: float


# (space, code) -> words.
CodeWords = Mapping[tuple[str, int], Sequence[Word]]


class WordIndex:
    """The words of the utterances `rows`, which have text.

    Attributes:
        occurs: sparse 0/1 matrix, words of the sorted vocabulary before utterances.
    """

    def __init__(self, words: Sequence[Sequence[str]], rows: Array) -> None:
        self.rows = rows
        self.vocabulary = sorted({word for row in rows for word in words[row]})
        indices = {word: index for index, word in enumerate(self.vocabulary)}
        pairs = [(indices[w], column) for column, row in enumerate(rows) for w in {*words[row]}]
        at = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2).T
        shape = (len(self.vocabulary), len(rows))
        self.occurs = csr_array((np.ones(at.shape[1]), (at[0], at[1])), shape)

    def words_of(self, activation_N: Array, limit: int) -> list[Word]:
        """Find the words in whose utterances a code is most active.

        Words are ranked by how far their mean activation lies above that of all utterances, in
        standard errors, so that a rare word must stand out more than a frequent one.
        """
        values = activation_N[self.rows].astype(np.float64)
        if not len(values) or not self.vocabulary or values.std() == 0:
            return []
        count = self.occurs.sum(axis=1)
        mean = self.occurs @ values / count
        lift = (mean - values.mean()) / (values.std() / np.sqrt(count))
        order = np.argsort(-lift, kind="stable")  # ties stay in alphabetical order
        kept = order[(count[order] >= _MIN_UTTERANCES) & (lift[order] >= _MIN_LIFT)]
        return [Word(self.vocabulary[n], int(count[n]), float(mean[n])) for n in kept[:limit]]


@dataclass(frozen=True, eq=False)
class Explanation:
    """What a model computed for one utterance; what a model does not have is empty.

    Attributes:
        words: of the utterance, if they are known.
        outputs: a row per seed: the prediction, or a column per class (probabilities).
        edges: space -> mean weight over seeds, a row per source (teacher), a column per target
            (student); NaN where the target is absent.
        auxiliary: space -> mean output of the auxiliary heads over seeds, a row per modality.
        codes: active codes of the first seed: space, modality, code, activation, and the words
            that activate the code most.
        contributions: a row per modality: the output with all modalities, the output without this
            one, their difference (mean over seeds) and its std. The output of a classification is
            the probability of the predicted class. NaN where a modality cannot be dropped: it is
            absent, or the only one.
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
    """What a model computed for N utterances.

    Attributes:
        task: of the model.
        class_names: () for regression.
        arrays: by name as in outputs.h5, `[S, N, …]`: `prediction` (values, or probabilities in
            a last axis) and, where the model has them, `missing/<modality>`, `edges/<space>`,
            `vertex/<space>`, and `codes/<space>` `[N, M, K]` of the first seed.
        present_NM: which modality an utterance has.
        words: of each utterance, if they are known.
        code_words: (space, code) -> the words that activate it most.
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
            few = ", ".join(self.ids[:3])
            raise DhmdError(f"no utterance {utterance!r} is explained here; there are {few} …")
        n, names = self.ids.index(utterance), list(self.modalities)
        columns = list(self.class_names) or ["prediction"]
        change_SM = self.changes[:, n]
        full = float(self.shown[:, n].mean())
        sources, targets = pd.Index(names, name="source"), pd.Index(names, name="target")
        codes = [
            {
                "space": space,
                "modality": names[m],
                "code": code,
                "activation": activation,
                "words": ", ".join(word.text for word in self.code_words.get((space, code), ())),
            }
            for space, array in group(self.arrays, CODES).items()
            for m, activations in enumerate(array[n])
            for code, activation in active_codes(activations)
        ]
        return Explanation(
            id=utterance,
            words=None if self.words is None else tuple(self.words[n]),
            outputs=pd.DataFrame(self.outputs[:, n], pd.Index(self.seeds, name="seed"), columns),
            edges={
                space: pd.DataFrame(array[:, n].mean(0), sources, targets)
                for space, array in group(self.arrays, EDGES).items()
            },
            auxiliary={
                space: pd.DataFrame(array[:, n].mean(0).reshape(len(names), -1), names, columns)
                for space, array in group(self.arrays, AUXILIARY).items()
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

    def of_seeds(self, seeds: Sequence[int]) -> Explanations:
        """Return the explanations of some seeds, such as those that did not diverge."""
        if tuple(seeds) == self.seeds:
            return self
        rows = [self.seeds.index(seed) for seed in seeds]
        first = (f"{CODES}/", f"{EMBEDDING}/")  # of the first seed only
        arrays = {k: a if k.startswith(first) else a[rows] for k, a in self.arrays.items()}
        return replace(self, seeds=tuple(seeds), arrays=arrays)

    @cached_property
    def outputs(self) -> Array:
        """`[S, N, O]` predictions, or probabilities of the classes."""
        return self._with_outputs(self.arrays["prediction"])

    @cached_property
    def predicted(self) -> Array:
        """`[N]` the output that is shown: the class with the highest mean probability."""
        best: Array = self.outputs.mean(0).argmax(-1)
        return best

    @cached_property
    def changes(self) -> Array:
        """`[S, N, M]` how far each modality moves the shown output; NaN where unknown."""
        found = np.full((*self.outputs.shape[:2], len(self.modalities)), np.nan)
        for m, name in enumerate(self.modalities):
            if (without := self.arrays.get(f"{MISSING_GROUP}/{name}")) is not None:
                found[..., m] = self.shown - self._shown(self._with_outputs(without))
        found[:, ~self.present_NM | (self.present_NM.sum(1, keepdims=True) < 2)] = np.nan
        return found

    @cached_property
    def shown(self) -> Array:
        """`[S, N]` the value, or the probability of the predicted class."""
        return self._shown(self.outputs)

    def _shown(self, outputs: Array) -> Array:
        shown: Array = outputs[:, np.arange(len(self.ids)), self.predicted]
        return shown

    def _with_outputs(self, array: Array) -> Array:
        return array.reshape(len(self.seeds), len(self.ids), -1).astype(np.float64)


def explain_outputs(
    outputs: ModelOutputs, corpus: Corpus, rows: Array, code_words: CodeWords
) -> Explanations:
    """Explain the utterances `rows` of a model's own corpus from what the train stage stored.

    Args:
        outputs: read with `interpretability`.
        code_words: from `corpus_code_words`.
    """
    arrays = {
        name: array[rows] if name.startswith((f"{CODES}/", f"{EMBEDDING}/")) else array[:, rows]
        for name, array in outputs.arrays.items()
    }
    return Explanations(
        task=outputs.task,
        ids=tuple(corpus.ids[n] for n in rows),
        seeds=outputs.seeds,
        modalities=outputs.modalities,
        class_names=corpus.class_names,
        arrays=arrays,
        present_NM=present(outputs, corpus)[rows],
        words=None if corpus.words is None else [corpus.words[n] for n in rows],
        code_words=code_words,
    )


def corpus_code_words(outputs: ModelOutputs, corpus: Corpus) -> CodeWords:
    """Return the words that activate the codes over a model's training data."""
    if corpus.words is None:
        return {}
    return words_of_codes(outputs.codes, corpus.words, outputs.modalities, present(outputs, corpus))


def present(outputs: ModelOutputs, corpus: Corpus) -> Array:
    """Return which of the model's modalities each utterance of the corpus has, `[N, M]`."""
    columns = [corpus.modalities.index(name) for name in outputs.modalities]
    found: Array = corpus.present_NM[:, columns]
    return found


def active_codes(activation_K: Array) -> list[tuple[int, float]]:
    """Return the most active codes and their activations, largest first."""
    order = np.argsort(-activation_K, kind="stable")[:_MAX_CODES]
    return [(int(k), float(activation_K[k])) for k in order if activation_K[k] >= _MIN_ACTIVATION]


def words_of_codes(
    codes: Mapping[str, Array],
    words: Sequence[Sequence[str]],
    modalities: Sequence[str],
    present_NM: Array,
) -> CodeWords:
    """Return the words that activate each code on text; empty for models without text.

    Args:
        codes: space -> activations `[N, M, K]`.
    """
    if "text" not in modalities:
        return {}
    text = tuple(modalities).index("text")
    rows = np.flatnonzero(present_NM[:, text])
    index = WordIndex(words, rows)
    found = {}
    for space, codes_NMK in codes.items():
        for code in np.flatnonzero((codes_NMK[rows, text] >= _MIN_ACTIVATION).any(0)).tolist():
            if listed := index.words_of(codes_NMK[:, text, code], _MAX_WORDS):
                found[space, code] = listed
    return found
