"""DMD compared with numbers of its public code, and its options.

dmd_reference.json holds losses, outputs and gradient norms of the public code in float64, without
dropout. Weights and inputs come from numpy's generator, seeded with the bytes of "dmd reference":
weights by sorted name, normal with standard deviation 0.3, then the features of text, audio and
vision, standard normal, which are zeroed after each utterance's length.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dhmd.base.errors import DhmdError
from dhmd.models.baselines.dmd import margin_loss
from dhmd.models.batch import Batch
from tests.models.baselines.models import NO_DROPOUT, build_module
from tests.models.compare import assert_close

INPUTS = {"text": 10, "audio": 5, "vision": 7}
LENGTHS = (50, 31, 12, 50, 7, 44)
MODEL = replace(NO_DROPOUT, width=12, heads=3, kernels={"text": 5, "audio": 3, "vision": 1})
REFERENCE = json.loads((Path(__file__).parent / "dmd_reference.json").read_text())


def reference(options: dict[str, Any] | None = None) -> tuple[Any, Batch]:
    """Build the model and the batch of the reference numbers."""
    model = build_module("dmd", INPUTS, config=MODEL, options=options, num_steps=50).double()
    stream = np.random.default_rng(np.frombuffer(b"dmd reference", dtype=np.uint8))
    named = dict(model.named_parameters())
    with torch.no_grad():
        for name in sorted(named):
            shape = tuple(named[name].shape)
            named[name].copy_(torch.from_numpy(stream.normal(scale=0.3, size=shape)))
    steps = torch.arange(50)
    mask_BT = steps < torch.tensor(LENGTHS)[:, None]
    features = {
        name: torch.from_numpy(stream.normal(size=(6, 50, size))) * mask_BT[..., None]
        for name, size in INPUTS.items()
    }
    batch = Batch(
        features=features,
        masks=dict.fromkeys(INPUTS, mask_BT),
        present=dict.fromkeys(INPUTS, torch.ones(6, dtype=torch.bool)),
        labels_B=torch.tensor([-1.0, 0.6, -1.0, 2.2, 0.6, 0.8], dtype=torch.float64),
        weight_B=torch.full((6,), 1 / 6, dtype=torch.float64),
        index_B=torch.arange(6),
        video_B=torch.arange(6),
    )
    return model, batch


def test_losses_outputs_and_gradients_equal_the_public_code() -> None:
    model, batch = reference()
    losses = model.losses(batch)
    for name, value in REFERENCE["losses"].items():
        assert losses[name].item() == pytest.approx(value, rel=1e-8, abs=1e-10), name
    assert model(batch)[:, 0].tolist() == pytest.approx(REFERENCE["output"], rel=1e-8)
    losses["total"].backward()
    norms = {
        name: 0.0 if p.grad is None else float(p.grad.norm())
        for name, p in model.named_parameters()
    }
    assert norms == pytest.approx(REFERENCE["gradient_norms"], rel=1e-8, abs=1e-10)


SPACES = ("homogeneous", "heterogeneous")
COARSE = {f"{loss}_{space}" for space in SPACES for loss in ("gd_logits", "gd_prior")}
COARSE |= {"gd_representation_heterogeneous"}


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"prior": False}, COARSE),
        ({"edge_softmax": "target"}, COARSE),
        ({"heterogeneous_representation": "attract"}, {"gd_representation_heterogeneous"}),
        ({"representation": "raw"}, {"gd_logits_homogeneous", "gd_prior_homogeneous"}),
        ({"gate": "multiply"}, {"task"}),
        ({"margin_classes": "rounded"}, {"margin"}),
        ({"summary": "mean"}, None),
        ({"masked": True}, None),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_an_option_changes_only_its_own_losses(
    options: dict[str, Any], changed: set[str] | None
) -> None:
    model, batch = reference(options)
    with torch.no_grad():
        losses = model.losses(batch)
    public = REFERENCE["losses"]
    parts = {name for name in public if name != "total"}
    different = {
        name
        for name in parts
        if name not in losses or abs(float(losses[name]) - public[name]) > 1e-9
    }
    if changed is None:
        assert {"task", "heads"} <= different
    else:
        assert different == changed
    assert losses["total"].isfinite()


def test_mean_heads_read_one_vector() -> None:
    model = build_module("dmd", INPUTS, config=MODEL, options={"heads": "mean"}, num_steps=50)
    assert model.heads["homogeneous"]["text"].narrow.in_features == 12
    model = build_module("dmd", INPUTS, config=MODEL, num_steps=50)
    assert model.heads["homogeneous"]["text"].narrow.in_features == 12 * 46


def test_target_softmax_normalises_over_the_sources_of_each_target() -> None:
    model, batch = reference({"edge_softmax": "target"})
    edges_BIJ = model.details(batch)["edges/homogeneous"]
    assert_close(edges_BIJ.sum(1), torch.ones(6, 3, dtype=torch.float64))
    model, batch = reference()
    edges_BIJ = model.details(batch)["edges/homogeneous"]
    assert_close(edges_BIJ.sum((1, 2)), torch.ones(6, dtype=torch.float64))
    assert edges_BIJ.diagonal(dim1=1, dim2=2).eq(0).all()


def test_margin_loss_equals_a_hand_computed_value() -> None:
    """Use two utterances of class 0 and one of class 2, one modality, features on the axes."""
    features = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 0.0]]])
    classes = torch.tensor([0.0, 0.0, 2.0])
    # Anchor 0: 0.3 − 0 + 1; anchor 1: 0.3 − 0 + 0; anchor 2 has no positive.
    assert float(margin_loss(features, classes)) == pytest.approx((1.3 + 0.3) / 2)
    assert float(margin_loss(features, torch.zeros(3))) == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"gates": "multiply"}, "model.options.dmd.gates"),
        ({"gate": "both"}, "model.options.dmd.gate is 'both'"),
    ],
)
def test_an_invalid_option_is_refused_in_one_line(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DhmdError, match=sentence) as caught:
        build_module("dmd", INPUTS, config=MODEL, options=options)
    assert "\n" not in str(caught.value)
