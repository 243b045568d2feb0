"""The settings of where and how tasks run: section `compute` of params.yaml.

No stage depends on them, because they change results only by rounding.
"""

from __future__ import annotations

from dataclasses import field, replace
from typing import Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from dhmd.base.device import Device
from dhmd.config.schema import CONFIG


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class SlurmConfig:
    """Section `compute.slurm`: options of `sbatch`, per task."""

    partition: str | None = None
    account: str | None = None
    gpus: PositiveInt | None = None  # None: tasks train on the CPU
    time: str | None = None  # time limit, in the format of `sbatch --time`
    memory: str | None = None  # memory, in the format of `sbatch --mem`
    array_parallelism: PositiveInt | None = None  # maximum number of running tasks; None: no limit
    setup: tuple[str, ...] = ()  # shell lines that run before each task


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class RayConfig:
    """Section `compute.ray`."""

    address: str | None = None  # of the head node, for `ray.init`; None: this machine
    gpus: PositiveFloat | None = None  # per task, possibly a fraction; None: use the CPU


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class ComputeConfig:
    """Section `compute`."""

    executor: Literal["local", "slurm", "ray"] = "local"  # where the tasks run
    workers: PositiveInt | None = None  # processes; None: chosen for the machine and the job
    threads: PositiveInt | None = None  # CPU threads per process; None: one
    device: Device = "auto"  # auto: a GPU if there is one
    kernels: Literal["torch", "native"] = "torch"  # on a CPU; native: compiled here, needs cc
    cuda_graph: bool = True  # on a GPU, capture each step's shape once and replay it
    retries: NonNegativeInt = 3  # maximum number of consecutive runs of a task without a new epoch
    shared: bool = True  # the nodes have this repository's folder; false: use the DVC remote
    folder: str | None = None  # repository folder on the nodes if shared is false; None: as here
    slurm: SlurmConfig = field(default_factory=SlurmConfig)
    ray: RayConfig = field(default_factory=RayConfig)

    def for_task(self) -> ComputeConfig:
        """Return the settings of a task's own process, which computes on the requested device."""
        if self.executor == "local":
            return self
        gpus = self.slurm.gpus if self.executor == "slurm" else self.ray.gpus
        device = self.device
        if device == "auto":
            device = "cpu" if gpus is None else "cuda"
        return replace(self, executor="local", device=device)
