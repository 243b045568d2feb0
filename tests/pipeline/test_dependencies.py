"""dvc.yaml says what the stages use: sub-packages from the imports, outputs from other stages."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dhmd.config.yaml12 import load_yaml
from tests.shipped import SHIPPED

ROOT = Path(__file__).parents[2]

# Packages that several stages use in part: dvc.yaml lists their files.
BY_FILE = ("dhmd.data.text",)
# Baselines are found by their file's name, so no import tells that a stage trains or names them.
FOUND_BY_NAME = {stage: {"dhmd/models/baselines"} for stage in ("ablate", "report")}

# They carry no numbers: reading settings, writing files, watching.
NO_NUMBERS = ("base", "config", "recipes", "settings", "cli", "tracking", "vcs")


def pipeline() -> dict[str, dict[str, Any]]:
    read = load_yaml(ROOT / "dvc.yaml", "dvc.yaml")
    assert isinstance(read, dict)
    stages: dict[str, dict[str, Any]] = read["stages"]
    return stages


STAGES = pipeline()


def imported(path: Path, package: str) -> Iterator[str]:
    """Names of dhmd's modules that a file imports anywhere, but for type checking."""
    for node in walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            yield base
            # `from package import module` imports the module too.
            yield from (f"{base}.{alias.name}" for alias in node.names)


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """`ast.walk` without the bodies of `if TYPE_CHECKING`."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield from walk(child)


def file_of(module: str) -> Path | None:
    folder = ROOT.joinpath(*module.split("."))
    for path in (folder / "__init__.py", folder.with_suffix(".py")):
        if path.is_file():
            return path
    return None


def closure(start: Path) -> set[str]:
    """The modules of dhmd that run when the script does, from all imports, transitively."""
    found: set[str] = set()
    waiting = [(start, "stages")]
    while waiting:
        path, package = waiting.pop()
        for name in imported(path, package):
            parts = name.split(".")
            if parts[0] != "dhmd" or len(parts) < 2 or parts[1] in NO_NUMBERS:
                continue
            # Importing a.b.c runs a/__init__ and a.b/__init__ first.
            for depth in range(2, len(parts) + 1):
                module = ".".join(parts[:depth])
                file = file_of(module)
                if file is None or module in found:
                    continue
                if parts[-1] == "config" and depth < len(parts):
                    continue  # another package's dataclass of settings: values come from params
                found.add(module)
                package_of = module if file.name == "__init__.py" else module.rpartition(".")[0]
                waiting.append((file, package_of))
    return found


def dependencies(modules: set[str]) -> set[str]:
    """The paths in dvc.yaml: packages, below `data` and `models` what is in them, or files."""
    paths = set()
    for module in modules:
        parts = module.split(".")
        depth = 3 if parts[1] in ("data", "models") else 2
        if len(parts) >= depth and parts[-1] != "config":
            if ".".join(parts[:depth]) in BY_FILE:
                file = file_of(module)
                assert file is not None
                paths.add(file.relative_to(ROOT).as_posix())
                continue
            path = Path(*parts[:depth])
            paths.add((path if (ROOT / path).is_dir() else path.with_suffix(".py")).as_posix())
    return paths


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_the_packages_that_it_uses_and_on_no_other(name: str) -> None:
    listed = {dep for dep in STAGES[name]["deps"] if dep.startswith("dhmd/")}
    imported_paths = dependencies(closure(ROOT / "stages" / f"{name}.py"))
    assert listed == imported_paths | FOUND_BY_NAME.get(name, set())


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_its_script_and_says_what_it_does(name: str) -> None:
    stage = STAGES[name]
    assert stage["cmd"] == f"python3 -m stages.{name} ${{item.dataset}}"
    assert stage["matrix"] == {"dataset": "${datasets}"}
    assert stage["desc"]
    assert f"stages/{name}.py" in stage["deps"]


def outputs(stage: dict[str, Any]) -> set[str]:
    kinds = [item for kind in ("outs", "metrics", "plots") for item in stage.get(kind, [])]
    return {next(iter(item)) if isinstance(item, dict) else item for item in kinds}


def test_dependencies_are_exactly_other_stages_outputs() -> None:
    made = {output: name for name, stage in STAGES.items() for output in outputs(stage)}
    for name, stage in STAGES.items():
        for dep in stage["deps"]:
            if dep.startswith(("dhmd/", "stages/", "recipes/")):
                path = dep.replace("${item.dataset}", "demo")
                assert (ROOT / path).exists(), f"{name}: {dep}"
            else:
                assert made.get(dep) not in (None, name), f"{name}: {dep}"


def test_every_output_but_metrics_is_ignored_by_git() -> None:
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    for stage in STAGES.values():
        for output in outputs(stage):
            top = output.split("/")[0]
            assert (f"/{top}/" in ignored) == (top != "metrics"), output


def tracked(name: str) -> tuple[list[str], list[str]]:
    """The keys of params.yaml and of the recipe that a stage depends on."""
    own: list[str] = []
    recipe: list[str] = []
    for entry in STAGES[name].get("params", []):
        if isinstance(entry, dict):
            ((file, keys),) = entry.items()
            assert file == "recipes/${item.dataset}.yaml"
            recipe += keys
        else:
            own.append(entry)
    return own, recipe


@pytest.mark.parametrize("dataset", SHIPPED)
@pytest.mark.parametrize("name", STAGES)
def test_every_tracked_key_is_there_for_every_recipe(name: str, dataset: str) -> None:
    own, recipe = tracked(name)
    for file, keys in (("params.yaml", own), (f"recipes/{dataset}.yaml", recipe)):
        values = load_yaml(ROOT / file, file)
        for key in keys:
            at: Any = values
            for part in key.split("."):
                assert isinstance(at, dict), f"{file}: {key}"
                assert part in at, f"{file}: {key}"
                at = at[part]
