"""Train any `nn.Module` over E seeds: all members at once by `vmap`, or one after another.

`torch.func.vmap` runs one module over stacked parameters. It cannot run every module: GRU and LSTM,
boolean indexing, `.item()`, branches on data and random numbers have no batching rule. The first
batch decides: members run one after another if `vmap` raises, if the module has state that changes
between calls, or if its results differ from those of a single member.

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
_TOLERANCE = 1e-3  # relative difference between a member under vmap and alone

_log = logging.getLogger(__name__)

Result = Tensor | dict[str, Tensor]
MaskShapes = list[tuple[float, tuple[int, ...]]]  # dropout rate and shape of each mask of a call


class Ensemble(Learner):
    """E members of an ordinary module.

    Args:
        create: builds the module of one member, with torch's global random state.
        name: name of the model, for messages.
    """

    capturable = False

    def __init__(
        self, members: Members, task: Task, create: Callable[[], nn.Module], *, name: str
    ) -> None:
        super().__init__()
        self.task, self.members, self.name = task, members, name
        self._instances: list[nn.Module] = []  # not registered as submodules
        for seed in members.seeds:
            with torch_seeded(stream_seed(seed, "initialisation"), torch.device("cpu")):
                self._instances.append(create().to(members.device))
        with torch_seeded(stream_seed(members.seeds[0], "initialisation"), torch.device("cpu")):
            self.model = create().to(members.device)
        for parameter_name, parameter in self.model.named_parameters():
            values = [each.get_parameter(parameter_name).detach() for each in self._instances]
            parameter.data = torch.stack(values)
        self._dropout = _DropoutMasks()
        _replace_dropout(self.model, self._dropout)
        self._caller = [_Caller(self.model, task)]  # not registered, either
        self._shapes: dict[tuple[object, ...], MaskShapes] = {}
        self._addresses: tuple[int, int] | None = None
        for hook in _HOOKS:
            if hasattr(self.model, hook):
                setattr(self, hook, getattr(self.model, hook))

    # ---- interface to the trainer ----------------------------------------------------------------

    def losses(self, batch: EnsembleBatch) -> dict[str, Tensor]:
        real_B = (batch.weight_EB > 0).any(0)
        if not real_B.all():
            batch = batch.rows(real_B.nonzero()[:, 0])
        losses = cast(dict[str, Tensor], self._run("losses", batch))
        if "total" not in losses:
            raise DhmdError(f"{self.name}: losses() must return a loss named 'total'")
        return losses

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
        hook = getattr(self.model, "parameter_group", None)
        group: ParameterGroup = hook(self.stored_name(name)) if hook else ParameterGroup()
        return group

    def stored_name(self, name: str) -> str:
        return name.removeprefix(_PREFIX)

    def train(self, mode: bool = True) -> Ensemble:
        super().train(mode)
        for instance in self._instances:
            instance.train(mode)
        return self

    def member_buffers(self) -> dict[str, Tensor]:
        persistent = set(self.model.state_dict())
        return {name: value for name, value in self._buffers_of_all().items() if name in persistent}

    def load_member_buffers(self, buffers: Mapping[str, Tensor]) -> None:
        for index, instance in enumerate(self._instances):
            for name, value in buffers.items():
                instance.get_buffer(name).copy_(value[index])

    def load_encoders(self, encoders: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Copy pretrained weights into each `layers.ModalityEncoder` of the module's `encoders`."""
        modules = getattr(self.model, "encoders", None)
        for modality, encoder in modules.items() if isinstance(modules, nn.ModuleDict) else ():
            if not isinstance(encoder, ModalityEncoder):
                continue
            for member in range(self.members.count):
                stacked = {
                    f"encoders.0.{name}": value[member]
                    for name, value in encoders[modality].items()
                }
                for name, value in plain_state(stacked, (modality,)).items():
                    parameter = encoder.get_parameter(name.removeprefix(f"encoders.{modality}."))
                    if parameter[member].shape != value.shape:
                        raise ValueError(
                            f"the pretrained encoder of {modality} does not fit the model: "
                            "run the pretrain stage again"
                        )
                    with torch.no_grad():
                        parameter[member].copy_(value)

    # ---- running members together or one after another -------------------------------------------

    def _run(self, method: str, batch: EnsembleBatch) -> Result:
        """Call a method of all members, and return its results with a leading member axis."""
        self._bind_instances()
        if not self.mode:
            self._set_mode(*self._choose_mode(method, batch))
        if self.mode == VMAP:
            try:
                shapes = self._mask_shapes(method, batch)
                masks = [self.members.keep(*shape, rate=rate) for rate, shape in shapes]
                return self._run_together(method, batch, masks)
            except Exception as error:  # an error of the module itself is raised again below
                self._set_mode(LOOP, first_line(error))
        return self._run_in_turn(method, batch)

    def _set_mode(self, mode: str, reason: str) -> None:
        self.mode = mode
        if mode == VMAP:
            _log.info("%s: all seeds train together (torch.func.vmap)", self.name)
        else:
            _log.info("%s: seeds train one after another, because %s", self.name, reason)

    def _bind_instances(self) -> None:
        """Make the instances' parameters views of the stacked ones.

        This is repeated when the stacked ones move: the optimiser moves them into a flat buffer.
        """
        stacked = dict(self.model.named_parameters())
        if torch.is_grad_enabled():
            for parameter in stacked.values():
                if parameter.grad is None and parameter.requires_grad:
                    parameter.grad = torch.zeros_like(parameter)
        first = next(iter(stacked.values()))
        addresses = (first.data_ptr(), 0 if first.grad is None else first.grad.data_ptr())
        if addresses == self._addresses:
            return
        self._addresses = addresses
        for index, instance in enumerate(self._instances):
            for name, view in instance.named_parameters():
                parameter = stacked[name]
                view.data = parameter.data[index]
                view.grad = None if parameter.grad is None else parameter.grad[index]

    def _run_in_turn(self, method: str, batch: EnsembleBatch) -> Result:
        """Call a method of one member after another; stopped members get zeros or NaN."""
        results: dict[int, Result] = {}
        for index, instance in enumerate(self._instances):
            if index not in self.skip:
                member_batch = batch.of_member(index)
                if method == "losses" and not (member_batch.weight_B > 0).all():
                    rows = (batch.weight_EB[index] > 0).nonzero()[:, 0]
                    member_batch = batch.rows(rows).of_member(index)
                with self._random_state(index):
                    results[index] = _Caller(instance, self.task)(method, member_batch)
        example = next(iter(results.values()))
        count = self.members.count
        if isinstance(example, Tensor):
            blank = torch.full_like(example, torch.nan)
            return torch.stack([cast(Tensor, results.get(i, blank)) for i in range(count)])
        fill = 0.0 if method == "losses" else torch.nan
        blanks = {name: torch.full_like(value, fill) for name, value in example.items()}
        values = [cast(dict[str, Tensor], results.get(i, blanks)) for i in range(count)]
        return {name: torch.stack([value[name] for value in values]) for name in example}

    def _random_state(self, member: int) -> AbstractContextManager[None]:
        """Set torch's random state for one member: from its stream in training, else fixed."""
        if self.training:
            return self.members.torch_random(member)
        return torch_seeded(
            stream_seed(self.members.seeds[member], "prediction"), self.members.device
        )

    def _run_together(self, method: str, batch: EnsembleBatch, masks: list[Tensor]) -> Result:
        """Call a method of all members by `vmap`, with these dropout masks `[E, …]`."""
        call = vmap(partial(self._call, method, batch), randomness="error")
        results: Result = call(self._state(), batch.tensors(), masks)
        return results

    def _call(
        self,
        method: str,
        batch: EnsembleBatch,
        state: dict[str, Tensor],
        tensors: dict[str, Any],
        masks: list[Tensor],
    ) -> Result:
        """Call the module with one member's parameters, buffers, batch and dropout masks."""
        named = {f"{_PREFIX}{name}": tensor for name, tensor in state.items()}
        member_batch = Batch(**tensors, epoch=batch.epoch, phase=batch.phase)
        self._dropout.masks = iter(masks)
        result: Result = functional_call(self._caller[0], named, (method, member_batch))
        return result

    def _buffers_of_all(self) -> dict[str, Tensor]:
        """Return the buffers of all members by name, `[E, …]` each."""
        buffers = [dict(instance.named_buffers()) for instance in self._instances]
        return {name: torch.stack([each[name] for each in buffers]) for name in buffers[0]}

    def _state(self) -> dict[str, Tensor]:
        """Return parameters and buffers of all members by name, `[E, …]` each."""
        return {**dict(self.model.named_parameters()), **self._buffers_of_all()}

    def _state_of(self, member: int) -> dict[str, Tensor]:
        return {name: value[member] for name, value in self._state().items()}

    def _mask_shapes(self, method: str, batch: EnsembleBatch) -> MaskShapes:
        """Return rate and shape of every dropout mask of a call, recorded once per epoch."""
        if not self.training:
            return []
        shapes = tuple(tuple(x.shape) for x in batch.features)
        key = (method, batch.phase, batch.epoch, shapes)
        if key not in self._shapes:
            if any(epoch != batch.epoch for _, _, epoch, _ in self._shapes):
                self._shapes.clear()
            self._shapes[key] = self._record_shapes(method, batch, self._state_of(0))
        return self._shapes[key]

    def _record_shapes(
        self, method: str, batch: EnsembleBatch, state: dict[str, Tensor]
    ) -> MaskShapes:
        """Run the first member without dropout, and return rate and shape of each mask."""
        seeded = torch_seeded(0, self.members.device)
        with torch.no_grad(), seeded, self._dropout.recording() as shapes:
            self._call(method, batch, state, batch.tensors_of(0), [])
        return shapes

    # ---- choosing between the two ----------------------------------------------------------------

    def _choose_mode(self, method: str, batch: EnsembleBatch) -> tuple[str, str]:
        """Choose how members run; return the mode, and the reason against `vmap`."""
        if self.batch_by == "video":
            return LOOP, "the model's batches are whole videos"
        try:
            reason = self._state_change(method, batch) or self._difference(method, batch)
        except Exception as error:  # an error of the module itself is raised again in the loop
            reason = first_line(error)
        return (LOOP, reason) if reason else (VMAP, "")

    def _state_change(self, method: str, batch: EnsembleBatch) -> str | None:
        """Run one member, and return which state of the module changed, if any."""
        attributes, state = _attributes(self.model), self._state_of(0)
        before = {name: value.clone() for name, value in state.items()}
        self._record_shapes(method, batch, state)
        if any(not state[name].equal(value) for name, value in before.items()):
            return "the model updates buffers"
        if _attributes(self.model) != attributes:
            return "the model stores state in attributes"
        return None

    def _difference(self, method: str, batch: EnsembleBatch) -> str | None:
        """Return a reason if the first or last member has other losses or gradients when alone."""
        generator = torch.Generator().manual_seed(0)
        count, device = self.members.count, self.members.device
        masks = [
            (torch.rand((count, *shape), generator=generator) >= rate).to(device)
            for rate, shape in self._mask_shapes(method, batch)
        ]
        together = _flatten(self._run_together(method, batch, masks), axes=1)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        gradients_together = _gradients(together, parameters)
        for index in {0, count - 1}:
            member_masks = [mask[index] for mask in masks]
            state, tensors = self._state_of(index), batch.tensors_of(index)
            alone = _flatten(self._call(method, batch, state, tensors, member_masks))
            actual_gradient, expected_gradient = (
                torch.cat([gradient[index].flatten() for gradient in gradients])
                for gradients in (gradients_together, _gradients(alone, parameters))
            )
            for actual, expected in (
                (together[index], alone.detach()),
                (actual_gradient, expected_gradient),
            ):
                # The norm of all entries: single gradients may be rounding errors.
                if not (actual - expected).norm() <= _TOLERANCE * expected.norm() + 1e-6:
                    return "a seed trained alone gives different numbers"
        return None


