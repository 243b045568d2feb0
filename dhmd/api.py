"""The Python interface: `dhmd.load_corpus`, `dhmd.train`, `dhmd.compare` and `dhmd.Model`.

It runs the same code as the stages of the pipeline, without DVC and MLflow. In a clone of the
repository it reads the clone's recipes and params.yaml and caches files in .dhmd; elsewhere it
reads those of the package and caches files in ~/.cache/dhmd (or `$XDG_CACHE_HOME/dhmd`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

# Deterministic cuBLAS needs a fixed workspace; PyTorch reads this variable when it is imported.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import pandas as pd
from tqdm import tqdm

import dhmd
from dhmd.ablation.variants import configure, known_variants
from dhmd.base.errors import DhmdError
from dhmd.base.files import file_sha256, json_sha256
from dhmd.base.progress import is_interactive
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
        test_labels: whether to return the labels of the test split; they are NaN otherwise.
        settings: values of params.yaml by dotted key, as in `train`.

    Raises:
        DhmdError: there is no such dataset or setting, or a file cannot be obtained.
    """
    context = _DatasetContext.of_dataset(name, settings)
    fold = context.settings.data.fold
    return read_corpus(context.aligned_path(), fold=fold, test_labels=test_labels)


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

    A training with the same data, settings and code as an earlier one is not repeated; an
    interrupted training continues.

    Args:
        name: a dataset with a recipe, such as demo or mosi.
        model: `dhmd`, a baseline (`mult`, `gru`, …) or a variant (`no_distillation`, …);
            docs/models.md lists them.
        seeds: the number of seeds (2 means the seeds 1 and 2), or a list of seeds. Each seed gives
            one ensemble member.
        epochs: the maximum number of epochs; None takes the dataset's own number.
        output: the model directory to write; None for a directory in the cache.
        settings: values of params.yaml by dotted key: `**{"kd.lambda": 0.5}`.

    Returns:
        The trained model of all seeds.

    Raises:
        DhmdError: there is no such dataset, model or setting, or a file cannot be obtained.
    """
    from dhmd.training.jobs import pretrain_job, train_job

    changes: dict[str, Any] = {
        "train.seeds": list(range(1, seeds + 1)) if isinstance(seeds, int) else list(seeds)
    }
    if epochs is not None:
        changes["train.epochs"] = epochs
    context = _DatasetContext.of_dataset(name, changes | settings)
    dhmd_configuration = context.settings.configuration
    if model != "dhmd" and model not in (variants := known_variants(dhmd_configuration.modalities)):
        raise DhmdError(f"there is no model {model!r}; the models are dhmd, {', '.join(variants)}")
    configuration = dhmd_configuration if model == "dhmd" else configure(model, dhmd_configuration)
    aligned = context.aligned_path()
    key = [configuration.as_json(), file_sha256(aligned), context.settings.data.fold]
    folder = context.cache / "models" / f"{name}-{model}-{json_sha256(key)[:12]}"
    target = folder / "model" if output is None else Path(output)
    common: dict[str, Any] = {
        "fold": context.settings.data.fold,
        "observer": _ProgressBar(),
        "store": context.cache / "trainings",
    }
    pretrain_job(dhmd_configuration, aligned, folder / "pretrained", **common)
    encoder = None
    if configuration.trains_encoder:
        from dhmd.data.text.encoder import load_encoder

        encoder = load_encoder(context.settings.features.encoder, context.root)
    train_job(configuration, aligned, folder / "pretrained", target, encoder=encoder, **common)
    trained = Model(target, context.settings.compute.device)
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
        corpus: the corpus on which the models were trained, with test labels; None loads it by its
            name.
        metric: the metric of the differences; None means MAE, or weighted F1 of a classification.
        options: other arguments of `dhmd.comparison.compare`, for names only.

    Returns:
        One row per model: scores, the difference from the first, and its intervals over seeds and
        over utterances; see `dhmd.comparison.compare`.

    Raises:
        DhmdError: the results cannot be compared, or a model is unknown.
    """
    from dhmd import comparison

    trained = [model for model in models if isinstance(model, Model)]
    if not trained:
        names = [str(model) for model in models]
        return comparison.compare(names, metric=metric, **options)
    if len(trained) < len(models):
        raise DhmdError("compare takes either models or names, not both")
    if corpus is None:
        description = trained[0].description
        settings = {"data.alignment": description.alignment, "data.fold": description.fold}
        corpus = load_corpus(description.dataset, test_labels=True, **settings)
    folders: dict[str, Path] = {}
    for model in trained:
        name = variant_title(model.description.configuration.architecture)
        if name in folders:
            name = str(model.folder)
        folders[name] = model.folder
    return comparison.compare_folders(folders, corpus, metric=metric)


