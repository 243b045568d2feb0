"""The scores of trivial baselines on synthetic corpora have the intended order."""

from __future__ import annotations

from pathlib import Path

import pytest

from dhmd.data.synthetic import GeneratorConfig, generate
from tests.data.synthetic.trivial_baselines import main, pool, scores_of


def test_scores_of_demo_have_the_intended_order(demo_folder: Path) -> None:
    mae = {name: scores["mae"] for name, scores in scores_of(pool(demo_folder)).items()}
    assert mae["oracle"] + 0.3 < mae["ridge all"] < mae["ridge text"] - 0.01
    assert mae["ridge text"] < mae["median"] - 0.1
    assert max(mae["ridge audio"], mae["ridge vision"]) < mae["median"] - 0.01
    assert mae["ridge text"] < min(mae["ridge audio"], mae["ridge vision"]) - 0.05


def test_audio_can_be_the_best_modality(tmp_path: Path) -> None:
    config = GeneratorConfig(
        strength={"text": 0.6, "audio": 0.95, "vision": 0.6},
        misleading={"text": 0.3, "audio": 0.05, "vision": 0.3},
        exclusive={"text": 0.16, "audio": 0.22, "vision": 0.16},
    )
    generate(config, tmp_path)
    scores = scores_of(pool(tmp_path))
    others = min(scores["ridge text"]["mae"], scores["ridge vision"]["mae"])
    assert scores["ridge audio"]["mae"] < others - 0.05


def test_the_command_prints_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--regime", "clean", "--seed", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "generated data, regime clean, test split, 1 corpora"
    assert lines[-1].split() == ["oracle", "0.000", "0.000", "1.000"]
    assert lines[2].split()[0] == "median"
