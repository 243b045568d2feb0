"""The gate: two revisions' metrics, dataset by dataset, to one verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dhmd.base.errors import DhmdError
from dhmd.config.schema import load_section
from dhmd.config.yaml12 import parse_yaml
from dhmd.evaluation.identity import PROTOCOL
from dhmd.evaluation.metrics import METRICS
from dhmd.gate.acceptance import Change, corpus, margins, protocol
from dhmd.gate.compare import (
    NOT_COMPARABLE,
    NOT_JUDGED,
    PASS,
    REGRESSED,
    MetricRow,
    common_seeds,
    compare_metric,
)
from dhmd.gate.config import AcceptConfig, GateConfig
from dhmd.gate.evaluated import NEEDED, Evaluated, NotComparableError, load_evaluated
from dhmd.vcs import Commit, Revision, Workspace, commit, merge_base

PARAMS = "params.yaml"
NEW = "new"
ACCEPTED = "accepted"
EXIT_STATUS = {PASS: 0, REGRESSED: 1, NOT_COMPARABLE: 2}


@dataclass(frozen=True)
class DatasetResult:
    """One dataset's verdict: its metrics, the reasons against a comparison, accepted changes."""

    dataset: str
    verdict: str
    rows: tuple[MetricRow, ...] = ()
    reasons: tuple[str, ...] = ()
    accepted: tuple[AcceptConfig, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class GateResult:
    """The whole verdict; `exit_status` is 0 pass, 1 regressed, 2 not comparable."""

    base: str
    head: str
    verdict: str
    datasets: tuple[DatasetResult, ...]
    notes: tuple[str, ...] = ()

    @property
    def exit_status(self) -> int:
        return EXIT_STATUS[self.verdict]


@dataclass(frozen=True)
class _Side:
    """A revision with what its params.yaml says; `config` is None where it has no gate section."""

    revision: Revision
    datasets: tuple[str, ...]
    config: GateConfig | None
    files: dict[str, set[str]] = field(default_factory=dict)

    def has(self, dataset: str) -> bool:
        return bool(self.files.get(dataset, set()) & set(NEEDED))

    def gated(self, dataset: str, task: str) -> dict[str, float] | None:
        if self.config is None:
            return None
        known = METRICS[task]
        return {m: v for m, v in self.config.gated(dataset).items() if m in known}


def run_gate(root: Path, base: str | None = None, head: str | None = None) -> GateResult:
    """Compare the revision or DVC experiment `head` (default: the workspace) with `base`.

    The default base is the merge base of the head with the main branch. Margins are the base's, and
    accepted changes those that the head has committed.

    Raises:
        DhmdError: no such revision, or a params.yaml that cannot be read.
    """
    judged = commit(root, head) if head is not None else None
    old = commit(root, base) if base is not None else merge_base(root, judged)
    new: Revision = judged or Workspace(root)
    sides = _side(old), _side(new)
    accept, notes = _accepted(root, new, sides[1])
    if judged is not None and judged.sha == old.sha:
        notes.append("base and head are the same commit; --base names another")
    names = {
        name
        for side in sides
        for name in (*side.datasets, *side.files)
        if side.has(name) or name in side.datasets
    }
    results = tuple(_compare_dataset(name, *sides, accept) for name in sorted(names))
    verdicts = [result.verdict for result in results]
    if REGRESSED in verdicts:
        verdict = REGRESSED
    elif NOT_COMPARABLE in verdicts:
        verdict = NOT_COMPARABLE
    elif PASS in verdicts or ACCEPTED in verdicts:
        verdict = PASS
    else:
        verdict = NOT_COMPARABLE
        notes.append(f"{old.label} holds no metrics to compare with")
    return GateResult(old.label, new.label, verdict, results, tuple(notes))


def _side(revision: Revision) -> _Side:
    text = revision.read(PARAMS)
    if text is None:
        return _Side(revision, (), None, revision.metrics_files())
    source = f"{PARAMS} of {revision.label}"
    values = parse_yaml(text, source)
    if not isinstance(values, Mapping):
        raise DhmdError(f"{source} is not a mapping")
    datasets = values.get("datasets")
    if not isinstance(datasets, list) or not all(isinstance(name, str) for name in datasets):
        raise DhmdError(f"{source}: datasets is {datasets!r}, but must be a list of names")
    config = None
    if "gate" in values:
        config = load_section(GateConfig, values["gate"], where="gate", source=source)
        _refuse_unknown_metrics(config, source)
    return _Side(revision, tuple(datasets), config, revision.metrics_files())


def _refuse_unknown_metrics(config: GateConfig, source: str) -> None:
    known = [metric for metrics in METRICS.values() for metric in metrics]
    for metric in config.metrics:
        if metric not in known:
            raise DhmdError(
                f"{source}: gate.metrics names {metric!r}, but the metrics are {', '.join(known)}"
            )


def _accepted(root: Path, new: Revision, side: _Side) -> tuple[tuple[AcceptConfig, ...], list[str]]:
    """The entries that count: committed ones."""
    written = side.config.accept if side.config else ()
    if isinstance(new, Commit):
        return written, []
    committed = _side(commit(root, "HEAD")).config
    counting = tuple(e for e in written if committed is not None and e in committed.accept)
    notes = [
        f"gate.accept for {entry.dataset} ({entry.from_} to {entry.to}) is not committed yet and "
        "does not count"
        for entry in written
        if entry not in counting
    ]
    return counting, notes


def _compare_dataset(
    dataset: str, base: _Side, head: _Side, accept: Sequence[AcceptConfig]
) -> DatasetResult:
    try:
        if not head.has(dataset) or (dataset in base.datasets and dataset not in head.datasets):
            return _dropped(dataset, base, head, accept)
        new = load_evaluated(head.revision, dataset, head.files[dataset])
        if not base.has(dataset):
            return _new(dataset, new, accept)
        old = load_evaluated(base.revision, dataset, base.files[dataset])
    except NotComparableError as error:
        return DatasetResult(dataset, NOT_COMPARABLE, reasons=(str(error),))
    return _compare_sides(dataset, base, head, old, new, accept)


def _dropped(
    dataset: str, base: _Side, head: _Side, accept: Sequence[AcceptConfig]
) -> DatasetResult:
    """In the base, or promised by the head's `datasets`, but not measured in the head."""
    if not base.has(dataset):
        reason = f"datasets names {dataset}, but metrics/{dataset} is missing"
        return DatasetResult(dataset, NOT_COMPARABLE, reasons=(f"{head.revision.label}: {reason}",))
    old = load_evaluated(base.revision, dataset, base.files[dataset])
    what = (
        f"metrics/{dataset} is missing in {head.revision.label}"
        if not head.has(dataset)
        else f"{dataset} was dropped from datasets in {head.revision.label}"
    )
    change = Change(dataset, corpus(old.identity.corpus), corpus(None), what)
    entry = change.accepted_by(accept)
    if entry is None:
        return DatasetResult(dataset, NOT_COMPARABLE, reasons=(change.refusal(),))
    return DatasetResult(dataset, ACCEPTED, accepted=(entry,), notes=(what,))


def _new(dataset: str, new: Evaluated, accept: Sequence[AcceptConfig]) -> DatasetResult:
    change = Change(dataset, corpus(None), corpus(new.identity.corpus), "a new dataset")
    entry = change.accepted_by(accept)
    if entry is not None:
        return DatasetResult(dataset, ACCEPTED, accepted=(entry,), notes=(change.sentence,))
    note = f"a new dataset: nothing to compare with ({change.to})"
    return DatasetResult(dataset, NEW, notes=(note,))


def _compare_sides(
    dataset: str,
    base: _Side,
    head: _Side,
    old: Evaluated,
    new: Evaluated,
    accept: Sequence[AcceptConfig],
) -> DatasetResult:
    reasons: list[str] = []
    accepted: list[AcceptConfig] = []
    changes = _changes(dataset, base, head, old, new)
    for change in changes:
        entry = change.accepted_by(accept)
        if entry is None:
            reasons.append(change.refusal())
        else:
            accepted.append(entry)
    reasons += _hindrances(dataset, old, new)
    if old.identity.task != new.identity.task:
        return DatasetResult(
            dataset, NOT_COMPARABLE, reasons=tuple(reasons), accepted=tuple(accepted)
        )
    # Margins are the base's; a base without any (its first ones are accepted) takes the head's.
    config = base.config or head.config
    gated = base.gated(dataset, old.identity.task)
    gated = head.gated(dataset, new.identity.task) if gated is None else gated
    if not gated or config is None:
        reasons.append(f"gate.metrics names no metric of {old.identity.task}")
        return DatasetResult(dataset, NOT_COMPARABLE, reasons=tuple(reasons))
    rows: list[MetricRow] = []
    if len(common_seeds(old, new)) >= 2:
        rows = [
            compare_metric(metric, margin, old, new, config.resamples)
            for metric, margin in gated.items()
        ]
    data_changed = old.identity.corpus != new.identity.corpus
    if reasons or data_changed:
        rows = [replace(row, verdict=NOT_JUDGED) for row in rows]
    for row in rows:
        # Accepted new data may mend what the old left undefined, but not the other way round.
        if row.reason and not (data_changed and _defined(row.metric, new)):
            reasons.append(row.reason)
    verdicts = [row.verdict for row in rows]
    if REGRESSED in verdicts:
        verdict = REGRESSED
    elif reasons:
        verdict = NOT_COMPARABLE
    else:
        verdict = ACCEPTED if data_changed else PASS
    extra = sorted(set(new.predictions.seeds) - set(old.predictions.seeds))
    notes = [f"seeds {extra} are new and take no part"] if extra else []
    return DatasetResult(
        dataset, verdict, tuple(rows), tuple(reasons), tuple(accepted), tuple(notes)
    )


def _changes(
    dataset: str, base: _Side, head: _Side, old: Evaluated, new: Evaluated
) -> list[Change]:
    """What differs in data, protocol and margins."""
    found: list[Change] = []

    def compare(sentence: str, from_: str, to: str) -> None:
        if from_ != to:
            found.append(Change(dataset, from_, to, sentence))

    before, after = old.identity, new.identity
    data = f"{dataset} is another corpus: its ids, splits, labels or sources changed"
    if before.fold != after.fold:
        data = f"{dataset} is measured on another fold: {before.fold} became {after.fold}"
    compare(data, corpus(before.corpus), corpus(after.corpus))
    compare(
        f"{dataset} is measured by another protocol",
        protocol(before.protocol),
        protocol(after.protocol),
    )
    compare(
        f"the gated metrics or margins of {dataset} changed",
        margins(base.gated(dataset, before.task)),
        margins(head.gated(dataset, after.task)),
    )
    return found


def _hindrances(dataset: str, old: Evaluated, new: Evaluated) -> list[str]:
    """What no accepted entry can mend."""
    found: list[str] = []
    before, after = old.identity, new.identity
    if before.task != after.task:
        found.append(f"{dataset} was a {before.task} and is a {after.task}")
    if before.corpus == after.corpus:
        if before.fold != after.fold:
            found.append(
                f"metrics/{dataset}/identity.json names fold {after.fold} for the corpus identity "
                f"of fold {before.fold}: edited by hand"
            )
        if not _same_utterances(old, new):
            found.append(
                f"metrics/{dataset}/predictions.csv holds other ids or labels than the base's, but "
                "identity.json names the same corpus: edited by hand or out of date"
            )
    if after.protocol != PROTOCOL:
        found.append(
            f"metrics/{dataset}/identity.json names protocol {after.protocol}, which this version "
            f"of dhmd (protocol {PROTOCOL}) cannot check"
        )
    lost = sorted(set(old.predictions.seeds) - set(new.predictions.seeds))
    common = common_seeds(old, new)
    if len(common) < 2:
        found.append(f"{len(common)} common seeds of {dataset}, but at least 2 must be paired")
    elif lost:
        found.append(f"{dataset} lacks seeds {lost} of the base")
    return found


def _defined(metric: str, side: Evaluated) -> bool:
    return all(metric in scores.values for scores in side.scores.values())


def _same_utterances(old: Evaluated, new: Evaluated) -> bool:
    def rows(side: Evaluated) -> dict[str, float]:
        return dict(zip(side.predictions.ids, side.predictions.labels.tolist(), strict=True))

    return rows(old) == rows(new)


def to_json(result: GateResult) -> dict[str, Any]:
    """The result as plain values, without NaN."""

    def row(item: MetricRow) -> dict[str, Any]:
        values = {**vars(item)}
        if item.utterances is not None:
            values["utterances"] = list(item.utterances)
        return values

    return {
        "base": result.base,
        "head": result.head,
        "verdict": result.verdict,
        "exit_status": result.exit_status,
        "notes": list(result.notes),
        "datasets": {
            item.dataset: {
                "verdict": item.verdict,
                "metrics": {entry.metric: row(entry) for entry in item.rows},
                "reasons": list(item.reasons),
                "accepted": [
                    {"from": entry.from_, "to": entry.to, "reason": entry.reason}
                    for entry in item.accepted
                ],
                "notes": list(item.notes),
            }
            for item in result.datasets
        },
    }
