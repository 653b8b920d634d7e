"""Tests of the perceptron: Novikoff's bound, and that its update is not a gradient through the sign."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.svm import SVC
from tests.support.examples import examples

from descend.errors import UserError
from descend.optim import mistake_bound, perceptron


def separable(seed, n=40, d=5, margin=0.1):
    """Rows on both sides of a random hyperplane, none within the margin of it."""
    draw = torch.Generator().manual_seed(seed)
    u = torch.randn(d, generator=draw, dtype=torch.float64)
    u /= u.norm()
    x = torch.randn(n, d, generator=draw, dtype=torch.float64)
    along = x @ u
    x = x + torch.outer(torch.sign(along) * margin, u)
    return x, torch.sign(along), u


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 8), st.sampled_from([0.02, 0.1, 1.0]))
@settings(max_examples=examples(60), deadline=None, derandomize=True)
def test_it_separates_within_the_bound(seed, n, d, margin):
    x, y, u = separable(seed, n, d, margin)
    found = perceptron(x, y, max_passes=100_000)
    assert found.separated
    assert torch.equal(found.predict(x).double(), y)
    assert found.mistakes <= mistake_bound(x, y, u)


def test_the_bound_is_reached():
    """Two rows at right angles to each other, of length 1, on one side: R = 1, γ = 1/√2, two mistakes."""
    x, y = torch.eye(2, dtype=torch.float64), torch.ones(2)
    assert mistake_bound(x, y, torch.ones(2)) == pytest.approx(2.0)
    assert perceptron(x, y).mistakes == 2


@pytest.mark.parametrize("d", [3, 17])
def test_it_is_reached_in_every_dimension(d):
    x, y = torch.eye(d, dtype=torch.float64), torch.ones(d)
    assert perceptron(x, y).mistakes == d == round(mistake_bound(x, y, torch.ones(d)))


def test_the_largest_margin_gives_the_least_bound():
    """On real rows: setosa against the other irises, with the separator of a support vector machine."""
    rows, kinds = load_iris(return_X_y=True)
    x = torch.cat([torch.tensor(rows), torch.ones(len(rows), 1, dtype=torch.float64)], 1)
    y = torch.tensor([1.0 if kind == 0 else -1.0 for kind in kinds])
    machine = SVC(kernel="linear", C=1e6).fit(rows, kinds == 0)
    widest = torch.tensor([*machine.coef_[0], machine.intercept_[0]])
    found = perceptron(x, y)
    assert found.separated
    bound = mistake_bound(x, y, widest)
    assert found.mistakes <= bound
    assert bound < mistake_bound(x, y, found.weights)


def test_the_bound_holds_in_any_order():
    x, y, u = separable(3)
    bound = mistake_bound(x, y, u)
    for seed in range(20):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
        assert perceptron(x[order], y[order]).mistakes <= bound


def test_scaling_the_rows_changes_nothing():
    x, y, u = separable(5)
    assert perceptron(1000 * x, y).mistakes == perceptron(x, y).mistakes
    assert mistake_bound(1000 * x, y, u) == pytest.approx(mistake_bound(x, y, u))


def test_it_does_not_converge_on_inseparable_rows():
    """The exclusive or."""
    x = torch.tensor([[1.0, 1, 1], [1, -1, 1], [-1, 1, 1], [-1, -1, 1]])
    found = perceptron(x, torch.tensor([1, -1, -1, 1]), max_passes=50)
    assert (found.separated, found.passes) == (False, 50)
    assert found.mistakes > 50


def test_the_update_is_not_a_gradient_through_the_sign():
    """Autograd's gradient of a loss behind sign(w'x) is zero, and the update is not."""
    x, y, _ = separable(1)
    w = torch.full((5,), 0.1, dtype=torch.float64, requires_grad=True)
    (torch.sign(x @ w) - y).square().sum().backward()
    assert torch.count_nonzero(w.grad) == 0
    assert torch.count_nonzero(perceptron(x, y, max_passes=1).weights) == 5


@pytest.mark.parametrize(
    ("inputs", "labels", "words"),
    [
        (torch.zeros(3), torch.ones(3), r"expected inputs \(n, d\)"),
        (torch.zeros(3, 2), torch.ones(2), r"got \(3, 2\) and \(2,\)"),
        (torch.zeros(0, 2), torch.ones(0), "n >= 1"),
        (torch.zeros(2, 2), torch.tensor([0, 1]), "expected labels -1 and 1"),
    ],
)
def test_refusals(inputs, labels, words):
    with pytest.raises(UserError, match=words):
        perceptron(inputs, labels)


def test_other_refusals():
    x, y, u = separable(0)
    with pytest.raises(UserError, match="max_passes: expected an integer >= 1, got"):
        perceptron(x, y, max_passes=0)
    with pytest.raises(UserError, match="does not separate"):
        mistake_bound(x, y, -u)
    with pytest.raises(UserError, match="does not separate"):
        mistake_bound(x, y, torch.full((5,), math.nan))
