"""Penalties of the slope of the network's function: how much its outputs, or its loss, change with its inputs.

All are means over the rows of a batch, and are differentiated once more by the weights. Where rows depend on each
other, through a norm over the batch, the derivative by one row includes what it does to the outputs of the
others.
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
    """The inputs as the start of a graph, so that outputs can be differentiated by them.

    Raises:
        UserError: they are whole numbers, which have no small changes.

    >>> differentiable_inputs(torch.zeros(2, 3)).requires_grad
    True
    """
    if not inputs.is_floating_point():
        raise UserError(
            f"a penalty of the slope differentiates by the inputs, and these are whole numbers ({inputs.dtype}); "
            "leave it out, or give real numbers as inputs"
        )
    return inputs.detach().requires_grad_()


@method(
    row="G3",
    reference="Hoffman, Roberts and Yaida 2019",
    formula="1/n sum_i ||J(x_i)||_F^2, J the Jacobian of the raw outputs; estimated by K ||v^T J||^2, v uniform on "
    "the unit sphere of K dimensions",
    note="As the lecture prints it; the paper halves it. The raw outputs are meant, before softmax or sigmoid.",
)
def jacobian_penalty(outputs: Tensor, inputs: Tensor, *, projections: Projections = 1) -> Tensor:
    """Mean over rows of ‖J(x)‖²_F, the squared Jacobian of the outputs by the inputs.

    With random unit vectors v_1, ..., v_p per row the estimate K/p Σ_j ‖v_jᵀ J‖² has the right mean, since
    E v vᵀ = I/K, at the cost of one pass backward per projection; exactly it takes K passes.

    Args:
        outputs: (n, K), computed from ``inputs`` within a graph.
        inputs: (n, ...), with ``requires_grad``; see :func:`differentiable_inputs`.
        projections: p, or ``"exact"``. p ≥ K is computed exactly. Default 1, the paper's. The vectors come from
            torch's default generator of the device, which descend seeds at every step.

    Returns:
        A scalar that can be differentiated by the weights.

    Raises:
        UserError: the outputs do not depend on the inputs in a way that can be differentiated.

    >>> W = torch.tensor([[1.0, 2.0], [0.0, 3.0]])
    >>> x = torch.ones(5, 2, requires_grad=True)
    >>> jacobian_penalty(x @ W.T, x, projections="exact")      # ||W||_F^2
    tensor(14.)
    """
    directions, factor = jacobian_directions(outputs, projections)
    total = outputs.new_zeros(())
    for direction in directions:
        total = total + _slope((direction * outputs).sum(), inputs).square().sum()
    return total * factor


def jacobian_directions(outputs: Tensor, projections: Projections) -> tuple[Tensor, float]:
    """Directions v (p, n, K) and a factor c such that c Σ_ij ‖v_ijᵀ J(x_i)‖² estimates the mean of ‖J‖²_F.

    Args:
        outputs: (n, K).
        projections: as of :func:`jacobian_penalty`, which says where the directions are drawn from.

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
    """:func:`jacobian_penalty` with a strength, as a function of a batch that says what it is.

    Whoever knows the network's layers can compute its gradient in another way than through two tapes.

    Args:
        strength: λ, by which the penalty is multiplied.
        projections: as of :func:`jacobian_penalty`.

    >>> W = torch.tensor([[1.0, 2.0], [0.0, 3.0]])
    >>> x = torch.ones(5, 2, requires_grad=True)
    >>> JacobianPenalty(0.5, "exact")(x, x @ W.T, torch.zeros(5))
    tensor(7.)
    """

    strength: float
    projections: Projections = 1

    def __call__(self, inputs: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        """The penalty of a batch, whose outputs were computed from its inputs within a graph."""
        return self.strength * jacobian_penalty(outputs, inputs, projections=self.projections)


@method(
    row="G3",
    reference="Drucker and LeCun 1992; Varga, Csiszárik and Zombori 2017",
    formula="1/n sum_i ||d loss_i / d x_i||^2",
    note="Varga et al. penalise the loss's gradient by the inputs, and call it double backpropagation.",
)
def gradient_penalty(losses: Tensor, inputs: Tensor) -> Tensor:
    """Mean over rows of ‖∂loss/∂x‖², the squared gradient of each row's loss by its input.

    Args:
        losses: (n,), the loss of each row, computed from ``inputs`` within a graph.
        inputs: (n, ...), with ``requires_grad``; see :func:`differentiable_inputs`.

    Returns:
        A scalar that can be differentiated by the weights.

    Raises:
        UserError: the losses do not depend on the inputs in a way that can be differentiated.

    >>> x = torch.ones(4, 3, requires_grad=True)
    >>> float(gradient_penalty((2 * x).sum(1), x))
    12.0
    """
    return _slope(losses.sum(), inputs).square().sum() / len(losses)


def _slope(value: Tensor, inputs: Tensor) -> Tensor:
    if not value.requires_grad:
        found = None
    else:
        (found,) = torch.autograd.grad(value, inputs, create_graph=True, allow_unused=True)
    if found is None:
        raise UserError(
            "a penalty of the slope needs outputs that are differentiable by the inputs; this network's are not "
            "(does it round its inputs, or look them up in a table?)"
        )
    return found
