"""No optimizer of the catalogue is left out of the contract, and the contract sees what it is there to see."""

import importlib.util
from pathlib import Path

import pytest
import torch
from tests.support.optimizer_contract import Case, Contract

from descend.optim import OPTIMIZERS
from descend.optim.base import catalogue_name


def cases():
    """The cases of every test module beside this one."""
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        if "\nCASES = [" in path.read_text(encoding="utf-8"):
            spec = importlib.util.spec_from_file_location(f"contract_of_{path.stem}", path)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            yield from module.CASES


def test_every_optimizer_is_put_through_it():
    assert {case.name for case in cases()} == set(OPTIMIZERS)


@pytest.mark.parametrize("case", list(cases()), ids=str)
def test_messages_call_it_what_the_catalogue_does(case):
    optimizer = case.make([torch.ones(2, 2, requires_grad=True)])
    assert catalogue_name(type(optimizer)) == case.name
    assert getattr(optimizer, "name", case.name) == case.name


class Forgetful(torch.optim.Optimizer):
    """A heavy ball that loses its state when it is saved, and moves what has no gradient."""

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
        "test_a_gradient_that_goes_missing_leaves_a_parameter_where_it_is",
        "test_a_negative_rate_is_refused",
    ],
)
def test_a_breach_is_seen(monkeypatch, clause):
    monkeypatch.setitem(OPTIMIZERS, "forgetful", Forgetful)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        getattr(Contract(), clause)(Case("forgetful"))


def test_a_state_that_is_not_saved_is_seen(monkeypatch):
    monkeypatch.setitem(OPTIMIZERS, "forgetful", Forgetful)
    with pytest.raises(AssertionError):
        Contract().test_a_saved_state_goes_on_to_the_same_bits(Case("forgetful"), torch.float64)
