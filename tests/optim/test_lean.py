"""Tests that a lean step equals the optimizer's own step bit for bit."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from descend.optim.lean import lean_step

MAKERS: dict[str, Callable] = {
    "adam": lambda groups: torch.optim.Adam(groups, lr=0.01, fused=True),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.01, weight_decay=0.0, fused=True),
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.01, fused=True),
    "momentum": lambda groups: torch.optim.SGD(groups, lr=0.01, momentum=0.9, nesterov=True, fused=True),
}


def setting(name: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    weights = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() == 1]
    return model, MAKERS[name]([{"params": weights, "weight_decay": 0.1}, {"params": rest}])


def closure_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[], Tensor]:
    rows = torch.linspace(-1, 1, 20).reshape(5, 4)

    def closure() -> Tensor:
        optimizer.zero_grad()
        with torch.enable_grad():
            loss = model(rows).square().sum()
            loss.backward()
        return loss.detach()

    return closure


@pytest.mark.parametrize("name", MAKERS)
def test_ten_steps_with_a_changing_learning_rate_have_the_same_bits(name: str) -> None:
    ours, optimizer = setting(name)
    theirs, reference = setting(name)
    lean, closure, other = lean_step(optimizer), closure_of(ours, optimizer), closure_of(theirs, reference)
    for number in range(10):
        for group in [*optimizer.param_groups, *reference.param_groups]:
            group["lr"] = 0.01 / (1 + number)
        assert torch.equal(lean(closure), reference.step(other))
    for mine, own in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, own)
    mine, own = optimizer.state_dict()["state"], reference.state_dict()["state"]
    assert mine.keys() == own.keys()
    for place in own:
        for key in own[place]:
            assert torch.equal(mine[place][key], own[place][key]), key


@pytest.mark.parametrize("name", MAKERS)
def test_plain_and_lean_steps_may_alternate(name: str) -> None:
    """The step counters are shared views, and PyTorch's own step must still count correctly."""
    ours, optimizer = setting(name)
    theirs, reference = setting(name)
    lean, closure, other = lean_step(optimizer), closure_of(ours, optimizer), closure_of(theirs, reference)
    for number in range(8):
        (optimizer.step if number % 3 == 2 else lean)(closure)
        reference.step(other)
    for mine, own in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, own)


def test_a_state_loaded_into_another_optimizer_continues_equally() -> None:
    ours, optimizer = setting("adamw")
    lean, closure = lean_step(optimizer), closure_of(ours, optimizer)
    for _ in range(4):
        lean(closure)
    theirs = copy.deepcopy(ours)
    other = MAKERS["adamw"](
        [
            {"params": [p for p in theirs.parameters() if p.dim() > 1]},
            {"params": [p for p in theirs.parameters() if p.dim() == 1]},
        ]
    )
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    lean(closure)
    other.step(closure_of(theirs, other))
    for mine, own in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, own)


def test_a_missing_gradient_falls_back_to_the_optimizer() -> None:
    unused = nn.Parameter(torch.ones(2))
    used = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([used, unused], lr=0.1, fused=True)
    step = lean_step(optimizer)

    def closure() -> Tensor:
        used.grad, unused.grad = torch.ones(2), None
        return used.sum().detach()

    for _ in range(3):
        step(closure)
    assert torch.equal(unused, torch.ones(2))
    torch.testing.assert_close(used.detach(), torch.full((2,), 0.7))


def test_hooks_and_unusual_settings_keep_the_optimizers_own_step() -> None:
    importlib.import_module("torch._dynamo")  # without it the result is a function that calls the plain step
    weight = nn.Parameter(torch.ones(2))
    calls = []
    hooked = torch.optim.Adam([weight], fused=True)
    hooked.register_step_pre_hook(lambda *arguments: calls.append(1))
    lean_step(hooked)(lambda: weight.detach().sum())
    assert calls == [1]
    for optimizer in (
        torch.optim.Adam([weight], amsgrad=True, fused=True),
        torch.optim.Adam([weight], fused=False, foreach=False),
        torch.optim.Adam([weight], lr=torch.tensor(0.1), fused=True),
        torch.optim.NAdam([weight]),
    ):
        assert lean_step(optimizer) == optimizer.step
