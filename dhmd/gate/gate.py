"""Decide whether the metrics of one revision are worse than those of another.

For each dataset, the gate lists the changes of data, protocol and margins, which must be accepted
in params.yaml, and compares the metrics by the rule of `dhmd.gate.compare`. One verdict follows
from those on all datasets.
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
    Evaluation,
    MetricRow,
    NotComparableError,
    common_seeds,
    compare_metric,
    load_evaluation,
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
    """The verdict on one dataset.

    Attributes:
        verdict: pass, regressed, not comparable, new or accepted.
        rows: the comparison of each gated metric.
        reasons: why the dataset is not comparable.
        accepted: the entries of gate.accept that apply.
        notes: other facts, for the reader.
    """

    dataset: str
    verdict: str
    rows: tuple[MetricRow, ...] = ()
    reasons: tuple[str, ...] = ()
    accepted: tuple[AcceptConfig, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class GateResult:
    """The verdict on all datasets.

    Attributes:
        base, head: labels of the compared revisions.
        verdict: pass, regressed or not comparable.
    """

    base: str
    head: str
    verdict: str
    datasets: tuple[DatasetResult, ...]
    notes: tuple[str, ...] = ()

    @property
    def exit_status(self) -> int:
        """0 for pass, 1 for regressed, 2 for not comparable."""
        return EXIT_STATUS[self.verdict]


@dataclass(frozen=True)
class Side:
    """One side of the comparison: base or head.

    Attributes:
        listed: the datasets in params.yaml.
        evaluated: the datasets in metrics/.
        config: section `gate` of params.yaml; None if there is none.
    """

    revision: Revision
    listed: tuple[str, ...]
    evaluated: frozenset[str]
    config: GateConfig | None

    def margins_of(self, dataset: str, task: str) -> dict[str, float] | None:
        """Return the margin of each gated metric of the task; None without a section `gate`."""
        if self.config is None:
            return None
        return {m: v for m, v in self.config.margins_of(dataset).items() if m in METRICS[task]}


@dataclass(frozen=True)
class Change:
    """A change of data, protocol or margins between base and head.

    Attributes:
        from_, to: identities in base and head: `corpus:<sha256>`, `protocol:<version>` or
            `margins:<metric>=<margin>,…`; `<kind>:none` where there is none.
        sentence: a description of the change.
    """

    dataset: str
    from_: str
    to: str
    sentence: str

    def request(self) -> str:
        """Return the sentence, and the entry to commit if the change is intended."""
        return (
            f"{self.sentence}; if this is intended, commit this entry under gate.accept in "
            f'{PARAMS}: {{dataset: {self.dataset}, from: "{self.from_}", to: "{self.to}", '
            "reason: …}"
        )

    def accepted_by(self, entries: Sequence[AcceptConfig]) -> AcceptConfig | None:
        """Return the entry that names exactly this change, if any."""
        key = (self.dataset, self.from_, self.to)
        return next((e for e in entries if (e.dataset, e.from_, e.to) == key), None)


def run_gate(
    root: Path, base: str | None = None, head: str | None = None, dataset: str | None = None
) -> GateResult:
    """Compare two revisions: `head` with `base`.

    Args:
        root: the repository.
        base: a Git revision or DVC experiment, whose margins apply. By default the merge base of
            the head and the main branch.
        head: a Git revision or DVC experiment, whose committed entries of gate.accept apply. By
            default the workspace.
        dataset: the dataset, if `base` or `head` is a CSV file of predictions. The other one is
            then the workspace by default.

    Raises:
        DhmdError: there is no such revision, or its params.yaml cannot be read.
    """
    if any(name is not None and name.endswith(".csv") for name in (base, head)):
        return _gate_file(root, base, head, dataset)
    head_commit = commit(root, head) if head is not None else None
    base_commit = commit(root, base) if base is not None else merge_base(root, head_commit)
    sides = _read_side(base_commit), _read_side(head_commit or Workspace(root))
    accept, notes = _committed_entries(root, sides[1])
    if head_commit is not None and head_commit.sha == base_commit.sha:
        notes.append("base and head are the same commit; choose another one with --base")
    names = sorted({name for side in sides for name in (*side.listed, *side.evaluated)})
    results = tuple(_compare_dataset(name, *sides, accept) for name in names)
    verdicts = {result.verdict for result in results}
    verdict = NOT_COMPARABLE
    if REGRESSED in verdicts:
        verdict = REGRESSED
    elif NOT_COMPARABLE not in verdicts and verdicts & {PASS, ACCEPTED}:
        verdict = PASS
    elif NOT_COMPARABLE not in verdicts:
        notes.append(f"{base_commit.label} has no metrics to compare with")
    base_label, head_label = (side.revision.label for side in sides)
    return GateResult(base_label, head_label, verdict, results, tuple(notes))


def _gate_file(root: Path, base: str | None, head: str | None, dataset: str | None) -> GateResult:
    """Compare a CSV file of predictions with a revision; the margins are those of the revision."""
    path, other = (head, base) if head is not None and head.endswith(".csv") else (base, head)
    if path is None or (other or "").endswith(".csv"):
        raise DhmdError(
            "the gate compares a CSV file with a revision; to compare two files, use dhmd compare"
        )
    side = _read_side(commit(root, other) if other is not None else Workspace(root))
    if dataset is None and len(side.evaluated) != 1:
        choices = ", ".join(sorted(side.evaluated)) or "none; run dvc repro"
        raise DhmdError(f"--dataset must name the dataset of {path}: one of {choices}")
    name = dataset or next(iter(side.evaluated))
    revision_evaluation = load_evaluation(side.revision, name)
    file_evaluation = read_prediction_file(Path(path), revision_evaluation)
    labels, evaluations = (side.revision.label, path), (revision_evaluation, file_evaluation)
    if path == base:
        labels, evaluations = labels[::-1], evaluations[::-1]
    result = _compare_evaluations(name, side, side, *evaluations, accept=())
    return GateResult(*labels, result.verdict, (result,))


def _read_side(revision: Revision) -> Side:
    metrics_files = revision.metrics_files()
    evaluated = frozenset(name for name, names in metrics_files.items() if METRICS_FILE in names)
    text = revision.read(PARAMS)
    if text is None:
        return Side(revision, (), evaluated, None)
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
        allowed = [metric for metrics in METRICS.values() for metric in metrics]
        for metric in config.metrics:
            if metric not in allowed:
                raise DhmdError(
                    f"{source}: gate.metrics has {metric!r}, but each metric must be one of "
                    f"{', '.join(allowed)}"
                )
    return Side(revision, tuple(listed), evaluated, config)


def _committed_entries(root: Path, head: Side) -> tuple[list[AcceptConfig], list[str]]:
    """Return the committed entries of gate.accept, and a note on each uncommitted one."""
    entries = list(head.config.accept) if head.config else []
    if isinstance(head.revision, Commit):
        return entries, []
    config = _read_side(commit(root, "HEAD")).config
    committed = [entry for entry in entries if config is not None and entry in config.accept]
    notes = [
        f"gate.accept for {entry.dataset} ({entry.from_} to {entry.to}) is not committed and does "
        "not count; commit params.yaml"
        for entry in entries
        if entry not in committed
    ]
    return committed, notes


def _compare_dataset(
    dataset: str, base: Side, head: Side, accept: Sequence[AcceptConfig]
) -> DatasetResult:
    try:
        dropped = dataset in base.listed and dataset not in head.listed
        if dataset not in head.evaluated or dropped:
            return _removed_dataset(dataset, base, head, accept)
        after = load_evaluation(head.revision, dataset)
        if dataset not in base.evaluated:
            change = Change(
                dataset, f"corpus:{NONE}", f"corpus:{after.identity.corpus}", "a new dataset"
            )
            if entry := change.accepted_by(accept):
                notes = (change.sentence,)
                return DatasetResult(dataset, ACCEPTED, accepted=(entry,), notes=notes)
            note = f"a new dataset without a base to compare with ({change.to})"
            return DatasetResult(dataset, NEW, notes=(note,))
        before = load_evaluation(base.revision, dataset)
        return _compare_evaluations(dataset, base, head, before, after, accept)
    except NotComparableError as error:
        return DatasetResult(dataset, NOT_COMPARABLE, reasons=(str(error),))


def _removed_dataset(
    dataset: str, base: Side, head: Side, accept: Sequence[AcceptConfig]
) -> DatasetResult:
    """Return the result for a dataset that the head does not evaluate or no longer lists."""
    label = head.revision.label
    if dataset not in base.evaluated:
        raise NotComparableError(
            f"{PARAMS} of {label} lists {dataset} under datasets, but {METRICS_FOLDER}/{dataset} "
            "does not exist; run dvc repro and commit the metrics"
        )
    if dataset in head.evaluated:
        sentence = f"{dataset} was dropped from datasets in {PARAMS} of {label}"
    else:
        sentence = f"{METRICS_FOLDER}/{dataset} is missing in {label}"
    corpus = load_evaluation(base.revision, dataset).identity.corpus
    change = Change(dataset, f"corpus:{corpus}", f"corpus:{NONE}", sentence)
    if entry := change.accepted_by(accept):
        return DatasetResult(dataset, ACCEPTED, accepted=(entry,), notes=(sentence,))
    raise NotComparableError(change.request())


def _compare_evaluations(
    dataset: str,
    base: Side,
    head: Side,
    before: Evaluation,
    after: Evaluation,
    accept: Sequence[AcceptConfig],
) -> DatasetResult:
    changes = [(c, c.accepted_by(accept)) for c in _changes(dataset, base, head, before, after)]
    reasons = [change.request() for change, entry in changes if entry is None]
    reasons += _obstacles(dataset, before, after)
    accepted = tuple(entry for _, entry in changes if entry is not None)
    task = after.identity.task

    def not_comparable() -> DatasetResult:
        return DatasetResult(dataset, NOT_COMPARABLE, (), tuple(reasons), accepted)

    if before.identity.task != task:
        return not_comparable()
    # If the base has no section `gate`, the margins of the head, once accepted, apply.
    side = head if base.config is None else base
    margins = side.margins_of(dataset, task)
    if not margins or side.config is None:
        reasons.append(f"gate.metrics names no metric of the task {task}")
        return not_comparable()
    rows = []
    if len(common_seeds(before, after)) >= 2:
        rows = [
            compare_metric(metric, margin, before, after, side.config.resamples)
            for metric, margin in margins.items()
        ]
    data_changed = before.identity.corpus != after.identity.corpus
    if reasons or data_changed:
        rows = [replace(row, verdict=NOT_JUDGED) for row in rows]
    for row in rows:
        defined = all(row.metric in scores.values for scores in after.scores.values())
        # After an accepted change of data, a metric may become defined, but not undefined.
        if row.reason and not (data_changed and defined):
            reasons.append(row.reason)
    if REGRESSED in {row.verdict for row in rows}:
        verdict = REGRESSED
    elif reasons:
        verdict = NOT_COMPARABLE
    else:
        verdict = ACCEPTED if data_changed else PASS
    new_seeds = sorted(set(after.predictions.seeds) - set(before.predictions.seeds))
    notes = (f"the seeds {new_seeds} are new and not compared",) if new_seeds else ()
    return DatasetResult(dataset, verdict, tuple(rows), tuple(reasons), accepted, notes)


def _changes(
    dataset: str, base: Side, head: Side, before: Evaluation, after: Evaluation
) -> list[Change]:
    """Return the changes of data, protocol and margins."""
    old, new = before.identity, after.identity

    def margins(side: Side, task: str) -> str:
        margins = side.margins_of(dataset, task)
        if margins is None:
            return NONE
        return ",".join(f"{name}={value!r}" for name, value in sorted(margins.items()))

    data = f"the corpus of {dataset} changed: its ids, splits, labels or sources are different"
    if old.fold != new.fold:
        data = f"the fold of {dataset} changed from {old.fold} to {new.fold}"
    protocol = f"the evaluation protocol of {dataset} changed"
    gated = f"the gated metrics or margins of {dataset} changed"
    identities = [
        ("corpus", old.corpus, new.corpus, data),
        ("protocol", old.protocol, new.protocol, protocol),
        ("margins", margins(base, old.task), margins(head, new.task), gated),
    ]
    return [
        Change(dataset, f"{kind}:{from_}", f"{kind}:{to}", sentence)
        for kind, from_, to, sentence in identities
        if from_ != to
    ]


def _obstacles(dataset: str, before: Evaluation, after: Evaluation) -> list[str]:
    """Return the reasons why the dataset is not comparable that no entry can accept."""
    reasons: list[str] = []
    old, new = before.identity, after.identity
    folder = f"{METRICS_FOLDER}/{dataset}"
    if old.task != new.task:
        reasons.append(f"the task of {dataset} was {old.task} and is {new.task}")
    if old.corpus == new.corpus:
        if old.fold != new.fold:
            reasons.append(
                f"{folder}/{IDENTITY} has the fold {new.fold} with the corpus identity of fold "
                f"{old.fold}: it was edited by hand"
            )
        if before.predictions.labels_by_id() != after.predictions.labels_by_id():
            reasons.append(
                f"{folder}/{PREDICTIONS} has other ids or labels than in the base, but {IDENTITY} "
                "names the same corpus: it was edited by hand or is out of date"
            )
    if new.protocol != PROTOCOL:
        reasons.append(
            f"{folder}/{IDENTITY} has the protocol {new.protocol}, which this version of dhmd "
            f"(protocol {PROTOCOL}) cannot check"
        )
    lost_seeds = sorted(set(before.predictions.seeds) - set(after.predictions.seeds))
    common = len(common_seeds(before, after))
    if common < 2:
        reasons.append(
            f"base and head have {common} common seeds of {dataset}, but at least 2 are needed"
        )
    elif lost_seeds:
        reasons.append(f"{dataset} lacks the seeds {lost_seeds} of the base")
    return reasons
