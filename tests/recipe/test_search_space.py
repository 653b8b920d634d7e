import pytest
from hypothesis import given
from hypothesis import strategies as st

from descend.recipe.search_space import NARROW, SEARCHED_KEYS, WIDE, random_member, varied_member
from descend.runs.plan import plan_run

BASE = {
    "optimizer": {"lr": 0.001},
    "regularize": {"weight_decay": 0.01},
    "model": {
        "hidden": (256, 256), "dropout": 0.1, "activation": "silu", "number_embedding": "none", "scaling_layer": False,
    },
}  # fmt: skip
SEEDS = st.integers(0, 2**31)
NUMBERS = st.integers(0, 10_000)


@given(SEEDS, NUMBERS, st.integers(0, 31))
def test_random_members_are_pure_functions_within_their_ranges(seed, number, member):
    found = random_member(BASE, SEARCHED_KEYS, seed, number, member)
    assert found == random_member(BASE, SEARCHED_KEYS, seed, number, member)
    assert found.keys() == set(SEARCHED_KEYS)
    assert 0.00049 <= found["optimizer.lr"] <= 0.00801
    assert 0.00099 <= found["regularize.weight_decay"] <= 0.1001
    assert 0.0 <= found["model.dropout"] <= 0.5
    assert 1 <= len(found["model.hidden"]) <= 4
    assert len(set(found["model.hidden"])) == 1


@given(SEEDS, NUMBERS)
def test_members_of_a_round_share_their_structure(seed, number):
    found = [random_member(BASE, SEARCHED_KEYS, seed, number, member) for member in range(8)]
    shared = ("model.number_embedding", "model.activation", "model.scaling_layer")
    assert all(len({repr(each[key]) for each in found}) == 1 for key in shared)
    assert len({len(each["model.hidden"]) for each in found}) == 1
    assert {each["model.hidden"][0] for each in found} <= set(NARROW) or {
        each["model.hidden"][0] for each in found
    } <= set(WIDE)
    assert len({each["optimizer.lr"] for each in found}) > 1


def test_a_key_that_is_not_searched_changes_no_other():
    all_keys = random_member(BASE, SEARCHED_KEYS, 3, 1, 2)
    some = random_member(BASE, ("model.dropout", "optimizer.lr"), 3, 1, 2)
    assert some == {key: all_keys[key] for key in some}
    assert random_member({"model": {"dropout": 0.0}}, SEARCHED_KEYS, 3, 1, 2).keys() == {"model.dropout"}


@given(SEEDS, NUMBERS, st.integers(1, 31))
def test_varied_members_stay_near_the_other_one(seed, number, member):
    parent = {"optimizer.lr": 0.004, "model.dropout": 0.05, "model.number_embedding": "periodic"}
    found = varied_member(BASE, SEARCHED_KEYS, parent, seed, number, member)
    assert 0.00199 <= found["optimizer.lr"] <= 0.00801
    assert 0.00249 <= found["regularize.weight_decay"] <= 0.0401
    assert 0.0 <= found["model.dropout"] <= 0.151
    assert found["model.number_embedding"] == "periodic"
    assert varied_member(BASE, SEARCHED_KEYS, parent, seed, number, 0) == parent


class TestPreset:
    def test_searches_what_the_recipe_leaves_open(self):
        recipe = plan_run(
            "iris", {"model": {"preset": "best", "dropout": 0.2}, "optimizer": {"lr": 0.01}}
        ).recipe
        assert "model.dropout" not in recipe.model["searched_keys"]
        assert "optimizer.lr" not in recipe.model["searched_keys"]
        assert "model.hidden" in recipe.model["searched_keys"]
        assert recipe.model["minutes"] == pytest.approx(10.0)

    def test_says_why(self):
        reasons = plan_run("iris", {"model": {"preset": "best"}}).resolved.reasons
        assert "preset best" in reasons["model.searched_keys"]
        assert "preset best" in reasons["model.minutes"]
        assert "preset best" in reasons["model.members"]

    def test_embeds_no_numbers_where_there_are_none(self):
        data = {"kind": ["a", "b", "c", "d"] * 12, "y": ["x", "z"] * 24}
        recipe = plan_run(data, {"model": {"preset": "best"}}, target="y").recipe
        assert "model.number_embedding" not in recipe.model["searched_keys"]
