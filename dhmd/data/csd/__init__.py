"""Computational sequences (`.csd`): the HDF5 files of the CMU-MultimodalSDK, read and written.

Layout: one root group, named freely; `/<root>/data/<entry id>/features` `[T, d]` with
`/<root>/data/<entry id>/intervals` `[T, 2]` in seconds; `/<root>/metadata/<key>`, one string each.
An entry id is a video, or `video[i]` once something has been aligned.
"""

from dhmd.data.csd.ids import segment_id, segment_row, video_of
from dhmd.data.csd.reader import ComputationalSequence, Entry, open_sequence
from dhmd.data.csd.writer import write_sequence

__all__ = [
    "ComputationalSequence",
    "Entry",
    "open_sequence",
    "segment_id",
    "segment_row",
    "video_of",
    "write_sequence",
]
