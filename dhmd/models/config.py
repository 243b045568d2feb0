"""Settings of the model: sections `model`, `decouple` and `kd` of params.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from dhmd.config.modalities import per_modality
from dhmd.config.schema import CONFIG, FromRecipe, Rate, Share
from dhmd.models.catalogue import baseline_names

Edges = Literal["learned", "uniform", "prior", "mean", "shuffled", "self"]

Kernels = Annotated[Mapping[str, FromRecipe[PositiveInt]], per_modality(5)]
Recurrent = Annotated[Mapping[str, FromRecipe[bool]], per_modality(False)]
Rates = Annotated[Mapping[str, FromRecipe[Rate]], per_modality(0.0)]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class DropoutConfig:
    """Section `model.dropout`: dropout rates."""

    attention: Rates = field(default_factory=dict)  # on attention weights, by attended modality
    layer: FromRecipe[Rate] = 0.1  # after each attention and feed-forward block
    embedding: FromRecipe[Rate] = 0.0  # on the encoders' inputs
    input: Rates = field(default_factory=dict)  # on the features, by modality; DMD has text only
    output: FromRecipe[Rate] = 0.1  # in the heads and the fusion


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class ModelConfig:
    """Section `model`: architecture."""

    modalities: tuple[str, ...] | None = None  # names; None: all of the dataset config
    width: FromRecipe[PositiveInt] = 32  # model width D, a multiple of heads
    heads: FromRecipe[PositiveInt] = 4  # attention heads
    layers: FromRecipe[PositiveInt] = 2  # layers of each transformer encoder
    kernels: Kernels = field(default_factory=dict)  # widths of the temporal convolutions, in steps
    recurrent: Recurrent = field(default_factory=dict)  # use a GRU instead of the convolution
    dropout: DropoutConfig = field(default_factory=DropoutConfig)
    cross_modal: bool = True  # cross-modal attention; False: self-attention
    auxiliary_average: bool = True  # add the auxiliary-head average to the final output
    # stacked: the fast engine; plain: the readable definition, dhmd/models/dhmd.py.
    engine: Literal["stacked", "plain"] = "stacked"
    # Options of baselines by name, {dmd: {gate: multiply}}; each baseline checks its own.
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = baseline_names() if self.options else ()
        for name in self.options:
            if name not in names:
                raise ValueError(f"options.{name}: no such baseline; use one of {', '.join(names)}")


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class DecoupleConfig:
    """Section `decouple` (method section 2)."""

    enabled: bool = True  # split each modality into shared and private features
    weight: NonNegativeFloat = 0.1  # weight of L_dec in the total loss
    gamma: NonNegativeFloat = 0.1  # weight of the margin and orthogonality losses in L_dec
    margin: NonNegativeFloat = 0.15  # margin per unit of label difference


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class GraphConfig:
    """Section `kd.graph` (method section 3)."""

    homogeneous: bool = True  # distil between shared features (HomoGD)
    heterogeneous: bool = True  # distil between private features (HeteroGD)
    edges: Edges = "learned"  # edge weights: learned, or a control
    edge_loss: Literal["mixture", "kl"] = "mixture"  # loss of the edge network; kl: a control
    tau: PositiveFloat = 0.5  # temperature of the kl control and of the KL between classes
    hidden: PositiveInt = 32  # width of the edge network
    representation: NonNegativeFloat = 0.0  # weight of the representation term in L_GD


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class DictionaryConfig:
    """Section `kd.dictionary` (method section 4)."""

    homogeneous: bool = True  # dictionary of the shared features
    heterogeneous: bool = True  # dictionary of the private features
    matching: bool = True  # train with L_DM; False: the dictionaries only feed the fusion
    weight: NonNegativeFloat = 3.0  # weight of L_DM, multiplied by kd.lambda
    codes: FromRecipe[Annotated[int, Field(ge=2)]] = 512  # codes K of each dictionary
    scale: PositiveFloat = 10.0  # scale s of the relevance
    temperature: PositiveFloat = 0.2  # temperature of InfoNCE
    balance: NonNegativeFloat = 0.1  # weight of usage_imbalance in L_DM
    lr_factor: NonNegativeFloat = 5.0  # learning rate of the dictionaries, divided by train.lr


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class DistillationConfig:
    """Section `kd`: knowledge distillation. `lambda: 0` removes every distillation loss."""

    lambda_: Annotated[Share, Field(alias="lambda")] = 0.3  # weight of distillation
    aux: NonNegativeFloat = 1.0  # weight of the auxiliary heads' task loss and distillation
    graph: GraphConfig = field(default_factory=GraphConfig)
    dictionary: DictionaryConfig = field(default_factory=DictionaryConfig)
