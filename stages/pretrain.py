"""Stage `pretrain`: train each modality's encoder alone, into pretrained/<dataset>."""

from __future__ import annotations

from stages._entry import Stage, run


def work(stage: Stage) -> None:
    """Pretrain the encoders and cross-fit the teachers, with all seeds and folds at once."""
    from dhmd.training.jobs import pretrain_job

    with stage.training_observer(stage.pretrained) as observer:
        pretrain_job(
            stage.settings.configuration,
            stage.aligned,
            stage.pretrained,
            fold=stage.settings.data.fold,
            observer=observer,
            store=stage.trainings,
        )


if __name__ == "__main__":
    run("pretrain", work)
