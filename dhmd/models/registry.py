"""Find models by name and build them: `dhmd`, and each file of `dhmd/models/baselines`.

A model `my_model` is the class `MyModel` in `baselines/my_model.py`: the class has the file's name
without underscores, in any case. docs/extend.md describes what such a class looks like.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dhmd.base.errors import DhmdError

if TYPE_CHECKING:  # torch takes a second to import, which listing models must not
    from torch import nn

    from dhmd.models.config import DecoupleConfig, DistillationConfig, ModelConfig
    from dhmd.models.learner import Learner
    from dhmd.models.members import Members
    from dhmd.models.task import Task

DHMD = "dhmd"

_FOLDER = Path(__file__).parent
_BASELINES = _FOLDER / "baselines"


@dataclass(frozen=True)
class Corpus:
    """Facts about the corpus, passed to models that take an argument `corpus`.

    Attributes:
        train_utterances: size of the train split; `Batch.index_B` is below it.
        steps: longest length by modality.
    """

    train_utterances: int
    steps: dict[str, int]


@dataclass(frozen=True)
class Card:
    """Facts about a model, read from its file without running it.

    Attributes:
        summary: first line of the file's docstring.
        min_modalities: number of modalities that it needs, a class attribute.
        needs: names of modalities that it needs, a class attribute.
    """

    summary: str
    min_modalities: int = 1
    needs: tuple[str, ...] = ()


def baseline_names() -> tuple[str, ...]:
    """List the names of all baselines."""
    return tuple(sorted(p.stem for p in _BASELINES.glob("*.py") if not p.stem.startswith("_")))


def card(name: str) -> Card:
    """Read a model's card from its file.

    Raises:
        DhmdError: no such model, or no such class in its file.
    """
    if name == DHMD:
        return Card("the full model")
    path = _path(name)
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise DhmdError(f"{path} is not valid Python: {error}") from error
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    node = next((node for node in classes if _is_class(node.name, name)), None)
    if node is None:
        raise _no_class(path)
    found: dict[str, Any] = {}
    for line in node.body:
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
            found[line.targets[0].id] = line.value
        elif isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            found[line.target.id] = line.value
    values = {
        key: ast.literal_eval(found[key]) for key in ("min_modalities", "needs") if key in found
    }
    summary = (ast.get_docstring(tree) or name).splitlines()[0].rstrip(".")
    return Card(summary, **values)


def refusal(name: str, modalities: Sequence[str]) -> str | None:
    """Return why a model cannot run with these modalities; None if it can."""
    found, given = card(name), " and ".join(modalities)
    missing = [need for need in found.needs if need not in modalities]
    if missing:
        return f"{name} needs {missing[0]}, but the modalities are {given}"
    if len(modalities) < found.min_modalities:
        return f"{name} needs {found.min_modalities} modalities, but there is only {given}"
    return None


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

    They are all but `config.py` and the other baselines, except those that the model's file names;
    so a new baseline changes nothing for another model.
    """
    baselines = {path.stem: path for path in _BASELINES.rglob("*.py")}
    found = {
        path
        for path in _FOLDER.rglob("*.py")
        if path.stem != "config" and path.relative_to(_FOLDER).parts[0] != "baselines"
    }
    waiting = [] if name == DHMD else [_path(name)]
    while waiting:
        path = waiting.pop()
        found.add(path)
        words = set(re.findall(r"\w+", path.read_text(encoding="utf-8")))
        named = {other for stem, other in baselines.items() if stem in words}
        waiting += named - found
    return sorted(found)


def _path(name: str) -> Path:
    path = _BASELINES / f"{name}.py"
    if name not in baseline_names():
        known = ", ".join((DHMD, *baseline_names()))
        raise DhmdError(f"there is no model {name!r}; there are {known}")
    return path


def _find(name: str) -> type[nn.Module]:
    """Import a model's class."""
    from torch import nn

    from dhmd.models import dhmd

    if name == DHMD:
        return dhmd.DHMD
    path = _path(name)
    module = importlib.import_module(f"dhmd.models.baselines.{name}")
    for key, value in vars(module).items():
        if _is_class(key, name) and inspect.isclass(value) and issubclass(value, nn.Module):
            return value
    raise _no_class(path)


def _is_class(found: str, name: str) -> bool:
    return found.lower() == name.replace("_", "").lower()


def _no_class(path: Path) -> DhmdError:
    wanted = "".join(word.capitalize() for word in path.stem.split("_"))
    return DhmdError(f"{path} must define a class {wanted}")
