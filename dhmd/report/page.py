"""The report of one dataset: its sections in the order of the questions that a reader has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from dhmd.evaluation.metrics import COLUMNS, deterioration_sign
from dhmd.evaluation.model_outputs import SPACES
from dhmd.evaluation.tables import ORACLE, constant_title, dataset_tables
from dhmd.report.charts.comparisons import (
    SECOND,
    edge_controls,
    forest,
    variant_title,
    withheld,
)
from dhmd.report.charts.data import data
from dhmd.report.charts.dictionaries import activations
from dhmd.report.charts.embeddings import embeddings
from dhmd.report.charts.graphs import edges, gd_unit, reliability
from dhmd.report.charts.predictions import calibration, confusion, worst
from dhmd.report.charts.results import published, results
from dhmd.report.charts.training import pretraining, training
from dhmd.report.data_tables import cleaning_table, other_facts, split_table
from dhmd.report.dictionary import WordIndex, code_words, mean_activation, used_codes, word_index
from dhmd.report.inputs import Inputs, Space, counted
from dhmd.report.markup import (
    ABOUT_MARK,
    PROVENANCE_MARK,
    figures,
    folded,
    mean_and_spread,
    paragraph,
    safe,
    table,
    tiles,
)
from dhmd.report.published import Range, published_for
from dhmd.report.sheet import Picture

WORST: Final = 12
_CODES: Final = 10
_WORDS: Final = 8
_LEAST_ACTIVATION: Final = 0.005
_LONGEST_WORDS: Final = 320  # characters of an utterance's words that are shown


class Show(Protocol):
    """Puts pictures into the page and remembers them for files."""

    def __call__(self, *found: Picture | None) -> str: ...


@dataclass(frozen=True)
class Section:
    """One question: its anchor's last part, its title, and HTML."""

    name: str
    title: str
    body: str


@dataclass(frozen=True)
class Report:
    """All that is drawn and written of one dataset."""

    body: str
    links: Sequence[tuple[str, str]]
    pictures: Sequence[Picture]


def build(inputs: Inputs) -> Report:
    """Draw everything, once."""
    pictures: list[Picture] = []

    def shown(*found: Picture | None) -> str:
        pictures.extend(picture for picture in found if picture is not None)
        return figures(found, inputs.name)

    tables = dataset_tables(inputs.metrics)
    sections = [
        Section(
            "results",
            "Results",
            _results_text(inputs)
            + shown(results(inputs))
            + table(tables[0].header, tables[0].rows, caption=tables[0].title)
            + folded("Every seed", _seeds_table(inputs))
            + _published(inputs, shown(published(inputs))),
        ),
        Section("ablations", "Ablations and baselines", _ablations(inputs, shown, tables)),
        Section("missing", "Missing modalities", _missing(inputs, shown, tables)),
        Section("graphs", "Graph distillation", _graphs(inputs, shown)),
        Section("dictionaries", "Dictionaries", _dictionaries(inputs, shown)),
        Section("spaces", "Homogeneous and heterogeneous features", _spaces(inputs, shown)),
        Section(
            "predictions",
            "Predictions and errors",
            shown(calibration(inputs), confusion(inputs)) + _worst(inputs),
        ),
        Section("training", "Training", shown(training(inputs), pretraining(inputs))),
        Section("data", "Data", shown(data(inputs)) + _data_text(inputs)),
    ]
    body = "\n".join(
        f'<section id="{safe(inputs.name)}-{section.name}"><h3>{safe(section.title)}</h3>\n'
        f"{section.body}\n</section>"
        for section in sections
    )
    head = f"<h2>{safe(inputs.name)}</h2>\n{ABOUT_MARK}\n{_lead(inputs)}\n{_tiles(inputs)}"
    links = [(f"{inputs.name}-{s.name}", s.name.capitalize()) for s in sections]
    return Report(f"{head}\n{body}\n{PROVENANCE_MARK}", links, pictures)


def _lead(inputs: Inputs) -> str:
    corpus = inputs.corpus
    counts = ", ".join(f"{len(corpus.index(s)):,} {s}" for s in ("train", "valid", "test"))
    steps = "aligned to words" if corpus.alignment == "word" else "not aligned"
    kind = "Generated data with planted truth" if corpus.planted else "Data"
    used = ", ".join(inputs.modalities)
    return paragraph(
        f"{kind}: {counts} utterances of {len(set(corpus.videos)):,} videos, {inputs.task}, "
        f"modalities {used} ({steps}), fold {corpus.fold}. Corpus identity "
        f"{corpus.identity[:12]}, protocol {inputs.identity.protocol}. Test labels are read by the "
        "evaluation alone, once the models stand.",
        "muted",
    )


