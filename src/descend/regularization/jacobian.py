"""Penalties on input gradients: how much the outputs of a network, or its loss, change with its inputs.

All are means over the rows of a batch, and are differentiated once more with respect to the weights. Where rows depend
on each other, as through batch normalization, the derivative with respect to one row includes its effect on the outputs
of the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from descend.cards import method
from descend.errors import UserError
from descend.param_types import Count

__all__ = [
    "JacobianPenalty",
    "differentiable_inputs",
    "gradient_penalty",
    "jacobian_directions",
    "jacobian_penalty",
]

Projections = Count | Literal["exact"]


def differentiable_inputs(inputs: Tensor) -> Tensor:
    """Return the inputs as leaves of a graph, so that outputs can be differentiated with respect to them.

    Raises:
        UserError: the inputs are integers, which have no derivatives.

    >>> differentiable_inputs(torch.zeros(2, 3)).requires_grad
    True
    """
    if not inputs.is_floating_point():
        raise UserError(
            f"a gradient penalty differentiates with respect to the inputs, which must be real numbers, got integers "
            f"({inputs.dtype}); remove the penalty, or convert the inputs to floating point"
        )
    return inputs.detach().requires_grad_()


@method(
    row="G3",
    reference="Hoffman, Roberts and Yaida 2019",
    formula="1/n sum_i ||J(x_i)||_F^2, J the Jacobian of the raw outputs; estimated by K ||v^T J||^2, v uniform on "
    "the unit sphere of K dimensions",
    note="The paper has a factor of 1/2. The Jacobian is that of the raw outputs, before softmax or sigmoid.",
)
def jacobian_penalty(outputs: Tensor, inputs: Tensor, *, projections: Projections = 1) -> Tensor:
    """Mean over rows of ‖J(x)‖²_F, the squared Frobenius norm of the Jacobian of the outputs with respect to the inputs.

    With random unit vectors v_1, ..., v_p per row, the estimate K/p Σ_j ‖v_jᵀ J‖² is unbiased, since
    E v vᵀ = I/K, and costs one backward pass per projection; the exact penalty costs K passes.

    Args:
        outputs: (n, K), computed from ``inputs`` within a graph.
        inputs: (n, ...), with ``requires_grad``; see :func:`differentiable_inputs`.
        projections: p, or ``"exact"``. p ≥ K is computed exactly. Default 1, as in the paper. The vectors are sampled
            from torch's default generator of the device, which descend seeds at every step.

    Returns:
        A scalar that can be differentiated with respect to the weights.

    Raises:
        UserError: the outputs are not differentiable with respect to the inputs.

    >>> W = torch.tensor([[1.0, 2.0], [0.0, 3.0]])
    >>> x = torch.ones(5, 2, requires_grad=True)
    >>> jacobian_penalty(x @ W.T, x, projections="exact")      # ||W||_F^2
    tensor(14.)
    """
    directions, factor = jacobian_directions(outputs, projections)
    total = outputs.new_zeros(())
    for direction in directions:
        total = total + _input_gradient((direction * outputs).sum(), inputs).square().sum()
    return total * factor


def jacobian_directions(outputs: Tensor, projections: Projections) -> tuple[Tensor, float]:
    """Return directions v (p, n, K) and a factor c such that c Σ_ij ‖v_ijᵀ J(x_i)‖² estimates the mean of ‖J‖²_F.

    Args:
        outputs: (n, K).
        projections: as in :func:`jacobian_penalty`, which states the generator that the directions are sampled from.

    >>> directions, factor = jacobian_directions(torch.zeros(4, 2), "exact")
    >>> directions[:, 0].tolist(), factor
    ([[1.0, 0.0], [0.0, 1.0]], 0.25)
    """
    rows, width = outputs.shape
    if projections == "exact" or projections >= width:
        eye = torch.eye(width, dtype=outputs.dtype, device=outputs.device)
        return eye.unsqueeze(1).expand(width, rows, width), 1 / rows
    noise = torch.randn((projections, rows, width), dtype=outputs.dtype, device=outputs.device)
    return torch.nn.functional.normalize(noise, dim=2), width / (projections * rows)


@final
@dataclass(frozen=True)
class JacobianPenalty:
    """:func:`jacobian_penalty` times a strength, as a function of a batch.

    The type identifies the penalty, so that its gradient can be computed from a network's layers by hand
    (:mod:`descend.training.jacobian_chain`) instead of by differentiating twice with autograd.

    Args:
        strength: λ, by which the penalty is multiplied.
        projections: as in :func:`jacobian_penalty`.

    >>> W = torch.tensor([[1.0, 2.0], [0.0, 3.0]])
    >>> x = torch.ones(5, 2, requires_grad=True)
    >>> JacobianPenalty(0.5, "exact")(x, x @ W.T, torch.zeros(5))
    tensor(7.)
    """

    strength: float
    projections: Projections = 1

    def __call__(self, inputs: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the penalty of a batch whose outputs were computed from its inputs within a graph."""
        return self.strength * jacobian_penalty(outputs, inputs, projections=self.projections)


@method(
    row="G3",
    reference="Drucker and LeCun 1992; Varga, Csiszárik and Zombori 2017",
    formula="1/n sum_i ||d loss_i / d x_i||^2",
    note="Varga et al. penalize the gradient of the loss with respect to the inputs, and call it double backpropagation.",
)
def gradient_penalty(losses: Tensor, inputs: Tensor) -> Tensor:
    """Mean over rows of ‖∂loss/∂x‖², the squared gradient of each row's loss with respect to its input.

    Args:
        losses: (n,), the loss of each row, computed from ``inputs`` within a graph.
        inputs: (n, ...), with ``requires_grad``; see :func:`differentiable_inputs`.

    Returns:
        A scalar that can be differentiated with respect to the weights.

    Raises:
        UserError: the losses are not differentiable with respect to the inputs.

    >>> x = torch.ones(4, 3, requires_grad=True)
    >>> float(gradient_penalty((2 * x).sum(1), x))
    12.0
    """
    return _input_gradient(losses.sum(), inputs).square().sum() / len(losses)


def _input_gradient(value: Tensor, inputs: Tensor) -> Tensor:
    """Return the gradient of a scalar with respect to the inputs, with its graph."""
    if not value.requires_grad:
        gradient = None
    else:
        (gradient,) = torch.autograd.grad(value, inputs, create_graph=True, allow_unused=True)
    if gradient is None:
        raise UserError(
            "a gradient penalty needs outputs that are differentiable with respect to the inputs; the outputs of this "
            "network are not (does it round its inputs, or look them up in a table?)"
        )
    return gradient
