"""The content of a report as JSON values: sections of blocks.

The template (template.html) knows five kinds of blocks: text, heading, figure, table, utterances.
It escapes all texts; this module contains no HTML.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from dhmd.data.aligned.corpus import SPLITS
from dhmd.evaluation.explanations import explain_outputs
from dhmd.evaluation.metrics import deterioration_sign
from dhmd.evaluation.model_outputs import CODES, EDGES
from dhmd.evaluation.tables import Table, counted, dataset_tables, mean, variant_title
from dhmd.report import charts, model_charts
from dhmd.report.data import Array, ReportData
from dhmd.report.headline import (
    headline,
    lead,
    overview_row,
    published,
    scope,
    tiles,
)
from dhmd.report.model_charts import mean_activation, only, used_codes
from dhmd.report.page import table
from dhmd.report.style import Chart, report_style
from dhmd.report.utterances import errors, view

Block = dict[str, Any]

_MAX_TEXT: Final = 400  # characters of one cell
_CLASS: Final = {"f1": "F1", "f1_weighted": "weighted F1", "weighted_accuracy": "WAcc"}
# Utterances of the test split, and of each other split, that can be looked at.
_MAX_TEST: Final = 1000
_MAX_OTHER: Final = 200
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
    by_model = next(rest, None)
    models = [] if by_model is None else [table(by_model.header, by_model.rows, by_model.title)]
    with report_style():
        sections = {
            "Results": [
                _text(headline(data)),
                *_blocks(charts.results(data)),
                table(tables[0].header, tables[0].rows, tables[0].title),
                _seeds_table(data),
                *_classes_table(data),
                *_published(data),
            ],
            "Ablations and baselines": _comparison(
                _ablation_text(data), charts.ablations(data), ablation_table
            ),
            "Missing modalities": [
                *_comparison(
                    "The full model when modalities of the test utterances are dropped, or "
                    "replaced by noise; an utterance without any other modality is left unchanged."
                    if data.missing
                    else "The model reads one modality, so that none can be dropped.",
                    charts.missing_modalities(data),
                    missing_table,
                ),
                *models,
            ],
            "Graph distillation": [
                _text(_graph_text(data)),
                *_blocks(model_charts.edges(data), model_charts.edge_reliability(data)),
            ],
            "Dictionaries": _dictionaries(data),
            "Features": _blocks(model_charts.embeddings(data))
            or [_text("This model does not separate features into two spaces.")],
            "Predictions": _blocks(charts.calibration(data), charts.confusion(data)),
            "Utterances": _utterances(data),
            "Training": _blocks(charts.training(data), charts.pretraining(data)),
            "Data": _data(data),
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


def _blocks(*found: Chart | None) -> list[Block]:
    return [chart for chart in found if chart is not None]


def _text(text: str, style: str = "") -> Block:
    return {"kind": "text", "text": text, "style": style}


def _seeds_table(data: ReportData) -> Block:
    names = data.columns
    scores = data.scores[data.scores["kind"] == "model"].set_index("seed")
    rows = [
        [str(int(seed)), *("–" if v != v else f"{v:.3f}" for v in row)]
        for seed, row in zip(scores.index, scores[list(names)].to_numpy(), strict=True)
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
    found = published(data)
    if found is None:
        return []
    text = (
        "Results that others have published for this corpus; none of them was run here. Only "
        "rows that are marked as comparable may be read beside this run. ACC2 leaves out "
        "labels of 0. Seed noise on MOSI is about ±0.8 in ACC2 and ±1.2 in ACC7."
    )
    return [{"kind": "heading", "text": "Published results"}, _text(text), found]


def _comparison(text: str, figure: Chart | None, found: Table | None) -> list[Block]:
    blocks = [_text(text), *_blocks(figure)]
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
        titles = ", ".join(map(variant_title, names))
        return f"{len(names)} ({titles})" if names else "none"

    return (
        f"In {data.columns[metric]} and after Holm's correction, of "
        f"{counted(len(tested), 'compared variant')} {listed(worse)} are worse than the full model "
        f"and {listed(better)} better; {len(tested) - len(significant)} are statistically "
        f"indistinguishable from it with {counted(len(data.seeds), 'seed')}."
    )


def _graph_text(data: ReportData) -> str:
    spaces = data.arrays_by_space(EDGES)
    if not spaces:
        return "This model has no distillation graph."
    if len(data.modalities) == 1:
        return (
            "With one modality the only edge is the loop, of weight 1: self-distillation from the "
            "encoder's out-of-fold prediction."
        )
    sentences = []
    for space in spaces:
        weights = np.nanmean(model_charts.matrix(data.edges[space]["mean"]), axis=1)
        first = int(np.nanargmax(weights))
        sentences.append(
            f"In {model_charts.UNITS.get(space, space)} the strongest teacher is "
            f"{data.modalities[first]} (mean weight {weights[first]:.2f} over targets; equal "
            f"weights would be {1 / len(weights):.2f})."
        )
    return " ".join(sentences)


def _dictionaries(data: ReportData) -> list[Block]:
    spaces = data.arrays_by_space(CODES)
    if not spaces:
        return [_text("This model has no dictionary.")]
    found = {name: data.dictionary[name] for name in spaces if name in data.dictionary}
    rows = [
        [title, *(mean(entry.get(key, {}), digits) for entry in found.values())]
        for key, (title, digits) in _CODE_COUNTS.items()
    ]
    if any("overlap_by_latent" in entry for entry in found.values()):
        for key, title in _LATENT_OVERLAPS.items():
            values = [entry.get("overlap_by_latent", {}).get(key) for entry in found.values()]
            rows.append([title, *("–" if v is None else f"{v:.3f}" for v in values)])
    caption = f"Dictionary codes of {data.name}, test split, mean ± std over {scope(data)}"
    blocks = [table(["", *found], rows, caption)]
    known = data.corpus.words is not None and "text" in data.modalities
    if not known:
        reason = "The corpus has no words or the model reads no text, so that no words are listed."
        blocks.append(_text(reason, "muted"))
    for space, codes_NMK in spaces.items():
        blocks += _blocks(model_charts.dictionary(data, space, codes_NMK))
        if known:
            blocks.append(_words(data, space, codes_NMK))
    return blocks


def _words(data: ReportData, space: str, codes_NMK: Array) -> Block:
    present = only(data.present, data.modalities.index("text"))
    usage = mean_activation(codes_NMK, present)
    rows: list[list[Any]] = []
    for code in used_codes(codes_NMK, present, 10):
        if usage[code] >= _MIN_ACTIVATION:
            words: Any = [
                {"word": word.text, "note": f"{word.activation:.2f} · {word.utterances}×"}
                for word in data.code_words.get((space, int(code)), ())
            ]
            rows.append([str(code), f"{usage[code]:.3f}", words or "no word above the limit"])
    title = f"Words of the codes of the {space} space"
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


def _utterances(data: ReportData) -> list[Block]:
    corpus, labels_N = data.corpus, data.all_labels
    outputs = data.outputs.arrays["prediction"].reshape(len(data.seeds), len(labels_N), -1)
    order_N = np.argsort(-errors(data.task, outputs, labels_N), kind="stable")
    parts, counts = [], []
    for split in ("test", "valid", "train"):
        worst = order_N[corpus.split_N[order_N] == split]
        parts.append(np.sort(worst[: _MAX_TEST if split == "test" else _MAX_OTHER]))
        counts.append(f"{len(parts[-1]):,} of {len(worst):,} {split}")
    chosen = np.concatenate(parts)
    shown = view(
        explain_outputs(data.outputs, corpus, chosen, data.code_words),
        corpus.low,
        corpus.high,
        labels_N=labels_N[chosen],
        splits_N=corpus.split_N[chosen],
    )
    error = {
        "regression": "The error is the mean absolute error over seeds",
        "classification": "The error is 1 − the mean probability of the true class over seeds",
        "multilabel": "The error is 1 − the mean probability of the label over seeds and classes",
    }[data.task]
    text = (
        f"Single utterances, those with the largest errors: {', '.join(counts)}. {error}. Edges, "
        "auxiliary outputs and predictions are means over seeds, codes those of the first seed. "
        "A modality moves a prediction by the prediction with it minus that without it, which is "
        "known for test utterances. These numbers describe the model, not the speaker."
    )
    return [_text(text), {"kind": "utterances", "view": shown}]


def _data(data: ReportData) -> list[Block]:
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
    blocks += _blocks(charts.corpus(data))
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
