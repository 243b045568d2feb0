"""Small files of each format, like the published ones."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np

WIDTHS = {"text": 8, "audio": 5, "vision": 4}
COUNTS = {"train": 12, "valid": 4, "test": 6}


def mmsa_splits(
    *, aligned: bool = True, seed: int = 0, counts: dict[str, int] = COUNTS, num_steps: int = 10
) -> dict[str, dict[str, Any]]:
    """Return MMSA's splits: padded float32 arrays, `text_bert`, two utterances per video."""
    rng = np.random.default_rng(seed)
    content = {}
    for split, count in counts.items():
        t = {"text": num_steps, "audio": num_steps, "vision": num_steps}
        if not aligned:
            t = {"text": num_steps, "audio": 3 * num_steps, "vision": 2 * num_steps}
        text_lengths = rng.integers(3, num_steps + 1, count)
        lengths = {"text": text_lengths, "audio": text_lengths, "vision": text_lengths}
        if not aligned:
            lengths["audio"] = rng.integers(1, 3 * num_steps + 1, count)
            lengths["vision"] = rng.integers(1, 2 * num_steps + 1, count)
        labels = np.round(rng.uniform(-3, 3, count), 1).astype(np.float32)
        part: dict[str, Any] = {
            "raw_text": np.array([f"utterance {n}" for n in range(count)]),
            "id": [f"{split}{n // 2}$_${n % 2}" for n in range(count)],
            "regression_labels": labels,
            "classification_labels": (np.sign(labels) + 1).astype(np.float64),
            "annotations": ["Negative"] * count,
        }
        for modality, width in WIDTHS.items():
            values = rng.normal(size=(count, t[modality], width)).astype(np.float32)
            # Each modality predicts the label.
            values += labels[:, None, None]
            real = np.arange(t[modality])[None] < lengths[modality][:, None]
            part[modality] = values * real[..., None]
        mask = (np.arange(num_steps)[None] < text_lengths[:, None]).astype(np.float32)
        ids = rng.integers(1, 1000, (count, num_steps)) * mask
        part["text_bert"] = np.stack([ids, mask, np.zeros_like(mask)], axis=1).astype(np.float32)
        if not aligned:
            part["audio_lengths"] = lengths["audio"].tolist()
            part["vision_lengths"] = lengths["vision"].tolist()
        content[split] = part
    return content


def joined(content: dict[str, dict[str, Any]], key: str) -> list[Any]:
    """Concatenate the arrays of all splits."""
    return [value for part in content.values() for value in part[key]]


