"""What `params.yaml` may say of the model: sections `model`, `decouple` and `kd`.

A field with `recipe` in its metadata may be null in params.yaml: then the recipe's value counts,
and where the recipe is silent the default here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

MODALITIES = ("text", "audio", "vision")

Edges = Literal["learned", "uniform", "prior", "mean", "shuffled", "self"]


def _count(default: int, help: str, *, least: int = 1) -> Any:
    return field(default=default, metadata={"recipe": True, "min": least, "help": help})


def _rate(default: float, help: str) -> Any:
    metadata = {"recipe": True, "min": 0.0, "exclusive_max": 1.0, "help": help}
    return field(default=default, metadata=metadata)


def _weight(default: float, help: str) -> Any:
    return field(default=default, metadata={"min": 0.0, "help": help})


@dataclass(frozen=True, kw_only=True)
class KernelConfig:
    """Widths of the temporal convolutions, in steps (odd, so that a step stays in its place)."""

    text: int = _count(5, "text")
    audio: int = _count(5, "audio")
    vision: int = _count(5, "vision")


@dataclass(frozen=True, kw_only=True)
class AttentionDropoutConfig:
    """Dropout of attention weights, by the modality that is attended to."""

    text: float = _rate(0.0, "text")
    audio: float = _rate(0.0, "audio")
    vision: float = _rate(0.0, "vision")


@dataclass(frozen=True, kw_only=True)
class InputDropoutConfig:
    """Dropout of raw features, by modality; DMD has the text's."""

    text: float = _rate(0.0, "text")
    audio: float = _rate(0.0, "audio")
    vision: float = _rate(0.0, "vision")


@dataclass(frozen=True, kw_only=True)
class DropoutConfig:
    """Dropout rates."""

    attention: AttentionDropoutConfig = field(default_factory=AttentionDropoutConfig)
    layer: float = _rate(0.1, "after each attention and feed-forward block")
    embedding: float = _rate(0.0, "on the encoders' inputs")
    input: InputDropoutConfig = field(default_factory=InputDropoutConfig)
    output: float = _rate(0.1, "in the heads and the fusion")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Section `model`."""

    modalities: tuple[str, ...] | None = field(
        default=None, metadata={"help": "subset to use; null: all that the recipe has"}
    )
    width: int = _count(32, "model width D, a multiple of heads")
    heads: int = _count(4, "attention heads")
    layers: int = _count(2, "layers of each transformer encoder")
    kernels: KernelConfig = field(default_factory=KernelConfig)
    dropout: DropoutConfig = field(default_factory=DropoutConfig)
    cross_modal: bool = field(
        default=True, metadata={"help": "cross-modal attention (false: self-attention instead)"}
    )
    auxiliary_average: bool = field(
        default=True, metadata={"help": "the fusion adds to the average of the auxiliary heads"}
    )
    engine: Literal["stacked", "plain"] = field(
        default="stacked", metadata={"help": "stacked: fast; plain: the readable definition"}
    )


@dataclass(frozen=True, kw_only=True)
class DecoupleConfig:
    """Section `decouple` (method section 2)."""

    enabled: bool = field(default=True, metadata={"help": "split into com and prt at all"})
    weight: float = _weight(0.1, "weight of L_dec in the total loss")
    gamma: float = _weight(0.1, "weight of the margin and orthogonality losses in L_dec")
    margin: float = _weight(0.15, "margin per unit of label difference")


@dataclass(frozen=True, kw_only=True)
class GraphConfig:
    """Section `kd.graph` (method section 3)."""

    homogeneous: bool = field(default=True, metadata={"help": "HomoGD distils"})
    heterogeneous: bool = field(default=True, metadata={"help": "HeteroGD distils"})
    edges: Edges = field(default="learned", metadata={"help": "where the edge weights come from"})
    edge_loss: Literal["mixture", "kl"] = field(
        default="mixture", metadata={"help": "what trains the edges (kl: the control)"}
    )
    tau: float = field(
        default=0.5,
        metadata={"exclusive_min": 0.0, "help": "temperature of the kl control and of class KL"},
    )
    hidden: int = field(default=32, metadata={"min": 1, "help": "width of the edge network"})
    representation: float = _weight(0.0, "weight of the representation term (0: absent)")


@dataclass(frozen=True, kw_only=True)
class DictionaryConfig:
    """Section `kd.dictionary` (method section 4)."""

    homogeneous: bool = field(default=True, metadata={"help": "dictionary of the com space"})
    heterogeneous: bool = field(default=True, metadata={"help": "dictionary of the prt space"})
    matching: bool = field(default=True, metadata={"help": "match modalities over it"})
    weight: float = _weight(3.0, "weight of L_DM beside kd.lambda")
    codes: int = _count(512, "codes K of each dictionary", least=2)
    scale: float = field(
        default=10.0, metadata={"exclusive_min": 0.0, "help": "scale s of the relevance"}
    )
    temperature: float = field(
        default=0.2, metadata={"exclusive_min": 0.0, "help": "InfoNCE's temperature"}
    )
    balance: float = _weight(0.1, "weight of the codes' balance within L_DM (0: absent)")
    lr_factor: float = _weight(5.0, "the dictionaries' learning rate over train.lr")


@dataclass(frozen=True, kw_only=True)
class DistillationConfig:
    """Section `kd`. `lambda` is the one knob for all distillation; 0 removes every part of it."""

    lambda_: float = field(
        default=0.3,
        metadata={"key": "lambda", "min": 0.0, "max": 1.0, "help": "share of distillation"},
    )
    aux: float = _weight(1.0, "weight of the vertex heads' own task loss and distillation")
    graph: GraphConfig = field(default_factory=GraphConfig)
    dictionary: DictionaryConfig = field(default_factory=DictionaryConfig)
