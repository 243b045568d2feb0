"""A training step as a CUDA graph: captured once per shape, then replayed.

Launching thousands of small kernels takes most of a step's time; a graph launches them at once.
Without a GPU, steps run directly.

Legend: E members, B utterances, P entries of all gradients.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dhmd.models.members import Members

_WARM_UP_STEPS = 3


class GraphedStep:
    """A captured training step; a call replays it.

    The dropout streams are registered with the graph, so that replays use the same random numbers
    as direct calls. Warm-up and capture change neither streams nor gradients.

    Args:
        step: the step. It gets rows and weights `[E, B]` on the device, adds to `grads_P` and
            returns the losses by name.
        rows_EB, weight_EB: an example, of the same shape as in all later calls.
    """

    def __init__(
        self,
        step: Callable[[Tensor, Tensor], dict[str, Tensor]],
        members: Members,
        grads_P: Tensor,
        rows_EB: Tensor,
        weight_EB: Tensor,
    ) -> None:
        self._rows_EB, self._weight_EB = rows_EB.clone(), weight_EB.clone()
        states = [stream.get_state() for stream in members.dropout]
        grads = grads_P.clone()
        warm_up_stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        warm_up_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(warm_up_stream):
            for _ in range(_WARM_UP_STEPS):
                step(self._rows_EB, self._weight_EB)
        torch.cuda.current_stream().wait_stream(warm_up_stream)
        self._graph = torch.cuda.CUDAGraph()
        for stream in members.dropout:
            self._graph.register_generator_state(stream.generator)
        with torch.cuda.graph(self._graph):
            self._losses = step(self._rows_EB, self._weight_EB)
        for stream, state in zip(members.dropout, states, strict=True):
            stream.set_state(state)
        grads_P.copy_(grads)

    def __call__(self, rows_EB: Tensor, weight_EB: Tensor) -> dict[str, Tensor]:
        """Add the gradients of a batch and return its losses."""
        self._rows_EB.copy_(rows_EB)
        self._weight_EB.copy_(weight_EB)
        self._graph.replay()
        return {name: loss.clone() for name, loss in self._losses.items()}
