"""Building what a resolved recipe describes: import paths and classes, and combinations that are refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from torch import nn

import descend
from descend.errors import RecipeError, UserError
from descend.nn.outputs import Sigmoid, Sine, Softmax
from descend.recipe import Recipe
from descend.recipe.adapters import OnProbabilities
from descend.recipe.build import (
    build_loss,
    build_model,
    build_optimizer,
    build_output,
    build_schedule,
    check_shape,
)
from descend.recipe.facts import Facts
from descend.recipe.resolve import resolve

BASE = Recipe(
    model={"hidden": [8]},
    stop={"max_epochs": 2, "average": 0.0},
    engine={"threads": 1, "device": "cpu"},
)
FACTS = {
    "regression": Facts("table", 60, "regression", (4,), 1, 10),
    "multi_regression": Facts("table", 60, "multi_regression", (4,), 2, 10),
    "binary": Facts("table", 60, "binary", (4,), 1, 10),
    "multiclass": Facts("table", 60, "multiclass", (4,), 3, 10),
}


def complete(task="multiclass", **sections) -> Recipe:
    return resolve(Recipe(**sections), FACTS[task]).recipe


def some(loader, step):
    x, y = loader(return_X_y=True)
    return x[::step], y[::step]


@pytest.fixture(scope="module")
def iris():
    return some(load_iris, 2)


@pytest.fixture(scope="module")
def diabetes():
    return some(load_diabetes, 5)


@pytest.fixture(scope="module")
def cancer():
    return some(load_breast_cancer, 6)


def train(data, changes, **options):
    recipe = BASE.replace(changes)
    return descend.train(data, recipe, **options)


class Net(nn.Module):
    """A network of a user's, with a setting of its own."""

    def __init__(self, inputs: tuple[int, ...], outputs: int, *, width: int = 6):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(inputs), width), nn.Tanh())
        self.head = nn.Linear(width, outputs)

    def forward(self, x):
        return self.head(self.body(x))


class TestImportPathsAndClasses:
    """Any import path, and in Python any class, wherever a name does."""

    @pytest.mark.parametrize(
        "changes",
        [
            {"optimizer": "torch.optim.NAdam"},
            {"optimizer": torch.optim.NAdam, "optimizer.lr": 0.01},
            {"optimizer": "torch.optim.LBFGS", "optimizer.lr": 0.01, "data.sampling": "full"},
            {"optimizer": "torch.optim.AdamW", "optimizer.weight_decay": 0.1},
            {"optimizer": torch.optim.RAdam, "regularize.weight_decay": 0.1},
            {"loss": "torch.nn.CrossEntropyLoss"},
            {"loss": nn.CrossEntropyLoss, "loss.label_smoothing": 0.1},
            {"loss": nn.MultiMarginLoss},
            {"schedule": {"name": "torch.optim.lr_scheduler.ExponentialLR", "gamma": 0.9}},
            {"schedule": {"name": torch.optim.lr_scheduler.CosineAnnealingLR, "T_max": 4}},
            {"schedule": {"name": "descend.schedules.cosine"}},
            {"model.activation": "torch.nn.Mish"},
            {"model.activation": nn.Mish},
            {"model.activation": {"name": "torch.nn.ELU", "alpha": 0.5}},
            {"model.norm": "torch.nn.LayerNorm"},
            {"model.norm": nn.BatchNorm1d},
            {"init": {"name": "descend.nn.init:orthogonal"}},
        ],
        ids=str,
    )
    def test_trains(self, iris, changes):
        run = train(iris, changes)
        assert run.metrics["status"] == "finished"
        assert run.history[-1]["train"]["loss"] < run.history[0]["train"]["loss"] * 1.5
        assert math.isfinite(run.metrics["test"]["loss"])

    @pytest.mark.parametrize(
        "model", [Net, "descend.nn:mlp", lambda inputs, outputs, **rest: Net(inputs, outputs)]
    )
    def test_a_network(self, iris, model):
        recipe = Recipe.of({**dict(BASE.items()), "model": {"name": model}})
        run = descend.train(iris, recipe)
        assert run.metrics["epochs"] == 2

    def test_a_network_and_its_setting(self, iris):
        recipe = Recipe.of({**dict(BASE.items()), "model": {"name": Net, "width": 3}})
        run = descend.train(iris, recipe)
        assert run.model.head.in_features == 3
        assert run.recipe.get("model.width") == 3

    def test_a_torch_class_as_network(self, iris):
        model = {"name": "torch.nn.Linear", "in_features": 4, "out_features": 3}
        run = descend.train(iris, Recipe.of({**dict(BASE.items()), "model": model}))
        assert isinstance(run.model, nn.Linear)

    def test_an_import_path_is_built_with_its_settings(self):
        recipe = complete(model={"activation": {"name": "torch.nn.ELU", "alpha": 0.5}, "hidden": [3, 3]})
        model = build_model(recipe, FACTS["multiclass"], 0)
        found = [module for module in model.modules() if isinstance(module, nn.ELU)]
        assert [module.alpha for module in found] == [0.5, 0.5]
        assert found[0] is not found[1]

    def test_built_losses_for_each_task(self, cancer, diabetes):
        assert train(cancer, {"loss": nn.BCEWithLogitsLoss}).metrics["epochs"] == 2
        assert train(diabetes, {"loss": "torch.nn.SmoothL1Loss"}).metrics["epochs"] == 2

    def test_a_built_loss_is_the_same_number(self):
        own = build_loss(complete(loss={"label_smoothing": 0.0}), FACTS["multiclass"], Softmax())
        built = build_loss(complete(loss=nn.CrossEntropyLoss), FACTS["multiclass"], Softmax())
        outputs, targets = torch.randn(7, 3), torch.randint(3, (7,))
        weights = torch.rand(7)
        torch.testing.assert_close(built(outputs, targets), own(outputs, targets))
        torch.testing.assert_close(built(outputs, targets, weights), own(outputs, targets, weights))
        torch.testing.assert_close(built.per_sample(outputs, targets), own.per_sample(outputs, targets))

    def test_a_built_schedule_is_stepped_once_a_step(self):
        settings = {"name": torch.optim.lr_scheduler.ExponentialLR, "gamma": 0.5}
        schedule = build_schedule(complete(schedule=settings), steps_per_epoch=4, total_steps=40)
        assert [schedule.factor(step) for step in (0, 1, 3)] == [1.0, 0.5, 0.125]
        # A step may be repeated: the search for the origin of a NaN does.
        assert schedule.factor(1) == 0.5
        resumed = build_schedule(complete(schedule=settings), steps_per_epoch=4, total_steps=40)
        resumed.load_state_dict(schedule.state_dict())
        assert resumed.factor(3) == 0.125


