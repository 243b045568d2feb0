"""Import corpora that come as one lab's feature files into the aligned features file.

- `mmsa`: MMSA's feature pickles (`aligned_50.pkl`, `unaligned_50.pkl`, `unaligned_39.pkl`) and
  MulT's (`mosi_data.pkl`, `mosei_senti_data.pkl`, `iemocap_data.pkl`);
- `dialogues`: DialogueRNN's pickles of IEMOCAP and MELD;
- `urfunny`: UR-FUNNY's word-aligned pickles;
- `mustard`: HKT's pickles of MUStARD (and of UR-FUNNY);
- `arrays`: a folder of `.npz` or `.h5` files, one per split, with a user's own features.

The reader of a format is the function `read_<format>` in the file of that name: `ImportJob` ->
`ParsedCorpus` (reading.py). docs/extend.md describes how to add one.
"""

from dhmd.data.formats.aligning import align_dataset, check_files, raw_paths
from dhmd.data.formats.importing import check_corpus, import_corpus
from dhmd.data.formats.mmsa import known_file
from dhmd.data.formats.pickles import load_pickle

__all__ = [
    "align_dataset",
    "check_corpus",
    "check_files",
    "import_corpus",
    "known_file",
    "load_pickle",
    "raw_paths",
]
