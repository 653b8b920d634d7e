"""Orthonormal weights by the Cayley transform, with ordinary optimizers and with those for the Stiefel manifold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from descend.constraints import ConstrainedWeights, constrain, norm_ball, orthogonal
from descend.errors import UserError
from descend.linalg.stiefel import frames_of, off_frame, polar
from descend.losses import CrossEntropy
from descend.nn import convnet, mlp
from descend.optim import OPTIMIZERS as CATALOGUE
from descend.optim import CayleyAdam, CayleySGD, Rows, gd, heavy_ball, nesterov
from descend.recipe import Recipe
from descend.recipe.build import build_optimizer
from descend.recipe.facts import Facts
from descend.recipe.resolve import resolve
from descend.regularization import weight_decay

FACTS = Facts("table", 500, "multiclass", (4,), 3, 100)

OPTIMIZERS: dict[str, Callable[[Any], Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.3, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=1.0),
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=1.0, max_iter=3),
    "heavy_ball": lambda p: heavy_ball(p, lr=0.1),
    "nesterov": lambda p: nesterov(p, lr=0.1),
    "gd": gd,
}


def network(images: bool = False) -> nn.Module:
    torch.manual_seed(0)
    return convnet((1, 4, 4), 3, channels=(5,), dense=(6,)) if images else mlp((4,), 3, hidden=(6, 5))


def train(
    model: nn.Module, optimizer: Optimizer, steps: int, after_step: Callable[[], None] = lambda: None
) -> None:
    torch.manual_seed(1)
    x = torch.randn(16, 1, 4, 4) if isinstance(model[0], nn.Conv2d) else torch.randn(16, 4)
    y = torch.arange(16) % 3

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        if torch.is_grad_enabled() and not isinstance(optimizer, type(gd([nn.Parameter(torch.ones(1))]))):
            loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)
        after_step()


def largest_error(constrained: ConstrainedWeights) -> float:
    return max(float(off_frame(frames_of([target.weight.detach()]))) for target in constrained.weights)


@pytest.mark.parametrize("images", [False, True], ids=["mlp", "convnet"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_are_orthonormal_after_every_step_of_any_optimizer(name: str, images: bool) -> None:
    model = network(images)
    constrained = constrain(model, orthogonal(method="cayley"))
    before = [target.weight.detach().clone() for target in constrained.weights]
    assert largest_error(constrained) <= 1e-6
    optimizer = OPTIMIZERS[name](model.parameters())
    constrained.attach(optimizer)
    errors: list[float] = []
    train(model, optimizer, 12, lambda: errors.append(largest_error(constrained)))
    assert max(errors) <= 1e-6
    assert not all(
        torch.equal(target.weight, old) for target, old in zip(constrained.weights, before, strict=True)
    )
    assert "parametrizations" not in "".join(model.state_dict())


@pytest.mark.parametrize("name", sorted({*CATALOGUE} - {"sparse_adam"}))
def test_every_optimizer_keeps_the_constraint_or_names_an_alternative(name: str) -> None:
    """The objective offers all its methods. Optimizers that need curvature are rejected."""
    model = network()
    constrained = constrain(model, orthogonal(method="cayley"))
    extra = {"model": model, "likelihood": CrossEntropy().likelihood} if name == "kfac" else {}
    optimizer = CATALOGUE[name](model.parameters(), **extra)
    torch.manual_seed(1)
    rows = Rows(model, CrossEntropy(), torch.randn(16, 4), torch.arange(16) % 3)
    if getattr(optimizer, "needs", None):
        with pytest.raises(UserError, match=f"^{name} needs the curvature"):
            constrained.attach(optimizer)
        return
    constrained.attach(optimizer)
    before = float(rows.value())
    for _ in range(5):
        optimizer.step(rows)
        assert largest_error(constrained) <= 1e-6
    assert float(rows.value()) < before


def test_weights_are_not_orthonormal_without_attach() -> None:
    model = network()
    constrained = constrain(model, orthogonal(method="cayley"))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    train(model, optimizer, 1)
    assert largest_error(constrained) > 1e-3


def test_remove_ends_the_constraint() -> None:
    model = network()
    constrained = constrain(model, orthogonal(method="cayley"))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    handle = constrained.attach(optimizer)
    train(model, optimizer, 3)
    assert largest_error(constrained) <= 1e-6
    handle.remove()
    train(model, optimizer, 1)
    assert largest_error(constrained) > 1e-3


def test_sgd_equals_cayley_sgd() -> None:
    """Without momentum the step is −t G."""
    one, two = network().double(), network().double()
    constrained = constrain(one, orthogonal(method="cayley"), ["linear1", "linear2"])
    first = torch.optim.SGD(one.parameters(), lr=0.01)
    constrained.attach(first)
    matrices = [p for name, p in two.named_parameters() if name in ("linear1.weight", "linear2.weight")]
    others = [p for name, p in two.named_parameters() if name not in ("linear1.weight", "linear2.weight")]
    second = CayleySGD([{"params": matrices, "orthonormal": True}, {"params": others}], lr=0.01)
    x = torch.randn(16, 4, dtype=torch.float64)
    for model, optimizer in ((one, first), (two, second)):
        for _ in range(6):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("by_closure", [False, True])
def test_adam_converges_to_the_nearest_frame(by_closure: bool) -> None:
    """The solution of the Procrustes problem by an SVD; Adam with unprojected gradients would converge to another point."""
    torch.manual_seed(0)
    layer, goal = nn.Linear(12, 8), torch.randn(8, 12)
    optimizer = torch.optim.Adam([layer.weight], lr=0.05)
    constrain(layer, orthogonal(method="cayley")).attach(optimizer)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (layer.weight - goal).square().sum()
        loss.backward()
        return loss

    for step in range(600):
        optimizer.param_groups[0]["lr"] = 0.05 * 0.985**step
        if by_closure:
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), polar(goal.T).T, rtol=0, atol=2e-3)


def test_hooks_registered_before_may_shrink_weights() -> None:
    """A weight decay of 10 % a step, registered first, has no effect on the norms."""
    model = network()
    constrained = constrain(model, orthogonal(method="cayley"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    weight_decay(optimizer, [target.weight for target in constrained.weights], 0.1)
    constrained.attach(optimizer)
    errors: list[float] = []
    train(model, optimizer, 12, lambda: errors.append(largest_error(constrained)))
    assert max(errors) <= 1e-6


def test_project_moves_an_average_to_the_nearest_frame() -> None:
    layer = nn.Linear(6, 4)
    constrained = constrain(layer, orthogonal(method="cayley"))
    with torch.no_grad():
        layer.weight.lerp_(torch.randn(4, 6), 0.3)
    expected = polar(layer.weight.detach().T).T
    constrained.project_()
    torch.testing.assert_close(layer.weight.detach(), expected, rtol=0, atol=1e-6)
    bits = layer.weight.detach().clone()
    constrained.project_()
    assert torch.equal(layer.weight, bits)


def test_the_initial_weight_is_the_nearest_frame_and_an_orthonormal_weight_is_unchanged() -> None:
    layer = nn.Linear(6, 4)
    expected = polar(layer.weight.detach().T).T
    constrain(layer, orthogonal(method="cayley"))
    torch.testing.assert_close(layer.weight.detach(), expected, rtol=0, atol=1e-7)
    bits = layer.weight.detach().clone()
    constrain(layer, orthogonal(method="cayley"))
    assert torch.equal(layer.weight, bits)


@pytest.mark.parametrize("constructor", [CayleySGD, CayleyAdam])
def test_steps_of_a_stiefel_optimizer_are_unchanged(constructor: Any) -> None:
    """Its steps are unchanged to the bit; weights that it does not keep orthonormal itself are constrained."""
    one, two = network(), network()
    constrained = constrain(one, orthogonal(method="cayley"), ["linear1", "linear2"])
    constrain(two, orthogonal(method="cayley"), ["linear1", "linear2"])

    def groups(model: Any) -> list[dict[str, Any]]:
        rest = [p for p in model.parameters() if p is not model.linear1.weight]
        return [{"params": [model.linear1.weight], "orthonormal": True}, {"params": rest}]

    first, second = constructor(groups(one), lr=0.1), constructor(groups(two), lr=0.1)
    constrained.attach(first)
    errors: list[float] = []
    train(one, first, 1, lambda: errors.append(largest_error(constrained)))
    train(two, second, 1)
    assert torch.equal(one.linear1.weight, two.linear1.weight)
    assert not torch.equal(one.linear2.weight, two.linear2.weight)
    assert max(errors) <= 1e-6


@pytest.mark.parametrize("second", ["norm_ball", "exponential", "cayley"])
def test_a_second_constraint_is_rejected(second: str) -> None:
    model = nn.Linear(3, 2)
    constrain(model, orthogonal())
    if second == "exponential":
        return
    with pytest.raises(UserError, match="'weight' is already constrained"):
        constrain(model, norm_ball() if second == "norm_ball" else orthogonal(method="cayley"))


def test_the_optimizer_sees_tangent_gradients_at_the_start_of_a_step() -> None:
    model = nn.Linear(6, 4)
    constrained = constrain(model, orthogonal(method="cayley"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    constrained.attach(optimizer)
    model(torch.ones(3, 6)).square().sum().backward()
    x, g = model.weight.detach().T.clone(), model.weight.grad.T.clone()
    bias = model.bias.grad.clone()
    optimizer.step()
    seen = model.weight.grad.T
    torch.testing.assert_close(seen, g - x @ (x.T @ g + g.T @ x) / 2, rtol=1e-5, atol=1e-5)
    assert torch.equal(model.bias.grad, bias)


def test_weights_without_a_gradient_are_unchanged() -> None:
    model = network()
    constrained = constrain(model, orthogonal(method="cayley"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    constrained.attach(optimizer)
    before = [target.weight.detach().clone() for target in constrained.weights]
    constrained.weights[0].weight.grad = torch.ones_like(constrained.weights[0].weight)
    optimizer.step()
    assert not torch.allclose(constrained.weights[0].weight, before[0])
    for target, old in zip(constrained.weights[1:], before[1:], strict=True):
        torch.testing.assert_close(target.weight.detach(), old, rtol=0, atol=2e-7)


def test_optimizers_that_need_curvature_are_rejected() -> None:
    class Curved(torch.optim.SGD):
        needs = frozenset({"graph"})

    model = network()
    constrained = constrain(model, orthogonal(method="cayley"))
    with pytest.raises(UserError, match=r"curved needs the curvature.*use method = 'exponential'"):
        constrained.attach(Curved(model.parameters()))


def test_sparse_gradients_are_rejected() -> None:
    table = nn.Embedding(5, 3, sparse=True)
    optimizer = torch.optim.SGD(table.parameters(), lr=0.1)
    constrain(table, orthogonal(method="cayley")).attach(optimizer)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(UserError, match="does not support sparse gradients"):
        optimizer.step()


class TestInARecipe:
    def built(self, **sections: Any) -> tuple[nn.Module, Optimizer]:
        model = network()
        constrained = constrain(model, orthogonal(method="cayley"), "linear*")
        recipe = resolve(Recipe.of(sections), FACTS).recipe
        return model, build_optimizer(recipe, model, [constrained])

    def test_cayley_adam_gets_the_orthonormal_weights_as_a_group(self) -> None:
        model, optimizer = self.built(
            optimizer={"name": "cayley_adam", "lr": 0.01, "groups": {"linear2": 0.5}},
            regularize={"weight_decay": 0.1},
        )
        settings = {
            id(p): (group["orthonormal"], group["lr"])
            for group in optimizer.param_groups
            for p in group["params"]
        }
        named = {name: settings[id(p)] for name, p in model.named_parameters()}
        assert named == {
            "linear1.weight": (True, 0.01),
            "linear1.bias": (False, 0.01),
            "linear2.weight": (True, 0.005),
            "linear2.bias": (False, 0.005),
            "output.weight": (False, 0.01),
            "output.bias": (False, 0.01),
        }

    @pytest.mark.parametrize("name", ["adamw", "sgd", "cayley_sgd"])
    def test_weight_decay_and_soft_threshold_exclude_orthonormal_weights(self, name: str) -> None:
        """With zero gradients the other weights shrink, and the orthonormal ones do not change."""
        model, optimizer = self.built(
            optimizer={"name": name, "lr": 0.1}, regularize={"weight_decay": 0.5, "l1_prox": 0.1}
        )
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
        for n, p in model.named_parameters():
            if n.startswith("linear") and n.endswith("weight"):
                torch.testing.assert_close(p.detach(), before[n], rtol=0, atol=2e-7)
        output = model.get_parameter("output.weight")
        assert float(output.detach().norm()) < 0.99 * float(before["output.weight"].norm())

    def test_without_a_constraint_cayley_adam_has_no_orthonormal_group(self) -> None:
        model = network()
        recipe = resolve(Recipe(optimizer="cayley_adam"), FACTS).recipe
        optimizer = build_optimizer(recipe, model)
        assert not any(group["orthonormal"] for group in optimizer.param_groups)
