"""Optimizers of other packages: each way to use the closure gives the steps of SGD, and what cannot step is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import descend
from descend.errors import RecipeError, UserError
from descend.optim.foreign import closure_use, foreign_step, is_foreign


class Plain(torch.optim.Optimizer):
    """Gradient descent without a closure."""

    def __init__(self, params: Any, lr: float = 0.01) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # as people write it
        for group in self.param_groups:
            for p in group["params"]:
                p -= group["lr"] * p.grad


class IgnoresClosure(Plain):
    """A closure is accepted and not evaluated."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # as people write it
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.data -= group["lr"] * p.grad


class ReturnsNothing(Plain):
    """The closure is evaluated, and its loss is not returned."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # as people write it
        if closure is not None:
            closure()
        Plain.step(self)


class ReturnsANumber(ReturnsNothing):
    """The loss is not that of the closure."""

    def step(self, closure: Any = None) -> float:  # type: ignore[override]  # as people write it
        super().step(closure)
        return 17.0


class Fails(Plain):
    """A step is not implemented."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # as people write it
        raise NotImplementedError("to be written")


class NoLearningRate(torch.optim.Optimizer):
    """The step size has another name."""

    def __init__(self, params: Any, eta: float = 0.01) -> None:
        super().__init__(params, {"eta": eta})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # as people write it
        closure()


WAYS = [Plain, IgnoresClosure, ReturnsNothing, ReturnsANumber]


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    x = np.random.default_rng(0).normal(size=(120, 3))
    return x, x @ [1.0, -2.0, 0.5]


@pytest.mark.parametrize("constructor", WAYS)
def test_training_is_that_of_sgd(constructor: type, rows: Any) -> None:
    recipe = {"model": {"hidden": [4]}, "stop": {"max_epochs": 2}, "engine": {"threads": 1}}
    own = descend.train(rows, recipe | {"optimizer": {"name": constructor, "lr": 0.05}})
    reference = descend.train(rows, recipe | {"optimizer": {"name": "sgd", "lr": 0.05}})
    np.testing.assert_allclose(own.predict(rows[0]), reference.predict(rows[0]), rtol=1e-4)
    losses = [[record["train"]["loss"] for record in run.history] for run in (own, reference)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("constructor", WAYS)
def test_the_loss_before_the_step_is_returned(constructor: type) -> None:
    w = torch.nn.Parameter(torch.tensor([2.0]))

    def closure() -> torch.Tensor:
        w.grad = 2 * w.detach()
        return w.detach().square().sum()

    step = foreign_step(constructor([w], lr=0.25))
    assert [step(closure).item(), step(closure).item()] == [4.0, 1.0]
    assert w.item() == 0.5


def test_trying_a_step_changes_nothing() -> None:
    w = torch.nn.Parameter(torch.ones(2))
    w.grad = torch.ones(2)
    optimizer = ReturnsNothing([w])
    before = torch.get_rng_state()
    assert closure_use(optimizer) == "evaluates"
    assert closure_use(Plain([w])) == "expects_gradients"
    assert w.detach().tolist() == w.grad.tolist() == [1.0, 1.0]
    assert torch.equal(torch.get_rng_state(), before)


class SharpnessAware(torch.optim.Optimizer):
    """Two gradients per step, and an optimizer within: attributes that ``copy.deepcopy`` of an optimizer leaves out."""

    def __init__(self, params: Any, lr: float = 0.01, rho: float = 0.05) -> None:
        super().__init__(params, {"lr": lr, "rho": rho})
        self.base = torch.optim.SGD(self.param_groups, lr=lr)

    def step(self, closure: Any) -> Any:  # type: ignore[override]  # as people write it
        loss = closure()
        shifts = [(p, group["rho"] * p.grad) for group in self.param_groups for p in group["params"]]
        with torch.no_grad():
            for p, shift in shifts:
                p += shift
        closure()
        with torch.no_grad():
            for p, shift in shifts:
                p -= shift
        self.base.step()
        return loss


def test_an_optimizer_with_attributes_of_its_own_takes_its_steps(rows: Any) -> None:
    """Foret et al. 2021: of (w - 1)^2 / 2 at 3 the gradient is 2, and at 3 + 0.1 it is 2.1."""
    w = torch.nn.Parameter(torch.tensor([3.0]))
    optimizer = SharpnessAware([w], lr=0.5)
    assert closure_use(optimizer) == "evaluates"
    assert w.item() == 3.0

    def closure() -> torch.Tensor:
        w.grad = w.detach() - 1.0
        return (w.detach() - 1.0).square().sum() / 2

    assert foreign_step(optimizer)(closure).item() == 2.0
    assert w.item() == pytest.approx(3.0 - 0.5 * 2.1)
    assert (
        descend.train(
            rows, {"optimizer": {"name": SharpnessAware, "lr": 1e-5}, "stop": {"max_epochs": 2}}
        ).metrics["epochs"]
        == 2
    )


class FailsWithoutClosure(Plain):
    """A step that takes no closure, and fails for another reason."""

    def step(self) -> None:  # type: ignore[override]  # as people write it
        raise RuntimeError("no such kernel")


@pytest.mark.parametrize(
    ("constructor", "message"),
    [
        (FailsWithoutClosure, "FailsWithoutClosure: a step fails: no such kernel"),
        (Fails, "Fails: a step fails: to be written"),
        (NoLearningRate, "NoLearningRate: its parameter groups have no 'lr'"),
    ],
)
def test_what_cannot_step_is_refused_before_training(constructor: type, message: str, rows: Any) -> None:
    with pytest.raises(UserError, match=message):
        closure_use(constructor([torch.nn.Parameter(torch.ones(1))]))
    with pytest.raises(RecipeError, match=message):
        descend.train(rows, {"optimizer": constructor})


def test_pytorchs_lbfgs_needs_all_rows(rows: Any) -> None:
    with pytest.raises(RecipeError, match=r"each step needs all rows; use \{'data.sampling': 'full'\}"):
        descend.train(rows, {"optimizer": "torch.optim.LBFGS"})
    recipe = {
        "optimizer": "torch.optim.LBFGS",
        "data": {"sampling": "full"},
        "model": "linear",
        "stop": {"max_epochs": 5, "average": 0.0},
        "schedule": {"name": "constant", "warmup": 0.0},
    }
    assert descend.train(rows, recipe).metrics["test"]["r2"] > 0.999


def test_pytorchs_optimizers_are_not_foreign() -> None:
    assert not is_foreign(torch.optim.LBFGS([torch.nn.Parameter(torch.ones(1))]))
    assert not is_foreign(descend.optim.Nesterov([torch.nn.Parameter(torch.ones(1))]))
    assert is_foreign(Plain([torch.nn.Parameter(torch.ones(1))]))


def test_a_proximal_step_after_an_unknown_step_is_refused(rows: Any) -> None:
    recipe = {"optimizer": ReturnsNothing, "regularize": {"l1_prox": 0.1}}
    with pytest.raises(
        RecipeError, match=r"a step of returnsnothing is not known \(lr_is_step_size = True declares"
    ):
        descend.train(rows, recipe)