def refusal(task="multiclass", **sections) -> str:
    """Return the message with which a recipe is refused, without any data."""
    facts = FACTS[task]
    with pytest.raises(UserError) as caught:
        recipe = resolve(Recipe(**sections), facts).recipe
        output = build_output(recipe, facts)
        build_loss(recipe, facts, output)
        model = build_model(recipe, facts, 0)
        build_optimizer(recipe, model)
        build_schedule(recipe, steps_per_epoch=4, total_steps=40)
    return str(caught.value)


class TestRefused:
    @pytest.mark.parametrize(
        ("task", "sections", "message"),
        [
            ("regression", {"loss": "cross_entropy"}, "[loss] name: 'cross_entropy' does not fit"),
            ("regression", {"loss": "bce"}, "it is for binary"),
            ("multiclass", {"loss": "mse"}, "it is for multi_regression and regression"),
            ("binary", {"loss": "cross_entropy"}, "it is for multiclass"),
            ("multiclass", {"loss": "bce"}, "it is for binary"),
            ("regression", {"model": {"output": "softmax"}}, "'softmax' does not fit the task regression"),
            ("regression", {"model": {"output": "sigmoid"}}, "one of: identity"),
            ("multiclass", {"model": {"output": "sine"}}, "one of: softmax"),
            ("binary", {"model": {"output": "softmax"}}, "one of: sigmoid, sine"),
            ("multiclass", {"optimizer": "sparse_adam"}, "no layer of this model has any"),
            ("multiclass", {"optimizer": {"name": "sgd", "nesterov": True}}, "Nesterov momentum requires a momentum"),
            ("multiclass", {"optimizer": {"nesterov": True}}, "Nesterov momentum requires a momentum"),
            ("multiclass", {"model": "convnet"}, "expected images of shape (channels, height, width)"),
            ("multiclass", {"model": {"norm": "instance"}}, "choose 'layer' or 'group' instead"),
            ("multiclass", {"model": {"activation": "sign"}}, "its derivative is zero almost everywhere"),
            ("multiclass", {"model": {"hidden": [8], "norm": {"name": "group", "groups": 3}}}, "3 groups do not"),
            ("multiclass", {"schedule": "torch.optim.lr_scheduler.ReduceLROnPlateau"}, "use 'plateau'"),
            ("multiclass", {"schedule": {"name": "torch.nn.AvgPool1d", "kernel_size": 2}}, "a schedule"),
            ("multiclass", {"optimizer": "torch.nn.Flatten"}, "expected a torch.optim.Optimizer, got a Flatten"),
            ("multiclass", {"init": "torch.nn.Flatten"}, "[init] name: cannot initialize the weights"),
            ("multiclass", {"model": {"name": "types.SimpleNamespace"}}, "expected a torch.nn.Module"),
            ("multiclass", {"model": "torch.nn.Flatten"}, "expected outputs of shape (rows, 3) for two rows"),
            ("multiclass", {"optimizer": torch.optim.LBFGS, "regularize": {"weight_decay": 0.1}}, "doesn't support"),
            ("multiclass", {"model": {"activation": torch.optim.SGD}}, "[model]"),
        ],
        ids=str,
    )  # fmt: skip
    def test_combinations(self, task, sections, message):
        assert message in refusal(task, **sections)

    @pytest.mark.parametrize(
        ("task", "loss", "message"),
        [
            (
                "multiclass",
                nn.MSELoss,
                "MSELoss cannot be used: it does not fit the task multiclass; use {'loss.name': 'cross_entropy'}",
            ),
            (
                "binary",
                nn.MSELoss,
                "MSELoss cannot be used: it does not fit the task binary; use {'loss.name': 'squared'}",
            ),
            ("regression", nn.CTCLoss, "it takes sequences with their lengths"),
            ("regression", {"name": nn.MSELoss, "reduction": "none"}, "it returns a tensor of shape (2, 1)"),
        ],
    )
    def test_torch_losses_that_do_not_fit(self, task, loss, message):
        found = refusal(task, loss=loss)
        assert "[loss]" in found
        assert message in found

    @pytest.mark.parametrize(
        ("inputs", "outputs", "message"),
        [
            (4, 5, "expected outputs of shape (rows, 3) for two rows, got (2, 5)"),
            (7, 3, "the network cannot take rows of shape (4,): mat1 and mat2 shapes cannot be multiplied"),
        ],
    )
    def test_shapes_that_do_not_fit(self, inputs, outputs, message):
        model = {"name": "torch.nn.Linear", "in_features": inputs, "out_features": outputs}
        assert message in refusal(model=model)

    def test_a_network_that_does_not_return_a_tensor(self):
        def pair(inputs, outputs):
            return nn.LSTM(4, 3)

        assert "got tuple" in refusal(model=pair)

    def test_a_network_that_raises(self):
        class Broken(Net):
            def forward(self, x):
                raise KeyError("head")

        assert "cannot take rows of shape (4,): KeyError: 'head'" in refusal(model=Broken)

    def test_a_constructor_that_raises(self):
        class Broken(Net):
            def __init__(self, inputs, outputs):
                raise AssertionError("no")

        assert "[model]: AssertionError: no" in refusal(model=Broken)

    def test_a_network_without_weights(self):
        class Fixed(nn.Module):
            def __init__(self, inputs, outputs):
                super().__init__()

            def forward(self, x):
                return x[:, :3]

        assert "has no weights to train" in refusal(model=Fixed)


