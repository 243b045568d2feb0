"""Finding, reading and checking recipes."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from dhmd.base.errors import DhmdError
from dhmd.config.schema import key_names, load_section
from dhmd.config.yaml12 import load_yaml
from dhmd.recipes.recipe import Recipe, RecipeFile

RECIPES_FOLDER = "recipes"

_DATASET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def repository_root(start: Path | None = None) -> Path:
    """The folder from which relative sources count.

    DVC runs queued and temporary experiments in a copy below .dvc/tmp, and says in DVC_ROOT where
    the user's own workspace is; otherwise it is the nearest folder upwards that has a params.yaml.
    """
    if start is None and (root := os.environ.get("DVC_ROOT")):
        return Path(root)
    folder = (start or Path.cwd()).resolve()
    for candidate in (folder, *folder.parents):
        if (candidate / "params.yaml").is_file():
            return candidate
    return folder


def recipe_names(root: Path) -> tuple[str, ...]:
    """The datasets that have a recipe below `root`, sorted."""
    return tuple(sorted(path.stem for path in (root / RECIPES_FOLDER).glob("*.yaml")))


def load_recipe(name: str, root: Path) -> Recipe:
    """Read recipes/<name>.yaml below `root`.

    Raises:
        DhmdError: no such recipe, or one that says something it may not.
    """
    if not _DATASET_NAME.fullmatch(name):
        raise DhmdError(
            f"dataset {name!r} is no name: use letters, digits, '_' and '-' (its recipe is "
            f"{RECIPES_FOLDER}/<name>.yaml)"
        )
    path = root / RECIPES_FOLDER / f"{name}.yaml"
    source = f"{RECIPES_FOLDER}/{name}.yaml"
    if not path.is_file():
        names = recipe_names(root)
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names) or 'none'}"
        raise DhmdError(f"no recipe {source} for dataset {name}; {hint}")
    return parse_recipe(name, load_yaml(path, source))


def parse_recipe(name: str, mapping: object) -> Recipe:
    """The recipe `name` from what its file holds.

    Raises:
        DhmdError: an unknown key, a wrong value, roles that name no sequence.
    """
    if isinstance(mapping, Mapping) and "name" in mapping:
        raise DhmdError(f"recipes/{name}.yaml: unknown key name; a recipe's name is its file's")
    read = load_section(RecipeFile, mapping, source=f"{RECIPES_FOLDER}/{name}.yaml")
    return Recipe(name=name, **vars(read))


def check_recipe_file(name: str, root: Path) -> None:
    """Refuse a recipe that leaves a key out: DVC tracks each, and refuses one that is absent.

    Raises:
        DhmdError: a key is absent, or the recipe is wrong in another way.
    """
    recipe = load_recipe(name, root)
    written = load_yaml(root / RECIPES_FOLDER / f"{name}.yaml", recipe.source)
    assert isinstance(written, Mapping)  # load_recipe refuses anything else
    absent = [key for key in key_names(RecipeFile) if key not in written]
    if absent:
        raise DhmdError(
            f"{recipe.source} lacks {', '.join(absent)}: every key must be there, null if need be"
        )
    folds = recipe.folds
    if folds is not None and not (root / RECIPES_FOLDER / folds.file).is_file():
        raise DhmdError(f"{recipe.source}: folds.file is {folds.file}, but there is no such file")
