"""The dependencies in dvc.yaml are the packages that a stage imports and the outputs it reads."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dhmd.config.yaml12 import load_yaml
from tests.shipped import SHIPPED

ROOT = Path(__file__).parents[2]

# Packages of which stages use only some modules: dvc.yaml lists their files.
BY_FILE = ("dhmd.data.text",)
# Baselines are found by file name, so there are no imports of them.
BASELINES = {stage: {"dhmd/models/baselines"} for stage in ("ablate", "report")}

# Packages that do not change results, such as those that read settings or write files.
NO_EFFECT = ("base", "config", "recipes", "settings", "cli", "tracking", "vcs")


def pipeline() -> dict[str, dict[str, Any]]:
    content = load_yaml(ROOT / "dvc.yaml", "dvc.yaml")
    assert isinstance(content, dict)
    stages: dict[str, dict[str, Any]] = content["stages"]
    return stages


STAGES = pipeline()


def imported_modules(path: Path, package: str) -> Iterator[str]:
    """Yield the names of the modules that a file imports, except for type checking."""
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
    """Walk a syntax tree like `ast.walk`, without the bodies of `if TYPE_CHECKING`."""
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


def import_closure(start: Path) -> set[str]:
    """Return the modules of dhmd that a script imports, directly or indirectly."""
    modules: set[str] = set()
    queue = [(start, "stages")]
    while queue:
        path, package = queue.pop()
        for name in imported_modules(path, package):
            parts = name.split(".")
            if parts[0] != "dhmd" or len(parts) < 2 or parts[1] in NO_EFFECT:
                continue
            # Importing a.b.c runs a/__init__ and a.b/__init__ first.
            for depth in range(2, len(parts) + 1):
                module = ".".join(parts[:depth])
                file = file_of(module)
                if file is None or module in modules:
                    continue
                if parts[-1] == "config" and depth < len(parts):
                    continue  # only dataclasses of settings; dvc.yaml tracks their values
                modules.add(module)
                package_of = module if file.name == "__init__.py" else module.rpartition(".")[0]
                queue.append((file, package_of))
    return modules


def dependencies(modules: set[str]) -> set[str]:
    """Return the paths for dvc.yaml: packages, the sub-packages of data and models, or files."""
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
    imported_paths = dependencies(import_closure(ROOT / "stages" / f"{name}.py"))
    assert listed == imported_paths | BASELINES.get(name, set())


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_has_a_command_and_a_description(name: str) -> None:
    stage = STAGES[name]
    assert stage["cmd"] == f"python3 -m stages.{name} ${{item.dataset}}"
    assert stage["matrix"] == {"dataset": "${datasets}"}
    assert stage["desc"]
    assert f"stages/{name}.py" in stage["deps"]


def outputs(stage: dict[str, Any]) -> set[str]:
    kinds = [item for kind in ("outs", "metrics", "plots") for item in stage.get(kind, [])]
    return {next(iter(item)) if isinstance(item, dict) else item for item in kinds}


def test_dependencies_are_exactly_other_stages_outputs() -> None:
    producers = {output: name for name, stage in STAGES.items() for output in outputs(stage)}
    for name, stage in STAGES.items():
        for dep in stage["deps"]:
            if dep.startswith(("dhmd/", "stages/", "recipes/")):
                path = dep.replace("${item.dataset}", "demo")
                assert (ROOT / path).exists(), f"{name}: {dep}"
            else:
                assert producers.get(dep) not in (None, name), f"{name}: {dep}"


def test_every_output_but_metrics_is_ignored_by_git() -> None:
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    for stage in STAGES.values():
        for output in outputs(stage):
            top = output.split("/")[0]
            assert (f"/{top}/" in ignored) == (top != "metrics"), output


def tracked_keys(name: str) -> tuple[list[str], list[str]]:
    """Return the keys of params.yaml and of the dataset config that a stage depends on."""
    params: list[str] = []
    recipe: list[str] = []
    for entry in STAGES[name].get("params", []):
        if isinstance(entry, dict):
            ((file, keys),) = entry.items()
            assert file == "recipes/${item.dataset}.yaml"
            recipe += keys
        else:
            params.append(entry)
    return params, recipe


@pytest.mark.parametrize("dataset", SHIPPED)
@pytest.mark.parametrize("name", STAGES)
def test_every_dataset_config_has_the_tracked_keys(name: str, dataset: str) -> None:
    params, recipe = tracked_keys(name)
    for file, keys in (("params.yaml", params), (f"recipes/{dataset}.yaml", recipe)):
        values = load_yaml(ROOT / file, file)
        for key in keys:
            value: Any = values
            for part in key.split("."):
                assert isinstance(value, dict), f"{file}: {key}"
                assert part in value, f"{file}: {key}"
                value = value[part]
