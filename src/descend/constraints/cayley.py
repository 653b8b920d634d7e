"""Orthonormal weights kept by steps along the Stiefel manifold, whatever the optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from descend.constraints.base import Constraint, Place
from descend.errors import UserError
from descend.linalg.stiefel import (
    cayley,
    equally_shaped,
    frames_of,
    nearest_frame_,
    polished,
    put_frames_,
    tangent,
)

__all__ = ["Cayley"]


class Cayley(Constraint):
    """A step along the manifold of orthonormal frames in place of the optimizer's step, by Cayley's transform.

    The optimizer sees the tangent part of the gradient at the frame X where the step starts, so that it comes to rest where
    the loss has no slope along the manifold. Where it then goes from X to X + D, the weight goes to (I − W/2)⁻¹ (I + W/2) X,
    with W X the tangent part of D (:mod:`descend.linalg.stiefel`).

    Weights that an optimizer keeps orthonormal by itself, those in groups with ``orthonormal=True`` of
    :class:`descend.optim.CayleyAdam` and its like, are left to it. A line search in an optimizer sees X + D and not where
    the step leads. Optimizers that ask for curvature are refused, since theirs is not that of the manifold.
    """

    fixes_size = True

    def impose(self, place: Place) -> None:
        """Make the weight the nearest orthonormal one."""
        if place.parametrized:
            raise UserError(f"'{place.path}' is held by another constraint; orthogonal cannot hold it too")
        nearest_frame_(place.weight)

    def project_(self, place: Place) -> None:
        """Make the weight the nearest orthonormal one, as after averaging."""
        nearest_frame_(place.weight)

    def follow(self, optimizer: Optimizer, places: Sequence[Place]) -> Sequence[RemovableHandle]:
        """Turn each step into one along the manifold: a hook before it projects gradients, one behind it moves the weights.

        Raises:
            UserError: the optimizer needs second derivatives or parts of the rows.
        """
        weights = [place.weight for place in places if not _moved_by(optimizer, place.weight)]
        if not weights:
            return []
        if getattr(optimizer, "needs", None):
            raise UserError(
                f"{type(optimizer).__name__.lower()} asks for the curvature of the loss, which is another one along "
                "orthonormal weights; use method = 'exponential' with it, or an optimizer that asks for gradients alone"
            )
        step = _Step(weights)

        def before(
            stepping: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            step.start()
            closure = args[1] if len(args) > 1 else kwargs.get("closure")
            if closure is None:
                step.project_gradients()
                return args, kwargs

            def projected() -> Any:
                loss = closure()
                if isinstance(loss, Tensor) and loss.requires_grad and _without_gradients(stepping):
                    loss.backward()  # the closure has left that to the optimizer
                step.project_gradients()
                return loss

            if len(args) > 1:
                return (args[0], projected, *args[2:]), kwargs
            return args, {**kwargs, "closure": projected}

        def behind(stepped: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            step.finish()

        return [optimizer.register_step_pre_hook(before), optimizer.register_step_post_hook(behind)]


def _moved_by(optimizer: Optimizer, weight: Tensor) -> bool:
    """Whether an optimizer keeps a weight orthonormal by itself."""
    return "orthonormal" in optimizer.defaults and any(
        group["orthonormal"] and any(p is weight for p in group["params"]) for group in optimizer.param_groups
    )


def _without_gradients(optimizer: Optimizer) -> bool:
    return all(p.grad is None for group in optimizer.param_groups for p in group["params"])


class _Step:
    """One step of weights that are held: where it starts, its gradients made tangent there, and where it ends."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self._weights = list(weights)
        self._stacks: list[tuple[list[Tensor], Tensor]] = []

    @torch.no_grad()
    def start(self) -> None:
        """Remember where the weights are."""
        stacks = [[self._weights[index] for index in places] for places in equally_shaped(self._weights)]
        self._stacks = [(members, frames_of(members)) for members in stacks]

    @torch.no_grad()
    def project_gradients(self) -> None:
        """Take from each gradient what is not tangent, in place."""
        for members, frames in self._stacks:
            found = [(index, p.grad) for index, p in enumerate(members) if p.grad is not None]
            if not found:
                continue
            places, gradients = zip(*found, strict=True)
            if any(gradient.is_sparse for gradient in gradients):
                raise UserError("orthogonal with method = 'cayley' does not take sparse gradients")
            at = frames if len(found) == len(members) else frames[list(places)]
            put_frames_(gradients, tangent(at, frames_of(gradients)).at(at))

    @torch.no_grad()
    def finish(self) -> None:
        """Go along the manifold where the optimizer went straight."""
        for members, frames in self._stacks:
            moved = cayley(frames, tangent(frames, frames_of(members) - frames))
            # Twice: what is hooked in before may have changed the size of the weights where the step started.
            put_frames_(members, polished(moved, 2))
        self._stacks = []
