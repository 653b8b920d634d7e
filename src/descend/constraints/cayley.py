"""Orthonormal weights by steps along the Stiefel manifold, with any optimizer.

Let a step start at the frames X, and let the optimizer move them to X + D. D is interpreted as coordinates, and the weights are

    R(D) = (I − W/2)⁻¹ (I + W/2) X,    W X = P(D) the tangent part of D at X

(:mod:`descend.linalg.stiefel`). The optimizer sees the loss φ(D) = F(R(D)) and its gradient ∇φ(D) = DR(D)ᵀ ∇F(R(D)), which is
P(∇F(X)) at D = 0. A line search therefore evaluates F along the curve t ↦ R(t D), with the directional derivative
∇F · dR(t D)/dt, and the accepted step follows the same curve. Within one step φ is an ordinary smooth function, so differences of
its gradients and of D are valid curvature pairs for quasi-Newton methods.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from descend.constraints.base import ConstrainedWeight, Constraint
from descend.errors import UserError
from descend.linalg.stiefel import (
    cayley,
    cayley_adjoint,
    equally_shaped,
    frames_of,
    nearest_frame_,
    polished,
    put_frames_,
    tangent,
)
from descend.linalg.vectors import bounded

__all__ = ["Cayley"]


class Cayley(Constraint):
    """Orthonormal weights: the Cayley transform replaces each step of the optimizer by a step along the Stiefel manifold.

    The optimizer sees the tangent part of the gradient at the frame X where the step starts, so that it converges to points
    where the gradient along the manifold is zero. If it then moves X to X + D, the weight becomes (I − W/2)⁻¹ (I + W/2) X,
    with W X the tangent part of D (:mod:`descend.linalg.stiefel`).

    If an optimizer evaluates its closure at other points than the start of the step, as line searches do, the closure returns
    the loss and the gradient at the weights that X + D leads to: the optimizer accepts the step that is taken.

    Weights that an optimizer keeps orthonormal itself, those in groups with ``orthonormal=True`` of
    :class:`descend.optim.CayleyAdam` and similar optimizers, are not changed. Optimizers that need curvature are rejected,
    since the curvature along the manifold differs from that of the loss.
    """

    fixes_norm = True

    def impose(self, target: ConstrainedWeight) -> None:
        """Replace the weight by the nearest orthonormal one."""
        target.require_unparametrized("orthogonal")
        nearest_frame_(target.weight)

    def project_(self, target: ConstrainedWeight) -> None:
        """Replace the weight by the nearest orthonormal one, for instance after averaging."""
        nearest_frame_(target.weight)

    def attach(self, optimizer: Optimizer, targets: Sequence[ConstrainedWeight]) -> Sequence[RemovableHandle]:
        """Replace each step by one along the manifold, with hooks before and after the step and a wrapped closure.

        Raises:
            UserError: the optimizer needs second derivatives.
        """
        weights = [target.weight for target in targets if not _keeps_orthonormal(optimizer, target.weight)]
        if not weights:
            return []
        if set(getattr(optimizer, "needs", ())) - {"part"}:
            _reject_curvature(optimizer)
        step = _Step(weights)

        def before(
            stepping: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            if step.discards_gradients:  # those of the last step would be taken for those of this one
                step.discards_gradients = False
                stepping.zero_grad()
            step.start()
            closure = args[1] if len(args) > 1 else kwargs.get("closure")
            if closure is None:
                step.project_gradients()
                return args, kwargs
            on_manifold = _wrap_closure(closure, step, stepping)
            if len(args) > 1:
                return (args[0], on_manifold, *args[2:]), kwargs
            return args, {**kwargs, "closure": on_manifold}

        def after(stepped: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            step.finish()

        return [optimizer.register_step_pre_hook(before), optimizer.register_step_post_hook(after)]


def _keeps_orthonormal(optimizer: Optimizer, weight: Tensor) -> bool:
    """Return whether an optimizer keeps a weight orthonormal itself."""
    return "orthonormal" in optimizer.defaults and any(
        group["orthonormal"] and any(p is weight for p in group["params"]) for group in optimizer.param_groups
    )


def _without_gradients(optimizer: Optimizer) -> bool:
    return all(p.grad is None for group in optimizer.param_groups for p in group["params"])


def _reject_curvature(optimizer: Optimizer) -> NoReturn:
    name = getattr(optimizer, "name", type(optimizer).__name__.lower())
    raise UserError(
        f"{name} needs the curvature of the loss, which differs from the curvature along orthonormal weights; use "
        "method = 'exponential' with it, or an optimizer that needs only gradients, such as lbfgs, cg, gd or adamw"
    )


OBJECTIVE_METHODS = ("value", "differentiable", "linearized", "part")
"""The attributes of a closure that offers more than its gradient; see :mod:`descend.optim.evaluation`."""


def _wrap_closure(closure: Callable[[], Any], step: _Step, stepping: Optimizer) -> Callable[[], Any]:
    """Return the closure as a function of the coordinates, with the methods that the closure has."""
    objective = _ManifoldObjective(closure, step, stepping)
    return objective if all(hasattr(closure, name) for name in OBJECTIVE_METHODS) else objective.__call__


class _ManifoldObjective:
    """An objective as a function of the coordinates D: φ and its gradient, on the same rows as the objective."""

    def __init__(self, closure: Any, step: _Step, stepping: Optimizer) -> None:
        self._closure, self._step, self._stepping = closure, step, stepping

    def __call__(self) -> Any:
        """Return the loss at R(D), and leave its gradient with respect to D in ``.grad``."""
        with self._step.at_retraction() as moved:
            old = [(p.grad, None if p.grad is None else p.grad._version) for p in self._step.weights]
            loss = self._closure()
            if isinstance(loss, Tensor) and loss.requires_grad and _without_gradients(self._stepping):
                loss.backward()  # the closure leaves the backward pass to the optimizer
                self._step.discards_gradients = True
        if not moved:
            self._step.project_gradients()
            return loss
        # A closure that computes only the loss leaves the gradients of an earlier call, which are with respect to D already.
        self._step.pull_back(
            p
            for p, (gradient, version) in zip(self._step.weights, old, strict=True)
            if p.grad is not None and (p.grad is not gradient or p.grad._version != version)
        )
        return loss

    def value(self) -> Tensor:
        """Return the loss without its gradient."""
        with self._step.at_retraction():
            loss: Tensor = self._closure.value()
        return loss

    def at_sample(self, number: int) -> None:
        """Set the number of the next sample of the objective, if it samples rows by number."""
        at_sample = getattr(self._closure, "at_sample", None)
        if at_sample is not None:
            at_sample(number)

    def part(self, share: float, *, nested: bool = False) -> _ManifoldObjective:
        """Return the same objective on a random fraction of the rows."""
        return _ManifoldObjective(self._closure.part(share, nested=nested), self._step, self._stepping)

    def differentiable(self) -> Tensor:
        """Raise an error: the graph would be with respect to the weights, not to the coordinates."""
        _reject_curvature(self._stepping)

    def linearized(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Raise an error, like :meth:`differentiable`."""
        _reject_curvature(self._stepping)


