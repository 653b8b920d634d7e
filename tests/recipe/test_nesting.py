"""Keys in the form "section.key" as nested sections."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from descend import Recipe
from descend.errors import RecipeError
from descend.recipe.nesting import nested

LEAVES: dict[str, Any] = {
    "data.target_scale": "log",
    "data.columns.a": "categorical",
    "data.columns.b c.d": "ignore",
    "model.name": "mlp",
    "model.hidden": (4, 2),
    "model.activation.name": "elu",
    "model.activation.alpha": 0.5,
    "optimizer.name": "sgd",
    "optimizer.lr": 0.1,
    "stop.patience": 5,
}
"""Settings of a recipe, each by its whole path."""


def table_of(leaves: dict[str, Any]) -> dict[str, Any]:
    """The nested form, written independently of the code under test."""
    result: dict[str, Any] = {}
    for path, value in leaves.items():
        *outer, last = path.split(".", 2)
        table = result
        for name in outer:
            table = table.setdefault(name, {})
        table[last] = value
    return result


@given(st.permutations(list(LEAVES)), st.lists(st.sampled_from([0, 2]), min_size=10, max_size=10))
def test_all_mixtures_of_forms_are_equal(order: list[str], depths: list[int]) -> None:
    mixed: dict[str, Any] = {}
    for path, depth in zip(order, depths, strict=True):
        names = path.split(".", 2)
        keep = min(depth, len(names) - 1)
        outer, inner = ".".join(names[: keep + 1]), names[keep + 1 :]
        if not inner:
            mixed[outer] = LEAVES[path]
            continue
        table = mixed.setdefault(outer, {})
        for name in inner[:-1]:
            table = table.setdefault(name, {})
        table[inner[-1]] = LEAVES[path]
    expected = Recipe(**table_of(LEAVES))
    assert Recipe.of(mixed) == expected
    assert Recipe().replace(mixed) == expected
    assert Recipe.of(nested(mixed)) == expected


@pytest.mark.parametrize(
    "contradiction",
    [
        {"data": {"target_scale": "log"}, "data.target_scale": "none"},
        {"data": {"columns": {"a": "date"}}, "data.columns.a": "numeric"},
        {"data.columns": {"a": "date"}, "data.columns.a": "numeric"},
        {"data.columns.a": "numeric", "data.columns": {"a": "date"}},
        {"optimizer": "sgd", "optimizer.name": "adam"},
        {"model.activation": "relu", "model.activation.name": "elu"},
    ],
)
def test_two_values_of_one_key_are_refused(contradiction: dict[str, Any]) -> None:
    for read in (Recipe.of, Recipe().replace):
        with pytest.raises(RecipeError, match=r"specified twice, as .* in '.*' and as .* in '.*'; keep one"):
            read(contradiction)


def test_a_table_and_a_key_within_it() -> None:
    expected = Recipe(data={"columns": {"a": "date", "b": "numeric"}})
    assert Recipe.of({"data.columns.b": "numeric", "data.columns": {"a": "date"}}) == expected
    assert Recipe.of({"data.columns.b": "numeric", "data": {"columns": {"a": "date"}}}) == expected
    assignments = ["data.columns.b=numeric", 'data.columns={a = "date"}']
    assert Recipe().with_assignments(assignments) == expected


def test_equal_values_are_no_contradiction() -> None:
    both = {"data": {"columns": {"a": "date"}}, "data.columns.a": "date"}
    assert Recipe.of(both) == Recipe(data={"columns": {"a": "date"}})


def test_messages() -> None:
    with pytest.raises(
        RecipeError, match=r"\[dat.target_scale\]: no such section; did you mean 'data.target_scale'"
    ):
        Recipe.of({"dat.target_scale": "log"})
    with pytest.raises(RecipeError, match=r"no such section; did you mean 'data.target_scale'\?"):
        Recipe().with_assignments(["dat.target_scale=log"])
    with pytest.raises(
        RecipeError, match=r"nest it, 'columns': \{'a': ...\}, or use 'data.columns.a' at the top"
    ):
        Recipe.of({"data": {"columns.a": "date"}})
    with pytest.raises(RecipeError, match="did you mean 'target_scale'"):
        Recipe.of({"data": {"target.scale": "log"}})
    with pytest.raises(RecipeError, match="the name of a section must be a string"):
        Recipe().replace({3: 1})  # type: ignore[dict-item]  # refused when called
    with pytest.raises(TypeError, match=r"for keys in the form 'section.key': Recipe.of"):
        Recipe(**{"data.target_scale": "log"})


def test_parts_of_keys_that_were_left_out() -> None:
    with pytest.raises(RecipeError, match=r"--set lr=0.1: .*; did you mean 'optimizer.lr=0.1'\?"):
        Recipe().with_assignments(["lr=0.1"])
    with pytest.raises(RecipeError, match=r"--set optimizer=sgd: .*; did you mean 'optimizer.name=sgd'\?"):
        Recipe().with_assignments(["optimizer=sgd"])
    with pytest.raises(RecipeError, match=r"\[lr.name\]: no such section; did you mean 'optimizer.lr'\?"):
        Recipe.of({"lr.name": 0.1})
    with pytest.raises(TypeError, match=r"no section 'patience'; did you mean stop=\{'patience': ...\}\?"):
        Recipe(patience=3)  # type: ignore[call-arg]  # refused when called


def test_quoted_paths_in_a_file_are_paths(tmp_path: Any) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('"optimizer.lr" = 0.1\n[data]\ncolumns.a = "date"\n')
    assert Recipe.load(path) == Recipe(optimizer={"lr": 0.1}, data={"columns": {"a": "date"}})
    path.write_text('"optimizer.name" = "torch.optim.SGD"\n')
    with pytest.raises(RecipeError, match="is an import path, and importing runs its code"):
        Recipe.load(path)
