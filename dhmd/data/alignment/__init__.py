"""From computational sequences to the aligned cache: words, then label segments.

The definition is the CMU-MultimodalSDK's, and its numbers are the reference (tests compare them):

1. Only videos that all sequences share are kept.
2. Every reference row (a word) that is not shorter than ε takes, from every other sequence, the
   mean of the rows that overlap it by more than ε; zeros where there are none.
3. A word belongs to every label segment that it overlaps by more than ε, words in time's order.

Where the SDK leaves a choice or stumbles we decide, and the data report counts it: values that are
not finite (clean.py), segments with nothing in them, fixed lengths (here: cut to `max_steps`, no
padding at all). A word across a segment's border brings its values in all modalities along; the SDK
asks each modality again whether its rows reach into the segment, so that lengths can disagree.
"""

from dhmd.data.alignment.check import check_corpus
from dhmd.data.alignment.clean import Cleaned, clean_values
from dhmd.data.alignment.config import AlignConfig
from dhmd.data.alignment.corpus import align_corpus
from dhmd.data.alignment.origin import Origin
from dhmd.data.alignment.overlap import overlap_mean, overlap_pairs
from dhmd.data.alignment.plan import EPSILON
from dhmd.data.alignment.words import EncoderSource, TextSink, WordEncoder

__all__ = [
    "EPSILON",
    "AlignConfig",
    "Cleaned",
    "EncoderSource",
    "Origin",
    "TextSink",
    "WordEncoder",
    "align_corpus",
    "check_corpus",
    "clean_values",
    "overlap_mean",
    "overlap_pairs",
]
