"""Cross-fitting: five folds of the train videos, so that a teacher never saw what it teaches.

Legend: N utterances, F folds.
"""

from __future__ import annotations

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.data.aligned.corpus import Array, Corpus


def video_folds(corpus: Corpus, count: int) -> Array:
    """`[N]` int: the fold of each train utterance, −1 elsewhere.

    A video is in one fold. Videos go, largest first (ties by name), to the fold that is smallest
    so far: folds of about equal size, the same for every seed.

    Raises:
        DhmdError: fewer train videos than folds.
    """
    rows = corpus.index("train")
    names, video_of_row, sizes = np.unique(
        np.array(corpus.videos)[rows], return_inverse=True, return_counts=True
    )
    if len(names) < count:
        raise DhmdError(
            f"{corpus.name} has {len(names)} train videos, too few for "
            f"pretrain.folds = {count}: lower pretrain.folds"
        )
    fold_of_video = np.zeros(len(names), dtype=np.int64)
    filled = np.zeros(count, dtype=np.int64)
    for video in np.lexsort((names, -sizes)):
        fold = int(filled.argmin())
        fold_of_video[video] = fold
        filled[fold] += sizes[video]
    folds = np.full(len(corpus.ids), -1, dtype=np.int64)
    folds[rows] = fold_of_video[video_of_row]
    return folds
