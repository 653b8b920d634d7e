"""Embeddings of numbers agree with their definitions, one number and one bin at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from descend.errors import UserError
from descend.nn import LinearEmbedding, NumberEmbedding, PeriodicEmbedding, PiecewiseLinearEmbedding
from descend.nn.number_embedding.bins import quantile_edges, tree_edges
from descend.regularization import decayed_parameters


def encoded(x: float, edges: list[float]) -> list[float]:
    """Return the piecewise-linear encoding of a number by the formula of the paper, one bin at a time."""
    bins, entries = len(edges) - 1, []
    for t in range(1, bins + 1):
        if t > 1 and x < edges[t - 1]:
            entries.append(0.0)
        elif t < bins and x >= edges[t]:
            entries.append(1.0)
        else:
            entries.append((x - edges[t - 1]) / (edges[t] - edges[t - 1]))
    return entries


def edges_of(module: PiecewiseLinearEmbedding, number: int) -> list[float]:
    used = int((module.high[number] > 0).sum())
    if not used:
        return []
    left, width = module.left[number, :used], module.width[number, :used]
    return [*left.tolist(), float(left[-1] + width[-1])]


def impurity(targets: np.ndarray, classes: bool) -> float:
    """Return the sum over rows of the squared error, or of Gini's impurity."""
    if classes:
        shares = np.unique(targets, return_counts=True)[1] / max(1, len(targets))
        return float(len(targets) * (1.0 - (shares**2).sum()))
    return float(((targets - targets.mean()) ** 2).sum())


def best_first_tree(x: np.ndarray, y: np.ndarray, leaves: int, leaf_rows: int, classes: bool) -> list[float]:
    """Return the thresholds of a tree that always makes the best split of all, by trying every one."""
    order = np.argsort(x, kind="stable")
    parts, thresholds = [(x[order], y[order])], []
    while len(parts) < leaves:
        best: tuple[float, int, int] | None = None
        for number, (own, targets) in enumerate(parts):
            for at in range(leaf_rows, len(own) - leaf_rows + 1):
                if own[at - 1] == own[at]:
                    continue
                gain = impurity(targets, classes) - sum(
                    impurity(p, classes) for p in (targets[:at], targets[at:])
                )
                if gain > 1e-9 and (best is None or gain > best[0]):
                    best = (gain, number, at)
        if best is None:
            break
        _, number, at = best
        own, targets = parts.pop(number)
        thresholds.append((float(own[at - 1]) + float(own[at])) / 2)
        parts += [(own[:at], targets[:at]), (own[at:], targets[at:])]
    return sorted(thresholds)


