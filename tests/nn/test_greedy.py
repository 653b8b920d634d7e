"""Greedy selection is compared with an exhaustive search on small cases, and never worse than the best network."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from descend.nn.ensemble import mean_outputs
from descend.nn.greedy import greedy, shrunk

TRUTH = torch.tensor([[0.0], [1.0], [-1.0], [2.0]], dtype=torch.float64)


def error(outputs: torch.Tensor) -> torch.Tensor:
    return (outputs - TRUTH).square().mean()


def networks(errors: list[list[float]]) -> list[torch.Tensor]:
    return [TRUTH + torch.tensor(each, dtype=torch.float64)[:, None] for each in errors]


def loss_of(outputs: list[torch.Tensor], counts: dict[int, int]) -> float:
    weights = torch.tensor([float(each) for each in counts.values()], dtype=torch.float64)
    chosen = torch.stack([outputs[each] for each in counts])
    return float(error(mean_outputs(chosen, "identity", weights / weights.sum())))


lists = st.lists(st.lists(st.floats(-3, 3), min_size=4, max_size=4), min_size=1, max_size=4)


@given(lists)
def test_the_loss_is_at_most_that_of_the_best_network_and_of_each_earlier_choice(errors):
    outputs = networks(errors)
    found = greedy(outputs, "identity", error, size=4)
    losses = [float(error(each)) for each in outputs]
    assert loss_of(outputs, found) <= min(losses) + 1e-12
    assert next(iter(found)) == losses.index(min(losses))
    previous = float("inf")
    for steps in range(1, 6):
        now = loss_of(outputs, greedy(outputs, "identity", error, size=4, steps=steps))
        assert now <= previous + 1e-12
        previous = now


@given(lists)
def test_two_steps_are_the_best_pair_with_the_best_network(errors):
    outputs = networks(errors)
    found = greedy(outputs, "identity", error, size=4, steps=2)
    first = next(iter(found))
    pairs = [float(error((outputs[first] + each) / 2)) for each in outputs]
    assert loss_of(outputs, found) == pytest.approx(min([*pairs, float(error(outputs[first]))]), abs=1e-12)


def test_opposite_errors_are_weighted_as_an_exhaustive_search_weights_them():
    outputs = networks([[0.2] * 4, [-0.1] * 4, [5.0] * 4])
    found = greedy(outputs, "identity", error, size=3, steps=12)
    exhaustive = min(
        loss_of(outputs, {at: count for at, count in enumerate(counts) if count})
        for total in range(1, 7)
        for counts in itertools.product(range(total + 1), repeat=3)
        if sum(counts) == total
    )
    assert loss_of(outputs, found) == pytest.approx(exhaustive, abs=1e-15)
    assert found == {1: 2, 0: 1}


def test_the_size_bounds_the_number_of_different_networks():
    generator = torch.Generator().manual_seed(0)
    outputs = [TRUTH + torch.randn(4, 1, generator=generator, dtype=torch.float64) for _ in range(8)]
    assert len(greedy(outputs, "identity", error, size=8)) > 2
    assert len(greedy(outputs, "identity", error, size=2)) == 2
    assert len(greedy(outputs, "identity", error, size=1)) == 1


def test_undefined_losses_are_never_the_best():
    outputs = [torch.full_like(TRUTH, float("nan")), TRUTH + 1.0]
    assert greedy(outputs, "identity", error, size=2) == {1: 1}
    assert greedy(outputs[:1], "identity", error, size=2) == {}


@given(
    st.dictionaries(st.integers(0, 5), st.integers(1, 9), min_size=1), st.sampled_from([0.0, 0.25, 0.5, 1.0])
)
def test_shrinkage_moves_the_weights_on_a_line_from_the_selection_to_the_plain_mean(counts, shrinkage):
    total = sum(counts.values())
    found = shrunk(counts, range(6), shrinkage)
    expected = [(1 - shrinkage) * counts.get(m, 0) / total + shrinkage / 6 for m in range(6)]
    assert [found.get(m, 0.0) for m in range(6)] == pytest.approx(expected)
    assert sum(found.values()) == pytest.approx(1.0)
    assert list(found)[: len(counts)] == list(counts)
    assert min(found.values()) > 0
