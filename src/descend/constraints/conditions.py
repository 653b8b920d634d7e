"""General constraints, c(w) ≤ 0 and c(w) = 0, as functions of the model, and what is measured of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from descend.cards import method
from descend.errors import UserError
from descend.linalg import flat
from descend.param_types import AtLeastOne, NonNegative, Portion, Positive

__all__ = ["KKT", "Condition", "equality", "evaluating", "inequality", "kkt", "parameters_of"]

Subject = nn.Module | Tensor | Sequence[Tensor]
"""What conditions are functions of: a model, a tensor, or several."""


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class Condition:
    """One condition, and how its augmented Lagrangian treats it; made by :func:`inequality` and :func:`equality`."""

    kind: Literal["inequality", "equality"]
    function: Callable[[Any], Tensor]
    penalty: float
    growth: float
    rate: float
    ascend: Literal["epoch", "step"]
    tolerance: float

    @property
    def name(self) -> str:
        """The function's, for messages."""
        return f"{self.kind} '{getattr(self.function, '__name__', type(self.function).__name__)}'"

    def values(self, subject: Any) -> Tensor:
        """c(w), (m,).

        Raises:
            UserError: the function returned something other than a number or a vector.
        """
        found = self.function(subject)
        if not isinstance(found, Tensor):
            raise UserError(f"{self.name}: expected a tensor with its graph, found a {type(found).__name__}")
        if found.dim() > 1 or not found.is_floating_point() or not found.numel():
            raise UserError(
                f"{self.name}: expected a real number or a vector of them, found a tensor of shape "
                f"{tuple(found.shape)} and type {found.dtype}"
            )
        return found.reshape(-1)

    def checked(self, subject: Any) -> Tensor:
        """c(w), detached, (m,), once it is known to be finite and to depend on the parameters.

        Raises:
            UserError: it is not, or as of :meth:`values`.
        """
        parameters = parameters_of(subject)
        with torch.enable_grad(), evaluating(subject):
            found = self.values(subject)
        if not found.isfinite().all():
            raise UserError(f"{self.name}: its value is not finite where training starts: {found.tolist()}")
        slopes: tuple[Tensor | None, ...] = (None,)
        if found.requires_grad:
            slopes = torch.autograd.grad(found.sum(), parameters, allow_unused=True)
        if all(slope is None for slope in slopes):
            raise UserError(
                f"{self.name}: its value does not depend on the parameters by a graph, so no step could change it; compute it "
                "with torch functions, without detach(), item() or no_grad()"
            )
        if not all(slope.isfinite().all() for slope in slopes if slope is not None):
            raise UserError(f"{self.name}: its derivative is not finite where training starts")
        return found.detach()

    def violation(self, values: Tensor) -> Tensor:
        """How far from being met, (m,): max(c, 0) or |c|."""
        return values.clamp(min=0) if self.kind == "inequality" else values.abs()