@dataclass(frozen=True)
class _DatasetContext:
    """The settings of one dataset, and the folders to read and write.

    Attributes:
        settings: all settings of the dataset.
        root: the folder to which relative paths in settings refer.
        defaults: the folder of recipes/ and params.yaml.
        cache: the folder of downloaded, aligned and trained files.
    """

    settings: Settings
    root: Path
    defaults: Path
    cache: Path

    @staticmethod
    def of_dataset(name: str, changes: Mapping[str, Any]) -> _DatasetContext:
        """Return the context in a clone, if the working folder is in one, or in the user's cache.

        Args:
            name: the dataset.
            changes: values to use instead of those of params.yaml, by dotted key.
        """
        root = repository_root()
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        defaults, cache = defaults_folder(), home / "dhmd"
        if (root / PARAMS_FILE).is_file() and (root / RECIPES_FOLDER).is_dir():
            defaults, cache = root, root / ".dhmd"
        settings = load_params(defaults, changes).for_dataset(name)
        return _DatasetContext(settings, root, defaults, cache)

    def aligned_path(self) -> Path:
        """Return the path of the aligned features file, after writing it if it is not cached."""
        settings = self.settings
        raw_key = [settings.recipe.definition(), _code_sha256(), self._files()]
        raw = self.cache / "raw" / f"{settings.dataset}-{json_sha256(raw_key)[:12]}"
        if not raw.is_dir():
            fill_raw_folder(settings, raw, root=self.root)
        recipes = self.defaults / RECIPES_FOLDER
        folds = settings.recipe.folds
        aligned_key = [
            *raw_key,
            settings.data.alignment,
            repr(settings.align),
            repr(settings.features),
            None if folds is None else (recipes / folds.file).read_text(encoding="utf-8"),
        ]
        path = self.cache / "aligned" / f"{settings.dataset}-{json_sha256(aligned_key)[:12]}.h5"
        if not path.is_file():
            align_dataset(settings, raw, path, root=self.root, recipes=recipes)
        return path

    def _files(self) -> list[list[Any]]:
        """Return [sequence, path] of each file, and [path, size, time] of each local copy.

        They are a part of the cache key, so that a changed local file is read again.
        """
        recipe = self.settings.recipe
        if recipe.format == "generated":
            return []
        override = self.settings.data.sources.get(self.settings.dataset)
        sources = ordered_sources(recipe, override, self.root)
        rows: list[list[Any]] = []
        for file, path, _ in local_files(recipe, sources):
            status = None if path is None else path.stat()
            local_copy = [] if status is None else [str(path), status.st_size, status.st_mtime_ns]
            rows.append([file.sequence, file.path, *local_copy])
        return rows


@lru_cache
def _code_sha256() -> str:
    """Return the sha256 of the code that writes aligned features files."""
    files = sorted((Path(dhmd.__file__).parent / "data").rglob("*.py"))
    return json_sha256([file_sha256(path) for path in files])


class _ProgressBar(Observer):
    """Shows the number of epochs and the validation MAE on a terminal and in a notebook."""

    def on_start(self, training: TrainingInfo) -> None:
        epochs = training.parameters["train"]["epochs"]
        if training.stage == "pretrain":
            epochs *= len(training.parameters["modalities"])
        self._bar = tqdm(
            total=epochs,
            initial=training.resumed_epoch,
            desc=training.stage,
            unit="epoch",
            disable=not is_interactive(),
        )

    def on_epoch(self, epoch: int, rows: Mapping[str, Mapping[str, float]]) -> None:
        scores = [row["valid/mae"] for row in rows.values() if "valid/mae" in row]
        if scores:
            self._bar.set_postfix_str(f"validation MAE {sum(scores) / len(scores):.3f}")
        self._bar.update()

    def on_finish(self, outputs: Path) -> None:
        self._bar.close()
