"""Optimizers are called as users of PyTorch call them: its argument order, defaults, groups and errors."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.support.optimizer_contract import Case, Problem, model_of
from torch import nn

import descend
from descend import optim
from descend.errors import UserError
from descend.optim import OPTIMIZERS
from descend.optim.base import CheckedOptimizer
from descend.param_types import check, of_constructor

TORCH = {
    "sgd": "SGD",
    "adagrad": "Adagrad",
    "rmsprop": "RMSprop",
    "adam": "Adam",
    "adamw": "AdamW",
    "adamax": "Adamax",
    "sparse_adam": "SparseAdam",
    "nadam": "NAdam",
    "radam": "RAdam",
    "adafactor": "Adafactor",
}
OWN = sorted(set(OPTIMIZERS) - set(TORCH))
CLASSES = sorted(
    name
    for name in optim.__all__
    if name[0].isupper()
    and inspect.isclass(getattr(optim, name))
    and issubclass(getattr(optim, name), torch.optim.Optimizer)
    and name.lower() not in optim.WRAPPERS
)
MODEL = {"kfac", "KFAC"}
"""Optimizers with required arguments other than the parameters."""


def build(constructor: Callable[..., Any], parameters: Any, *arguments: Any, **settings: Any) -> Any:
    """The optimizer with its required arguments and those that are given, the learning rate among them."""
    if "likelihood" in inspect.signature(constructor).parameters:
        model = model_of(list(parameters))
        settings = {"model": model, "likelihood": "normal"} | settings
        if arguments:
            settings["lr"], arguments = arguments[0], arguments[1:]
        return constructor(model.parameters(), *arguments, **settings)
    return constructor(parameters, *arguments, **settings)


def weights(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.ones(*(shape or (2, 2))))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 33), nn.Tanh(), nn.Linear(33, 5))


def train(optimizer_of: Callable[[Any], torch.optim.Optimizer], steps: int = 20) -> torch.Tensor:
    """The weights of a small network after some steps."""
    model = network()
    x = torch.randn(40, 7, generator=torch.Generator().manual_seed(1))
    optimizer = optimizer_of(model.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def train_sparse(optimizer_of: Callable[[Any], torch.optim.Optimizer], steps: int = 20) -> torch.Tensor:
    torch.manual_seed(0)
    table = nn.Embedding(9, 4, sparse=True)
    optimizer = optimizer_of(table.parameters())
    for step in range(steps):
        optimizer.zero_grad()
        table(torch.tensor([step % 9, (3 * step) % 9])).square().sum().backward()
        optimizer.step()
    return table.weight.detach().flatten()


class TestPyTorchsOwn:
    @pytest.mark.parametrize(("name", "theirs"), TORCH.items())
    def test_arguments_are_in_their_order_with_their_defaults(self, name, theirs):
        expected = list(inspect.signature(getattr(torch.optim, theirs)).parameters.values())
        got = list(inspect.signature(OPTIMIZERS[name]).parameters.values())
        assert [each.name for each in got] == [each.name for each in expected]
        assert [each.kind for each in got] == [each.kind for each in expected]
        assert [each.default for each in got] == [each.default for each in expected]

    @pytest.mark.parametrize(("name", "theirs"), TORCH.items())
    def test_the_class_is_theirs(self, name, theirs):
        constructor = getattr(torch.optim, theirs)
        assert getattr(optim, theirs) is constructor
        assert type(OPTIMIZERS[name]([weights()])) is constructor
        assert inspect.get_annotations(OPTIMIZERS[name], eval_str=True)["return"] is constructor

    @pytest.mark.parametrize(("name", "theirs"), TORCH.items())
    def test_defaults_are_equal_to_the_bit_over_20_steps(self, name, theirs):
        run = train_sparse if name == "sparse_adam" else train
        assert torch.equal(run(OPTIMIZERS[name]), run(getattr(torch.optim, theirs)))

    @pytest.mark.parametrize("fused", [True, False])
    @pytest.mark.parametrize("name", ["sgd", "adagrad", "adam", "adamw"])
    def test_so_are_both_kernels(self, name, fused):
        constructor = getattr(torch.optim, TORCH[name])
        got = train(lambda p: OPTIMIZERS[name](p, lr=0.01, fused=fused))
        assert torch.equal(got, train(lambda p: constructor(p, lr=0.01, fused=fused)))

    def test_the_control_a_fused_kernel_may_round_otherwise(self):
        assert not torch.equal(train(lambda p: optim.adam(p, fused=True)), train(optim.adam))

    @pytest.mark.parametrize(
        ("ours", "theirs"),
        [
            (lambda p: optim.adamw(p, 1e-3), lambda p: torch.optim.AdamW(p, 1e-3)),
            (
                lambda p: optim.adamw(p, lr=1e-3, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.1, amsgrad=True),
                lambda p: torch.optim.AdamW(p, 1e-3, (0.8, 0.9), 1e-6, 0.1, True),
            ),
            (
                lambda p: optim.adamw(
                    p, maximize=True, foreach=True, capturable=False, differentiable=False, fused=None
                ),
                lambda p: torch.optim.AdamW(p, maximize=True, foreach=True),
            ),
            (lambda p: optim.SGD(p, 0.1, momentum=0.9), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
            (lambda p: optim.sgd(p, 0.1, momentum=0.9), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
            (lambda p: optim.sgd(p, 0.1, 0.9, 0, 0.01, True), lambda p: torch.optim.SGD(p, 0.1, 0.9, 0, 0.01, True)),
            (
                lambda p: optim.rmsprop(p, 0.01, 0.9, 1e-7, 0.1, 0.5, True),
                lambda p: torch.optim.RMSprop(p, 0.01, 0.9, 1e-7, 0.1, 0.5, True),
            ),
            (
                lambda p: optim.adagrad(p, lr_decay=0.1, weight_decay=0.1, initial_accumulator_value=0.2),
                lambda p: torch.optim.Adagrad(p, 0.01, 0.1, 0.1, 0.2),
            ),
            (
                lambda p: optim.adam(p, 1e-3, weight_decay=0.1, decoupled_weight_decay=True),
                lambda p: torch.optim.Adam(p, 1e-3, weight_decay=0.1, decoupled_weight_decay=True),
            ),
            (lambda p: optim.adamax(p, weight_decay=0.1), lambda p: torch.optim.Adamax(p, weight_decay=0.1)),
            (
                lambda p: optim.adamw([{"params": [each]} for each in p], lr=torch.tensor(0.01)),
                lambda p: torch.optim.AdamW([{"params": [each]} for each in p], lr=torch.tensor(0.01)),
            ),
        ],
    )  # fmt: skip
    def test_calls_that_users_of_pytorch_write(self, ours, theirs):
        assert torch.equal(train(ours), train(theirs))


class TestClassesAndFunctions:
    @pytest.mark.parametrize("name", OWN)
    def test_a_lower_case_name_is_the_class(self, name):
        constructor = OPTIMIZERS[name]
        assert inspect.isclass(constructor)
        assert getattr(optim, name) is constructor
        assert getattr(optim, constructor.__name__) is constructor
        assert constructor.__name__.lower() == name.replace("_", "")

    @pytest.mark.parametrize("name", sorted(OPTIMIZERS))
    def test_a_class_of_each_name_is_exported(self, name):
        (constructor,) = {each for each in CLASSES if each.lower() == name.replace("_", "")}
        ours, theirs = OPTIMIZERS[name], getattr(optim, constructor)
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)

    @pytest.mark.parametrize("name", CLASSES)
    def test_the_required_arguments_are_enough(self, name):
        assert build(getattr(optim, name), [weights()]).param_groups

    @pytest.mark.parametrize("name", sorted(OPTIMIZERS))
    def test_no_module_has_the_path_of_a_function(self, name):
        assert not inspect.ismodule(getattr(optim, name))

    @pytest.mark.parametrize("name", OWN)
    def test_settings_are_annotated_and_their_defaults_are_in_their_domains(self, name):
        optimizer = build(OPTIMIZERS[name], [weights()])
        declared = of_constructor(OPTIMIZERS[name], ())
        assert set(optimizer.defaults) <= set(declared)
        for key, value in optimizer.defaults.items():
            assert check(declared[key], value)[1] is None, key

    @pytest.mark.parametrize("name", OWN)
    def test_all_are_checked_in_one_place(self, name):
        assert issubclass(OPTIMIZERS[name], CheckedOptimizer)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
class TestCalls:
    def test_the_learning_rate_by_position_and_by_name(self, name):
        by_position, by_name = (
            build(OPTIMIZERS[name], [weights()], 0.125),
            build(OPTIMIZERS[name], [weights()], lr=0.125),
        )
        for optimizer in (by_position, by_name):
            assert [group["lr"] for group in optimizer.param_groups] == [0.125]

    def test_a_tensor_as_the_learning_rate(self, name):
        lr = torch.tensor(0.125)
        if name == "sparse_adam":
            pytest.skip("PyTorch's does not support it")
        optimizer = build(OPTIMIZERS[name], [weights()], lr=lr)
        assert optimizer.param_groups[0]["lr"] is lr

    def test_groups_with_their_own_learning_rate(self, name):
        problem = Problem(Case(name, layers=name in MODEL))
        first, second = problem.parameters()
        groups = [{"params": [first], "lr": 0.5}, {"params": [second]}]
        settings = {"model": problem.model, "likelihood": "normal"} if name in MODEL else {}
        optimizer = OPTIMIZERS[name](groups, lr=0.125, **settings)
        assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.125]

    @pytest.mark.parametrize("lr", [-1, -0.5, "fast", None])
    def test_a_bad_setting_has_one_wording(self, name, lr):
        shown = f"the string '{lr}'" if isinstance(lr, str) else lr
        with pytest.raises(UserError) as caught:
            build(OPTIMIZERS[name], [weights()], lr=lr)
        assert str(caught.value) == f"{name}: lr: expected a number above 0, got {shown}"
        assert isinstance(caught.value, ValueError)

    def test_so_has_one_of_a_group(self, name):
        if name in TORCH:
            pytest.skip("PyTorch's classes do not check groups")
        optimizer = build(OPTIMIZERS[name], [weights()])
        with pytest.raises(UserError, match=rf"^{name}: lr: expected a number above 0, got -1$"):
            optimizer.add_param_group({"params": [weights()], "lr": -1})
        assert len(optimizer.param_groups) == 1


def test_all_bad_settings_are_listed():
    with pytest.raises(
        UserError,
        match=r"^lbfgs: lr: expected .*, got 0.0?-1; history_size: expected .*, got 0$|lr: .*; hist",
    ):
        optim.LBFGS([weights()], -1, history_size=0)


class TestWeightDecay:
    @pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.1}])
    @pytest.mark.parametrize("name", ["heavy_ball", "nesterov"])
    def test_is_that_of_sgd(self, name, settings):
        """With a constant learning rate the heavy ball takes the steps of SGD with momentum."""

        def run(optimizer_of: Callable[[Any], torch.optim.Optimizer]) -> torch.Tensor:
            model = network().double()
            x = torch.randn(40, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
            optimizer = optimizer_of(model.parameters())

            def closure():
                optimizer.zero_grad()
                loss = model(x).square().mean()
                loss.backward()
                return loss

            for _ in range(20):
                optimizer.step(closure)
            return torch.cat([p.detach().flatten() for p in model.parameters()])

        momentum = 0.9 if name == "heavy_ball" else 0.0  # SGD stores Nesterov's look-ahead points
        got = run(lambda p: OPTIMIZERS[name](p, 0.1, momentum, **settings))
        expected = run(lambda p: torch.optim.SGD(p, 0.1, momentum, **settings))
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("groups", [False, True])
    def test_gd_minimizes_the_loss_with_its_penalty(self, groups):
        """With the penalty in the closure instead of the optimizer, the steps are the same."""
        ends = []
        for decay in (0.3, 0.0):
            a, b, unused = (
                nn.Parameter(torch.full((3,), value, dtype=torch.float64)) for value in (1.0, -2.0, 5.0)
            )
            apart = (
                [{"params": [a, unused]}, {"params": [b], "weight_decay": 0.0}] if groups else [a, unused, b]
            )
            optimizer = optim.GD(apart, 1.0, weight_decay=decay)

            def closure(a=a, b=b, optimizer=optimizer, own=0.3 - decay):
                optimizer.zero_grad()
                loss = (a - b).square().sum() + b.square().sum() / 4
                loss = loss + own * (a.square().sum() + (0.0 if groups else b.square().sum())) / 2
                loss.backward()
                return loss

            for _ in range(10):
                optimizer.step(closure)
            ends.append(torch.cat([a, b]).detach())
            assert unused.tolist() == [5.0] * 3  # no gradient, no decay
        torch.testing.assert_close(*ends, rtol=1e-10, atol=1e-12)

    def test_it_is_a_setting_wherever_pytorch_has_it(self):
        for name, theirs in TORCH.items():
            has = "weight_decay" in inspect.signature(getattr(torch.optim, theirs)).parameters
            assert ("weight_decay" in inspect.signature(OPTIMIZERS[name]).parameters) == has


class TestStateOfAnOlderVersion:
    def test_settings_that_it_does_not_have_are_those_of_the_constructor(self):
        a, b = weights(), weights()
        state = optim.HeavyBall([a], 0.5, 0.25).state_dict()
        del state["param_groups"][0]["weight_decay"]
        optimizer = optim.HeavyBall([b], weight_decay=0.125)
        optimizer.load_state_dict(state)
        (group,) = optimizer.param_groups
        assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.5, 0.25, 0.125)

    def test_a_recipe_with_former_names_is_read(self):
        recipe = descend.Recipe.loads('[optimizer]\nname = "lbfgs"\nmemory = 4\niterations = 2')
        assert dict(recipe.optimizer) == {"name": "lbfgs", "history_size": 4, "max_iter": 2}


class TestInARecipe:
    KEPT = ("weight_decay", "maximize", "foreach", "capturable", "differentiable", "decoupled_weight_decay")

    @pytest.mark.parametrize("key", KEPT)
    def test_what_belongs_to_the_builder_is_not_a_key(self, key):
        with pytest.raises(descend.errors.RecipeError, match=rf"\[optimizer\] {key}: unknown key of 'adamw'"):
            descend.Recipe(optimizer={"name": "adamw", key: 0.0 if key == "weight_decay" else False})

    def test_of_an_import_path_it_is_one(self):
        recipe = descend.Recipe(optimizer={"name": "torch.optim.NAdam", "weight_decay": 0.125})
        assert recipe.optimizer["weight_decay"] == 0.125
        optimizer = built(recipe)
        assert optimizer.param_groups[0]["weight_decay"] == 0.125

    @pytest.mark.parametrize(
        "name", ["sgd", "heavy_ball", "nesterov", "gd", "adam", "adagrad", "rmsprop", "adamax"]
    )
    def test_the_weight_decay_is_that_of_the_recipe(self, name):
        optimizer = built(descend.Recipe(optimizer=name, regularize={"weight_decay": 0.25}))
        assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0, 0.0]  # applied by a hook

    def test_so_is_that_of_adamw(self):
        optimizer = built(descend.Recipe(optimizer="adamw", regularize={"weight_decay": 0.25}))
        assert [group["weight_decay"] for group in optimizer.param_groups] == [0.25, 0.0]
        optimizer = built(descend.Recipe(optimizer="adamw", regularize={"weight_decay": 0.0}))
        assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0]

    @pytest.mark.parametrize(
        ("name", "fused"), [("adamw", True), ("adam", True), ("sgd", True), ("adagrad", True)]
    )
    def test_kernels_are_fused_where_they_can_be(self, name, fused):
        assert built(descend.Recipe(optimizer=name)).defaults["fused"] is fused
        off = built(descend.Recipe(optimizer={"name": name, "fused": False}))
        assert not off.defaults["fused"]

    def test_sgd_has_its_own_default(self):
        assert built(descend.Recipe(optimizer="sgd")).defaults["lr"] == 0.05
        assert optim.sgd([weights()]).defaults["lr"] == 1e-3


def built(recipe: descend.Recipe) -> torch.optim.Optimizer:
    """The optimizer of a recipe, for classification of a table."""
    from descend.recipe.build import build_optimizer
    from descend.recipe.facts import Facts
    from descend.recipe.resolve import resolve

    facts = Facts("table", 5000, "multiclass", (7,), 5, 100)
    return build_optimizer(resolve(recipe, facts).recipe, network())
