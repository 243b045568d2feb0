"""Attention and products of torch, or in C, compiled for this machine (`compute.kernels: native`).

Both equal each other to rounding, with the same dropout masks. Attention in C (`attend.c`) saves no
weights for the gradient and has no overhead per sequence and head. Products in C (`product.c`) are
for matrices of a few hundred rows; MKL uses half of the vector width of AMD's processors.

Legend: E members, G groups, B utterances, S = E·G·B sequences (of a product: E·G matrices),
H heads, T query steps, U key steps, D width, N rows, I inputs, O outputs.
"""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dhmd.base.errors import DhmdError
from dhmd.models.stacked.attend import Attend, DropoutMask

_FOLDER = Path(__file__).parent
_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-shared", "-fPIC")

_enabled = False


@contextmanager
def using(*, native: bool) -> Iterator[None]:
    """Compute in C inside the block, or as usual.

    Raises:
        DhmdError: no C compiler was found, or it failed.
    """
    global _enabled
    if native:
        compiled("product.c")
    before, _enabled = _enabled, native
    try:
        yield
    finally:
        _enabled = before


def _native(x: Tensor) -> bool:
    """Return whether C computes with `x`: float32 on a CPU, and not in autocast."""
    if not _enabled or not x.is_cpu or x.dtype != torch.float32:
        return False
    return not torch.is_autocast_enabled("cpu")


@cache
def compiled(name: str, head: int = 0) -> ctypes.CDLL:
    """Compile a source file, attention for one head width, and load it.

    Raises:
        DhmdError: no C compiler was found, or it failed.
    """
    compiler = os.environ.get("CC", "cc")
    flags = [*_FLAGS, f"-DHEAD={head}"]
    if platform.machine() in ("x86_64", "AMD64"):
        flags.append("-mprefer-vector-width=512")
    # A private folder: no other user can replace the library before it is loaded.
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "library.so"
        command = [compiler, *flags, str(_FOLDER / name), "-o", str(library), "-lm"]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", None) or str(error)
            raise DhmdError(
                f"compute.kernels is native, but the C compiler {compiler!r} failed "
                f"({reason.strip().splitlines()[0]}); install one, or set compute.kernels to torch"
            ) from error
        loaded = ctypes.CDLL(str(library))
    return loaded


def attend(
    query_STD: Tensor, pairs_SUD: Tensor, bias_SU: Tensor, heads: int, dropout: DropoutMask | None
) -> Tensor:
    """Compute `softmax(q kᵀ / √E + bias) v` for each head, with dropout of the softmax.

    Args:
        pairs_SUD: keys and values, `[S, U, 2 D]`.
        bias_SU: added to the scores of each key; no gradient reaches it.
        dropout: the mask of the softmax, None for no dropout.

    Returns:
        The mixed values, `[S, T, D]`.
    """
    function = _AttendInC if _native(query_STD) else Attend
    result: Tensor = function.apply(query_STD, pairs_SUD, bias_SU, heads, dropout)  # type: ignore[no-untyped-call]
    return result


class _AttendInC(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query_STD: Tensor,
        pairs_SUD: Tensor,
        bias_SU: Tensor,
        heads: int,
        dropout: DropoutMask | None,
    ) -> Tensor:
        query, pairs, bias = (x.contiguous() for x in (query_STD, pairs_SUD, bias_SU))
        mixed = torch.empty_like(query)
        stats = query.new_empty(len(query), heads, query.shape[1], 2)
        _run("forward", (query, pairs, bias), (mixed, stats), heads, dropout)
        ctx.save_for_backward(query, pairs, bias, mixed, stats)
        ctx.heads, ctx.dropout = heads, dropout
        return mixed

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, pairs, bias, mixed, stats = ctx.saved_tensors
        dquery, dpairs = torch.empty_like(query), torch.empty_like(pairs)
        after = (mixed, stats, grads[0].contiguous(), dquery, dpairs)
        _run("backward", (query, pairs, bias), after, ctx.heads, ctx.dropout)
        return dquery, dpairs, None, None, None


def _run(
    name: str,
    inputs: tuple[Tensor, Tensor, Tensor],
    others: tuple[Tensor, ...],
    heads: int,
    dropout: DropoutMask | None,
) -> None:
    """Call a function for each range of sequences that have the same dropout rate."""
    (sequences, steps, width), keys = inputs[0].shape, inputs[1].shape[1]
    function = getattr(compiled("attend.c", width // heads), name)
    sizes = (heads, steps, keys)
    for part, bits, limit, scale in _parts(sequences, dropout):
        function(
            *(_pointer(x[part]) for x in inputs),
            _pointer(bits),
            ctypes.c_int(limit),
            ctypes.c_float(scale),
            *(_pointer(x[part]) for x in others),
            *(ctypes.c_long(size) for size in (part.stop - part.start, *sizes)),
        )


def _parts(
    sequences: int, dropout: DropoutMask | None
) -> Iterator[tuple[slice, Tensor | None, int, float]]:
    """Yield ranges of sequences, their random bits, the limit of kept entries and their scale."""
    if dropout is None:
        yield slice(0, sequences), None, 0, 1.0
        return
    groups = len(dropout.active_G)
    each = sequences // (len(dropout.bits_EAXTU) * groups)
    rates = list(
        zip(dropout.active_G, dropout.limit_values_G, dropout.scales_G.tolist(), strict=True)
    )
    start = 0
    for bits_AXTU in dropout.bits_EAXTU:
        active = iter(bits_AXTU)
        for has_bits, limit, scale in rates:
            part = slice(start, start + each)
            yield part, next(active).contiguous() if has_bits else None, limit, scale
            start += each


def product(x_SNI: Tensor, weight_SIO: Tensor, bias_S1O: Tensor | None = None) -> Tensor:
    """Compute `x W + b` for each pair of matrices."""
    if not _native(x_SNI):
        if bias_S1O is None:
            return torch.bmm(x_SNI, weight_SIO)
        return torch.baddbmm(bias_S1O, x_SNI, weight_SIO)
    result: Tensor = _Product.apply(x_SNI, weight_SIO, bias_S1O)  # type: ignore[no-untyped-call]
    return result


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_SNI: Tensor, weight_SIO: Tensor, bias_S1O: Tensor | None) -> Tensor:
        x, weight = x_SNI.contiguous(), weight_SIO.contiguous()
        ctx.save_for_backward(x, weight)
        return _multiply(x, weight, None if bias_S1O is None else bias_S1O.contiguous())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        dy = grads[0].contiguous()
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            _multiply(dy, weight.transpose(1, 2)) if of_x else None,
            _multiply(x.transpose(1, 2), dy) if of_weight else None,
            dy.sum(1, keepdim=True) if of_bias else None,
        )


def _multiply(a_SNI: Tensor, b_SIO: Tensor, bias_S1O: Tensor | None = None) -> Tensor:
    """Multiply matrices; each is contiguous, or the transpose of one that is."""
    batch, rows, inner = a_SNI.shape
    outputs = b_SIO.shape[2]
    c = a_SNI.new_empty(batch, rows, outputs)
    compiled("product.c").products(
        _pointer(a_SNI),
        *map(ctypes.c_long, a_SNI.stride()[1:]),
        _pointer(b_SIO),
        *map(ctypes.c_long, b_SIO.stride()[1:]),
        _pointer(bias_S1O),
        _pointer(c),
        *map(ctypes.c_long, (batch, rows, inner, outputs)),
    )
    return c


def _pointer(x: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if x is None else x.data_ptr())
