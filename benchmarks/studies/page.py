"""Render docs/results.md: the tables of the study and what they show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TITLES = {
    "noisy": "*noisy*: labels with annotator noise",
    "clean": "*clean*: the same without annotator noise",
    "no_cue": "*no cue*: noisy, and nothing in the features tells an unreliable modality",
    "audio": "*audio*: noisy, audio planted as the reliable teacher instead of text",
    "large": "*large*: noisy, with 5,000 train utterances instead of 600",
}

_HEAD = """# Results on generated data

This page and `metrics/studies/distillation.json` are written by

    python -m benchmarks.studies distillation

All numbers here are on **generated data** (docs/data.md): they say what the method does where the
truth is planted, and compare with no published table. A corpus is one draw of the generator; the
corpora of this page have seeds that nothing was tuned on. Differences are the other's test MAE
minus the full model's, so above 0 the full model is better; intervals are 95 % t intervals over
corpora (means over seeds), since an interval over seeds on one corpus covers training noise only.
On noisy and clean corpora the full model and no_distillation are trained with several seeds, all
else with the first alone, and compared with the full model's first.
An interrupted study goes on where it was.
"""


def page(summary: Mapping[str, Mapping[str, Any]]) -> str:
    """The whole page."""
    parts = [_HEAD, "## What was expected, and what came\n", _verdicts(summary)]
    for regime, entry in summary.items():
        parts.append(f"## {_TITLES[regime]}\n")
        comparisons = {k: v for k, v in entry.items() if k not in ("scores", "meaning")}
        if comparisons:
            parts.append(_comparisons(comparisons))
        parts.append(_scores(entry["scores"]))
        parts.append(_meaning(entry["meaning"]))
    parts.append(_TRIED)
    return "\n".join(parts)


def _signed(value: float) -> str:
    return f"{value:+.4f}"


def _interval(entry: Mapping[str, Any], prefix: str = "") -> str:
    centre = entry["difference"] if not prefix else entry[f"{prefix}difference"]
    low, high = entry[f"{prefix}ci_low"], entry[f"{prefix}ci_high"]
    return f"{_signed(centre)} [{_signed(low)}, {_signed(high)}]"


def _verdicts(summary: Mapping[str, Mapping[str, Any]]) -> str:
    lines = []
    noisy = summary.get("noisy", {}).get("no_distillation")
    if noisy:
        lines.append(
            "- *noisy*: distillation helps (no_distillation − full has its interval above 0): "
            f"{_interval(noisy)} over {noisy['corpora']} corpora: "
            f"**{_met(noisy['ci_low'] > 0)}**."
        )
    clean = summary.get("clean", {}).get("no_distillation")
    if clean:
        lines.append(
            "- *clean*: distillation does no harm (interval above −0.01): "
            f"{_interval(clean)} over {clean['corpora']} corpora: "
            f"**{_met(clean['ci_low'] > -0.01)}**."
        )
    for regime in ("noisy", "large", "no_cue"):
        edges = summary.get(regime, {}).get("meaning", {}).get("edges")
        if edges:
            lines.append(_edge_verdict(regime, edges))
    for regime, teacher in (("noisy", "text"), ("audio", "audio")):
        edges = summary.get(regime, {}).get("meaning", {}).get("edges")
        if edges:
            lines.append(_teacher_verdict(regime, teacher, edges))
    for regime in ("noisy", "clean", "large"):
        meaning = summary.get(regime, {}).get("meaning")
        if meaning:
            lines += _part_verdicts(regime, meaning)
    return "\n".join(lines) + "\n"


def _met(holds: bool) -> str:
    return "met" if holds else "not met"


def _edge_verdict(regime: str, edges: Mapping[str, Any]) -> str:
    reached = edges["reference"]["rank_correlation"]
    shown = []
    for space in ("homogeneous", "heterogeneous"):
        found = edges[space]["rank_correlation"]
        values = ", ".join(f"{name} {found[name]:+.2f}" for name in found)
        shown.append(f"{space} {values}")
    best = ", ".join(f"{name} {reached[name]:+.2f}" for name in reached)
    if regime == "no_cue":
        wanted = "rank correlation of edges with planted reliability about 0 where no cue is"
        holds = all(
            abs(value) < 0.1
            for space in ("homogeneous", "heterogeneous")
            for value in edges[space]["rank_correlation"].values()
        )
    else:
        wanted = "it is at least half of what the same network reaches on planted reliabilities"
        holds = all(
            max(
                edges[space]["rank_correlation"].get(name, 0.0)
                for space in ("homogeneous", "heterogeneous")
            )
            >= reached[name] / 2
            for name in reached
        )
    return f"- *{regime}*: {wanted}: {'; '.join(shown)}; reachable: {best}: **{_met(holds)}**."


def _teacher_verdict(regime: str, teacher: str, edges: Mapping[str, Any]) -> str:
    shown = []
    holds = True
    for space in ("homogeneous", "heterogeneous"):
        means = edges[space]["mean_out"]
        shown.append(f"{space} " + ", ".join(f"{k} {v:.2f}" for k, v in means.items()))
        holds &= max(means, key=lambda name: means[name]) == teacher
    return (
        f"- *{regime}*: the edges out of {teacher}, the planted teacher, weigh most on average: "
        f"{'; '.join(shown)}: **{_met(holds)}**."
    )


def _part_verdicts(regime: str, meaning: Mapping[str, Any]) -> list[str]:
    lines = []
    for space, entry in meaning["dictionary"].items():
        same, other = entry["same_latent"], entry["different_latent"]
        lines.append(
            f"- *{regime}*, {space} dictionary: two utterances with the same planted topic share "
            f"more codes across modalities than two with different ones: {same:.2f} against "
            f"{other:.2f} ({entry['active']:.1f} active codes, {entry['dead']:.0f} dead): "
            f"**{_met(same > 1.5 * other)}** (1.5 times is our threshold)."
        )
    for title, probes in (
        ("a linear probe of the leading components", meaning["leading_probes"]),
        ("a linear probe of all features", meaning["probes"]),
    ):
        for latent, better, worse in (
            ("shared", "homogeneous", "heterogeneous"),
            ("exclusive", "heterogeneous", "homogeneous"),
        ):
            first, second = probes[f"{latent}_from_{better}"], probes[f"{latent}_from_{worse}"]
            lines.append(
                f"- *{regime}*: {title} reads the {latent} latents better from the {better} parts "
                f"(R² {first:.3f}) than from the {worse} ones ({second:.3f}): "
                f"**{_met(first > second)}**."
            )
    return lines


def _comparisons(entries: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        "| other − full | MAE | MAE to the planted truth | corpora × seeds |",
        "|---|---|---|---|",
    ]
    rows += [
        f"| {name} | {_interval(entry)} | {_interval(entry, 'truth_')} "
        f"| {entry['corpora']} × {entry['seeds']} |"
        for name, entry in entries.items()
    ]
    return "\n".join(rows) + "\n"


def _scores(scores: Mapping[str, float]) -> str:
    listed = ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
    return f"Mean test MAE: {listed}.\n"


def _meaning(meaning: Mapping[str, Any]) -> str:
    rows = ["| | text | audio | vision |", "|---|---|---|---|"]

    def row(title: str, values: Mapping[str, float]) -> None:
        cells = [f"{values[n]:+.3f}" if n in values else "–" for n in ("text", "audio", "vision")]
        rows.append(f"| {title} | {' | '.join(cells)} |")

    for space in ("homogeneous", "heterogeneous"):
        row(f"mean weight out of, {space}", meaning["edges"][space]["mean_out"])
        row(
            f"rank correlation with reliability, {space}",
            meaning["edges"][space]["rank_correlation"],
        )
    row("the same, reachable", meaning["edges"]["reference"]["rank_correlation"])
    return "\n".join(rows) + "\n"


_TRIED = """## What was tried

