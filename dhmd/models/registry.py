"""Build models by name: `dhmd`, and each file of `dhmd/models/baselines` (see `cards`)."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dhmd.base.errors import DhmdError
from dhmd.models import cards
from dhmd.models.cards import DHMD, is_class, model_path, no_class, refusal

if TYPE_CHECKING:
    from torch import nn

    from dhmd.models.config import DecoupleConfig, DistillationConfig, ModelConfig
    from dhmd.models.learner import Learner
    from dhmd.models.members import Members
    from dhmd.models.task import Task

_FOLDER = Path(__file__).parent
# Files without influence on a result.
_NO_CODE = ("config", "cards")


@dataclass(frozen=True)
class Corpus:
    """Facts about the corpus, passed to models that take an argument `corpus`.

    Attributes:
        train_utterances: size of the train split; `Batch.index_B` is below it.
        steps: longest length by modality.
    """

    train_utterances: int
    steps: dict[str, int]


def build(
    name: str,
    members: Members,
    task: Task,
    inputs: dict[str, int],
    *,
    model: ModelConfig,
    loss_weights: Sequence[tuple[DecoupleConfig, DistillationConfig]],
    corpus: Corpus,
) -> Learner:
    """Build a model of E members.

    Args:
        inputs: feature width by modality, in the order of the batch.
        loss_weights: one pair per member; all pairs agree in all that shapes the model, and with
            `model.engine: plain` entirely.

    Raises:
        DhmdError: no such model, or one that cannot run with these modalities.
    """
    from dhmd.models.learner import Learner

    if reason := refusal(name, tuple(inputs)):
        raise DhmdError(reason)
    decouple, kd = loss_weights[0]
    if name == DHMD and model.engine == "stacked":
        from dhmd.models.stacked import dhmd as stacked

        numbers = stacked.LossWeights.of(loss_weights, members.device)
        return stacked.DHMD(
            members, task, inputs, model=model, decouple=decouple, kd=kd, loss_weights=numbers
        )
    cls = _find(name)
    if model.options.get(name) and not hasattr(cls, "Options"):
        raise DhmdError(f"params.yaml: model.options.{name} is set, but {name} has no options")
    if issubclass(cls, Learner):
        learner: Learner = cls(members, task, inputs, model)
        return learner
    from dhmd.models.ensemble import Ensemble

    optional = {"decouple": decouple, "kd": kd, "corpus": corpus}
    takes = inspect.signature(cls).parameters
    chosen = {key: value for key, value in optional.items() if key in takes}
    return Ensemble(members, task, lambda: cls(inputs, task, model, **chosen), name=name)


def code_files(name: str) -> list[Path]:
    """List the source files in dhmd/models that a model's results depend on.

    They are all but `config.py`, `cards.py` and the other baselines, except those that the model's
    file names; so a new baseline changes nothing for another model.
    """
    baselines = {path.stem: path for path in cards.BASELINES.rglob("*.py")}
    found = {
        path
        for path in _FOLDER.rglob("*.py")
        if path.stem not in _NO_CODE and path.relative_to(_FOLDER).parts[0] != "baselines"
    }
    waiting = [] if name == DHMD else [model_path(name)]
    while waiting:
        path = waiting.pop()
        found.add(path)
        words = set(re.findall(r"\w+", path.read_text(encoding="utf-8")))
        named = {other for stem, other in baselines.items() if stem in words}
        waiting += named - found
    return sorted(found)


def _find(name: str) -> type[nn.Module]:
    """Import a model's class."""
    from torch import nn

    from dhmd.models import dhmd

    if name == DHMD:
        return dhmd.DHMD
    path = model_path(name)
    module = importlib.import_module(f"dhmd.models.baselines.{name}")
    for key, value in vars(module).items():
        if is_class(key, name) and inspect.isclass(value) and issubclass(value, nn.Module):
            return value
    raise no_class(path)