def write_pickle(path: Path, content: object, protocol: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


WORDS = ("so", "this", "is", "the", "punch", "line", "laugh", "now")


def write_urfunny(folder: Path, *, seed: int = 0, lists: bool = True) -> dict[Any, dict[str, int]]:
    """Write UR-FUNNY v2's pickles, with 5 and 4 instead of 81 and 371 values per word.

    Returns:
        The numbers of words of context and punchline of each id.
    """
    rng = np.random.default_rng(seed)
    ids = {"train": range(1, 13), "dev": range(13, 17), "test": range(17, 23)}
    language: dict[Any, Any] = {}
    covarep: dict[Any, Any] = {}
    openface: dict[Any, Any] = {}
    labels: dict[Any, Any] = {}
    words: dict[Any, dict[str, int]] = {}
    for utterance_id in range(1, 23):
        sentences = rng.integers(0, 3)
        context = [int(rng.integers(1, 5)) for _ in range(sentences)]
        punchline = int(rng.integers(2, 7))
        words[utterance_id] = {"context": sum(context), "punchline": punchline}
        labels[utterance_id] = utterance_id % 2

        def rows(count: int, width: int, shift: float = labels[utterance_id]) -> Any:
            values = rng.normal(size=(count, width)) + shift
            return values.tolist() if lists else values

        language[utterance_id] = {
            "punchline_embedding_indexes": rng.integers(0, len(WORDS), punchline).tolist(),
            "context_embedding_indexes": [
                rng.integers(0, len(WORDS), count).tolist() for count in context
            ],
            "punchline_sentence": "so funny",
            "context_sentences": ["so"] * len(context),
        }
        for target, width in ((covarep, WIDTHS["audio"]), (openface, WIDTHS["vision"])):
            target[utterance_id] = {
                "punchline_features": rows(punchline, width),
                "context_features": [rows(count, width) for count in context],
            }
    vectors = rng.normal(size=(len(WORDS), WIDTHS["text"]))
    for name, content in {
        "data_folds": {split: list(names) for split, names in ids.items()},
        "language_sdk": language,
        "word_embedding_list": vectors.tolist() if lists else vectors,
        "covarep_features_sdk": covarep,
        "openface_features_sdk": openface,
        "humor_label_sdk": labels,
        "word_list": list(WORDS),
    }.items():
        write_pickle(folder / f"{name}.pkl", content)
    return words


def hkt_content() -> dict[str, list[Any]]:
    """Return the content of HKT's `mustard.pkl`, with ids as in MUStARD (`1_60`)."""
    rng = np.random.default_rng(0)
    content: dict[str, list[Any]] = {}
    number = 0
    for split, count in {"train": 24, "dev": 6, "test": 10}.items():
        items = []
        for _ in range(count):
            number += 1
            label = number % 2
            sentences = [
                " ".join(rng.choice(WORDS, rng.integers(1, 4))) for _ in range(rng.integers(0, 3))
            ]
            punchline = " ".join(rng.choice(WORDS, rng.integers(2, 6)))

            def rows(num_words: int, width: int, shift: int = label) -> np.ndarray:
                return rng.normal(size=(num_words, width)) + shift

            def part(text: Any, num_words: int) -> tuple[Any, ...]:
                return (text, rows(num_words, 4), rows(num_words, 5), rows(num_words, 4))

            context = part(sentences, sum(len(sentence.split()) for sentence in sentences))
            items.append((part(punchline, len(punchline.split())), context, f"1_{number}", label))
        content[split] = items
    return content


def write_glove(path: Path) -> dict[str, np.ndarray]:
    """Write a GloVe file of WORDS without the last, and with an entry of two words."""
    rng = np.random.default_rng(0)
    vectors = {word: rng.normal(size=WIDTHS["text"]).astype(np.float32) for word in WORDS[:-1]}
    lines = [f"{word} {' '.join(map(repr, map(float, v)))}" for word, v in vectors.items()]
    lines.insert(2, "so . " + " ".join(["0.5"] * WIDTHS["text"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return vectors


def write_mustard_files(folder: Path) -> None:
    """Write MUStARD's sarcasm_data.json and split_indices.p (protocol 2, NumPy indices)."""
    folder.mkdir(parents=True, exist_ok=True)
    shows = ("BBT", "FRIENDS", "GOLDENGIRLS", "FRIENDS", "BBT")
    records = {
        f"1_{n}": {"utterance": "so", "show": shows[n % 5], "sarcasm": bool(n % 2)}
        for n in range(1, 41)
    }
    (folder / "sarcasm_data.json").write_text(json.dumps(records), encoding="utf-8")
    index = np.arange(40)
    folds = [(index[index % 5 != k], index[index % 5 == k]) for k in range(5)]
    write_pickle(folder / "split_indices.p", folds, protocol=2)


def array_splits(*, seed: int = 0, padded: bool = False) -> dict[str, dict[str, np.ndarray]]:
    """Return splits of the arrays format, concatenated or padded, with words and feature names."""
    rng = np.random.default_rng(seed)
    content = {}
    for split, count in COUNTS.items():
        lengths = rng.integers(1, 7, count)
        labels = np.round(rng.uniform(-3, 3, count), 1)
        part = {
            "ids": np.array([f"{split}{n // 2}[{n % 2}]" for n in range(count)]),
            "labels": labels,
            "words": np.array(["so"] * int(lengths.sum())),
            "audio_names": np.array([f"f{d}" for d in range(WIDTHS["audio"])]),
        }
        for modality, width in WIDTHS.items():
            if padded:
                part[modality] = rng.normal(size=(count, 6, width)) + labels[:, None, None]
                part[f"{modality}_lengths"] = lengths
            else:
                rows = rng.normal(size=(int(lengths.sum()), width))
                part[modality] = rows + np.repeat(labels, lengths)[:, None]
                part[f"{modality}_offsets"] = np.concatenate([[0], np.cumsum(lengths)])
        content[split] = part
    return content


def write_arrays(
    folder: Path, content: dict[str, dict[str, np.ndarray]], suffix: str = "npz"
) -> None:
    """Write one `.npz` or `.h5` file per split; text in HDF5 has variable length."""
    for split, part in content.items():
        path = folder / f"{split}.{suffix}"
        if suffix == "npz":
            np.savez_compressed(path, **part)
            continue
        with h5py.File(path, "w") as file:
            for key, value in part.items():
                text = value.dtype.kind == "U"
                file.create_dataset(key, data=value.tolist() if text else value)


def dialogue_content(layout: str = "iemocap", *, seed: int = 0) -> tuple[Any, ...]:
    """Return DialogueRNN's tuple of IEMOCAP or MELD, with short vectors.

    IEMOCAP has text ids and sets of dialogues, MELD has integer ids and lists. The vectors of a
    class are scattered around the centre of the class.
    """
    rng = np.random.default_rng(seed)
    iemocap = layout == "iemocap"
    count, classes = 26, 6 if iemocap else 7
    names: list[Any] = [f"Ses0{n % 5 + 1}F_impro{n:02d}" if iemocap else n for n in range(count)]
    lengths = {name: int(rng.integers(3, 9)) for name in names}
    labels = {name: rng.integers(0, classes, n).tolist() for name, n in lengths.items()}
    centres = {m: rng.normal(size=(classes, width)) for m, width in WIDTHS.items()}

    def vectors(modality: str) -> dict[Any, Any]:
        return {
            name: [centres[modality][c] + rng.normal(size=WIDTHS[modality]) for c in dialogue]
            for name, dialogue in labels.items()
        }

    ids, speakers = {}, {}
    for name, n in lengths.items():
        ids[name] = [f"{name}_F{i:03d}" if iemocap else i for i in range(n)]
        speakers[name] = ["MF"[i % 2] if iemocap else [1, 0] for i in range(n)]
    sentences = {name: [f"sentence {i} of it" for i in range(n)] for name, n in lengths.items()}
    train, test = names[:20], names[20:]
    splits = (set(train), set(test)) if iemocap else (train, test)
    text, audio, vision = (vectors(modality) for modality in WIDTHS)
    if iemocap:
        return (ids, speakers, labels, text, audio, vision, sentences, *splits)
    sentiment = {name: [c % 3 for c in dialogue] for name, dialogue in labels.items()}
    features = (text, audio, vision) if layout == "meld_vision" else (text, audio)
    return (ids, speakers, labels, *features, sentences, *splits, sentiment)


def mult_splits(*, num_classes: int | None = 4, ids: bool = False, seed: int = 0) -> dict[str, Any]:
    """Return MulT's word-aligned splits of IEMOCAP (labels `[N, 4, 2]`, no ids), or of MOSI.

    IEMOCAP is padded at the start, MOSI at the end, and audio has −inf.
    """
    content = {}
    for split, part in mmsa_splits(seed=seed).items():
        rng = np.random.default_rng(seed + len(split))
        count = len(part["id"])
        arrays = {modality: part[modality].astype(np.float64) for modality in WIDTHS}
        arrays["audio"][0, 0, 0] = -np.inf
        if num_classes is None:
            arrays["labels"] = part["regression_labels"][:, None, None]
        else:
            arrays = {m: x_NTd[:, ::-1] for m, x_NTd in arrays.items()}
            present = rng.integers(0, 2, (count, num_classes))
            arrays["labels"] = np.eye(2)[present]
        if ids:
            rows = [[name.split("$")[0].encode(), b"0.5", b"2.25"] for name in part["id"]]
            arrays["id"] = np.array(rows)
        content[split] = arrays
    return content
