"""Tables of the distillation study for docs/results.md, and verdicts for its JSON file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TITLES = {
    "noisy": "*noisy*: labels with annotator noise",
    "clean": "*clean*: the same without annotator noise",
    "no_cue": "*no cue*: noisy, and no feature marks an unreliable modality",
    "audio": "*audio*: noisy, with audio as the reliable teacher instead of text",
    "large": "*large*: noisy, with 5,000 train utterances instead of 600",
}


def page(summary: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the tables of every regime, without a newline at the end."""
    parts = []
    for regime, entry in ((name, summary[name]) for name in _TITLES if name in summary):
        parts.append(f"### {_TITLES[regime]}\n")
        comparisons = {k: v for k, v in entry.items() if k not in ("scores", "meaning")}
        if comparisons:
            parts.append(_comparisons(comparisons))
        parts.append(_scores(entry["scores"]))
        parts.append(_meaning(entry["meaning"]))
    return "\n".join(parts).rstrip("\n")


def _signed(value: float) -> str:
    return f"{value:+.4f}"


def _interval(entry: Mapping[str, Any], prefix: str = "") -> str:
    centre = entry[f"{prefix}difference"]
    low, high = entry[f"{prefix}ci_low"], entry[f"{prefix}ci_high"]
    return f"{_signed(centre)} [{_signed(low)}, {_signed(high)}]"


def expectations(summary: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return one sentence per expectation, with the numbers and whether it is met."""
    lines = []
    noisy = summary.get("noisy", {}).get("no_distillation")
    if noisy:
        lines.append(
            "*noisy*: distillation helps (no_distillation − full has its interval above 0): "
            f"{_interval(noisy)} over {noisy['corpora']} corpora: "
            f"**{_met_or_not(noisy['ci_low'] > 0)}**."
        )
    clean = summary.get("clean", {}).get("no_distillation")
    if clean:
        lines.append(
            "*clean*: distillation does no harm (interval above −0.01): "
            f"{_interval(clean)} over {clean['corpora']} corpora: "
            f"**{_met_or_not(clean['ci_low'] > -0.01)}**."
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
            lines += _feature_verdicts(regime, meaning)
    return lines


def _met_or_not(is_met: bool) -> str:
    return "met" if is_met else "not met"


def _edge_verdict(regime: str, edges: Mapping[str, Any]) -> str:
    reachable = edges["reference"]["rank_correlation"]
    values = []
    for space in ("homogeneous", "heterogeneous"):
        correlations = edges[space]["rank_correlation"].items()
        values.append(f"{space} " + ", ".join(f"{name} {rho:+.2f}" for name, rho in correlations))
    reference = ", ".join(f"{name} {rho:+.2f}" for name, rho in reachable.items())
    if regime == "no_cue":
        expectation = "rank correlation of edges with the true reliability is about 0 without a cue"
        is_met = all(
            abs(value) < 0.1
            for space in ("homogeneous", "heterogeneous")
            for value in edges[space]["rank_correlation"].values()
        )
    else:
        expectation = (
            "rank correlation of edges with the true reliability is at least half of what the same "
            "network reaches when trained on it"
        )
        is_met = all(
            max(
                edges[space]["rank_correlation"].get(name, 0.0)
                for space in ("homogeneous", "heterogeneous")
            )
            >= reachable[name] / 2
            for name in reachable
        )
    return (
        f"*{regime}*: {expectation}: {'; '.join(values)}; reachable: {reference}: "
        f"**{_met_or_not(is_met)}**."
    )


def _teacher_verdict(regime: str, teacher: str, edges: Mapping[str, Any]) -> str:
    values = []
    is_met = True
    for space in ("homogeneous", "heterogeneous"):
        means = edges[space]["mean_out"]
        values.append(f"{space} " + ", ".join(f"{k} {v:.2f}" for k, v in means.items()))
        is_met &= max(means, key=lambda name: means[name]) == teacher
    return (
        f"*{regime}*: the edges out of {teacher}, the reliable teacher, weigh most on average: "
        f"{'; '.join(values)}: **{_met_or_not(is_met)}**."
    )


def _feature_verdicts(regime: str, meaning: Mapping[str, Any]) -> list[str]:
    lines = []
    for space, entry in meaning["dictionary"].items():
        same, other = entry["same_latent"], entry["different_latent"]
        lines.append(
            f"*{regime}*, {space} dictionary: two utterances with the same true topic share "
            f"more codes across modalities than two with different ones: {same:.2f} against "
            f"{other:.2f} ({entry['active']:.1f} active codes, {entry['dead']:.0f} dead): "
            f"**{_met_or_not(same > 1.5 * other)}** (1.5 times is our threshold)."
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
                f"*{regime}*: {title} predicts the {latent} latents better from the {better} "
                f"features (R² {first:.3f}) than from the {worse} ones ({second:.3f}): "
                f"**{_met_or_not(first > second)}**."
            )
    return lines


def _comparisons(entries: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        "| other − full | MAE | MAE to the ground truth | corpora × seeds |",
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
