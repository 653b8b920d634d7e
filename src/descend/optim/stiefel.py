"""SGD and Adam for weights whose rows or columns stay orthonormal: along the Stiefel manifold by Cayley's transform.

A weight in a group with ``orthonormal=True`` is a frame X, (n, q) with XᵀX = I: its columns, or its rows where it has at
most as many of them. With G the gradient there, t the rate, and Z(D) the tangent part of D at X
(:mod:`descend.linalg.stiefel`), a step is

============ ==================================================================================
cayley_sgd   M ← Z(μ M + G);  X ← Cayley(X, −t M)
cayley_adam  M ← Z(β₁ M + (1 − β₁) G);  s ← β₂ s + (1 − β₂) ‖G‖²/(n q);
             X ← Cayley(X, −t (M / (1 − β₁ᵏ)) / (√(s / (1 − β₂ᵏ)) + ε))
============ ==================================================================================

The momentum follows the manifold: it is made tangent anew at each point. Adam's s is one number a weight, since
dividing entry by entry would lead off the tangent space. It is the mean of the squares, where the paper has their sum: so
a rate means what it means for Adam, the size of an entry's change, and one rate serves all weights. The paper's rate is √(n q)
times ours.

Weights in other groups take the ordinary steps of SGD and Adam.

Source: Li, Fuxin and Todorovic 2020, algorithms 1 and 2. What is different: the transform is exact by default, not five
fixed-point iterations; a step's rounding is taken back by one Newton iteration for the polar factor, not by an
orthonormalisation at random steps; weights of equal shape are stepped together; a group need not be orthonormal.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer
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
from descend.optim.base import Params, catalogue_name
from descend.optim.building import build
from descend.optim.vector_step import restore_dtypes
from descend.param_types import Count, Fraction, NonNegative, Positive

__all__ = ["CayleyAdam", "CayleySGD", "cayley_adam", "cayley_sgd"]

Group = dict[str, Any]


class _Cayley(Optimizer, ABC):
    """What the two have in common: groups that are orthonormal, and those that are not."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; ``closure``, if given, is evaluated once, and its loss returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            if any(p.grad.is_sparse for p in moving):
                name = catalogue_name(type(self))
                raise UserError(f"{name} does not take sparse gradients; use sparse_adam")
            if not group["orthonormal"]:
                self._plain(group, moving)
                continue
            for places in equally_shaped(moving):
                self._along(group, [moving[place] for place in places])
        return loss

    @abstractmethod
    def _plain(self, group: Group, moving: list[Tensor]) -> None:
        """Move weights that are under no constraint."""

    @abstractmethod
    def _along(self, group: Group, moving: list[Tensor]) -> None:
        """Move orthonormal weights of one shape."""

    def add_param_group(self, param_group: Group) -> None:
        """Add a group; the weights of an orthonormal one become the nearest orthonormal ones, if they are not.

        Raises:
            ValueError: a setting outside its domain, or an orthonormal parameter of less than two dimensions.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            self._check(group)
            for p in group["params"] if group["orthonormal"] else ():
                if p.dim() < 2:
                    shape = tuple(p.shape)
                    raise ValueError(
                        f"orthonormal weights have two or more dimensions; found the shape {shape}"
                    )
                nearest_frame_(p)
        except ValueError:
            del self.param_groups[-1]
            raise

    def _check(self, group: Group) -> None:
        if not group["lr"] >= 0:
            raise ValueError(f"lr must be 0 or more; found {group['lr']}")
        iterations = group["iterations"]
        if iterations is not None and not (isinstance(iterations, int) and iterations >= 1):
            raise ValueError(f"iterations must be a whole number, 1 or more, or None; found {iterations}")

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a state as it was saved, with its types."""
        super().load_state_dict(dict(state_dict))
        restore_dtypes(self, state_dict)


