"""Programs with one fault each are told apart before training, and examining them changes no bit."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from descend import doctor
from descend.errors import UserError

ROWS, FEATURES, CLASSES = 400, 8, 5
Loss = Callable[[Tensor, Tensor], Tensor]


def rows() -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, classes, and numbers of mean 0 and variance 1."""
    source = torch.Generator().manual_seed(0)
    inputs = torch.randn(ROWS, FEATURES, generator=source)
    hidden = torch.tanh(inputs @ torch.randn(FEATURES, 16, generator=source))
    scores = hidden @ torch.randn(16, CLASSES, generator=source)
    numbers = scores[:, :1]
    return inputs, scores.argmax(1), (numbers - numbers.mean()) / numbers.std()


X, LABELS, NUMBERS = rows()


def network(
    outputs: int, *last: nn.Module, activation: type[nn.Module] = nn.ReLU, depth: int = 2
) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for number in range(depth):
        layers += [nn.Linear(32 if number else FEATURES, 32), activation()]
    return nn.Sequential(*layers, nn.Linear(32, outputs), *last)


def initialized(change: Callable[[Tensor], Any], outputs: int = CLASSES) -> nn.Sequential:
    model = network(outputs)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1:
                change(p)
    return model


def dead() -> nn.Sequential:
    model = network(CLASSES)
    with torch.no_grad():
        model[0].bias.fill_(-50.0)
    return model


def examined(
    model: nn.Module,
    loss: Loss,
    data: Any,
    lr: float = 1e-2,
    method: type[torch.optim.Optimizer] = torch.optim.Adam,
) -> list[doctor.Finding]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of shapes that broadcast
        return doctor.examine(model, loss, data, method(model.parameters(), lr=lr))  # type: ignore[call-arg]  # all have lr


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.mse_loss(outputs.squeeze(1), targets.float())


