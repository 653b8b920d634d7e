"""Tests that the contract covers every optimizer of the catalogue, and that it detects violations."""

import importlib.util
from pathlib import Path

import pytest
import torch
from tests.support.optimizer_contract import Case, Contract

from descend.optim import OPTIMIZERS
from descend.optim.base import catalogue_name


def cases():
    """Return the cases of every test module in this folder."""
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        if "\nCASES = [" in path.read_text(encoding="utf-8"):
            spec = importlib.util.spec_from_file_location(f"contract_of_{path.stem}", path)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            yield from module.CASES


def test_every_optimizer_has_a_case():
    assert {case.name for case in cases()} == set(OPTIMIZERS)


@pytest.mark.parametrize("case", list(cases()), ids=str)
def test_the_name_in_messages_is_that_of_the_catalogue(case):
    optimizer = case.make([torch.ones(2, 2, requires_grad=True)])
    assert catalogue_name(type(optimizer)) == case.name
    assert getattr(optimizer, "name", case.name) == case.name


class Forgetful(torch.optim.Optimizer):
    """A heavy ball that loses its state when saved, and moves parameters without a gradient."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})
        self.memory = {}

    @torch.no_grad()
    def step(self, closure=None):
        with torch.enable_grad():
            loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                g = torch.zeros_like(p) if p.grad is None else p.grad
                self.memory[p] = 0.9 * self.memory.get(p, torch.zeros_like(p)) + g
                p.sub_(group["lr"] * self.memory[p])
        return loss


@pytest.mark.parametrize(
    "clause",
    [
        "test_a_gradient_that_goes_missing_leaves_a_parameter_unchanged",
        "test_a_negative_learning_rate_is_refused",
    ],
)
def test_a_violation_is_detected(monkeypatch, clause):
    monkeypatch.setitem(OPTIMIZERS, "forgetful", Forgetful)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        getattr(Contract(), clause)(Case("forgetful"))


def test_a_state_that_is_not_saved_is_detected(monkeypatch):
    monkeypatch.setitem(OPTIMIZERS, "forgetful", Forgetful)
    with pytest.raises(AssertionError):
        Contract().test_a_saved_state_continues_to_the_same_bits(Case("forgetful"), torch.float64)
