"""Stage `ablate`: variants and baselines, on the seeds of `train`, into ablations/<dataset>."""

from __future__ import annotations

from stages._entry import Stage, run


def work(stage: Stage) -> None:
    """Train the variants in section `ablate`."""
    from dhmd.ablation.variants import chosen_variants
    from dhmd.training.jobs import ablate_job

    variants = chosen_variants(stage.settings.ablate, stage.settings.configuration)
    with stage.training_observer(stage.ablations) as observer:
        ablate_job(
            variants,
            stage.aligned,
            stage.pretrained,
            stage.ablations,
            fold=stage.settings.data.fold,
            observer=observer,
            store=stage.trainings,
            encoder=stage.encoder,
        )


if __name__ == "__main__":
    run("ablate", work)
