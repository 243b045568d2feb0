"""The stages' own few lines."""

from __future__ import annotations

from pathlib import Path

from stages.evaluate import test_scores as scores_of_test


def test_scores_are_named_as_the_trainings_name_their_members(tmp_path: Path) -> None:
    (tmp_path / "seeds.csv").write_text("seed,split,mae,corr\n1,test,1.5,\n1,valid,1.25,0.5\n")
    assert scores_of_test(tmp_path / "seeds.csv") == {"seed-1": {"mae": 1.5}}
    (tmp_path / "ablations.csv").write_text("variant,seed,split,mae\nmult,2,test,1.5\n")
    assert scores_of_test(tmp_path / "ablations.csv") == {"mult/seed-2": {"mae": 1.5}}
