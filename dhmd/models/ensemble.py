"""Train any `nn.Module` over E seeds: all members at once where `vmap` can, else one by one.

`torch.func.vmap` runs one module over stacked parameters. It cannot run every module: GRU and LSTM,
boolean indexing, `.item()`, branches on data and random numbers have no batching rule. The first
batch decides: members run one by one if `vmap` raises, if the module keeps state between calls, or
if its result differs from that of a single member.

Legend: E members, B utterances, O outputs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from dhmd.base.errors import DhmdError, first_line
from dhmd.models.batch import Batch, EnsembleBatch
from dhmd.models.layers import ModalityEncoder
from dhmd.models.learner import Learner, ParameterGroup
from dhmd.models.members import Members, stream_seed, torch_seeded
from dhmd.models.stacked.export import plain_state
from dhmd.models.task import Task

VMAP, LOOP = "vmap", "loop"

_HOOKS = ("phases", "alternate", "batch_by", "pretraining_epochs")
_PREFIX = "model."
_TOLERANCE = 1e-3

_log = logging.getLogger(__name__)

Result = Tensor | dict[str, Tensor]
Shapes = list[tuple[float, tuple[int, ...]]]


class Ensemble(Learner):
    """E members of an ordinary module.

    Args:
        create: builds the module of one member from torch's current random state.
        name: of the model, for messages.
    """

    capturable = False

    def __init__(
        self, members: Members, task: Task, create: Callable[[], nn.Module], *, name: str
    ) -> None:
        super().__init__()
        self.task, self.members, self.name = task, members, name
        self._instances: list[nn.Module] = []  # a list: their parameters are not registered here
        for seed in members.seeds:
            with torch_seeded(stream_seed(seed, "initialisation"), torch.device("cpu")):
                self._instances.append(create().to(members.device))
        with torch_seeded(stream_seed(members.seeds[0], "initialisation"), torch.device("cpu")):
            self.model = create().to(members.device)
        own = [dict(instance.named_parameters()) for instance in self._instances]
        for parameter_name, parameter in self.model.named_parameters():
            parameter.data = torch.stack([each[parameter_name].detach() for each in own])
        self._dropout = _DropoutTape()
        _replace_dropout(self.model, self._dropout)
        # In a list, so that its parameters are not registered twice.
        self._caller = [_Caller(self.model, task)]
        self._shapes: dict[tuple[object, ...], Shapes] = {}
        self._bound: tuple[int, int] | None = None
        for hook in _HOOKS:
            if hasattr(self.model, hook):
                setattr(self, hook, getattr(self.model, hook))

    # ---- interface to the trainer ----------------------------------------------------------------

    def losses(self, batch: EnsembleBatch) -> dict[str, Tensor]:
        real_B = (batch.weight_EB > 0).any(0)
        if not real_B.all():
            batch = batch.rows(real_B.nonzero()[:, 0])
        found = cast(dict[str, Tensor], self._run("losses", batch))
        if "total" not in found:
            raise DhmdError(f"{self.name}: losses() must return a loss named 'total'")
        return found

    def predict(self, batch: EnsembleBatch) -> Tensor:
        output = cast(Tensor, self._run("predict", batch))
        expected = (*batch.labels_EB.shape, self.task.outputs)
        if output.shape != expected:
            raise DhmdError(
                f"{self.name}: forward() must return [{expected[1]}, {expected[2]}] (utterances, "
                f"outputs), but returned {list(output.shape[1:])}"
            )
        return output

    def details(self, batch: EnsembleBatch) -> dict[str, Tensor]:
        return cast(dict[str, Tensor], self._run("details", batch))

    def parameter_group(self, name: str) -> ParameterGroup:
        own = getattr(self.model, "parameter_group", None)
        found: ParameterGroup = own(self.stored_name(name)) if own else ParameterGroup()
        return found

    def stored_name(self, name: str) -> str:
        return name.removeprefix(_PREFIX)

    def train(self, mode: bool = True) -> Ensemble:
        super().train(mode)
        for instance in self._instances:
            instance.train(mode)
        return self

    def member_buffers(self) -> dict[str, Tensor]:
        stored = set(self.model.state_dict())
        own = [dict(instance.named_buffers()) for instance in self._instances]
        return {
            name: torch.stack([each[name] for each in own]) for name in own[0] if name in stored
        }

    def load_member_buffers(self, buffers: Mapping[str, Tensor]) -> None:
        for index, instance in enumerate(self._instances):
            own = dict(instance.named_buffers())
            for name, value in buffers.items():
                own[name].copy_(value[index])

    def load_encoders(self, encoders: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Initialise a module's `encoders: nn.ModuleDict` of `layers.ModalityEncoder`."""
        own = getattr(self.model, "encoders", None)
        for modality, encoder in own.items() if isinstance(own, nn.ModuleDict) else ():
            if isinstance(encoder, ModalityEncoder):
                for member in range(self.members.count):
                    stacked = {
                        f"encoders.0.{name}": value[member]
                        for name, value in encoders[modality].items()
                    }
                    for name, value in plain_state(stacked, (modality,)).items():
                        own_name = name.removeprefix(f"encoders.{modality}.")
                        parameter = encoder.get_parameter(own_name)[member]
                        if parameter.shape != value.shape:
                            raise ValueError(
                                f"the pretrained encoder of {modality} does not fit the model"
                            )
                        with torch.no_grad():
                            parameter.copy_(value)

    # ---- running members together or one by one --------------------------------------------------

    def _run(self, method: str, batch: EnsembleBatch) -> Result:
        self._bind()
        if not self.mode:
            self._use(*self._decide(method, batch))
        if self.mode == VMAP:
            try:
                return self._together(method, batch)
            except Exception as error:  # an error of the module itself is raised again below
                self._use(LOOP, first_line(error))
        return self._one_by_one(method, batch)

    def _use(self, mode: str, reason: str) -> None:
        self.mode = mode
        if mode == VMAP:
            _log.info("%s: all seeds train together (torch.func.vmap)", self.name)
        else:
            _log.info("%s: seeds train one after another, because %s", self.name, reason)

    def _bind(self) -> None:
        """Make the instances' parameters views of the stacked ones.

        This is repeated when the stacked ones move: the optimiser moves them into a flat buffer.
        """
        stacked = dict(self.model.named_parameters())
        if torch.is_grad_enabled():
            for whole in stacked.values():
                if whole.grad is None and whole.requires_grad:
                    whole.grad = torch.zeros_like(whole)
        first = next(iter(stacked.values()))
        now = (first.data_ptr(), 0 if first.grad is None else first.grad.data_ptr())
        if now == self._bound:
            return
        self._bound = now
        for index, instance in enumerate(self._instances):
            for name, parameter in instance.named_parameters():
                whole = stacked[name]
                parameter.data = whole.data[index]
                parameter.grad = None if whole.grad is None else whole.grad[index]

    def _one_by_one(self, method: str, batch: EnsembleBatch) -> Result:
        results: dict[int, Result] = {}
        for index, instance in enumerate(self._instances):
            if index not in self.skip:
                own = batch.of_member(index)
                if method == "losses" and not (own.weight_B > 0).all():
                    rows = (batch.weight_EB[index] > 0).nonzero()[:, 0]
                    own = batch.rows(rows).of_member(index)
                with self._random(index):
                    results[index] = _Caller(instance, self.task)(method, own)
        example = next(iter(results.values()))
        count = self.members.count
        if isinstance(example, Tensor):
            blank = torch.full_like(example, torch.nan)
            return torch.stack([cast(Tensor, results.get(i, blank)) for i in range(count)])
        fill = 0.0 if method == "losses" else torch.nan
        blanks = {name: torch.full_like(value, fill) for name, value in example.items()}
        parts = [cast(dict[str, Tensor], results.get(i, blanks)) for i in range(count)]
        return {name: torch.stack([part[name] for part in parts]) for name in example}

    def _random(self, member: int) -> AbstractContextManager[None]:
        """Set torch's random state for one member: from its stream in training, else fixed."""
        if self.training:
            return self.members.torch_random(member)
        return torch_seeded(
            stream_seed(self.members.seeds[member], "prediction"), self.members.device
        )

    def _together(self, method: str, batch: EnsembleBatch) -> Result:
        masks = [
            self.members.keep(*shape, rate=rate) for rate, shape in self._mask_shapes(method, batch)
        ]
        return self._vmapped(method, batch, masks)

    def _vmapped(self, method: str, batch: EnsembleBatch, masks: list[Tensor]) -> Result:
        call = vmap(partial(self._call, method, batch), randomness="error")
        stacked: Result = call(self._state(), batch.tensors(), masks)
        return stacked

    def _call(
        self,
        method: str,
        batch: EnsembleBatch,
        state: dict[str, Tensor],
        tensors: dict[str, Any],
        masks: list[Tensor],
    ) -> Result:
        """Call the module with one member's parameters, buffers and batch."""
        own = {f"{_PREFIX}{name}": tensor for name, tensor in state.items()}
        member_batch = Batch(**tensors, epoch=batch.epoch, phase=batch.phase)
        with self._dropout.playing(masks):
            result: Result = functional_call(self._caller[0], own, (method, member_batch))
        return result

    def _state(self) -> dict[str, Tensor]:
        """Parameters and buffers of all members, `[E, …]` by name."""
        own = [dict(instance.named_buffers()) for instance in self._instances]
        buffers = {name: torch.stack([each[name] for each in own]) for name in own[0]}
        return {**dict(self.model.named_parameters()), **buffers}

    def _state_of(self, member: int) -> dict[str, Tensor]:
        return {name: value[member] for name, value in self._state().items()}

    def _mask_shapes(self, method: str, batch: EnsembleBatch) -> Shapes:
        """Return rate and shape of every dropout mask of a call; they are recorded once."""
        if not self.training:
            return []
        shapes = tuple(tuple(x.shape) for x in batch.features)
        key = (method, batch.phase, batch.epoch, shapes)
        if key not in self._shapes:
            if any(old[2] != batch.epoch for old in self._shapes):
                self._shapes.clear()
            self._shapes[key] = self._recorded(method, batch, self._state_of(0))
        return self._shapes[key]

    def _recorded(self, method: str, batch: EnsembleBatch, state: dict[str, Tensor]) -> Shapes:
        """Run the first member without dropout and record rate and shape of each mask."""
        seeded = torch_seeded(0, self.members.device)
        with torch.no_grad(), seeded, self._dropout.recording() as recorded:
            self._call(method, batch, state, batch.tensors_of(0), [])
        return recorded

    # ---- choosing between the two ----------------------------------------------------------------

    def _decide(self, method: str, batch: EnsembleBatch) -> tuple[str, str]:
        """Choose how members run, and return the reason if it is one by one."""
        if self.batch_by == "video":
            return LOOP, "its batches are whole videos"
        try:
            reason = self._stateful(method, batch) or self._different(method, batch)
        except Exception as error:  # an error of the module itself is raised again one by one
            reason = first_line(error)
        return (LOOP, reason) if reason else (VMAP, "")

    def _stateful(self, method: str, batch: EnsembleBatch) -> str | None:
        """Run one member and return whether the module keeps state between calls."""
        before, state = _attributes(self.model), self._state_of(0)
        old = {name: value.clone() for name, value in state.items()}
        self._recorded(method, batch, state)
        if any(not state[name].equal(value) for name, value in old.items()):
            return "it updates buffers"
        if _attributes(self.model) != before:
            return "it keeps state in attributes"
        return None

    def _different(self, method: str, batch: EnsembleBatch) -> str | None:
        """Compare losses and gradients of the first and last member with those of each alone."""
        generator = torch.Generator().manual_seed(0)
        count, device = self.members.count, self.members.device
        masks = [
            (torch.rand((count, *shape), generator=generator) >= rate).to(device)
            for rate, shape in self._mask_shapes(method, batch)
        ]
        together = _numbers(self._vmapped(method, batch, masks), axes=1)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        grads = _gradients(together, parameters)
        for index in {0, count - 1}:
            own_masks = [mask[index] for mask in masks]
            state, tensors = self._state_of(index), batch.tensors_of(index)
            alone = _numbers(self._call(method, batch, state, tensors, own_masks))
            expected = _gradients(alone, parameters)
            gradients = [
                torch.cat([g[index].flatten() for g in each]) for each in (grads, expected)
            ]
            for found, wanted in ((together[index], alone.detach()), gradients):
                # The norm of all entries: single gradients may be rounding errors.
                if not (found - wanted).norm() <= _TOLERANCE * wanted.norm() + 1e-6:
                    return "a seed alone gives different numbers"
        return None


