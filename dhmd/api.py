"""The Python interface: `dhmd.load_corpus`, `dhmd.train`, `dhmd.compare` and `dhmd.Model`.

It runs the same code as the pipeline's stages. In a clone of the repository, recipes and
params.yaml are the clone's and files are kept in its folder .dhmd; elsewhere the ones of the
package are used, and files are kept in ~/.cache/dhmd (or `$XDG_CACHE_HOME/dhmd`). Neither DVC nor
MLflow is needed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

# PyTorch reads it once, when it is imported: deterministic cuBLAS needs a fixed workspace.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import pandas as pd
from tqdm import tqdm

import dhmd
from dhmd.ablation.variants import configure, known_variants
from dhmd.base.errors import DhmdError
from dhmd.base.files import file_sha256, json_sha256
from dhmd.base.progress import shown
from dhmd.data.aligned import Corpus, read_corpus
from dhmd.data.download import local_files, ordered_sources
from dhmd.data.download.raw_folder import fill_raw_folder
from dhmd.data.formats import align_dataset
from dhmd.evaluation.tables import variant_title
from dhmd.prediction.model import Model
from dhmd.recipes import RECIPES_FOLDER, defaults_folder, repository_root
from dhmd.settings import PARAMS_FILE, Settings, load_params
from dhmd.training.observer import Observer, TrainingInfo

__all__ = ["Model", "compare", "load_corpus", "train"]


def load_corpus(name: str, *, test_labels: bool = False, **settings: Any) -> Corpus:
    """Return the aligned features of a dataset, after downloading or generating it if needed.

    Args:
        name: a dataset with a recipe, such as demo or mosi.
        test_labels: whether to return the labels of the test split; NaN otherwise.
        settings: values of params.yaml by dotted key, as in `train`.

    Raises:
        DhmdError: no such dataset or setting, or a file cannot be obtained.
    """
    workspace = _Workspace.here(name, settings)
    fold = workspace.settings.data.fold
    return read_corpus(workspace.aligned(), fold=fold, test_labels=test_labels)


def train(
    name: str,
    model: str = "dhmd",
    seeds: int | Sequence[int] = 5,
    epochs: int | None = None,
    *,
    output: str | Path | None = None,
    **settings: Any,
) -> Model:
    """Train a model on a dataset, as the pipeline's stages do.

    A training with the same data, settings and code as an earlier one is not repeated; one that
    was interrupted continues.

    Args:
        name: a dataset with a recipe, such as demo or mosi.
        model: `dhmd`, a baseline (`mult`, `gru`, …) or a variant (`no_distillation`, …);
            docs/models.md lists them.
        seeds: how many seeds, from 1, or the seeds themselves; one ensemble member each.
        epochs: at most; None takes the dataset's own number.
        output: the model's folder; None for one among the kept files.
        settings: values of params.yaml by dotted key: `**{"kd.lambda": 0.5}`.

    Raises:
        DhmdError: no such dataset, model or setting, or a file cannot be obtained.
    """
    from dhmd.training.jobs import pretrain_job, train_job

    numbers = list(range(1, seeds + 1)) if isinstance(seeds, int) else list(seeds)
    own = {"train.seeds": numbers} | ({} if epochs is None else {"train.epochs": epochs})
    workspace = _Workspace.here(name, own | settings)
    full = workspace.settings.configuration
    if model != "dhmd" and model not in (known := known_variants(full.modalities)):
        raise DhmdError(f"there is no model {model!r}; there are dhmd, {', '.join(known)}")
    configuration = full if model == "dhmd" else configure(model, full)
    aligned = workspace.aligned()
    key = [configuration.as_json(), file_sha256(aligned), workspace.settings.data.fold]
    folder = workspace.cache / "models" / f"{name}-{model}-{json_sha256(key)[:12]}"
    target = folder / "model" if output is None else Path(output)
    common: dict[str, Any] = {
        "fold": workspace.settings.data.fold,
        "observer": _Bars(),
        "store": workspace.cache / "trainings",
    }
    pretrain_job(full, aligned, folder / "pretrained", **common)
    encoder = None
    if configuration.trains_encoder:
        from dhmd.data.text.encoder import load_encoder

        encoder = load_encoder(workspace.settings.features.encoder, workspace.root)
    train_job(configuration, aligned, folder / "pretrained", target, encoder=encoder, **common)
    trained = Model(target, workspace.settings.compute.device)
    trained.corpus = aligned
    return trained


def compare(
    models: Sequence[Model | str],
    *,
    corpus: Corpus | None = None,
    metric: str | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Compare test scores, paired by seed with those of the first model.

    Args:
        models: trained models; or names as `dhmd.comparison.compare` takes them: models and
            variants of the repository, revisions, experiments, CSV files of predictions.
        corpus: what the models were trained on, with its test labels; None loads it by its name.
        metric: of the differences; None for MAE, or weighted F1 of a classification.
        options: those of `dhmd.comparison.compare`, if there are only names.

    Returns:
        One row per model: scores, the difference from the first, and its intervals over seeds and
        over utterances; see `dhmd.comparison.compare`.

    Raises:
        DhmdError: the results may not be compared, or a model is unknown.
    """
    from dhmd import comparison

    given = [model for model in models if isinstance(model, Model)]
    if not given:
        names = [str(model) for model in models]
        return comparison.compare(names, metric=metric, **options)
    if len(given) < len(models):
        raise DhmdError("compare takes either models or names, not both")
    if corpus is None:
        own = given[0].description
        settings = {"data.alignment": own.alignment, "data.fold": own.fold}
        corpus = load_corpus(own.dataset, test_labels=True, **settings)
    folders: dict[str, Path] = {}
    for model in given:
        name = variant_title(model.description.configuration.architecture)
        if name in folders:
            name = str(model.folder)
        folders[name] = model.folder
    return comparison.compare_folders(folders, corpus, metric=metric)


