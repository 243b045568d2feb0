"""Decoupled Hierarchical Multimodal Distillation, reproducibly.

`load_corpus`, `train`, `compare` and `Model` are imported from dhmd.api on first use.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dhmd.api import Model, compare, load_corpus, train

__all__ = ["Model", "compare", "load_corpus", "train"]

__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'dhmd' has no attribute {name!r}")
    from dhmd import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