@final
class CayleySGD(_Cayley):
    """SGD with momentum, along the Stiefel manifold for orthonormal groups; see :func:`cayley_sgd`.

    The state of a weight is ``momentum_buffer``, of its size; nothing without momentum.

    Args:
        params: parameters or groups, each with ``orthonormal`` and settings of its own.
        lr: t. Default 0.05.
        momentum: μ. Default 0.
        iterations: s, of the paper's fixed-point iteration; None solves exactly. Default None.
        orthonormal: whether weights of groups that do not say so are orthonormal. Default False.

    Raises:
        ValueError: a setting outside its domain, or an orthonormal parameter of less than two dimensions.

    >>> W = torch.nn.Parameter(torch.eye(3, 2))
    >>> optimizer = CayleySGD([{"params": [W], "orthonormal": True}], lr=0.5)
    >>> W.sum().backward(); optimizer.step()
    >>> torch.allclose(W.T @ W, torch.eye(2), atol=1e-6), bool(W.sum() < 2)
    (True, True)
    """

    def __init__(
        self,
        params: Params,
        lr: float = 0.05,
        momentum: float = 0.0,
        iterations: int | None = None,
        orthonormal: bool = False,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "iterations": iterations, "orthonormal": orthonormal}
        super().__init__(params, defaults)

    def _check(self, group: Group) -> None:
        super()._check(group)
        if not 0 <= group["momentum"] < 1:
            raise ValueError(f"momentum must be 0 or more and below 1; found {group['momentum']}")

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

    def _along(self, group: Group, moving: list[Tensor]) -> None:
        frames, direction = frames_of(moving), frames_of(_gradients(moving))
        momentum = group["momentum"]
        if momentum:
            buffers = [_buffer(self.state[p], "momentum_buffer", p) for p in moving]
            direction = direction.add(frames_of(buffers), alpha=momentum)
        towards = tangent(frames, direction)
        if momentum:
            put_frames_(buffers, towards.at(frames))
        _move(moving, frames, towards, -group["lr"], group["iterations"])


