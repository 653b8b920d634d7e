"""Orthonormal weights kept by steps along the Stiefel manifold, whatever the optimizer.

A step starts at frames X, and what an optimizer puts in their place is taken for X + D: D are coordinates. The weights that are
meant are

    R(D) = (I − W/2)⁻¹ (I + W/2) X,    W X = P(D) the tangent part of D at X

(:mod:`descend.linalg.stiefel`), and the loss that the optimizer sees is φ(D) = F(R(D)), with its gradient
∇φ(D) = DR(D)ᵀ ∇F(R(D)), which is P(∇F(X)) at D = 0. So what a line search tries, F along t ↦ R(t D) with the slope
∇F · dR(t D)/dt, is what the step does. φ is an ordinary smooth function for the length of a step, and pairs of its gradients and
displacements are pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from descend.constraints.base import Constraint, Place
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

__all__ = ["Cayley"]


class Cayley(Constraint):
    """A step along the manifold of orthonormal frames in place of the optimizer's step, by Cayley's transform.

    The optimizer sees the tangent part of the gradient at the frame X where the step starts, so that it comes to rest where
    the loss has no slope along the manifold. Where it then goes from X to X + D, the weight goes to (I − W/2)⁻¹ (I + W/2) X,
    with W X the tangent part of D (:mod:`descend.linalg.stiefel`).

    An optimizer that evaluates its closure elsewhere than where the step starts, as line searches do, is shown loss and
    gradient of where X + D leads: it accepts what happens.

    Weights that an optimizer keeps orthonormal by itself, those in groups with ``orthonormal=True`` of
    :class:`descend.optim.CayleyAdam` and its like, are left to it. Optimizers that ask for curvature are refused, since
    theirs is not that of the manifold.
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
        """Turn each step into one along the manifold: by hooks before and behind it, and around its closure.

        Raises:
            UserError: the optimizer needs second derivatives.
        """
        weights = [place.weight for place in places if not _moved_by(optimizer, place.weight)]
        if not weights:
            return []
        if set(getattr(optimizer, "needs", ())) - {"part"}:
            _refuse_curvature(optimizer)
        step = _Step(weights)

        def before(
            stepping: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            step.start()
            closure = args[1] if len(args) > 1 else kwargs.get("closure")
            if closure is None:
                step.project_gradients()
                return args, kwargs
            along = _along(closure, step, stepping)
            if len(args) > 1:
                return (args[0], along, *args[2:]), kwargs
            return args, {**kwargs, "closure": along}

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


def _refuse_curvature(optimizer: Optimizer) -> NoReturn:
    name = getattr(optimizer, "name", type(optimizer).__name__.lower())
    raise UserError(
        f"{name} asks for the curvature of the loss, which is another one along "
        "orthonormal weights; use method = 'exponential' with it, or an optimizer that asks for gradients alone, "
        "such as lbfgs, cg, gd or adamw"
    )


OFFERS = ("value", "differentiable", "linearized", "part")
"""What a closure has that offers more than its gradient; see :mod:`descend.optim.evaluation`."""


def _along(closure: Callable[[], Any], step: _Step, stepping: Optimizer) -> Callable[[], Any]:
    """The closure at the weights that the optimizer's are coordinates of; it offers what it offered."""
    found = _Along(closure, step, stepping)
    return found if all(hasattr(closure, name) for name in OFFERS) else found.__call__


class _Along:
    """An objective as a function of the coordinates D: φ and its gradient, on the same rows as the objective."""

    def __init__(self, closure: Any, step: _Step, stepping: Optimizer) -> None:
        self._closure, self._step, self._stepping = closure, step, stepping

    def __call__(self) -> Any:
        """The loss where the step would lead; its gradient by the coordinates is left in ``.grad``."""
        with self._step.there() as moved:
            old = [(p.grad, None if p.grad is None else p.grad._version) for p in self._step.weights]
            loss = self._closure()
            if isinstance(loss, Tensor) and loss.requires_grad and _without_gradients(self._stepping):
                loss.backward()  # the closure has left that to the optimizer
        if not moved:
            self._step.project_gradients()
            return loss
        # A closure of the loss alone leaves gradients of an earlier call, which are by the coordinates already.
        self._step.pull_back(
            p
            for p, (gradient, version) in zip(self._step.weights, old, strict=True)
            if p.grad is not None and (p.grad is not gradient or p.grad._version != version)
        )
        return loss

    def value(self) -> Tensor:
        """The loss alone."""
        with self._step.there():
            found: Tensor = self._closure.value()
        return found

    def part(self, share: float, *, nested: bool = False) -> _Along:
        """The same on a random share of the rows."""
        return _Along(self._closure.part(share, nested=nested), self._step, self._stepping)

    def differentiable(self) -> Tensor:
        """Refused: the graph would be by the weights, not by the coordinates."""
        _refuse_curvature(self._stepping)

    def linearized(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Refused, as :meth:`differentiable`."""
        _refuse_curvature(self._stepping)


class _Step:
    """One step of weights that are held: where it starts, what its coordinates stand for, and where it ends."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self.weights = list(weights)
        self._stacks: list[tuple[list[Tensor], Tensor]] = []
        self._versions: list[tuple[int, int]] = []

    @torch.no_grad()
    def start(self) -> None:
        """Remember where the weights are."""
        stacks = [[self.weights[index] for index in places] for places in equally_shaped(self.weights)]
        self._stacks = [(members, frames_of(members)) for members in stacks]
        self._versions = self._changes()

    @contextmanager
    def there(self) -> Iterator[bool]:
        """The weights at R(D) while within, then at X + D again, to the bit; whether they are elsewhere than at X.

        At X they stay as they are.
        """
        if not self._elsewhere():
            yield False
            return
        went = [weight.detach().clone() for weight in self.weights]
        self._go()
        try:
            yield True
        finally:
            torch._foreach_copy_([weight.detach() for weight in self.weights], went)

    @torch.no_grad()
    def project_gradients(self) -> None:
        """Take from each gradient at X what is not tangent, in place."""
        for members, frames in self._stacks:
            found = _with_gradients(members, frames)
            if found is not None:
                moving, at = found
                gradients = _gradients(moving)
                put_frames_(gradients, tangent(at, frames_of(gradients)).at(at))

    @torch.no_grad()
    def pull_back(self, weights: Iterable[Tensor]) -> None:
        """Turn the gradients of some weights at R(D) into those by D, in place."""
        wanted = {id(weight) for weight in weights}
        for members, frames in self._stacks:
            found = _with_gradients(members, frames, wanted)
            if found is not None:
                moving, at = found
                gradients = _gradients(moving)
                step = tangent(at, frames_of(moving) - at)
                put_frames_(gradients, cayley_adjoint(at, step, frames_of(gradients)))

    def finish(self) -> None:
        """Go along the manifold where the optimizer went straight."""
        self._go()
        self._stacks = []

    @torch.no_grad()
    def _go(self) -> None:
        for members, frames in self._stacks:
            moved = cayley(frames, tangent(frames, frames_of(members) - frames))
            # Twice: what is hooked in before may have changed the size of the weights where the step started.
            put_frames_(members, polished(moved, 2))

    def _elsewhere(self) -> bool:
        """Whether the weights are elsewhere than at X.

        Mostly that is told by PyTorch's count of a tensor's changes, for which nobody waits. What is written through
        ``.data``, as older optimizers do, is not counted; on the CPU the numbers are looked at. Elsewhere one would have to
        wait for the device, and such an optimizer is only seen if it puts another tensor there.
        """
        if self._changes() != self._versions:
            return True
        return any(
            frames.device.type == "cpu" and not torch.equal(frames_of(members), frames)
            for members, frames in self._stacks
        )

    def _changes(self) -> list[tuple[int, int]]:
        return [(weight._version, weight.data_ptr()) for weight in self.weights]


def _with_gradients(
    members: list[Tensor], frames: Tensor, wanted: Container[int] | None = None
) -> tuple[list[Tensor], Tensor] | None:
    """Those of a stack's weights that have gradients, and are wanted, with their frames; None where there are none."""
    places = [
        place for place, p in enumerate(members) if p.grad is not None and (wanted is None or id(p) in wanted)
    ]
    if not places:
        return None
    if len(places) == len(members):
        return members, frames
    return [members[place] for place in places], frames[places]


def _gradients(weights: Sequence[Tensor]) -> list[Tensor]:
    found = [p.grad for p in weights if p.grad is not None]
    if any(gradient.is_sparse for gradient in found):
        raise UserError("orthogonal with method = 'cayley' does not take sparse gradients")
    return found
