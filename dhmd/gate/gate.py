"""Decide whether the metrics of one revision are worse than those of another.

Per dataset: what differs in data, protocol and margins (accepted or not), then the metrics by the
rule of `dhmd.gate.compare`, then one verdict over all datasets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dhmd.base.errors import DhmdError
from dhmd.config.schema import load_section
from dhmd.config.yaml12 import parse_yaml
from dhmd.evaluation.files import IDENTITY, METRICS_FILE, PREDICTIONS, PROTOCOL
from dhmd.evaluation.metrics import METRICS
from dhmd.gate.compare import (
    NOT_COMPARABLE,
    NOT_JUDGED,
    PASS,
    REGRESSED,
    Evaluated,
    MetricRow,
    NotComparableError,
    common_seeds,
    compare_metric,
    load_evaluated,
    read_prediction_file,
)
from dhmd.gate.config import AcceptConfig, GateConfig
from dhmd.vcs import METRICS_FOLDER, Commit, Revision, Workspace, commit, merge_base

PARAMS = "params.yaml"
NEW = "new"
ACCEPTED = "accepted"
EXIT_STATUS = {PASS: 0, REGRESSED: 1, NOT_COMPARABLE: 2}
NONE = "none"


@dataclass(frozen=True)
class DatasetResult:
    """The verdict on one dataset; `reasons` explain why it is not comparable."""

    dataset: str
    verdict: str
    rows: tuple[MetricRow, ...] = ()
    reasons: tuple[str, ...] = ()
    accepted: tuple[AcceptConfig, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class GateResult:
    """The verdict on all datasets; `exit_status` is 0 pass, 1 regressed, 2 not comparable."""

    base: str
    head: str
    verdict: str
    datasets: tuple[DatasetResult, ...]
    notes: tuple[str, ...] = ()

    @property
    def exit_status(self) -> int:
        return EXIT_STATUS[self.verdict]


@dataclass(frozen=True)
class Side:
    """A revision, the datasets in its params.yaml and in metrics/, and its section `gate`."""

    revision: Revision
    listed: tuple[str, ...]
    measured: frozenset[str]
    config: GateConfig | None

    def gated(self, dataset: str, task: str) -> dict[str, float] | None:
        """Return the margin of each gated metric of the task; None without a section `gate`."""
        if self.config is None:
            return None
        return {m: v for m, v in self.config.gated(dataset).items() if m in METRICS[task]}


@dataclass(frozen=True)
class Change:
    """A change of data, protocol or margins between base and head.

    `from_` and `to` are identities that a reviewer can read and commit: `corpus:<sha256>`,
    `protocol:<version>` or `margins:<metric>=<margin>,…`, each `<kind>:none` if a side has none.
    """

    dataset: str
    from_: str
    to: str
    sentence: str

    def refusal(self) -> str:
        """Return the sentence and the entry that would accept the change."""
        return (
            f"{self.sentence}; if this is intended, commit this entry under gate.accept in "
            f'{PARAMS}: {{dataset: {self.dataset}, from: "{self.from_}", to: "{self.to}", '
            "reason: …}"
        )

    def accepted_by(self, entries: Sequence[AcceptConfig]) -> AcceptConfig | None:
        """Return the committed entry that names exactly this change."""
        own = (self.dataset, self.from_, self.to)
        return next((e for e in entries if (e.dataset, e.from_, e.to) == own), None)


def run_gate(
    root: Path, base: str | None = None, head: str | None = None, dataset: str | None = None
) -> GateResult:
    """Compare the revision or DVC experiment `head` with `base`.

    Args:
        base: by default the merge base of the head with the main branch. Its margins are used.
        head: by default the workspace. Its committed entries of gate.accept count.
        dataset: the dataset of `base` or `head` if one of them is a CSV file of predictions; the
            other is then the workspace by default.

    Raises:
        DhmdError: no such revision, or a params.yaml that cannot be read.
    """
    if any(name is not None and name.endswith(".csv") for name in (base, head)):
        return _gate_file(root, base, head, dataset)
    judged = commit(root, head) if head is not None else None
    old = commit(root, base) if base is not None else merge_base(root, judged)
    new: Revision = judged or Workspace(root)
    sides = _read_side(old), _read_side(new)
    accept, notes = _committed_entries(root, sides[1])
    if judged is not None and judged.sha == old.sha:
        notes.append("base and head are the same commit; choose another one with --base")
    names = sorted({name for side in sides for name in (*side.listed, *side.measured)})
    results = tuple(_compare_dataset(name, *sides, accept) for name in names)
    verdicts = {result.verdict for result in results}
    verdict = NOT_COMPARABLE
    if REGRESSED in verdicts:
        verdict = REGRESSED
    elif NOT_COMPARABLE not in verdicts and verdicts & {PASS, ACCEPTED}:
        verdict = PASS
    elif NOT_COMPARABLE not in verdicts:
        notes.append(f"{old.label} has no metrics to compare with")
    return GateResult(old.label, new.label, verdict, results, tuple(notes))


def _gate_file(root: Path, base: str | None, head: str | None, dataset: str | None) -> GateResult:
    """Compare a CSV file of predictions with a revision, by the margins of the revision."""
    path, other = (head, base) if head is not None and head.endswith(".csv") else (base, head)
    if path is None or (other or "").endswith(".csv"):
        raise DhmdError(
            "the gate compares a CSV file with a revision; compare two with dhmd compare"
        )
    side = _read_side(commit(root, other) if other is not None else Workspace(root))
    if dataset is None and len(side.measured) != 1:
        known = ", ".join(sorted(side.measured))
        raise DhmdError(f"--dataset must name the dataset of {path}: one of {known}")
    name = dataset or next(iter(side.measured))
    known_result = load_evaluated(side.revision, name)
    theirs = read_prediction_file(Path(path), known_result)
    labels, sides = (side.revision.label, path), (known_result, theirs)
    if path == base:
        labels, sides = labels[::-1], sides[::-1]
    result = _compare_sides(name, side, side, *sides, accept=())
    return GateResult(*labels, result.verdict, (result,))


def _read_side(revision: Revision) -> Side:
    found = revision.metrics_files()
    measured = frozenset(name for name, names in found.items() if METRICS_FILE in names)
    text = revision.read(PARAMS)
    if text is None:
        return Side(revision, (), measured, None)
    source = f"{PARAMS} of {revision.label}"
    values = parse_yaml(text, source)
    if not isinstance(values, Mapping):
        raise DhmdError(f"{source} is not a mapping")
    listed = values.get("datasets")
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise DhmdError(f"{source}: datasets is {listed!r}, but must be a list of names")
    config = None
    if "gate" in values:
        config = load_section(GateConfig, values["gate"], where="gate", source=source)
        known = [metric for metrics in METRICS.values() for metric in metrics]
        for metric in config.metrics:
            if metric not in known:
                raise DhmdError(
                    f"{source}: gate.metrics is {metric!r}, but must be one of {', '.join(known)}"
                )
    return Side(revision, tuple(listed), measured, config)


def _committed_entries(root: Path, head: Side) -> tuple[list[AcceptConfig], list[str]]:
    """Return the entries of gate.accept that are committed, and a note on each other one."""
    entries = list(head.config.accept) if head.config else []
    if isinstance(head.revision, Commit):
        return entries, []
    config = _read_side(commit(root, "HEAD")).config
    committed = [entry for entry in entries if config is not None and entry in config.accept]
    notes = [
        f"gate.accept for {entry.dataset} ({entry.from_} to {entry.to}) is not committed and does "
        "not count"
        for entry in entries
        if entry not in committed
    ]
    return committed, notes


def _compare_dataset(
    dataset: str, base: Side, head: Side, accept: Sequence[AcceptConfig]
) -> DatasetResult:
    try:
        dropped = dataset in base.listed and dataset not in head.listed
        if dataset not in head.measured or dropped:
            return _without_head(dataset, base, head, accept)
        new = load_evaluated(head.revision, dataset)
        if dataset not in base.measured:
            change = Change(
                dataset, f"corpus:{NONE}", f"corpus:{new.identity.corpus}", "a new dataset"
            )
            if entry := change.accepted_by(accept):
                notes = (change.sentence,)
                return DatasetResult(dataset, ACCEPTED, accepted=(entry,), notes=notes)
            note = f"a new dataset without a base to compare with ({change.to})"
            return DatasetResult(dataset, NEW, notes=(note,))
        old = load_evaluated(base.revision, dataset)
        return _compare_sides(dataset, base, head, old, new, accept)
    except NotComparableError as error:
        return DatasetResult(dataset, NOT_COMPARABLE, reasons=(str(error),))


def _without_head(
    dataset: str, base: Side, head: Side, accept: Sequence[AcceptConfig]
) -> DatasetResult:
    """Judge a dataset that is missing in the head or was dropped from its list."""
    label = head.revision.label
    if dataset not in base.measured:
        raise NotComparableError(f"{label}: datasets lists {dataset}, but it has no metrics")
    if dataset in head.measured:
        sentence = f"{dataset} was dropped from datasets in {label}"
    else:
        sentence = f"{METRICS_FOLDER}/{dataset} is missing in {label}"
    corpus = load_evaluated(base.revision, dataset).identity.corpus
    change = Change(dataset, f"corpus:{corpus}", f"corpus:{NONE}", sentence)
    if entry := change.accepted_by(accept):
        return DatasetResult(dataset, ACCEPTED, accepted=(entry,), notes=(sentence,))
    raise NotComparableError(change.refusal())


def _compare_sides(
    dataset: str,
    base: Side,
    head: Side,
    old: Evaluated,
    new: Evaluated,
    accept: Sequence[AcceptConfig],
) -> DatasetResult:
    changes = [(c, c.accepted_by(accept)) for c in _changes(dataset, base, head, old, new)]
    reasons = [change.refusal() for change, entry in changes if entry is None]
    reasons += _obstacles(dataset, old, new)
    accepted = tuple(entry for _, entry in changes if entry is not None)
    task = new.identity.task

    def not_comparable() -> DatasetResult:
        return DatasetResult(dataset, NOT_COMPARABLE, (), tuple(reasons), accepted)

    if old.identity.task != task:
        return not_comparable()
    # The first margins of a project are accepted and then come from the head.
    config = base.config or head.config
    gated = head.gated(dataset, task) if base.config is None else base.gated(dataset, task)
    if not gated or config is None:
        reasons.append(f"gate.metrics has no metric of a {task}")
        return not_comparable()
    rows = []
    if len(common_seeds(old, new)) >= 2:
        rows = [
            compare_metric(metric, margin, old, new, config.resamples)
            for metric, margin in gated.items()
        ]
    data_changed = old.identity.corpus != new.identity.corpus
    if reasons or data_changed:
        rows = [replace(row, verdict=NOT_JUDGED) for row in rows]
    for row in rows:
        defined = all(row.metric in scores.values for scores in new.scores.values())
        # Accepted data may define a metric that the old data did not, but not the other way round.
        if row.reason and not (data_changed and defined):
            reasons.append(row.reason)
    if REGRESSED in {row.verdict for row in rows}:
        verdict = REGRESSED
    elif reasons:
        verdict = NOT_COMPARABLE
    else:
        verdict = ACCEPTED if data_changed else PASS
    extra = sorted(set(new.predictions.seeds) - set(old.predictions.seeds))
    notes = (f"the seeds {extra} are new and not compared",) if extra else ()
    return DatasetResult(dataset, verdict, tuple(rows), tuple(reasons), accepted, notes)


def _changes(dataset: str, base: Side, head: Side, old: Evaluated, new: Evaluated) -> list[Change]:
    """Return what differs in data, protocol and margins."""
    before, after = old.identity, new.identity

    def margins(side: Side, task: str) -> str:
        gated = side.gated(dataset, task)
        if gated is None:
            return NONE
        return ",".join(f"{name}={value!r}" for name, value in sorted(gated.items()))

    data = f"{dataset} is another corpus: its ids, splits, labels or sources changed"
    if before.fold != after.fold:
        data = f"{dataset} is measured on another fold: {before.fold} became {after.fold}"
    protocol = f"{dataset} is measured by another protocol"
    gated = f"the gated metrics or margins of {dataset} changed"
    found = [
        ("corpus", before.corpus, after.corpus, data),
        ("protocol", before.protocol, after.protocol, protocol),
        ("margins", margins(base, before.task), margins(head, after.task), gated),
    ]
    return [
        Change(dataset, f"{kind}:{from_}", f"{kind}:{to}", sentence)
        for kind, from_, to, sentence in found
        if from_ != to
    ]


def _obstacles(dataset: str, old: Evaluated, new: Evaluated) -> list[str]:
    """Return what makes the dataset not comparable and cannot be accepted."""
    found: list[str] = []
    before, after = old.identity, new.identity
    folder = f"{METRICS_FOLDER}/{dataset}"
    if before.task != after.task:
        found.append(f"{dataset} was a {before.task} and is a {after.task}")
    if before.corpus == after.corpus:
        if before.fold != after.fold:
            found.append(
                f"{folder}/{IDENTITY} has the fold {after.fold} with the corpus identity of fold "
                f"{before.fold}: it was edited by hand"
            )
        old_labels, new_labels = (
            dict(zip(side.predictions.ids, side.predictions.labels.tolist(), strict=True))
            for side in (old, new)
        )
        if old_labels != new_labels:
            found.append(
                f"{folder}/{PREDICTIONS} has other ids or labels than in the base, but {IDENTITY} "
                "names the same corpus: it was edited by hand or is out of date"
            )
    if after.protocol != PROTOCOL:
        found.append(
            f"{folder}/{IDENTITY} has the protocol {after.protocol}, which this version of dhmd "
            f"(protocol {PROTOCOL}) cannot check"
        )
    lost = sorted(set(old.predictions.seeds) - set(new.predictions.seeds))
    common = len(common_seeds(old, new))
    if common < 2:
        found.append(f"{dataset} has {common} common seeds, but at least 2 are needed")
    elif lost:
        found.append(f"{dataset} lacks the seeds {lost} of the base")
    return found
