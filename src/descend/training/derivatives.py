"""Gradient checking: the derivatives that training uses, against autograd and against finite differences.

For a vector v the derivative of F along v is g·v, and (F(w + h v) − F(w − h v))/(2h) differs from it by O(h²) and by rounding of
O(ε |F|/h). In double precision, with h near the cube root of ε, both are about 1e-10 of F, so that a relative error of
1e-5 in the gradient is detected. At a kink, as in ReLU, differences mix the derivatives of both sides. A step that is ten
times smaller crosses ten times fewer kinks, so agreement at one of three step sizes is sufficient, while a wrong
derivative is wrong at all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from descend.optim.rows import buffers_kept
from descend.rng import forked, generator, key
from descend.training.objective import Objective
from descend.training.weight_penalty import penalty_and_gradients, penalty_value

__all__ = ["DerivativeCheck", "ModuleDerivative", "ParameterDerivative", "check_derivatives"]

STEP_SIZES = (1e-5, 1e-6, 1e-7)
"""Step sizes of the finite differences, relative to the size of the tensors that are changed."""
RANDOM_DIRECTIONS = 2
"""Random directions along which differences are taken, in addition to the direction of the gradient."""
ROUNDING_LEVEL = 1e-8
"""Smaller derivatives count as 0: finite differences of a loss of order 1 do not resolve them."""


@dataclass(frozen=True)
class ParameterDerivative:
    """The result of checking the gradient of one parameter tensor.

    Args:
        name: in the model.
        shape: of the tensor.
        norm: of the gradient computed by autograd.
        analytic_error: ‖a − g‖/‖g‖, where a is the gradient that training uses and g that of autograd; at most 1.
        numeric_error: the largest relative difference between g·v and the finite difference along v.
        agrees: whether both errors are within the tolerance.
    """

    name: str
    shape: tuple[int, ...]
    norm: float
    analytic_error: float
    numeric_error: float
    agrees: bool


@dataclass(frozen=True)
class ModuleDerivative:
    """The result of checking one module in isolation, at its inputs in the model: autograd against differences.

    Args:
        name: in the model; "loss" and "penalty" for these.
        kind: the name of its class.
        error: the largest relative difference along the tested directions.
        agrees: whether the error is within the tolerance.
    """

    name: str
    kind: str
    error: float
    agrees: bool


@dataclass(frozen=True)
class DerivativeCheck:
    """The result of a gradient check.

    Args:
        loss: the value of the objective.
        parameters: one result for each parameter tensor.
        modules: one result for each part that was checked in isolation.
        tolerance: the relative error up to which derivatives agree.
    """

    loss: float
    parameters: tuple[ParameterDerivative, ...]
    modules: tuple[ModuleDerivative, ...]
    tolerance: float

    @property
    def culprits(self) -> tuple[ModuleDerivative, ...]:
        """The innermost modules with a wrong derivative."""
        wrong = [each for each in self.modules if not each.agrees]
        return tuple(
            each
            for each in wrong
            if not any(other is not each and _inside(other.name, each.name) for other in wrong)
        )

    @property
    def agrees(self) -> bool:
        """Whether all derivatives are within the tolerance."""
        return all(each.agrees for each in self.parameters) and all(each.agrees for each in self.modules)


def check_derivatives(
    objective: Objective, *, tolerance: float = 1e-4, seed: int = 0, named: Sequence[tuple[str, Tensor]] = ()
) -> DerivativeCheck:
    """Compare the gradient of an objective with autograd and with finite differences, by parameter and by module.

    Weights, ``.grad``, buffers and random state are left unchanged. Use float64 weights and rows.

    Args:
        objective: at a step, with a model in the mode to check.
        tolerance: the relative error up to which derivatives agree. Default 1e-4.
        seed: of the random directions. Default 0.
        named: names and parameters; by default the model's trainable ones.

    >>> from descend.data.batches import Batch
    >>> from descend.losses import MeanSquaredError
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    >>> objective = Objective(model, MeanSquaredError(), device=torch.device("cpu"))
    >>> rows = Batch(torch.ones(4, 2).double(), torch.zeros(4, 1).double(), None)
    >>> check_derivatives(objective.at([rows], 0, 0)).agrees
    True
    """
    named = named or [(name, p) for name, p in objective.model.named_parameters() if p.requires_grad]
    rng = generator(seed, "directions")
    own = [p.grad for p in objective.parameters]
    with forked(named[0][1].device), _preserved_buffers(objective.model):
        loss, by_autograd = _autograd_gradients(objective, [p for _, p in named])
        objective()
        in_training = [None if p.grad is None else p.grad.detach().clone() for _, p in named]
        for p, gradient in zip(objective.parameters, own, strict=True):
            p.grad = gradient

        def value() -> float:
            return float(objective.value())

        parameters = tuple(
            _checked_parameter(name, p.detach(), g, a, value, tolerance, rng)
            for (name, p), g, a in zip(named, by_autograd, in_training, strict=True)
        )
        modules = tuple(_checked_modules(objective, tolerance, seed, rng))
    return DerivativeCheck(loss, parameters, modules, tolerance)


def _autograd_gradients(objective: Objective, parameters: Sequence[Tensor]) -> tuple[float, list[Tensor]]:
    """Return the objective's value, and its gradient by autograd for each parameter."""
    mean, _ = objective.mean_loss()
    of_mean = list(torch.autograd.grad(mean, parameters, materialize_grads=True))
    if objective.penalty is None:
        return float(mean.detach()), of_mean
    value, gradients = penalty_and_gradients(objective.penalty, objective.parameters)
    by_parameter = {id(p): g for p, g in zip(objective.parameters, gradients, strict=True)}
    sums = [g + by_parameter[id(p)] for g, p in zip(of_mean, parameters, strict=True)]
    return float(mean.detach() + value), sums


