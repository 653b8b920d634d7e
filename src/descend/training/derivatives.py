"""Are the derivatives right? Those that training uses, against automatic ones and against differences of the loss.

For a vector v the derivative of F along v is g·v, and (F(w + h v) − F(w − h v))/(2h) differs from it by O(h²) and by rounding of
O(ε |F|/h). In double precision, with h near the cube root of ε, both are about 1e-10 of F, so that a gradient which is wrong
by a hundred-thousandth of itself is seen. At a kink, as of ReLU, differences mix the slopes of both sides; a step that is ten
times shorter crosses ten times fewer kinks, so that of three lengths one is enough to agree, while a wrong
derivative is wrong for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from descend.optim.rows import buffers_kept
from descend.rng import forked, generator, key
from descend.training.added import penalty_alone, penalty_with_gradients
from descend.training.objective import Objective

__all__ = ["DerivativeCheck", "ModuleDerivative", "ParameterDerivative", "check_derivatives"]

LENGTHS = (1e-5, 1e-6, 1e-7)
"""Steps of the differences, relative to the size of what is moved."""
DIRECTIONS = 2
"""Random directions along which differences are taken, beside the gradient's own."""


@dataclass(frozen=True)
class ParameterDerivative:
    """The derivative by one parameter tensor.

    Args:
        name: in the model.
        shape: of the tensor.
        norm: of the automatic derivative.
        analytic_error: ‖a − g‖/‖g‖, a the derivative that training uses, g the automatic one; at most 1.
        numeric_error: the largest relative difference of g·v and the difference quotient along v.
        agrees: whether both are within the tolerance.
    """

    name: str
    shape: tuple[int, ...]
    norm: float
    analytic_error: float
    numeric_error: float
    agrees: bool


@dataclass(frozen=True)
class ModuleDerivative:
    """A module alone, with the inputs that it had: its automatic derivative against differences.

    Args:
        name: in the model; "loss" and "penalty" for these.
        kind: its class.
        error: the largest relative difference along the directions that were tried.
        agrees: whether it is within the tolerance.
    """

    name: str
    kind: str
    error: float
    agrees: bool


