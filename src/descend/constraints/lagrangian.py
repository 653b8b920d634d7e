"""The augmented Lagrangian: constraints by multipliers that rise while they are violated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, final

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from descend.constraints.conditions import KKT, Condition, Subject, evaluating, kkt, measured
from descend.errors import UserError

__all__ = ["AugmentedLagrangian"]

FALLEN = 0.9
"""The penalty grows unless the violation has fallen below this share of what it was."""
LIMIT = 1e4
"""The penalty grows to at most this many times its first value: beyond, conditions are not met for another reason."""


@final
class AugmentedLagrangian:
    """What conditions add to a loss F, and the multipliers λ that make them hold where it is least.

    With ρ the penalty, a condition's c(w) adds, for each of its numbers,

        c ≤ 0:  (max(0, λ + ρ c)² − λ²) / (2 ρ)          c = 0:  λ c + ρ c² / 2.

    The gradient of F and these is that of the Lagrangian F + Σ λ⁺ c at λ⁺ = max(0, λ + ρ c), or λ + ρ c, and the
    multipliers' step (:meth:`ascend`) is λ ← λ⁺. Once w has settled before each step, this is the method of multipliers:
    for a ρ that is large enough it converges to a point that meets the conditions of Karush, Kuhn and Tucker, at a linear
    rate that improves with ρ, where a penalty alone would need ρ → ∞. With noisy gradients of F nothing changes: the
    conditions are functions of w.

    Args:
        subject: the model, tensor or tensors that the conditions are functions of. A model is shown in evaluation mode.
        conditions: such as ``inequality(lambda model: model.weight.norm() - 1)``.

    Attributes:
        multipliers: λ of each condition, (m,), 0 at first.
        penalties: ρ of each condition.

    Raises:
        UserError: a function returns no number or vector, or one that is not finite or has no graph.

    >>> from descend.constraints import equality
    >>> w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    >>> held = AugmentedLagrangian(w, [equality(lambda w: w.sum() - 1, penalty=5.0)])
    >>> optimizer = torch.optim.SGD([w], lr=0.1)
    >>> for _ in range(20):
    ...     for _ in range(50):
    ...         optimizer.zero_grad()
    ...         (w[0] ** 2 + 2 * w[1] ** 2 + held.penalty()).backward()
    ...         optimizer.step()
    ...     held.ascend()
    >>> [round(float(each), 4) for each in (*w.detach(), *held.multipliers[0])]  # 2 w₁ = 4 w₂ = −λ
    [0.6667, 0.3333, -1.3333]
    """

    def __init__(self, subject: Subject, conditions: Sequence[Condition]) -> None:
        if not conditions:
            raise UserError(
                "an augmented Lagrangian needs a condition: inequality(function) or equality(function)"
            )
        self.subject, self.conditions = subject, tuple(conditions)
        starts = [condition.checked(subject) for condition in self.conditions]
        self.multipliers = [torch.zeros_like(start) for start in starts]
        self.penalties = [
            start.new_tensor(c.penalty) for start, c in zip(starts, self.conditions, strict=True)
        ]
        self._reached = [start.new_tensor(torch.inf) for start in starts]

    def penalty(self) -> Tensor:
        """What is added to the loss, with its graph."""
        terms = []
        for condition, c, multiplier, rho in self._each():
            if condition.kind == "inequality":
                terms.append(
                    ((multiplier + rho * c).clamp(min=0).square() - multiplier.square()).sum() / (2 * rho)
                )
            else:
                terms.append((multiplier * c + 0.5 * rho * c.square()).sum())
        return torch.stack(terms).sum()

    @property
    def fixed_in_size(self) -> list[Tensor]:
        """None: a condition may be met by weights of any size."""
        return []

    def project_(self) -> None:
        """Nothing: multipliers hold weights over time."""

    @torch.no_grad()
    def ascend(self, when: Literal["step", "epoch"] | None = None) -> None:
        """A step of the multipliers: of all, or of those that take one at each ``when``.

        A value that is not finite moves none.
        """
        for place, (condition, c, multiplier, rho) in enumerate(self._each()):
            if when in (None, condition.ascend):
                moved = multiplier + condition.rate * rho * _shortfall(condition, c, multiplier, rho)
                self.multipliers[place] = torch.where(moved.isfinite(), moved, multiplier)

    @torch.no_grad()
    def grow(self) -> None:
        """Raise the penalties of conditions that are not met and whose shortfall has hardly fallen since the last call."""
        for place, (condition, c, multiplier, rho) in enumerate(self._each()):
            largest = _shortfall(condition, c, multiplier, rho).abs().max()
            hardly = (largest > condition.tolerance) & (largest > FALLEN * self._reached[place])
            grown = (condition.growth * rho).clamp(max=LIMIT * condition.penalty)
            self.penalties[place] = torch.where(hardly, grown, rho)
            self._reached[place] = torch.where(largest.isfinite(), largest, self._reached[place])

    def epoch_ended(self) -> None:
        """What happens at the end of an epoch: :meth:`grow`, and a step of the multipliers that take theirs then."""
        self.grow()
        self.ascend("epoch")

    def follow(self, optimizer: Optimizer) -> RemovableHandle:
        """Let the multipliers that take their steps with the optimizer do so; the handle's ``remove()`` ends that."""

        def stepped(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if any(condition.ascend == "step" for condition in self.conditions):
                self.ascend("step")

        return optimizer.register_step_post_hook(stepped)

    @torch.no_grad()
    def measured(self) -> dict[str, Tensor]:
        """Parts of the KKT residual at the weights and λ⁺: ``violation``, ``complementarity``; and ``feasible``, 1 or 0.

        0-dimensional tensors on the device.
        """
        each = self._each()
        values = [c for _, c, _, _ in each]
        met = [
            (condition.violation(c) <= condition.tolerance).all()
            for condition, c in zip(self.conditions, values, strict=True)
        ]
        found = measured(self.conditions, values, [_estimate(*one) for one in each])
        del found["sign"]  # no estimate is negative
        return found | {"feasible": torch.stack(met).all()}

    @torch.no_grad()
    def estimates(self) -> list[Tensor]:
        """λ⁺, the multipliers whose Lagrangian has the gradient of F and :meth:`penalty`."""
        return [_estimate(*one) for one in self._each()]

    def residual(self, loss: Callable[[], Tensor]) -> KKT:
        """The KKT residual at the weights and λ⁺; ``loss`` gives F with its graph, without :meth:`penalty`."""
        return kkt(loss, self.subject, self.conditions, self.estimates())

    def state_dict(self) -> dict[str, Any]:
        """Multipliers and penalties."""
        return {
            "multipliers": list(self.multipliers),
            "penalties": list(self.penalties),
            "reached": list(self._reached),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave.

        Raises:
            UserError: it is the state of other conditions.
        """
        shapes = [each.shape for each in self.multipliers]
        if [each.shape for each in state["multipliers"]] != shapes:
            raise UserError("the multipliers that were saved are those of other constraints")
        self.multipliers = _like(state["multipliers"], self.multipliers)
        self.penalties = _like(state["penalties"], self.penalties)
        self._reached = _like(state["reached"], self._reached)

    def _each(self) -> list[tuple[Condition, Tensor, Tensor, Tensor]]:
        """Conditions with their values where the weights are, multipliers and penalties."""
        with evaluating(self.subject):
            values = [condition.values(self.subject) for condition in self.conditions]
        return list(zip(self.conditions, values, self.multipliers, self.penalties, strict=True))


def _shortfall(condition: Condition, c: Tensor, multiplier: Tensor, rho: Tensor) -> Tensor:
    """(λ⁺ − λ)/ρ: c, or for an inequality max(c, −λ/ρ), which is 0 where it is met and complementary."""
    return torch.maximum(c, -multiplier / rho) if condition.kind == "inequality" else c


def _estimate(condition: Condition, c: Tensor, multiplier: Tensor, rho: Tensor) -> Tensor:
    """λ⁺."""
    moved = multiplier + rho * c
    return moved.clamp(min=0) if condition.kind == "inequality" else moved


def _like(saved: Sequence[Tensor], own: Sequence[Tensor]) -> list[Tensor]:
    return [each.to(mine).clone() for each, mine in zip(saved, own, strict=True)]
