import math

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

from descend.errors import RecipeError, UserError
from descend.experiments.search import Space
from descend.experiments.search.dimension import Dimension, parse_dimension

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


@st.composite
def ranges(draw):
    kind = draw(st.sampled_from(["uniform", "log_uniform", "integers", "log_integers"]))
    if kind == "uniform":
        ends = sorted(draw(st.tuples(NUMBERS, NUMBERS)))
    elif kind == "log_uniform":
        ends = sorted(draw(st.tuples(st.floats(1e-9, 1e6), st.floats(1e-9, 1e6))))
    else:
        least = 1 if kind == "log_integers" else -1000
        ends = sorted(draw(st.tuples(st.integers(least, 1000), st.integers(least, 1000))))
    return {kind: list(ends)}


VALUES = st.one_of(
    st.integers(-9, 9), st.text("abc", min_size=1, max_size=3), st.lists(st.integers(1, 9), max_size=3)
)
CHOICES = st.lists(VALUES, min_size=1, max_size=5, unique_by=repr)


@st.composite
def spaces(draw):
    entries = {}
    for index in range(draw(st.integers(1, 5))):
        entries[f"model.key{index}"] = draw(st.one_of(ranges(), st.builds(lambda c: {"choices": c}, CHOICES)))
    parents = [key for key, value in entries.items() if "choices" in value]
    if parents:
        parent = draw(st.sampled_from(parents))
        entries["model.child"] = {**draw(ranges()), "when": {parent: [entries[parent]["choices"][0]]}}
    return entries


class TestParsing:
    @given(spaces(), st.randoms(use_true_random=False))
    @settings(max_examples=examples(150), deadline=None)
    def test_toml_round_trip(self, entries, random):
        space = Space.of(entries)
        again = Space.loads(space.to_toml())
        assert again.to_dict() == space.to_dict()
        coordinates = {key: random.random() for key in space.keys}
        assert again.point(coordinates) == space.point(coordinates)

    @given(spaces(), st.randoms(use_true_random=False))
    @settings(max_examples=examples(150), deadline=None)
    def test_points_lie_in_the_space(self, entries, random):
        space = Space.of(entries)
        point = space.point({key: random.random() for key in space.keys})
        for key, value in point.items():
            assert space[key].contains(value)
        for dimension in space:
            assert (dimension.key in point) == space.is_active(dimension, point)

    @given(ranges(), st.floats(0, 1))
    @settings(max_examples=examples(200), deadline=None)
    def test_to_unit_is_the_inverse_of_from_unit(self, entry, u):
        dimension, problems = parse_dimension("model.x", entry)
        assert not problems
        value = dimension.from_unit(u)
        assert dimension.low <= value <= dimension.high
        assert 0 <= dimension.to_unit(value) <= 1
        if dimension.high > dimension.low * (1 + 1e-9) + 1e-9:
            tolerance = 1e-6 * max(1.0, abs(value))
            assert math.isclose(dimension.from_unit(dimension.to_unit(value)), value, abs_tol=tolerance)

    @given(
        st.recursive(
            VALUES | NUMBERS, lambda inner: st.dictionaries(st.text("ab.", max_size=4), inner, max_size=3)
        )
    )
    @settings(max_examples=examples(200), deadline=None)
    def test_any_other_value_raises_a_user_error(self, entry):
        try:
            Space.of({"optimizer": entry})
        except UserError:
            return

    @given(st.text(max_size=60))
    @settings(deadline=None)
    def test_any_text_parses_or_raises_a_user_error(self, text):
        try:
            Space.loads(text)
        except UserError:
            return

    def test_three_equivalent_notations(self):
        dotted = Space.loads("optimizer.lr = { uniform = [0.1, 0.2] }\noptimizer.name = ['sgd', 'adam']")
        table = Space.loads(
            "[optimizer]\nlr = { uniform = [0.1, 0.2] }\nname = { choices = ['sgd', 'adam'] }"
        )
        flat = Space.of({"optimizer.lr": {"uniform": [0.1, 0.2]}, "optimizer": ["sgd", "adam"]})
        assert dotted.to_dict() == table.to_dict() == flat.to_dict()

    def test_dimensions_follow_those_they_depend_on(self):
        space = Space.of(
            {
                "optimizer.momentum": {"uniform": [0, 0.9], "when": {"optimizer.name": "sgd"}},
                "optimizer.name": ["sgd", "adam"],
            }
        )
        assert space.keys == ("optimizer.name", "optimizer.momentum")

    def test_a_condition_on_a_condition(self):
        space = Space.of(
            {
                "a.x": ["p", "q"],
                "a.y": {"choices": ["r", "s"], "when": {"a.x": "p"}},
                "a.z": {"uniform": [0, 1], "when": {"a.y": "r"}},
            }
        )
        assert space.point({"a.x": 0.9, "a.y": 0.1, "a.z": 0.5}) == {"a.x": "q"}
        assert space.point_with("a.z", 1.0) == {"a.x": "p", "a.y": "r", "a.z": 1.0}