class _Step:
    """One step of orthonormal weights: the frames where it starts, and the map from coordinates to weights."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self.weights = list(weights)
        self.discards_gradients = False
        self._stacks: list[tuple[list[Tensor], Tensor]] = []
        self._versions: list[tuple[int, int]] = []

    @torch.no_grad()
    def start(self) -> None:
        """Store the frames X."""
        stacks = [[self.weights[index] for index in indices] for indices in equally_shaped(self.weights)]
        self._stacks = [(members, frames_of(members)) for members in stacks]
        self._versions = self._current_versions()

    @contextmanager
    def at_retraction(self) -> Iterator[bool]:
        """Set the weights to R(D) within the context, and to X + D afterwards, to the bit; yield whether D ≠ 0.

        Where D = 0 the weights are left unchanged.
        """
        if not self._has_moved():
            yield False
            return
        coordinates = [weight.detach().clone() for weight in self.weights]
        self._retract()
        try:
            yield True
        finally:
            torch._foreach_copy_([weight.detach() for weight in self.weights], coordinates)

    @torch.no_grad()
    def project_gradients(self) -> None:
        """Replace each gradient at X by its tangent part, in place."""
        for members, frames in self._stacks:
            selected = _with_gradients(members, frames)
            if selected is not None:
                moving, at = selected
                gradients = _gradients(moving)
                put_frames_(gradients, tangent(at, frames_of(gradients)).at(at))

    @torch.no_grad()
    def pull_back(self, weights: Iterable[Tensor]) -> None:
        """Replace the gradients of some weights at R(D) by those with respect to D, in place."""
        wanted = {id(weight) for weight in weights}
        for members, frames in self._stacks:
            selected = _with_gradients(members, frames, wanted)
            if selected is not None:
                moving, at = selected
                gradients = _gradients(moving)
                step = tangent(at, bounded(frames_of(moving) - at))
                put_frames_(gradients, cayley_adjoint(at, step, frames_of(gradients)))

    def finish(self) -> None:
        """Replace the optimizer's X + D by R(D)."""
        self._retract()
        self._stacks = []

    @torch.no_grad()
    def _retract(self) -> None:
        for members, frames in self._stacks:
            moved = cayley(frames, tangent(frames, bounded(frames_of(members) - frames)))
            # Two iterations: hooks that run before this one may have scaled the weights where the step started.
            put_frames_(members, polished(moved, 2))

    def _has_moved(self) -> bool:
        """Return whether D ≠ 0.

        PyTorch's version counter of a tensor usually answers this without synchronizing with the device. It does not count
        changes through ``.data``, which older optimizers make; on the CPU the values are therefore compared as well. On other
        devices a comparison would have to wait for the device, so such a change is detected only if it replaces the tensor.
        """
        if self._current_versions() != self._versions:
            return True
        return any(
            frames.device.type == "cpu" and not torch.equal(frames_of(members), frames)
            for members, frames in self._stacks
        )

    def _current_versions(self) -> list[tuple[int, int]]:
        return [(weight._version, weight.data_ptr()) for weight in self.weights]


def _with_gradients(
    members: list[Tensor], frames: Tensor, wanted: Container[int] | None = None
) -> tuple[list[Tensor], Tensor] | None:
    """Return the wanted weights of a stack that have gradients, with their frames; None where there are none."""
    indices = [
        index for index, p in enumerate(members) if p.grad is not None and (wanted is None or id(p) in wanted)
    ]
    if not indices:
        return None
    if len(indices) == len(members):
        return members, frames
    return [members[index] for index in indices], frames[indices]


def _gradients(weights: Sequence[Tensor]) -> list[Tensor]:
    gradients = [p.grad for p in weights if p.grad is not None]
    if any(gradient.is_sparse for gradient in gradients):
        raise UserError("orthogonal with method = 'cayley' does not support sparse gradients")
    return gradients