On tuning corpora (seeds 101 to 199 of the same generator), before any corpus of this page was
looked at:

- *Codes that start close together*, so that ten are active at once: every utterance kept the same
  codes. Codes now start further apart, about three active.
- *Fenchel–Young at full weight*: with the scale of 10 in its scores it outran InfoNCE and all
  utterances ended on the same codes; it is divided by that scale.
- *Queries on features as they are*: small features gave every step the query that the biases say;
  they are normalised first.
- *Matching without balance*: Fenchel–Young feeds the codes that are used most; ten to twenty of 128
  codes stayed in use, and utterances of different topics shared half of their activation. With
  the balance of `kd.dictionary.balance` most codes are in use and what is shared says something.
- *Dictionaries at ten times the learning rate*: two to five codes stayed in use.
- *Encoders started from the pretrained ones*: higher MAE than random starts on three tuning corpora
  (with a shorter average of weights, so the two are not told apart); the demo's recipes start at
  random.
- *Batches of 32*: 64, with matching weighed more, gave a lower MAE and a larger gain from
  distillation on the same three corpora.

- *Matching weighed once, three and ten times*: three gave the largest gain from distillation at no
  cost in MAE; it is `kd.dictionary.weight`.
- *Other losses for the edges*, the same edge network on the same vertices with 600 utterances:
  squared mixture, errors of single teachers, absolute and squared, products of teacher and label,
  KL, each with teachers as they are and rescaled to the labels' spread. None came near half of
  what is reachable. With eight times the utterances the specified loss does better than all of
  them with 600: what was missing is data, and *large* measures that.
- *Decoupling encoders with a bottleneck*, linear and with a nonlinearity, and the decoupling loss
  at ten times its weight: no larger difference between the parts, and less of every latent in both.

- *The fusion alone*, without the auxiliary-head average (`model.auxiliary_average`): a higher MAE
  on seven tuning corpora, by .0058 on average on the three that the average was chosen on and by
  .0075 on four others, two seeds each, and a smaller gain from distillation on both. Letting the
  vertices learn from the average, or weighing it by the edges, gave no lower MAE than the fusion
  alone on the three.
- *HeteroGD taught by cross-fitted full models* (five without distillation on the folds, their
  heterogeneous vertices' predictions as its teachers): MAE higher by .011 than with the modalities'
  own teachers in both spaces, three corpora, two seeds. The modalities' own it is.
- *Rectified encoders*, and a rectified mean under the homogeneous vertices, on four corpora; *half
  of the fusion dropped*, *dropout .2 on the encoders' inputs*, *half the learning rate over 20
  epochs*, *twice `kd.aux`* and *λ = 0.5*, on three: none had a lower MAE.

A linear probe of all features cannot tell the parts apart by much: an encoder of full rank keeps
what a linear probe reads, however far it shrinks it, so its differences of thousandths are no
evidence whichever way they point. The probe of the leading components (as many as there are shared
latents) reads what a part mostly holds.
"""
