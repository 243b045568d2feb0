"""The content of a report as JSON values: sections of blocks.

The template (template.html) knows four kinds of blocks: text, heading, figure, table. It escapes
all texts; this module contains no HTML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from dhmd.data.aligned.corpus import SPLITS
from dhmd.evaluation.metrics import deterioration_sign
from dhmd.evaluation.model_outputs import SPACES
from dhmd.evaluation.tables import Table, dataset_tables
from dhmd.report import charts, model_charts
from dhmd.report.analysis import (
    WordIndex,
    code_words,
    mean_activation,
    only,
    used_codes,
    word_index,
    worst_utterances,
)
from dhmd.report.data import ReportData, Space, counted
from dhmd.report.headline import headline, lead, mean_and_std, overview_row, scope, tiles
from dhmd.report.page import table
from dhmd.report.published import METRICS, own_features, published_results
from dhmd.report.style import Chart, report_style

Block = dict[str, Any]

_MAX_TEXT: Final = 400  # characters of one cell
_CLASS: Final = {"f1": "F1", "f1_weighted": "weighted F1", "weighted_accuracy": "WAcc"}
_MAX_WORST: Final = 12
_MIN_ACTIVATION: Final = 0.005  # of a code whose words are listed
_CODE_COUNTS: Final = {
    "active": ("active codes per utterance and modality", 1),
    "used": ("codes that are active in at least one test utterance", 1),
    "dead": ("codes that are never active", 1),
    "perplexity": ("perplexity of the mean activation", 1),
    "overlap_same_utterance": ("overlap of two modalities, same utterance", 3),
    "overlap_different": ("overlap of two modalities, different utterances", 3),
}
_LATENT_OVERLAPS: Final = {
    "same_utterance": "overlap, same utterance (first seed)",
    "same_latent": "overlap, same ground-truth latent (first seed)",
    "different_latent": "overlap, different ground-truth latent (first seed)",
}


def build_report(data: ReportData) -> dict[str, Any]:
    """Draw every figure, and write every table and sentence of one dataset."""
    # `evaluate` leaves out the tables of what was not computed.
    tables = dataset_tables(data.folder)
    rest = iter(tables[1:])
    ablation_table = next(rest) if data.ablations else None
    missing_table = next(rest) if data.missing else None
    with report_style():
        spaces = [(s, _figures(model_charts.dictionary(data, s))) for s in data.spaces]
        sections = {
            "Results": [
                _text(headline(data)),
                *_figures(charts.results(data)),
                table(tables[0].header, tables[0].rows, tables[0].title),
                _seeds_table(data),
                *_classes_table(data),
                *_published(data),
            ],
            "Ablations and baselines": _comparison(
                _ablation_text(data), _figures(charts.ablations(data)), ablation_table
            ),
            "Missing modalities": _comparison(
                "The full model when modalities are dropped from every test utterance; an "
                "utterance without any other modality is left unchanged."
                if data.missing
                else "The model reads one modality, so that none can be dropped.",
                _figures(charts.missing_modalities(data)),
                missing_table,
            ),
            "Graph distillation": [
                *_graph_text(data),
                *_figures(
                    model_charts.edges(data),
                    model_charts.edge_reliability(data),
                ),
            ],
            "Dictionaries": _dictionaries(data, spaces),
            "Features": _figures(model_charts.embeddings(data))
            or [_text("This model does not separate features into two spaces.")],
            "Predictions": [
                *_figures(charts.calibration(data), charts.confusion(data)),
                {"kind": "heading", "text": "Worst utterances"},
                _worst(data),
            ],
            "Training": _figures(charts.training(data), charts.pretraining(data)),
            "Data": _data(data, _figures(charts.corpus(data))),
        }
    return {
        "dataset": data.name,
        "task": data.task,
        "overview": overview_row(data),
        "lead": lead(data),
        "tiles": tiles(data),
        "sections": [
            {"id": title.lower().partition(" ")[0], "title": title, "blocks": blocks}
            for title, blocks in sections.items()
        ],
    }


def _figures(*found: Chart | None) -> list[Block]:
    return [chart for chart in found if chart is not None]


def _text(text: str, style: str = "") -> Block:
    return {"kind": "text", "text": text, "style": style}


def _seeds_table(data: ReportData) -> Block:
    names = data.columns
    rows = [
        [str(seed), *(f"{values[m]:.3f}" if m in values else "–" for m in names)]
        for seed, values in data.test_scores.items()
    ]
    caption = f"Test split of {data.name}"
    return table(["seed", *names.values()], rows, caption, prose=(), folded="Every seed")


def _classes_table(data: ReportData) -> list[Block]:
    """Show the scores of each class as a binary problem."""
    found = data.summary.get("classes", {})
    if not found:
        return []
    labels = data.members(data.labels).sum(0)
    rows = [
        [name, str(count), *(f"{scores[m]['mean']:.3f}" if m in scores else "–" for m in _CLASS)]
        for count, (name, scores) in zip(labels, found.items(), strict=True)
    ]
    caption = (
        f"Each class, present or absent: {data.note()}, means over seeds. Weighted F1 weights "
        "present and absent by their support; WAcc is the mean of their recalls."
    )
    return [table(["class", "utterances", *_CLASS.values()], rows, caption)]


def _published(data: ReportData) -> list[Block]:
    entries = published_results(data)
    if not entries:
        return []

    def cells(values: Mapping[str, float]) -> list[str]:
        digits = {"mae": (1, 3), "corr": (1, 3)}
        scaled = [(values.get(m), *digits.get(m, (100, 1))) for m in METRICS]
        return ["–" if v is None else f"{v * scale:.{count}f}" for v, scale, count in scaled]

    own = {m: score["mean"] for m, score in data.summary["test"].items()}
    rows = [["**this run**", *cells(own), own_features(data) or "another kind", "", ""]]
    rows += [
        [e.model, *cells(e.values), e.features or "not recorded", e.source, e.comparable]
        for e in entries
    ]
    header = ["model", "ACC2", "ACC7", "MAE", "Corr", "text features", "source", "comparable"]
    return [
        {"kind": "heading", "text": "Published results"},
        _text(
            "Results that others have published for this corpus; none of them was run here. Only "
            "rows that are marked as comparable may be read beside this run. ACC2 leaves out "
            "labels of 0. Seed noise on MOSI is about ±0.8 in ACC2 and ±1.2 in ACC7."
        ),
        table(header, rows, prose=(0, 5, 6, 7)),
    ]


def _comparison(text: str, figure: list[Block], found: Table | None) -> list[Block]:
    blocks = [_text(text), *figure]
    if found is not None:
        blocks.append(table(found.header, found.rows, found.title, folded="As a table"))
    return blocks


def _ablation_text(data: ReportData) -> str:
    metric = data.primary
    compared = {name: entry.get(metric, {}) for name, entry in data.ablations.items()}
    tested = {name: entry for name, entry in compared.items() if "p" in entry}
    if not data.ablations:
        return "No variant was trained; ablate.variants in params.yaml selects them."
    if not tested:
        return "No variant could be compared: intervals need at least two seeds."
    sign = deterioration_sign(metric)
    significant = {name: entry for name, entry in tested.items() if entry["p"] < 0.05}
    worse = [name for name, entry in significant.items() if sign * entry["difference"] > 0]
    better = [name for name in significant if name not in worse]

    def listed(names: list[str]) -> str:
        titles = ", ".join(map(charts.variant_title, names))
        return f"{len(names)} ({titles})" if names else "none"

    return (
        f"In {data.columns[metric]} and after Holm's correction, of "
        f"{counted(len(tested), 'compared variant')} {listed(worse)} are worse than the full model "
        f"and {listed(better)} better; {len(tested) - len(significant)} are statistically "
        f"indistinguishable from it with {counted(len(data.seeds), 'seed')}."
    )


def _graph_text(data: ReportData) -> list[Block]:
    if not model_charts.has_edges(data):
        return [_text("This model has no distillation graph.")]
    if len(data.modalities) == 1:
        return [
            _text(
                "With one modality the only edge is the loop, of weight 1: self-distillation from "
                "the encoder's out-of-fold prediction."
            )
        ]
    sentences = []
    for space in data.spaces:
        if space.edges is not None:
            weights = np.nanmean(model_charts.matrix(data.edges[space.name]["mean"]), axis=1)
            first = int(np.nanargmax(weights))
            sentences.append(
                f"In {model_charts.UNITS[space.name]} the strongest teacher is "
                f"{data.modalities[first]} (mean weight {weights[first]:.2f} over targets; equal "
                f"weights would be {1 / len(weights):.2f})."
            )
    return [_text(" ".join(sentences))]


def _dictionaries(data: ReportData, spaces: Sequence[tuple[Space, list[Block]]]) -> list[Block]:
    if not any(space.codes is not None for space, _ in spaces):
        return [_text("This model has no dictionary.")]
    found = {name: data.dictionary[name] for name in SPACES if name in data.dictionary}
    rows = [
        [title, *(mean_and_std(entry.get(key, {}), digits) for entry in found.values())]
        for key, (title, digits) in _CODE_COUNTS.items()
    ]
    if any("overlap_by_latent" in entry for entry in found.values()):
        for key, title in _LATENT_OVERLAPS.items():
            values = [entry.get("overlap_by_latent", {}).get(key) for entry in found.values()]
            rows.append([title, *("–" if v is None else f"{v:.3f}" for v in values)])
    caption = f"Dictionary codes of {data.name}, test split, mean ± std over {scope(data)}"
    blocks = [table(["", *found], rows, caption)]
    index = word_index(data)
    if index is None:
        text = "The corpus has no words or the model reads no text, so that no words are listed."
        blocks.append(_text(text, "muted"))
    for space, figure in spaces:
        blocks += figure
        if index is not None and space.codes is not None:
            blocks.append(_words(data, space, index))
    return blocks


def _words(data: ReportData, space: Space, index: WordIndex) -> Block:
    assert space.codes is not None
    text = data.modalities.index("text")
    present = only(data.present, text)
    usage = mean_activation(space.codes, present)
    rows: list[list[Any]] = []
    for code in used_codes(space.codes, present, 10):
        if usage[code] >= _MIN_ACTIVATION:
            words: Any = [
                {"word": word.text, "note": f"{word.activation:.2f} · {word.utterances}×"}
                for word in code_words(index, space.codes[:, text, code], 8)
            ]
            rows.append([str(code), f"{usage[code]:.3f}", words or "no word above the limit"])
    title = f"Words of the codes of the {space.name} space"
    if not rows:
        return _text(f"{title}: text activates none.", "muted")
    note = data.note(split="all splits", count=len(data.corpus.ids), seeds=1)
    caption = (
        f"{title}: {note}. Words are ranked by how far the mean activation over their utterances "
        "lies above that over all utterances, in standard errors (at least one). Beside a word: "
        "that mean and the number of its utterances. Codes with a mean activation below "
        f"{_MIN_ACTIVATION:g} are left out."
    )
    return table(["code", "mean activation", "words"], rows, caption, prose=(2,))


def _worst(data: ReportData) -> Block:
    classes = data.classes if data.task != "regression" else ()
    truth = data.truth is not None
    header = ["utterance", "label", "prediction", "error", *(["truth"] if truth else []), "words"]
    rows = []
    for entry in worst_utterances(data, _MAX_WORST):
        if classes:
            label, prediction = data.name_of(entry["label"]), data.name_of(entry["prediction"])
        else:
            label, prediction = f"{entry['label']:+.2f}", f"{entry['prediction']:+.2f}"
            prediction += "" if entry["spread"] is None else f" ± {entry['spread']:.2f}"
        words = "–" if entry["words"] is None else _shortened(entry["words"])
        words += f" (no {', '.join(entry['absent'])})" if entry["absent"] else ""
        known = [f"{entry['truth']:+.2f}"] if truth else []
        error = f"{entry['error']:.{3 if classes else 2}f}"
        rows.append([entry["id"], label, prediction, error, *known, words])
    several = data.task == "multilabel"
    meaning = (
        "the error is 1 − the mean probability of the label over seeds and classes, the prediction "
        "the classes with a mean above ½"
        if several
        else "the error is 1 − the mean probability of the true class over seeds, the prediction "
        "the class with the highest mean"
        if classes
        else "the error is the mean absolute error over seeds, the prediction their mean"
    )
    if truth:
        meaning += "; truth is the label before noise"
    caption = f"The {len(rows)} worst of {data.note()}: {meaning}"
    return table(header, rows, caption, prose=(0, len(header) - 1))


def _data(data: ReportData, figure: list[Block]) -> list[Block]:
    corpus = data.corpus
    report: Mapping[str, Any] = corpus.report
    warnings = report.get("warnings", [])
    splits = []
    for split in SPLITS:
        rows = corpus.index(split)
        absent = (~corpus.present_NM[rows]).sum(0)
        videos = {corpus.videos[row] for row in rows}
        splits.append([split, *(f"{n:,}" for n in (len(rows), len(videos), *absent))])
    features = []
    for modality in corpus.modalities:
        values, lengths = corpus.features[modality].values, corpus.features[modality].lengths
        counts = (
            values.shape[1],
            lengths.min(initial=0),
            np.median(lengths),
            lengths.max(initial=0),
            int((~values.any(axis=1)).sum()),
        )
        cleaned = report.get("modalities", {}).get(modality, {}).get("values_cleaned")
        cleaned_text = "–" if cleaned is None else f"{cleaned:,}"
        features.append([modality, *(f"{count:,.0f}" for count in counts), cleaned_text])
    header = ["modality", "width", "shortest", "median", "longest", "zero steps", "cleaned values"]
    shown = ("modalities", "alignment", "segments", "videos", "warnings")
    facts = [
        [key.replace("_", " "), _one_line(value)]
        for key, value in report.items()
        if key not in shown
    ]
    blocks = [_text(f"Warning: {warning}", "warn") for warning in warnings]
    blocks += figure
    blocks.append(
        table(
            ["split", "utterances", "videos", *(f"no {m}" for m in corpus.modalities)],
            splits,
            f"Splits of {data.name}, fold {corpus.fold}",
        )
    )
    caption = "Features after cleaning: values that were not finite are set to 0 and counted"
    blocks.append(table(header, features, caption))
    if facts:
        folded = "The rest of the data report"
        blocks.append(table(["", ""], facts, prose=(0, 1), folded=folded))
    return blocks


def _one_line(value: object) -> str:
    if isinstance(value, Mapping):
        text = ", ".join(f"{k}: {_one_line(v)}" for k, v in value.items()) or "none"
    elif isinstance(value, list):
        text = ", ".join(map(_one_line, value)) or "none"
    else:
        text = str(value).lower() if isinstance(value, bool) else str(value)
    return _shortened(text)


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"
