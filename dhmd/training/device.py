"""Device, threads and determinism of a training."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from dhmd.base.errors import DhmdError
from dhmd.models.stacked import kernels
from dhmd.training.compute import ComputeConfig
from dhmd.training.config import Precision

# Per process: for models of this size, more processes are faster than more threads.
DEFAULT_THREADS = 1

# Options of malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT = 1 << 30


def visible_gpus() -> list[str]:
    """Return this machine's GPUs as CUDA_VISIBLE_DEVICES names them; [] without one."""
    count = torch.cuda.device_count()
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    return names.split(",")[:count] if names else [str(index) for index in range(count)]


@contextmanager
def prepared(compute: ComputeConfig) -> Iterator[torch.device]:
    """Set threads and determinism inside the block and yield the device to train on.

    With another executor than local, that is the tasks' device, which need not be here.

    Raises:
        DhmdError: compute.device is cuda and there is none; or compute.kernels is native, and the C
            compiler fails.
    """
    elsewhere, compute = compute.executor != "local", compute.in_task()
    if compute.device == "cuda" and not elsewhere and not torch.cuda.is_available():
        raise DhmdError("compute.device is cuda, but torch sees no GPU here; use auto or cpu")
    use_gpu = compute.device != "cpu" and (elsewhere or torch.cuda.is_available())
    native = compute.kernels == "native" and not use_gpu and not elsewhere
    threads, deterministic = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    settings: Any = torch.utils.deterministic
    fills = settings.fill_uninitialized_memory
    torch.set_num_threads(compute.threads or DEFAULT_THREADS)
    # cuBLAS refuses to be deterministic without it, and reads it at its first product.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # torch.use_deterministic_algorithms(True) imports torch's compiler, which takes 3 s.
    torch.set_deterministic_debug_mode("error")
    # Every new tensor is written before it is read, so filling it first is not needed.
    settings.fill_uninitialized_memory = False
    keep_memory()
    try:
        with kernels.using(native=native):
            yield torch.device("cuda" if use_gpu else "cpu")
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(deterministic)
        settings.fill_uninitialized_memory = fills


@contextmanager
def tf32_products(precision: Precision, device: torch.device) -> Iterator[None]:
    """Let a GPU compute float32 products in TF32 inside the block, if that is the precision."""
    if precision != "tf32" or device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def keep_memory() -> None:
    """Make glibc keep freed memory instead of requesting new pages for every large tensor.

    It has no effect with another C library.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _KEPT)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT)