@method(
    row="G8",
    reference="Hestenes 1969; Powell 1969; Rockafellar 1973; Bertsekas 1982",
    formula="c(w) <= 0: loss + (max(0, l + r c)^2 - l^2) / 2r, l <- max(0, l + r c)",
    note="The function is given the network in evaluation mode. Epochs whose weights violate it are kept only while none has "
    "met it. Where projections exist (norm_ball, simplex, orthogonal) they hold exactly, and this holds to a tolerance.",
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
    """A condition c(w) ≤ 0, kept by an augmented Lagrangian with a multiplier λ ≥ 0 for each of its numbers.

    Scale c so that it is of order 1 where training starts: ‖w‖²/r² − 1 rather than ‖w‖² − r². Steps of a fixed rate α stay stable
    while α ρ ‖∇c‖² is below 1 or so.

    Args:
        function: of the model: c(w) with its graph, a number or a vector (m,).
        penalty: ρ, the factor of the quadratic term. Default 1.
        growth: what ρ is multiplied by at the end of an epoch that has not lowered the violation by a tenth, up to 10⁴ times
            its first value. Default 1, never: multipliers rise anyway, and a large ρ asks for small rates. Above 1 where the
            violation stands still.
        rate: the share of the full multiplier step, ρ c. Default 1.
        ascend: when multipliers take a step: ``"epoch"``, at the end of each, or ``"step"``, after each step of the
            optimizer, where the rate should be small. Default ``"epoch"``.
        tolerance: the violation up to which weights count as meeting it. Default 1e-3.

    >>> held = inequality(lambda model: model.weight.square().sum() - 1, penalty=10.0)
    >>> held.values(nn.Linear(1, 1)).shape
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
    note="As of inequality.",
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
    """A condition c(w) = 0, kept by an augmented Lagrangian with a multiplier of either sign for each of its numbers.

    Args:
        function: of the model: c(w) with its graph, a number or a vector (m,).
        penalty: ρ, the factor of the quadratic term. Default 1.
        growth: what ρ is multiplied by at the end of an epoch that has not lowered the violation by a tenth, up to 10⁴ times
            its first value. Default 1, never: multipliers rise anyway, and a large ρ asks for small rates. Above 1 where the
            violation stands still.
        rate: the share of the full multiplier step, ρ c. Default 1.
        ascend: ``"epoch"`` or ``"step"``, as of :func:`inequality`. Default ``"epoch"``.
        tolerance: the violation up to which weights count as meeting it. Default 1e-3.

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
    """How far a point is from the conditions of Karush, Kuhn and Tucker, all zero at a regular solution.

    Args:
        stationarity: ‖∇F + Σ λ ∇c‖, the gradient of the Lagrangian.
        violation: the largest max(c, 0) of inequalities and |c| of equalities.
        complementarity: the largest |λ c| of inequalities.
        sign: the largest max(−λ, 0) of inequalities.
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
    """The residuals of the KKT conditions. Parameters and ``.grad`` are left as they are.

    Args:
        loss: F with its graph.
        subject: what the conditions are functions of.
        conditions: the constraints.
        multipliers: for each condition its λ, (m,).

    Raises:
        UserError: the multipliers are not as many as the conditions' values.

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
                f"kkt: multipliers of shapes {[tuple(each.shape) for each in multipliers]} were given for conditions of shapes "
                f"{[tuple(value.shape) for value in values]}"
            )
        terms = [(m * value).sum() for m, value in zip(multipliers, values, strict=True)]
        lagrangian = torch.stack([loss(), *terms]).sum()
        slopes = torch.autograd.grad(lagrangian, parameters, allow_unused=True, materialize_grads=True)
    found = measured(conditions, [value.detach() for value in values], multipliers)
    return KKT(float(torch.linalg.vector_norm(flat(list(slopes)))), *(float(found[name]) for name in PARTS))


PARTS = ("violation", "complementarity", "sign")


def measured(
    conditions: Sequence[Condition], values: Sequence[Tensor], multipliers: Sequence[Tensor]
) -> dict[str, Tensor]:
    """The parts of the KKT residual that need no derivative, as 0-dimensional tensors on the device."""
    violated, slack, negative = [], [values[0].new_zeros(1)], [values[0].new_zeros(1)]
    for condition, value, multiplier in zip(conditions, values, multipliers, strict=True):
        violated.append(condition.violation(value))
        if condition.kind == "inequality":
            slack.append((multiplier * value).abs())
            negative.append((-multiplier).clamp(min=0))
    parts = (violated, slack, negative)
    return {name: torch.cat(part).max() for name, part in zip(PARTS, parts, strict=True)}


def parameters_of(subject: Subject) -> list[Tensor]:
    """What conditions and losses are differentiated by."""
    if isinstance(subject, nn.Module):
        return [p for p in subject.parameters() if p.requires_grad]
    return [subject] if isinstance(subject, Tensor) else list(subject)


@contextmanager
def evaluating(subject: Subject) -> Iterator[None]:
    """A model in evaluation mode, so that what is computed with it is a function of its weights alone."""
    modules = list(subject.modules()) if isinstance(subject, nn.Module) else []
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
