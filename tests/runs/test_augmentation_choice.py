"""The choice of augmentations by short runs: what helps on some images, and what would destroy their meaning."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import descend
from descend.errors import RecipeError, UserError
from descend.recipe import Recipe
from descend.runs import augmentation_choice
from descend.runs.augmentation_choice import AugmentationChoice, candidates
from descend.runs.plan import Plan, Planner

QUICK: dict[str, Any] = {"model": {"name": "image_resnet", "channels": [4]}, "stop": {"max_epochs": 1}}
CHOOSE: dict[str, Any] = {**QUICK, "data": {"augment": "choose"}}


def digits(count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    images, labels = load_digits(return_X_y=True)
    return (images[:count].reshape(-1, 8, 8) * 15).astype(np.uint8), labels[:count]


def symmetric(count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Images whose class does not depend on left and right: one of ten glyphs, mirrored at random, in noise."""
    rng = np.random.default_rng(0)
    glyphs = rng.random((10, 8, 8)) < 0.4
    labels = rng.integers(10, size=count)
    images = glyphs[labels] * 150.0
    mirrored = rng.random(count) < 0.5
    images[mirrored] = images[mirrored, :, ::-1]
    return np.clip(images + rng.normal(60, 110, images.shape), 0, 255).astype(np.uint8), labels


def chosen(plan: Plan) -> list[Mapping[str, Any]]:
    return list(plan.recipe.data["augment"])


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation_choice, "EPOCHS", 8)


@pytest.mark.usefixtures("short")
def test_digits_are_not_flipped() -> None:
    plan = Planner(digits()).plan(CHOOSE, 1)
    assert all(each["name"] != "flip" for each in chosen(plan))
    assert "horizontal flips" in plan.resolved.reasons["data.augment"]


@pytest.mark.usefixtures("short")
def test_images_without_left_and_right_are_flipped_and_not_turned_over() -> None:
    plan = Planner(symmetric()).plan(CHOOSE, 1)
    assert chosen(plan) == [{"name": "flip", "horizontal": 0.5}]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replace the short runs by a fixed choice, and list the seeds of the calls."""
    calls: list[int] = []

    def choose(prepared: Any, recipe: Any, seed: int, device: Any, *, together: bool) -> AugmentationChoice:
        calls.append(seed)
        return AugmentationChoice(({"name": "translate", "pixels": 1},), "measured", {"none": 1.0})

    monkeypatch.setattr("descend.runs.augmentation_choice.choose_augmentation", choose)
    return calls


def test_the_choice_is_a_function_of_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation_choice, "EPOCHS", 1)
    reasons = [Planner(digits()).plan(CHOOSE, seed).resolved.reasons["data.augment"] for seed in (1, 1, 2)]
    assert reasons[0] == reasons[1] != reasons[2]


def test_the_global_random_state_is_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation_choice, "EPOCHS", 1)
    before = torch.get_rng_state()
    Planner(digits()).plan(CHOOSE, 1)
    assert torch.equal(before, torch.get_rng_state())


def test_the_choice_is_made_once_for_equal_plans(counted: list[int]) -> None:
    planner = Planner(digits())
    for lr in (0.1, 0.01):
        planner.plan({**CHOOSE, "optimizer": {"lr": lr}}, 3)
    assert counted == [3]


def test_it_is_made_without_a_recipe_and_recorded(counted: list[int], tmp_path: Path) -> None:
    plan = Planner(digits()).plan({"stop": {"max_epochs": 1}}, 0)
    assert counted == [0]
    assert chosen(plan) == [{"name": "translate", "pixels": 1}]
    assert 'augment = [{ name = "translate", pixels = 1 }]  # auto: measured' in plan.resolved.to_toml()


@pytest.mark.parametrize(
    "recipe", [QUICK, {"model": "convnet"}, {"data": {"augment": "none"}}, {"data": {"augment": []}}]
)
def test_nothing_is_chosen_where_the_recipe_says_what_it_is(
    recipe: dict[str, Any], counted: list[int]
) -> None:
    assert chosen(Planner(digits()).plan(recipe, 0)) == []
    assert counted == []


def test_a_specified_augmentation_is_kept(counted: list[int]) -> None:
    assert Planner(digits()).plan({"data": {"augment": "flip"}}, 0).recipe.data["augment"] == "flip"
    assert counted == []


def test_a_module_of_its_own_is_not_augmented(counted: list[int]) -> None:
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    run = descend.train(digits(), {"stop": {"max_epochs": 1}}, model=module)
    assert list(run.recipe.data["augment"]) == []
    assert counted == []


def test_a_resumed_run_does_not_choose_again(counted: list[int], tmp_path: Path) -> None:
    out = tmp_path / "run"
    one: dict[str, Any] = {**CHOOSE, "schedule": "constant"}
    whole = descend.train(digits(), {**one, "stop": {"max_epochs": 2}}, seed=0)
    descend.train(digits(), one, seed=0, out=out)
    assert counted == [0, 0]
    resumed = descend.train(digits(), {"stop": {"max_epochs": 2}}, out=out, resume=True)
    assert counted == [0, 0]
    assert list(resumed.recipe.data["augment"]) == [{"name": "translate", "pixels": 1}]
    weights = whole.model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in resumed.model.state_dict().items())


def test_few_rows_choose_nothing() -> None:
    plan = Planner(digits(60)).plan(None, 0)
    assert chosen(plan) == []
    assert "too few" in plan.resolved.reasons["data.augment"]


def test_rows_that_are_no_images() -> None:
    with pytest.raises(RecipeError, match="augmentations are chosen for images; the rows are a table"):
        Planner("iris").plan({"data": {"augment": "choose"}})
    rotated = Planner(digits()).plan({"data": {"scale": "pca"}}, 0)
    assert "mixes the pixels" in rotated.resolved.reasons["data.augment"]


def test_choose_is_no_name_within_a_list() -> None:
    with pytest.raises(UserError, match="choose"):
        Recipe.of({"data": {"augment": ["choose"]}})


@pytest.mark.parametrize(("side", "pixels"), [(8, 1), (28, 2), (64, 5)])
def test_shifts_grow_with_the_image(side: int, pixels: int) -> None:
    assert candidates((3, side, 2 * side))["shifts"] == {"name": "translate", "pixels": pixels}
