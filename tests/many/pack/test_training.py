"""A member of a pack equals its solo run, whatever the other members are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.support.packs import TOLERANCE, flat, pack_of, trainings, weights
from tests.support.stop_at import StopAt

from descend.many.pack import stack
from descend.nn import convnet
from descend.training.loop import fit
from descend.training.state import clone

# Adam's first steps, g/|g|, amplify the rounding of gradients that are nearly 0, so SGD is used if there are few steps.
SGD: dict[str, Any] = {"optimizer": {"name": "sgd", "lr": 0.05}}
BASE: dict[str, Any] = {"model": {"hidden": [16, 16], "dropout": 0.0}, "stop": {"average": 0.0}}


def varied(**values: list[Any]) -> list[dict[str, Any]]:
    """Return recipes that differ in one section: ``optimizer=[{...}, {...}]``."""
    ((section, each),) = values.items()
    return [{**BASE, section: {**BASE.get(section, {}), **own}} for own in each]


CASES: dict[str, tuple[list[dict[str, Any]], str]] = {
    "learning rates of Adam": ([{}, {}, {"optimizer": {"lr": 2e-3}}], "iris"),
    "learning rates of AdamW": (varied(optimizer=[{"name": "adamw", "lr": lr} for lr in (1e-3, 1e-2, 3e-2)]), "iris"),
    "dropout": (varied(model=[{"dropout": p} for p in (0.0, 0.1, 0.5)]), "iris"),
    "widths": (varied(model=[{"hidden": [h, h], "dropout": 0.2, "norm": "batch"} for h in (16, 12, 9)]), "iris"),
    "activations": (varied(model=[{"activation": a} for a in ("relu", "tanh", "softplus", "relu")]), "iris"),
    "sgd": (varied(optimizer=[{"name": "sgd", "momentum": m} for m in (0.0, 0.5, 0.9)]), "iris"),
    "nesterov": (
        varied(optimizer=[{"name": "sgd", "momentum": m, "nesterov": True} for m in (0.5, 0.9)]),
        "iris",
    ),
    "adagrad": (varied(optimizer=[{"name": "adagrad", "lr": lr} for lr in (1e-2, 3e-2)]), "iris"),
    "rmsprop": (varied(optimizer=[{"name": "rmsprop", "momentum": m} for m in (0.0, 0.5)]), "iris"),
    "rmsprop alpha": (varied(optimizer=[{"name": "rmsprop", "alpha": a} for a in (0.9, 0.99)]), "iris"),
    "adam": (
        varied(optimizer=[{"name": "adam", "betas": b, "eps": e} for b, e in (((0.9, 0.99), 1e-8), ((0.5, 0.9), 1e-6))]),
        "iris",
    ),
    "adamax": (varied(optimizer=[{"name": "adamax", "lr": lr} for lr in (1e-3, 1e-2)]), "iris"),
    "nadam": (
        varied(
            optimizer=[
                {"name": "nadam", "momentum_decay": p, "betas": b}
                for p, b in ((4e-3, (0.9, 0.99)), (0.1, (0.5, 0.9)))
            ]
        ),
        "iris",
    ),
    "radam": (
        varied(
            optimizer=[
                {"name": "radam", "lr": lr, "betas": (0.9, b)} for lr, b in ((1e-2, 0.9), (3e-2, 0.999))
            ]
        ),
        "iris",
    ),
    "lion": (
        [
            {**BASE, "optimizer": {"name": "lion", "lr": lr}, "regularize": {"weight_decay": w}}
            for lr, w in ((1e-3, 0.0), (3e-3, 0.3))
        ],
        "iris",
    ),
    "schedule-free": (
        [
            {
                **BASE,
                "optimizer": {"name": "schedule_free_adamw", "warmup_steps": n, "betas": (b, 0.99)},
                "regularize": {"weight_decay": w},
            }
            for n, b, w in ((0, 0.9, 0.0), (4, 0.5, 0.2))
        ],
        "iris",
    ),
    "prodigy": (
        [
            {
                **BASE,
                "optimizer": {"name": "prodigy", "use_bias_correction": c, "d0": d, "growth_rate": r},
                "regularize": {"weight_decay": w},
            }
            for c, d, r, w in ((False, 1e-4, None, 0.0), (True, 1e-3, 1.5, 0.1))
        ],
        "iris",
    ),
    "clip norm": (varied(gradient=[{"clip_norm": c} for c in (0.1, 1.0)] + [{}]), "iris"),
    "clip value": (varied(gradient=[{"clip_value": c} for c in (0.01, 0.1)]), "iris"),
    "penalties": (varied(regularize=[{"l1": 1e-3}, {"l2": 1e-2}, {"weight_decay": 0.1}]), "iris"),
    "weight decay before the gradient": (
        [{**BASE, **SGD, "regularize": {"weight_decay": w}} for w in (0.0, 0.3)],
        "iris",
    ),
    "smoothing": (varied(loss=[{"label_smoothing": a} for a in (0.0, 0.1, 0.3)]), "iris"),
    "accumulation": ([{**BASE, **SGD, "gradient": {"accumulate": 3}}] * 2, "iris"),
    "averages": (varied(stop=[{"average": a} for a in (0.5, 2.0)]), "iris"),
    "schedules": (varied(schedule=[{"name": "cosine"}, {"name": "inverse"}, {"name": "constant"}]), "iris"),
    "inits": (varied(init=[{"name": n} for n in ("xavier_normal", "orthogonal", "kaiming_uniform")]), "iris"),
    "batch norm": (varied(model=[{"norm": "batch"}] * 2), "iris"),
    "layer norm": (varied(model=[{"norm": "layer"}] * 2), "iris"),
    "group norm": (varied(model=[{"norm": "group"}] * 2), "iris"),
    "maxout": (varied(model=[{"activation": "maxout"}] * 2), "iris"),
    "regression": (varied(optimizer=[{"lr": lr} for lr in (1e-3, 1e-2)]), "diabetes"),
    "binary": (varied(model=[{"dropout": p} for p in (0.1, 0.2)]), "breast_cancer"),
    "all rows": ([{**BASE, **SGD, "data": {"sampling": "full"}}] * 2, "iris"),
    "with replacement": (varied(data=[{"sampling": "with_replacement"}] * 2), "iris"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_member_equals_its_solo_run(case: str, dtype: torch.dtype) -> None:
    recipes, data = CASES[case]
    seeds = list(range(len(recipes)))
    solo = trainings(recipes, seeds, data, dtype)
    for _, training in solo:
        fit(training, until=3)
    packed = trainings(recipes, seeds, data, dtype)
    pack = pack_of(packed)
    fit(pack, until=3)
    states = weights(pack)
    for number, (_, training) in enumerate(solo):
        own = flat(training.model.state_dict())
        assert (states[number] - own).norm() <= TOLERANCE[dtype] * own.norm()
        expected, record = training.history[-1], packed[number][1].history[-1]
        assert record["train"]["loss"] == pytest.approx(expected["train"]["loss"], rel=1e-4)
        for name in ("lr", "gradient_norm", "weight_norm"):
            assert record[name] == pytest.approx(expected[name], rel=1e-3)


@pytest.mark.parametrize("norm", ["none", "batch", "group", "layer"])
def test_convolutional_member_equals_its_solo_run(norm: str) -> None:
    torch.manual_seed(0)
    models = [
        convnet((1, 8, 8), 3, channels=(4, 6), norm=norm, dense=(8,), channel_dropout=0.0).double()
        for _ in range(3)
    ]
    network = stack(models)
    rows, direction = torch.randn(3, 5, 1, 8, 8).double(), torch.randn(3, 5, 3).double()
    network.network.train()
    outputs = network(rows)
    (outputs * direction).sum().backward()
    for place, model in enumerate(models):
        own = model.train()(rows[place])
        torch.testing.assert_close(outputs[place], own, rtol=1e-10, atol=1e-12)
        (own * direction[place]).sum().backward()
        for entry in network.entries:
            if entry.trained:
                parameter = dict(model.named_parameters())[entry.names[place]]
                assert entry.tensor.grad is not None
                torch.testing.assert_close(entry.tensor.grad[place], parameter.grad, rtol=1e-9, atol=1e-12)
        state = network.state(place)
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(state[name], tensor, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adamw", "nadam", "radam", "lion", "schedule_free_adamw", "prodigy"])
def test_bits_do_not_depend_on_other_members_or_compaction(name: str) -> None:
    """A member has the same bits with other members, and after others have left.

    Only the last member may differ by rounding: the last entries of a tensor are computed with other instructions.
    """
    recipes = varied(model=[{"dropout": p} for p in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)])
    recipes = [{**recipe, "optimizer": {"name": name}} for recipe in recipes]
    whole = pack_of(trainings(recipes, [0] * 6))
    fit(whole, until=4)
    kept = [1, 3, 4]
    compacted = pack_of(trainings(recipes, [0] * 6))
    fit(compacted, until=2)
    compacted.drop({0, 2, 5}, "dropped")
    assert [member.number for member in compacted.members] == kept
    fit(compacted, until=4)
    few = pack_of(trainings([recipes[place] for place in kept], [0, 0, 0]))
    fit(few, until=4)
    expected = weights(whole)
    for new, number in enumerate(kept):
        for state in (weights(compacted)[number], weights(few)[new]):
            if number != kept[-1]:
                assert torch.equal(state, expected[number])
            assert (state - expected[number]).norm() < 1e-6 * expected[number].norm()


def test_settings_that_become_equal_change_no_bit() -> None:
    """Kernels for equal settings round differently from those for different ones: a pack keeps the kernels it began with."""
    recipes = varied(optimizer=[{"name": "adam", "betas": (b, 0.999)} for b in (0.5, 0.9, 0.9, 0.9)])
    whole, fewer = (pack_of(trainings(recipes, [0] * 4)) for _ in range(2))
    fit(whole, until=3)
    fit(fewer, until=1)
    fewer.drop({0}, "dropped")
    fit(fewer, until=3)
    for number in (1, 2):
        assert torch.equal(weights(fewer)[number], weights(whole)[number])


@pytest.mark.slow
def test_diverged_member_changes_no_bit_of_others() -> None:
    recipes = varied(optimizer=[{"name": "sgd", "lr": lr} for lr in (0.01, 0.02, 0.03)])
    undisturbed = pack_of(trainings(recipes, [0, 1, 2]))
    fit(undisturbed, until=4)
    diverging = trainings(recipes, [0, 1, 2])
    ended = []
    pack = pack_of(diverging, ended=lambda member: ended.append((member.number, member.failure)))
    fit(pack, until=1)
    with torch.no_grad():
        pack.network.weights.views[0][1].fill_(float("nan"))
    fit(pack, until=4)
    assert [number for number, _ in ended] == [1]
    assert "train.loss" in ended[0][1]
    assert diverging[1][1].stopped == "diverged"
    assert len(diverging[1][1].history) == 1
    for number in (0, 2):
        assert torch.equal(weights(pack)[number], weights(undisturbed)[number])


@pytest.mark.parametrize("at", [0, 1, 4, 7, 11])
@pytest.mark.parametrize("name", ["adamw", "nadam", "schedule_free_adamw", "prodigy"])
def test_pack_resumes_to_the_same_bits(at: int, name: str) -> None:
    average = 0.0 if name == "schedule_free_adamw" else 1.0
    recipes = varied(model=[{"dropout": p, "norm": "batch"} for p in (0.1, 0.2, 0.3)])
    recipes = [
        {
            **recipe,
            "optimizer": {"name": name},
            "stop": {"max_epochs": 5 - place, "average": average},
            "schedule": {"name": "plateau", "monitor": "objective"},
        }
        for place, recipe in enumerate(recipes)
    ]
    whole = trainings(recipes, [0, 1, 2], "iris")
    fit(pack_of(whole))

    first = trainings(recipes, [0, 1, 2], "iris")
    pack = pack_of(first)

    pack.observers = [StopAt(at + 1)]
    fit(pack)
    state = clone(pack.state_dict())
    second = trainings(recipes, [0, 1, 2], "iris")
    resumed = pack_of(second)
    resumed.load_state_dict(state)
    if resumed.stopped == "interrupted":
        resumed.stopped = ""
    fit(resumed)
    for number in range(3):
        best = second[number][1].best or first[number][1].best
        expected = whole[number][1].best
        assert best is not None
        assert expected is not None
        for name, tensor in expected.items():
            assert torch.equal(best[name], tensor)


def test_best_weights_are_those_of_the_best_epoch_of_each_member() -> None:
    """The best weights of a member are kept while the pack continues."""
    stop = {"max_epochs": 4, "patience": "none", "average": 0.0, "min_improvement": 0.0, "monitor": "loss"}
    planned = trainings(varied(stop=[stop] * 2), [0, 1])
    losses = {0: [3.0, 1.0, 2.0, 2.0], 1: [3.0, 2.0, 1.5, 1.0]}

    def evaluate(outputs_of: Any, numbers: Any) -> dict[str, torch.Tensor]:
        return {"loss": torch.tensor([losses[number][pack.epoch] for number in numbers])}

    pack = pack_of(planned, evaluate=evaluate)
    states = {}
    while not pack.stopped:
        before = pack.epoch
        fit(pack, until=before + 1)
        states[before + 1] = weights(pack) if not pack.stopped else None
    assert [training.stopping.best_epoch for _, training in planned] == [2, 4]
    assert planned[0][1].best is not None
    assert torch.equal(flat(planned[0][1].best), states[2][0])


@pytest.mark.parametrize("activations", [("relu", "relu"), ("sigmoid", "sigmoid"), ("tanh", "selu")])
def test_dropout_of_narrow_members_after_the_wide_one_was_dropped(activations: tuple[str, str]) -> None:
    wide, narrow = activations
    models = [{"hidden": [12, 12], "activation": wide}] + [{"hidden": [9, 9], "activation": narrow}] * 2
    recipes = varied(model=[{**own, "dropout": 0.3} for own in models])
    solo = trainings(recipes, [0, 1, 2], "iris", torch.float64)
    pack = pack_of(trainings(recipes, [0, 1, 2], "iris", torch.float64))
    fit(pack, until=1)
    pack.drop({0}, "dropped")
    fit(pack, until=3)
    states = weights(pack)
    for number in (1, 2):
        fit(solo[number][1], until=3)
        own = flat(solo[number][1].model.state_dict())
        assert (states[number] - own).norm() <= TOLERANCE[torch.float64] * own.norm()