def _tiles(inputs: Inputs) -> str:
    metrics, floors = inputs.tables["summary"], inputs.tables["trivial_baselines"]
    names = COLUMNS[inputs.task]
    shown = [
        (mean_and_spread(metrics["test"].get(metric, {})), f"DHMD, test {names[metric]}", True)
        for metric in (inputs.primary, SECOND[inputs.task])
    ]
    primary = inputs.primary
    for floor, word in (
        ("ridge", "ridge on pooled features"),
        ("median", constant_title(inputs.task)),
    ):
        value = floors[floor]["test"].get(primary)
        text = "–" if value is None else f"{value:.3f}"
        shown.append((text, f"{word}, {names[primary]}", False))
    if "oracle" in metrics and primary in metrics["oracle"]:
        value = f"{metrics['oracle'][primary]:.3f}"
        shown.append((value, f"{ORACLE}, {names[primary]}", False))
    shown.append((counted(len(inputs.seeds), "seed"), f"{len(inputs.rows):,} utterances", False))
    return tiles(shown)


def _results_text(inputs: Inputs) -> str:
    metric = inputs.primary
    name = COLUMNS[inputs.task][metric]
    own = inputs.tables["summary"]["test"].get(metric, {})
    if "mean" not in own:
        return paragraph(f"The test split leaves {name} undefined.")
    sentences = [f"DHMD reaches {name} {mean_and_spread(own)} over {_n(inputs)}"]
    interval = inputs.tables["intervals"].get(metric)
    if interval:
        sentences[0] += f" (95 % over utterances: {interval['low']:.3f} to {interval['high']:.3f})"
    for floor, word in (
        ("ridge", "ridge on pooled features"),
        ("median", f"the {constant_title(inputs.task)}"),
    ):
        value = inputs.tables["trivial_baselines"][floor]["test"].get(metric)
        if value is not None:
            better = (value - own["mean"]) * deterioration_sign(metric)
            how = "better" if better > 0 else "worse"
            sentences.append(f"that is {abs(better):.3f} {how} than {word} ({value:.3f})")
    metrics = inputs.tables["summary"]
    if metric in metrics.get("oracle", {}):
        sentences.append(
            f"labels are noisy: the planted truth itself scores {metrics['oracle'][metric]:.3f}"
        )
    if metric in metrics.get("truth", {}):
        sentences.append(
            f"against the planted truth DHMD's {name} is "
            f"{mean_and_spread(metrics['truth'][metric])}"
        )
    if metrics["undefined"]:
        sentences.append(f"undefined: {', '.join(metrics['undefined'])}")
    return paragraph("; ".join(sentences) + ".")


def _n(inputs: Inputs) -> str:
    return f"{counted(len(inputs.seeds), 'seed')} and {len(inputs.rows):,} test utterances"


def _seeds_table(inputs: Inputs) -> str:
    names = COLUMNS[inputs.task]
    rows = [
        [str(seed), *(f"{v[m]:.3f}" if m in v else "–" for m in names)]
        for seed, v in inputs.test_seeds.items()
    ]
    return table(["seed", *names.values()], rows, words=(), caption=f"Test split of {inputs.name}")


def _published(inputs: Inputs, picture: str) -> str:
    entries = published_for(inputs)
    if not entries:
        return ""
    rows = [
        [
            e.model,
            *(_range(e.values.get(m), m) for m in ("acc2_non0", "acc7", "mae", "corr")),
            e.features or "not recorded",
            e.source,
            e.why,
        ]
        for e in entries
    ]
    header = ["published", "ACC2", "ACC7", "MAE", "Corr", "text features", "source", "comparable"]
    text = paragraph(
        "Numbers that others have published for this corpus, for orientation: none was run here, "
        "and only rows marked so may be read beside this run's. ACC2 leaves out labels of 0. "
        "Published seed noise on MOSI is about ±0.8 in ACC2 and ±1.2 in ACC7."
    )
    return f"<h4>Published numbers</h4>{text}{picture}" + table(header, rows, words=(0, 5, 6, 7))


def _range(value: Range | None, metric: str) -> str:
    if value is None:
        return "–"
    scale, form = (1.0, "{:.3f}") if metric in ("mae", "corr") else (100.0, "{:.1f}")
    return "–".join(form.format(scale * v) for v in dict.fromkeys(value))


