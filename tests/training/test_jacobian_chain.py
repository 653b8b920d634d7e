"""Manual backpropagation of a loss plus a Jacobian penalty, against differentiating twice with autograd."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from descend.data.batches import Batch
from descend.errors import UserError
from descend.linalg.products import product
from descend.losses import CrossEntropy, MeanSquaredError
from descend.nn import (
    CategoryEmbedding,
    Dropout,
    NumberEmbedding,
    ParametricActivation,
    Scaling,
    TextEmbedding,
)
from descend.regularization import JacobianPenalty
from descend.training.chain import RULES
from descend.training.image_rules import IMAGE_RULES
from descend.training.jacobian_chain import JacobianChain
from descend.training.objective import Objective

CPU = torch.device("cpu")
WIDTH, CLASSES = 6, 4
LAYERS = {
    nn.ReLU: nn.ReLU,
    nn.LeakyReLU: lambda: nn.LeakyReLU(0.1),
    nn.Tanh: nn.Tanh,
    nn.Sigmoid: nn.Sigmoid,
    nn.GELU: nn.GELU,
    nn.SiLU: nn.SiLU,
    nn.ELU: lambda: nn.ELU(0.7),
    nn.Identity: nn.Identity,
    nn.Dropout: lambda: nn.Dropout(0.4),
    Dropout: lambda: Dropout(0.4),
    nn.BatchNorm1d: lambda: nn.BatchNorm1d(WIDTH),
    nn.LayerNorm: lambda: nn.LayerNorm(WIDTH),
    nn.Linear: lambda: nn.Linear(WIDTH, WIDTH),
    nn.Flatten: nn.Flatten,
}
STACKS = {
    **{
        kind.__name__: lambda make=make: [
            nn.Flatten(),
            nn.Linear(12, WIDTH),
            make(),
            nn.Tanh(),
            nn.Linear(WIDTH, CLASSES),
        ]
        for kind, make in LAYERS.items()
    },
    "GELU, tanh approximation": lambda: [
        nn.Flatten(),
        nn.Linear(12, WIDTH),
        nn.GELU(approximate="tanh"),
        nn.Linear(WIDTH, CLASSES),
    ],
    "a layer before the first weight": lambda: [
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.SiLU(),
        nn.Linear(12, WIDTH),
        nn.ELU(),
        nn.Linear(WIDTH, CLASSES),
    ],
    "a nonlinear last layer": lambda: [nn.Flatten(), nn.Linear(12, CLASSES), nn.Sigmoid()],
    "a normalization layer at the end": lambda: [
        nn.Flatten(),
        nn.Linear(12, CLASSES),
        nn.BatchNorm1d(CLASSES),
    ],
    "many layers": lambda: [
        nn.Flatten(),
        nn.Linear(12, WIDTH),
        nn.BatchNorm1d(WIDTH),
        nn.GELU(),
        nn.Dropout(0.3),
        nn.Linear(WIDTH, WIDTH),
        nn.LayerNorm(WIDTH),
        nn.SiLU(),
        nn.Linear(WIDTH, CLASSES),
    ],
}


def test_every_layer_of_a_chain_is_tested() -> None:
    # A text has no derivative, and autograd differentiates the others twice.
    others = {TextEmbedding, NumberEmbedding, CategoryEmbedding, Scaling, ParametricActivation}
    assert set(LAYERS) == set(RULES) - others - set(IMAGE_RULES)


def pair(stack: str, penalty: JacobianPenalty, loss: Any = None) -> tuple[nn.Module, Objective, Objective]:
    """A network, and its objective with manual backpropagation and by autograd."""
    torch.manual_seed(0)
    model = nn.Sequential(*STACKS[stack]()).double().train()
    with torch.no_grad():  # normalization weights other than 1, biases other than 0
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    # A penalty of unknown type is differentiated by autograd.
    manual, by_autograd = (
        Objective(model, loss or CrossEntropy(), device=CPU, row_penalty=each, seed=3)
        for each in (penalty, lambda inputs, outputs, targets: penalty(inputs, outputs, targets))
    )
    assert manual._jacobian_chain is not None
    assert by_autograd._jacobian_chain is None
    return model, manual, by_autograd


def batches(*sizes: int, weighted: bool = False) -> list[Batch]:
    torch.manual_seed(1)
    return [
        Batch(
            torch.randn(size, 3, 4, dtype=torch.float64),
            torch.arange(size) % CLASSES,
            torch.rand(size, dtype=torch.float64) + 0.5 if weighted else None,
        )
        for size in sizes
    ]


def value_and_gradients(objective: Objective, rows: list[Batch]) -> tuple[Tensor, list[Tensor]]:
    value = objective.at(rows, 1, 2)()
    gradients = []
    for parameter in objective.parameters:
        assert parameter.grad is not None
        gradients.append(parameter.grad.clone())
    return value, gradients


def assert_agree(manual: Objective, by_autograd: Objective, rows: list[Batch]) -> None:
    value, gradients = value_and_gradients(manual, rows)
    expected, expected_gradients = value_and_gradients(by_autograd, rows)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("projections", [1, 3, "exact"])
@pytest.mark.parametrize("stack", STACKS)
def test_value_and_gradient_equal_those_of_autograd(stack: str, projections: Any) -> None:
    _, manual, by_autograd = pair(stack, JacobianPenalty(0.7, projections))
    assert_agree(manual, by_autograd, batches(9))


@pytest.mark.parametrize("stack", ["ReLU", "many layers"])
def test_weighted_rows_and_accumulated_batches(stack: str) -> None:
    _, manual, by_autograd = pair(stack, JacobianPenalty(0.7, 2))
    assert_agree(manual, by_autograd, batches(9, 5, weighted=True))
    assert_agree(manual, by_autograd, batches(4, 4, 3))


def test_a_step_updates_running_averages_as_autograd_does() -> None:
    model, manual, by_autograd = pair("many layers", JacobianPenalty(0.7))
    before = copy.deepcopy(model.state_dict())
    buffers = []
    for objective in (manual, by_autograd):
        model.load_state_dict(before)
        value_and_gradients(objective, batches(9))
        buffers.append({name: value.clone() for name, value in model.named_buffers()})
    for name, value in buffers[0].items():
        torch.testing.assert_close(value, buffers[1][name])
        assert not torch.equal(value, before[name])


def test_a_repeated_step_has_the_same_bits() -> None:
    """Even after other steps, which write to the same memory; a resumed run relies on this."""
    _, objective, _ = pair("many layers", JacobianPenalty(0.7, 2))
    rows = batches(9)
    value, gradients = value_and_gradients(objective, rows)
    objective.at(batches(5), 4, 4)()
    again, others = value_and_gradients(objective, rows)
    assert torch.equal(value, again)
    assert all(map(torch.equal, gradients, others))


def test_a_linear_network_has_the_closed_form() -> None:
    """λ ‖W‖²_F, whose gradient is 2 λ W, for any rows."""
    model = nn.Sequential(nn.Linear(5, 3)).double()
    objective = Objective(model, MeanSquaredError(), device=CPU, row_penalty=JacobianPenalty(0.7, "exact"))
    weight = model[0].weight.detach()
    rows = torch.randn(8, 5, dtype=torch.float64)
    fitted = Batch(rows, model(rows).detach(), None)  # the loss and its gradient are 0
    value, gradients = value_and_gradients(objective, [fitted])
    torch.testing.assert_close(value, 0.7 * weight.square().sum())
    torch.testing.assert_close(gradients[0], 1.4 * weight)
    torch.testing.assert_close(gradients[1], torch.zeros(3, dtype=torch.float64))


@pytest.mark.skipif(product("onednn") is None, reason="this PyTorch has no oneDNN")
def test_large_products_by_another_library() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(300, 200), nn.ReLU(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 3))
    rows = Batch(torch.randn(64, 300), torch.arange(64) % 3, None)
    penalty = JacobianPenalty(0.1, "exact")  # random directions would differ in float64
    own = Objective(model, CrossEntropy(), device=CPU, row_penalty=penalty, products="onednn")
    value, gradients = value_and_gradients(own, [rows])
    exact = Objective(model.double(), CrossEntropy(), device=CPU, row_penalty=penalty)
    expected, expected_gradients = value_and_gradients(
        exact, [Batch(rows.inputs.double(), rows.targets, None)]
    )
    assert abs(value - expected) < 1e-5 * expected
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        assert (gradient - other).norm() < 1e-5 * other.norm()


def test_integer_inputs_are_rejected() -> None:
    _, objective, _ = pair("ReLU", JacobianPenalty(0.7))
    rows = Batch(torch.ones(4, 12, dtype=torch.int64), torch.arange(4), None)
    with pytest.raises(UserError, match="got integers"):
        objective.at([rows], 0, 0)()


def test_other_penalties_and_other_networks_use_autograd() -> None:
    model, penalty = nn.Sequential(nn.Linear(2, 2)), JacobianPenalty(1.0)
    assert JacobianChain.of(model, penalty) is not None
    assert JacobianChain.of(model, None) is None
    assert JacobianChain.of(model, lambda inputs, outputs, targets: outputs.sum()) is None
    assert JacobianChain.of(nn.Sequential(nn.Linear(2, 2), nn.PReLU()), penalty) is None
    assert (
        Objective(
            model, CrossEntropy(), device=CPU, precision="bfloat16", row_penalty=penalty
        )._jacobian_chain
        is None
    )


def test_a_network_with_hooks_uses_autograd() -> None:
    """A hook registered later is called; once it is removed, backpropagation is manual again."""
    model, manual, by_autograd = pair("Tanh", JacobianPenalty(0.7))
    calls: list[int] = []
    handle = model[1].register_forward_hook(lambda layer, inputs, output: calls.append(1))
    assert_agree(manual, by_autograd, batches(9))
    assert len(calls) == 2
    handle.remove()
    assert_agree(manual, by_autograd, batches(9))
    assert manual._usable_jacobian_chain() is not None
