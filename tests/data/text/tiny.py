"""Write the files of a tiny BERT with random weights and a small vocabulary."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

PIECES = ("good", "bad", "un", "##good", "##ness", "one", "oh", "i", "like", "it", "'", "t")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = (
    *SPECIAL,
    *PIECES,
    *(letter for letter in LETTERS if letter not in PIECES),
    *(f"##{letter}" for letter in LETTERS),
)


def write_tiny(folder: Path, *, vocabulary: int = 0) -> Path:
    """Write the files of the encoder, and return their folder; skip without transformers."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    folder.mkdir(parents=True)
    words = [*VOCABULARY, *(f"[unused{n}]" for n in range(vocabulary - len(VOCABULARY)))]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    settings["model_max_length"] = 64
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        initializer_range=0.3,  # large, so that the vector of a word depends on its sentence
    )
    with torch.random.fork_rng():
        torch.manual_seed(5)
        transformers.BertModel(config).save_pretrained(folder)
    return folder