@contextmanager
def _preserved_buffers(model: nn.Module) -> Iterator[None]:
    pairs = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in pairs:
                buffer.copy_(before)


def _checked_parameter(
    name: str,
    p: Tensor,
    by_autograd: Tensor,
    in_training: Tensor | None,
    value: Callable[[], float],
    tolerance: float,
    rng: torch.Generator,
) -> ParameterDerivative:
    norm = float(by_autograd.norm())
    difference = float((by_autograd if in_training is None else in_training - by_autograd).norm())
    larger = max(norm, difference)
    analytic = difference / larger if larger > ROUNDING_LEVEL else 0.0
    numeric = _directional_error([p], [by_autograd], value, rng)
    agrees = analytic <= tolerance and numeric <= tolerance
    return ParameterDerivative(name, tuple(p.shape), norm, analytic, numeric, agrees)


def _directional_error(
    tensors: Sequence[Tensor], gradients: Sequence[Tensor], value: Callable[[], float], rng: torch.Generator
) -> float:
    """Return the largest relative error of the derivatives of ``value`` along directions in the space of all tensors."""
    size = sum(g.numel() for g in gradients)
    norm = float(torch.stack([g.norm() for g in gradients]).norm())
    scale = max(1.0, float(torch.stack([p.norm() for p in tensors]).norm()) / size**0.5)
    directions = [
        [torch.randn(g.shape, generator=rng, dtype=torch.float64).to(g) for g in gradients]
        for _ in range(RANDOM_DIRECTIONS)
    ]
    if norm:
        directions.append([g / norm * size**0.5 for g in gradients])
    worst = 0.0
    for direction in directions:
        expected = float(
            torch.stack([(g * v).sum() for g, v in zip(gradients, direction, strict=True)]).sum()
        )
        # A direction may be nearly orthogonal to the gradient, so errors are also relative to the gradient's norm,
        # which is the typical size of the derivative along a random direction.
        errors = [
            _relative_error(_central_difference(tensors, direction, h * scale, value), expected, norm)
            for h in STEP_SIZES
        ]
        worst = max(worst, min(errors))
    return worst


def _central_difference(
    tensors: Sequence[Tensor], direction: Sequence[Tensor], h: float, value: Callable[[], float]
) -> float:
    starts = [p.clone() for p in tensors]
    values = []
    try:
        for sign in (1.0, -1.0):
            for p, start, v in zip(tensors, starts, direction, strict=True):
                p.copy_(start + sign * h * v)
            values.append(value())
    finally:
        for p, start in zip(tensors, starts, strict=True):
            p.copy_(start)
    return (values[0] - values[1]) / (2 * h)


