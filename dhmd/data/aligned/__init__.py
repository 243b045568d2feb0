"""The aligned features file: one HDF5 file per dataset, one schema for every format (version 2).

    /                     attributes: schema, schema_version, name, task, low, high, alignment,
                          modalities (JSON), class_names (JSON), folds (JSON, the first is default)
    /ids, /videos         [N] UTF-8; ids are `video[i]`, i the label row's index in its video
    /labels               [N] float32; the class index, or a set of classes (base/label_sets.py)
    /present              [N, M] uint8; 1 if a segment has at least one real row of a modality
    /features/<modality>/values    [ΣT, d] float32, finite, raw (not normalised)
    /features/<modality>/offsets   [N + 1] int64; segment n is values[offsets[n]:offsets[n + 1]]
    /features/<modality>/names     [d] UTF-8
    /words/text           [ΣT] UTF-8        absent if the format has no words
    /words/intervals      [ΣT, 2] float64 seconds
    /words/offsets        [N + 1] int64
    /tokens/ids           [ΣT] int64        absent if the format has no tokenizer output
    /tokens/mask          [ΣT] bool
    /tokens/offsets       [N + 1] int64
    /tokens/types         [ΣT] int64        segment ids
    /tokens/steps         [ΣT] int64        the index of a token's row of text; −1: none
    /planted/names        [P] UTF-8         generated corpora only
    /planted/values       [N, P] float64
    /folds/<fold>/split   [N] uint8; 0 train, 1 valid, 2 test
    /folds/<fold>/identity              attribute, see corpus_identity
    /folds/<fold>/statistics/<modality> [2, d] float64; mean and std over the train split's rows
    /sources, /report     JSON: {file: sha256} and the data report

With alignment "word", all modalities of a segment have the same length: rows are words, and zeros
if a modality has no values for a word. With "none", their lengths differ. Chunked datasets have
HDF5's Fletcher-32 checksums, which detect a flipped bit among the features.
"""

from dhmd.data.aligned.corpus import (
    ENCODER_SOURCE,
    SPLITS,
    Corpus,
    Ragged,
    SegmentTable,
    Tokens,
)
from dhmd.data.aligned.folds import assign_splits, read_folds
from dhmd.data.aligned.reader import read_corpus
from dhmd.data.aligned.writer import aligned_writer

__all__ = [
    "ENCODER_SOURCE",
    "SPLITS",
    "Corpus",
    "Ragged",
    "SegmentTable",
    "Tokens",
    "aligned_writer",
    "assign_splits",
    "read_corpus",
    "read_folds",
]
