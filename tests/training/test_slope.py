"""Loss and Jacobian penalty, differentiated by hand, against autograd through both tapes."""

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
from descend.regularization import JacobianPenalty
from descend.training.chain import RULES
from descend.training.objective import Objective
from descend.training.slope import SlopeChain

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
    "GELU by tanh": lambda: [
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
    "a curved last layer": lambda: [nn.Flatten(), nn.Linear(12, CLASSES), nn.Sigmoid()],
    "a norm at the end": lambda: [nn.Flatten(), nn.Linear(12, CLASSES), nn.BatchNorm1d(CLASSES)],
    "many": lambda: [
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
    assert set(LAYERS) == set(RULES)


def pair(stack: str, penalty: JacobianPenalty, loss: Any = None) -> tuple[nn.Module, Objective, Objective]:
    """A network, and its objective by hand and by autograd."""
    torch.manual_seed(0)
    model = nn.Sequential(*STACKS[stack]()).double().train()
    with torch.no_grad():  # gains that are not 1, shifts that are not 0
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    # A closure does not say what it is, and so goes through autograd.
    by_hand, by_tape = (
        Objective(model, loss or CrossEntropy(), device=CPU, row_penalty=each, seed=3)
        for each in (penalty, lambda inputs, outputs, targets: penalty(inputs, outputs, targets))
    )
    assert by_hand._sloped is not None
    assert by_tape._sloped is None
    return model, by_hand, by_tape


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


def evaluated(objective: Objective, rows: list[Batch]) -> tuple[Tensor, list[Tensor]]:
    value = objective.at(rows, 1, 2)()
    gradients = []
    for parameter in objective.parameters:
        assert parameter.grad is not None
        gradients.append(parameter.grad.clone())
    return value, gradients


def assert_agree(by_hand: Objective, by_tape: Objective, rows: list[Batch]) -> None:
    value, gradients = evaluated(by_hand, rows)
    expected, theirs = evaluated(by_tape, rows)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    for mine, other in zip(gradients, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("projections", [1, 3, "exact"])
@pytest.mark.parametrize("stack", STACKS)
def test_value_and_gradient_are_autograds(stack: str, projections: Any) -> None:
    _, by_hand, by_tape = pair(stack, JacobianPenalty(0.7, projections))
    assert_agree(by_hand, by_tape, batches(9))


@pytest.mark.parametrize("stack", ["ReLU", "many"])
def test_weights_of_rows_and_accumulated_batches(stack: str) -> None:
    _, by_hand, by_tape = pair(stack, JacobianPenalty(0.7, 2))
    assert_agree(by_hand, by_tape, batches(9, 5, weighted=True))
    assert_agree(by_hand, by_tape, batches(4, 4, 3))


def test_a_step_moves_running_averages_as_autograd_does() -> None:
    model, by_hand, by_tape = pair("many", JacobianPenalty(0.7))
    before = copy.deepcopy(model.state_dict())
    found = []
    for objective in (by_hand, by_tape):
        model.load_state_dict(before)
        evaluated(objective, batches(9))
        found.append({name: value.clone() for name, value in model.named_buffers()})
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name])
        assert not torch.equal(value, before[name])


def test_a_step_is_repeated_to_the_same_bits() -> None:
    """Also when other steps, which write to the same memory, came between: what a resumed run relies on."""
    _, objective, _ = pair("many", JacobianPenalty(0.7, 2))
    rows = batches(9)
    value, gradients = evaluated(objective, rows)
    objective.at(batches(5), 4, 4)()
    again, others = evaluated(objective, rows)
    assert torch.equal(value, again)
    assert all(map(torch.equal, gradients, others))


def test_a_linear_network_has_the_closed_form() -> None:
    """λ ‖W‖²_F, whose derivative is 2 λ W, whatever the rows."""
    model = nn.Sequential(nn.Linear(5, 3)).double()
    objective = Objective(model, MeanSquaredError(), device=CPU, row_penalty=JacobianPenalty(0.7, "exact"))
    weight = model[0].weight.detach()
    rows = torch.randn(8, 5, dtype=torch.float64)
    fitted = Batch(rows, model(rows).detach(), None)  # the loss is 0, and so is its derivative
    value, gradients = evaluated(objective, [fitted])
    torch.testing.assert_close(value, 0.7 * weight.square().sum())
    torch.testing.assert_close(gradients[0], 1.4 * weight)
    torch.testing.assert_close(gradients[1], torch.zeros(3, dtype=torch.float64))


@pytest.mark.skipif(product("onednn") is None, reason="this PyTorch has no oneDNN")
def test_large_products_by_another_library() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(300, 200), nn.ReLU(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 3))
    rows = Batch(torch.randn(64, 300), torch.arange(64) % 3, None)
    penalty = JacobianPenalty(0.1, "exact")  # as float64 would draw other directions
    own = Objective(model, CrossEntropy(), device=CPU, row_penalty=penalty, products="onednn")
    value, gradients = evaluated(own, [rows])
    exact = Objective(model.double(), CrossEntropy(), device=CPU, row_penalty=penalty)
    expected, theirs = evaluated(exact, [Batch(rows.inputs.double(), rows.targets, None)])
    assert abs(value - expected) < 1e-5 * expected
    for mine, other in zip(gradients, theirs, strict=True):
        assert (mine - other).norm() < 1e-5 * other.norm()


def test_inputs_of_whole_numbers_are_refused() -> None:
    _, objective, _ = pair("ReLU", JacobianPenalty(0.7))
    rows = Batch(torch.ones(4, 12, dtype=torch.int64), torch.arange(4), None)
    with pytest.raises(UserError, match="whole numbers"):
        objective.at([rows], 0, 0)()


def test_other_penalties_and_other_networks_are_left_to_autograd() -> None:
    model, penalty = nn.Sequential(nn.Linear(2, 2)), JacobianPenalty(1.0)
    assert SlopeChain.of(model, penalty) is not None
    assert SlopeChain.of(model, None) is None
    assert SlopeChain.of(model, lambda inputs, outputs, targets: outputs.sum()) is None
    assert SlopeChain.of(nn.Sequential(nn.Linear(2, 2), nn.PReLU()), penalty) is None
    assert (
        Objective(model, CrossEntropy(), device=CPU, precision="bfloat16", row_penalty=penalty)._sloped
        is None
    )
