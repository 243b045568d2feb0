"""The models by name and what each needs: `dhmd`, and each file of `dhmd/models/baselines`.

Model `my_model` is the class `MyModel` in `baselines/my_model.py`: the class has the file's name
without underscores, in any case (docs/extend.md). Model files are parsed and not imported, so that
listing models is fast.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dhmd.base.errors import DhmdError

DHMD = "dhmd"

BASELINES = Path(__file__).parent / "baselines"


@dataclass(frozen=True)
class ModelInfo:
    """Description of a model.

    Attributes:
        summary: first line of the file's docstring.
        title: name in tables, a class attribute; by default the model's name.
        min_modalities: number of modalities that it needs, a class attribute.
        needs: names of modalities that it needs, a class attribute.
    """

    summary: str
    title: str
    min_modalities: int = 1
    needs: tuple[str, ...] = ()


def baseline_names() -> tuple[str, ...]:
    """List the names of all baselines."""
    return tuple(sorted(p.stem for p in BASELINES.glob("*.py") if not p.stem.startswith("_")))


def model_info(name: str) -> ModelInfo:
    """Read the description of a model from its file.

    Raises:
        DhmdError: no such model, or no such class in its file.
    """
    if name == DHMD:
        return ModelInfo("the full model", "DHMD")
    path = model_path(name)
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise DhmdError(f"{path} is not valid Python: {error}") from error
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    model = next((node for node in classes if is_class(node.name, name)), None)
    if model is None:
        raise missing_class(path)
    attributes: dict[str, Any] = {}
    for node in model.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            attributes[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            attributes[node.target.id] = node.value
    values = {
        key: ast.literal_eval(attributes[key])
        for key in ("title", "min_modalities", "needs")
        if key in attributes
    }
    summary = (ast.get_docstring(tree) or name).splitlines()[0].rstrip(".")
    return ModelInfo(summary, **{"title": name.replace("_", " "), **values})


def model_title(name: str) -> str | None:
    """Return a model's name in tables; None if no model has the name."""
    return model_info(name).title if name in (DHMD, *baseline_names()) else None


def incompatibility(name: str, modalities: Sequence[str]) -> str | None:
    """Return why a model cannot run with these modalities; None if it can."""
    info, available = model_info(name), " and ".join(modalities)
    missing = [modality for modality in info.needs if modality not in modalities]
    if missing:
        return f"{name} needs {missing[0]}, but the modalities are {available}"
    if len(modalities) < info.min_modalities:
        return f"{name} needs {info.min_modalities} modalities, but there is only {available}"
    return None


def model_path(name: str) -> Path:
    """Return the file of a baseline.

    Raises:
        DhmdError: no such model.
    """
    if name not in baseline_names():
        names = ", ".join((DHMD, *baseline_names()))
        raise DhmdError(f"there is no model {name!r}; the models are {names}")
    return BASELINES / f"{name}.py"


def is_class(class_name: str, name: str) -> bool:
    """Return whether a class of this name is the model `name`."""
    return class_name.lower() == name.replace("_", "").lower()


def missing_class(path: Path) -> DhmdError:
    """Return the error for a file without the class that its name requires."""
    class_name = "".join(word.capitalize() for word in path.stem.split("_"))
    return DhmdError(f"{path} must define a class {class_name}")
