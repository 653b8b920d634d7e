"""General constraints, c(w) ≤ 0 and c(w) = 0, as functions of the model, and the KKT residuals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from descend.arguments import kind_of
from descend.cards import method
from descend.errors import UserError
from descend.linalg import flat
from descend.param_types import AtLeastOne, NonNegative, Portion, Positive

__all__ = ["KKT", "Condition", "equality", "evaluating", "inequality", "kkt", "parameters_of"]

Subject = nn.Module | Tensor | Sequence[Tensor]
"""The argument of conditions: a model, a tensor, or several tensors."""


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class Condition:
    """A general constraint c(w) ≤ 0 or c(w) = 0; :func:`inequality` and :func:`equality` create it and document its settings.

    Args:
        kind: ``"inequality"`` or ``"equality"``.
        function: c, a function of the model.
        penalty: ρ, the factor of the quadratic term of the augmented Lagrangian. Default 1.
        growth: the factor by which ρ may grow after an epoch. Default 1.
        rate: the fraction of the full multiplier step. Default 1.
        ascend: when the multipliers are updated, ``"epoch"`` or ``"step"``. Default ``"epoch"``.
        tolerance: the violation up to which the condition counts as satisfied. Default 1e-3.
    """

    kind: Literal["inequality", "equality"]
    function: Callable[[Any], Tensor]
    penalty: float = 1.0
    growth: float = 1.0
    rate: float = 1.0
    ascend: Literal["epoch", "step"] = "epoch"
    tolerance: float = 1e-3

    @property
    def name(self) -> str:
        """The kind and the name of the function, for messages."""
        return f"{self.kind} '{getattr(self.function, '__name__', type(self.function).__name__)}'"

    def values(self, subject: Any) -> Tensor:
        """Return c(w), (m,).

        Raises:
            UserError: the function returned something other than a real number or a vector.
        """
        values = self.function(subject)
        if not isinstance(values, Tensor):
            raise UserError(f"{self.name}: expected a tensor with its graph, got {kind_of(values)}")
        if values.dim() > 1 or not values.is_floating_point() or not values.numel():
            raise UserError(
                f"{self.name}: expected a real number or a vector of real numbers, got a tensor of shape "
                f"{tuple(values.shape)} and type {values.dtype}"
            )
        return values.reshape(-1)

    def validate(self, subject: Any) -> Tensor:
        """Return c(w), detached, (m,), after checking that it is finite and depends on the parameters.

        Raises:
            UserError: the value or its gradient is not finite, the value does not depend on the parameters, or the errors of
                :meth:`values`.
        """
        parameters = parameters_of(subject)
        with torch.enable_grad(), evaluating(subject):
            values = self.values(subject)
        if not values.isfinite().all():
            raise UserError(f"{self.name}: the value at the initial weights is not finite: {values.tolist()}")
        gradients: tuple[Tensor | None, ...] = (None,)
        if values.requires_grad:
            gradients = torch.autograd.grad(values.sum(), parameters, allow_unused=True)
        if all(gradient is None for gradient in gradients):
            raise UserError(
                f"{self.name}: the value does not depend on the parameters through a graph, so no step can change it; compute "
                "it with torch functions, without detach(), item() or no_grad()"
            )
        if not all(gradient.isfinite().all() for gradient in gradients if gradient is not None):
            raise UserError(f"{self.name}: the gradient at the initial weights is not finite")
        return values.detach()

    def violation(self, values: Tensor) -> Tensor:
        """Return the violation of each component, (m,): max(c, 0) for an inequality, |c| for an equality."""
        return values.clamp(min=0) if self.kind == "inequality" else values.abs()


@method(
    row="G8",
    reference="Hestenes 1969; Powell 1969; Rockafellar 1973; Bertsekas 1982",
    formula="c(w) <= 0: loss + (max(0, l + r c)^2 - l^2) / 2r, l <- max(0, l + r c)",
    note="The function is called with the network in evaluation mode. An epoch whose weights violate the condition counts as "
    "the best only while no epoch has satisfied it. The constraints with a projection (norm_ball, simplex, orthogonal) hold "
    "exactly, and this one to a tolerance.",
)
def inequality(
    function: Callable[[Any], Tensor],
    *,
    penalty: Positive = 1.0,
    growth: AtLeastOne = 1.0,
    rate: Portion = 1.0,
    ascend: Literal["epoch", "step"] = "epoch",
    tolerance: NonNegative = 1e-3,
) -> Condition:
    """Inequality constraint c(w) ≤ 0, enforced by an augmented Lagrangian with a multiplier λ ≥ 0 for each component.

    Scale c so that it is of order 1 at the initial weights: ‖w‖²/r² − 1 rather than ‖w‖² − r². Gradient steps with a fixed
    learning rate α are stable while α ρ ‖∇c‖² is below about 1.

    Args:
        function: returns c(w) of the model with its graph, a number or a vector (m,).
        penalty: ρ, the factor of the quadratic term. Default 1.
        growth: the factor by which ρ grows at the end of an epoch that has not reduced the violation by 10 %, up to 10⁴ times
            its initial value. Default 1, a constant ρ: the multipliers increase in any case, and a large ρ requires small
            learning rates. Use a value above 1 where the violation does not decrease.
        rate: the fraction of the full multiplier step, ρ c. Default 1.
        ascend: when the multipliers are updated: ``"epoch"``, at the end of each epoch, or ``"step"``, after each step of the
            optimizer, where ``rate`` should be small. Default ``"epoch"``.
        tolerance: the violation up to which the condition counts as satisfied. Default 1e-3.

    >>> condition = inequality(lambda model: model.weight.square().sum() - 1, penalty=10.0)
    >>> condition.values(nn.Linear(1, 1)).shape
    torch.Size([1])
    """
    return Condition(
        kind="inequality",
        function=function,
        penalty=penalty,
        growth=growth,
        rate=rate,
        ascend=ascend,
        tolerance=tolerance,
    )


@method(
    row="G8",
    reference="Hestenes 1969; Powell 1969; Bertsekas 1982",
    formula="c(w) = 0: loss + l c + r c^2 / 2, l <- l + r c",
    note="See inequality.",
)
def equality(
    function: Callable[[Any], Tensor],
    *,
    penalty: Positive = 1.0,
    growth: AtLeastOne = 1.0,
    rate: Portion = 1.0,
    ascend: Literal["epoch", "step"] = "epoch",
    tolerance: NonNegative = 1e-3,
) -> Condition:
    """Equality constraint c(w) = 0, enforced by an augmented Lagrangian with a multiplier of either sign for each component.

    Args:
        function: returns c(w) of the model with its graph, a number or a vector (m,).
        penalty: ρ, the factor of the quadratic term. Default 1.
        growth: the factor by which ρ grows at the end of an epoch that has not reduced the violation by 10 %, up to 10⁴ times
            its initial value. Default 1, a constant ρ: the multipliers increase in any case, and a large ρ requires small
            learning rates. Use a value above 1 where the violation does not decrease.
        rate: the fraction of the full multiplier step, ρ c. Default 1.
        ascend: ``"epoch"`` or ``"step"``, see :func:`inequality`. Default ``"epoch"``.
        tolerance: the violation up to which the condition counts as satisfied. Default 1e-3.

    >>> equality(lambda model: model.weight.sum() - 1).kind
    'equality'
    """
    return Condition(
        kind="equality",
        function=function,
        penalty=penalty,
        growth=growth,
        rate=rate,
        ascend=ascend,
        tolerance=tolerance,
    )


@dataclass(frozen=True)
class KKT:
    """Residuals of the Karush-Kuhn-Tucker (KKT) conditions; all are zero at a regular solution.

    Args:
        stationarity: ‖∇F + Σ λ ∇c‖, the gradient of the Lagrangian.
        violation: the largest max(c, 0) of inequalities and |c| of equalities.
        complementarity: the largest |λ c| of inequalities.
        sign: the largest max(−λ, 0) of inequalities. Default 0.
    """

    stationarity: float
    violation: float
    complementarity: float
    sign: float = 0.0

    @property
    def residual(self) -> float:
        """The largest of the four."""
        return max(self.stationarity, self.violation, self.complementarity, self.sign)


def kkt(
    loss: Callable[[], Tensor],
    subject: Subject,
    conditions: Sequence[Condition],
    multipliers: Sequence[Tensor],
) -> KKT:
    """Return the residuals of the KKT conditions. Parameters and ``.grad`` are not changed.

    Args:
        loss: returns F with its graph.
        subject: the argument of the conditions.
        conditions: the constraints.
        multipliers: λ of each condition, (m,).

    Raises:
        UserError: the shapes of the multipliers are not those of the conditions' values.

    >>> w = torch.tensor([1.0], requires_grad=True)  # min (w - 2)² with w ≤ 1: w = 1, λ = 2
    >>> kkt(lambda: (w - 2).square().sum(), w, [inequality(lambda w: w - 1)], [torch.tensor([2.0])]).residual
    0.0
    """
    parameters = parameters_of(subject)
    multipliers = [each.detach() for each in multipliers]
    with torch.enable_grad(), evaluating(subject):
        values = [condition.values(subject) for condition in conditions]
        if [value.shape for value in values] != [each.shape for each in multipliers]:
            raise UserError(
                f"kkt: expected multipliers of the conditions' shapes {[tuple(value.shape) for value in values]}, got shapes "
                f"{[tuple(each.shape) for each in multipliers]}"
            )
        terms = [(m * value).sum() for m, value in zip(multipliers, values, strict=True)]
        lagrangian = torch.stack([loss(), *terms]).sum()
        gradients = torch.autograd.grad(lagrangian, parameters, allow_unused=True, materialize_grads=True)
    stationarity = torch.linalg.vector_norm(flat(list(gradients)))
    others = gradient_free_residuals(conditions, [value.detach() for value in values], multipliers)
    return KKT(float(stationarity), *(float(others[name]) for name in GRADIENT_FREE))


GRADIENT_FREE = ("violation", "complementarity", "sign")


def gradient_free_residuals(
    conditions: Sequence[Condition], values: Sequence[Tensor], multipliers: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Return the parts of the KKT residual that need no gradient, as 0-dimensional tensors on the device."""
    violations, complementarity, negative = [], [values[0].new_zeros(1)], [values[0].new_zeros(1)]
    for condition, value, multiplier in zip(conditions, values, multipliers, strict=True):
        violations.append(condition.violation(value))
        if condition.kind == "inequality":
            complementarity.append((multiplier * value).abs())
            negative.append((-multiplier).clamp(min=0))
    parts = (violations, complementarity, negative)
    return {name: torch.cat(part).max() for name, part in zip(GRADIENT_FREE, parts, strict=True)}


def parameters_of(subject: Subject) -> list[Tensor]:
    """Return the parameters that conditions and losses are differentiated with respect to."""
    if isinstance(subject, nn.Module):
        return [p for p in subject.parameters() if p.requires_grad]
    return [subject] if isinstance(subject, Tensor) else list(subject)


@contextmanager
def evaluating(subject: Subject) -> Iterator[None]:
    """Set a model to evaluation mode within the context, so that its outputs are a function of its weights only."""
    modules = list(subject.modules()) if isinstance(subject, nn.Module) else []
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