class _Caller(nn.Module):
    """Calls a method of a module by name, so that `functional_call` can be used."""

    def __init__(self, model: nn.Module, task: Task) -> None:
        super().__init__()
        self.model, self.task = model, task

    def forward(self, method: str, batch: Batch) -> Result:
        model: Any = self.model
        if method == "predict":
            return cast(Tensor, model(batch))
        if method == "details":
            details = model.details(batch) if hasattr(model, "details") else {}
            return {"prediction": self.task.stored(model(batch)), **details}
        if hasattr(model, "losses"):
            like = batch.labels_B
            return {
                name: torch.as_tensor(value, dtype=like.dtype, device=like.device)
                for name, value in model.losses(batch).items()
            }
        task = batch.mean(self.task.loss(model(batch), batch.labels_B))
        return {"total": task, "task": task}


class _DropoutTape:
    """Supplies dropout masks in the order of the layers, after one call records their shapes."""

    def __init__(self) -> None:
        self._recorded: Shapes | None = None
        self._masks: Iterator[Tensor] = iter(())

    @contextmanager
    def recording(self) -> Iterator[Shapes]:
        """Yield a list that collects rate and shape of each mask; nothing is dropped."""
        recorded: Shapes = []
        self._recorded = recorded
        try:
            yield recorded
        finally:
            self._recorded = None

    @contextmanager
    def playing(self, masks: list[Tensor]) -> Iterator[None]:
        """Use these masks."""
        self._masks = iter(masks)
        yield

    def apply(self, x: Tensor, rate: float) -> Tensor:
        """Drop entries of `x` with the next mask."""
        if self._recorded is not None:
            self._recorded.append((rate, tuple(x.shape)))
            return x
        return torch.where(next(self._masks), x / (1 - rate), 0.0)


