"""Networks and their parts: activations, outputs, norms, initialisations and models.

Everything here gives plain ``torch.nn`` modules for use in any PyTorch code.

>>> import torch
>>> from descend.nn import initialize, kaiming_normal, mlp
>>> model = mlp((4,), 3, hidden=(16,), norm="batch")
>>> initialize(model, kaiming_normal(), generator=torch.Generator().manual_seed(0))
>>> model(torch.zeros(5, 4)).shape
torch.Size([5, 3])
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from descend.nn.activations import (
    ACTIVATIONS,
    Maxout,
    activation,
    elu,
    gain,
    gelu,
    identity,
    leaky_relu,
    maxout,
    relu,
    selu,
    sigmoid,
    silu,
    softplus,
    tanh,
)
from descend.nn._convnet import convnet
from descend.nn.init import (
    INITS,
    constant,
    geometric,
    initialize,
    kaiming_normal,
    kaiming_uniform,
    normal,
    orthogonal,
    torch_default,
    xavier_normal,
    xavier_uniform,
    zeros,
)
from descend.nn._mlp import linear, mlp
from descend.nn.normalization import NORMS, normalized
from descend.nn.outputs import OUTPUTS, Identity, Output, Sigmoid, Sine, Softmax
from descend.nn._polynomial import Powers, polynomial
from descend.nn.residual import Residual
from descend.nn.unitary import ModReLU, UnitaryMap, UnitaryRNN, unitary_rnn
from descend.nn.whitening import DecorrelatedBatchNorm1d, DecorrelatedBatchNorm2d, IterNorm1d, IterNorm2d

__all__ = [
    "ACTIVATIONS",
    "INITS",
    "MODELS",
    "NORMS",
    "OUTPUTS",
    "DecorrelatedBatchNorm1d",
    "DecorrelatedBatchNorm2d",
    "Identity",
    "IterNorm1d",
    "IterNorm2d",
    "Maxout",
    "ModReLU",
    "Output",
    "Powers",
    "Residual",
    "Sigmoid",
    "Sine",
    "Softmax",
    "UnitaryMap",
    "UnitaryRNN",
    "activation",
    "constant",
    "convnet",
    "elu",
    "gain",
    "gelu",
    "geometric",
    "identity",
    "initialize",
    "kaiming_normal",
    "kaiming_uniform",
    "leaky_relu",
    "linear",
    "maxout",
    "mlp",
    "normal",
    "normalized",
    "orthogonal",
    "polynomial",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "softplus",
    "tanh",
    "torch_default",
    "unitary_rnn",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]

MODELS: dict[str, Callable[..., nn.Module]] = {
    "linear": linear,
    "polynomial": polynomial,
    "mlp": mlp,
    "convnet": convnet,
    "unitary_rnn": unitary_rnn,
}