class TestEdges:
    def test_quantiles_of_normal_numbers_are_those_of_numpy(self) -> None:
        values = np.random.default_rng(0).normal(size=501).astype(np.float32)
        expected = [np.sort(values)[500 * t // 20] for t in range(21)]
        np.testing.assert_allclose(quantile_edges(values, 20), expected, rtol=1e-6)

    def test_ties_merge_bins(self) -> None:
        values = np.array([0] * 60 + [1] * 30 + [2] * 10, dtype=np.float32)
        assert quantile_edges(values, 10).tolist() == pytest.approx([0.0, 0.4, 1.0, 1.1, 2.0], abs=1e-6)

    @given(st.lists(st.integers(-5, 5), min_size=1, max_size=30), st.integers(1, 8))
    def test_quantiles_increase_and_cover_the_values(self, values: list[int], bins: int) -> None:
        edges = quantile_edges(np.array(values, dtype=np.float32), bins)
        assert len(edges) <= bins + 1
        assert (np.diff(edges) > 0).all()
        assert (edges[0], edges[-1]) == (min(values), max(values))

    @pytest.mark.parametrize("classes", [True, False])
    @pytest.mark.parametrize("leaf_rows", [1, 7])
    def test_a_tree_is_the_best_one_of_an_exhaustive_search(self, classes: bool, leaf_rows: int) -> None:
        rng = np.random.default_rng(3)
        x = rng.normal(size=120).round(1).astype(np.float32)
        steps = 1.0 * (x > -0.4) - 2.0 * (x > 0.7) + 0.3 * rng.normal(size=120)
        y = np.digitize(steps, [0.2, 0.8]) if classes else steps
        expected = best_first_tree(x, y, 6, leaf_rows, classes)
        assert len(expected) == 5
        edges = tree_edges(x, y, 6, classes=classes, leaf_rows=leaf_rows)
        np.testing.assert_allclose(edges[1:-1], expected, atol=1e-6)
        assert (edges[0], edges[-1]) == (x.min(), x.max())

    def test_a_tree_of_several_targets_and_of_weighted_rows(self) -> None:
        x = np.arange(40, dtype=np.float32)
        y = np.stack([x > 9, x > 29], axis=1).astype(np.float64)
        assert tree_edges(x, y, 3, classes=False, leaf_rows=1).tolist() == [0.0, 9.5, 29.5, 39.0]
        heavy = np.where(x < 20, 100.0, 0.01)
        y = 1.0 * (x > 9) + 5.0 * (x > 29)
        assert tree_edges(x, y, 2, classes=False, leaf_rows=1).tolist() == [0.0, 29.5, 39.0]
        assert tree_edges(x, y, 2, classes=False, leaf_rows=1, weights=heavy).tolist() == [0.0, 9.5, 39.0]

    def test_few_rows_are_one_bin(self) -> None:
        x = np.arange(9, dtype=np.float32)
        assert tree_edges(x, x, 8, classes=False, leaf_rows=5).tolist() == [0.0, 8.0]
        assert tree_edges(x[:1], x[:1], 8, classes=False, leaf_rows=1).tolist() == [0.0]


class TestPiecewiseLinear:
    @given(
        st.lists(st.integers(-40, 40), min_size=2, max_size=6, unique=True),
        st.lists(st.floats(-60, 60, width=32), min_size=1, max_size=5),
    )
    def test_the_encoding_is_that_of_the_paper(self, edges: list[int], values: list[float]) -> None:
        own = [0.25 * edge for edge in sorted(edges)]
        module = PiecewiseLinearEmbedding(1, bins=5).place([torch.tensor(own)])
        found = module(torch.tensor(values).unsqueeze(1))[:, 0]
        for row, x in zip(found.tolist(), values, strict=True):
            assert row[: len(own) - 1] == pytest.approx(encoded(x, own), rel=1e-5, abs=1e-6)
            assert not any(row[len(own) - 1 :])

    def test_edges_are_encoded_exactly(self) -> None:
        edges = torch.tensor([0.1, 0.2, 0.7, 1.3])
        module = PiecewiseLinearEmbedding(1, bins=3).place([edges])
        expected = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0]])
        assert torch.equal(module(edges[:3, None])[:, 0], expected)

    def test_a_linear_layer_of_it_is_any_function_that_is_linear_in_the_bins(self) -> None:
        edges = np.array([-2.0, -0.5, 0.0, 1.5, 3.0])
        heights = np.array([1.0, -2.0, 5.0, 5.0, 0.0])
        module = PiecewiseLinearEmbedding(1, bins=6).place([torch.from_numpy(edges)]).double()
        x = torch.linspace(-2, 3, 101, dtype=torch.float64)
        slopes = torch.zeros(6, dtype=torch.float64)
        slopes[:4] = torch.from_numpy(np.diff(heights))
        found = module(x[:, None])[:, 0] @ slopes + heights[0]
        np.testing.assert_allclose(found, np.interp(x, edges, heights), atol=1e-6)

    @pytest.mark.parametrize("edges", ["quantile", "tree"])
    def test_constants_and_missing_values(self, edges: str) -> None:
        rng = np.random.default_rng(1)
        x = torch.from_numpy(rng.normal(size=(80, 4)).astype(np.float32))
        x[:, 1] = 3.0
        x[::3, 2] = math.nan
        x[:, 3] = math.nan
        y = torch.from_numpy(rng.normal(size=80)) + (x[:, 0] > 0)
        settings = {"bins": 4, "edges": edges, "leaf_rows": 2}
        module = PiecewiseLinearEmbedding(4, **settings).fit(x, y)
        known = x[:, 2].isfinite()
        alone = PiecewiseLinearEmbedding(1, **settings).fit(x[known, 2:3], y[known])
        assert edges_of(module, 2) == edges_of(alone, 0)
        assert len(edges_of(module, 0)) == 5
        assert edges_of(module, 1) == edges_of(module, 3) == []
        assert not module(torch.randn(5, 4))[:, [1, 3]].any()

    def test_rows_without_weight_are_not_used(self) -> None:
        x = torch.arange(10.0)[:, None]
        module = PiecewiseLinearEmbedding(1, bins=2).fit(x, weights=(x[:, 0] < 5).float())
        assert edges_of(module, 0) == [0.0, 2.0, 4.0]

    def test_before_it_is_fitted_all_entries_are_zero(self) -> None:
        assert not PiecewiseLinearEmbedding(2, bins=3)(torch.randn(4, 2)).any()

    def test_fitting_again_replaces_all_edges(self) -> None:
        module = PiecewiseLinearEmbedding(1, bins=4).fit(torch.arange(9.0)[:, None])
        assert edges_of(module.fit(torch.tensor([[1.0], [5.0]])), 0) == [1.0, 2.0, 3.0, 4.0, 5.0]
        assert edges_of(module.place([torch.tensor([1.0, 5.0])]), 0) == [1.0, 5.0]

    def test_a_learned_map_follows(self) -> None:
        torch.manual_seed(0)
        module = PiecewiseLinearEmbedding(2, bins=3, dimension=5, activation="relu").double()
        module.fit(torch.randn(50, 2))
        x = torch.randn(7, 2, dtype=torch.float64)
        for row, y in zip(x, module(x), strict=True):
            for j in range(2):
                e = torch.tensor(encoded(float(row[j]), edges_of(module, j)), dtype=torch.float64)
                expected = torch.relu(module.weight[j].T @ e + module.bias[j])
                torch.testing.assert_close(y[j], expected, rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize(
        ("edges", "message"),
        [
            ([[0.0, 1.0, 1.0]], "must increase"),
            ([[1.0, 0.0]], "must increase"),
            ([[0.0, math.inf]], "be finite"),
            ([[0.0, 1.0, 2.0, 3.0]], "at most 3"),
            ([], "the edges of 1 numbers, got those of 0"),
        ],
    )
    def test_edges_that_are_none(self, edges: list[list[float]], message: str) -> None:
        with pytest.raises(UserError, match=message):
            PiecewiseLinearEmbedding(1, bins=2).place([torch.tensor(each) for each in edges])

    def test_rows_that_do_not_fit(self) -> None:
        with pytest.raises(UserError, match=r"rows of 2 numbers .* got shape \(3, 1\)"):
            PiecewiseLinearEmbedding(2).fit(torch.zeros(3, 1))
        with pytest.raises(UserError, match="targets, which are required"):
            PiecewiseLinearEmbedding(1, edges="tree").fit(torch.zeros(3, 1))


class TestPeriodic:
    def test_pbld_is_its_formula(self) -> None:
        torch.manual_seed(0)
        module = PeriodicEmbedding(3, frequencies=6, dimension=4).double()
        x = torch.randn(5, 3, dtype=torch.float64)
        assert module.phase is not None
        for row, y in zip(x, module(x), strict=True):
            for j in range(3):
                waves = torch.cos(2 * math.pi * module.frequency[j] * row[j] + module.phase[j])
                expected = torch.cat([row[j : j + 1], waves @ module.weight[j] + module.bias[j]])
                torch.testing.assert_close(y[j], expected, rtol=1e-12, atol=1e-14)

    def test_plr_is_its_formula(self) -> None:
        torch.manual_seed(0)
        module = PeriodicEmbedding(2, form="plr", frequencies=3, dimension=5).double()
        x = torch.randn(4, 2, dtype=torch.float64)
        for row, y in zip(x, module(x), strict=True):
            for j in range(2):
                angle = 2 * math.pi * module.frequency[j] * row[j]
                waves = torch.cat([torch.sin(angle), torch.cos(angle)])
                expected = (waves @ module.weight[j] + module.bias[j]).clamp_min(0.0)
                torch.testing.assert_close(y[j], expected, rtol=1e-12, atol=1e-14)

    def test_initial_parameters(self) -> None:
        torch.manual_seed(0)
        module = PeriodicEmbedding(500, frequencies=20, sigma=0.3)
        assert module.frequency.std().item() == pytest.approx(0.3, rel=0.03)
        assert module.phase is not None
        assert module.phase.std().item() == pytest.approx(math.pi / math.sqrt(3), rel=0.03)
        assert module.phase.abs().max().item() <= math.pi
        for each in (module.weight, module.bias):
            assert each.std().item() == pytest.approx(1 / math.sqrt(3 * 20), rel=0.06)
            assert each.abs().max().item() <= 1 / math.sqrt(20)

    def test_the_number_itself_needs_a_dimension(self) -> None:
        with pytest.raises(UserError, match="dimension must be 2 or more"):
            PeriodicEmbedding(1, dimension=1)
        assert PeriodicEmbedding(1, dimension=1, form="plr").outputs == 1


@pytest.mark.parametrize("activation", ["none", "relu"])
def test_linear_is_its_formula(activation: str) -> None:
    module = LinearEmbedding(3, dimension=2, activation=activation).double()
    x = torch.randn(6, 3, dtype=torch.float64)
    expected = torch.einsum("nj,je->nje", x, module.weight) + module.bias
    torch.testing.assert_close(module(x), expected.clamp_min(0.0) if activation == "relu" else expected)


EVERY = {
    "linear": lambda: LinearEmbedding(3, dimension=2),
    "piecewise_linear": lambda: PiecewiseLinearEmbedding(3, bins=4).fit(torch.randn(40, 3)),
    "mapped": lambda: PiecewiseLinearEmbedding(3, bins=4, dimension=2).fit(torch.randn(40, 3)),
    "pbld": lambda: PeriodicEmbedding(3, frequencies=3),
    "plr": lambda: PeriodicEmbedding(3, form="plr", frequencies=3),
}
every = pytest.mark.parametrize("name", EVERY)


@every
def test_gradients(name: str) -> None:
    torch.manual_seed(2)
    module = EVERY[name]().double()
    names = [each for each, _ in module.named_parameters()]
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)

    def outputs(rows: Tensor, *parameters: Tensor) -> Tensor:
        given = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(module, given, (rows,)).sin()

    assert torch.autograd.gradcheck(outputs, (x, *module.parameters()))


