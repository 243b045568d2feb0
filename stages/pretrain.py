"""Stage `pretrain`: each modality's encoder alone, and the teachers, into pretrained/<dataset>."""

from __future__ import annotations

from stages._entry import Stage, run


def work(stage: Stage) -> None:
    """Pretrain encoders and cross-fit teachers, all seeds and folds at once."""
    from dhmd.training.jobs import pretrain_job

    pretrain_job(
        stage.settings,
        stage.aligned,
        stage.pretrained,
        observer=stage.observer(),
        state=stage.state,
    )


if __name__ == "__main__":
    run("pretrain", work)