class _TapedDropout(nn.Module):
    """`nn.Dropout` with masks from the tape."""

    def __init__(self, rate: float, tape: _DropoutTape) -> None:
        super().__init__()
        self.p, self.tape = rate, tape

    def forward(self, x: Tensor) -> Tensor:
        return self.tape.apply(x, self.p) if self.training and self.p > 0 else x


def _replace_dropout(module: nn.Module, tape: _DropoutTape) -> None:
    for name, child in module.named_children():
        if type(child) is nn.Dropout:
            setattr(module, name, _TapedDropout(child.p, tape))
        else:
            _replace_dropout(child, tape)


def _attributes(module: nn.Module) -> dict[tuple[str, str], tuple[object, ...]]:
    """Identity, and size of a container, of every attribute of a module and its children."""
    found: dict[tuple[str, str], tuple[object, ...]] = {}
    for path, child in module.named_modules():
        if isinstance(child, _TapedDropout):
            continue
        for name, value in vars(child).items():
            if name not in ("_parameters", "_buffers", "_modules", "training"):
                sized = isinstance(value, (list, dict, set))
                found[path, name] = (id(value), len(value) if sized else 0)
    return found


def _numbers(result: Result, *, axes: int = 0) -> Tensor:
    """Flatten losses to their total, and outputs to one vector, after the leading axes."""
    if isinstance(result, Tensor):
        return result.flatten(axes)
    if "total" in result:
        return result["total"]
    return torch.cat([value.flatten(axes) for value in result.values()], dim=axes)


def _gradients(values: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    """Gradients of the sum of values, zeros where there are none."""
    zeros = [torch.zeros_like(parameter) for parameter in parameters]
    if not values.requires_grad:
        return zeros
    found = torch.autograd.grad(values.sum(), parameters, allow_unused=True)
    return [zero if grad is None else grad for zero, grad in zip(zeros, found, strict=True)]
