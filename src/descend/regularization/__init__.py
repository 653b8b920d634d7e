"""Explicit regularisation: weight decay, penalties of the weights, and penalties of the function's slope.

Three things are called λ. The lecture adds λ Σ‖W‖²_F to the objective, whose gradient is 2 λ W. PyTorch's
``weight_decay`` of SGD and Adam adds λ W to the gradient, so it is the lecture's with λ/2. Decoupled weight
decay, AdamW's and :func:`weight_decay`'s, multiplies W by 1 - t λ with t the rate; for plain SGD that is the
same as adding λ W, for adaptive methods it is not, since there the added gradient would be divided by √s.

By default only weights are regularised: a bias makes no function steeper, and what is taken from a norm's
scale the next layer puts back.

>>> import torch
>>> model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2))
>>> decay, rest = decayed_parameters(model)
>>> loss = 1e-4 * l2_penalty(decay) + 0.01 * orthogonality_penalty(decay, "so")
>>> loss.dim()
0
"""

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
