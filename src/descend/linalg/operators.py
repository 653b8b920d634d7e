"""Curvature as products with vectors, by differentiating twice; no matrix is ever formed.

With F the loss, z(w) the outputs and w the parameters, n in all (vectors are flat, of n entries):

=================== ================================== ==========================================================
operator            matrix                             like
=================== ================================== ==========================================================
Hessian             d²F/dw²                            symmetric, of any sign
GaussNewton         Jᵀ (d²F/dz²) J,  J = dz/dw          positive semidefinite where F is convex in z
EmpiricalFisher     1/b Σ gᵢ gᵢᵀ,  gᵢ = dlossᵢ/dw       positive semidefinite, rank at most b
=================== ================================== ==========================================================

The graph of the first derivative is recorded once, when an operator is made; every product is a pass through it.
So all products of an operator see the same rows and the same random numbers, and a parameter that is changed in
place must not be multiplied with an operator made before.

The Fisher matrix under the model's own distribution is the Gauss-Newton matrix of cross-entropy, of binary
cross-entropy on logits, and of the squared error as the likelihood of a normal distribution (Martens 2020,
section 9); of any other loss it is estimated by the empirical one with targets drawn from the model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from descend.linalg.vectors import flat, views

__all__ = ["EmpiricalFisher", "GaussNewton", "Hessian", "Jacobian"]


class Hessian:
    """Products with the second derivative of a loss (Pearlmutter 1994), by a second backward pass.

    Args:
        loss: 0-dimensional, with its graph.
        parameters: that it is differentiated by; one on which it does not depend has derivatives of zero.

    Attributes:
        gradient: dF/dw, (n,), which is there anyway.

    >>> w = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    >>> product = Hessian(w[0] ** 2 * w[1], [w])
    >>> product.gradient.tolist(), product(torch.tensor([1.0, 0.0], dtype=torch.float64)).tolist()
    ([4.0, 1.0], [4.0, 2.0])
    """

    def __init__(self, loss: Tensor, parameters: Sequence[Tensor]) -> None:
        self._parameters = list(parameters)
        self._first = _gradients(loss, self._parameters)
        self.gradient = flat(self._first).detach()

    def __call__(self, vector: Tensor) -> Tensor:
        """The product with ``vector``, (n,)."""
        # A first derivative without a graph is constant: its own derivative is zero.
        pairs = zip(self._first, views(vector, self._parameters), strict=True)
        curved = [(first, part) for first, part in pairs if first.requires_grad]
        if not curved:
            return torch.zeros_like(vector)
        firsts, parts = zip(*curved, strict=True)
        seconds = torch.autograd.grad(
            firsts, self._parameters, parts, retain_graph=True, materialize_grads=True
        )
        return flat(seconds)


class Jacobian:
    """Products with the derivative J = dz/dw of outputs, from both sides.

    Args:
        outputs: z, of any shape, with its graph.
        parameters: w.

    The product J v is the derivative by u of (Jᵀ u) · v, which is linear in u: two backward passes.

    >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> jacobian = Jacobian(w**2, [w])
    >>> jacobian.times(torch.ones(2)), jacobian.transposed_times(torch.tensor([1.0, 0.0]))
    (tensor([2., 4.]), tensor([2., 0.]))
    """

    def __init__(self, outputs: Tensor, parameters: Sequence[Tensor]) -> None:
        self._outputs, self._parameters = outputs, list(parameters)
        self._dual = torch.zeros_like(outputs, requires_grad=True)
        self._pulled = torch.autograd.grad(
            outputs, self._parameters, self._dual, create_graph=True, materialize_grads=True
        )

    def times(self, vector: Tensor) -> Tensor:
        """J v in the shape of the outputs, for ``vector`` v, (n,)."""
        parts = views(vector, self._parameters)
        (pushed,) = torch.autograd.grad(
            self._pulled, self._dual, parts, retain_graph=True, materialize_grads=True
        )
        return pushed

    def transposed_times(self, cotangent: Tensor) -> Tensor:
        """Jᵀ u, (n,), for ``cotangent`` u in the shape of the outputs."""
        return flat(
            torch.autograd.grad(
                self._outputs, self._parameters, cotangent, retain_graph=True, materialize_grads=True
            )
        )


class GaussNewton:
    """Products with the generalised Gauss-Newton matrix Jᵀ (d²F/dz²) J (Schraudolph 2002).

    Args:
        loss: 0-dimensional, computed from ``outputs``, with its graph.
        outputs: z, with its graph.
        parameters: w. The loss may depend on them by the outputs alone: what it holds beside, such as a
            penalty, is not in the matrix.

    >>> w = torch.tensor([3.0], requires_grad=True)
    >>> outputs = w**2
    >>> GaussNewton((outputs**2).sum() / 2, outputs, [w])(torch.ones(1))  # (2 w)²; the Hessian is 6 w²
    tensor([36.])
    """

    def __init__(self, loss: Tensor, outputs: Tensor, parameters: Sequence[Tensor]) -> None:
        self._jacobian = Jacobian(outputs, parameters)
        self._outer = _gradients(loss, [outputs])[0]
        self._outputs = outputs

    def __call__(self, vector: Tensor) -> Tensor:
        """The product with ``vector``, (n,)."""
        if not self._outer.requires_grad:
            return torch.zeros_like(vector)
        (curved,) = torch.autograd.grad(
            self._outer,
            self._outputs,
            self._jacobian.times(vector),
            retain_graph=True,
            materialize_grads=True,
        )
        return self._jacobian.transposed_times(curved)


class EmpiricalFisher:
    """Products with 1/b Σ gᵢ gᵢᵀ, the mean over rows of the outer products of their gradients.

    It is no approximation of the Hessian away from a perfect fit (Kunstner, Balles and Hennig 2019): with the data's
    own targets the gᵢ shrink as the fit gets better, whatever the curvature.

    Args:
        losses: of each row, (b,), with their graph.
        parameters: w.

    >>> w = torch.tensor([1.0, 1.0], requires_grad=True)
    >>> EmpiricalFisher(torch.eye(2) @ w, [w])(torch.ones(2))
    tensor([0.5000, 0.5000])
    """

    def __init__(self, losses: Tensor, parameters: Sequence[Tensor]) -> None:
        self._jacobian, self._rows = Jacobian(losses, parameters), losses.numel()

    def __call__(self, vector: Tensor) -> Tensor:
        """The product with ``vector``, (n,)."""
        return self._jacobian.transposed_times(self._jacobian.times(vector)) / self._rows


def _gradients(value: Tensor, by: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(value, by, create_graph=True, materialize_grads=True)
