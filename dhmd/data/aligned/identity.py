"""A corpus's identity: two results are comparable only if theirs are equal.

It is recipe, fold, ids, splits, labels and the sources' sha256, never the cache file's bytes, which
differ between processors in features' last digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dhmd.base.files import json_sha256

# Where text was read by an encoder, its sha256 stands beside those of the files by this name.
ENCODER_SOURCE = "features.encoder"


def corpus_identity(
    *,
    name: str,
    recipe: Mapping[str, object],
    fold: str,
    ids: Sequence[str],
    split_N: np.ndarray[Any, Any],
    labels_N: np.ndarray[Any, Any],
    sources: Mapping[str, str],
) -> str:
    """The sha256, in hexadecimal, over what makes two results comparable."""
    return json_sha256(
        {
            "recipe": dict(recipe) | {"name": name},
            "fold": fold,
            "ids": list(ids),
            "splits": [str(split) for split in split_N],
            "labels": [float(label) for label in np.asarray(labels_N, dtype=np.float32)],
            "sources": dict(sources),
        }
    )