def _ablations(inputs: Inputs, shown: Show, tables: Sequence[Any]) -> str:
    picture = forest(inputs)
    if picture is None:
        return paragraph("No variant was trained; ablate.variants in params.yaml names them.")
    entries = inputs.tables["ablations"]
    seen = [
        (name, entry[inputs.primary])
        for name, entry in entries.items()
        if "p" in entry.get(inputs.primary, {})
    ]
    sign = deterioration_sign(inputs.primary)
    worse = [n for n, e in seen if e["p"] < 0.05 and sign * e["difference"] > 0]
    better = [n for n, e in seen if e["p"] < 0.05 and sign * e["difference"] < 0]
    name = COLUMNS[inputs.task][inputs.primary]
    text = paragraph(
        f"Of {counted(len(seen), 'compared variant')}, in {name} and after Holm's correction: "
        f"{_listed(worse)} worse than the full model, {_listed(better)} better, the other "
        f"{len(seen) - len(worse) - len(better)} not told apart from it by "
        f"{counted(len(inputs.seeds), 'seed')}."
    )
    found = [t for t in tables[1:] if "variants" in t.title]
    return (
        text
        + shown(picture)
        + "".join(folded("As a table", table(t.header, t.rows, caption=t.title)) for t in found)
    )


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "none"
    return f"{len(names)} ({', '.join(map(variant_title, names))})"


def _missing(inputs: Inputs, shown: Show, tables: Sequence[Any]) -> str:
    picture = withheld(inputs)
    if picture is None:
        return paragraph("The model reads one modality; there is none to withhold.")
    text = paragraph(
        "The full model, trained as above, when modalities are taken from every test utterance "
        "(an utterance that has no other keeps what it has)."
    )
    found = [t for t in tables[1:] if "missing-modality" in t.title]
    return (
        text
        + shown(picture)
        + "".join(folded("As a table", table(t.header, t.rows, caption=t.title)) for t in found)
    )


def _graphs(inputs: Inputs, shown: Show) -> str:
    if not any(space.edges is not None for space in inputs.spaces):
        return paragraph("This model has no distillation graph.")
    if len(inputs.modalities) == 1:
        return paragraph(
            "With one modality the only edge is the loop, of weight 1: self-distillation by the "
            "encoder's out-of-fold prediction."
        )
    lines = []
    for space in inputs.spaces:
        if space.edges is None:
            continue
        mean = np.array(inputs.tables["edges"][space.name]["mean"], dtype=float)
        weight = np.nanmean(mean, axis=1)
        first = int(np.nanargmax(weight))
        lines.append(
            f"in {gd_unit(space.name)} {inputs.modalities[first]} teaches most (mean weight "
            f"{weight[first]:.2f} over targets; equal weights would be {1 / len(weight):.2f})"
        )
    text = "; ".join(lines) + "."
    controls = edge_controls(inputs)
    no_controls = "" if controls else paragraph(
        "No control of the edges was trained, so this does not say whether learned edges help.",
        "muted",
    )  # fmt: skip
    return (
        paragraph(text[0].upper() + text[1:])
        + shown(edges(inputs), reliability(inputs), controls)
        + no_controls
    )


def _dictionaries(inputs: Inputs, shown: Show) -> str:
    spaces = [space for space in inputs.spaces if space.codes is not None]
    if not spaces:
        return paragraph("This model has no dictionary.")
    parts = [_dictionary_table(inputs)]
    index = word_index(inputs)
    if index is None:
        parts.append(
            paragraph(
                "The corpus holds no words, or the model reads no text: no words to show.", "muted"
            )
        )
    for space in spaces:
        parts.append(shown(activations(inputs, space)))
        if index is not None:
            parts.append(_words(inputs, space, index))
    return "\n".join(parts)


_COUNTS: Final = {
    "active": ("active codes an utterance and modality", 1),
    "used": ("codes that any test utterance fires", 1),
    "dead": ("codes that none fires", 1),
    "perplexity": ("perplexity of the mean activation", 1),
    "overlap_same_utterance": ("overlap of two modalities, same utterance", 3),
    "overlap_different": ("overlap of two modalities, different utterances", 3),
}
_LATENT: Final = {
    "same_utterance": "overlap, same utterance (first seed)",
    "same_latent": "overlap, same planted latent (first seed)",
    "different_latent": "overlap, different planted latent (first seed)",
}


