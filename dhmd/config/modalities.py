"""The names of modalities, their order, and settings that have one value per modality.

A corpus may have any modalities: those that its recipe names. Text, audio and vision come first
everywhere, then the others in the recipe's order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import AfterValidator, ValidationInfo

MODALITIES = ("text", "audio", "vision")


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Sort names of modalities: text, audio, vision, then the others as they come."""
    listed = list(names)
    return tuple(
        [name for name in MODALITIES if name in listed]
        + [name for name in listed if name not in MODALITIES]
    )


def per_modality(default: Any, **defaults: Any) -> AfterValidator:
    """Annotate a mapping from modality to value, so that it always has a value for each modality.

    The modalities are those in the `modalities` of the validation's context, if any; a name that is
    not among them is refused. Without a context any name is allowed.

    Args:
        default: value of a modality that the mapping does not have.
        defaults: the same for single modalities.
    """

    def filled(values: Mapping[str, Any], info: ValidationInfo) -> dict[str, Any]:
        known = (info.context or {}).get("modalities")
        names = in_order({**dict.fromkeys(MODALITIES), **values} if known is None else known)
        for name in values:
            if name not in names:
                raise ValueError(f"{name!r} is no modality; there are {', '.join(names)}")
        return {name: values.get(name, defaults.get(name, default)) for name in names}

    return AfterValidator(filled)
