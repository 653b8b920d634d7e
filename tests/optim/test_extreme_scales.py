"""One gradient of extreme scale must not end an optimization; what a closure must return."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from descend.errors import UserError
from descend.linalg import Pairs
from descend.optim import OPTIMIZERS, SQN, STRON, Prodigy, Rows, TrustRegion

CURVATURE = torch.tensor([1.0, 0.5, 0.25])


def quadratic_after(make: Callable[[Any], Any], scales: list[float]) -> float:
    w = torch.tensor([3.0, -2.0, 1.0], requires_grad=True)
    optimizer = make([w])
    for scale in scales:
        optimizer.step(lambda: (CURVATURE * w * w / 2).sum() * scale)  # noqa: B023 - called within the iteration
    return float((CURVATURE * w * w / 2).sum().detach())


@pytest.mark.parametrize("scale", [1e-30, 1e-20])
def test_sqn_recovers_from_one_batch_of_tiny_curvature(scale: float) -> None:
    scales = [1.0] * 120
    scales[5] = scale  # the step at which the second average adds a pair
    assert quadratic_after(lambda p: SQN(p, lr=0.3, update_frequency=3), scales) < 1e-6


@pytest.mark.parametrize("factor", [1e-30, 1e-15, 1e15, 1e30])
def test_a_pair_defines_the_same_matrix_at_every_scale(factor: float) -> None:
    step, change = torch.tensor([1.0, 2.0, -1.0]), torch.tensor([2.0, 3.0, -0.5])
    v = torch.tensor([0.3, -1.0, 2.0])
    first, second = Pairs(3, like=v), Pairs(3, like=v)
    assert bool(first.add(step, change))
    assert bool(second.add(step * factor, change * factor))
    torch.testing.assert_close(second.inverse_times(v), first.inverse_times(v), rtol=1e-5, atol=0.0)


def test_a_pair_whose_curvature_underflows_is_skipped() -> None:
    pairs = Pairs(3, like=torch.zeros(2))
    assert not bool(pairs.add(torch.tensor([1.0, 1.0]), torch.tensor([1e-30, 1e-30])))
    assert pairs.inverse_times(torch.ones(2)).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("make", [STRON, TrustRegion])
def test_the_first_radius_is_at_least_the_spacing_of_the_values(make: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    x = torch.randn(40, 3)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]])
    optimizer = make(model.parameters())
    optimizer.step(Rows(model, lambda a, b: F.mse_loss(a, b) * 1e-18, x, y))
    for _ in range(40):  # doubling from 1e-18 alone would take 60 steps
        optimizer.step(Rows(model, F.mse_loss, x, y))
    assert float(F.mse_loss(model(x), y).detach()) < 1e-6


@pytest.mark.parametrize(
    "name", ["gd", "bfgs", "lbfgs", "cg", "coordinate_descent", "newton", "trust_region", "sqn", "trish"]
)
@pytest.mark.parametrize(
    ("result", "found"),
    [
        (None, "got None"),
        ("3", "got a value of type str"),
        (torch.ones(3), r"got a tensor of shape \(3,\) and dtype torch.float32"),
        (torch.ones((), dtype=torch.complex64), "dtype torch.complex64"),
    ],
)
def test_a_closure_must_return_the_loss(name: str, result: Any, found: str) -> None:
    w = torch.ones(2, requires_grad=True)
    optimizer: Any = OPTIMIZERS[name]([w])

    def closure() -> Any:
        (w * w).sum().backward()
        return result

    with pytest.raises(UserError, match=f"{name}: expected the closure .* {found}; end the closure with"):
        optimizer.step(closure)
    assert w.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("name", ["gd", "bfgs", "lbfgs", "cg"])
def test_a_closure_may_return_a_number_after_backward(name: str) -> None:
    w = torch.ones(2, requires_grad=True)
    optimizer: Any = OPTIMIZERS[name]([w])

    def closure() -> float:
        optimizer.zero_grad()
        loss = (w * w).sum()
        if torch.is_grad_enabled():
            loss.backward()
        return float(loss.detach())

    assert optimizer.step(closure) == 2.0
    assert float((w * w).sum().detach()) < 2.0


@pytest.mark.parametrize("name", ["gd", "bfgs", "lbfgs", "cg", "coordinate_descent"])
def test_a_number_without_a_gradient_is_refused(name: str) -> None:
    w = torch.ones(2, requires_grad=True)
    optimizer: Any = OPTIMIZERS[name]([w])
    with pytest.raises(UserError, match=f"{name}: the closure .* no gradient"):
        optimizer.step(lambda: float((w * w).sum().detach()))


def test_a_huge_gradient_stalls_prodigy_as_it_stalls_adam() -> None:
    start = quadratic_after(Prodigy, [1.0] * 3)
    assert quadratic_after(Prodigy, [1.0] * 3 + [1e15] + [1.0] * 60) == pytest.approx(start, rel=0.01)
    w = torch.nn.Parameter(torch.tensor([3.0, -2.0, 1.0]))
    adam = torch.optim.Adam([w], lr=0.1)
    for step in range(64):
        w.grad = CURVATURE * w.detach() * (1e15 if step == 3 else 1.0)
        adam.step()
        if step == 20:
            stalled = w.detach().clone()
    torch.testing.assert_close(w.detach(), stalled, rtol=0.0, atol=0.1)


def test_prodigy_recovers_from_a_first_gradient_that_is_tiny() -> None:
    assert quadratic_after(Prodigy, [1e-30] + [1.0] * 80) < 0.05


@pytest.mark.parametrize("name", ["sgd", "adam", "lion", "shampoo", "trust_region", "prodigy", "gd"])
def test_a_setting_beyond_single_precision_is_refused_before_a_step(name: str) -> None:
    w = torch.ones(2, 2, requires_grad=True)
    with pytest.raises(UserError, match=rf"{name}: lr: expected a number up to 3\.4e\+38, .* got 1e\+300"):
        OPTIMIZERS[name]([w], lr=1e300)
