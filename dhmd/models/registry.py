"""Build models by name: `dhmd`, and each file of `dhmd/models/baselines` (see `catalogue`)."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dhmd.base.errors import DhmdError
from dhmd.models import catalogue
from dhmd.models.catalogue import DHMD, incompatibility, is_class, missing_class, model_path

if TYPE_CHECKING:
    from torch import nn

    from dhmd.models.config import DecoupleConfig, DistillationConfig, ModelConfig
    from dhmd.models.learner import Learner
    from dhmd.models.members import Members
    from dhmd.models.task import Task

_FOLDER = Path(__file__).parent
# Files that do not change a model's results.
_WITHOUT_EFFECT = ("config", "catalogue")


@dataclass(frozen=True)
class CorpusInfo:
    """Size of the corpus, for models that take an argument `corpus`.

    Attributes:
        train_utterances: size of the train split; `Batch.index_B` is below it.
        steps: longest sequence by modality, in steps.
    """

    train_utterances: int
    steps: dict[str, int]


def build(
    name: str,
    members: Members,
    task: Task,
    inputs: dict[str, int],
    *,
    config: ModelConfig,
    loss_weights: Sequence[tuple[DecoupleConfig, DistillationConfig]],
    corpus: CorpusInfo,
) -> Learner:
    """Build a model of E members.

    Args:
        inputs: feature width by modality, in the order of the batch.
        loss_weights: one pair per member. Pairs may differ in loss weights and controls alone, with
            `model.engine: plain` not at all.

    Raises:
        DhmdError: no such model, or one that cannot run with these modalities.
    """
    from dhmd.models.learner import Learner

    if reason := incompatibility(name, tuple(inputs)):
        raise DhmdError(reason)
    decouple, kd = loss_weights[0]
    if name == DHMD and config.engine == "stacked":
        from dhmd.models.stacked import dhmd as stacked

        weights = stacked.LossWeights.of(loss_weights, members.device)
        return stacked.DHMD(
            members, task, inputs, config=config, decouple=decouple, kd=kd, loss_weights=weights
        )
    cls = _model_class(name)
    if config.options.get(name) and not hasattr(cls, "Options"):
        raise DhmdError(f"params.yaml: model.options.{name} is set, but {name} has no options")
    if issubclass(cls, Learner):
        learner: Learner = cls(members, task, inputs, config)
        return learner
    from dhmd.models.ensemble import Ensemble

    optional = {"decouple": decouple, "kd": kd, "corpus": corpus}
    parameters = inspect.signature(cls).parameters
    arguments = {key: value for key, value in optional.items() if key in parameters}
    return Ensemble(members, task, lambda: cls(inputs, task, config, **arguments), name=name)


def code_files(name: str) -> list[Path]:
    """List the source files in dhmd/models that a model's results depend on.

    They are all but `config.py`, `catalogue.py` and the other baselines, except those that the
    model's file mentions by name; so a new baseline changes nothing for another model.
    """
    baselines = {path.stem: path for path in catalogue.BASELINES.rglob("*.py")}
    files = {
        path
        for path in [*_FOLDER.rglob("*.py"), *_FOLDER.rglob("*.c")]
        if path.stem not in _WITHOUT_EFFECT and path.relative_to(_FOLDER).parts[0] != "baselines"
    }
    unread = [] if name == DHMD else [model_path(name)]
    while unread:
        path = unread.pop()
        files.add(path)
        words = set(re.findall(r"\w+", path.read_text(encoding="utf-8")))
        unread += {other for stem, other in baselines.items() if stem in words} - files
    return sorted(files)


def _model_class(name: str) -> type[nn.Module]:
    """Import the class of a model."""
    from torch import nn

    from dhmd.models import dhmd

    if name == DHMD:
        return dhmd.DHMD
    path = model_path(name)
    module = importlib.import_module(f"dhmd.models.baselines.{name}")
    for key, value in vars(module).items():
        if is_class(key, name) and inspect.isclass(value) and issubclass(value, nn.Module):
            return value
    raise missing_class(path)
