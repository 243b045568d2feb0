"""Does distillation help, and do edges, dictionaries and features have the intended meaning?

The corpora are generated, with known factors. All variants have the same seeds, and conclusions are
drawn over corpora. Every corpus is a task whose result is stored, so that an interrupted study
resumes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.studies.generated import (
    CODE,
    alignment_key,
    generator,
    one_thread,
    read_test_predictions,
    write_aligned,
)
from benchmarks.studies.probes import decoupling_probes, edge_correlations, reference_edges
from benchmarks.studies.tasks import code_key, read_result, rounded, run_missing
from dhmd.ablation.variants import configure
from dhmd.base.errors import DhmdError
from dhmd.base.files import json_sha256, write_text
from dhmd.data.aligned import read_corpus
from dhmd.data.aligned.corpus import Corpus
from dhmd.data.synthetic import oracle_mae
from dhmd.evaluation.interpretability import latent_overlap
from dhmd.evaluation.statistics import paired_t_test
from dhmd.evaluation.trivial_baselines import trivial_baselines
from dhmd.settings import load_params
from dhmd.training.configuration import Configuration
from dhmd.training.jobs import ablate_job, pretrain_job
from dhmd.training.store import environment

# Seeds of the corpora. Nothing was tuned on them (tuning had seeds 101 to 199), and no earlier
# version of the method was evaluated on them (earlier studies had 1000 to 1015 and 2000 to 2023).
FIRST_SEED = 3000

# Default number of corpora per regime; more where the effect is small relative to the spread.
CORPORA = {"noisy": 24, "clean": 10, "no_cue": 10, "audio": 4, "large": 3}

RECIPES = {
    "noisy": "demo",
    "clean": "demo_clean",
    "no_cue": "demo_no_cue",
    "audio": "demo",
    "large": "demo",
}
REGIMES = tuple(RECIPES)

# The code that a result depends on besides training, which has its own key.
_CODE = (
    *CODE,
    "benchmarks/studies/distillation.py",
    "benchmarks/studies/generated.py",
    "benchmarks/studies/probes.py",
)

# Variants that are compared with the full model, as their MAE minus that of the full model.
COMPARISONS = (
    "no_distillation",
    "self_distillation",
    "uniform_edges",
    "shuffled_edges",
    "late_fusion",
)

# Variants that are trained with all seeds, by regime, for a narrow interval; the others have the
# first seed only.
_EVERY_SEED = {"noisy": ("full", "no_distillation"), "clean": ("full", "no_distillation")}

# Audio instead of text is the reliable teacher; only the edges of this regime are of interest.
_AUDIO_TEACHER = {
    "strength": {"text": 0.6, "audio": 0.95, "vision": 0.6},
    "misleading": {"text": 0.3, "audio": 0.05, "vision": 0.3},
    "exclusive": {"text": 0.16, "audio": 0.22, "vision": 0.16},
}

# Eight times as many utterances, from which the planted factors can be learnt.
_LARGE = {"n_train": 5000, "n_test": 1000}

# Changes of the dataset config's generator section by regime.
_CHANGES: Mapping[str, Mapping[str, Any]] = {"audio": _AUDIO_TEACHER, "large": _LARGE}


@dataclass(frozen=True, kw_only=True)
class CorpusTask:
    """A task that trains all variants on one corpus of a regime."""

    root: Path
    folder: Path
    regime: str
    corpus_seed: int
    seeds: tuple[int, ...]

    @property
    def result(self) -> Path:
        """The file of the scores."""
        return self.folder / f"{self.regime}-{self.corpus_seed}.json"

    @property
    def variants(self) -> tuple[str, ...]:
        """The variants that are trained besides the full model."""
        return {"audio": (), "large": ("no_distillation",)}.get(self.regime, COMPARISONS)

    def seeds_of(self, variant: str) -> tuple[int, ...]:
        """Return the seeds that a variant is trained with."""
        return self.seeds if variant in _EVERY_SEED.get(self.regime, ()) else self.seeds[:1]


def run_study(
    root: Path,
    *,
    corpora: Mapping[str, int],
    seeds: Sequence[int],
    num_processes: int,
) -> dict[str, Any]:
    """Run the tasks that are not stored yet, and summarise the results of all corpora.

    Args:
        corpora: number of corpora by regime.

    Raises:
        DhmdError: bad parameters, or a training that failed.
    """
    if min(corpora.values()) < 2:
        raise DhmdError("an interval over corpora needs at least 2 per regime: raise --corpora")
    tasks = list(_tasks(root, corpora, tuple(seeds)))
    run_missing(tasks, run_task, "corpora", num_processes=num_processes)
    return summarise({r: [read_result(t.result) for t in tasks if t.regime == r] for r in corpora})


def _tasks(root: Path, corpora: Mapping[str, int], seeds: tuple[int, ...]) -> Iterator[CorpusTask]:
    """Yield the tasks, the first corpus of every regime first."""
    import torch

    params, code = load_params(root), code_key(*_CODE)
    for number in range(max(corpora.values())):
        for regime in (name for name, count in corpora.items() if number < count):
            settings = params.for_dataset(RECIPES[regime])
            # A result is valid for one configuration, code and environment.
            key = {
                "align": alignment_key(settings),
                "code": code,
                "configuration": one_thread(settings, seeds).as_json(),
                "generator": asdict(generator(settings, _CHANGES.get(regime, {}))),
                "environment": {**environment(torch.device("cpu")), "threads": 1},
            }
            folder = root / ".dhmd" / "studies" / f"distillation-{json_sha256(key)[:12]}"
            yield CorpusTask(
                root=root,
                folder=folder,
                regime=regime,
                corpus_seed=FIRST_SEED + number,
                seeds=seeds,
            )


def run_task(task: CorpusTask) -> None:
    """Generate, align, pretrain and train all variants, and store the results."""
    settings = load_params(task.root).for_dataset(RECIPES[task.regime])
    changes = {"seed": task.corpus_seed, **_CHANGES.get(task.regime, {})}
    work = task.folder / f"work-{task.regime}-{task.corpus_seed}"
    aligned = write_aligned(settings, generator(settings, changes), work)
    full = one_thread(settings, task.seeds_of("full"))
    store, pretrained, models = work / "trainings", work / "pretrained", work / "models"
    if not pretrained.is_dir():
        pretrain_job(full, aligned, pretrained, store=store)
    variants = {"full": full, **{name: configure(name, full) for name in task.variants}}
    for name, variant in variants.items():
        variants[name] = replace(variant, train=replace(variant.train, seeds=task.seeds_of(name)))
    if not models.is_dir():
        ablate_job(variants, aligned, pretrained, models, store=store)
    scores = _evaluate(task, full, aligned, models)
    write_text(task.result, json.dumps(scores, indent=1, sort_keys=True, allow_nan=False) + "\n")
    shutil.rmtree(work)


def _evaluate(task: CorpusTask, full: Configuration, aligned: Path, models: Path) -> dict[str, Any]:
    """Return the errors of all variants and trivial baselines, and the full model's meaning."""
    corpus = read_corpus(aligned, test_labels=True)
    test = corpus.index("test")
    label, truth = corpus.labels_N[test], corpus.planted["truth"][test]
    scores: dict[str, Any] = {
        "corpus": task.corpus_seed,
        "identity": corpus.identity,
        "oracle": oracle_mae(truth, label),
        "trivial": {
            name: entry["test"]["mae"]
            for name, entry in trivial_baselines(corpus, (1.0, 10.0, 100.0, 1000.0)).items()
        },
    }
    for name in ("full", *task.variants):
        prediction = read_test_predictions(corpus, models / name / "outputs.h5")
        scores[name] = {
            "mae": np.abs(prediction - label).mean(1).tolist(),
            "truth": np.abs(prediction - truth).mean(1).tolist(),
        }
    scores["meaning"] = _meaning(corpus, full, models / "full")
    return scores


