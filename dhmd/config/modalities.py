"""The order of modalities, and settings that have one value per modality.

A recipe may name any modalities. Everywhere, text, audio and vision come first, then the others in
the order of the recipe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import AfterValidator, ValidationInfo

MODALITIES = ("text", "audio", "vision")


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return the modalities with text, audio and vision first and the others in their order."""
    names = list(names)
    return tuple(
        [name for name in MODALITIES if name in names]
        + [name for name in names if name not in MODALITIES]
    )


def per_modality(default: Any, **defaults: Any) -> AfterValidator:
    """Return a validator that adds the missing modalities to a mapping from modality to value.

    If the context of the validation has the key `modalities`, only these names are allowed;
    otherwise all are.

    Args:
        default: value of a missing modality.
        defaults: value of a missing modality, by name; takes precedence over `default`.
    """

    def add_missing(values: Mapping[str, Any], info: ValidationInfo) -> dict[str, Any]:
        allowed = (info.context or {}).get("modalities")
        names = in_order({**dict.fromkeys(MODALITIES), **values} if allowed is None else allowed)
        for name in values:
            if name not in names:
                raise ValueError(
                    f"{name!r} is not a modality; the modalities are {', '.join(names)}"
                )
        return {name: values.get(name, defaults.get(name, default)) for name in names}

    return AfterValidator(add_missing)
