"""`dhmd config check`: check params.yaml and the recipes of its datasets."""

from __future__ import annotations

import argparse
import sys

from dhmd.base.errors import DhmdError
from dhmd.recipes import check_recipe_file, repository_root
from dhmd.settings import Settings, load_params
from dhmd.vcs import check_output_folders


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", required=True)
    check = actions.add_parser("check", help="check params.yaml and the recipes it names")
    check.add_argument(
        "datasets", nargs="*", help="recipes to check (default: those that params.yaml names)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Check all recipes, and print the first mistake of each."""
    root = repository_root()
    check_output_folders(root)
    params = load_params(root)
    names = tuple(arguments.datasets) or params.datasets
    mistakes = []
    for name in names:
        try:
            check_recipe_file(name, root)
            _check_further(params.for_dataset(name))
        except DhmdError as error:
            mistakes.append(str(error))
    for mistake in dict.fromkeys(mistakes):
        print(f"dhmd config: {mistake}", file=sys.stderr)
    if not mistakes:
        print(f"params.yaml is fine, and so is the recipe of {', '.join(names)}")
    return 1 if mistakes else 0


def _check_further(settings: Settings) -> None:
    """Check what the stages read themselves: the variants' names, the generator's section."""
    from dhmd.ablation.variants import chosen_variants

    chosen_variants(settings.ablate, settings.configuration)
    recipe = settings.recipe
    if recipe.format == "generated":
        from dhmd.config.schema import load_section
        from dhmd.data.synthetic.config import GeneratorConfig

        load_section(GeneratorConfig, recipe.generator, where="generator", source=recipe.source)
