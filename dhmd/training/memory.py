"""How many members may train side by side, so that memory holds what a step keeps."""

from __future__ import annotations

from dhmd.data.aligned.corpus import Corpus
from dhmd.training.configuration import Configuration

# More gain nothing, however short the sequences.
_MOST = {"cpu": 30, "cuda": 512}
# What the steps of a stack may keep for their gradients, by device: of a workstation's memory and
# of a large GPU's.
_KEPT = {"cpu": 6 << 30, "cuda": 32 << 30}
# Bytes of an attention weight: itself and the random bits of its dropout.
_WEIGHT = 6
# Bytes that an encoder's layer keeps of each value of its width: thirty intermediate results.
_VALUE = 30 * 4


def most_members(configuration: Configuration, corpus: Corpus, device: str) -> int:
    """Members in one stack of variants: at least one, whatever it takes.

    From lengths and shapes alone, the same on every machine: what trains together must not depend
    on how much memory is free.
    """
    return max(1, min(_MOST[device], _KEPT[device] // bytes_kept(configuration, corpus)))


def bytes_kept(configuration: Configuration, corpus: Corpus) -> int:
    """About what a step of the full model keeps for its gradient, in bytes a member.

    A batch is as long as its longest utterance; every modality attends to every one. Where
    sequences are long, as in unaligned corpora, the attention's weights are most of it.
    """
    rows = corpus.index("train")
    lengths = [corpus.features[name].lengths[rows] for name in configuration.modalities]
    steps = sum(int(each.max()) for each in lengths)
    model = configuration.model
    attention = model.heads * _WEIGHT * steps**2
    values = model.width * _VALUE * steps * len(lengths)
    return max(1, configuration.train.batch_size * model.layers * (attention + values))