def _relative_error(value: float, expected: float, norm: float) -> float:
    scale = max(abs(value), abs(expected), norm)
    error = abs(value - expected) / scale if scale > ROUNDING_LEVEL else 0.0
    return float("inf") if math.isnan(error) else error


def _checked_modules(
    objective: Objective, tolerance: float, seed: int, rng: torch.Generator
) -> Iterator[ModuleDerivative]:
    """Check each module at the inputs of its first call, the loss at the outputs, and the penalty."""
    calls: dict[str, tuple[nn.Module, tuple[Any, ...], dict[str, Any]]] = {}

    def recording(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            calls.setdefault(name, (module, arguments, keywords))

        return hook

    handles = [
        module.register_forward_pre_hook(recording(name), with_kwargs=True)
        for name, module in objective.model.named_modules()
        if name
    ]
    try:
        _, outputs = objective.mean_loss()
    finally:
        for handle in handles:
            handle.remove()
    state = key(seed, "module")
    for name, (module, arguments, keywords) in calls.items():
        error = _module_error(module, arguments, keywords, state, rng)
        if error is not None:
            yield ModuleDerivative(name, type(module).__name__, error, error <= tolerance)
    leaf = outputs.detach().clone().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(objective.loss_of(leaf), leaf, materialize_grads=True)
    point = leaf.detach()
    with torch.no_grad():
        error = _directional_error([point], [gradient], lambda: float(objective.loss_of(point)), rng)
    yield ModuleDerivative("loss", type(objective.loss).__name__, error, error <= tolerance)
    if objective.penalty is not None:
        objective.seed_step()
        _, gradients = penalty_and_gradients(objective.penalty, objective.parameters)
        tensors = [p.detach() for p in objective.parameters]
        with torch.no_grad():
            error = _directional_error(tensors, gradients, lambda: _penalty(objective), rng)
        yield ModuleDerivative("penalty", "penalty", error, error <= tolerance)


def _penalty(objective: Objective) -> float:
    objective.seed_step()
    return 0.0 if objective.penalty is None else float(penalty_value(objective.penalty, objective.parameters))


def _module_error(
    module: nn.Module,
    arguments: tuple[Any, ...],
    keywords: dict[str, Any],
    state: int,
    rng: torch.Generator,
) -> float | None:
    """Return the error for u·f(x; w) with a random u, over inputs and parameters; None where there is no derivative."""
    inputs = [_perturbed_leaf(each, rng) for each in arguments]
    leaves = [each for each in inputs if isinstance(each, Tensor) and each.requires_grad]
    leaves += [p for p in module.parameters() if p.requires_grad]
    if not leaves:
        return None

    def call() -> list[Tensor]:
        torch.manual_seed(state)
        with buffers_kept(module):
            return list(_tensors(module(*inputs, **keywords)))

    with torch.enable_grad():
        outputs = call()
        cotangents = [
            torch.randn(each.shape, generator=rng, dtype=torch.float64).to(each) for each in outputs
        ]
        total = _dot(outputs, cotangents)
        if not total.requires_grad:
            return None
        gradients = torch.autograd.grad(total, leaves, materialize_grads=True)
    with torch.no_grad():

        def value() -> float:
            return float(_dot(call(), cotangents))

        tensors = [leaf.detach() for leaf in leaves]
        # Each tensor is checked separately: an error in a small one would be lost in the norm of all.
        return max(_directional_error([p], [g], value, rng) for p, g in zip(tensors, gradients, strict=True))


def _perturbed_leaf(argument: Any, rng: torch.Generator) -> Any:
    """Return a leaf near a tensor argument. The perturbation resolves ties, as of rectified inputs in a maximum."""
    if isinstance(argument, Tensor) and argument.is_floating_point():
        noise = torch.randn(argument.shape, generator=rng, dtype=torch.float64).to(argument)
        return (argument.detach() + 1e-3 * noise).requires_grad_()
    return argument


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, (tuple, list)):
        for each in output:
            yield from _tensors(each)


def _dot(tensors: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    return torch.stack([(a * b).sum() for a, b in zip(tensors, others, strict=True)]).sum()


def _inside(inner: str, outer: str) -> bool:
    return inner.startswith(f"{outer}.")
