"""Watching a training loop of one's own."""

from __future__ import annotations

import math
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack

from descend.doctor.causes import CAUSES, CONSEQUENCES
from descend.doctor.findings import Finding, ranked
from descend.doctor.function_calls import FunctionCalls, loss_record
from descend.doctor.loop_record import LoopRecord, StepRecord

__all__ = ["Watched", "watch"]

FULLY = 4
"""The number of first steps that are recorded; later ones at powers of two and every :data:`EVERY` steps."""
EVERY = 256
MOST_BATCHES = 4096
"""The number of batches whose order is recorded."""
ENTRIES = 64
"""The number of entries of a batch that identify it."""


def watch(model: nn.Module, optimizer: torch.optim.Optimizer) -> Watched:
    """Watch an ordinary training loop for faults of its code and of its training.

    A few steps are recorded: the norms of gradients and updates, the losses that the program evaluates, and how the
    network is called. Nothing that is computed changes: weights, gradients and random numbers stay the same bits.

    Args:
        model: the network that the loop trains.
        optimizer: its optimizer.

    Returns:
        A context manager; ``findings()`` of it may be called within the loop, or afterwards.

    >>> model = nn.Linear(4, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    >>> with watch(model, optimizer) as watched:
    ...     for _ in range(20):  # optimizer.zero_grad() is missing
    ...         nn.functional.mse_loss(model(x), x.sum(1, keepdim=True)).backward()
    ...         optimizer.step()
    >>> print(watched.findings()[0].title)
    Gradients are not set to zero between steps, so each step uses the sum of all gradients so far.
    """
    return Watched(model, optimizer)


