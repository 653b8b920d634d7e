"""The size of the default network for images."""

from typing import Any

import pytest
import torch

from descend.nn import image_resnet
from descend.recipe import Recipe
from descend.recipe.facts import Facts
from descend.recipe.image_network import CHANNELS, epochs_of, image_network, multiplications, plain_network
from descend.recipe.resolve import resolve


@pytest.mark.parametrize(("shape", "reduce"), [((1, 8, 8), 0), ((3, 33, 20), 0), ((3, 70, 64), 1)])
def test_multiplications_are_those_of_the_outputs(shape: tuple[int, int, int], reduce: int) -> None:
    model = image_resnet(shape, 5, channels=(4, 8, 12), reduce=reduce).eval()
    counted = []

    def count(layer: Any, inputs: Any, outputs: torch.Tensor) -> None:
        counted.append(outputs[0].numel() * layer.weight[0].numel())

    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(count)
    model(torch.zeros(1, *shape))
    assert len(counted) == 7
    assert sum(counted) == multiplications(shape, (4, 8, 12), reduce)


def test_more_images_or_pixels_give_no_larger_network() -> None:
    def size(side: int, rows: int) -> int:
        return CHANNELS.index(image_network((3, side, side), rows).channels)

    assert size(8, 1000) == 0
    sizes = [size(28, rows) for rows in (100, 1000, 10_000, 100_000, 1_000_000)]
    assert sizes == sorted(sizes)
    assert sizes[-1] == len(CHANNELS) - 1
    assert image_network((1, 28, 28), 1_000_000, "cuda:0").channels == CHANNELS[0]


@pytest.mark.parametrize(
    ("shape", "reduce"),
    [((1, 28, 28), 0), ((3, 64, 128), 0), ((3, 65, 65), 1), ((3, 256, 256), 2), ((3, 20, 600), 3)],
)
def test_large_images_are_halved(shape: tuple[int, int, int], reduce: int) -> None:
    assert image_network(shape, 100).reduce == reduce


def test_epochs() -> None:
    assert [epochs_of(rows) for rows in (1, 1000, 4000, 10**6)] == [60, 60, 20, 16]


def facts(**changes: object) -> Facts:
    known = {"kind": "images", "rows": 3000, "task": "multiclass", "input_shape": (1, 28, 28), "outputs": 10}
    return Facts(**{**known, "validation_rows": 500, **changes})


def test_the_default_for_images() -> None:
    resolved = resolve(Recipe(), facts())
    recipe = resolved.recipe
    assert recipe.model["name"] == "image_resnet"
    assert recipe.schedule["name"] == "cosine"
    assert recipe.stop["max_epochs"] == epochs_of(3000)
    assert recipe.data["augment"] == "choose"
    assert "multiplications" in resolved.reasons["model.channels"]


@pytest.mark.parametrize(
    "recipe",
    [
        {"model": "convnet"},
        {"model": {"channels": [4]}},
        {"optimizer": "bfgs"},
        {"regularize": {"jacobian": 0.1}},
    ],
    ids=str,
)
def test_a_recipe_that_describes_the_network_gets_what_it_describes(recipe: dict[str, object]) -> None:
    resolved = resolve(Recipe.of(recipe), facts()).recipe
    assert resolved.model["name"] == "convnet"
    assert resolved.data["augment"] == ()
    assert resolved.stop["max_epochs"] == 100
    assert resolved.schedule["name"] == "constant"


def test_a_network_of_its_own_is_not_augmented() -> None:
    resolved = resolve(Recipe(), facts(own_model=True)).recipe
    assert resolved.data["augment"] == ()
    assert plain_network(True, {}, {"optimizer": {}, "regularize": {}})


def test_tables_and_vectors_are_not_augmented() -> None:
    assert resolve(Recipe(), facts(kind="table", input_shape=(4,))).recipe.data["augment"] == ()


@pytest.mark.parametrize(
    ("specified", "expected"), [("none", ()), ([], ()), ("flip", "flip"), ("choose", "choose")]
)
def test_augmentations_that_are_specified(specified: object, expected: object) -> None:
    recipe = Recipe.of({"data": {"augment": specified}, "model": "convnet"})
    assert resolve(recipe, facts()).recipe.data["augment"] == expected
