"""Stage `evaluate`: score everything, into metrics/<dataset>; only it reads the test labels."""

from __future__ import annotations

from stages._entry import Stage, run


def work(stage: Stage) -> None:
    """Score the model, the pretrained encoders and the variants."""
    from dhmd.evaluation.job import evaluate_job

    evaluate_job(
        stage.settings.evaluate,
        stage.aligned,
        stage.pretrained,
        stage.models,
        stage.ablations,
        stage.metrics,
    )


if __name__ == "__main__":
    run("evaluate", work)
