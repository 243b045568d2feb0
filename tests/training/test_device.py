"""The PyTorch settings of a job: threads, determinism, and no needless imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dhmd.training.compute import ComputeConfig
from dhmd.training.device import torch_session

ROOT = Path(__file__).parents[2]


def test_threads_and_determinism_are_limited_to_the_block() -> None:
    with torch_session(ComputeConfig(device="cpu", threads=2)) as device:
        assert device.type == "cpu"
        assert torch.get_num_threads() == 2
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.get_num_threads() == 1
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(RuntimeError), torch_session(ComputeConfig(device="cpu")):
        raise RuntimeError
    assert not torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(2)
    with torch_session(ComputeConfig(device="cpu")):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


def test_determinism_does_not_import_torchs_compiler() -> None:
    code = (
        "import sys\n"
        "from dhmd.training.compute import ComputeConfig\n"
        "from dhmd.training.device import torch_session\n"
        "with torch_session(ComputeConfig(device='cpu', threads=1)):\n"
        "    print('torch._inductor' in sys.modules, 'torch._dynamo' in sys.modules)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert process.stdout.split() == ["False", "False"]