class Watched:
    """A training loop that is watched; see :func:`watch`."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.model = model
        self.optimizer = optimizer
        self._handles: list[Any] = []
        self._steps: list[StepRecord] = []
        self._batches: list[Tensor] = []
        self._taken = 0
        self._evaluations = 0
        self._modes: list[bool | None] = []
        self._changing = [
            name for name, module in model.named_modules() if isinstance(module, _CHANGING) and _acts(module)
        ]
        self._names = {id(p): name for name, p in model.named_parameters()}
        self._observed: FunctionCalls | None = None
        self._reset()

    def __enter__(self) -> Self:
        self._handles = [
            self.model.register_forward_pre_hook(self._before_forward, with_kwargs=True),
            self.optimizer.register_step_pre_hook(self._before_step),
            self.optimizer.register_step_post_hook(self._after_step),
        ]
        held = {id(p) for p in self._parameters()}
        first = next((p for p in self.model.parameters() if p.requires_grad and id(p) in held), None)
        if first is not None:
            self._handles.append(first.register_hook(lambda _: self._gradient_arrives(first)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_observation()
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def record(self) -> LoopRecord:
        """Return what was recorded so far."""
        held = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        parameters = dict(self.model.named_parameters())
        frozen = [name for name, p in parameters.items() if not p.requires_grad]
        known = dict[tuple[float, ...], int]()
        batches = [known.setdefault(tuple(each.tolist()), len(known)) for each in self._batches]
        return LoopRecord(
            held=frozenset(name for name, p in parameters.items() if id(p) in held),
            trainable=tuple(name for name, p in parameters.items() if p.requires_grad),
            frozen=tuple(frozen),
            random_frozen=tuple(name for name in frozen if _looks_random(parameters[name])),
            changing=tuple(self._changing),
            modes=tuple(self._modes),
            steps=list(self._steps),
            taken=self._taken,
            evaluations=self._evaluations,
            maximize=any(group.get("maximize", False) for group in self.optimizer.param_groups),
            batches=batches,
        )

    def findings(self) -> list[Finding]:
        """Return what is wrong, most certain first; an empty list where nothing is."""
        record = self.record()
        found = [each.in_loop(record) for each in CAUSES]
        return ranked([each for each in found if each is not None], CONSEQUENCES)

    def _reset(self) -> None:
        """Forget what was seen since the step before."""
        self._training: bool | None = None
        self._in_eval: tuple[str, ...] = ()
        self._rows = 0
        self._arrivals = 0
        self._leftover: bool | None = None
        self._before: list[Tensor] = []

    @property
    def _recorded(self) -> bool:
        n = self._taken
        return n < FULLY or n % EVERY == 0 or n & (n - 1) == 0

    def _before_forward(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not torch.is_grad_enabled():
            self._evaluations += 1
            return
        self._training = module.training
        inputs = next((each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)), None)
        if inputs is not None and inputs.dim():
            self._rows = int(inputs.shape[0])
            if len(self._batches) < MOST_BATCHES:
                self._batches.append(_fingerprint(inputs))
        if not self._recorded:
            return
        modules = dict(module.named_modules())
        self._in_eval = tuple(name for name in self._changing if not modules[name].training)
        if self._observed is None:
            self._observed = FunctionCalls()
            self._observed.__enter__()

    def _gradient_arrives(self, parameter: Tensor) -> None:
        if self._arrivals == 0 and self._recorded:
            self._leftover = parameter.grad is not None and bool((parameter.grad != 0).any())
        self._arrivals += 1

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _before_step(self, *_: Any) -> None:
        if self._recorded:
            self._before = [p.detach().clone() for p in self._parameters()]

    def _after_step(self, *_: Any) -> None:
        if self._recorded and self._before:
            observed = self._observed
            self._end_observation()
            self._steps.append(self._step_record(observed))
        self._taken += 1
        self._modes.append(self._training)
        self._reset()

    def _step_record(self, observed: FunctionCalls | None) -> StepRecord:
        held = self._parameters()
        names = [self._names.get(id(p), f"parameter {at}") for at, p in enumerate(held)]
        weights = _norms(self._before)
        updates = _norms([p.detach() - before for p, before in zip(held, self._before, strict=True)])
        with_gradient = [(name, p) for name, p in self.model.named_parameters() if p.grad is not None]
        gradients = _norms([p.grad for _, p in with_gradient if p.grad is not None])
        root = None if observed is None else observed.root
        return StepRecord(
            number=self._taken,
            training=self._training,
            in_eval=self._in_eval,
            rows=self._rows,
            leftover=self._leftover,
            gradients=dict(zip((name for name, _ in with_gradient), gradients, strict=True)),
            weights=dict(zip(names, weights, strict=True)),
            updates=dict(zip(names, updates, strict=True)),
            learning_rates=tuple(
                float(group["lr"]) for group in self.optimizer.param_groups if "lr" in group
            ),
            losses=() if observed is None else tuple(loss_record(each) for each in observed.calls),
            activations=() if observed is None else tuple(observed.activations),
            loss=float(root) if root is not None and root.numel() == 1 else None,
        )

    def _end_observation(self) -> None:
        """Stop to observe function calls. A mode that the program entered since then ends ours with its own."""
        observed, self._observed = self._observed, None
        if observed is not None and _get_current_function_mode_stack()[-1:] == [observed]:
            observed.__exit__(None, None, None)


_CHANGING = (
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout,
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm,
)  # fmt: skip


def _acts(module: nn.Module) -> bool:
    return getattr(module, "p", 1.0) > 0


def _fingerprint(inputs: Tensor) -> Tensor:
    """Return some entries of a batch, spread over its rows, which differ between batches."""
    flat = inputs.detach().reshape(-1)
    stride = max(1, len(flat) // ENTRIES) | 1  # odd, so that it does not stay in one column of a power of two
    return flat[::stride][:ENTRIES].clone()


def _norms(tensors: list[Tensor]) -> list[float]:
    if not tensors:
        return []
    with torch.no_grad():
        norms = torch.stack(
            [
                each.float().norm() if not each.is_sparse else each.coalesce().values().norm()
                for each in tensors
            ]
        )
    return [float(each) for each in norms.tolist()]


def _looks_random(weight: Tensor) -> bool:
    """Whether a matrix has the uniform distribution of PyTorch's default initialization, ±1/√fan_in.

    The fourth moment of a uniform distribution is 9/5 of the square of its second, that of a normal one is 3 of it; trained
    weights have heavier tails than both and are not bounded by 1/√fan_in.
    """
    if weight.dim() < 2 or weight.numel() < 64:
        return False
    values = weight.detach().double().flatten()
    bound = 1.0 / math.sqrt(weight[0].numel())
    second = float(values.square().mean())
    within = float(values.abs().max()) <= bound * 1.0001
    return within and abs(second / (bound * bound / 3) - 1) < 0.25