class TestModel:
    def test_is_a_function_of_recipe_shapes_and_seed(self):
        recipe = complete(init={"output_gain": 1.0})
        one, same, other = (build_model(recipe, FACTS["multiclass"], seed) for seed in (1, 1, 2))
        for a, b, c in zip(one.parameters(), same.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)
            assert a.dim() == 1 or not torch.equal(a, c)

    @pytest.mark.parametrize("model", ["mlp", Net], ids=str)
    def test_building_preserves_the_global_random_state(self, model):
        before = torch.get_rng_state()
        build_model(complete(model=model), FACTS["multiclass"], 3)
        assert torch.equal(torch.get_rng_state(), before)

    def test_the_seed_determines_the_weights_of_a_user_class(self):
        recipe = complete(model=Net)
        one, same, other = (build_model(recipe, FACTS["multiclass"], seed).head.weight for seed in (1, 1, 2))
        assert torch.equal(one, same)
        assert not torch.equal(one, other)

    def test_output_gain(self):
        zero = build_model(complete(init={"output_gain": 0.0}), FACTS["multiclass"], 0)
        some = build_model(complete(init={"output_gain": 2.0}), FACTS["multiclass"], 0)
        assert not zero.output.weight.any()
        assert some.output.weight.any()

    def test_checking_the_shape_changes_nothing(self):
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3))
        model[1].eval()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        modes = [module.training for module in model.modules()]
        state = torch.get_rng_state()
        check_shape(complete("multiclass"), model, FACTS["multiclass"])
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert [module.training for module in model.modules()] == modes
        assert torch.equal(torch.get_rng_state(), state)