@every
def test_sizes_and_biases(name: str) -> None:
    module = EVERY[name]()
    assert module(torch.zeros(2, 3)).flatten(1).shape[1] == module.outputs
    decayed = {id(p) for p in decayed_parameters(module)[0]}
    assert {n for n, p in module.named_parameters() if id(p) not in decayed} <= {"bias", "phase"}
    assert {n for n, p in module.named_parameters() if id(p) in decayed} <= {"weight", "frequency"}


class TestFront:
    @pytest.mark.parametrize("positions", [(0, 1, 2), (1, 2, 5), (0, 2, 4), (3, 4, 5)])
    def test_numbers_are_embedded_and_other_entries_unchanged(self, positions: tuple[int, ...]) -> None:
        layer = NumberEmbedding(LinearEmbedding(3, dimension=4), positions=positions, width=6)
        x = torch.randn(5, 6)
        others = [at for at in range(6) if at not in positions]
        expected = torch.cat([layer.embedding(x[:, list(positions)]).flatten(1), x[:, others]], dim=1)
        assert torch.equal(layer(x), expected)

    def test_all_entries_are_numbers(self) -> None:
        layer = NumberEmbedding(LinearEmbedding(3, dimension=4), positions=(0, 1, 2), width=3)
        assert layer(torch.randn(5, 3)).shape == (5, 12)

    def test_any_module_of_numbers(self) -> None:
        layer = NumberEmbedding(nn.Linear(2, 7), positions=(0, 2), width=4)
        assert layer(torch.randn(5, 4)).shape == (5, 9)
