"""SGD and Adam on the Stiefel manifold: weights with orthonormal rows or columns, updated by the Cayley transform.

A weight in a group with ``orthonormal=True`` is a frame X, (n, q) with XᵀX = I: its columns, or its rows if it has at most as
many rows as columns. With G the gradient, t the learning rate, and Z(D) the tangent part of D at X
(:mod:`descend.linalg.stiefel`), a step is

============ ==================================================================================
cayley_sgd   M ← Z(μ M + G);  X ← Cayley(X, −t M)
cayley_adam  M ← Z(β₁ M + (1 − β₁) G);  s ← β₂ s + (1 − β₂) ‖G‖²/(n q);
             X ← Cayley(X, −t (M / (1 − β₁ᵏ)) / (√(s / (1 − β₂ᵏ)) + ε))
============ ==================================================================================

The momentum is projected onto the tangent space at each new point. Adam's s is one number for each weight, since an elementwise
division would leave the tangent space. It is the mean of the squares, where the paper uses their sum, so the learning rate has
the same meaning as for Adam, the size of the change of an entry, and one learning rate suits all weights. The paper's
learning rate is √(n q) times this one.

Weights in other groups take ordinary steps of SGD and Adam.

Source: Li, Fuxin and Todorovic 2020, algorithms 1 and 2. Differences: the transform is exact by default, instead of five
fixed-point iterations; rounding errors of a step are corrected by one Newton iteration for the polar factor, instead of an
orthonormalization at random steps; weights of equal shape are updated together; a group need not be orthonormal.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.optim.adam import adam as adam_step
from torch.optim.sgd import sgd as sgd_step

from descend.cards import method
from descend.errors import UserError
from descend.linalg.stiefel import (
    Tangent,
    cayley,
    cayley_iterated,
    equally_shaped,
    frames_of,
    nearest_frame_,
    polished,
    put_frames_,
    tangent,
)
from descend.linalg.vectors import bounded
from descend.optim.base import CheckedOptimizer, Params
from descend.optim.vector_step import restore_dtypes
from descend.param_types import Count, Fraction, NonNegative, Positive
from descend.regularization.step_lengths import adaptive_length

__all__ = ["CayleyAdam", "CayleySGD", "cayley_adam", "cayley_sgd"]

Group = dict[str, Any]


def cayley_sgd_update(
    frames: Tensor, gradient: Tensor, momentum: Tensor | None, lr: float, mu: float, iterations: int | None
) -> tuple[Tensor, Tangent]:
    """X⁺ = Cayley(X, −t M⁺) and M⁺ = Z(μ M + G), for frames (b, n, q)."""
    step = tangent(frames, gradient if momentum is None else gradient.add(momentum, alpha=mu))
    return _retract(frames, step, -lr, iterations), step


def cayley_adam_update(
    frames: Tensor,
    gradient: Tensor,
    momentum: Tensor,
    square: Tensor,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    iterations: int | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """X⁺ = Cayley(X, −t (M⁺ / (1 − β₁ᵏ)) / (√(s⁺ / (1 − β₂ᵏ)) + ε)), M⁺ = Z(β₁ M + (1 − β₁) G), s⁺ = β₂ s + (1 − β₂) mean G²."""
    beta1, beta2 = betas
    square = square.lerp(gradient.square().mean((1, 2)), 1.0 - beta2)
    towards = tangent(frames, momentum.lerp(gradient, 1.0 - beta1))
    scale = (square / (1.0 - beta2**step)).sqrt().add(eps)[:, None, None]
    length = -lr / (1.0 - beta1**step) / scale
    return _retract(frames, towards, length, iterations), towards.at(frames), square


def _retract(frames: Tensor, step: Tangent, length: float | Tensor, iterations: int | None) -> Tensor:
    """Move frames along the manifold, and correct rounding errors, or the error of the iterations: up to 0.1 after one."""
    if iterations is None:
        return polished(cayley(frames, step, length))
    return polished(cayley_iterated(frames, step, iterations, length), 3)


class _Cayley(CheckedOptimizer, ABC):
    """Common part: parameter groups that are orthonormal, and those that are not."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; ``closure``, if given, is evaluated once, and its loss is returned.

        Raises:
            UserError: a gradient is sparse.
        """
        loss, discard = (None, False) if closure is None else self.evaluate(closure)
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            if any(p.grad.is_sparse for p in moving):
                raise UserError(f"{self.name} does not support sparse gradients; use sparse_adam instead")
            if not group["orthonormal"]:
                self._plain(group, moving)
                continue
            for places in equally_shaped(moving):
                self._on_manifold(group, [moving[place] for place in places])
        if discard:
            self.zero_grad()
        return loss

    @abstractmethod
    def _plain(self, group: Group, moving: list[Tensor]) -> None:
        """Move unconstrained weights."""

    @abstractmethod
    def _on_manifold(self, group: Group, moving: list[Tensor]) -> None:
        """Move orthonormal weights of equal shape."""

    def add_param_group(self, param_group: Group) -> None:
        """Add a parameter group; weights of an orthonormal group are replaced by the closest orthonormal ones.

        Raises:
            UserError: a setting is outside its domain, or an orthonormal parameter has fewer than two dimensions.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        orthonormal: list[Tensor] = group["params"] if group["orthonormal"] else []
        for p in orthonormal:
            if p.dim() < 2 or p.is_complex():
                del self.param_groups[-1]
                finding = "complex ones" if p.is_complex() else f"the shape {tuple(p.shape)}"
                expected = "must be real" if p.is_complex() else "need two or more dimensions"
                raise UserError(f"{self.name}: orthonormal weights {expected}, got {finding}")
        for p in orthonormal:
            nearest_frame_(p)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a state with the dtypes that it was saved with."""
        super().load_state_dict(dict(state_dict))
        restore_dtypes(self, state_dict)


@method(
    row="G6",
    reference="Li, Fuxin and Todorovic 2020, algorithm 1",
    formula="M <- Z(mu M + G), the tangent part at X; X <- (I + t W/2)^-1 (I - t W/2) X with W X = M",
    note="The rows or columns of weights in groups with orthonormal=True, or that a recipe's [constrain] orthogonal selects "
    'with method = "cayley", stay orthonormal; without such weights this is sgd. The transform is exact, by a q x q system for '
    "n x q weights, where the paper iterates.",
)
@final
class CayleySGD(_Cayley):
    """SGD with momentum, on the Stiefel manifold for orthonormal weights, and ordinary SGD for all others.

    For a weight (rows, columns), a step costs 8 n q² + O(q³) operations in addition to its gradient, with q the smaller of both
    and n the larger. The state of a weight is ``momentum_buffer``, of its size; there is none without momentum.

    Args:
        params: parameters or groups; ``orthonormal=True`` in a group makes its weights orthonormal and keeps them so.
        lr: t, the learning rate. Default 0.05; a recipe's rule for regression on few rows is finer (docs/defaults.md).
        momentum: μ, the fraction of the previous direction that is kept. Default 0.
        iterations: s, number of the paper's fixed-point iterations, whose error is O(t^(s+2)); None solves exactly, and is
            faster. Default None.
        orthonormal: whether the weights of groups that do not specify it are orthonormal. Default False.

    Raises:
        UserError: a setting is outside its domain, or an orthonormal parameter has fewer than two dimensions.

    >>> W = torch.nn.Parameter(torch.eye(3))
    >>> optimizer = CayleySGD([{"params": [W], "orthonormal": True}], lr=0.1)
    >>> rotation = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    >>> for _ in range(100):
    ...     optimizer.zero_grad(); (W - rotation).square().sum().backward(); optimizer.step()
    >>> torch.allclose(W, rotation, atol=1e-5)
    True
    """

    def __init__(
        self,
        params: Params,
        lr: Positive = 0.05,
        momentum: Fraction = 0.0,
        *,
        iterations: Count | None = None,
        orthonormal: bool = False,
    ) -> None:
        super().__init__(params, locals())

    def step_length(self, group: Group, parameter: Tensor) -> float:
        """Return the length of a step of a weight without constraint at a constant gradient of 1."""
        return float(group["lr"]) / float(1.0 - group["momentum"])

    def _plain(self, group: Group, moving: list[Tensor]) -> None:
        buffers: list[Tensor | None] = [self.state[p].get("momentum_buffer") for p in moving]
        sgd_step(
            moving,
            _gradients(moving),
            buffers,
            weight_decay=0.0,
            momentum=group["momentum"],
            lr=group["lr"],
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        if group["momentum"]:
            for p, buffer in zip(moving, buffers, strict=True):
                self.state[p]["momentum_buffer"] = buffer

    def _on_manifold(self, group: Group, moving: list[Tensor]) -> None:
        frames, gradient = frames_of(moving), bounded(frames_of(_gradients(moving)))
        buffers: list[Tensor] = []
        if group["momentum"]:
            buffers = [_buffer(self.state[p], "momentum_buffer", p) for p in moving]
        updated, step = cayley_sgd_update(
            frames,
            gradient,
            frames_of(buffers) if buffers else None,
            group["lr"],
            group["momentum"],
            group["iterations"],
        )
        if buffers:
            put_frames_(buffers, step.at(frames))
        put_frames_(moving, updated)


@method(
    row="G6",
    reference="Li, Fuxin and Todorovic 2020, algorithm 2",
    formula="M <- Z(b1 M + (1-b1) G); s <- b2 s + (1-b2) mean(G^2); X <- (I + a W/2)^-1 (I - a W/2) X with W X = M, "
    "a = t / (1-b1^k) / (sqrt(s / (1-b2^k)) + eps)",
    note="The rows or columns of weights in groups with orthonormal=True, or that a recipe's [constrain] orthogonal selects "
    'with method = "cayley", stay orthonormal; without such weights this is adam. s is the mean of the squared entries, where '
    "the paper has their sum, so that a learning rate has the same meaning for all weights; and the transform is exact, where "
    "the paper iterates.",
)
@final
class CayleyAdam(_Cayley):
    """Adam on the Stiefel manifold for orthonormal weights, and ordinary Adam for all others.

    For a weight (rows, columns), a step costs 10 n q² + O(q³) operations in addition to its gradient, with q the smaller of both
    and n the larger. The state of an orthonormal weight of m numbers is m + 2 numbers: ``exp_avg``, ``exp_avg_sq`` (one number)
    and ``step``; that of any other weight is Adam's, 2 m + 1.

    Args:
        params: parameters or groups; ``orthonormal=True`` in a group makes its weights orthonormal and keeps them so.
        lr: t, the learning rate. Default 0.001.
        betas: β₁ and β₂, decay of the averages M and s. Default (0.9, 0.999).
        eps: ε, against division by zero. Default 1e-8.
        iterations: s, number of the paper's fixed-point iterations, whose error is O(t^(s+2)); None solves exactly, and is
            faster. Default None.
        orthonormal: whether the weights of groups that do not specify it are orthonormal. Default False.

    Raises:
        UserError: a setting is outside its domain, or an orthonormal parameter has fewer than two dimensions.

    >>> W = torch.nn.Parameter(torch.eye(3, 1))
    >>> optimizer = CayleyAdam([{"params": [W], "orthonormal": True}], lr=0.05)
    >>> for _ in range(300):  # the eigenvector of the largest eigenvalue
    ...     optimizer.zero_grad(); (-(W.T * torch.tensor([1.0, 2.0, 1.5])) @ (W + 0.1)).sum().backward(); optimizer.step()
    >>> W[1].item() > 0.9, round(W.norm().item(), 6)
    (True, 1.0)
    """

    def __init__(
        self,
        params: Params,
        lr: Positive = 1e-3,
        betas: tuple[Fraction, Fraction] = (0.9, 0.999),
        eps: NonNegative = 1e-8,
        *,
        iterations: Count | None = None,
        orthonormal: bool = False,
    ) -> None:
        super().__init__(params, locals())

    def step_length(self, group: Group, parameter: Tensor) -> float | Tensor:
        """Return the length of a step of a weight without constraint at a constant gradient of 1."""
        state = self.state[parameter]
        return adaptive_length(float(group["lr"]), group, state) if "step" in state else 0.0

    def _plain(self, group: Group, moving: list[Tensor]) -> None:
        for p in moving:
            if not self.state[p]:
                self.state[p]["step"] = torch.zeros((), dtype=torch.float32)
            _buffer(self.state[p], "exp_avg", p)
            _buffer(self.state[p], "exp_avg_sq", p)
        states = [self.state[p] for p in moving]
        adam_step(
            moving,
            _gradients(moving),
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=0.0,
            eps=group["eps"],
            maximize=False,
        )

    def _on_manifold(self, group: Group, moving: list[Tensor]) -> None:
        # Weights that have taken different numbers of steps differ in their bias corrections.
        by_step: dict[int, list[Tensor]] = {}
        for p in moving:
            state = self.state[p]
            state["step"] = state.get("step", 0) + 1
            by_step.setdefault(state["step"], []).append(p)
        for step, weights in by_step.items():
            states = [self.state[p] for p in weights]
            averages = [_buffer(state, "exp_avg", p) for state, p in zip(states, weights, strict=True)]
            squares = [
                _buffer(state, "exp_avg_sq", p.new_zeros(()))
                for state, p in zip(states, weights, strict=True)
            ]
            frames, gradient = frames_of(weights), bounded(frames_of(_gradients(weights)))
            updated, momentum, square = cayley_adam_update(
                frames,
                gradient,
                frames_of(averages),
                torch.stack(squares).to(gradient.dtype),
                step,
                group["lr"],
                group["betas"],
                group["eps"],
                group["iterations"],
            )
            torch._foreach_copy_(squares, list(square))
            put_frames_(averages, momentum)
            put_frames_(weights, updated)


cayley_sgd = CayleySGD
cayley_adam = CayleyAdam


def _gradients(moving: Sequence[Tensor]) -> list[Tensor]:
    return [p.grad for p in moving if p.grad is not None]


def _buffer(state: dict[str, Any], name: str, like: Tensor) -> Tensor:
    if name not in state:
        state[name] = torch.zeros_like(like, memory_format=torch.preserve_format)
    buffer: Tensor = state[name]
    return buffer
