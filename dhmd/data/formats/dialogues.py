"""Read DialogueRNN's pickles of IEMOCAP and MELD, with one feature vector per utterance.

A file is a tuple. Most items map a dialogue to a list over its utterances, and two list the train
and test dialogues. `options.layout` names the order of the items, as these loaders unpack them:

- `iemocap`: IEMOCAP_features_raw.pkl (declare-lab/conv-emotion, DialogueRNN/dataloader.py);
- `meld`: MELD_features_raw.pkl, without vision (DialogueGCN/dataloader.py there);
- `meld_vision`: MELD_features_raw1.pkl (hujingwen6666/MMGCN, dataloader.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.data.csd import Array, segment_id
from dhmd.data.formats.conversion import as_dict, as_labels, as_numbers, as_texts, as_video_id
from dhmd.data.formats.interface import (
    ImportJob,
    ParsedCorpus,
    Segment,
    numbered_names,
    validation_sample,
)
from dhmd.data.formats.pickles import load_pickle

_LAYOUTS = {
    "iemocap": "ids speakers emotion text audio vision sentences train test",
    "meld": "ids speakers emotion text audio sentences train test sentiment",
    "meld_vision": "ids speakers emotion text audio vision sentences train test sentiment",
}
# For each layout and label, the names of the classes by their number in the file.
_CLASSES: dict[str, dict[str, tuple[str, ...]]] = {
    "iemocap": {"emotion": ("happy", "sad", "neutral", "angry", "excited", "frustrated")},
    "meld": {
        "emotion": ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"),
        "sentiment": ("neutral", "positive", "negative"),
    },
}


def read_dialogues(job: ImportJob) -> ParsedCorpus:
    """Read the recipe's sequence `pickle`; each dialogue becomes a video.

    `labels.column` is emotion (or 0) or, in MELD, sentiment. `labels.classes` lists the classes to
    use, `happy+excited` joins two of them, and utterances of other classes are left out. With
    `options.context`, the earlier utterances of a dialogue are steps of an utterance, too. The
    files have no validation split, so a tenth of the train dialogues is used, chosen by the hash
    of the id (ours).
    """
    layout, with_context = job.options(layout=tuple(_LAYOUTS), context=(False, True))
    path = job.file("pickle")
    where, names = str(path), _LAYOUTS[layout].split()
    content = load_pickle(path)
    if not isinstance(content, list | tuple) or len(content) != len(names):
        raise DhmdError(
            f"{where} is not a tuple of {len(names)} items ({', '.join(names)}): correct "
            f"options.layout of {job.recipe.source}, which is {layout}"
        )
    parts = dict(zip(names, content, strict=True))
    splits = _splits(parts, where)
    key = str(job.recipe.labels.column or "emotion")
    known = _CLASSES[layout.partition("_")[0]]
    if key not in known:
        raise DhmdError(
            f"{job.recipe.source}: labels.column is {key!r}, but must be {' or '.join(known)}"
        )
    columns = {m: job.recipe.modalities[m] for m in job.recipe.modality_names}
    keys = [*columns.values(), "sentences", *([key] if job.labelled else [])]
    for name in keys:
        if name not in parts or name in ("ids", "speakers", "train", "test"):
            raise DhmdError(f"{where} has no features {name!r}; it has {', '.join(names)}")
        as_dict(parts[name], where=f"{where}: {name}")
    classes = _class_numbers(job, known[key]) if job.labelled else {}
    dialogues = [
        parsed
        for split, ids in splits.items()
        for dialogue in ids
        if (parsed := _dialogue(job, parts, columns, key, dialogue, split, where)) is not None
    ]
    job.problems.raise_first(job.recipe.name)
    widths = {m: rows.shape[1] for m, rows in dialogues[0][2].items()}
    return ParsedCorpus(
        feature_names={m: numbered_names(m, width) for m, width in widths.items()},
        segments=_segments(job, dialogues, classes, with_context),
        has_words="text" in columns,
        notes={"layout": layout, "context": with_context},
    )


def _splits(parts: Mapping[str, Any], where: str) -> dict[str, list[Any]]:
    """Return the dialogues of train, valid and test."""
    splits = {}
    for split in ("train", "test"):
        if not isinstance(parts[split], list | tuple | set | frozenset | np.ndarray):
            raise DhmdError(f"{where}: {split} is not a list of dialogues")
        splits[split] = sorted(parts[split], key=str)  # the order of a set is arbitrary
        if len(splits[split]) < 2:
            raise DhmdError(
                f"{where}: {split} has {len(splits[split])} dialogues, but must have at least 2"
            )
    valid = validation_sample(splits["train"], "valid")
    return {
        "train": [name for name in splits["train"] if name not in valid],
        "valid": [name for name in splits["train"] if name in valid],
        "test": splits["test"],
    }


def _class_numbers(job: ImportJob, known: Sequence[str]) -> dict[int, int]:
    """Return the class index in the recipe of each class number in the file."""
    numbers: dict[int, int] = {}
    for index, joined in enumerate(job.recipe.labels.classes):
        for name in joined.split("+"):
            if name not in known or known.index(name) in numbers:
                raise DhmdError(
                    f"{job.recipe.source}: labels.classes has {joined!r}, but may only have "
                    f"{', '.join(known)}, each once; + joins two classes"
                )
            numbers[known.index(name)] = index
    return numbers


Dialogue = tuple[str, str, dict[str, Array], Array, tuple[str, ...]]


def _dialogue(
    job: ImportJob,
    parts: Mapping[str, Any],
    columns: Mapping[str, str],
    key: str,
    dialogue: Any,
    split: str,
    where: str,
) -> Dialogue | None:
    """Return video, split, features `[N, d]`, labels and sentences of one dialogue.

    If the dialogue is invalid, the problem is recorded, and the result is None.
    """
    location = f"{where}: dialogue {dialogue!r}"
    try:
        video = as_video_id(dialogue, where=where)
        for name in (*columns.values(), "sentences", *([key] if job.labelled else [])):
            if dialogue not in parts[name]:
                raise DhmdError(f"{location} has no {name}")
        sentences = as_texts(parts["sentences"][dialogue], where=f"{location}, sentences")
        labels_N = np.full(len(sentences), np.nan)
        if job.labelled:
            labels = parts[key][dialogue]
            labels_N = as_labels(labels, count=len(sentences), where=f"{location}, {key}")
        features = {}
        for modality, name in columns.items():
            rows_Nd = as_numbers(parts[name][dialogue], axes=2, where=f"{location}, {name}")
            if len(rows_Nd) != len(sentences):
                raise DhmdError(
                    f"{location} has {len(sentences)} sentences, but {len(rows_Nd)} rows of {name}"
                )
            features[modality] = rows_Nd
    except DhmdError as error:
        job.problems.add("dialogues", str(error))
        return None
    return video, split, features, labels_N, sentences


def _segments(
    job: ImportJob,
    dialogues: Sequence[Dialogue],
    classes: Mapping[int, int],
    with_context: bool,
) -> Iterator[Segment]:
    for video, split, features, labels_N, sentences in dialogues:
        for n, label in enumerate(labels_N.tolist()):
            if job.labelled and label not in classes:
                job.problems.leave_out(split, "their class is not in labels.classes")
                continue
            steps = slice(0 if with_context else n, n + 1)
            yield Segment(
                id=segment_id(video, n),
                video=video,
                split=split,
                label=float(classes.get(label, np.nan)),
                steps={modality: rows_Nd[steps] for modality, rows_Nd in features.items()},
                words=sentences[steps] if "text" in features else (),
            )
