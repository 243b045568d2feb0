"""Small models with properties of published models, and a trainer for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dhmd.data.aligned import Corpus
from dhmd.models.batch import Batch
from dhmd.models.config import ModelConfig
from dhmd.models.ensemble import Ensemble
from dhmd.models.layers import masked_mean, modality_encoders
from dhmd.models.learner import ParameterGroup
from dhmd.models.members import Members
from dhmd.models.registry import CorpusInfo
from dhmd.models.task import Task
from dhmd.training.checkpoint import CHECKPOINT
from dhmd.training.device_corpus import DeviceCorpus, task_of
from dhmd.training.observer import NULL_OBSERVER, Observer
from dhmd.training.trainer import Trainer
from tests.training.learners import train_config

CPU = torch.device("cpu")


class PooledModel(nn.Module):
    """An MLP with dropout on the masked means of all modalities."""

    def __init__(self, inputs: dict[str, int], task: Task, config: ModelConfig) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(sum(inputs.values()), 6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, 1)
        )

    def pooled(self, batch: Batch) -> Tensor:
        means = [masked_mean(x, batch.masks[m]) for m, x in batch.features.items()]
        return torch.cat(means, -1)

    def forward(self, batch: Batch) -> Tensor:
        return self.mlp(self.pooled(batch))


class RecurrentModel(PooledModel):
    """A model with a GRU, which `vmap` cannot batch."""

    def __init__(self, inputs: dict[str, int], task: Task, config: ModelConfig) -> None:
        super().__init__(inputs, task, config)
        self.gru = nn.GRU(next(iter(inputs.values())), 5, batch_first=True)
        self.head = nn.Linear(5, 1)
        self.dropout = nn.Dropout(0.3)

    def forward(self, batch: Batch) -> Tensor:
        states, _ = self.gru(next(iter(batch.features.values())))
        return self.head(self.dropout(states[:, -1]))


class IndexingModel(PooledModel):
    """A model that selects utterances by a boolean mask."""

    def forward(self, batch: Batch) -> Tensor:
        output = self.mlp(self.pooled(batch))
        complete = batch.presence.all(1)
        output = output.clone()
        output[complete] = output[complete] * 2
        return output


class BranchingModel(PooledModel):
    """A model that branches on the value of a tensor."""

    def forward(self, batch: Batch) -> Tensor:
        output = self.mlp(self.pooled(batch))
        return output if output.sum().item() > 0 else output * 0.5


class NoisyModel(PooledModel):
    """A model that adds noise in training, like a variational model."""

    def forward(self, batch: Batch) -> Tensor:
        pooled = self.pooled(batch)
        if self.training:
            pooled = pooled + 0.1 * torch.randn_like(pooled)
        return self.mlp(pooled)


class BatchNormModel(PooledModel):
    """A model with running statistics in buffers."""

    def __init__(self, inputs: dict[str, int], task: Task, config: ModelConfig) -> None:
        super().__init__(inputs, task, config)
        self.norm = nn.BatchNorm1d(sum(inputs.values()))

    def forward(self, batch: Batch) -> Tensor:
        return self.mlp(self.norm(self.pooled(batch)))


class CountingModel(PooledModel):
    """A model that counts its calls in a Python attribute."""

    calls = 0

    def forward(self, batch: Batch) -> Tensor:
        self.calls = self.calls + 1
        return super().forward(batch)


class EncoderModel(nn.Module):
    """A model whose encoders start from the pretrained ones."""

    def __init__(self, inputs: dict[str, int], task: Task, config: ModelConfig) -> None:
        super().__init__()
        self.encoders = modality_encoders(inputs, config)
        self.head = nn.Linear(config.width * len(inputs), task.outputs)

    def forward(self, batch: Batch) -> Tensor:
        masks = batch.masks
        encoded = {m: self.encoders[m](x, masks[m]) for m, x in batch.features.items()}
        return self.head(torch.cat([masked_mean(x, masks[m]) for m, x in encoded.items()], -1))


class UnimodalLabelModel(PooledModel):
    """A model with labels per modality and train utterance, refined from epoch 2 (Self-MM)."""

    def __init__(
        self, inputs: dict[str, int], task: Task, config: ModelConfig, corpus: CorpusInfo
    ) -> None:
        super().__init__(inputs, task, config)
        self.heads = nn.ModuleDict({m: nn.Linear(size, 1) for m, size in inputs.items()})
        shape = (len(inputs), corpus.train_utterances)
        self.register_buffer("labels_MN", torch.zeros(shape))
        self.register_buffer("seen_N", torch.zeros(corpus.train_utterances, dtype=torch.long))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        assert (batch.weight_B > 0).all()  # no padding rows
        assert (batch.index_B >= 0).all()
        total = task = batch.mean((self(batch)[:, 0] - batch.labels_B).abs())
        for index, (m, head) in enumerate(self.heads.items()):
            output_B = head(masked_mean(batch.features[m], batch.masks[m]))[:, 0]
            labels_B = batch.labels_B
            if batch.epoch > 1:
                labels_B = self.labels_MN[index, batch.index_B]
            total = total + batch.mean((output_B - labels_B).abs())
            refined = 0.5 * (labels_B + output_B.detach())
            self.labels_MN[index, batch.index_B] = refined
        self.seen_N[batch.index_B] += 1
        return {"total": total, "task": task}

    def parameter_group(self, name: str) -> ParameterGroup:
        return ParameterGroup(learning_rate=0.1, weight_decay=0.3 if "heads" in name else None)


class BoundModel(PooledModel):
    """A model that updates the parameters of a bound and the others in turn, as MMIM does."""

    phases = ("bound", "main")
    alternate = "epoch"

    def __init__(self, inputs: dict[str, int], task: Task, config: ModelConfig) -> None:
        super().__init__(inputs, task, config)
        self.bound = nn.Linear(sum(inputs.values()), 1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        gap_B = (self.bound(self.pooled(batch)) - self(batch))[:, 0]
        if batch.phase == "bound":
            return {"total": batch.mean(gap_B.square())}
        task = batch.mean((self(batch)[:, 0] - batch.labels_B).abs())
        return {"total": task + 0.1 * batch.mean(gap_B.square()), "task": task}

    def parameter_group(self, name: str) -> ParameterGroup:
        return ParameterGroup(phase="bound" if name.startswith("bound") else "main")


class VideoModel(PooledModel):
    """A model whose batches are whole videos, as in HFGCN."""

    batch_by = "video"

    def forward(self, batch: Batch) -> Tensor:
        pooled_BD = self.pooled(batch)
        same_BB = (batch.video_B[:, None] == batch.video_B[None, :]).float()
        assert same_BB.sum(1).eq(4).all()  # every video of the corpus has four utterances
        return self.mlp(pooled_BD + same_BB @ pooled_BD / same_BB.sum(1, keepdim=True))


class PretrainingModel(PooledModel):
    """A model that is pretrained by reconstruction and then learns the task, as in IF-MMIN."""

    pretraining_epochs = 2

    def __init__(self, inputs: dict[str, int], task: Task, config: ModelConfig) -> None:
        super().__init__(inputs, task, config)
        self.imagine = nn.Linear(inputs["text"], inputs["audio"])

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        means = {m: masked_mean(x, batch.masks[m]) for m, x in batch.features.items()}
        gap_B = (self.imagine(means["text"]) - means["audio"]).square().mean(1)
        if batch.phase == "pretraining":
            return {"total": batch.mean(gap_B)}
        task = batch.mean((self(batch)[:, 0] - batch.labels_B).abs())
        return {"total": task + 0.1 * batch.mean(gap_B), "task": task}


def ensemble(
    cls: type[nn.Module], corpus: Corpus, seeds: tuple[int, ...]
) -> tuple[Ensemble, Members, DeviceCorpus]:
    """Build E members of a model for a corpus."""
    data, task = DeviceCorpus.of(corpus, corpus.modalities, CPU), task_of(corpus)
    inputs = {name: len(corpus.feature_names[name]) for name in corpus.modalities}
    members = Members(seeds, CPU)
    facts: dict[str, Any] = {}
    if cls is UnimodalLabelModel:
        facts["corpus"] = CorpusInfo(len(corpus.index("train")), {})
    config = ModelConfig(width=8, heads=2)
    learner = Ensemble(members, task, lambda: cls(inputs, task, config, **facts), name="model")
    return learner, members, data


def trainer_of(
    cls: type[nn.Module],
    corpus: Corpus,
    folder: Path,
    seeds: tuple[int, ...],
    observer: Observer = NULL_OBSERVER,
    **plan: Any,
) -> Trainer:
    """Build a trainer of a model; it saves its progress in `folder`."""
    learner, members, data = ensemble(cls, corpus, seeds)
    folder.mkdir(exist_ok=True)
    values: dict[str, Any] = {
        "epochs": 3,
        "batch_size": 9,  # of 24 train utterances: the last batch is partly padded
        "lr": 0.02,
        "modality_dropout": 0.2,
        "average": 0.5,
        "buckets": 2,
        "weight_decay": 0.01,
    }
    return Trainer(
        learner,
        members,
        data,
        names=[f"seed-{seed}" for seed in seeds],
        train=train_config(**{**values, **plan}),
        train_rows=corpus.index("train"),
        valid_rows=corpus.index("valid"),
        observer=observer,
        checkpoint=folder / CHECKPOINT,
    )
