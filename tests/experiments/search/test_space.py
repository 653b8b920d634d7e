import math

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

from descend.errors import RecipeError, UserError
from descend.experiments.search import Space
from descend.experiments.search.dimension import Dimension, dimension_of

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
    said = {}
    for place in range(draw(st.integers(1, 5))):
        said[f"model.key{place}"] = draw(st.one_of(ranges(), st.builds(lambda c: {"choices": c}, CHOICES)))
    parents = [key for key, value in said.items() if "choices" in value]
    if parents:
        parent = draw(st.sampled_from(parents))
        said["model.child"] = {**draw(ranges()), "when": {parent: [said[parent]["choices"][0]]}}
    return said


class TestTheParser:
    @given(spaces(), st.randoms(use_true_random=False))
    @settings(max_examples=examples(150), deadline=None)
    def test_writes_what_it_reads(self, said, drawn):
        space = Space.of(said)
        again = Space.loads(space.to_toml())
        assert again.asked() == space.asked()
        shares = {key: drawn.random() for key in space.keys}
        assert again.point(shares) == space.point(shares)

    @given(spaces(), st.randoms(use_true_random=False))
    @settings(max_examples=examples(150), deadline=None)
    def test_points_lie_within(self, said, drawn):
        space = Space.of(said)
        point = space.point({key: drawn.random() for key in space.keys})
        for key, value in point.items():
            assert space[key].holds(value)
        for dimension in space:
            assert (dimension.key in point) == space.counts(dimension, point)

    @given(ranges(), st.floats(0, 1))
    @settings(max_examples=examples(200), deadline=None)
    def test_share_is_the_inverse_of_at(self, said, share):
        dimension, faults = dimension_of("model.x", said)
        assert not faults
        value = dimension.at(share)
        assert dimension.low <= value <= dimension.high
        assert 0 <= dimension.share(value) <= 1
        if dimension.high > dimension.low * (1 + 1e-9) + 1e-9:
            close = 1e-6 * max(1.0, abs(value))
            assert math.isclose(dimension.at(dimension.share(value)), value, abs_tol=close)

    @given(
        st.recursive(
            VALUES | NUMBERS, lambda inner: st.dictionaries(st.text("ab.", max_size=4), inner, max_size=3)
        )
    )
    @settings(max_examples=examples(200), deadline=None)
    def test_anything_else_is_a_users_mistake(self, said):
        try:
            Space.of({"optimizer": said})
        except UserError:
            return

    @given(st.text(max_size=60))
    @settings(deadline=None)
    def test_so_is_any_text(self, text):
        try:
            Space.loads(text)
        except UserError:
            return

    def test_three_ways_to_say_the_same(self):
        dotted = Space.loads("optimizer.lr = { uniform = [0.1, 0.2] }\noptimizer.name = ['sgd', 'adam']")
        table = Space.loads(
            "[optimizer]\nlr = { uniform = [0.1, 0.2] }\nname = { choices = ['sgd', 'adam'] }"
        )
        flat = Space.of({"optimizer.lr": {"uniform": [0.1, 0.2]}, "optimizer": ["sgd", "adam"]})
        assert dotted.asked() == table.asked() == flat.asked()

    def test_conditions_come_first_whatever_the_order(self):
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
        assert space.fixed("a.z", 1.0) == {"a.x": "p", "a.y": "r", "a.z": 1.0}


class TestMistakes:
    @pytest.mark.parametrize(
        ("said", "words"),
        [
            ({"uniform": [1, 0]}, "empty"),
            ({"uniform": [0, float("nan")]}, "finite"),
            ({"log_uniform": [0, 1]}, "above 0"),
            ({"log_uniform": [-1, 1]}, "above 0"),
            ({"integers": [0.5, 2]}, "whole numbers"),
            ({"integers": [0, True]}, "found True"),
            ({"uniform": [0, 1, 2]}, "two numbers"),
            ({"uniform": "wide"}, "two numbers"),
            ({"choices": []}, "nothing to choose"),
            ({"choices": [1, 2, 1]}, "more than once"),
            ({"unifrom": [0, 1]}, "did you mean 'uniform'"),
            ({"uniform": [0, 1], "choices": [1]}, "found uniform and choices"),
            ({"uniform": [0, 1], "levels": 0}, "levels"),
            ({"uniform": [0, 1], "when": {"optimizer.nmae": "sgd"}}, "does not vary 'optimizer.nmae'"),
            ({"uniform": [0, 1], "when": {"optimizer.name": "adma"}}, "never is 'adma'"),
            ({"uniform": [0, 1], "when": {"optimizer.lr": 0.5}}, "wait for each other"),
            (3, "expected a list of choices"),
        ],
    )
    def test_are_named(self, said, words):
        with pytest.raises(RecipeError, match=r"\[optimizer\] lr") as caught:
            Space.of({"optimizer.lr": said, "optimizer.name": ["sgd", "adam"]})
        assert words in str(caught.value)

    def test_all_at_once(self):
        with pytest.raises(RecipeError) as caught:
            Space.of({"optimizer.lr": {"log_uniform": [0, 1]}, "model.dropout": {"uniform": [1, 0]}})
        assert len(caught.value.problems) == 2

    def test_nothing_to_vary(self):
        with pytest.raises(UserError, match="varies nothing"):
            Space.of({})

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(UserError, match="no such space file"):
            Space.load(tmp_path / "space.toml")


class TestDimensions:
    def test_whole_numbers_get_their_due(self):
        dimension = Dimension("a.b", "integers", 1, 4)
        drawn = [dimension.at((i + 0.5) / 400) for i in range(400)]
        assert [drawn.count(value) for value in (1, 2, 3, 4)] == [100] * 4

    def test_logarithms_are_even(self):
        dimension = Dimension("a.b", "log_uniform", 1e-4, 1.0)
        assert [dimension.at(share) for share in (0.25, 0.5, 0.75)] == pytest.approx([1e-3, 1e-2, 1e-1])

    def test_text_of_a_space_is_toml(self, space):
        assert tomli_w.dumps(space.asked())
