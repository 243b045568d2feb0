"""Stage `evaluate`: the only one that reads test labels; writes metrics/<dataset>, kept in Git."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from stages._entry import Stage, run


def work(stage: Stage) -> None:
    """Score models, encoders and variants, and add the scores to the runs that trained them."""
    from dhmd.tracking import open_test_log

    with open_test_log(stage.settings.tracking, root=stage.root, dataset=stage.dataset) as record:
        from dhmd.evaluation.job import evaluate_job

        evaluate_job(
            stage.settings.evaluate,
            stage.aligned,
            stage.pretrained,
            stage.models,
            stage.ablations,
            stage.metrics,
        )
        record("train", stage.models, test_rows(stage.metrics / "seeds.csv"))
        if variants := test_rows(stage.metrics / "ablations.csv"):
            record("ablate", stage.ablations, variants)


def test_rows(path: Path) -> Mapping[str, Mapping[str, float]]:
    """Member, as the trainings name it -> metric -> value on the test split."""
    with open(path, newline="", encoding="utf-8") as stream:
        return {
            (f"{row['variant']}/" if "variant" in row else "") + f"seed-{row['seed']}": {
                name: float(value)
                for name, value in row.items()
                if name not in ("variant", "seed", "split") and value
            }
            for row in csv.DictReader(stream)
            if row["split"] == "test"
        }


if __name__ == "__main__":
    run("evaluate", work)
