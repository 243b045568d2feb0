"""Device, threads and determinism of a training."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from dhmd.base.device import torch_device
from dhmd.models.stacked import kernels
from dhmd.training.compute import ComputeConfig
from dhmd.training.config import Precision

# Per process: for models of this size, more processes are faster than more threads.
DEFAULT_THREADS = 1

# Options of malloc.h, and the number of bytes up to which glibc keeps freed memory.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEEP_BYTES = 1 << 30


def visible_gpus() -> list[str]:
    """Return the names of this machine's GPUs, as in CUDA_VISIBLE_DEVICES; [] if it has none."""
    count = torch.cuda.device_count()
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    return names.split(",")[:count] if names else [str(index) for index in range(count)]


@contextmanager
def torch_session(compute: ComputeConfig) -> Iterator[torch.device]:
    """Set threads and determinism inside the block and yield the device to train on.

    On a cluster this is the device of the tasks, which this machine need not have.

    Raises:
        DhmdError: compute.device is cuda and there is no GPU; or compute.kernels is native, and the
            C compiler fails.
    """
    if compute.executor == "local":
        device = torch_device(compute.device, "compute.device")
        native = compute.kernels == "native" and device.type == "cpu"
    else:
        device, native = torch.device(compute.for_task().device), False
    threads, deterministic = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    settings: Any = torch.utils.deterministic
    fill = settings.fill_uninitialized_memory
    torch.set_num_threads(compute.threads or DEFAULT_THREADS)
    # cuBLAS needs this variable to be deterministic, and reads it at its first product.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # torch.use_deterministic_algorithms(True) imports torch's compiler, which takes 3 s.
    torch.set_deterministic_debug_mode("error")
    # Every new tensor is written before it is read, so filling it first is not needed.
    settings.fill_uninitialized_memory = False
    keep_memory()
    try:
        with kernels.using(native=native):
            yield device
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(deterministic)
        settings.fill_uninitialized_memory = fill


@contextmanager
def tf32_products(precision: Precision, device: torch.device) -> Iterator[None]:
    """Compute float32 products in TF32 inside the block, if `precision` is tf32 on a GPU."""
    if precision != "tf32" or device.type != "cuda":
        yield
        return
    previous = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(previous)


def keep_memory() -> None:
    """Make glibc keep freed memory, so that large tensors do not need new pages each time.

    Another C library is left unchanged.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)
