"""Functions in C, compiled for this machine (`compute.kernels: native`), and products of matrices.

They equal torch's to rounding, with the same dropout masks. Each module that has a C form asks
`native` and calls its function: transformer layers (`native_layer.py`), sparsemax, masked maxima,
random bits (`dhmd.models.members`) and Adam (`dhmd.training.optimiser`). Products in C are for
matrices of a few hundred rows; MKL uses half of the vector width of AMD's processors.

Legend: S matrices (E·G: members and groups), N rows, I inputs, O outputs.
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

_FOLDER = Path(__file__).parent
_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fopenmp-simd", "-shared", "-fPIC")

_TYPES = {"p": ctypes.c_void_p, "l": ctypes.c_long, "f": ctypes.c_float}
# Arguments of the C functions: p, a pointer; l, a long integer; f, a float.
_ATTENTION = {"forward": "pppplfppllll", "backward": "pppplfpppppllll"}
_OTHERS = {
    "adam": "ppppppffffl",
    "drop": "ppplfl",
    "fill": "ppl",
    "masked_max": "pppplll",
    "masked_max_backward": "ppplll",
    "norm": "pppplll",
    "norm_backward": "pppppplll",
    "products": "pllpllpppllll",
    "rectify": "pplfl",
    "rectify_backward": "ppfl",
    "sparsemax": "pplll",
}

_enabled = False


@contextmanager
def using(*, native: bool) -> Iterator[None]:
    """Compute in C inside the block, or as usual.

    Raises:
        DhmdError: no C compiler was found, or it failed.
    """
    global _enabled
    if native:
        compiled()
    before, _enabled = _enabled, native
    try:
        yield
    finally:
        _enabled = before


def enabled() -> bool:
    """Return whether a block of `using(native=True)` is active."""
    return _enabled


def native(x: Tensor) -> bool:
    """Return whether C computes with `x`: float32 on a CPU, and not in autocast."""
    if not _enabled or not x.is_cpu or x.dtype != torch.float32:
        return False
    return not torch.is_autocast_enabled("cpu")


@cache
def compiled(head: int = 0) -> ctypes.CDLL:
    """Compile attention for heads of one width, or everything else, and load it.

    Raises:
        DhmdError: no C compiler was found, or it failed.
    """
    compiler = os.environ.get("CC", "cc")
    flags = [*_FLAGS, f"-DHEAD={head}"]
    if platform.machine() in ("x86_64", "AMD64"):
        flags.append("-mprefer-vector-width=512")
    names = ["adam", "elementwise", "pooling", "product", "random", "sparsemax"]
    sources = [str(_FOLDER / f"{name}.c") for name in (["attend"] if head else names)]
    # A private folder: no other user can replace the library before it is loaded.
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "library.so"
        command = [compiler, *flags, *sources, "-o", str(library), "-lm"]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", None) or str(error)
            raise DhmdError(
                f"compute.kernels is native, but the C compiler {compiler!r} failed "
                f"({reason.strip().splitlines()[0]}); install one, or set compute.kernels to torch"
            ) from error
        loaded = ctypes.CDLL(str(library))
    for name, letters in (_ATTENTION if head else _OTHERS).items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = None, [_TYPES[letter] for letter in letters]
    return loaded


def product(x_SNI: Tensor, weight_SIO: Tensor, bias_S1O: Tensor | None = None) -> Tensor:
    """Compute `x W + b` for each pair of matrices."""
    if not native(x_SNI):
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
        return multiply(x, weight, None if bias_S1O is None else bias_S1O.contiguous())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, _, of_bias = ctx.needs_input_grad
        dx, dweight, dbias = linear_backward(grads[0].contiguous(), x, weight, of_x=of_x)
        return dx if of_x else None, dweight, dbias if of_bias else None


def linear_backward(
    dy_SNO: Tensor, x_SNI: Tensor, weight_SIO: Tensor, *, of_x: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of the input (empty unless `of_x`), weight and bias of `x W + b`."""
    batch, _, outputs = dy_SNO.shape
    dbias_S1O = dy_SNO.new_empty(batch, 1, outputs)
    dweight = multiply(x_SNI.transpose(1, 2), dy_SNO, sums=dbias_S1O)
    dx = multiply(dy_SNO, weight_SIO.transpose(1, 2)) if of_x else dy_SNO.new_empty(0)
    return dx, dweight, dbias_S1O


def multiply(
    a_SNI: Tensor, b_SIO: Tensor, bias_SO: Tensor | None = None, *, sums: Tensor | None = None
) -> Tensor:
    """Multiply matrices; each is contiguous, or the transpose of one that is.

    Args:
        sums: where to write the sum of the rows of `b`.
    """
    batch, rows, inner = a_SNI.shape
    outputs = b_SIO.shape[2]
    c = a_SNI.new_empty(batch, rows, outputs)
    strides = (a_SNI.stride()[1:], b_SIO.stride()[1:])
    shape = (batch, rows, inner, outputs)
    call("products", a_SNI, *strides[0], b_SIO, *strides[1], bias_SO, c, sums, *shape)
    return c


def call(name: str, *arguments: Tensor | int | float | None, head: int = 0) -> None:
    """Call a C function of `compiled(head)`; a tensor is passed as a pointer, None as NULL."""
    function = getattr(compiled(head), name)
    function(*[x.data_ptr() if isinstance(x, Tensor) else x for x in arguments])
