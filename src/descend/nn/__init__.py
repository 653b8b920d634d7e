"""Neural networks and their parts: models, layers, activations, norms, output activations and weight initialization.

All of them are plain ``torch.nn`` modules that work in any PyTorch code. Layers are classes; ``linear``, ``mlp``, ``resnet``,
``tabm``, ``convnet``, ``image_resnet``, ``polynomial`` and
``unitary_rnn`` are functions that build a model for given input and output shapes;
:mod:`descend.nn.init` is the namespace of initialization schemes. The tables ``ACTIVATIONS``, ``INITS``, ``MODELS``, ``NORMS``
and ``OUTPUTS`` map the names that recipes use to constructors.

>>> import torch
>>> from descend.nn import init, mlp
>>> model = mlp((4,), 3, hidden=(16,), norm="batch")
>>> init.initialize(model, init.kaiming_normal(), generator=torch.Generator().manual_seed(0))
>>> model(torch.zeros(5, 4)).shape
torch.Size([5, 3])
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from descend.nn import init
from descend.nn._convnet import convnet
from descend.nn._image_resnet import image_resnet
from descend.nn._mlp import linear, mlp
from descend.nn._polynomial import Powers, polynomial
from descend.nn._resnet import resnet
from descend.nn._tabm import tabm
from descend.nn.activations import ACTIVATIONS, Maxout, activation, gain
from descend.nn.category_embedding import CATEGORY_EMBEDDINGS, CategoryEmbedding, LearnedCategories
from descend.nn.dropout import Dropout
from descend.nn.init import INITS, initialize
from descend.nn.members import (
    BatchEnsembleLinear,
    MemberLinear,
    MemberMean,
    MemberScale,
    members_of,
    per_member,
)
from descend.nn.normalization import NORMS, normalized
from descend.nn.number_embedding import (
    NUMBER_EMBEDDINGS,
    LinearEmbedding,
    NumberEmbedding,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
)
from descend.nn.outputs import OUTPUTS, Identity, Output, Sigmoid, Sine, Softmax
from descend.nn.residual import Residual
from descend.nn.scaling import ParametricActivation, Scaling
from descend.nn.text_embedding import TextEmbedding
from descend.nn.unitary import ModReLU, UnitaryMap, UnitaryRNN, unitary_rnn
from descend.nn.whitening import DecorrelatedBatchNorm1d, DecorrelatedBatchNorm2d, IterNorm1d, IterNorm2d

__all__ = [
    "ACTIVATIONS",
    "CATEGORY_EMBEDDINGS",
    "INITS",
    "MODELS",
    "NORMS",
    "NUMBER_EMBEDDINGS",
    "OUTPUTS",
    "BatchEnsembleLinear",
    "CategoryEmbedding",
    "DecorrelatedBatchNorm1d",
    "DecorrelatedBatchNorm2d",
    "Dropout",
    "Identity",
    "IterNorm1d",
    "IterNorm2d",
    "LearnedCategories",
    "LinearEmbedding",
    "Maxout",
    "MemberLinear",
    "MemberMean",
    "MemberScale",
    "ModReLU",
    "NumberEmbedding",
    "Output",
    "ParametricActivation",
    "PeriodicEmbedding",
    "PiecewiseLinearEmbedding",
    "Powers",
    "Residual",
    "Scaling",
    "Sigmoid",
    "Sine",
    "Softmax",
    "TextEmbedding",
    "UnitaryMap",
    "UnitaryRNN",
    "activation",
    "convnet",
    "gain",
    "image_resnet",
    "init",
    "initialize",
    "linear",
    "members_of",
    "mlp",
    "normalized",
    "per_member",
    "polynomial",
    "resnet",
    "tabm",
    "unitary_rnn",
]

MODELS: dict[str, Callable[..., nn.Module]] = {
    "linear": linear,
    "polynomial": polynomial,
    "mlp": mlp,
    "resnet": resnet,
    "tabm": tabm,
    "convnet": convnet,
    "image_resnet": image_resnet,
    "unitary_rnn": unitary_rnn,
}
