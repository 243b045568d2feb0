"""Align computational sequences to words and label segments.

The algorithm is that of the CMU-MultimodalSDK; tests compare the results:

1. A word that is not shorter than ε gets, for each other sequence, the mean of the rows that
   overlap it by more than ε, or zeros if there are none (word_alignment.py).
2. A label segment consists of the words that overlap it by more than ε, in time order
   (segments.py).

Differences from the SDK (ours); the data report counts each case (report.py):

- means omit values that are not finite (word_alignment.py);
- a video that a sequence lacks is kept, with the modality absent (the SDK drops it);
- empty segments are dropped, and long ones are cut to `max_steps`, without padding;
- a word across a segment's bound has the same values in all its segments (the SDK tests for each
  modality whether its rows overlap the segment, so that lengths can differ).
"""

from dhmd.data.alignment.align import align_corpus, check_corpus, table_fields, write_segments
from dhmd.data.alignment.config import AlignConfig
from dhmd.data.alignment.job import CorpusJob, Origin
from dhmd.data.alignment.report import REPORTED_SHARE, TableBuilder, cleaned_sentence, cut_sentence
from dhmd.data.alignment.segments import (
    SegmentRows,
    Steps,
    align_video,
    clip_labels,
)
from dhmd.data.alignment.sequences import Sequences
from dhmd.data.alignment.word_alignment import (
    clean_values,
    overlap_mean,
    overlap_pairs,
)
from dhmd.data.text.writer import EncoderSource, SegmentSink, TextWriter, WordEncoder

__all__ = [
    "REPORTED_SHARE",
    "AlignConfig",
    "CorpusJob",
    "EncoderSource",
    "Origin",
    "SegmentRows",
    "SegmentSink",
    "Sequences",
    "Steps",
    "TableBuilder",
    "TextWriter",
    "WordEncoder",
    "align_corpus",
    "align_video",
    "check_corpus",
    "clean_values",
    "cleaned_sentence",
    "clip_labels",
    "cut_sentence",
    "overlap_mean",
    "overlap_pairs",
    "table_fields",
    "write_segments",
]
