"""Evaluations of the objective within an optimizer step: losses, gradients and curvature.

The objective is the closure of ``torch.optim``. It has one of two forms:

- a function that returns the loss. It may call ``backward()``, which stores gradients in ``.grad``; otherwise that is done
  for it. Methods that differentiate twice need the loss with its graph, so for them it must not call ``backward()``.
- a callable object that provides more: ``value()``, the loss alone; ``differentiable()``, the loss with its graph;
  ``linearized()``, loss, outputs and penalty with their graphs; ``part(share)``, the same on a fraction of the rows.
  :class:`descend.optim.Rows` is one for a model, a loss and a batch; the objective of descend's training loop is another.

All evaluations within a step use the same rows and the same random numbers. An object ensures this itself; for a function,
:class:`Evaluations` does.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from numbers import Real
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from descend.errors import UserError
from descend.linalg import GaussNewton, Hessian, flat
from descend.linalg.operators import derivatives
from descend.linalg.vectors import wide

__all__ = ["Closure", "Curvature", "Evaluations", "Gradient", "Need", "RichClosure", "Sum"]

Closure = Callable[[], Any]
"""The argument of ``step``: a function that returns the loss, or a :class:`RichClosure`."""

Need = Literal["graph", "outputs", "part"]
"""What an optimizer needs in addition to losses and gradients: the loss or the outputs with their graphs, or subsets of rows."""

PRODUCT = 2.0
"""Cost of a product with a Hessian or Gauss-Newton matrix in units of a gradient: backward passes through two graphs."""


@runtime_checkable
class RichClosure(Protocol):
    """An objective that provides more than its gradient. All evaluations use the same rows and random numbers."""

    def __call__(self) -> Tensor:
        """Return the detached loss, and store its gradient in ``.grad``."""

    def value(self) -> Tensor:
        """Return the detached loss, without a gradient."""

    def differentiable(self) -> Tensor:
        """Return the loss with its graph."""

    def linearized(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the mean loss, the outputs through which it depends on the parameters, and further terms, with their graphs."""

    def part(self, share: float, *, nested: bool = False) -> RichClosure:
        """Return the objective on a fraction of the rows: a new random sample at each step, or one that contains smaller ones."""


class Gradient:
    """The loss and its gradient at a point.

    Attributes:
        loss: as the closure returned it.
        vector: dF/dw, (n,), zero for parameters without a gradient; in single precision for parameters of half precision.
        missing: for each entry, whether its parameter has no gradient, (n,); None if all have one.
        empty: whether no parameter has a gradient, so that no step is taken.
    """

    def __init__(self, loss: Any, parameters: Sequence[Tensor]) -> None:
        self.loss = loss
        gradients = [p.grad for p in parameters]
        self.empty = all(gradient is None for gradient in gradients)
        self.vector = wide(
            flat(
                [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)]
            )
        )
        self.missing: Tensor | None = None
        if any(gradient is None for gradient in gradients):
            masks = [
                torch.full(p.shape, g is None, device=p.device)
                for g, p in zip(gradients, parameters, strict=True)
            ]
            self.missing = flat(masks)

    @property
    def number(self) -> float:
        """The loss as a number. Synchronizes with the device."""
        return _number(self.loss)


class Curvature(Protocol):
    """A curvature matrix as a linear operator, with the loss and the gradient at the same point."""

    loss: Tensor
    gradient: Tensor

    def __call__(self, vector: Tensor) -> Tensor:
        """Multiply the matrix with ``vector``, (n,)."""


