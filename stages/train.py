"""Stage `train`: train the full model, into models/<dataset>."""

from __future__ import annotations

from stages._entry import Stage, run


def work(stage: Stage) -> None:
    """Train the full model with all seeds at once."""
    from dhmd.training.jobs import train_job

    with stage.training_observer(stage.models) as observer:
        train_job(
            stage.settings.configuration,
            stage.aligned,
            stage.pretrained,
            stage.models,
            fold=stage.settings.data.fold,
            observer=observer,
            store=stage.trainings,
            encoder=stage.encoder,
        )


if __name__ == "__main__":
    run("train", work)
