"""Training with CUDA graphs equals training without. Skipped without a GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dhmd.training.compute import ComputeConfig
from tests.models.compare import assert_close
from tests.training.artefacts import pretrain, read_outputs, train
from tests.training.corpora import TINY, tiny_aligned

pytestmark = pytest.mark.gpu


def train_outputs(folder: Path, *, cuda_graph: bool) -> dict[str, torch.Tensor]:
    configuration = replace(
        TINY,
        train=replace(TINY.train, accumulate=2),
        compute=ComputeConfig(device="cuda", cuda_graph=cuda_graph),
    )
    folder.mkdir()
    cache = tiny_aligned(folder / "c.h5")
    pretrain(configuration, cache, folder / "p", folder / "s")
    train(configuration, cache, folder / "p", folder / "m", folder / "s")
    outputs = read_outputs(folder / "m")
    return {
        name: torch.from_numpy(outputs[name])
        for name in ("prediction", "edges/homogeneous", "vertex/heterogeneous")
    }


def test_a_cuda_graph_gives_the_same_training(tmp_path: Path) -> None:
    plain = train_outputs(tmp_path / "plain", cuda_graph=False)
    graphed = train_outputs(tmp_path / "graph", cuda_graph=True)
    for name, value in plain.items():
        assert_close(
            graphed[name].nan_to_num(), value.nan_to_num(), rtol=1e-3, atol=1e-3, what=name
        )