def _dictionary_table(inputs: Inputs) -> str:
    found = {s: inputs.tables["dictionary"][s] for s in SPACES if s in inputs.tables["dictionary"]}
    rows = [
        [text, *(mean_and_spread(entry.get(key, {}), digits) for entry in found.values())]
        for key, (text, digits) in _COUNTS.items()
    ]
    if any("overlap_by_latent" in entry for entry in found.values()):
        for key, text in _LATENT.items():
            values = [entry.get("overlap_by_latent", {}).get(key) for entry in found.values()]
            rows.append([text, *("–" if v is None else f"{v:.3f}" for v in values)])
    caption = f"Dictionary codes of {inputs.name}, test split, mean ± std over {_n(inputs)}"
    return table(["", *found], rows, caption=caption)


def _words(inputs: Inputs, space: Space, index: WordIndex) -> str:
    title = f"Words that fire a code most, {space.name} space"
    assert space.codes is not None
    text = inputs.modalities.index("text")
    there = np.zeros_like(inputs.present)
    there[:, text] = inputs.present[:, text]
    usage = mean_activation(space.codes, there)
    rows = []
    for code in used_codes(space.codes, there, _CODES):
        if usage[code] < _LEAST_ACTIVATION:
            break
        found = code_words(index, space.codes[:, text, code], _WORDS)
        chips = "".join(
            f'<span class="chip">{safe(word.text)} <small>{word.activation:.2f} · '
            f"{word.utterances}×</small></span>"
            for word in found
        )
        rows.append(
            f'<tr><td class="n">{code}</td><td class="n">{usage[code]:.3f}</td>'
            f"<td>{chips or safe('none stands out')}</td></tr>"
        )
    if not rows:
        return paragraph(f"{title}: text fires none.", "muted")
    head = '<tr><th class="n">code</th><th class="n">mean activation</th><th>words</th></tr>'
    note = inputs.note(split="all splits", count=len(inputs.corpus.ids), seeds=1)
    caption = (
        f"{title}: {note}. Ranked by how far the mean activation over a word's utterances lies "
        "above that over all, in standard errors, at least one; beside a word that mean and its "
        f"utterances. Codes below a mean activation of {_LEAST_ACTIVATION:g} are left out."
    )
    return (
        f'<div class="scroll"><table><caption>{safe(caption)}</caption>\n{head}\n'
        + "\n".join(rows)
        + "</table></div>"
    )


def _spaces(inputs: Inputs, shown: Show) -> str:
    picture = embeddings(inputs)
    if picture is None:
        return paragraph("This model does not part features into two spaces.")
    return shown(picture)


def _worst(inputs: Inputs) -> str:
    classes = inputs.classes if inputs.task == "classification" else ()
    header = ["utterance", "label", "prediction", "error"]
    truth = inputs.truth is not None
    header += (["planted truth"] if truth else []) + ["words"]
    rows = []
    for entry in worst(inputs, WORST):
        value: Any
        if classes:
            label, value = classes[int(entry["label"])], classes[entry["prediction"]]
            error = f"{entry['error']:.3f}"
        else:
            label, value = f"{entry['label']:+.2f}", f"{entry['prediction']:+.2f}"
            value += "" if entry["spread"] is None else f" ± {entry['spread']:.2f}"
            error = f"{entry['error']:.2f}"
        words = "–" if entry["words"] is None else _shortened(entry["words"])
        words += f" (no {', '.join(entry['absent'])})" if entry["absent"] else ""
        planted = [f"{entry['truth']:+.2f}"] if truth else []
        rows.append([entry["id"], label, value, error, *planted, words])
    what = (
        "error is 1 − the true class's mean probability over seeds, the prediction the class whose "
        "mean is highest"
        if classes
        else "error is the mean absolute error over seeds, the prediction their mean"
    )
    caption = f"The {len(rows)} worst of {inputs.note()}: {what}"
    # A label that the noise has carried far from the truth is no fault of the model.
    return "<h4>Worst utterances</h4>" + table(
        header, rows, words=(0, len(header) - 1), caption=caption
    )


def _shortened(words: str) -> str:
    return words if len(words) <= _LONGEST_WORDS else words[: _LONGEST_WORDS - 1] + "…"


def _data_text(inputs: Inputs) -> str:
    header, rows = split_table(inputs.corpus)
    parts = [table(header, rows, caption=f"Splits of {inputs.name}, fold {inputs.corpus.fold}")]
    header, rows = cleaning_table(inputs.corpus)
    caption = "Features after cleaning: values that were not finite are set to 0 and counted"
    parts.append(table(header, rows, caption=caption))
    facts = other_facts(inputs.corpus)
    if facts:
        parts.append(folded("The rest of the data report", table(["", ""], facts, words=(0, 1))))
    return "\n".join(parts)
