"""Test that the pages agree with the project: commands, keys, links, names and tables."""

from __future__ import annotations

import ast
import itertools
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from dhmd.cli import COMMANDS, build_parser
from dhmd.cli.readme import readme_tables, replace_tables
from dhmd.config.yaml12 import load_yaml
from tests.shipped import SHIPPED

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = {command.name for command in COMMANDS}


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of every command in the page's shell blocks."""
    for block in re.findall(r"^```bash\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            for part in line.split(" && "):
                words = shlex.split(part, comments=True)
                if words and words[0] in ("dhmd", ".venv/bin/dhmd"):
                    words[0] = "dhmd"
                if words:
                    yield words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_keys_are_known(page: Path) -> None:
    for words in commands(page):
        if words[0] == "dhmd":
            # An unknown or missing option raises SystemExit.
            build_parser(words[1:]).parse_args(words[1:])
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}:", text_of(ROOT / "Makefile"), re.MULTILINE), words
        elif words[:2] == ["python", "-m"]:
            module = ROOT.joinpath(*words[2].split("."))
            assert module.with_suffix(".py").is_file() or (module / "__main__.py").is_file(), words
        elif words[0] == "dvc":
            for option, value in itertools.pairwise(words):
                if option == "-S":
                    check_key(value.split("=")[0])


@cache
def load_settings(file: str) -> object:
    return load_yaml(ROOT / file)


def check_key(option: str) -> None:
    """Check that a key exists: `a.b` in params.yaml, or `recipes/x.yaml:a.b`.

    After a `+`, the last part of the key may be new.
    """
    file, _, key = option.rpartition(":")
    value = load_settings(file or "params.yaml")
    for part in key.removeprefix("+").split(".")[: -1 if key.startswith("+") else None]:
        if part == "my_corpus":  # a dataset of the user
            return
        assert isinstance(value, dict), option
        assert part in value, option
        value = value[part]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_commands_and_stages_exist(page: Path) -> None:
    spans = re.findall(r"`([^`\n]+)`", text_of(page))
    for span in spans:
        words = span.split()
        if words[0] == "dhmd" and len(words) > 1:
            assert words[1] in NAMES or words[1] == "--help", span
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", text_of(ROOT / "Makefile"), re.MULTILINE), span


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_has_a_target(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", text_of(path), re.MULTILINE)
            assert anchor in {anchor_of(heading) for heading in headings}, target


def anchor_of(heading: str) -> str:
    """Return the anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_in_the_code_exist(page: Path) -> None:
    for name in set(re.findall(r"`(dhmd(?:\.\w+)+)", text_of(page))):
        assert is_defined(name.split(".")), name


def is_defined(parts: list[str]) -> bool:
    """Return whether a dotted name is a module, or a class, function or constant in a module."""
    for depth in range(len(parts), 0, -1):
        folder = ROOT.joinpath(*parts[:depth])
        file = folder.with_suffix(".py") if folder.with_suffix(".py").is_file() else None
        file = file or (folder / "__init__.py" if folder.is_dir() else None)
        if file is not None:
            return not parts[depth:] or defines(ast.parse(text_of(file)).body, parts[depth:])
    return False


def defines(body: list[ast.stmt], parts: list[str]) -> bool:
    """Return whether the statements define or import the dotted name."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == parts[0]:
            return len(parts) == 1 or defines(node.body, parts[1:])
        targets = [node.target] if isinstance(node, ast.AnnAssign) else []
        targets += node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == parts[0] for target in targets):
            return len(parts) == 1
        if isinstance(node, ast.ImportFrom) and parts[0] in [alias.name for alias in node.names]:
            return len(parts) == 1
    return False


def test_every_shipped_dataset_and_every_stage_is_named() -> None:
    rows = [line for line in text_of(ROOT / "docs/data.md").splitlines() if line.startswith("| `")]
    assert set(SHIPPED) <= {n for row in rows for n in re.findall(r"`(\w+)`", row.split("|")[1])}
    pipeline = load_yaml(ROOT / "dvc.yaml")
    assert isinstance(pipeline, dict)
    assert set(pipeline["stages"]) <= set(re.findall(r"\w+", text_of(ROOT / "README.md")))


def test_the_readmes_tables_are_what_the_command_writes() -> None:
    readme = text_of(ROOT / "README.md")
    written = replace_tables(
        readme, lambda name: readme_tables(ROOT / "metrics", name), "README.md"
    )
    assert readme == written, "run dhmd table --readme"
    assert "demo" in re.findall(r"^<!-- table:(\S+) -->$", readme, re.MULTILINE)