class TestErrors:
    @pytest.mark.parametrize(
        ("entry", "message"),
        [
            ({"uniform": [1, 0]}, "empty"),
            ({"uniform": [0, float("nan")]}, "finite"),
            ({"log_uniform": [0, 1]}, "must be positive"),
            ({"log_uniform": [-1, 1]}, "must be positive"),
            ({"integers": [0.5, 2]}, "integer bounds"),
            ({"integers": [0, True]}, "got True"),
            ({"uniform": [0, 1, 2]}, "two numbers"),
            ({"uniform": "wide"}, "two numbers"),
            ({"choices": []}, "at least one value"),
            ({"choices": [1, 2, 1]}, "more than once"),
            ({"unifrom": [0, 1]}, "did you mean 'uniform'"),
            ({"uniform": [0, 1], "choices": [1]}, "got uniform and choices"),
            ({"uniform": [0, 1], "levels": 0}, "levels"),
            ({"uniform": [0, 1], "when": {"optimizer.nmae": "sgd"}}, "'optimizer.nmae' is not in the space"),
            ({"uniform": [0, 1], "when": {"optimizer.name": "adma"}}, "cannot have the value 'adma'"),
            ({"uniform": [0, 1], "when": {"optimizer.lr": 0.5}}, "form a cycle"),
            (3, "expected a list of choices"),
        ],
    )
    def test_invalid_entries(self, entry, message):
        with pytest.raises(RecipeError, match=r"\[optimizer\] lr") as caught:
            Space.of({"optimizer.lr": entry, "optimizer.name": ["sgd", "adam"]})
        assert message in str(caught.value)

    def test_all_at_once(self):
        with pytest.raises(RecipeError) as caught:
            Space.of({"optimizer.lr": {"log_uniform": [0, 1]}, "model.dropout": {"uniform": [1, 0]}})
        assert len(caught.value.problems) == 2

    def test_empty_space(self):
        with pytest.raises(UserError, match="the space is empty"):
            Space.of({})

    def test_missing_file(self, tmp_path):
        with pytest.raises(UserError, match="space file not found"):
            Space.load(tmp_path / "space.toml")


class TestDimensions:
    def test_integers_are_equally_likely(self):
        dimension = Dimension("a.b", "integers", 1, 4)
        values = [dimension.from_unit((i + 0.5) / 400) for i in range(400)]
        assert [values.count(value) for value in (1, 2, 3, 4)] == [100] * 4

    def test_log_uniform_values_are_even_in_their_logarithm(self):
        dimension = Dimension("a.b", "log_uniform", 1e-4, 1.0)
        assert [dimension.from_unit(u) for u in (0.25, 0.5, 0.75)] == pytest.approx([1e-3, 1e-2, 1e-1])

    def test_a_space_can_be_written_as_toml(self, space):
        assert tomli_w.dumps(space.to_dict())
