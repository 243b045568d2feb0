"""Stage `train`: the model, all seeds at once, into models/<dataset>."""

from __future__ import annotations

from stages._entry import Stage, run


def work(stage: Stage) -> None:
    """Train every seed of the full model."""
    from dhmd.training.jobs import train_job

    train_job(
        stage.settings,
        stage.aligned,
        stage.pretrained,
        stage.models,
        observer=stage.observer(),
        state=stage.state,
    )


if __name__ == "__main__":
    run("train", work)
