"""Test that each benchmark runs at a tiny size, and that its result has a table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import benchmarks.all as every
from benchmarks import align, epoch, gpu, kernels, pipeline, predict, rival, step, threads
from benchmarks.measure import ROOT
from tests.threads import one_thread

__all__ = ["one_thread"]

TINY_TRAINING = ["--device", "cpu", "--threads", "1", "--repeats", "2"]


def run(module: Any, json_path: Path, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "argv", [module.__name__, *arguments, "--json", str(json_path)])
    module.main()
    content = json.loads(json_path.read_text())
    assert content["machine"]["cores"] >= 1
    assert module.table(content["rows"]).count("\n") >= 2
    for line in content["rows"]:
        if "ratio" in line:
            assert line["ratio"]["low"] <= line["ratio"]["median"] <= line["ratio"]["high"]
    return content["rows"]


def test_the_step_benchmark_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--shapes", "tiny", "--seeds", "1", "2", *TINY_TRAINING]
    rows = run(step, tmp_path / "step.json", *arguments, monkeypatch=monkeypatch)
    assert [line["seeds"] for line in rows] == [1, 2]
    # The comparison is valid only if both sides compute the same losses.
    assert all_below(rows, "largest_difference_of_losses", 1e-4)
    assert all(set(line["phase_seconds"]["fast"]) == set(step.PHASES) for line in rows)


def test_the_rival_benchmark_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "script.py"
    script.write_text("def dmd(root, device):\n    return lambda: None\n")
    arguments = ["--dmd", str(tmp_path), "--rival", str(script), "--tiny", "--batches", "3"]
    arguments += TINY_TRAINING
    rows = run(rival, tmp_path / "rival.json", *arguments, monkeypatch=monkeypatch)
    assert len(rows) == len(rival.CASES)
    assert rows[0]["mean_steps"] > rows[-1]["mean_steps"]


def test_the_epoch_benchmark_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [line] = run(epoch, tmp_path / "epoch.json", "--tiny", *TINY_TRAINING, monkeypatch=monkeypatch)
    assert line["utterances"] == 24
    assert line["mean_steps"] < line["padded_steps"]


def test_the_predict_benchmark_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--tiny", "--utterances", "12", *TINY_TRAINING]
    rows = run(predict, tmp_path / "predict.json", *arguments, monkeypatch=monkeypatch)
    assert all_below(rows, "largest_difference", 1e-4)


def test_the_align_benchmark_runs(tmp_path: Path) -> None:
    """Run it as a command, since its processes import the main module."""
    path = tmp_path / "align.json"
    arguments = ["--repeats", "2", "--sdk-videos", "--videos", "4", "--json", str(path)]
    command = [sys.executable, "-m", "benchmarks.align", *arguments]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=100)
    [line] = json.loads(path.read_text())["rows"]
    assert line["peak_mib"] > line["raw_gb"] > 0
    assert "4 generated videos" in align.table([line])


def test_the_threads_benchmark_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--shape", "tiny", "--steps", "1", "--repeats", "1", "--cases", "1"]
    [line] = run(threads, tmp_path / "threads.json", *arguments, monkeypatch=monkeypatch)
    assert line["steps_per_second"] > 0


def test_the_kernels_benchmark_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--sequences", "8", "--repeats", "1"]
    rows = run(kernels, tmp_path / "kernels.json", *arguments, monkeypatch=monkeypatch)
    assert len(rows) == len(kernels.cases(8))


@pytest.mark.slow
def test_the_pipeline_benchmark_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--targets", "download", "--repeats", "1"]
    rows = run(pipeline, tmp_path / "pipeline.json", *arguments, monkeypatch=monkeypatch)
    assert any("download@" in line["name"] for line in rows)


def test_the_page_has_every_table(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text((ROOT / "docs" / "performance.md").read_text())
    every.refresh(page, ROOT / "benchmarks" / "results")
    text = page.read_text()
    for name in every.TABLES:
        assert f"<!-- table:{name} -->" in text
    assert text == (ROOT / "docs" / "performance.md").read_text(), "run benchmarks.all --page-only"


def all_below(rows: list[dict[str, Any]], key: str, limit: float) -> bool:
    return all(line[key] < limit for line in rows)


PIPELINE_ONLY = ("dvc", "mlflow", "ruamel", "requests", "matplotlib", "jinja2", "transformers")


def test_the_gpu_benchmark_runs(tmp_path: Path) -> None:
    """Run the benchmark on a CPU, without the packages of the pipeline."""
    for name in PIPELINE_ONLY:  # a module that cannot be imported
        (tmp_path / f"{name}.py").write_text("raise ImportError('not installed')\n")
    path = tmp_path / "gpu.json"
    arguments = ["--device", "cpu", "--shapes", "tiny", "--seeds", "1", "2", "--seconds", "0.01"]
    command = [sys.executable, "-m", "benchmarks.gpu", *arguments, "--json", str(path), "--only"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    parts = ["checks", "engine", "vmapped"]
    subprocess.run([*command, *parts], cwd=ROOT, env=environment, check=True, timeout=250)
    rows = json.loads(path.read_text())["rows"]
    assert [line for line in rows if "error" in line] == []
    assert all(line["passed"] for line in rows if line["part"] == "checks")
    assert {line["part"] for line in rows} == {"checks", "engine tiny", "vmapped tiny"}
    assert "| tiny, plain model under vmap, CUDA graph |" in gpu.table(rows)
