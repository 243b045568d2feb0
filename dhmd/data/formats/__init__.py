"""Corpora that come as one lab's feature files, into the same aligned cache as all others.

- `mmsa`: MMSA's feature pickles (`aligned_50.pkl`, `unaligned_50.pkl`, `unaligned_39.pkl`);
- `urfunny`: UR-FUNNY's word-aligned pickles;
- `mustard`: HKT's pickles of MUStARD (and of UR-FUNNY);
- `arrays`: a folder of `.npz` or `.h5` files, one a split, for people with their own features.

Pickles are read by dhmd/data/formats/pickles.py, which runs nothing of what they hold.
"""

from dhmd.data.formats.importing import READERS, check_corpus, import_corpus
from dhmd.data.formats.known import known_file
from dhmd.data.formats.pickles import load_pickle

__all__ = ["READERS", "check_corpus", "import_corpus", "known_file", "load_pickle"]
