"""Loops with one fault each are told apart, healthy loops are not suspected, and watching changes no bit."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from descend import doctor

ROWS, FEATURES, CLASSES = 320, 8, 4


def data() -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(0)
    inputs = torch.randn(ROWS, FEATURES, generator=source)
    weights = torch.randn(FEATURES, CLASSES, generator=source)
    return inputs, (inputs @ weights).argmax(1)


class Network(nn.Module):
    def __init__(
        self, outputs: int = CLASSES, *, detached: bool = False, last: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.first = nn.Linear(FEATURES, 16)
        self.norm = nn.BatchNorm1d(16)
        self.drop = nn.Dropout(0.1)
        self.second = nn.Linear(16, outputs)
        self.last = last or nn.Identity()
        self.detached = detached

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.drop(functional.relu(self.norm(self.first(inputs))))
        if self.detached:
            hidden = hidden.detach()
        result: Tensor = self.last(self.second(hidden))
        return result


Loss = Callable[[Tensor, Tensor], Tensor]


def watched_loop(
    model: nn.Module | None = None,
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] = lambda model: torch.optim.Adam(
        model.parameters(), 1e-3
    ),
    loss: Loss = functional.cross_entropy,
    *,
    zeroed: bool = True,
    shuffled: bool = True,
    in_order: bool = False,
    training: tuple[bool, bool] = (True, True),
    accumulate: int = 1,
    watch: bool = True,
) -> tuple[list[doctor.Finding], list[Tensor]]:
    """Train for three epochs; ``training`` is the mode of the first and the later epochs."""
    torch.manual_seed(0)
    model = Network() if model is None else model
    steps = optimizer(model)
    inputs, targets = data()
    if in_order:
        order = targets.argsort(stable=True)
        inputs, targets = inputs[order], targets[order]
    source = torch.Generator().manual_seed(1)
    with warnings.catch_warnings(), doctor.watch(model, steps) if watch else nullcontext() as watched:
        warnings.simplefilter("ignore", UserWarning)  # of shapes that broadcast
        for epoch in range(3):
            model.train(training[min(epoch, 1)])
            rows = torch.randperm(ROWS, generator=source) if shuffled else torch.arange(ROWS)
            for at, batch in enumerate(rows.split(32)):
                if zeroed and at % accumulate == 0:
                    steps.zero_grad()
                (loss(model(inputs[batch]), targets[batch]) / accumulate).backward()
                if (at + 1) % accumulate == 0:
                    steps.step()
            model.eval()
            with torch.no_grad():
                model(inputs)
    return watched.findings() if watched is not None else [], [p.detach().clone() for p in model.parameters()]


def mean_squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.squeeze(1) - targets.float()).square().mean()


def partly(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for name, p in model.named_parameters() if "first" not in name], 0.01)


def frozen() -> nn.Module:
    model = Network()
    model.first.requires_grad_(False)
    return model


FAULTS: dict[str, tuple[str, Callable[[], list[doctor.Finding]]]] = {
    "zero_grad is missing": ("gradients_not_zeroed", lambda: watched_loop(zeroed=False)[0]),
    "detach": ("detached_graph", lambda: watched_loop(Network(detached=True))[0]),
    "the optimizer holds a part": ("parameters_not_held", lambda: watched_loop(optimizer=partly)[0]),
    "eval from the start": ("evaluation_mode", lambda: watched_loop(training=(False, False))[0]),
    "eval after the first evaluation": ("evaluation_mode", lambda: watched_loop(training=(True, False))[0]),
    "not shuffled": ("rows_in_order", lambda: watched_loop(shuffled=False)[0]),
    "sorted by class": ("rows_in_order", lambda: watched_loop(shuffled=False, in_order=True)[0]),
    "sum": (
        "loss_summed",
        lambda: watched_loop(loss=lambda z, y: functional.cross_entropy(z, y, reduction="sum"))[0],
    ),
    "sum by hand": (
        "loss_summed",
        lambda: watched_loop(Network(1), loss=lambda z, y: (z.squeeze(1) - y.float()).square().sum())[0],
    ),
    "minus": ("loss_maximized", lambda: watched_loop(loss=lambda z, y: -functional.cross_entropy(z, y))[0]),
    "minus by hand": ("loss_maximized", lambda: watched_loop(Network(1), loss=lambda z, y: -mean_squares(z, y))[0]),
    "maximize": (
        "loss_maximized",
        lambda: watched_loop(optimizer=lambda m: torch.optim.SGD(m.parameters(), 0.01, maximize=True))[0],
    ),
    "softmax": ("loss_input_mismatch", lambda: watched_loop(Network(last=nn.Softmax(1)))[0]),
    "sigmoid before logits": (
        "loss_input_mismatch",
        lambda: watched_loop(
            Network(1, last=nn.Sigmoid()),
            loss=lambda z, y: functional.binary_cross_entropy_with_logits(z.squeeze(1), (y > 1).float()),
        )[0],
    ),
    "probabilities to nll": (
        "loss_input_mismatch",
        lambda: watched_loop(Network(last=nn.Softmax(1)), loss=functional.nll_loss)[0],
    ),
    "shapes": (
        "shapes_broadcast",
        lambda: watched_loop(Network(1), loss=lambda z, y: functional.mse_loss(z, y.float()))[0],
    ),
    "shapes by hand": (
        "shapes_broadcast",
        lambda: watched_loop(Network(1), loss=lambda z, y: (y.float() - z).square().mean())[0],
    ),
    "frozen": ("frozen_layers", lambda: watched_loop(frozen())[0]),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_the_first_finding(fault: str) -> None:
    cause, loop = FAULTS[fault]
    findings = loop()
    assert [each.cause for each in findings][:1] == [cause]
    assert findings[0].evidence
    assert findings[0].advice


@pytest.mark.parametrize(
    "loop",
    [
        lambda: watched_loop(),
        lambda: watched_loop(accumulate=2),
        lambda: watched_loop(Network(1), loss=mean_squares),
        lambda: watched_loop(loss=lambda z, y: functional.cross_entropy(z, y, label_smoothing=0.1)),
        lambda: watched_loop(Network(last=nn.LogSoftmax(1)), loss=functional.nll_loss),
        lambda: watched_loop(loss=lambda z, y: functional.cross_entropy(z, y, reduction="none").mean()),
        lambda: watched_loop(loss=lambda z, y: functional.cross_entropy(z, y, reduction="sum") / len(y)),
        lambda: watched_loop(
            optimizer=lambda m: torch.optim.SGD(m.parameters(), 0.05, momentum=0.9, nesterov=True)
        ),
    ],
)
def test_healthy_loops_have_no_findings(
    loop: Callable[[], tuple[list[doctor.Finding], list[Tensor]]],
) -> None:
    assert loop()[0] == []


def test_watching_changes_no_bit_of_weights_and_random_state() -> None:
    states = []
    for watch in (False, True):
        _, weights = watched_loop(watch=watch)
        states.append([*weights, torch.get_rng_state()])
    assert all(torch.equal(one, other) for one, other in zip(*states, strict=True))


def test_all_hooks_are_removed_after_an_error() -> None:
    model = Network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(ZeroDivisionError), doctor.watch(model, optimizer):
        model(data()[0])
        raise ZeroDivisionError
    assert not model._forward_pre_hooks
    assert not optimizer._optimizer_step_pre_hooks
    assert not torch.overrides._get_current_function_mode_stack()


def test_closures_of_lbfgs_are_watched() -> None:
    torch.manual_seed(0)
    model = nn.Linear(FEATURES, CLASSES)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
    inputs, targets = data()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(inputs), targets)
        loss.backward()
        return loss

    with doctor.watch(model, optimizer) as watched:
        for _ in range(5):
            optimizer.step(closure)
    assert watched.findings() == []
    assert watched.record().taken == 5


def test_a_trained_layer_may_be_frozen() -> None:
    model = Network()
    with torch.no_grad():
        model.first.weight.copy_(torch.randn(16, FEATURES, generator=torch.Generator().manual_seed(2)))
    model.first.requires_grad_(False)
    assert watched_loop(model)[0] == []