class Sum:
    """The sum of several curvature operators, with the given loss and gradient.

    ``count`` is called with the cost of each product, in units of a gradient.
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
        """Multiply the matrix with ``vector``, (n,)."""
        self._count(PRODUCT)
        first, *others = (product(vector) for product in self._products)
        for other in others:
            first = first + other
        return first


class Evaluations:
    """The evaluations of an objective in one step, all on the same rows and with the same random numbers.

    Args:
        closure: the argument of ``step``.
        parameters: tensors to differentiate with respect to.
        name: name of the optimizer, for messages.
        settings: settings of a parameter group, which also hold ``samples``, the number of samples taken so far, for
            objectives that sample rows by number (:meth:`descend.optim.Rows.at_sample`). Default None.

    >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> objective = Evaluations(lambda: (w**2).sum(), [w], "newton")
    >>> objective.gradient().vector, objective.hessian()(torch.ones(2))
    (tensor([2., 4.]), tensor([2., 2.]))
    """

    def __init__(
        self,
        closure: Closure,
        parameters: Sequence[Tensor],
        name: str,
        settings: MutableMapping[str, Any] | None = None,
    ) -> None:
        self.closure, self.parameters, self._name = closure, list(parameters), name
        self._settings = {} if settings is None else settings
        self._rich = closure if isinstance(closure, RichClosure) else None
        self._random: list[Tensor] | None = None

    def gradient(self) -> Gradient:
        """Evaluate loss and gradient at the current parameters. Without any gradient, that of a detached tensor is 0.

        Raises:
            UserError: the closure does not return a number, or returns a Python number without having left a gradient; a
                gradient is sparse.
        """
        for p in self.parameters:
            p.grad = None
        loss = self._call()
        if isinstance(loss, Tensor) and loss.requires_grad and all(p.grad is None for p in self.parameters):
            loss.backward()
        elif self._rich is None and all(p.grad is None for p in self.parameters):
            self._check_gradient(loss)
        if any(p.grad is not None and p.grad.is_sparse for p in self.parameters):
            raise UserError(
                f"{self._name} moves every coordinate and does not support sparse gradients; use sparse_adam instead"
            )
        return Gradient(loss, self.parameters)

    def value(self) -> float:
        """Evaluate the loss at the current parameters. Synchronizes with the device."""
        if self._rich is not None:
            return float(self._rich.value())
        return _number(self._call())

    def check_graph(self, loss: Any) -> None:
        """Raise an error for a loss without a graph in the first step, rather than when a second derivative is first computed.

        Args:
            loss: the loss of the result of :meth:`gradient`.

        Raises:
            UserError: the closure is a function, and its loss has no graph.
        """
        if self._rich is None and not (isinstance(loss, Tensor) and loss.requires_grad):
            raise self._no_graph()

    def hessian(self) -> Curvature:
        """Evaluate the Hessian at the current parameters, with the loss and the gradient.

        Raises:
            UserError: the loss has no graph, or the graph has been freed.
        """
        loss = self._graphed()
        try:
            product = Hessian(loss, self.parameters)
        except RuntimeError as cause:
            raise self._no_graph() from cause
        return Sum(loss.detach(), product.gradient, [product], self._count)

    def gauss_newton(self) -> Curvature:
        """Evaluate the Gauss-Newton matrix of the loss plus the Hessian of further terms, with F and its gradient.

        Raises:
            UserError: the closure does not provide its outputs.
        """
        if self._rich is None:
            raise UserError(
                f"{self._name} needs the network's outputs, which a function that returns the loss does not provide; "
                "call step(descend.optim.Rows(model, loss, inputs, targets))"
            )
        with torch.enable_grad():
            loss, outputs, added = self._rich.linearized()
        product = GaussNewton(loss, outputs, self.parameters)
        gradient = flat(derivatives(loss, self.parameters, retain_graph=True))
        if added is None or not added.requires_grad:
            value = loss if added is None else loss + added
            return Sum(value.detach(), gradient, [product], self._count)
        hessian = Hessian(added, self.parameters)
        value = (loss + added).detach()
        return Sum(value, gradient + hessian.gradient, [product, hessian], self._count)

    def part(self, share: float, *, nested: bool = False) -> Evaluations:
        """Return evaluations on a fraction of the rows; with a fraction of 1, these evaluations themselves.

        Raises:
            UserError: the closure cannot be evaluated on subsets of the rows.
        """
        if share >= 1:
            return self
        if self._rich is None:
            raise UserError(
                f"{self._name} evaluates a subset of the rows, which a function that returns the loss does not support; "
                "call step(descend.optim.Rows(model, loss, inputs, targets)), or set sample_fraction=1"
            )
        at_sample = getattr(self._rich, "at_sample", None)
        if at_sample is not None and not nested:
            number = self._settings.get("samples", 0)
            self._settings["samples"] = number + 1
            at_sample(number)
        return Evaluations(self._rich.part(share, nested=nested), self.parameters, self._name)

    def _call(self) -> Any:
        if self._rich is None:
            self._rewind()
        with torch.enable_grad():
            loss = self.closure()
        if not _is_number(loss):
            raise UserError(
                f"{self._name}: expected the closure passed to step to return the loss, a tensor with one element or a real "
                f"number, got {_describe(loss)}; end the closure with: return loss"
            )
        return loss

    def _check_gradient(self, loss: Any) -> None:
        if not isinstance(loss, Tensor) and any(p.requires_grad for p in self.parameters):
            raise UserError(
                f"{self._name}: the closure passed to step left no gradient and returned a number without a graph; return the "
                "loss as it was computed from the model, without float(), .item() or .detach(), or call loss.backward() in it"
            )

    def _graphed(self) -> Tensor:
        if self._rich is not None:
            with torch.enable_grad():
                return self._rich.differentiable()
        gradients = [p.grad for p in self.parameters]
        loss = self._call()
        for p, gradient in zip(self.parameters, gradients, strict=True):
            p.grad = gradient
        if not isinstance(loss, Tensor) or not loss.requires_grad:
            raise self._no_graph()
        return loss

    def _no_graph(self) -> UserError:
        return UserError(
            f"{self._name} differentiates the loss twice, so the closure passed to step must return it with its graph "
            "and must not call backward(): optimizer.step(lambda: loss(model(x), y)); bfgs, lbfgs and adam need no graph"
        )

    def _rewind(self) -> None:
        """Reset the random state to that before the first call, so that every call of a function uses the same random numbers."""
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


def _is_number(loss: Any) -> bool:
    """Whether a value is a real number, or a tensor or array that holds exactly one."""
    if isinstance(loss, Tensor):
        return loss.numel() == 1 and not loss.is_complex()
    if getattr(loss, "size", 1) != 1:  # an array of NumPy
        return False
    return isinstance(loss, Real) or isinstance(getattr(loss, "item", lambda: None)(), Real)


def _number(loss: Any) -> float:
    return float(loss.detach() if isinstance(loss, Tensor) else loss)


def _describe(loss: Any) -> str:
    if loss is None:
        return "None"
    if isinstance(loss, Tensor):
        return f"a tensor of shape {tuple(loss.shape)} and dtype {loss.dtype}"
    return f"a value of type {type(loss).__name__}"
