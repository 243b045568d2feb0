"""From computational sequences to the aligned features file: words, then label segments.

The definition is the CMU-MultimodalSDK's, and its numbers are the reference (tests compare them):

1. Every word that is not shorter than ε takes, from every other sequence, the mean of the rows that
   overlap it by more than ε; zeros where there are none (word_alignment.py).
2. A word belongs to every label segment that it overlaps by more than ε, in time order
   (segments.py).

Where the SDK leaves a choice or fails we decide, and the data report counts it (report.py): values
that are not finite are left out of the means (word_alignment.py), videos that a sequence lacks are
kept with the modality absent (the SDK drops them), empty segments are dropped, and long segments
are cut to `max_steps`, without padding. A word across a segment's border keeps its values in all
modalities; the SDK tests again for each modality whether its rows reach into the segment, so that
lengths can disagree.
"""

from dhmd.data.alignment.align import align_corpus, check_corpus, table_of, write_segments
from dhmd.data.alignment.config import AlignConfig
from dhmd.data.alignment.job import CorpusJob, Origin
from dhmd.data.alignment.report import REPORTED_SHARE, TableBuilder, cleaned_sentence, cut_sentence
from dhmd.data.alignment.segments import (
    SegmentRows,
    Steps,
    align_video,
    checked_labels,
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
    "checked_labels",
    "clean_values",
    "cleaned_sentence",
    "cut_sentence",
    "overlap_mean",
    "overlap_pairs",
    "table_of",
    "write_segments",
]
