"""What each model is called and needs: `dhmd`, and each file of `dhmd/models/baselines`.

A model `my_model` is the class `MyModel` in `baselines/my_model.py`: the class has the file's name
without underscores, in any case. docs/extend.md describes what such a class looks like. Nothing is
imported or run here, so that listing models is quick.
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
class Card:
    """Facts about a model, read from its file without running it.

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


def card(name: str) -> Card:
    """Read a model's card from its file.

    Raises:
        DhmdError: no such model, or no such class in its file.
    """
    if name == DHMD:
        return Card("the full model", "DHMD")
    path = model_path(name)
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise DhmdError(f"{path} is not valid Python: {error}") from error
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    node = next((node for node in classes if is_class(node.name, name)), None)
    if node is None:
        raise no_class(path)
    found: dict[str, Any] = {}
    for line in node.body:
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
            found[line.targets[0].id] = line.value
        elif isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            found[line.target.id] = line.value
    values = {
        key: ast.literal_eval(found[key])
        for key in ("title", "min_modalities", "needs")
        if key in found
    }
    summary = (ast.get_docstring(tree) or name).splitlines()[0].rstrip(".")
    return Card(summary, **{"title": name.replace("_", " "), **values})


def model_title(name: str) -> str | None:
    """Return a model's name in tables; None if no model has the name."""
    return card(name).title if name in (DHMD, *baseline_names()) else None


def refusal(name: str, modalities: Sequence[str]) -> str | None:
    """Return why a model cannot run with these modalities; None if it can."""
    found, given = card(name), " and ".join(modalities)
    missing = [need for need in found.needs if need not in modalities]
    if missing:
        return f"{name} needs {missing[0]}, but the modalities are {given}"
    if len(modalities) < found.min_modalities:
        return f"{name} needs {found.min_modalities} modalities, but there is only {given}"
    return None


def model_path(name: str) -> Path:
    path = BASELINES / f"{name}.py"
    if name not in baseline_names():
        known = ", ".join((DHMD, *baseline_names()))
        raise DhmdError(f"there is no model {name!r}; there are {known}")
    return path


def is_class(found: str, name: str) -> bool:
    return found.lower() == name.replace("_", "").lower()


def no_class(path: Path) -> DhmdError:
    wanted = "".join(word.capitalize() for word in path.stem.split("_"))
    return DhmdError(f"{path} must define a class {wanted}")
