"""A training step does not use the host, so that it can be captured as a CUDA graph.

Steps run on the meta device, whose tensors have shapes but no values: operations that depend on
values (`item`, `nonzero`, boolean indexing) fail there, and so do shapes that depend on data. The
guards refuse tensors and indices that are created on the host. No GPU is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dhmd.models import members as streams
from dhmd.models.learner import Learner
from dhmd.models.members import Members
from dhmd.models.registry import CorpusInfo, build
from dhmd.models.stacked.encoders import UnimodalModel
from dhmd.training.config import TrainConfig
from dhmd.training.device_corpus import DeviceCorpus, task_of
from dhmd.training.trainer import Trainer
from tests.training.corpora import tiny_configuration, tiny_corpus

META = torch.device("meta")
FROM_HOST = (torch.tensor, torch.as_tensor, torch.from_numpy)
TO_HOST = ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__")

# The deterministic forms of these on a GPU copy from the host, or do not exist.
HOST_COPIES = ("scatter", "cumsum", "kthvalue", "median", "put_.default")


class NoHostTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses operations that read or return a tensor on the host."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        assert not any(word in str(func) for word in HOST_COPIES), f"{func} in a step"
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, result)):
            if isinstance(value, torch.Tensor):
                assert value.device == META, f"{func} with a tensor on the host"
        return result


class NoHostData(TorchFunctionMode):
    """Refuses calls that copy to or from the host before they reach the dispatcher."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        name = getattr(func, "__name__", "")
        assert func not in FROM_HOST, f"torch.{name} in a step"
        assert name not in TO_HOST, f"Tensor.{name} in a step"
        if name in ("__getitem__", "__setitem__"):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            for part in index:
                assert not isinstance(part, (list, np.ndarray)), "a list is copied to the device"
                assert getattr(part, "dtype", None) != torch.bool, "boolean indexing"
        return func(*args, **(kwargs or {}))


class _Stream:
    """A `BitStream` for the meta device, which has no random generators."""

    def __init__(self, seed: int, device: torch.device) -> None:
        pass

    def fill(self, row_W: torch.Tensor) -> None:
        row_W.random_(-(2**63), None)


def step(
    learner: Learner, members: Members, data: DeviceCorpus, folder: Path, train: TrainConfig
) -> None:
    """Run one update on the meta device under the guards."""
    count = data.lengths_MN.shape[1]
    trainer = Trainer(
        learner,
        members,
        data,
        names=["a", "b"],
        train=train,
        train_rows=np.arange(count),
        valid_rows=np.arange(1),
        checkpoint=folder / "checkpoint",
    )
    assert learner.capturable
    learner.train()
    [planned, *_], *_ = trainer.planner.epoch(1)
    rows_EB = torch.from_numpy(planned.rows_EB).to(META)
    weight_EB = torch.from_numpy(planned.weight_EB).to(META)
    with NoHostTensors(), NoHostData():  # type: ignore[no-untyped-call]
        trainer.optimiser.zero_grad()
        losses = trainer._gradients(rows_EB, weight_EB, steps=planned.steps, epoch=1, phase="")
        trainer.optimiser.step()
        trainer.average_P.lerp_(trainer.optimiser.values_P, 0.1)
    assert all(value.shape == (2,) for value in losses.values())


CASES: dict[str, tuple[str, str, Mapping[str, Any]]] = {
    "default": ("regression", "word", {}),
    "no decoupling, self-attention": (
        "regression",
        "word",
        {
            "decouple": {"enabled": False},
            "model": {"cross_modal": False, "auxiliary_average": False},
        },
    ),
    "classes, own lengths, representation, edges by KL, dropped modalities": (
        "classification",
        "none",
        {
            "kd": {"graph": {"representation": 0.5, "edge_loss": "kl"}},
            "train": {"modality_dropout": 0.3, "weight_decay": 0.1},
        },
    ),
}


@pytest.mark.parametrize(("task", "alignment", "changes"), CASES.values(), ids=CASES)
def test_a_training_step_does_not_use_the_host(
    task: str,
    alignment: str,
    changes: Mapping[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "BitStream", _Stream)
    corpus = tiny_corpus(tmp_path / "c.h5", task, alignment)
    configuration = tiny_configuration(changes)
    members = Members([1, 2], META)
    learner = build(
        "dhmd",
        members,
        task_of(corpus),
        {name: len(corpus.feature_names[name]) for name in configuration.modalities},
        config=configuration.model,
        loss_weights=[(configuration.decouple, configuration.kd)] * 2,
        corpus=CorpusInfo(len(corpus.index("train")), {}),
    )
    data = DeviceCorpus.of(corpus, configuration.modalities, META)
    outputs = task_of(corpus).outputs
    data.teachers_EMNO = torch.zeros(2, 3, data.lengths_MN.shape[1], outputs, device=META)
    step(learner, members, data, tmp_path, configuration.train)


def test_a_pretraining_step_does_not_use_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "BitStream", _Stream)
    corpus, configuration = tiny_corpus(tmp_path / "c.h5"), tiny_configuration()
    members = Members([1, 2], META)
    inputs = len(corpus.feature_names["audio"])
    model = UnimodalModel(members, task_of(corpus), "audio", inputs, configuration.model)
    data = DeviceCorpus.of(corpus, ["audio"], META)
    step(model, members, data, tmp_path, configuration.train)


def test_the_guards_refuse_host_operations() -> None:
    x = torch.zeros(3, 4, device=META)
    with NoHostTensors(), NoHostData():  # type: ignore[no-untyped-call]
        for operation in (
            lambda: x[:, [0, 1]],
            lambda: x[x > 0],
            lambda: x.sum().item(),
            lambda: bool(x.sum() > 0),
            lambda: x + torch.tensor(1.0, device=META),
            lambda: x[:, torch.arange(2)],
            lambda: x.sum().cpu(),
            lambda: x.cumsum(0),
        ):
            with pytest.raises(AssertionError):
                operation()
        with pytest.raises((RuntimeError, NotImplementedError)):
            x.nonzero()
