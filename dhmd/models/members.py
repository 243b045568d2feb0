"""Random streams of ensemble members: a member's numbers depend on its own seed alone.

Legend: E members, W 64-bit words.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from dhmd.models.stacked import kernels

_FULL_RANGE = -(2**63)
_DRAWS_PER_WORD = 4  # 16-bit numbers per 64-bit word
_BLOCK_WORDS = 1 << 16


def stream_seed(seed: int, purpose: str) -> int:
    """Derive a 63-bit seed for one purpose of one member, by SHA-256."""
    digest = hashlib.sha256(f"{purpose}/{seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class BitStream:
    """Random 64-bit words of one member: numpy's SFC64 on a CPU, torch's generator on a GPU.

    SFC64 is twice as fast as torch's Mersenne twister and passes the same statistical tests.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.generator: torch.Generator | None = None
        if device.type == "cpu":
            self._words = np.random.SFC64(seed)
        else:
            self.generator = torch.Generator(device)
            self.generator.manual_seed(seed)

    def fill(self, row_W: Tensor) -> None:
        """Fill an int64 tensor with uniform random words, in place."""
        if self.generator is not None:
            row_W.random_(_FULL_RANGE, None, generator=self.generator)
        elif kernels.enabled():
            kernels.call("fill", self._words.ctypes.state_address, row_W, len(row_W))
        else:
            row_W.copy_(torch.from_numpy(self._words.random_raw(len(row_W)).view(np.int64)))

    def get_state(self) -> Tensor:
        """Return the state of the stream, for `set_state`."""
        if self.generator is not None:
            return self.generator.get_state()
        return torch.from_numpy(self._words.state["state"]["state"].view(np.int64).copy())

    def set_state(self, state: Tensor) -> None:
        """Restore a state returned by `get_state()`."""
        if self.generator is not None:
            self.generator.set_state(state)
        else:
            words = state.numpy().view(np.uint64).copy()
            self._words.state = {**self._words.state, "state": {"state": words}}


def threshold(rate: float) -> int:
    """Return the smallest int16 random value that dropout at this rate keeps."""
    return min(round(rate * 65536), 65535) - 32768


class Members:
    """The E members that train together, and their random streams.

    Each member has one stream for the initialisation, one for the order of the utterances (both on
    the CPU), and one for dropout (on the device).

    Args:
        seeds: one per member. Equal seeds have equal streams, so that variants are paired by seed.
        device: device of the parameters and dropout masks.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self.seeds = tuple(int(seed) for seed in seeds)
        self.device = device
        self._initialisation = [_generator(s, "initialisation") for s in self.seeds]
        self.order = [_generator(s, "order") for s in self.seeds]
        self.dropout = [BitStream(stream_seed(s, "dropout"), device) for s in self.seeds]
        self._pool_EW = torch.empty(len(self.seeds), 0, dtype=torch.int64, device=device)
        self._used = 0

    @property
    def count(self) -> int:
        """Number of members, E."""
        return len(self.seeds)

    def uniform(self, *shape: int, bound: float) -> Tensor:
        """Draw initial values `[E, *shape]`, uniform between −bound and bound."""
        values = [(torch.rand(shape, generator=g) * 2 - 1) * bound for g in self._initialisation]
        return torch.stack(values).to(self.device)

    def normal(self, *shape: int) -> Tensor:
        """Draw initial values `[E, *shape]`, standard normal."""
        values = [torch.randn(shape, generator=g) for g in self._initialisation]
        return torch.stack(values).to(self.device)

    def begin_step(self) -> None:
        """Discard unused random bits, so that a step's numbers depend only on its shapes."""
        self._used = self._pool_EW.shape[1]

    def bits(self, *shape: int) -> Tensor:
        """Draw int16 values `[E, *shape]`, uniform over all 65,536 values."""
        words = math.ceil(math.prod(shape) / _DRAWS_PER_WORD)
        if self._used + words > self._pool_EW.shape[1]:
            size = max(words, _BLOCK_WORDS)
            self._pool_EW = torch.empty(self.count, size, dtype=torch.int64, device=self.device)
            for row_W, stream in zip(self._pool_EW, self.dropout, strict=True):
                stream.fill(row_W)
            self._used = 0
        bits = self._pool_EW[:, self._used : self._used + words]
        self._used += words
        bits = bits.contiguous().view(torch.int16)[:, : math.prod(shape)]
        return bits.reshape(self.count, *shape)

    def keep(self, *shape: int, rate: float) -> Tensor:
        """Draw a dropout mask `[E, *shape]`, true with probability 1 − rate (to 1/65,536)."""
        return self.bits(*shape) >= threshold(rate)

    @contextmanager
    def torch_random(self, member: int) -> Iterator[None]:
        """Seed torch's global generators from a member's dropout stream, for a `with` block."""
        word_W = torch.empty(1, dtype=torch.int64, device=self.device)
        self.dropout[member].fill(word_W)
        with torch_seeded(int(word_W[0]), self.device):
            yield

    def state(self) -> dict[str, Tensor]:
        """Return the state of the order and dropout streams, for `restore`."""
        state = {}
        for index in range(self.count):
            state[f"order.{index}"] = self.order[index].get_state()
            state[f"dropout.{index}"] = self.dropout[index].get_state()
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        """Restore a state returned by `state()`."""
        for index in range(self.count):
            self.order[index].set_state(state[f"order.{index}"])
            self.dropout[index].set_state(state[f"dropout.{index}"])
        self._used = self._pool_EW.shape[1]


@contextmanager
def torch_seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators for a `with` block, and restore them after it."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _generator(seed: int, purpose: str) -> torch.Generator:
    generator = torch.Generator()
    generator.manual_seed(stream_seed(seed, purpose))
    return generator
