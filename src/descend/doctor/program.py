"""A program of one's own before training: network, loss, rows and optimizer, and what is measured of them on copies."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from descend.doctor.function_calls import FunctionCalls, LossCall
from descend.doctor.rows import undisturbed_randomness

__all__ = ["Program", "Trial"]

Loss = Callable[[Tensor, Tensor], Tensor]

STEPS = 60
"""The number of steps of a trial."""
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Lengths along the actual step at which the loss is evaluated."""


@dataclass(frozen=True)
class Trial:
    """A short training on copies.

    Args:
        losses: of each step's batch.
        before: the loss on all rows before.
        after: the loss on all rows after; infinite if a number was not finite.
        unchanged: the names of trainable parameters that did not change.
        gradients: the root mean square of the last gradient of each weight of two or more dimensions.
    """

    losses: tuple[float, ...]
    before: float
    after: float
    unchanged: tuple[str, ...] = ()
    gradients: Mapping[str, float] = field(default_factory=dict)


@dataclass(eq=False)
class Program:
    """Network, loss, rows and optimizer. Everything is measured on copies, and each measurement is made once.

    Args:
        model: the network; it is copied.
        loss: maps outputs and targets of n rows to a tensor.
        inputs: (n, ...).
        targets: (n, ...).
        optimizer: of the parameters of the network, or None.
        batch_size: the number of rows of a step.
    """

    model: nn.Module
    loss: Loss
    inputs: Tensor
    targets: Tensor
    optimizer: torch.optim.Optimizer | None = None
    batch_size: int = 32

    def __post_init__(self) -> None:
        self.names = [name for name, p in self.model.named_parameters() if p.requires_grad]

    def copies(self) -> tuple[nn.Module, torch.optim.Optimizer | None]:
        """Return independent copies of network and optimizer, which belong together."""
        return copy.deepcopy((self.model, self.optimizer))

    @functools.cached_property
    def observed(self) -> FunctionCalls:
        """The calls of a forward and backward pass on all rows, in training mode."""
        model, _ = self.copies()
        model.train()
        observed = FunctionCalls()
        with undisturbed_randomness(), observed:
            outputs = model(self.inputs)
            self._outputs: Tensor = outputs.detach()
            value = self.loss(outputs, self.targets)
            self._value = float(value.detach().mean())
            if value.requires_grad:
                value.sum().backward()
        self._gradients = {
            name: p.grad.detach().clone() for name, p in model.named_parameters() if p.grad is not None
        }
        return observed

    @property
    def call(self) -> LossCall | None:
        """The loss as it was called; None if it is none of PyTorch's functions and no difference."""
        calls = [each for each in self.observed.calls if each.factor is not None or each.broadcasts]
        return calls[-1] if calls else None

    @property
    def outputs(self) -> Tensor:
        """The outputs (n, ...) of the network for all rows."""
        _ = self.observed
        return self._outputs

    @property
    def value(self) -> float:
        """The loss on all rows at the initial weights."""
        _ = self.observed
        return self._value

    @property
    def gradients(self) -> Mapping[str, Tensor]:
        """The gradient of each parameter that has one."""
        _ = self.observed
        return self._gradients

    @functools.cached_property
    def layer_gradients(self) -> Mapping[str, float]:
        """The root mean square of the gradient of each weight of two or more dimensions, in the order of the layers.

        It is that of the initial weights; where an output layer starts at 0, and stops all gradients, that of the last step of
        a short training.
        """
        found = _sizes(self.gradients)
        trained = self.trial().gradients
        stopped = any(size == 0.0 for size in found.values())
        return trained if stopped and all(map(math.isfinite, trained.values())) and trained else found

    @functools.cached_property
    def ends_in_activation(self) -> bool:
        """Whether the outputs of the network are the result of an activation, not of a layer with weights."""
        last = self.outputs.new_zeros(0)
        model, _ = self.copies()
        seen: list[Tensor] = []
        layers = [
            each
            for each in model.modules()
            if not list(each.children()) and list(each.parameters(recurse=False))
        ]
        handles = [each.register_forward_hook(lambda _m, _a, output: seen.append(output)) for each in layers]
        with undisturbed_randomness(), torch.no_grad():
            outputs = model.train()(self.inputs)
        for handle in handles:
            handle.remove()
        last = seen[-1] if seen else last
        return not (last.shape == outputs.shape and torch.equal(last, outputs))

    @functools.cached_property
    def is_classification(self) -> bool:
        """Whether the targets are class numbers or one-hot rows."""
        targets = self.targets
        if not targets.is_floating_point():
            return bool(targets.dtype == torch.bool or len(targets.unique()) <= max(2, len(targets) // 5))
        if targets.dim() == 2 and targets.shape[1] > 1:
            return bool(((targets == 0) | (targets == 1)).all() and (targets.sum(1) == 1).all())
        values = targets.unique()
        return len(values) <= 20 and bool((values == values.round()).all()) and len(targets) > 5 * len(values)

    @functools.cached_property
    def classes(self) -> int:
        """The number of different classes in the targets; 0 for a regression."""
        if not self.is_classification:
            return 0
        if self.targets.dim() == 2 and self.targets.shape[1] > 1:
            return int(self.targets.shape[1])
        return len(self.targets.unique())

    @functools.cached_property
    def constant(self) -> float:
        """The loss of the best constant outputs; NaN where it cannot be found.

        It is found with L-BFGS over the K outputs, which are the same for all rows.
        """
        start = self.outputs.float().mean(0, keepdim=True).double()
        start = start.clamp(-20, 20).clone().requires_grad_(True)
        targets = self.targets.double() if self.targets.is_floating_point() else self.targets
        shape = (len(self.inputs), *start.shape[1:])
        search = torch.optim.LBFGS([start], max_iter=100, line_search_fn="strong_wolfe")

        def closure() -> float:
            search.zero_grad()
            value = self.loss(start.expand(shape), targets).mean()
            value.backward()
            return value.detach()  # type: ignore[return-value]  # torch's optimizers take a tensor, its annotation a number

        try:
            with undisturbed_randomness():
                search.step(closure)
                with torch.no_grad():
                    return float(self.loss(start.expand(shape), targets).mean())
        except (RuntimeError, ValueError, TypeError, IndexError):
            return math.nan

    @functools.cached_property
    def standardized(self) -> Tensor:
        """The inputs with mean 0 and variance 1: of each column, and of each channel of images."""
        if not self.inputs.is_floating_point():
            return self.inputs
        axes = (0, *range(2, self.inputs.dim()))
        mean = self.inputs.mean(axes, keepdim=True)
        deviation = self.inputs.std(axes, keepdim=True, correction=0)
        return (self.inputs - mean) / torch.where(deviation > 0, deviation, torch.ones_like(deviation))

    def gain(self, variant: Trial, original: Trial | None = None) -> float:
        """Return the share of a variant's progress that the original does not make: 0 for as much, 1 for none at all.

        Progress is counted from the loss at the start or that of the best constant outputs, whichever is lower.
        """
        original = self.trial() if original is None else original
        start = min(each for each in (self.constant, self.trial().before) if math.isfinite(each))
        progress = start - variant.after
        if not math.isfinite(variant.after) or progress <= 1e-3 * abs(start):
            return 0.0
        return min(1.0, max(0.0, (original.after - variant.after) / progress))

    @functools.cached_property
    def step_losses(self) -> Mapping[float, float]:
        """The loss of one batch at multiples of the step that the optimizer takes on it, by factor; 0 is before it."""
        model, optimizer = self.copies()
        if optimizer is None:
            return {}
        model.train()
        inputs, targets = self.inputs[: self.batch_size], self.targets[: self.batch_size]
        parameters = [p for p in model.parameters() if p.requires_grad]

        def value() -> Tensor:
            torch.manual_seed(0)
            return self.loss(model(inputs), targets).mean()

        def closure() -> float:
            assert optimizer is not None
            optimizer.zero_grad()
            loss = value()
            loss.backward()
            return loss  # type: ignore[return-value]  # torch's optimizers take a tensor, its annotation a number

        with undisturbed_randomness():
            before = [p.detach().clone() for p in parameters]
            found = {0.0: float(value().detach())}
            optimizer.step(closure)
            change = [p.detach() - old for p, old in zip(parameters, before, strict=True)]
            with torch.no_grad():
                for factor in FACTORS:
                    for p, old, delta in zip(parameters, before, change, strict=True):
                        p.copy_(old + factor * delta)
                    found[factor] = float(value())
        return found

    @functools.lru_cache(maxsize=32)  # noqa: B019  # a program lives as long as its examination
    def trial(
        self,
        factor: float = 1.0,
        steps: int = STEPS,
        rows: int | None = None,
        *,
        scaled: bool = False,
        initialized: bool = False,
    ) -> Trial:
        """Train copies for some steps with one change.

        Args:
            factor: of all learning rates. Default 1.
            steps: the number of steps. Default 60.
            rows: train on this many rows only. Default None: all.
            scaled: whether inputs are standardized. Default False.
            initialized: whether weights are sampled again by the modules' own ``reset_parameters``. Default False.
        """
        model, optimizer = self.copies()
        if optimizer is None:
            optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * factor
        model.train()
        inputs = self.standardized if scaled else self.inputs
        inputs = inputs if rows is None else inputs[:rows]
        targets = self.targets if rows is None else self.targets[:rows]
        start = {name: p.detach().clone() for name, p in model.named_parameters()}
        losses: list[float] = []
        with undisturbed_randomness(seed=1):
            if initialized:
                _initialize(model)
            before = self._loss_of(model, inputs, targets)
            order = _order(len(inputs), self.batch_size, steps)
            for batch in order:
                x, y = inputs[batch], targets[batch]

                def closure(x: Tensor = x, y: Tensor = y) -> float:
                    optimizer.zero_grad()
                    value = self.loss(model(x), y).mean()
                    value.backward()
                    losses.append(float(value.detach()))
                    return value  # type: ignore[return-value]  # as above

                optimizer.step(closure)
                if not math.isfinite(losses[-1]):
                    break
            after = self._loss_of(model, inputs, targets)
        unchanged = tuple(
            name for name, p in model.named_parameters() if p.requires_grad and torch.equal(p, start[name])
        )
        last = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        return Trial(
            tuple(losses), before, after if math.isfinite(after) else math.inf, unchanged, _sizes(last)
        )

    def _loss_of(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
        """The loss in training mode, so that batch norms do not need running averages; buffers are restored."""
        buffers = {name: each.clone() for name, each in model.named_buffers()}
        with torch.no_grad():
            value = float(self.loss(model(inputs), targets).mean())
        for name, each in model.named_buffers():
            each.copy_(buffers[name])
        return value


def _order(rows: int, size: int, steps: int) -> Sequence[Tensor]:
    source = torch.Generator().manual_seed(0)
    found: list[Tensor] = []
    while len(found) < steps:
        split = list(torch.randperm(rows, generator=source).split(max(1, size)))
        found += split[:-1] if len(split) > 1 and len(split[-1]) < size else split
    return found[:steps]


def _sizes(gradients: Mapping[str, Tensor]) -> dict[str, float]:
    return {
        name: float(gradient.detach().double().square().mean().sqrt())
        for name, gradient in gradients.items()
        if gradient.dim() > 1
    }


def _initialize(model: nn.Module) -> None:
    for module in model.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
