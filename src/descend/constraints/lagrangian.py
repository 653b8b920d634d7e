"""The augmented Lagrangian method for general constraints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, final

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from descend.constraints.conditions import KKT, Condition, Subject, evaluating, gradient_free_residuals, kkt
from descend.errors import UserError

__all__ = ["AugmentedLagrangian"]

SUFFICIENT_DECREASE = 0.9
"""The penalty grows unless the violation has fallen below this fraction of its previous value."""
MAX_GROWTH = 1e4
"""The penalty grows to at most this multiple of its initial value: beyond it, the violation has another cause."""


@final
class AugmentedLagrangian:
    """The augmented Lagrangian of a loss F and conditions, and the updates of its multipliers λ.

    With ρ the penalty factor, each component c(w) of a condition adds to the loss

        c ≤ 0:  (max(0, λ + ρ c)² − λ²) / (2 ρ)          c = 0:  λ c + ρ c² / 2.

    The gradient of this sum is that of the Lagrangian F + Σ λ⁺ c at λ⁺ = λ + ρ c, or max(0, λ + ρ c) for an inequality. The
    update of the multipliers (:meth:`ascend`) is λ ← λ⁺. If w has converged before each update, this is the method of
    multipliers: for a sufficiently large ρ it converges to a point that satisfies the Karush-Kuhn-Tucker conditions, at a
    linear rate that improves with ρ, where a quadratic penalty without multipliers would need ρ → ∞. Stochastic gradients of F
    do not affect the conditions, which are functions of w only.

    Args:
        subject: the model, tensor or tensors that the conditions are functions of. A model is evaluated in evaluation mode.
        conditions: such as ``inequality(lambda model: model.weight.norm() - 1)``.

    Attributes:
        multipliers: λ of each condition, (m,), initially 0.
        penalties: ρ of each condition.

    Raises:
        UserError: there is no condition, or a function does not return a finite number or vector with its graph.

    >>> from descend.constraints import equality
    >>> w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    >>> lagrangian = AugmentedLagrangian(w, [equality(lambda w: w.sum() - 1, penalty=5.0)])
    >>> optimizer = torch.optim.SGD([w], lr=0.1)
    >>> for _ in range(20):
    ...     for _ in range(50):
    ...         optimizer.zero_grad()
    ...         (w[0] ** 2 + 2 * w[1] ** 2 + lagrangian.penalty()).backward()
    ...         optimizer.step()
    ...     lagrangian.ascend()
    >>> [round(float(each), 4) for each in (*w.detach(), *lagrangian.multipliers[0])]  # 2 w₁ = 4 w₂ = −λ
    [0.6667, 0.3333, -1.3333]
    """

    def __init__(self, subject: Subject, conditions: Sequence[Condition]) -> None:
        if not conditions:
            raise UserError(
                "an augmented Lagrangian needs at least one condition: inequality(function) or equality(function)"
            )
        self.subject, self.conditions = subject, tuple(conditions)
        initial = [condition.validate(subject) for condition in self.conditions]
        self.multipliers = [torch.zeros_like(values) for values in initial]
        self.penalties = [
            values.new_tensor(c.penalty) for values, c in zip(initial, self.conditions, strict=True)
        ]
        self._previous = [values.new_tensor(torch.inf) for values in initial]

    def penalty(self) -> Tensor:
        """Return the term that is added to the loss, with its graph."""
        terms = []
        for condition, c, multiplier, rho in self._terms():
            if condition.kind == "inequality":
                terms.append(
                    ((multiplier + rho * c).clamp(min=0).square() - multiplier.square()).sum() / (2 * rho)
                )
            else:
                terms.append((multiplier * c + 0.5 * rho * c.square()).sum())
        return torch.stack(terms).sum()

    @property
    def fixed_norm_weights(self) -> list[Tensor]:
        """An empty list: general conditions do not fix the norm of weights."""
        return []

    def project_(self) -> None:
        """Leave the weights unchanged: the multipliers enforce the conditions during training."""

    @torch.no_grad()
    def ascend(self, when: Literal["step", "epoch"] | None = None) -> None:
        """Update the multipliers: all, or those of the conditions whose ``ascend`` is ``when``.

        A multiplier keeps its value where the update is not finite.
        """
        for index, (condition, c, multiplier, rho) in enumerate(self._terms()):
            if when in (None, condition.ascend):
                updated = multiplier + condition.rate * rho * _ascent_direction(condition, c, multiplier, rho)
                self.multipliers[index] = torch.where(updated.isfinite(), updated, multiplier)

    @torch.no_grad()
    def grow(self) -> None:
        """Raise the penalties of violated conditions whose residual has hardly decreased since the last call."""
        for index, (condition, c, multiplier, rho) in enumerate(self._terms()):
            largest = _ascent_direction(condition, c, multiplier, rho).abs().max()
            stagnates = (largest > condition.tolerance) & (
                largest > SUFFICIENT_DECREASE * self._previous[index]
            )
            grown = (condition.growth * rho).clamp(max=MAX_GROWTH * condition.penalty)
            self.penalties[index] = torch.where(stagnates, grown, rho)
            self._previous[index] = torch.where(largest.isfinite(), largest, self._previous[index])

    def epoch_ended(self) -> None:
        """Call :meth:`grow`, and update the multipliers that are updated once per epoch."""
        self.grow()
        self.ascend("epoch")

    def attach(self, optimizer: Optimizer) -> RemovableHandle:
        """Update the multipliers with ``ascend="step"`` after each step of an optimizer, until the handle is removed."""

        def stepped(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if any(condition.ascend == "step" for condition in self.conditions):
                self.ascend("step")

        return optimizer.register_step_post_hook(stepped)

    @torch.no_grad()
    def metrics(self) -> dict[str, Tensor]:
        """Return ``violation`` and ``complementarity``, the KKT residuals at the weights and λ⁺, and ``feasible``, 1 or 0.

        The values are 0-dimensional tensors on the device.
        """
        terms = self._terms()
        values = [c for _, c, _, _ in terms]
        satisfied = [
            (condition.violation(c) <= condition.tolerance).all()
            for condition, c in zip(self.conditions, values, strict=True)
        ]
        estimates = [_estimate(*term) for term in terms]
        residuals = gradient_free_residuals(self.conditions, values, estimates)
        del residuals["sign"]  # no estimate is negative
        return residuals | {"feasible": torch.stack(satisfied).all()}

    @torch.no_grad()
    def estimates(self) -> list[Tensor]:
        """Return λ⁺, the multipliers at which the Lagrangian has the same gradient as F plus :meth:`penalty`."""
        return [_estimate(*term) for term in self._terms()]

    def residual(self, loss: Callable[[], Tensor]) -> KKT:
        """Return the KKT residual at the weights and λ⁺; ``loss`` returns F with its graph, without :meth:`penalty`."""
        return kkt(loss, self.subject, self.conditions, self.estimates())

    def state_dict(self) -> dict[str, Any]:
        """Return the multipliers and penalties."""
        return {
            "multipliers": list(self.multipliers),
            "penalties": list(self.penalties),
            "reached": list(self._previous),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that :meth:`state_dict` returned.

        Raises:
            UserError: the state belongs to other conditions.
        """
        shapes = [each.shape for each in self.multipliers]
        if [each.shape for each in state["multipliers"]] != shapes:
            raise UserError("the saved multipliers belong to other constraints: their shapes differ")
        self.multipliers = _like(state["multipliers"], self.multipliers)
        self.penalties = _like(state["penalties"], self.penalties)
        self._previous = _like(state["reached"], self._previous)

    def _terms(self) -> list[tuple[Condition, Tensor, Tensor, Tensor]]:
        """Return the conditions with their values at the current weights, multipliers and penalties."""
        with evaluating(self.subject):
            values = [condition.values(self.subject) for condition in self.conditions]
        return list(zip(self.conditions, values, self.multipliers, self.penalties, strict=True))


def _ascent_direction(condition: Condition, c: Tensor, multiplier: Tensor, rho: Tensor) -> Tensor:
    """Return (λ⁺ − λ)/ρ: c, or for an inequality max(c, −λ/ρ), which is 0 where it is satisfied and complementary."""
    return torch.maximum(c, -multiplier / rho) if condition.kind == "inequality" else c


def _estimate(condition: Condition, c: Tensor, multiplier: Tensor, rho: Tensor) -> Tensor:
    """Return λ⁺, the multiplier estimate."""
    estimate = multiplier + rho * c
    return estimate.clamp(min=0) if condition.kind == "inequality" else estimate


def _like(saved: Sequence[Tensor], own: Sequence[Tensor]) -> list[Tensor]:
    return [each.to(current).clone() for each, current in zip(saved, own, strict=True)]
