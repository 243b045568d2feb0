"""Stage `evaluate`: the only one that reads test labels; writes metrics/<dataset>, kept in Git."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stages._entry import Stage, run


def work(stage: Stage) -> None:
    """Score models, encoders and variants, and add the scores to the runs that trained them."""
    from dhmd.tracking import open_test_log

    with open_test_log(stage.settings.tracking, root=stage.root, dataset=stage.dataset) as record:
        from dhmd.evaluation.files import ABLATIONS, SEEDS
        from dhmd.evaluation.job import evaluate_job

        evaluate_job(
            stage.settings.evaluate,
            stage.aligned,
            stage.pretrained,
            stage.models,
            stage.ablations,
            stage.metrics,
        )
        record("train", stage.models, test_scores(stage.metrics / SEEDS))
        if variants := test_scores(stage.metrics / f"{ABLATIONS}.csv"):
            record("ablate", stage.ablations, variants)


def test_scores(path: Path) -> Mapping[str, Mapping[str, float]]:
    """Read member (as the training runs name it) -> metric -> value on the test split."""
    from dhmd.evaluation.files import read_rows

    return {
        (f"{row['variant']}/" if "variant" in row else "") + f"seed-{row['seed']}": {
            name: float(value)
            for name, value in row.items()
            if name not in ("variant", "seed", "split") and value
        }
        for row in read_rows(path)
        if row["split"] == "test"
    }


if __name__ == "__main__":
    run("evaluate", work)