@final
class CayleyAdam(_Cayley):
    """Adam, along the Stiefel manifold for orthonormal groups; see :func:`cayley_adam`.

    The state of an orthonormal weight of m numbers is m + 2 numbers: ``exp_avg``, ``exp_avg_sq`` (one number) and
    ``step``; of any other weight it is Adam's, 2 m + 1.

    Args:
        params: parameters or groups, each with ``orthonormal`` and settings of its own.
        lr: t. Default 0.001.
        betas: β₁ and β₂. Default (0.9, 0.999).
        eps: ε. Default 1e-8.
        iterations: s, of the paper's fixed-point iteration; None solves exactly. Default None.
        orthonormal: whether weights of groups that do not say so are orthonormal. Default False.

    Raises:
        ValueError: a setting outside its domain, or an orthonormal parameter of less than two dimensions.

    >>> W = torch.nn.Parameter(torch.eye(3, 2))
    >>> optimizer = CayleyAdam([{"params": [W], "orthonormal": True}], lr=0.1)
    >>> W.sum().backward(); optimizer.step()
    >>> torch.allclose(W.T @ W, torch.eye(2), atol=1e-6), bool(W.sum() < 2)
    (True, True)
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        iterations: int | None = None,
        orthonormal: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": tuple(betas),
            "eps": eps,
            "iterations": iterations,
            "orthonormal": orthonormal,
        }
        super().__init__(params, defaults)

    def _check(self, group: Group) -> None:
        super()._check(group)
        if len(group["betas"]) != 2 or not all(0 <= beta < 1 for beta in group["betas"]):
            raise ValueError(f"betas must be two numbers, 0 or more and below 1; found {group['betas']}")
        if not group["eps"] >= 0:
            raise ValueError(f"eps must be 0 or more; found {group['eps']}")

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

    def _along(self, group: Group, moving: list[Tensor]) -> None:
        by_count: dict[int, list[Tensor]] = {}
        for p in moving:
            state = self.state[p]
            state["step"] = state.get("step", 0) + 1
            by_count.setdefault(state["step"], []).append(p)
        for count, members in by_count.items():
            self._along_after(group, members, count)

    def _along_after(self, group: Group, moving: list[Tensor], count: int) -> None:
        """Move weights of one shape that have been moved equally often, so that they are corrected alike."""
        beta1, beta2 = group["betas"]
        states = [self.state[p] for p in moving]
        averages = [_buffer(state, "exp_avg", p) for state, p in zip(states, moving, strict=True)]
        squares = [
            _buffer(state, "exp_avg_sq", p.new_zeros(())) for state, p in zip(states, moving, strict=True)
        ]
        frames, gradient = frames_of(moving), frames_of(_gradients(moving))
        square = torch.stack(squares).to(gradient.dtype)
        square = square.lerp(gradient.square().mean((1, 2)), 1.0 - beta2)
        torch._foreach_copy_(squares, list(square))
        towards = tangent(frames, frames_of(averages).lerp(gradient, 1.0 - beta1))
        put_frames_(averages, towards.at(frames))
        scale = (square / (1.0 - beta2**count)).sqrt().add(group["eps"])[:, None, None]
        length = -group["lr"] / (1.0 - beta1**count) / scale
        _move(moving, frames, towards, length, group["iterations"])


def _gradients(moving: Sequence[Tensor]) -> list[Tensor]:
    return [p.grad for p in moving if p.grad is not None]


def _buffer(state: dict[str, Any], name: str, like: Tensor) -> Tensor:
    if name not in state:
        state[name] = torch.zeros_like(like, memory_format=torch.preserve_format)
    found: Tensor = state[name]
    return found


def _move(
    moving: Sequence[Tensor], frames: Tensor, towards: Tangent, length: float | Tensor, iterations: int | None
) -> None:
    """Put weights where their frames lead along the manifold."""
    if iterations is None:
        found = polished(cayley(frames, towards, length))
    else:  # off by more than rounding: up to a tenth after one iteration
        found = polished(cayley_iterated(frames, towards, iterations, length), 3)
    put_frames_(moving, found)


@method(
    row="G6",
    reference="Li, Fuxin and Todorovic 2020, algorithm 1",
    formula="M <- Z(mu M + G), the tangent part at X; X <- (I + t W/2)^-1 (I - t W/2) X with W X = M",
    note="The rows or columns of weights in groups with orthonormal=True, or that a recipe's [constrain] orthogonal holds "
    'with method = "cayley", stay orthonormal; without any this is sgd. The transform is exact, by a q x q system for n x q '
    "weights, where the paper iterates.",
)
def cayley_sgd(
    params: Params, *, lr: Positive = 0.05, momentum: Fraction = 0.0, iterations: Count | None = None
) -> Optimizer:
    """SGD along the manifold of orthonormal weights, for those that are orthonormal, and ordinary SGD for all others.

    A weight of (rows, columns) costs 8 n q² + O(q³) operations a step beside its gradient, q the smaller of both and n
    the larger. Its memory is that of SGD: one number a weight with momentum.

    Args:
        params: parameters or groups; ``orthonormal=True`` in a group makes its weights orthonormal and keeps them so.
        lr: t, the rate. Default 0.05; a recipe's rule for regression on few rows is finer (docs/defaults.md).
        momentum: μ, how much of the last direction is kept. Default 0.
        iterations: s, of the paper's fixed-point iteration, whose error is O(t^(s+2)); None solves exactly, and is
            faster. Default None.

    Raises:
        UserError: a setting outside its domain, or an orthonormal parameter of less than two dimensions.

    >>> W = torch.nn.Parameter(torch.eye(3))
    >>> optimizer = cayley_sgd([{"params": [W], "orthonormal": True}], lr=0.1)
    >>> turned = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    >>> for _ in range(100):
    ...     optimizer.zero_grad(); (W - turned).square().sum().backward(); optimizer.step()
    >>> torch.allclose(W, turned, atol=1e-5)
    True
    """
    return build(CayleySGD, params, {"lr": lr, "momentum": momentum, "iterations": iterations})


@method(
    row="G6",
    reference="Li, Fuxin and Todorovic 2020, algorithm 2",
    formula="M <- Z(b1 M + (1-b1) G); s <- b2 s + (1-b2) mean(G^2); X <- (I + a W/2)^-1 (I - a W/2) X with W X = M, "
    "a = t / (1-b1^k) / (sqrt(s / (1-b2^k)) + eps)",
    note="The rows or columns of weights in groups with orthonormal=True, or that a recipe's [constrain] orthogonal holds "
    'with method = "cayley", stay orthonormal; without any this is adam. s is the mean of the squared entries, where the '
    "paper has their sum, so that a rate means the same for all weights; and the transform is exact, where the paper iterates.",
)
def cayley_adam(
    params: Params,
    *,
    lr: Positive = 1e-3,
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
    eps: NonNegative = 1e-8,
    iterations: Count | None = None,
) -> Optimizer:
    """Adam along the manifold of orthonormal weights, for those that are orthonormal, and ordinary Adam for all others.

    A weight of (rows, columns) costs 10 n q² + O(q³) operations a step beside its gradient, q the smaller of both and
    n the larger. Its memory is one number a weight, half of Adam's.

    Args:
        params: parameters or groups; ``orthonormal=True`` in a group makes its weights orthonormal and keeps them so.
        lr: t, the rate. Default 0.001.
        betas: β₁ and β₂, how much of M and of s is kept. Default (0.9, 0.999).
        eps: ε, against division by zero. Default 1e-8.
        iterations: s, of the paper's fixed-point iteration, whose error is O(t^(s+2)); None solves exactly, and is
            faster. Default None.

    Raises:
        UserError: a setting outside its domain, or an orthonormal parameter of less than two dimensions.

    >>> W = torch.nn.Parameter(torch.eye(3, 1))
    >>> optimizer = cayley_adam([{"params": [W], "orthonormal": True}], lr=0.05)
    >>> for _ in range(300):  # the largest eigenvector
    ...     optimizer.zero_grad(); (-(W.T * torch.tensor([1.0, 2.0, 1.5])) @ (W + 0.1)).sum().backward(); optimizer.step()
    >>> W[1].item() > 0.9, round(W.norm().item(), 6)
    (True, 1.0)
    """
    settings = {"lr": lr, "betas": tuple(betas), "eps": eps, "iterations": iterations}
    return build(CayleyAdam, params, settings)
