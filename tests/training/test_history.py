"""history.csv, and predictions of what diverged."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dhmd.training.history import marked, void_diverged, write_history
from dhmd.training.trainer import Progress


def test_every_member_has_its_selected_epoch_or_the_one_it_diverged_in() -> None:
    progress = Progress.start(3, 0.1)
    progress.history = [("seed-1", 1, "train/task", 0.5)]
    progress.best_epoch, progress.diverged = [4, 2, 7], [None, 3, None]
    assert marked(progress, ["seed-1", "seed-2", "seed-3"]) == [
        ("seed-1", 1, "train/task", 0.5),
        ("seed-1", 4, "selected", 1.0),
        ("seed-2", 3, "diverged", 1.0),
        ("seed-3", 7, "selected", 1.0),
    ]


def test_what_diverged_has_no_prediction() -> None:
    progress = Progress.start(2, 0.1)
    progress.diverged = [None, 3]
    values = np.ones((2, 4, 3))
    void_diverged(values, progress)
    assert (values[0] == 1).all()
    assert np.isnan(values[1]).all()


def test_the_file_names_seeds_and_parts(tmp_path: Path) -> None:
    write_history(
        tmp_path,
        [
            ("seed-3", 1, "train/task", 1 / 3),
            ("audio/seed-4", 2, "valid/mae", 0.25),
            ("physio/seed-4", 2, "valid/mae", 0.5),
            ("no_distillation/seed-12", 1, "selected", 1.0),
        ],
        ("audio", "physio"),
    )
    assert (tmp_path / "history.csv").read_text() == (
        "seed,epoch,name,value\n"
        "3,1,train/task,0.333333\n"
        "4,2,audio/valid/mae,0.25\n"
        "4,2,physio/valid/mae,0.5\n"
        "12,1,selected,1\n"
    )
