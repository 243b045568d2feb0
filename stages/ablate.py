"""Stage `ablate`: variants and baselines, on the seeds of `train`, into ablations/<dataset>."""

from __future__ import annotations

from stages._entry import Stage, run


def work(stage: Stage) -> None:
    """Train every variant that section `ablate` names."""
    from dhmd.training.jobs import ablate_job

    ablate_job(
        stage.settings,
        stage.aligned,
        stage.pretrained,
        stage.ablations,
        observer=stage.observer(),
        state=stage.state,
    )


if __name__ == "__main__":
    run("ablate", work)