class _Caller(nn.Module):
    """A module whose `forward` calls a method of another module, for `functional_call`."""

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


class _DropoutMasks:
    """Dropout masks in the order in which a call uses them.

    Attributes:
        masks: the masks that the next call uses.
    """

    def __init__(self) -> None:
        self.masks: Iterator[Tensor] = iter(())
        self._shapes: MaskShapes | None = None

    @contextmanager
    def recording(self) -> Iterator[MaskShapes]:
        """Yield a list that collects rate and shape of each mask; nothing is dropped."""
        shapes: MaskShapes = []
        self._shapes = shapes
        try:
            yield shapes
        finally:
            self._shapes = None

    def apply(self, x: Tensor, rate: float) -> Tensor:
        """Apply the next mask to `x`; inside `recording`, only record its rate and shape."""
        if self._shapes is not None:
            self._shapes.append((rate, tuple(x.shape)))
            return x
        return torch.where(next(self.masks), x / (1 - rate), 0.0)


class _MaskedDropout(nn.Module):
    """`nn.Dropout` with given masks."""

    def __init__(self, rate: float, masks: _DropoutMasks) -> None:
        super().__init__()
        self.p, self.masks = rate, masks

    def forward(self, x: Tensor) -> Tensor:
        return self.masks.apply(x, self.p) if self.training and self.p > 0 else x


