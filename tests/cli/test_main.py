"""The console script: lazy imports, and errors on one line."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import dhmd
from dhmd.base.errors import DhmdError
from dhmd.cli import COMMANDS, commands, main

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "numpy", "pandas", "scipy", "h5py", "matplotlib", "mlflow", "dvc", "yaml"}


def modules_after(code: str) -> tuple[set[str], list[str], float]:
    """Return the top-level modules that the code imports, its output and its run time in s."""
    code += "\nimport sys; print(*{name.split('.')[0] for name in sys.modules})"
    started = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    *text, modules = process.stdout.splitlines()
    return set(modules.split()), text, time.monotonic() - started


def test_help_names_every_command_and_imports_none_of_them() -> None:
    code = "from dhmd.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    modules, text, seconds = modules_after(code)
    for command in COMMANDS:
        assert any(line.split()[:1] == [command.name] for line in text), command
    assert not HEAVY & modules
    # 0.05 s on an idle machine; the bound leaves room for a busy one.
    assert seconds < 3


def test_the_gate_and_the_lock_check_import_nothing_heavy() -> None:
    modules, _, _ = modules_after("import dhmd.gate.render, dhmd.vcs, dhmd.data.manifest")
    assert not {"torch", "pandas", "matplotlib", "mlflow", "dvc"} & modules


def test_the_version_and_the_usage_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    for words, text in ((["--version"], f"dhmd {dhmd.__version__}\n"), ([], "usage: dhmd [-h]")):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0
        assert capsys.readouterr().out.startswith(text)
    with pytest.raises(SystemExit) as ended:
        main(["data", "shw"])
    assert ended.value.code == 2
    assert "invalid choice: 'shw'" in capsys.readouterr().err


def test_an_unknown_command_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gaet"]) == 2
    assert capsys.readouterr().err == "dhmd: there is no command 'gaet'; did you mean gate?\n"
    assert main(["x"]) == 2
    assert "the commands are config, data, " in capsys.readouterr().err


def raising(error: BaseException) -> Callable[..., int]:
    def run(arguments: object) -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (DhmdError("x is wrong"), 1, "x is wrong"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(28, "No space left on device"), 1, "[Errno 28] No space left on device"),
        (PermissionError(13, "Permission denied", "file"), 1, "file: Permission denied"),
    ],
)
def test_an_error_is_one_line(
    error: BaseException,
    status: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(commands, "summary", raising(error))
    assert main(["summary"]) == status
    assert capsys.readouterr().err == f"dhmd summary: {line}\n"


def test_a_closed_pipe_is_not_an_error() -> None:
    code = (
        "import sys; from dhmd.cli import commands, main\n"
        "def run(arguments):\n"
        "    for number in range(100000): print(number)\n"
        "    return 0\n"
        "commands.summary = run\n"
        "sys.exit(main(['summary']))"
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


def test_summary_prints_score_seeds_and_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    (tmp_path / "params.yaml").touch()
    folder = tmp_path / "metrics" / "demo"
    folder.mkdir(parents=True)
    path = folder / "metrics.json"
    path.write_text('{"test": {"mae": 1.25, "mae_std": 0.0104, "corr": 0.5}, "n_seeds": 5}')
    assert main(["summary", "demo", "absent"]) == 0
    line = "demo: test MAE 1.250 ± 0.010 over 5 seeds; "
    assert capsys.readouterr().out == f"{line}no report yet\n"
    (tmp_path / "reports" / "demo").mkdir(parents=True)
    (tmp_path / "reports" / "demo" / "index.html").touch()
    assert main(["summary", "demo"]) == 0
    assert capsys.readouterr().out == f"{line}report: reports/demo/index.html\n"
    path.write_text('{"test": {"f1": 0.5}, "n_seeds": 1}')
    assert main(["summary", "demo"]) == 0
    assert "test F1 0.500 over 1 seed;" in capsys.readouterr().out
    for damaged in (
        "{}",
        "[]",
        '{"test": {}, "n_seeds": 1}',
        '{"test": {"mae": "x"}, "n_seeds": 1}',
    ):
        path.write_text(damaged)
        assert main(["summary", "demo"]) == 1
        assert "run dvc repro" in capsys.readouterr().err
