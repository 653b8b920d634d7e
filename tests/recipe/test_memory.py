"""Networks that do not fit into memory are refused before they are built."""

from __future__ import annotations

import numpy as np
import pytest

import descend
from descend.errors import RecipeError
from descend.process import memory

X = np.random.default_rng(0).normal(size=(30, 3))


@pytest.mark.parametrize("hidden", [[10**9], [60_000, 60_000], [10**8, 10**9], [10**15], [10**30]])
def test_a_huge_network(hidden: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("descend.recipe.memory.total_memory", lambda: 16 * 2**30)
    with pytest.raises(RecipeError) as caught:
        descend.train((X, X[:, 0]), {"model": {"hidden": hidden}})
    message = str(caught.value)
    assert len(message) < 200
    assert message.endswith("use smaller or fewer layers")
    if hidden == [10**9]:  # 3 inputs and 1 output, with biases
        assert "a network of 5,000,000,001 parameters needs 74.5 GiB, and this machine has 16 GiB" in message


def test_the_same_network_is_built_where_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = {"model": {"hidden": [3000]}, "stop": {"max_epochs": 1}}
    size = 16 * (3 * 3000 + 3000 + 3000 + 1)
    monkeypatch.setattr("descend.recipe.memory.total_memory", lambda: size)
    counted = descend.train((X, X[:, 0]), recipe)
    monkeypatch.undo()
    weights = descend.train((X, X[:, 0]), recipe).model.state_dict()
    assert all((weights[name] == value).all() for name, value in counted.model.state_dict().items())
    monkeypatch.setattr("descend.recipe.memory.total_memory", lambda: size - 1)
    with pytest.raises(RecipeError, match="a network of 15,001 parameters"):
        descend.train((X, X[:, 0]), recipe)


def test_the_limit_of_a_container(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = memory.total_memory()
    assert whole is not None
    for content, expected in (("1000000\n", 1_000_000), ("max\n", whole), (f"{2 * whole}\n", whole)):
        (tmp_path / "memory.max").write_text(content)
        monkeypatch.setattr(memory, "_CONTAINER_LIMIT", str(tmp_path / "memory.max"))
        assert min(memory.total_memory() or 0, whole) == expected