def _replace_dropout(module: nn.Module, masks: _DropoutMasks) -> None:
    for name, child in module.named_children():
        if type(child) is nn.Dropout:
            setattr(module, name, _MaskedDropout(child.p, masks))
        else:
            _replace_dropout(child, masks)


def _attributes(module: nn.Module) -> dict[tuple[str, str], tuple[object, ...]]:
    """Return the identity of all attributes of a module and its children, and containers' sizes."""
    attributes: dict[tuple[str, str], tuple[object, ...]] = {}
    for path, child in module.named_modules():
        if isinstance(child, _MaskedDropout):
            continue
        for name, value in vars(child).items():
            if name not in ("_parameters", "_buffers", "_modules", "training"):
                sized = isinstance(value, (list, dict, set))
                attributes[path, name] = (id(value), len(value) if sized else 0)
    return attributes


def _flatten(result: Result, *, axes: int = 0) -> Tensor:
    """Reduce losses to their total, and flatten outputs to one vector after the leading axes."""
    if isinstance(result, Tensor):
        return result.flatten(axes)
    if "total" in result:
        return result["total"]
    return torch.cat([value.flatten(axes) for value in result.values()], dim=axes)


def _gradients(values: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    """Return the gradients of the sum of values; zeros for parameters without one."""
    zeros = [torch.zeros_like(parameter) for parameter in parameters]
    if not values.requires_grad:
        return zeros
    grads = torch.autograd.grad(values.sum(), parameters, allow_unused=True)
    return [zero if grad is None else grad for zero, grad in zip(zeros, grads, strict=True)]