def _meaning(corpus: Corpus, full: Configuration, folder: Path) -> dict[str, Any]:
    """Compare edges, dictionaries and features of the full model with the ground truth."""
    modalities, test = full.modalities, corpus.index("test")
    meaning: dict[str, Any] = {"edges": {}, "dictionary": {}}
    latent = corpus.planted["latent"][test].astype(np.int64)
    with h5py.File(folder / "outputs.h5", "r") as file:
        statistics = json.loads(file.attrs.get("dictionary_stats", "{}"))
        for space, values in file["edges"].items():
            edges_SNIJ = values[()]
            rho = [edge_correlations(corpus, edges, modalities) for edges in edges_SNIJ]
            meaning["edges"][space] = {
                "mean_out": {
                    name: float(np.nanmean(edges_SNIJ[:, test, index]))
                    for index, name in enumerate(modalities)
                },
                "rank_correlation": _mean_tree(rho),
            }
        for space, values in file.get("codes", {}).items():
            codes = values[()][test].astype(np.float64)
            overlap = latent_overlap(codes, corpus.present_NM[test], latent)
            counts = {k: v for k, v in statistics[space][0].items() if not k.startswith("overlap")}
            meaning["dictionary"][space] = {**overlap, **counts}
        features = {space: values[()] for space, values in file["embedding"].items()}
    meaning["probes"] = decoupling_probes(corpus, features, modalities)
    meaning["leading_probes"] = decoupling_probes(corpus, features, modalities, leading=True)
    reference = reference_edges(
        corpus, features["homogeneous"].astype(np.float32), modalities, full.kd.graph.hidden
    )
    meaning["edges"]["reference"] = {
        "rank_correlation": edge_correlations(corpus, reference, modalities)
    }
    return meaning


