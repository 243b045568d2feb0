"""Which settings become numbers of a member."""

from __future__ import annotations

from dhmd.models.config import DecoupleConfig
from dhmd.models.stacked.loss_weights import LossWeights
from tests.models.stacked.settings import CPU, kd_with


def test_every_member_has_its_own_numbers() -> None:
    first = (
        DecoupleConfig(weight=0.2, gamma=0.3),
        kd_with(lambda_=0.6, aux=0.5, dictionary={"weight": 0.2}),
    )
    second = (
        DecoupleConfig(enabled=False),
        kd_with(
            lambda_=0.4,
            aux=0.9,
            graph={"homogeneous": False, "edges": "self"},
            dictionary={"matching": False, "weight": 0.9},
        ),
    )
    third = (
        DecoupleConfig(),
        kd_with(graph={"heterogeneous": False}, dictionary={"weight": 0.9}, lambda_=0.0),
    )
    loss_weights = LossWeights.of([first, second, third], CPU)
    close = {
        name: [round(v, 6) for v in value.tolist()]
        for name, value in vars(loss_weights).items()
        if name != "edges"
    }
    assert close == {
        "distill": [0.6, 0.4, 0.0],
        "aux": [0.5, 0.9, 1.0],
        "decouple": [0.2, 0.0, 0.1],
        "gamma": [0.3, 0.1, 0.1],
        "homogeneous": [1.0, 0.0, 1.0],
        "heterogeneous": [1.0, 1.0, 0.0],
        "matching": [0.2, 0.0, 0.9],
    }
    assert loss_weights.edges == ("learned", "self", "learned")