@dataclass(frozen=True)
class _Workspace:
    """Where recipes come from and files are kept.

    Attributes:
        settings: of one dataset.
        root: relative folders count from here.
        defaults: the folder of recipes and params.yaml.
        cache: the folder of what is kept.
    """

    settings: Settings
    root: Path
    defaults: Path
    cache: Path

    @staticmethod
    def here(name: str, changes: Mapping[str, Any]) -> _Workspace:
        """Return the workspace of the working folder: that of a clone, or the user's own."""
        root = repository_root()
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        defaults, cache = defaults_folder(), home / "dhmd"
        if (root / PARAMS_FILE).is_file() and (root / RECIPES_FOLDER).is_dir():
            defaults, cache = root, root / ".dhmd"
        settings = load_params(defaults, changes).for_dataset(name)
        return _Workspace(settings, root, defaults, cache)

    def aligned(self) -> Path:
        """Return the aligned features file, which is made if it is not kept yet."""
        own = self.settings
        corpus = [own.recipe.corpus(), _code_sha256(), self._files()]
        raw = self.cache / "raw" / f"{own.dataset}-{json_sha256(corpus)[:12]}"
        if not raw.is_dir():
            fill_raw_folder(own, raw, root=self.root)
        recipes = self.defaults / RECIPES_FOLDER
        folds = own.recipe.folds
        plan = [
            *corpus,
            own.data.alignment,
            repr(own.align),
            repr(own.features),
            None if folds is None else (recipes / folds.file).read_text(encoding="utf-8"),
        ]
        path = self.cache / "aligned" / f"{own.dataset}-{json_sha256(plan)[:12]}.h5"
        if not path.is_file():
            align_dataset(own, raw, path, root=self.root, recipes=recipes)
        return path

    def _files(self) -> list[list[Any]]:
        """Return the recipe's files; local ones with size and time, so that changes are seen."""
        recipe = self.settings.recipe
        if recipe.format == "generated":
            return []
        override = self.settings.data.sources.get(self.settings.dataset)
        sources = ordered_sources(recipe, override, self.root)
        found: list[list[Any]] = []
        for file, path, _ in local_files(recipe, sources):
            status = None if path is None else path.stat()
            about = [] if status is None else [str(path), status.st_size, status.st_mtime_ns]
            found.append([file.sequence, file.path, *about])
        return found


@lru_cache
def _code_sha256() -> str:
    """Return the sha256 of the code that makes the aligned features files."""
    files = sorted((Path(dhmd.__file__).parent / "data").rglob("*.py"))
    return json_sha256([file_sha256(path) for path in files])


class _Bars(Observer):
    """Shows a bar of epochs on a terminal and in a notebook."""

    def started(self, training: TrainingInfo) -> None:
        epochs = training.parameters["train"]["epochs"]
        if training.stage == "pretrain":
            epochs *= len(training.parameters["modalities"])
        self._bar = tqdm(
            total=epochs,
            initial=training.resumed_epoch,
            desc=training.stage,
            unit="epoch",
            disable=not shown(),
        )

    def epoch(self, epoch: int, rows: Mapping[str, Mapping[str, float]]) -> None:
        scores = [v for row in rows.values() for n, v in row.items() if n == "valid/mae"]
        if scores:
            self._bar.set_postfix_str(f"validation MAE {sum(scores) / len(scores):.3f}")
        self._bar.update()

    def finished(self, outputs: Path) -> None:
        self._bar.close()