CE, MSE = functional.cross_entropy, functional.mse_loss
SGD = torch.optim.SGD
FAULTS: dict[str, tuple[str, Callable[[], list[doctor.Finding]]]] = {
    "rate": ("learning_rate_too_high", lambda: examined(network(CLASSES), CE, (X, LABELS), 3.0)),
    "rate of sgd": ("learning_rate_too_high", lambda: examined(network(1), MSE, (X, NUMBERS), 5.0, SGD)),
    "low rate": ("learning_rate_too_low", lambda: examined(network(CLASSES), CE, (X, LABELS), 1e-7)),
    "low rate of sgd": ("learning_rate_too_low", lambda: examined(network(CLASSES), CE, (X, LABELS), 1e-6, SGD)),
    "softmax": ("loss_input_mismatch", lambda: examined(network(CLASSES, nn.Softmax(1)), CE, (X, LABELS))),
    "sigmoid of a regression": (
        "output_range",
        lambda: examined(network(1, nn.Sigmoid()), MSE, (X, 10 * NUMBERS)),
    ),
    "softmax of one unit": (
        "output_range",
        lambda: examined(network(1, nn.Softmax(1)), functional.binary_cross_entropy, (X, (NUMBERS > 0).float())),
    ),
    "one sigmoid for five classes": ("output_range", lambda: examined(network(1, nn.Sigmoid()), squares, (X, LABELS))),
    "squares of classes": ("loss_of_another_task", lambda: examined(network(1), squares, (X, LABELS))),
    "shapes": ("shapes_broadcast", lambda: examined(network(1), MSE, (X, NUMBERS.squeeze(1)))),
    "sum": (
        "loss_summed",
        lambda: examined(network(CLASSES), lambda z, y: CE(z, y, reduction="sum"), (X, LABELS)),
    ),
    "minus": ("loss_maximized", lambda: examined(network(CLASSES), lambda z, y: -CE(z, y), (X, LABELS))),
    "inputs": (
        "unscaled_inputs",
        lambda: examined(network(CLASSES), CE, (X * torch.logspace(0, 4, FEATURES), LABELS), 0.1, SGD),
    ),
    "targets": ("unscaled_targets", lambda: examined(network(1), MSE, (X, 1e3 + 100 * NUMBERS))),
    "zeros": ("bad_initialization", lambda: examined(initialized(nn.init.zeros_), CE, (X, LABELS))),
    "large": (
        "bad_initialization",
        lambda: examined(initialized(lambda p: p.mul_(30.0)), CE, (X, LABELS), 1e-3),
    ),
    "dead": ("dead_units", lambda: examined(dead(), CE, (X, LABELS))),
    "deep sigmoid": (
        "vanishing_gradients",
        lambda: examined(network(CLASSES, activation=nn.Sigmoid, depth=10), CE, (X, LABELS), 0.1, SGD),
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_the_first_finding(fault: str) -> None:
    cause, examination = FAULTS[fault]
    findings = examination()
    assert [each.cause for each in findings][:1] == [cause], [str(each) for each in findings]
    assert 0.0 < findings[0].certainty < 1.0


@pytest.mark.parametrize(
    "examination",
    [
        lambda: examined(network(CLASSES), CE, (X, LABELS)),
        lambda: examined(network(CLASSES), CE, (X, LABELS), 0.1, SGD),
        lambda: examined(network(1), MSE, (X, NUMBERS)),
        lambda: examined(
            network(1), functional.binary_cross_entropy_with_logits, (X, (NUMBERS > 0).float())
        ),
        lambda: examined(network(1, nn.Sigmoid()), functional.binary_cross_entropy, (X, (NUMBERS > 0).float())),
        lambda: examined(network(CLASSES, nn.LogSoftmax(1)), functional.nll_loss, (X, LABELS)),
        lambda: examined(nn.Linear(FEATURES, CLASSES), CE, (X, LABELS), 0.1, SGD),
        lambda: examined(network(CLASSES, activation=nn.Tanh), CE, (X, LABELS)),
        lambda: examined(network(CLASSES), lambda z, y: CE(z, y, label_smoothing=0.1), (X, LABELS)),
    ],
)  # fmt: skip
def test_healthy_programs_have_no_findings(examination: Callable[[], list[doctor.Finding]]) -> None:
    assert [str(each) for each in examination()] == []


def test_every_bit_stays_as_it_was() -> None:
    model = nn.Sequential(network(CLASSES), nn.BatchNorm1d(CLASSES), nn.Dropout(0.3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    CE(model(X), LABELS).backward()
    optimizer.step()
    shuffled = DataLoader(
        TensorDataset(X, LABELS), batch_size=16, shuffle=True, generator=torch.Generator().manual_seed(3)
    )
    state = [each.clone() for each in [*model.state_dict().values(), *[p.grad for p in model.parameters()]]]
    moments = [each.clone() for entry in optimizer.state.values() for each in entry.values()]
    before = (
        torch.get_rng_state(),
        shuffled.generator.get_state(),
        random.getstate(),
        np.random.get_state()[1].copy(),  # noqa: NPY002  # the user's global generator
    )
    doctor.examine(model, CE, shuffled, optimizer)
    after = [*model.state_dict().values(), *[p.grad for p in model.parameters()]]
    assert all(torch.equal(one, other) for one, other in zip(state, after, strict=True))
    held = [each for entry in optimizer.state.values() for each in entry.values()]
    assert all(torch.equal(one, other) for one, other in zip(moments, held, strict=True))
    assert torch.equal(before[0], torch.get_rng_state())
    assert torch.equal(before[1], shuffled.generator.get_state())
    assert before[2] == random.getstate()
    assert (before[3] == np.random.get_state()[1]).all()  # noqa: NPY002  # as above
    assert model.training


def test_the_constant_loss_is_the_entropy_of_the_classes() -> None:
    from descend.doctor.program import Program

    program = Program(network(CLASSES), CE, X, LABELS)
    shares = torch.bincount(LABELS).double() / ROWS
    assert program.constant == pytest.approx(float(-(shares * shares.log()).sum()), abs=1e-4)


def test_the_loss_along_the_step_is_that_of_a_quadratic() -> None:
    """With F = w^2 a / 2 a step of SGD of length s lr moves w to (1 - s lr a) w."""
    from descend.doctor.program import Program

    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 3.0)
    a, lr = 4.0, 0.4
    program = Program(
        model, lambda z, y: 0.5 * a * z.square().mean(), torch.ones(8, 1), torch.zeros(8, 1),
        SGD(model.parameters(), lr=lr),
    )  # fmt: skip
    for factor, value in program.step_losses.items():
        assert value == pytest.approx(0.5 * a * (3.0 * (1 - factor * lr * a)) ** 2, rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("model", CE, (X, LABELS)), "model: expected a torch.nn.Module"),
        ((network(CLASSES), None, (X, LABELS)), "loss: expected a function"),
        ((network(CLASSES), CE, 3), "data: expected a pair"),
        ((network(CLASSES), CE, (X, LABELS[:3])), "400 inputs and 3 targets"),
        ((network(2), CE, (X, LABELS)), "the loss of the first 400 rows cannot be computed"),
        ((network(CLASSES), CE, [(X, LABELS, X)]), "got tuple of 3"),
        ((network(CLASSES), CE, []), "there are no rows"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(arguments: tuple[Any, Any, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        doctor.examine(*arguments)