@dataclass(frozen=True)
class DerivativeCheck:
    """What was found.

    Args:
        loss: where derivatives were taken.
        parameters: one entry for each parameter tensor.
        modules: one entry for each part that was looked at alone.
        tolerance: that was asked for.
    """

    loss: float
    parameters: tuple[ParameterDerivative, ...]
    modules: tuple[ModuleDerivative, ...]
    tolerance: float

    @property
    def culprits(self) -> tuple[ModuleDerivative, ...]:
        """The innermost parts whose own derivative is wrong."""
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
    """Compare the gradient of an objective with automatic differentiation and with differences, part by part.

    Weights, ``.grad``, buffers and random state are left as they are. Use float64 weights and rows.

    Args:
        objective: at a step, with a model in the mode that is checked.
        tolerance: the relative error up to which derivatives agree. Default 1e-4.
        seed: of the directions.
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
    draw = generator(seed, "directions")
    held = [p.grad for p in objective.parameters]
    with forked(named[0][1].device), _buffers_as_they_are(objective.model):
        loss, automatic = _automatic(objective, [p for _, p in named])
        objective()
        used = [None if p.grad is None else p.grad.detach().clone() for _, p in named]
        for p, gradient in zip(objective.parameters, held, strict=True):
            p.grad = gradient

        def value() -> float:
            return float(objective.value())

        parameters = tuple(
            _of_parameter(name, p.detach(), g, a, value, tolerance, draw)
            for (name, p), g, a in zip(named, automatic, used, strict=True)
        )
        modules = tuple(_of_modules(objective, tolerance, seed, draw))
    return DerivativeCheck(loss, parameters, modules, tolerance)


def _automatic(objective: Objective, parameters: Sequence[Tensor]) -> tuple[float, list[Tensor]]:
    mean, _ = objective.mean_loss()
    found = list(torch.autograd.grad(mean, parameters, materialize_grads=True))
    if objective.penalty is None:
        return float(mean.detach()), found
    value, gradients = penalty_with_gradients(objective.penalty, objective.parameters)
    by_parameter = {id(p): g for p, g in zip(objective.parameters, gradients, strict=True)}
    sums = [g + by_parameter[id(p)] for g, p in zip(found, parameters, strict=True)]
    return float(mean.detach() + value), sums


@contextmanager
def _buffers_as_they_are(model: nn.Module) -> Iterator[None]:
    held = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in held:
                buffer.copy_(before)


def _of_parameter(
    name: str,
    p: Tensor,
    automatic: Tensor,
    used: Tensor | None,
    value: Callable[[], float],
    tolerance: float,
    draw: torch.Generator,
) -> ParameterDerivative:
    norm = float(automatic.norm())
    apart = float((automatic if used is None else used - automatic).norm())
    analytic = apart / max(norm, apart) if max(norm, apart) > ROUNDING else 0.0
    numeric = _error_along([p], [automatic], value, draw)
    agrees = analytic <= tolerance and numeric <= tolerance
    return ParameterDerivative(name, tuple(p.shape), norm, analytic, numeric, agrees)


def _error_along(
    moved: Sequence[Tensor], gradients: Sequence[Tensor], value: Callable[[], float], draw: torch.Generator
) -> float:
    """The largest relative error of the derivatives of ``value`` along directions, over tensors moved together."""
    size = sum(g.numel() for g in gradients)
    norm = float(torch.stack([g.norm() for g in gradients]).norm())
    scale = max(1.0, float(torch.stack([p.norm() for p in moved]).norm()) / size**0.5)
    directions = [
        [torch.randn(g.shape, generator=draw, dtype=torch.float64).to(g) for g in gradients]
        for _ in range(DIRECTIONS)
    ]
    if norm:
        directions.append([g / norm * size**0.5 for g in gradients])
    worst = 0.0
    for direction in directions:
        expected = float(
            torch.stack([(g * v).sum() for g, v in zip(gradients, direction, strict=True)]).sum()
        )
        # A direction may be nearly orthogonal to the gradient; its usual size along one is the norm.
        worst = max(
            worst,
            min(_relative(_difference(moved, direction, h * scale, value), expected, norm) for h in LENGTHS),
        )
    return worst


def _difference(
    moved: Sequence[Tensor], direction: Sequence[Tensor], h: float, value: Callable[[], float]
) -> float:
    starts = [p.clone() for p in moved]
    found = []
    try:
        for sign in (1.0, -1.0):
            for p, start, v in zip(moved, starts, direction, strict=True):
                p.copy_(start + sign * h * v)
            found.append(value())
    finally:
        for p, start in zip(moved, starts, strict=True):
            p.copy_(start)
    return (found[0] - found[1]) / (2 * h)


def _relative(found: float, expected: float, norm: float) -> float:
    scale = max(abs(found), abs(expected), norm)
    error = abs(found - expected) / scale if scale > ROUNDING else 0.0
    return error if error == error else float("inf")


ROUNDING = 1e-8
"""A derivative smaller than this is rounding: differences of a loss of order 1 do not resolve it."""


def _of_modules(
    objective: Objective, tolerance: float, seed: int, draw: torch.Generator
) -> Iterator[ModuleDerivative]:
    """Each module with the inputs that it had, the loss with the outputs, and the penalty."""
    calls: dict[str, tuple[nn.Module, tuple[Any, ...], dict[str, Any]]] = {}

    def noting(name: str) -> Callable[..., None]:
        def note(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            calls.setdefault(name, (module, arguments, keywords))

        return note

    handles = [
        module.register_forward_pre_hook(noting(name), with_kwargs=True)
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
        error = _error_of_call(module, arguments, keywords, state, draw)
        if error is not None:
            yield ModuleDerivative(name, type(module).__name__, error, error <= tolerance)
    leaf = outputs.detach().clone().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(objective.loss_of(leaf), leaf, materialize_grads=True)
    point = leaf.detach()
    with torch.no_grad():
        error = _error_along([point], [gradient], lambda: float(objective.loss_of(point)), draw)
    yield ModuleDerivative("loss", type(objective.loss).__name__, error, error <= tolerance)
    if objective.penalty is not None:
        objective.seed_step()
        _, gradients = penalty_with_gradients(objective.penalty, objective.parameters)
        moved = [p.detach() for p in objective.parameters]
        with torch.no_grad():
            error = _error_along(moved, gradients, lambda: _penalty(objective), draw)
        yield ModuleDerivative("penalty", "penalty", error, error <= tolerance)


def _penalty(objective: Objective) -> float:
    objective.seed_step()
    return 0.0 if objective.penalty is None else float(penalty_alone(objective.penalty, objective.parameters))


def _error_of_call(
    module: nn.Module,
    arguments: tuple[Any, ...],
    keywords: dict[str, Any],
    state: int,
    draw: torch.Generator,
) -> float | None:
    """Of u·f(x; w) for a random u, by inputs and parameters; None where nothing can be differentiated."""
    inputs = [_leaf(each, draw) for each in arguments]
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
            torch.randn(each.shape, generator=draw, dtype=torch.float64).to(each) for each in outputs
        ]
        total = _dot(outputs, cotangents)
        if not total.requires_grad:
            return None
        gradients = torch.autograd.grad(total, leaves, materialize_grads=True)
    with torch.no_grad():

        def value() -> float:
            return float(_dot(call(), cotangents))

        moved = [leaf.detach() for leaf in leaves]
        # One after the other, so that a wrong derivative by a few numbers is not lost among many.
        return max(_error_along([p], [g], value, draw) for p, g in zip(moved, gradients, strict=True))


def _leaf(argument: Any, draw: torch.Generator) -> Any:
    """A copy to be differentiated by, moved a little: rectified inputs, for one, tie at zero in a maximum."""
    if isinstance(argument, Tensor) and argument.is_floating_point():
        noise = torch.randn(argument.shape, generator=draw, dtype=torch.float64).to(argument)
        return (argument.detach() + 1e-3 * noise).requires_grad_()
    return argument


def _tensors(found: Any) -> Iterator[Tensor]:
    if isinstance(found, Tensor):
        if found.is_floating_point():
            yield found
    elif isinstance(found, (tuple, list)):
        for each in found:
            yield from _tensors(each)


def _dot(tensors: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    return torch.stack([(a * b).sum() for a, b in zip(tensors, others, strict=True)]).sum()


def _inside(inner: str, outer: str) -> bool:
    return inner.startswith(f"{outer}.")
