"""Import published feature files and users' arrays into the aligned features file.

- `mmsa`: MMSA's feature pickles (`aligned_50.pkl`, `unaligned_50.pkl`, `unaligned_39.pkl`) and
  MulT's (`mosi_data.pkl`, `mosei_senti_data.pkl`, `iemocap_data.pkl`);
- `dialogues`: DialogueRNN's pickles of IEMOCAP and MELD;
- `urfunny`: UR-FUNNY's word-aligned pickles;
- `mustard`: HKT's pickles of MUStARD (and of UR-FUNNY);
- `arrays`: a folder with a user's features, one `.npz` or `.h5` file per split.

The reader of a format is the function `read_<format>` in the module of that name. It takes an
`ImportJob` and returns a `ParsedCorpus` (interface.py). docs/extend.md shows how to add one.
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
