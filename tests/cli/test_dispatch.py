"""The console script: quick, lazy, and one line for a mistake."""

from __future__ import annotations

import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

import dhmd
from dhmd.base.errors import DhmdError
from dhmd.cli import commands, main
from dhmd.cli.commands import COMMANDS, Command

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "numpy", "pandas", "scipy", "h5py", "matplotlib", "mlflow", "dvc", "yaml"}


def test_help_names_every_command_and_imports_none_of_them() -> None:
    code = (
        "import sys; from dhmd.cli import main; main(['--help']); "
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    took = time.monotonic() - started
    *text, modules = done.stdout.splitlines()
    for command in COMMANDS:
        assert any(line.split()[:1] == [command.name] for line in text)
    assert not HEAVY & set(modules.split())
    # 0.05 s on an idle machine; the bound leaves room for a busy one.
    assert took < 3


def test_version_and_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dhmd {dhmd.__version__}\n"
    assert main([]) == 2
    assert "usage: dhmd COMMAND" in capsys.readouterr().out
    assert main(["confi"]) == 2
    assert capsys.readouterr().err == "dhmd: no command 'confi'; did you mean config?\n"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_has_help(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command.name, "--help"])
    assert ended.value.code == 0
    assert f"usage: dhmd {command.name}" in capsys.readouterr().out


def failing(error: BaseException, **attributes: object) -> types.ModuleType:
    module = types.ModuleType("failing")

    def run(arguments: object) -> int:
        raise error

    module.__dict__.update(configure=lambda parser: None, run=run, **attributes)
    return module


@pytest.mark.parametrize(
    ("error", "attributes", "status", "said"),
    [
        (DhmdError("x is missing"), {}, 1, "dhmd try: x is missing\n"),
        (DhmdError("x is missing"), {"ERROR_EXIT": 2}, 2, "dhmd try: x is missing\n"),
        (
            PermissionError(13, "Permission denied", "a.npz"),
            {},
            1,
            "dhmd try: a.npz: Permission denied\n",
        ),
        (OSError(28, "No space left"), {"ERROR_EXIT": 2}, 2, "dhmd try: No space left\n"),
        (OSError("bad file"), {}, 1, "dhmd try: bad file\n"),
        (KeyboardInterrupt(), {}, 130, "dhmd try: interrupted\n"),
    ],
)
def test_failures_are_one_line(
    error: BaseException,
    attributes: dict[str, object],
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "failing", failing(error, **attributes))
    monkeypatch.setattr("dhmd.cli.dispatch.COMMANDS", (Command("try", "fail", "failing"),))
    assert main(["try"]) == status
    assert capsys.readouterr().err == said


def test_a_reader_that_has_seen_enough_is_no_failure() -> None:
    code = (
        "import sys, types; import dhmd.cli.dispatch as m; from dhmd.cli.commands import Command\n"
        "def run(arguments):\n"
        "    for number in range(100000): print(number)\n"
        "    return 0\n"
        "module = types.ModuleType('many'); module.configure = lambda parser: None\n"
        "module.run = run; sys.modules['many'] = module\n"
        "m.COMMANDS = (Command('many', 'print', 'many'),)\n"
        "sys.exit(m.main(['many']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"0\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_names_are_unique() -> None:
    names = [command.name for command in commands.COMMANDS]
    assert len(names) == len(set(names))
