"""What an optimizer's step may ask of its objective.

The objective is the closure of ``torch.optim``. It comes in two forms:

- any function that returns the loss. It may have called ``backward()``, which leaves gradients in ``.grad``; where it has
  not, that is done for it. Methods that differentiate twice need the loss with its graph, so for them it must not.
- an object that is called likewise, and offers more: ``value()``, the loss alone; ``differentiable()``, the loss with its
  graph; ``linearized()``, loss, outputs and penalty with their graphs; ``part(share)``, the same on a part of the rows.
  :class:`descend.optim.Rows` is one for a model, a loss and a batch, and the objective of descend's loop is one.

However often it is evaluated within a step, it sees the same rows and the same random numbers: an object sees to that
itself, for a function :class:`Evaluations` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from descend.errors import UserError
from descend.linalg import GaussNewton, Hessian, flat

__all__ = ["Closure", "Curvature", "Evaluations", "Gradient", "Need", "RichClosure", "Sum"]

Closure = Callable[[], Any]
"""What ``step`` is given: a function that returns the loss, or a :class:`RichClosure`."""

Need = Literal["graph", "outputs", "part"]
"""What an optimizer needs beside losses and gradients: the loss with its graph, outputs with theirs, parts of the rows."""

PRODUCT = 2.0
"""Gradients that a product with a Hessian or a Gauss-Newton matrix counts for: two backward passes through two graphs."""


@runtime_checkable
class RichClosure(Protocol):
    """An objective that offers more than its gradient. All of it sees the same rows and random numbers."""

    def __call__(self) -> Tensor:
        """The loss, detached; its gradient is left in ``.grad``."""

    def value(self) -> Tensor:
        """The loss, detached, without a gradient."""

    def differentiable(self) -> Tensor:
        """The loss with its graph."""

    def linearized(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Mean loss, the outputs that it depends on the parameters by, and what is added to it, with their graphs."""

    def part(self, share: float, *, nested: bool = False) -> RichClosure:
        """The objective on a random share of the rows: anew at each step, or one that grows with the share."""


class Gradient:
    """A gradient at a point.

    Attributes:
        loss: as the closure returned it.
        vector: dF/dw, (n,); zero where there is none.
        missing: per entry whether there is no gradient, (n,); None if there is one for all.
        empty: whether there is none for any parameter: then no step is to be taken.
    """

    def __init__(self, loss: Any, parameters: Sequence[Tensor]) -> None:
        self.loss = loss
        found = [p.grad for p in parameters]
        self.empty = all(gradient is None for gradient in found)
        self.vector = flat(
            [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]
        )
        self.missing: Tensor | None = None
        if any(gradient is None for gradient in found):
            marks = [
                torch.full(p.shape, g is None, device=p.device)
                for g, p in zip(found, parameters, strict=True)
            ]
            self.missing = flat(marks)

    @property
    def number(self) -> float:
        """The loss. Waits for the device."""
        return float(self.loss.detach() if isinstance(self.loss, Tensor) else self.loss)


class Curvature(Protocol):
    """A matrix as products: the loss where it was taken, its gradient there, and vectors multiplied."""

    loss: Tensor
    gradient: Tensor

    def __call__(self, vector: Tensor) -> Tensor:
        """The product with ``vector``, (n,)."""


class Sum:
    """The curvature of a sum of terms; its loss and gradient are those given.

    Each product is reported to ``count``, in gradients.
    """

    def __init__(
        self,
        loss: Tensor,
        gradient: Tensor,
        products: Sequence[Callable[[Tensor], Tensor]],
        count: Callable[[float], None],
    ) -> None:
        self.loss, self.gradient, self._products, self._count = loss, gradient, products, count

    def __call__(self, vector: Tensor) -> Tensor:
        """The product with ``vector``, (n,)."""
        self._count(PRODUCT)
        first, *others = (product(vector) for product in self._products)
        for other in others:
            first = first + other
        return first


