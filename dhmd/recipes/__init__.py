"""Recipes: what a corpus is, where its files come from, and the starting values that suit it."""

from dhmd.recipes.load import (
    RECIPES_FOLDER,
    check_recipe_file,
    load_recipe,
    parse_recipe,
    recipe_names,
    repository_root,
)
from dhmd.recipes.recipe import Folds, Labels, Recipe, SequenceFile

__all__ = [
    "RECIPES_FOLDER",
    "Folds",
    "Labels",
    "Recipe",
    "SequenceFile",
    "check_recipe_file",
    "load_recipe",
    "parse_recipe",
    "recipe_names",
    "repository_root",
]
