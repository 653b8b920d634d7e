"""Manual backpropagation has the bits of autograd."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from descend.losses import LOSSES, BinaryCrossEntropy, CrossEntropy, Huber, MeanSquaredError
from descend.nn import (
    CategoryEmbedding,
    Dropout,
    LearnedCategories,
    LinearEmbedding,
    NumberEmbedding,
    ParametricActivation,
    Scaling,
    TextEmbedding,
    mlp,
)
from descend.training.chain import RULES, Chain, loss_and_derivative
from descend.training.image_rules import IMAGE_RULES

LAYERS = {
    nn.ReLU: nn.ReLU,
    nn.LeakyReLU: lambda: nn.LeakyReLU(0.1),
    nn.Tanh: nn.Tanh,
    nn.Sigmoid: nn.Sigmoid,
    nn.GELU: lambda: nn.GELU(approximate="tanh"),
    nn.SiLU: nn.SiLU,
    nn.ELU: lambda: nn.ELU(0.7),
    nn.Identity: nn.Identity,
    nn.Dropout: lambda: nn.Dropout(0.4),
    Dropout: lambda: Dropout(0.4),
    nn.BatchNorm1d: lambda: nn.BatchNorm1d(6),
    nn.LayerNorm: lambda: nn.LayerNorm(6),
    nn.Linear: lambda: nn.Linear(6, 6),
    nn.Flatten: nn.Flatten,
    TextEmbedding: lambda: TextEmbedding(2, lengths=(3, 1), buckets=(2, 1), dimension=2),
    Scaling: lambda: Scaling(6),
    ParametricActivation: lambda: ParametricActivation(nn.SELU(), 6),
    CategoryEmbedding: lambda: CategoryEmbedding(
        LearnedCategories([2], above=1, dimension=2), positions=(1, 3), width=6
    ),
    NumberEmbedding: lambda: NumberEmbedding(LinearEmbedding(2, dimension=1), positions=(0, 3), width=6),
}


def test_every_rule_is_tested() -> None:
    assert set(LAYERS) == set(RULES) - set(IMAGE_RULES)  # those have tests of their own


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
def test_a_layer_has_the_bits_of_autograd(kind: type[nn.Module], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), LAYERS[kind](), nn.Linear(6, 3)).to(dtype).train()
    twin = copy.deepcopy(model)
    rows, direction = torch.randn(9, 3, 4, dtype=dtype), torch.randn(9, 3, dtype=dtype)

    torch.manual_seed(1)
    outputs = model(rows)
    outputs.backward(direction)

    chain = Chain.of(twin)
    assert chain is not None
    torch.manual_seed(1)
    with torch.no_grad():
        own, saved = chain.forward(rows)
        gradients = chain.backward(direction, saved)
    assert torch.equal(own, outputs)
    for gradient, parameter in zip(gradients, model.parameters(), strict=True):
        assert torch.equal(gradient, parameter.grad)
    for buffer, expected in zip(twin.buffers(), model.buffers(), strict=True):
        assert torch.equal(buffer, expected)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("loss", "outputs", "targets"),
    [
        (CrossEntropy(), 5, "classes"),
        (CrossEntropy(label_smoothing=0.2), 5, "classes"),
        (BinaryCrossEntropy(), 1, "binary"),
        (BinaryCrossEntropy(label_smoothing=0.2), 1, "binary"),
        (MeanSquaredError(), 3, "values"),
        (Huber(delta=0.5), 3, "values"),
        (LOSSES["squared"](), 5, "classes"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_derivative_of_a_loss_equals_that_of_autograd(
    loss, outputs: int, targets: str, weighted: bool
) -> None:
    torch.manual_seed(2)
    z = (3 * torch.randn(11, outputs, dtype=torch.float64)).requires_grad_()
    y = {
        "classes": torch.randint(outputs, (11,)),
        "binary": torch.randint(2, (11,)).double(),
        "values": torch.randn(11, outputs, dtype=torch.float64),
    }[targets]
    weights = torch.rand(11, dtype=torch.float64) if weighted else None
    expected = loss(z, y, weights)
    (expected_derivative,) = torch.autograd.grad(expected, z)
    with torch.no_grad():
        value, derivative = loss_and_derivative(loss, z.detach(), y, weights)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-14, atol=0)
    torch.testing.assert_close(derivative, expected_derivative, rtol=1e-12, atol=1e-16)


def unsupported() -> dict[str, nn.Module]:
    class Own(nn.Linear):
        """A subclass may compute anything."""

    hooked = nn.Sequential(nn.Linear(2, 2))
    hooked[0].register_forward_hook(lambda module, arguments, output: 2 * output)
    frozen = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    frozen[0].weight.requires_grad_(False)
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    return {
        "subclass": nn.Sequential(Own(2, 2)),
        "hook": hooked,
        "frozen": frozen,
        "tied": tied,
        "weight norm": nn.Sequential(parametrizations.weight_norm(nn.Linear(2, 2))),
        "no bias": nn.Sequential(nn.Linear(2, 2, bias=False)),
        "unknown layer": nn.Sequential(nn.Linear(2, 2), nn.PReLU()),
        "in place": nn.Sequential(nn.Linear(2, 2), nn.ReLU(inplace=True)),
        "no parameters": nn.Sequential(nn.ReLU()),
        "not a sequence": nn.Bilinear(2, 2, 2),
    }


@pytest.mark.parametrize("why", unsupported())
def test_other_models_have_no_chain(why: str) -> None:
    assert Chain.of(unsupported()[why]) is None


def test_the_built_in_mlp_is_a_chain() -> None:
    assert Chain.of(mlp((3,), 2, norm="batch", dropout=0.1, activation="silu")) is not None