class TestLoss:
    @pytest.mark.parametrize(("output", "form"), [("sigmoid", "logits"), ("sine", "probabilities")])
    def test_probabilities_only_where_there_is_no_fused_form(self, output, form):
        recipe = complete("binary", model={"output": output}, loss={"label_smoothing": 0.2})
        loss = build_loss(recipe, FACTS["binary"], build_output(recipe, FACTS["binary"]))
        assert isinstance(loss, OnProbabilities) == (form == "probabilities")
        assert getattr(loss, "loss", loss).form == form

    def test_both_forms_have_the_same_value(self):
        outputs, targets = torch.randn(9, 1), torch.randint(2, (9,)).float()
        recipe = complete("binary", loss={"label_smoothing": 0.2})
        fused = build_loss(recipe, FACTS["binary"], Sigmoid())
        apart = OnProbabilities(fused.on_probabilities(), Sigmoid())
        torch.testing.assert_close(apart(outputs, targets), fused(outputs, targets))
        torch.testing.assert_close(apart.per_sample(outputs, targets), fused.per_sample(outputs, targets))
        measured = apart.unsmoothed()(outputs, targets)
        torch.testing.assert_close(
            measured, nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], targets)
        )

    def test_sine(self):
        recipe = complete("binary", model={"output": "sine"}, loss={"label_smoothing": 0.0})
        loss = build_loss(recipe, FACTS["binary"], Sine())
        z, y = torch.tensor([[0.3], [-0.2]]), torch.tensor([1.0, 0.0])
        p = (np.sin([0.3, -0.2]) + 1) / 2
        assert float(loss(z, y)) == pytest.approx(-(np.log(p[0]) + np.log(1 - p[1])) / 2, rel=1e-5)


class TestOptimizer:
    def model(self):
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))

    def test_weights_decay_and_biases_do_not(self):
        optimizer = build_optimizer(complete(regularize={"weight_decay": 0.25}), self.model())
        decayed, rest = optimizer.param_groups
        assert [p.dim() for p in decayed["params"]] == [2, 2]
        assert [p.dim() for p in rest["params"]] == [1] * 4
        assert (decayed["weight_decay"], rest["weight_decay"]) == (0.25, 0.0)

    @pytest.mark.parametrize("name", ["sgd", "adam", "torch.optim.NAdam"])
    def test_decoupled_decay_for_any_optimizer(self, name):
        model = self.model()
        recipe = complete(optimizer={"name": name, "lr": 0.5}, regularize={"weight_decay": 0.2})
        optimizer = build_optimizer(recipe, model)
        before = [p.detach().clone() for p in model.parameters()]
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        for parameter, start in zip(model.parameters(), before, strict=True):
            torch.testing.assert_close(parameter, start * (0.9 if parameter.dim() == 2 else 1.0))

    def test_settings_are_passed_on(self):
        optimizer = build_optimizer(complete(optimizer={"name": "adam", "betas": [0.5, 0.6]}), self.model())
        assert optimizer.param_groups[0]["betas"] == (0.5, 0.6)

    def test_frozen_parameters_are_left_out(self):
        model = self.model()
        model[0].weight.requires_grad_(False)
        optimizer = build_optimizer(complete(), model)
        assert sum(len(group["params"]) for group in optimizer.param_groups) == 5


def test_every_problem_is_a_recipe_error():
    with pytest.raises(RecipeError) as caught:
        build_output(complete("regression", model={"output": "softmax"}), FACTS["regression"])
    (problem,) = caught.value.problems
    assert (problem.section, problem.key) == ("model", "output")


def test_a_loss_of_one_argument_is_refused_with_what_a_loss_is():
    with pytest.raises(
        RecipeError,
        match=r"missing 1 required positional argument: 'outputs'; a loss is a function of outputs and",
    ):
        descend.train("iris", {"loss": lambda outputs: outputs.mean()})
