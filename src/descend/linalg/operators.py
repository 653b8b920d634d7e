"""Curvature matrices as linear operators: products with vectors by double differentiation, without forming the matrix.

With F the loss, z(w) the outputs and w the parameters, n in all (vectors are flat, of n entries):

=================== ================================== ==========================================================
operator            matrix                             properties
=================== ================================== ==========================================================
Hessian             d²F/dw²                            symmetric, possibly indefinite
GaussNewton         Jᵀ (d²F/dz²) J,  J = dz/dw          positive semidefinite where F is convex in z
EmpiricalFisher     1/b Σ gᵢ gᵢᵀ,  gᵢ = dlossᵢ/dw       positive semidefinite, rank at most b
=================== ================================== ==========================================================

The graph of the first derivative is recorded once, when the operator is constructed; every product is one pass through
that graph. Hence all products of an operator use the same rows and the same random numbers, and an operator must not be
used after one of its parameters has been modified in place.

The Fisher matrix under the model's own distribution equals the Gauss-Newton matrix for cross-entropy, for binary
cross-entropy on logits, and for the squared error as the negative log-likelihood of a normal distribution (Martens 2020,
section 9). For any other loss it can be estimated by the empirical Fisher matrix with targets sampled from the model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from descend.linalg.vectors import flat, views

__all__ = ["EmpiricalFisher", "GaussNewton", "Hessian", "Jacobian", "derivatives"]


class Hessian:
    """Products with the second derivative of a loss (Pearlmutter 1994), by a second backward pass.

    Args:
        loss: 0-dimensional, with its graph.
        parameters: tensors to differentiate with respect to; the derivatives are zero where the loss does not depend on one,
            and for frozen ones (``requires_grad=False``).

    Attributes:
        gradient: dF/dw, (n,), a by-product.

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
        """Multiply the matrix with ``vector``, (n,)."""
        # A first derivative without a graph is constant, so its derivative is zero.
        pairs = zip(self._first, _parts(vector, self._parameters), strict=True)
        curved = [(first, part) for first, part in pairs if first.requires_grad]
        if not curved:
            return torch.zeros_like(vector)
        firsts, parts = zip(*curved, strict=True)
        return flat(derivatives(firsts, self._parameters, parts, retain_graph=True)).to(vector.dtype)


class Jacobian:
    """Products with the Jacobian J = dz/dw of outputs and with its transpose.

    The product J v is the derivative of (Jᵀ u) · v with respect to u, which is linear in u: two backward passes.

    Args:
        outputs: z, of any shape, with its graph.
        parameters: w.

    >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> jacobian = Jacobian(w**2, [w])
    >>> jacobian.times(torch.ones(2)), jacobian.transposed_times(torch.tensor([1.0, 0.0]))
    (tensor([2., 4.]), tensor([2., 0.]))
    """

    def __init__(self, outputs: Tensor, parameters: Sequence[Tensor]) -> None:
        self._outputs, self._parameters = outputs, list(parameters)
        self._dual = torch.zeros_like(outputs, requires_grad=True)
        self._pulled = derivatives(outputs, self._parameters, self._dual, create_graph=True)

    def times(self, vector: Tensor) -> Tensor:
        """Return J v, in the shape of the outputs, for ``vector`` v, (n,)."""
        parts = _parts(vector, self._parameters)
        pairs = [(each, part) for each, part in zip(self._pulled, parts, strict=True) if each.requires_grad]
        if not pairs:
            return torch.zeros_like(self._outputs)
        pulled, parts = map(list, zip(*pairs, strict=True))
        (pushed,) = torch.autograd.grad(pulled, self._dual, parts, retain_graph=True, materialize_grads=True)
        return pushed

    def transposed_times(self, cotangent: Tensor) -> Tensor:
        """Return Jᵀ u, (n,), for ``cotangent`` u in the shape of the outputs."""
        return flat(derivatives(self._outputs, self._parameters, cotangent, retain_graph=True))


class GaussNewton:
    """Products with the generalized Gauss-Newton matrix Jᵀ (d²F/dz²) J (Schraudolph 2002).

    Args:
        loss: 0-dimensional, computed from ``outputs``, with its graph.
        outputs: z, with its graph.
        parameters: w. The matrix only contains the dependence of the loss on them through the outputs; further terms, such
            as a penalty, do not enter it.

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
        """Multiply the matrix with ``vector``, (n,)."""
        if not self._outer.requires_grad:
            return torch.zeros_like(vector)
        (curved,) = torch.autograd.grad(
            self._outer,
            self._outputs,
            self._jacobian.times(vector),
            retain_graph=True,
            materialize_grads=True,
        )
        return self._jacobian.transposed_times(curved).to(vector.dtype)


class EmpiricalFisher:
    """Products with 1/b Σ gᵢ gᵢᵀ, the mean over rows of the outer products of their gradients.

    It does not approximate the Hessian away from a perfect fit (Kunstner, Balles and Hennig 2019): with the targets of the
    data, the gᵢ shrink as the fit improves, whatever the curvature.

    Args:
        losses: loss of each row, (b,), with its graph.
        parameters: w.

    >>> w = torch.tensor([1.0, 1.0], requires_grad=True)
    >>> EmpiricalFisher(torch.eye(2) @ w, [w])(torch.ones(2))
    tensor([0.5000, 0.5000])
    """

    def __init__(self, losses: Tensor, parameters: Sequence[Tensor]) -> None:
        self._jacobian, self._rows = Jacobian(losses, parameters), losses.numel()

    def __call__(self, vector: Tensor) -> Tensor:
        """Multiply the matrix with ``vector``, (n,)."""
        product = self._jacobian.transposed_times(self._jacobian.times(vector)) / self._rows
        return product.to(vector.dtype)


def _gradients(value: Tensor, by: Sequence[Tensor]) -> Sequence[Tensor]:
    return derivatives(value, by, create_graph=True)


def _parts(vector: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Split a vector into the shapes and dtypes of the parameters, which may have less precision."""
    return [part.to(p.dtype) for part, p in zip(views(vector, parameters), parameters, strict=True)]


def derivatives(
    values: Tensor | Sequence[Tensor],
    by: Sequence[Tensor],
    cotangents: Tensor | Sequence[Tensor] | None = None,
    *,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> Sequence[Tensor]:
    """Return vector-Jacobian products, which are zero for frozen tensors: autograd refuses to differentiate by those."""
    trained = [each for each in by if each.requires_grad]
    if not trained:
        return [torch.zeros_like(each) for each in by]
    computed = torch.autograd.grad(
        values,
        trained,
        cotangents,
        retain_graph=retain_graph,
        create_graph=create_graph,
        materialize_grads=True,
    )
    if len(trained) == len(by):
        return computed
    remaining = iter(computed)
    return [next(remaining) if each.requires_grad else torch.zeros_like(each) for each in by]
