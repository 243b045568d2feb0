"""The training history, history.csv."""

from __future__ import annotations

from pathlib import Path

from dhmd.training.history import member_history, selected_scores, write_history
from dhmd.training.trainer import Progress


def test_the_history_marks_selected_and_diverged_epochs() -> None:
    progress = Progress.start(2, 0.1)
    progress.history = [
        ("seed-1", 1, "valid/mae", 0.5),
        ("seed-2", 1, "valid/mae", 0.6),
        ("seed-1", 2, "valid/mae", 0.4),
        ("seed-1", 3, "valid/mae", 0.45),
    ]
    progress.best_epoch, progress.diverged = [2, 1], [None, 3]
    first, second = (member_history(progress, f"seed-{n + 1}", n) for n in range(2))
    assert first == [
        (1, "valid/mae", 0.5),
        (2, "valid/mae", 0.4),
        (3, "valid/mae", 0.45),
        (2, "selected", 1.0),
    ]
    assert second == [(1, "valid/mae", 0.6), (3, "diverged", 1.0)]
    assert selected_scores(first) == {"valid/mae": 0.4}
    assert selected_scores(second) == {}


def test_the_history_file_is_sorted_by_epoch(tmp_path: Path) -> None:
    seeds = {
        3: [(1, "train/task", 1 / 3), (2, "train/task", 0.25), (2, "selected", 1.0)],
        12: [(1, "train/task", 0.5), (1, "lr", 0.1), (1, "selected", 1.0)],
    }
    write_history(tmp_path, {"physio/": seeds, "": {3: [(1, "selected", 1.0)]}})
    assert (tmp_path / "history.csv").read_text() == (
        "seed,epoch,name,value\n"
        "3,1,physio/train/task,0.333333\n"
        "12,1,physio/train/task,0.5\n"
        "12,1,physio/lr,0.1\n"
        "3,2,physio/train/task,0.25\n"
        "3,2,physio/selected,1\n"
        "12,1,physio/selected,1\n"
        "3,1,selected,1\n"
    )
