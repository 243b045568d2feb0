"""The content of a report as JSON values: sections of blocks.

There are five kinds of blocks: text, heading, figure, table and utterances. template.html renders
them and escapes all texts; this module contains no HTML.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from dhmd.data.aligned.corpus import SPLITS
from dhmd.evaluation.explanations import explain_outputs
from dhmd.evaluation.metrics import deterioration_sign
from dhmd.evaluation.model_outputs import CODES, EDGES
from dhmd.evaluation.tables import (
    Table,
    dataset_tables,
    format_mean,
    pluralize,
    variant_title,
)
from dhmd.report import charts, model_charts
from dhmd.report.data import Array, ReportData
from dhmd.report.headline import (
    corpus_text,
    headline_text,
    key_figures,
    overview_row,
    published_table,
)
from dhmd.report.model_charts import mean_activation, restrict_modality, used_codes
from dhmd.report.page import table_block
from dhmd.report.style import Chart, report_style
from dhmd.report.utterances import utterance_errors, utterances_view

Block = dict[str, Any]

_MAX_TEXT: Final = 400  # maximum number of characters of a cell
_CLASS_METRICS: Final = {"f1": "F1", "f1_weighted": "weighted F1", "weighted_accuracy": "WAcc"}
# Maximum numbers of utterances shown: of the test split, and of each other split.
_MAX_TEST: Final = 1000
_MAX_OTHER: Final = 200
_MIN_ACTIVATION: Final = 0.005  # minimum mean activation of a code whose words are listed
# Title and number of digits of each statistic of a dictionary.
_CODE_STATISTICS: Final = {
    "active": ("active codes per utterance and modality", 1),
    "used": ("codes that are active in at least one test utterance", 1),
    "dead": ("codes that are never active", 1),
    "perplexity": ("perplexity of the mean activation", 1),
    "overlap_same_utterance": ("overlap of two modalities, same utterance", 3),
    "overlap_different": ("overlap of two modalities, different utterances", 3),
}
_LATENT_OVERLAPS: Final = {
    "same_utterance": "overlap, same utterance (first seed)",
    "same_latent": "overlap, same planted latent class (first seed)",
    "different_latent": "overlap, different planted latent classes (first seed)",
}


def build_report(data: ReportData) -> dict[str, Any]:
    """Return the content of report.json, and the figures, of one dataset."""
    # Tables without rows are left out.
    results_table, *others = dataset_tables(data.folder)
    remaining = iter(others)
    ablation_table = next(remaining) if data.ablations else None
    missing_table = next(remaining) if data.missing else None
    with report_style():
        sections = {
            "Results": [
                _text_block(headline_text(data)),
                *_figures(charts.results(data)),
                table_block(results_table.header, results_table.rows, results_table.title),
                _seeds_table(data),
                *_classes_table(data),
                *_published_blocks(data),
            ],
            "Ablations and baselines": _comparison_blocks(
                _ablation_text(data), charts.ablations(data), ablation_table
            ),
            "Missing modalities": [
                *_comparison_blocks(
                    "Scores of the full model with modalities of the test utterances dropped or "
                    "replaced by noise; rows name these modalities. Utterances that have no other "
                    "modality are left unchanged."
                    if data.missing
                    else "The model has a single modality, which cannot be dropped.",
                    charts.missing_modalities(data),
                    missing_table,
                ),
                # The last table, if any, is the missing-modality test of every model.
                *(table_block(table.header, table.rows, table.title) for table in remaining),
            ],
            "Graph distillation": [
                _text_block(_graph_text(data)),
                *_figures(model_charts.edges(data), model_charts.edge_reliability(data)),
            ],
            "Dictionaries": _dictionary_blocks(data),
            "Features": _figures(model_charts.embeddings(data))
            or [_text_block("This model does not separate features into two spaces.")],
            "Predictions": _figures(charts.calibration(data), charts.confusion(data)),
            "Utterances": _utterance_blocks(data),
            "Training": _figures(charts.training(data), charts.pretraining(data)),
            "Data": _data_blocks(data),
        }
    return {
        "dataset": data.name,
        "task": data.task,
        "overview": overview_row(data),
        "lead": corpus_text(data),
        "tiles": key_figures(data),
        "sections": [
            {"id": title.lower().partition(" ")[0], "title": title, "blocks": blocks}
            for title, blocks in sections.items()
        ],
    }


def _figures(*charts: Chart | None) -> list[Block]:
    """Return the charts that exist."""
    return [chart for chart in charts if chart is not None]


def _text_block(text: str, style: str = "") -> Block:
    return {"kind": "text", "text": text, "style": style}


def _seeds_table(data: ReportData) -> Block:
    names = data.metric_titles
    scores = data.scores[data.scores["kind"] == "model"].set_index("seed")
    rows = [
        [str(int(seed)), *("–" if v != v else f"{v:.3f}" for v in row)]
        for seed, row in zip(scores.index, scores[list(names)].to_numpy(), strict=True)
    ]
    caption = f"Test split of {data.name}"
    header = ["seed", *names.values()]
    return table_block(header, rows, caption, text_columns=(), folded="Scores of every seed")


def _classes_table(data: ReportData) -> list[Block]:
    """Return the scores of each class as a binary problem; no block without classes."""
    classes = data.summary.get("classes", {})
    if not classes:
        return []
    counts = data.members(data.labels).sum(0)
    rows = [
        [name, str(n), *(f"{s[m]['mean']:.3f}" if m in s else "–" for m in _CLASS_METRICS)]
        for n, (name, s) in zip(counts, classes.items(), strict=True)
    ]
    caption = (
        f"Each class as a binary problem, present or absent: {data.note()}, means over seeds. "
        "Weighted F1 weights present and absent by their support; WAcc is the mean of their "
        "recalls."
    )
    return [table_block(["class", "utterances", *_CLASS_METRICS.values()], rows, caption)]


def _published_blocks(data: ReportData) -> list[Block]:
    table = published_table(data)
    if table is None:
        return []
    text = (
        "Results that others published for this corpus; none of them was run here. Compare this "
        "run only with rows that are marked as comparable. ACC2 leaves out utterances with label "
        "0. On MOSI, the standard deviation over seeds is about 0.8 in ACC2 and 1.2 in ACC7."
    )
    return [{"kind": "heading", "text": "Published results"}, _text_block(text), table]


def _comparison_blocks(text: str, figure: Chart | None, table: Table | None) -> list[Block]:
    blocks = [_text_block(text), *_figures(figure)]
    if table is not None:
        blocks.append(table_block(table.header, table.rows, table.title, folded="As a table"))
    return blocks


def _ablation_text(data: ReportData) -> str:
    metric = data.primary
    entries = {name: entry.get(metric, {}) for name, entry in data.ablations.items()}
    tested = {name: entry for name, entry in entries.items() if "p" in entry}
    if not data.ablations:
        return (
            "No variant was trained. To train variants, list them in ablate.variants (params.yaml)."
        )
    if not tested:
        return "No variant could be compared: intervals need at least two seeds."
    sign = deterioration_sign(metric)
    significant = {name: entry for name, entry in tested.items() if entry["p"] < 0.05}
    worse = [name for name, entry in significant.items() if sign * entry["difference"] > 0]
    better = [name for name in significant if name not in worse]

    def count(names: list[str]) -> str:
        titles = ", ".join(map(variant_title, names))
        return f"{len(names)} ({titles})" if names else "none"

    return (
        f"{pluralize(len(tested), 'variant')} compared with the full model in "
        f"{data.metric_titles[metric]} ({pluralize(len(data.seeds), 'seed')}, p < 0.05 after "
        f"Holm's correction): {count(worse)} significantly worse, {count(better)} significantly "
        f"better, {len(tested) - len(significant)} statistically indistinguishable."
    )


def _graph_text(data: ReportData) -> str:
    spaces = data.arrays_by_space(EDGES)
    if not spaces:
        return "This model has no distillation graph."
    if len(data.modalities) == 1:
        return (
            "With one modality, the only edge is the self-loop with weight 1: self-distillation "
            "from the out-of-fold prediction of the encoder."
        )
    sentences = []
    for space in spaces:
        weights = np.nanmean(model_charts.matrix(data.edges[space]["mean"]), axis=1)
        first = int(np.nanargmax(weights))
        sentences.append(
            f"In {model_charts.UNITS.get(space, space)}, the strongest teacher is "
            f"{data.modalities[first]} (mean weight over targets {weights[first]:.2f}; uniform "
            f"weights would be {1 / len(weights):.2f})."
        )
    return " ".join(sentences)


def _dictionary_blocks(data: ReportData) -> list[Block]:
    spaces = data.arrays_by_space(CODES)
    if not spaces:
        return [_text_block("This model has no dictionary.")]
    entries = {name: data.dictionary[name] for name in spaces if name in data.dictionary}
    rows = [
        [title, *(format_mean(entry.get(key, {}), digits) for entry in entries.values())]
        for key, (title, digits) in _CODE_STATISTICS.items()
    ]
    if any("overlap_by_latent" in entry for entry in entries.values()):
        for key, title in _LATENT_OVERLAPS.items():
            values = [entry.get("overlap_by_latent", {}).get(key) for entry in entries.values()]
            rows.append([title, *("–" if v is None else f"{v:.3f}" for v in values)])
    caption = f"Dictionary codes: {data.note()}, mean ± std over seeds"
    blocks = [table_block(["", *entries], rows, caption)]
    has_words = data.corpus.words is not None and "text" in data.modalities
    if not has_words:
        reason = "No words are listed, because the corpus has no words or the model reads no text."
        blocks.append(_text_block(reason, "muted"))
    for space, codes_NMK in spaces.items():
        blocks += _figures(model_charts.dictionary(data, space, codes_NMK))
        if has_words:
            blocks.append(_words_block(data, space, codes_NMK))
    return blocks


def _words_block(data: ReportData, space: str, codes_NMK: Array) -> Block:
    present = restrict_modality(data.present, data.modalities.index("text"))
    usage = mean_activation(codes_NMK, present)
    rows: list[list[Any]] = []
    for code in used_codes(codes_NMK, present, 10):
        if usage[code] >= _MIN_ACTIVATION:
            words: Any = [
                {"word": word.text, "note": f"{word.activation:.2f} · {word.num_utterances}×"}
                for word in data.code_words.get((space, int(code)), ())
            ]
            rows.append([str(code), f"{usage[code]:.3f}", words or "none above the threshold"])
    title = f"Words that activate the codes of the {space} space"
    if not rows:
        return _text_block(f"{title}: text activates no code.", "muted")
    note = data.note(split="all splits", count=len(data.corpus.ids), num_seeds=1)
    caption = (
        f"{title}: {note}. Words are ranked by the mean activation over their utterances minus "
        "that over all utterances, in standard errors; the threshold is one. After each word: the "
        "mean activation over its utterances, and their number. Codes with a mean activation "
        f"below {_MIN_ACTIVATION:g} are left out."
    )
    return table_block(["code", "mean activation", "words"], rows, caption, text_columns=(2,))


def _utterance_blocks(data: ReportData) -> list[Block]:
    corpus, labels_N = data.corpus, data.all_labels
    outputs_SNO = data.outputs.arrays["prediction"].reshape(len(data.seeds), len(labels_N), -1)
    order_N = np.argsort(-utterance_errors(data.task, outputs_SNO, labels_N), kind="stable")
    parts, counts = [], []
    for split in ("test", "valid", "train"):
        split_rows = order_N[corpus.split_N[order_N] == split]
        parts.append(np.sort(split_rows[: _MAX_TEST if split == "test" else _MAX_OTHER]))
        counts.append(f"{len(parts[-1]):,} of {len(split_rows):,} {split}")
    rows = np.concatenate(parts)
    view = utterances_view(
        explain_outputs(data.outputs, corpus, rows, data.code_words),
        corpus.low,
        corpus.high,
        labels_N=labels_N[rows],
        splits_N=corpus.split_N[rows],
    )
    error = {
        "regression": "The error is the mean absolute error over seeds",
        "classification": "The error is 1 − the mean probability of the true class over seeds",
        "multilabel": "The error is 1 − the mean probability of the label over seeds and classes",
    }[data.task]
    text = (
        f"The utterances with the largest errors: {', '.join(counts)}. {error}. Predictions, "
        "edges and auxiliary outputs are means over seeds; codes are those of the first seed. The "
        "contribution of a modality is the prediction with all modalities minus the prediction "
        "without this one; it is known for test utterances only. These numbers describe the "
        "model, not the speaker."
    )
    return [_text_block(text), {"kind": "utterances", "view": view}]


def _data_blocks(data: ReportData) -> list[Block]:
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
    shown_elsewhere = ("modalities", "alignment", "segments", "videos", "warnings")
    other_rows = [
        [key.replace("_", " "), _one_line(value)]
        for key, value in report.items()
        if key not in shown_elsewhere
    ]
    blocks = [_text_block(f"Warning: {warning}", "warn") for warning in warnings]
    blocks += _figures(charts.corpus(data))
    blocks.append(
        table_block(
            ["split", "utterances", "videos", *(f"no {m}" for m in corpus.modalities)],
            splits,
            f"Splits of {data.name}, fold {corpus.fold}",
        )
    )
    caption = "Features after cleaning, which replaces values that are not finite by 0"
    blocks.append(table_block(header, features, caption))
    if other_rows:
        folded = "Other entries of the data report"
        blocks.append(table_block(["", ""], other_rows, text_columns=(0, 1), folded=folded))
    return blocks


def _one_line(value: object) -> str:
    """Return a JSON value as one line of text, cut off after `_MAX_TEXT` characters."""
    if isinstance(value, Mapping):
        text = ", ".join(f"{k}: {_one_line(v)}" for k, v in value.items()) or "none"
    elif isinstance(value, list):
        text = ", ".join(map(_one_line, value)) or "none"
    else:
        text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"
