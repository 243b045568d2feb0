"""How does the error of each model decrease with the number of training utterances?

The design was fixed before any result was seen:

- Regimes: `noisy` is the generator of recipe demo; `interaction` is the same with
  `generator.interaction` 0.5 (docs/data.md). Only the number of training utterances changes; there
  are always 500 for validation and 1,000 for test.
- Test corpora have seeds from 4000 on. Nothing was tuned on them. All models are trained on the
  same corpora with the same seeds, and differences are paired by corpus.
- At each size all models have the same maximum number of updates. A training stops after five
  epochs without a better validation score, and the best epoch is used.
- All models are tuned over the same candidates by validation error, on tuning corpora (seeds from
  101 on, with 2,000 validation utterances). Self-distillation and uniform edges are controls of
  DHMD and have its settings. A size without tuning has the settings of the largest tuned size below
  it, else of the smallest; an `interaction` without tuning has those of `noisy`.
- Corpora are trained in rounds. The study starts no corpus after its time limit, whatever the
  results are, so the numbers of corpora depend on the machine. To save time, the quick form has no
  `interaction` at 600, one seed, one tuning corpus, and three of the five candidates. DMD and the
  paper's form take more than twice as long as DHMD: they are tuned at 600 on `noisy` only, and
  trained on fewer corpora at 600 and 2,500. The two controls are in late rounds.
- Three points were added to the quick form after results had been seen: the interaction at 10,000,
  because hardly any model was better than ridge regression at 2,500; then 5,000 and 1,200, with the
  corpora that the full form has for them.

Every corpus is a task whose result is stored, so that an interrupted study resumes.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.studies.generated import (
    CODE,
    alignment_key,
    generator,
    one_thread,
    read_test_predictions,
    write_aligned,
)
from benchmarks.studies.tasks import code_key, read_result, rounded, run_missing, selected_scores
from dhmd.ablation.variants import configure
from dhmd.base.files import json_sha256, write_text
from dhmd.data.aligned import read_corpus
from dhmd.data.synthetic import oracle_mae
from dhmd.evaluation.statistics import paired_t_test
from dhmd.evaluation.trivial_baselines import trivial_baselines
from dhmd.settings import Settings, load_params
from dhmd.training.configuration import Configuration, overlay
from dhmd.training.history import HISTORY
from dhmd.training.jobs import ablate_job, pretrain_job
from dhmd.training.store import environment

RECIPE = "demo"
REGIMES: Mapping[str, Mapping[str, Any]] = {"noisy": {}, "interaction": {"interaction": 0.5}}
FIRST_SEED, FIRST_TUNING_SEED = 4000, 101
VALIDATION, TEST, TUNING_VALIDATION = 500, 1000, 2000
PATIENCE = 5  # epochs without a better validation score

# Maximum number of updates of every model, by training utterances.
UPDATES = {600: 240, 1200: 340, 2500: 480, 5000: 680, 10_000: 960}
# Changes of the recipe; ties go to the first candidate.
CANDIDATES: Mapping[str, Mapping[str, Any]] = {
    "recipe": {},
    "half_rate": {"train": {"lr": 1e-3}},
    "double_rate": {"train": {"lr": 4e-3}},
    "batch_32": {"train": {"batch_size": 32}},
    "high_dropout": {"model": {"dropout": {"output": 0.5}}},
}

FULL_MODEL = "dhmd"
DMD, PAPER = "dmd", "dhmd_paper"
CONTROLS = ("self_distillation", "uniform_edges")
# Models of a task by regime; DMD and the paper's form have tasks of their own.
FAST = {
    "noisy": (FULL_MODEL, "no_distillation", "no_dictionary", "late_fusion", "mult"),
    "interaction": (
        FULL_MODEL,
        "no_distillation",
        "no_dictionary",
        "late_fusion",
        "mult",
        "gru",
        "tfn",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Group:
    """Trainings of some models on evaluation corpora, one task per corpus.

    Attributes:
        size: number of training utterances.
        models: `fast`, `controls`, or the name of a slow model.
        num_corpora: number of corpora.
        first_round: the round of the first corpus.
    """

    regime: str
    size: int
    models: str
    num_corpora: int
    first_round: int = 0


@dataclass(frozen=True, kw_only=True)
class Design:
    """The design of a study.

    Attributes:
        tuning: groups of models that are tuned, by regime and size.
        groups: the trainings on evaluation corpora, in their order within a round.
        minutes: time limit, after which no corpus is started.
    """

    name: str
    candidates: tuple[str, ...]
    tuning_corpora: int
    tuning: Mapping[tuple[str, int], tuple[str, ...]]
    groups: tuple[Group, ...]
    seeds: tuple[int, ...]
    minutes: float

    @property
    def sizes(self) -> list[int]:
        """The numbers of training utterances, in increasing order."""
        return sorted({group.size for group in self.groups})


QUICK = Design(
    name="quick",
    candidates=("recipe", "half_rate", "double_rate"),
    tuning_corpora=1,
    tuning={
        ("noisy", 2500): ("fast",),
        ("interaction", 2500): ("fast",),
        ("noisy", 600): ("fast", DMD, PAPER),
    },
    groups=(
        Group(regime="noisy", size=2500, models="fast", num_corpora=12),
        Group(regime="interaction", size=2500, models="fast", num_corpora=12),
        Group(regime="noisy", size=600, models="fast", num_corpora=12),
        Group(regime="noisy", size=10_000, models="fast", num_corpora=3, first_round=3),
        Group(regime="interaction", size=10_000, models="fast", num_corpora=3, first_round=5),
        Group(regime="noisy", size=2500, models=DMD, num_corpora=6, first_round=3),
        Group(regime="interaction", size=2500, models=DMD, num_corpora=6, first_round=4),
        Group(regime="noisy", size=2500, models="controls", num_corpora=6, first_round=5),
        Group(regime="noisy", size=600, models="controls", num_corpora=6, first_round=5),
        Group(regime="noisy", size=600, models=DMD, num_corpora=4, first_round=6),
        Group(regime="noisy", size=600, models=PAPER, num_corpora=4, first_round=6),
        Group(regime="noisy", size=2500, models=PAPER, num_corpora=4, first_round=6),
        Group(regime="noisy", size=5000, models="fast", num_corpora=6, first_round=12),
        Group(regime="noisy", size=1200, models="fast", num_corpora=12, first_round=12),
    ),
    seeds=(1,),
    minutes=90,
)
FULL = Design(
    name="full",
    candidates=tuple(CANDIDATES),
    tuning_corpora=4,
    tuning={(regime, size): ("fast", DMD, PAPER) for regime in REGIMES for size in (2500, 600)},
    groups=tuple(
        Group(regime=regime, size=size, models=models, num_corpora=count)
        for regime, size, count in (
            ("noisy", 2500, 12),
            ("interaction", 2500, 12),
            ("noisy", 600, 12),
            ("noisy", 10_000, 3),
            ("interaction", 10_000, 3),
            ("interaction", 600, 12),
            ("noisy", 5000, 6),
            ("noisy", 1200, 12),
        )
        for models in ("fast", DMD, PAPER, "controls")
    ),
    seeds=(1, 2),
    minutes=360,
)


def models_of(regime: str, group: str) -> tuple[str, ...]:
    """List the models of a group."""
    return {"fast": FAST[regime], "controls": CONTROLS}.get(group, (group,))


@dataclass(frozen=True, kw_only=True)
class Training:
    """A task that trains some models on one corpus.

    Attributes:
        corpus: seed of the corpus.
        label: name of the group of models, with the candidate in tuning.
        candidates: candidate by model.
        test: whether the test split of an evaluation corpus is scored, else the validation split
            of a tuning corpus.
        until: time after which it is not started, in seconds since the epoch.
    """

    root: Path
    folder: Path
    regime: str
    size: int
    corpus: int
    label: str
    seeds: tuple[int, ...]
    candidates: Mapping[str, str]
    test: bool
    until: float = math.inf

    @property
    def result(self) -> Path:
        """The file of the scores."""
        return self.folder / f"{self.regime}-{self.size}-{self.corpus}-{self.label}.json"


def run_study(
    root: Path, design: Design, *, num_processes: int, minutes: float | None = None
) -> dict[str, Any]:
    """Tune the models, train and score them on the evaluation corpora, and return the results.

    Args:
        minutes: time limit; by default `design.minutes`.

    Returns:
        The content of learning_curves.json.

    Raises:
        DhmdError: bad parameters, or a training run failed.
    """
    until = time.time() + 60 * (design.minutes if minutes is None else minutes)
    settings, key = load_params(root).for_dataset(RECIPE), _key(root)
    tuning = tuning_tasks(root, design, key)
    run_missing(tuning, run_training, "tuning", num_processes=num_processes)
    tuned = choose([(task, read_result(task.result)) for task in tuning])
    tasks = [replace(task, until=until) for task in evaluation_tasks(root, design, key, tuned)]
    run_missing(tasks, run_training, "corpora", num_processes=num_processes)
    results = [(task, read_result(task.result)) for task in tasks if task.result.is_file()]
    return summarise(design, settings, tuned, results)


def _key(root: Path) -> dict[str, Any]:
    """Return everything that a result depends on besides its task."""
    settings = load_params(root).for_dataset(RECIPE)
    return {
        "align": alignment_key(settings),
        "code": code_key(*CODE, "benchmarks/studies/generated.py"),
        "configuration": one_thread(settings, (1,)).as_json(),
        "generator": asdict(generator(settings, {})),
        "numbers": [VALIDATION, TEST, TUNING_VALIDATION, PATIENCE, UPDATES, REGIMES],
        "alphas": settings.evaluate.ridge_alphas,
        "environment": {**environment(torch.device("cpu")), "threads": 1},
    }


def _folder(root: Path, key: Mapping[str, Any], **more: Any) -> Path:
    content = json.loads(json.dumps({**key, **more}))
    return root / ".dhmd" / "studies" / f"learning-curves-{json_sha256(content)[:12]}"


def tuning_tasks(root: Path, design: Design, key: Mapping[str, Any]) -> list[Training]:
    """List the tasks on tuning corpora."""
    return [
        Training(
            root=root,
            folder=_folder(root, key),
            regime=regime,
            size=size,
            corpus=FIRST_TUNING_SEED + number,
            label=f"{group}-{candidate}",
            seeds=(1,),
            candidates=dict.fromkeys(models_of(regime, group), candidate),
            test=False,
        )
        for number in range(design.tuning_corpora)
        for (regime, size), groups in design.tuning.items()
        for group in groups
        for candidate in design.candidates
    ]


def choose(results: Sequence[tuple[Training, Mapping[str, Any]]]) -> dict[str, Any]:
    """Choose the candidate of each model with the lowest mean validation MAE over tuning corpora.

    Returns:
        By regime, size and model: `chosen`, and `valid_mae` by candidate. Ties go to the first
        candidate.
    """
    scores: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for task, result in results:
        for model, candidate in task.candidates.items():
            entry = scores.setdefault((task.regime, str(task.size), model), {})
            entry.setdefault(candidate, []).extend(result["models"][model])
    tuned: dict[str, Any] = {}
    for (regime, size, model), candidates in scores.items():
        means = {name: float(np.mean(values)) for name, values in candidates.items()}
        chosen = min(means, key=lambda name: means[name])
        point = tuned.setdefault(regime, {}).setdefault(size, {})
        point[model] = {"chosen": chosen, "valid_mae": means}
    return tuned


def chosen_candidate(tuned: Mapping[str, Any], regime: str, size: int, model: str) -> str:
    """Return the candidate of a model at a size, which may be that of another size or regime."""
    if model in CONTROLS:
        model = FULL_MODEL
    if not any(model in point for point in tuned[regime].values()):
        regime = next(iter(REGIMES))
    sizes = sorted(int(key) for key, point in tuned[regime].items() if model in point)
    nearest = max((other for other in sizes if other <= size), default=sizes[0])
    return str(tuned[regime][str(nearest)][model]["chosen"])


def evaluation_tasks(
    root: Path, design: Design, key: Mapping[str, Any], tuned: Mapping[str, Any]
) -> list[Training]:
    """List the tasks on evaluation corpora, in rounds of one corpus per group."""
    tasks = []
    for round_number in range(
        max(group.first_round + group.num_corpora for group in design.groups)
    ):
        for group in design.groups:
            number = round_number - group.first_round
            if not 0 <= number < group.num_corpora:
                continue
            candidates = {
                model: chosen_candidate(tuned, group.regime, group.size, model)
                for model in models_of(group.regime, group.models)
            }
            tasks.append(
                Training(
                    root=root,
                    folder=_folder(root, key, candidates=candidates, seeds=design.seeds),
                    regime=group.regime,
                    size=group.size,
                    corpus=FIRST_SEED + number,
                    label=group.models,
                    seeds=design.seeds,
                    candidates=candidates,
                    test=True,
                )
            )
    return tasks


def configuration(full: Configuration, size: int, candidate: str) -> Configuration:
    """Return the configuration with the changes of a candidate and the epochs of a size."""
    changed = overlay(full, CANDIDATES[candidate])
    updates_per_epoch = math.ceil(size / changed.train.batch_size)
    epochs = max(1, UPDATES[size] // updates_per_epoch)
    return replace(changed, train=replace(changed.train, epochs=epochs, early_stop=PATIENCE))


def run_training(task: Training) -> None:
    """Generate and align the corpus, train the models, and store their scores."""
    if time.time() > task.until:
        return
    start = time.monotonic()
    settings = load_params(task.root).for_dataset(RECIPE)
    sizes = {
        "n_train": task.size,
        "n_valid": VALIDATION if task.test else TUNING_VALIDATION,
        "n_test": TEST if task.test else 1,
    }
    config = generator(settings, {**REGIMES[task.regime], **sizes, "seed": task.corpus})
    work = task.folder / f"work-{task.result.stem}"
    aligned = write_aligned(settings, config, work)
    full = one_thread(settings, task.seeds)
    store, pretrained = work / "trainings", work / "pretrained"
    seconds = {"corpus": time.monotonic() - start}
    if not pretrained.is_dir():
        pretrain_job(full, aligned, pretrained, store=store)
    seconds["pretrain"] = time.monotonic() - start - seconds["corpus"]
    folders = {}
    for candidate in dict.fromkeys(task.candidates.values()):
        base = configuration(full, task.size, candidate)
        models = [name for name, value in task.candidates.items() if value == candidate]
        variants = {name: base if name == FULL_MODEL else configure(name, base) for name in models}
        output = work / f"models-{candidate}"
        if not output.is_dir():
            ablate_job(variants, aligned, pretrained, output, store=store)
        folders.update({name: output / name for name in models})
    seconds["train"] = time.monotonic() - start - seconds["corpus"] - seconds["pretrain"]
    result: dict[str, Any]
    if task.test:
        result = _test_scores(settings, aligned, folders)
    else:
        result = {"models": {name: selected_scores(f / HISTORY) for name, f in folders.items()}}
    result["seconds"] = {name: round(value, 1) for name, value in seconds.items()}
    write_text(task.result, json.dumps(result, indent=1, sort_keys=True, allow_nan=False) + "\n")
    shutil.rmtree(work)


def _test_scores(settings: Settings, aligned: Path, folders: Mapping[str, Path]) -> dict[str, Any]:
    """Return the test MAE of each seed by model, with trivial baselines and the oracle."""
    corpus = read_corpus(aligned, test_labels=True)
    test = corpus.index("test")
    label_N = corpus.labels_N[test]
    trivial = trivial_baselines(corpus, settings.evaluate.ridge_alphas)
    models = {
        name: np.abs(read_test_predictions(corpus, folder / "outputs.h5") - label_N)
        .mean(1)
        .tolist()
        for name, folder in folders.items()
    }
    models |= {name: [trivial[name]["test"]["mae"]] for name in ("median", "ridge")}
    models["oracle"] = [oracle_mae(corpus.planted["truth"][test], label_N)]
    return {"models": models}


def summarise(
    design: Design,
    settings: Settings,
    tuned: Mapping[str, Any],
    results: Sequence[tuple[Training, Mapping[str, Any]]],
) -> dict[str, Any]:
    """Return the content of learning_curves.json.

    Its `results` have, by regime, size and model, the mean test MAE over corpora and its difference
    from DHMD (the model's minus DHMD's, paired by corpus) with a 95 % t interval over corpora.
    """
    scores: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    seconds: dict[str, dict[str, list[float]]] = {}
    for task, result in results:
        point = scores.setdefault(task.regime, {}).setdefault(str(task.size), {})
        for model, values in result["models"].items():
            point.setdefault(model, {})[str(task.corpus)] = round(float(np.mean(values)), 5)
        for name, value in result["seconds"].items():
            where = f"{task.regime}-{task.size}-{task.label}"
            seconds.setdefault(where, {}).setdefault(name, []).append(value)
    train = settings.configuration.train
    return {
        "form": design.name,
        "design": {
            "training utterances": design.sizes,
            "validation utterances": VALIDATION,
            "test utterances": TEST,
            "seeds per model": len(design.seeds),
            "first corpus": FIRST_SEED,
            "greatest number of updates": {str(size): UPDATES[size] for size in design.sizes},
            "epochs without a better score before a training stops": PATIENCE,
            "candidates": {name: CANDIDATES[name] for name in design.candidates},
            "recipe": {"lr": train.lr, "batch_size": train.batch_size},
            "minutes": design.minutes,
            "tuning corpora": design.tuning_corpora,
            "tuning validation utterances": TUNING_VALIDATION,
        },
        "tuning": rounded(tuned),
        "results": {
            regime: {
                size: {
                    model: _comparison(maes, point.get(FULL_MODEL, {}))
                    for model, maes in point.items()
                }
                for size, point in sorted(points.items(), key=lambda item: int(item[0]))
            }
            for regime, points in scores.items()
        },
        "seconds": {
            where: {name: round(float(np.mean(values)), 1) for name, values in parts.items()}
            for where, parts in seconds.items()
        },
    }


def _comparison(maes: Mapping[str, float], full: Mapping[str, float]) -> dict[str, Any]:
    """Return the mean MAE of a model, its difference from DHMD, and the MAE on every corpus."""
    entry: dict[str, Any] = {"mae": round(float(np.mean(list(maes.values()))), 5)}
    differences = np.array([maes[corpus] - full[corpus] for corpus in maes if corpus in full])
    if len(differences) > 1 and differences.any():
        interval = paired_t_test(differences)
        entry["difference"] = {
            "mean": round(interval.mean, 5),
            "low": round(interval.low, 5),
            "high": round(interval.high, 5),
            "n": len(differences),
            "better_on": int((differences > 0).sum()),
        }
    return {**entry, "n": len(maes), "mae_by_corpus": dict(sorted(maes.items()))}
