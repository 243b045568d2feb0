"""Stage `pretrain`: each modality's encoder alone, and the teachers, into pretrained/<dataset>."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages._entry import Stage, run

if TYPE_CHECKING:
    from dhmd.training.configuration import Configuration


def work(stage: Stage) -> None:
    """Pretrain encoders and cross-fit teachers, all seeds and folds at once."""
    from dhmd.training.jobs import pretrain_job

    with stage.observed(stage.pretrained) as observer:
        pretrain_job(
            what_counts(stage.settings.configuration),
            stage.aligned,
            stage.pretrained,
            fold=stage.settings.data.fold,
            observer=observer,
            state=stage.state,
        )


def what_counts(configuration: Configuration) -> Configuration:
    """The configuration with only what dvc.yaml tracks for this stage, defaults elsewhere.

    So a change of kd.lambda or train.lr neither runs the stage again nor could change its output.
    """
    from dhmd.model.config import DecoupleConfig, DistillationConfig, DropoutConfig, ModelConfig
    from dhmd.training.config import PretrainConfig, TrainConfig
    from dhmd.training.configuration import Configuration

    model, pretrain, train = configuration.model, configuration.pretrain, configuration.train
    return Configuration(
        modalities=configuration.modalities,
        model=ModelConfig(
            width=model.width,
            heads=model.heads,
            kernels=model.kernels,
            dropout=DropoutConfig(text=model.dropout.text, output=model.dropout.output),
        ),
        decouple=DecoupleConfig(),
        kd=DistillationConfig(),
        pretrain=PretrainConfig(
            folds=pretrain.folds,
            epochs=pretrain.epochs,
            lr=pretrain.lr,
            early_stop=pretrain.early_stop,
        ),
        train=TrainConfig(
            seeds=train.seeds,
            batch_size=train.batch_size,
            accumulate=train.accumulate,
            weight_decay=train.weight_decay,
            plateau_patience=train.plateau_patience,
            plateau_factor=train.plateau_factor,
            clip_value=train.clip_value,
            buckets=train.buckets,
            threads=train.threads,
            device=train.device,
            cuda_graph=train.cuda_graph,
        ),
    )


if __name__ == "__main__":
    run("pretrain", work)
