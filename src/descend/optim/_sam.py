"""Sharpness-aware minimization: steps along the gradient at the worst point nearby.

Instead of the loss F, its largest value within a distance ρ is minimized, max F(w + e) over ‖e‖ ≤ ρ, so that training ends in
flat minima. To first order the maximum is at e = ρ g/‖g‖ with g = ∇F(w), and its gradient is ∇F(w + e), which any optimizer can
use: one step costs two gradients.

The size of a weight is arbitrary where a network can be rescaled, and with it the size of the ball. Adaptive SAM measures e
relative to the weights, ‖e/|w|‖ ≤ ρ, for which e = ρ w² g / ‖w g‖, elementwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from descend.cards import method
from descend.errors import UserError
from descend.optim.base import checked_settings
from descend.optim.evaluation import Evaluations
from descend.optim.vector_step import Position
from descend.optim.wrapper import Wrapper, require_gradient_steps, tensors_of, unwrapped
from descend.param_types import Positive

__all__ = ["SAM", "sam"]

_TINY = 1e-12
"""Added to norms, so that a gradient of zero is no ascent."""


def ascent(gradient: Tensor, weights: Tensor, rho: float, *, adaptive: bool) -> Tensor:
    """Return e = ρ g/‖g‖, or adaptively ρ w² g/‖w g‖.

    Args:
        gradient: g, (n,).
        weights: w, (n,).
        rho: ρ.
        adaptive: whether e is relative to the weights.

    >>> ascent(torch.tensor([3.0, 4.0]), torch.tensor([2.0, 0.0]), 0.5, adaptive=False)
    tensor([0.3000, 0.4000])
    >>> ascent(torch.tensor([3.0, 4.0]), torch.tensor([2.0, 0.0]), 0.5, adaptive=True)
    tensor([1., 0.])
    """
    scaled = weights * gradient if adaptive else gradient
    length: Tensor = rho / (torch.linalg.vector_norm(scaled) + _TINY)
    return weights * scaled * length if adaptive else gradient * length


@method(
    row="K4",
    reference="Foret, Kleiner, Mobahi and Neyshabur 2021; Kwon, Kim, Park and Choi 2021 (adaptive)",
    formula="g = grad F(w); e = rho g/|g|, or adaptively rho w^2 g/|w g|; a step of the wrapped optimizer with grad F(w + e)",
    note="Each step costs two gradients, on the same rows and with the same random numbers. The running statistics of batch "
    "normalization are updated once. The loss of a step is that at w.",
)
@final
class SAM(Wrapper):
    """SAM, sharpness-aware minimization: steps of another optimizer along the gradient at the worst point within a distance.

    Args:
        optimizer: any optimizer of gradients, such as ``adamw(model.parameters())``.
        rho: ρ, the distance, in the Euclidean norm of all weights. Default 0.05. Adaptively, values are about ten times
            as large.
        adaptive: measure distance relative to each weight. Default False.

    Raises:
        UserError: a setting is outside its domain; the optimizer has a line search, a trust region or needs second
            derivatives, observes the network's forward passes, or takes sparse gradients.

    >>> w = torch.tensor([4.0], requires_grad=True)
    >>> optimizer = SAM(torch.optim.SGD([w], lr=0.5), rho=0.5)
    >>> def closure():
    ...     optimizer.zero_grad(); loss = (w * w / 2).sum(); loss.backward(); return loss
    >>> loss = optimizer.step(closure)
    >>> loss.item(), w.item()  # the gradient at 4 + 0.5
    (8.0, 1.75)
    """

    def __init__(self, optimizer: Optimizer, rho: Positive = 0.05, *, adaptive: bool = False) -> None:
        settings = checked_settings(type(self), {"rho": rho, "adaptive": adaptive})
        require_gradient_steps(
            optimizer,
            "sam",
            "it compares losses within a step, and SAM's gradients are those of other points",
        )
        inner = unwrapped(optimizer)
        if hasattr(inner, "_recorder"):
            raise UserError(
                "sam cannot wrap kfac: it observes each forward pass, and SAM evaluates the network twice"
            )
        if isinstance(inner, torch.optim.SparseAdam):
            raise UserError("sam cannot wrap sparse_adam: the ascent direction is dense; use adamw")
        super().__init__(optimizer, {f"sam_{name}": value for name, value in settings.items()})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step, and return the loss at w; ``closure`` is evaluated twice for each of its evaluations.

        Raises:
            UserError: there is no closure; a gradient is sparse.
        """
        if closure is None:
            raise UserError(
                "sam evaluates the gradient at two points and needs a closure that computes it: optimizer.step(closure)"
            )
        parameters = tensors_of(self)
        return self.take_step(lambda: self._gradient(Evaluations(closure, parameters, "sam"), parameters))

    @torch.no_grad()
    def _gradient(self, objective: Evaluations, parameters: list[Tensor]) -> Any:
        """Leave the gradient at w + e in ``.grad``, with the parameters at w, and return the loss at w."""
        here = objective.gradient()
        if here.empty:
            return here.loss
        group, position = self.param_groups[0], Position(parameters)
        try:
            distance = -group["sam_rho"] if group.get("maximize") else group["sam_rho"]
            position.move(ascent(here.vector, position.start, distance, adaptive=group["sam_adaptive"]))
            objective.gradient()
        finally:  # also after a KeyboardInterrupt
            position.back()
        return here.loss.detach() if isinstance(here.loss, Tensor) else here.loss


sam = SAM
