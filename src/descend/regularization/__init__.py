"""Explicit regularization: weight decay, penalties on weights, and penalties on input gradients.

Three different conventions define the strength λ of weight decay. An l2 penalty adds λ Σ‖W‖²_F to the objective; its
gradient is 2 λ W. PyTorch's ``weight_decay`` of SGD and Adam adds λ W to the gradient, which is the penalty with
λ/2. Decoupled weight decay, as in AdamW and :func:`weight_decay`, multiplies W by 1 - t λ, where t is the learning rate.
For plain SGD that is the same as adding λ W to the gradient; for adaptive methods it is not, since they divide the
added gradient by √s.

By default only weights are regularized: a bias does not make a function steeper, and the next layer can compensate a
smaller weight of a normalization layer.

>>> import torch
>>> model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2))
>>> decay, rest = decayed_parameters(model)
>>> loss = 1e-4 * l2_penalty(decay) + 0.01 * orthogonality_penalty(decay, "so")
>>> loss.dim()
0
"""

from __future__ import annotations

from descend.regularization.decay import decayed_parameters, weight_decay
from descend.regularization.jacobian import (
    JacobianPenalty,
    differentiable_inputs,
    gradient_penalty,
    jacobian_directions,
    jacobian_penalty,
)
from descend.regularization.orthogonality import (
    ORTHOGONALITIES,
    add_gradients,
    orthogonality_penalty,
    regular_weights,
)
from descend.regularization.sparsity import l1_penalty, l1_prox, l2_penalty, soft_threshold

__all__ = [
    "ORTHOGONALITIES",
    "JacobianPenalty",
    "add_gradients",
    "decayed_parameters",
    "differentiable_inputs",
    "gradient_penalty",
    "jacobian_directions",
    "jacobian_penalty",
    "l1_penalty",
    "l1_prox",
    "l2_penalty",
    "orthogonality_penalty",
    "regular_weights",
    "soft_threshold",
    "weight_decay",
]
