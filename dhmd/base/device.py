"""The device that PyTorch computes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from dhmd.base.errors import DhmdError

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "cpu", "cuda"]


def torch_device(device: Device, setting: str = "the device") -> torch.device:
    """Return the device; `auto` is a GPU if there is one, otherwise the CPU.

    Args:
        setting: the name of the setting in the error message.

    Raises:
        DhmdError: the device is cuda, but there is no GPU.
    """
    import torch  # settings import this module, and the command line reads them without torch

    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise DhmdError(f"{setting} is cuda, but PyTorch finds no GPU: use auto or cpu")
    return torch.device("cuda" if has_gpu and device != "cpu" else "cpu")