def summarise(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Return `{regime: {comparison: {difference, ci_low, ci_high, corpora, seeds, …}, …}}`.

    A difference is a variant's MAE minus that of the full model, the mean over seeds for each
    corpus; the 95 % t interval is over corpora. `truth_difference` is the same for the MAE to the
    label before noise. Each regime also has `scores` (mean MAE) and `meaning` (edges, dictionaries,
    probes).
    """
    summary: dict[str, Any] = {}
    for regime, rows in results.items():
        entry: dict[str, Any] = {}
        names = [name for name in COMPARISONS if name in rows[0]]
        for name in names:
            seeds = len(rows[0][name]["mae"])
            differences = {
                kind: np.array(
                    [np.mean(r[name][kind]) - np.mean(r["full"][kind][:seeds]) for r in rows]
                )
                for kind in ("mae", "truth")
            }
            interval, truth = paired_t_test(differences["mae"]), paired_t_test(differences["truth"])
            entry[name] = {
                "difference": interval.mean,
                "ci_low": interval.low,
                "ci_high": interval.high,
                "corpora": len(rows),
                "seeds": seeds,
                "truth_difference": truth.mean,
                "truth_ci_low": truth.low,
                "truth_ci_high": truth.high,
            }
        entry["scores"] = {
            **{name: _mean([np.mean(r[name]["mae"]) for r in rows]) for name in ("full", *names)},
            **{name: _mean([r["trivial"][name] for r in rows]) for name in rows[0]["trivial"]},
            "oracle": _mean([r["oracle"] for r in rows]),
        }
        entry["meaning"] = _mean_tree([r["meaning"] for r in rows])
        summary[regime] = rounded(entry)
    return summary


def _mean(values: Sequence[Any]) -> float:
    return float(np.mean(values))


def _mean_tree(trees: Sequence[Any]) -> Any:
    """Average nested numbers by key, over the trees that have the key."""
    if isinstance(trees[0], Mapping):
        keys = sorted({key for tree in trees for key in tree})
        return {key: _mean_tree([tree[key] for tree in trees if key in tree]) for key in keys}
    numbers = [value for value in trees if value is not None]
    return _mean(numbers) if numbers else None