class Evaluations:
    """The evaluations of an objective in one step, all on the same rows and with the same random numbers.

    Args:
        closure: what ``step`` was given.
        parameters: that are differentiated by.
        who: the optimizer's name, for messages.

    >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> asked = Evaluations(lambda: (w**2).sum(), [w], "newton")
    >>> asked.gradient().vector, asked.hessian()(torch.ones(2))
    (tensor([2., 4.]), tensor([2., 2.]))
    """

    def __init__(self, closure: Closure, parameters: Sequence[Tensor], who: str) -> None:
        self.closure, self.parameters, self._who = closure, list(parameters), who
        self._rich = closure if isinstance(closure, RichClosure) else None
        self._random: list[Tensor] | None = None

    def gradient(self) -> Gradient:
        """Loss and gradient where the parameters are now."""
        for p in self.parameters:
            p.grad = None
        loss = self._call()
        if isinstance(loss, Tensor) and loss.requires_grad and all(p.grad is None for p in self.parameters):
            loss.backward()
        if any(p.grad is not None and p.grad.is_sparse for p in self.parameters):
            raise UserError(
                f"{self._who} moves every coordinate, and does not take sparse gradients; use sparse_adam"
            )
        return Gradient(loss, self.parameters)

    def value(self) -> float:
        """The loss where the parameters are now. Waits for the device."""
        if self._rich is not None:
            return float(self._rich.value())
        loss = self._call()
        return float(loss.detach() if isinstance(loss, Tensor) else loss)

    def check_graph(self, loss: Any) -> None:
        """Refuse a loss without a graph at the first step, and not only when a second derivative is due.

        Args:
            loss: as :meth:`gradient` found it.

        Raises:
            UserError: it is of a function, and has no graph.
        """
        if self._rich is None and not (isinstance(loss, Tensor) and loss.requires_grad):
            raise self._no_graph()

    def hessian(self) -> Curvature:
        """The Hessian where the parameters are now, with the loss and the gradient there.

        Raises:
            UserError: the loss has no graph, or has lost it.
        """
        loss = self._graphed()
        try:
            product = Hessian(loss, self.parameters)
        except RuntimeError as cause:
            raise self._no_graph() from cause
        return Sum(loss.detach(), product.gradient, [product], self._count)

    def gauss_newton(self) -> Curvature:
        """The Gauss-Newton matrix of the loss and the Hessian of what is added to it, with F and its gradient.

        Raises:
            UserError: the closure does not give its outputs.
        """
        if self._rich is None:
            raise UserError(
                f"{self._who} needs the network's outputs, which a function that returns the loss does not give; "
                "step with descend.optim.Rows(model, loss, inputs, targets)"
            )
        with torch.enable_grad():
            loss, outputs, added = self._rich.linearized()
        product = GaussNewton(loss, outputs, self.parameters)
        gradient = flat(torch.autograd.grad(loss, self.parameters, retain_graph=True, materialize_grads=True))
        if added is None or not added.requires_grad:
            value = loss if added is None else loss + added
            return Sum(value.detach(), gradient, [product], self._count)
        beside = Hessian(added, self.parameters)
        value = (loss + added).detach()
        return Sum(value, gradient + beside.gradient, [product, beside], self._count)

    def part(self, share: float, *, nested: bool = False) -> Evaluations:
        """Evaluations on a random share of the rows; with a share of 1, these.

        Raises:
            UserError: the closure cannot be evaluated on a part.
        """
        if share >= 1:
            return self
        if self._rich is None:
            raise UserError(
                f"{self._who} evaluates a part of the rows, and a function that returns the loss has no parts; "
                "step with descend.optim.Rows(model, loss, inputs, targets), or set the share to 1"
            )
        return Evaluations(self._rich.part(share, nested=nested), self.parameters, self._who)

    def _call(self) -> Any:
        if self._rich is None:
            self._rewind()
        with torch.enable_grad():
            return self.closure()

    def _graphed(self) -> Tensor:
        if self._rich is not None:
            with torch.enable_grad():
                return self._rich.differentiable()
        held = [p.grad for p in self.parameters]
        loss = self._call()
        for p, gradient in zip(self.parameters, held, strict=True):
            p.grad = gradient
        if not isinstance(loss, Tensor) or not loss.requires_grad:
            raise self._no_graph()
        return loss

    def _no_graph(self) -> UserError:
        return UserError(
            f"{self._who} differentiates the loss twice, so the function given to step must return it with its graph "
            "and must not call backward(): optimizer.step(lambda: loss(model(x), y)); bfgs, lbfgs and adam need no graph"
        )

    def _rewind(self) -> None:
        """The same random numbers for each call of a function: the state before the first is put back."""
        devices = [p.device for p in self.parameters if p.device.type == "cuda"][:1]
        if self._random is None:
            self._random = [torch.get_rng_state(), *(torch.cuda.get_rng_state(d) for d in devices)]
            return
        torch.set_rng_state(self._random[0])
        for device, state in zip(devices, self._random[1:], strict=True):
            torch.cuda.set_rng_state(state, device)

    def _count(self, gradients: float) -> None:
        report = getattr(self.closure, "spend", None)
        if report is not None:
            report(gradients)
