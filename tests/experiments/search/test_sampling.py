import numpy as np
import pytest
from scipy import stats

from descend.errors import UserError
from descend.experiments.search import Space, grid_points, quasi_random_points, random_points

UNIT_CUBE = Space.of({f"model.x{i}": {"uniform": [0.0, 1.0]} for i in range(3)})


def array(points):
    return np.array([list(point.values()) for point in points])


@pytest.mark.parametrize("sample", [random_points, quasi_random_points])
class TestRandomAndQuasiRandom:
    def test_are_functions_of_seed_and_number(self, sample, space):
        points = sample(space, 12, seed=5)
        assert [sample(space, 1, seed=5, start=number)[0] for number in range(12)] == points
        assert sample(space, 12, seed=6) != points

    def test_are_uniform(self, sample):
        for column in array(sample(UNIT_CUBE, 512, seed=1)).T:
            assert stats.kstest(column, "uniform").pvalue > 0.001

    def test_respect_conditions(self, sample, space):
        points = sample(space, 40)
        assert {"optimizer.momentum" in point for point in points} == {True, False}
        assert all(("optimizer.momentum" in p) == (p["optimizer.name"] == "sgd") for p in points)


def levels(space, points):
    """The number of distinct values of each dimension."""
    return {each.key: len({str(point[each.key]) for point in points if each.key in point}) for each in space}


def test_random_dimensions_have_separate_streams():
    fewer = Space(UNIT_CUBE.dimensions[:2])
    for one, other in zip(random_points(UNIT_CUBE, 9), random_points(fewer, 9), strict=True):
        assert {key: one[key] for key in other} == other


def test_random_dimensions_are_independent():
    correlations = np.corrcoef(array(random_points(UNIT_CUBE, 2000, seed=2)).T)
    assert np.abs(correlations[np.triu_indices(3, 1)]).max() < 4 / np.sqrt(2000)


def test_quasi_random_points_are_stratified_in_every_dimension():
    for column in array(quasi_random_points(UNIT_CUBE, 64, seed=3)).T:
        assert sorted((64 * column).astype(int)) == list(range(64))


def test_quasi_random_points_have_a_lower_discrepancy():
    def discrepancy(sample):
        return np.mean([stats.qmc.discrepancy(array(sample(UNIT_CUBE, 64, seed=s))) for s in range(5)])

    assert discrepancy(quasi_random_points) < 0.3 * discrepancy(random_points)


class TestGrids:
    def test_are_as_large_as_the_number_of_trials_allows(self):
        assert len(grid_points(UNIT_CUBE, 30)) == 27
        assert len(grid_points(UNIT_CUBE, 12)) == 12
        assert levels(UNIT_CUBE, grid_points(UNIT_CUBE, 12)) == {"model.x0": 3, "model.x1": 2, "model.x2": 2}

    def test_are_the_product_of_their_levels(self):
        points = array(grid_points(UNIT_CUBE, 8))
        assert sorted(map(tuple, points)) == [(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)]

    def test_integers_have_no_more_levels_than_values(self):
        space = Space.of({"model.x": {"integers": [1, 3]}})
        assert [point["model.x"] for point in grid_points(space, 50)] == [1, 2, 3]

    def test_conditions_create_no_duplicates(self, space):
        points = grid_points(space, 100)
        assert len({repr(point) for point in points}) == len(points) > 50

    def test_levels_can_be_set(self):
        space = Space.of({"model.x": {"uniform": [0, 1], "levels": 5}, "model.y": {"uniform": [0, 1]}})
        assert levels(space, grid_points(space, 12)) == {"model.x": 5, "model.y": 2}

    def test_logarithmic_ranges(self):
        space = Space.of({"model.x": {"log_uniform": [0.01, 100.0]}})
        assert [p["model.x"] for p in grid_points(space, 5)] == pytest.approx([0.01, 0.1, 1, 10, 100])

    def test_too_few_trials(self):
        space = Space.of({"model.x": [1, 2, 3], "model.y": [1, 2]})
        with pytest.raises(UserError, match="smallest grid has 6 points, but trials is 5"):
            grid_points(space, 5)
