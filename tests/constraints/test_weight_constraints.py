"""Constraints on weights in a custom training loop: projections, feasibility after every step, name patterns."""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples
from torch import Tensor, nn

from descend.constraints import (
    CONSTRAINTS,
    Constraint,
    binary,
    constrain,
    norm_ball,
    orthogonal,
    project_to_ball,
    project_to_simplex,
    remove_parametrizations,
    simplex,
)
from descend.errors import UserError
from descend.nn import convnet, mlp

DOUBLE = torch.float64
vectors = st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=7)


def in_ball(weight: Tensor) -> bool:
    return bool((weight.flatten(1).norm(dim=1) <= 1.0 + 2e-6).all())


def in_simplex(weight: Tensor) -> bool:
    rows = weight.flatten(1)
    return bool((rows >= 0).all() and ((rows.sum(1) - 1.0).abs() < 1e-5).all())


def is_binary(weight: Tensor) -> bool:
    return len(weight.abs().unique()) == 1 and bool(weight.abs().min() > 0)


def is_orthonormal(weight: Tensor) -> bool:
    rows = weight.flatten(1)
    wide = rows if rows.shape[0] <= rows.shape[1] else rows.mT
    return bool((wide @ wide.mT - torch.eye(len(wide))).abs().max() < 1e-5)


IS_FEASIBLE = {"norm_ball": in_ball, "simplex": in_simplex, "binary": is_binary, "orthogonal": is_orthonormal}


class TestProjections:
    @given(vectors, st.floats(0.1, 3.0))
    @settings(deadline=None, max_examples=examples(50))
    def test_simplex(self, values: list[float], total: float) -> None:
        """The optimality conditions: w is feasible, and w - v is constant on the support and not below that value elsewhere."""
        v = torch.tensor([values], dtype=DOUBLE)
        w = project_to_simplex(v, total)
        assert float(w.sum()) == pytest.approx(total, rel=1e-9)
        assert (w >= 0).all()
        difference = (w - v)[0]
        level = float(difference[w[0] > 0].max())
        torch.testing.assert_close(
            difference[w[0] > 0], torch.full_like(difference[w[0] > 0], level), rtol=0, atol=1e-9
        )
        assert (difference[w[0] == 0] >= level - 1e-9).all()

    @pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
    @pytest.mark.parametrize(
        ("row", "expected"),
        [
            ([1e20, -1e20, 3.0], [1.0, 0.0, 0.0]),
            ([1e20, 1e20, 3.0], [0.5, 0.5, 0.0]),
            ([-1e20, -1e20, -1e30], [0.5, 0.5, 0.0]),
        ],
    )
    def test_simplex_of_entries_next_to_which_the_total_is_rounded_away(
        self, row: list[float], expected: list[float], dtype: torch.dtype
    ) -> None:
        assert project_to_simplex(torch.tensor([row], dtype=dtype))[0].tolist() == expected
        if min(row) > -1e30 and dtype == DOUBLE:
            ball = project_to_ball(torch.tensor([row], dtype=dtype), 1.0, "l1")
            assert float(ball.abs().sum()) == pytest.approx(1.0)

    @pytest.mark.parametrize("norm", ["l1", "l2"])
    def test_ball_matches_a_numerical_solver(self, norm: str) -> None:
        v = np.array([2.0, -1.0, 0.3, 0.0])
        order = 1 if norm == "l1" else 2
        expected = scipy.optimize.minimize(
            lambda w: ((w - v) ** 2).sum(),
            np.full(4, 0.1),
            method="SLSQP",
            constraints={"type": "ineq", "fun": lambda w: 1.5 - np.linalg.norm(w, order)},
            options={"ftol": 1e-14, "maxiter": 500},
        )
        projection = project_to_ball(torch.from_numpy(v)[None], 1.5, norm)[0].numpy()
        np.testing.assert_allclose(projection, expected.x, atol=2e-4)
        assert np.linalg.norm(projection, order) == pytest.approx(1.5)

    def test_box(self) -> None:
        assert project_to_ball(torch.tensor([[2.0, -0.5]]), 1.0, "linf").tolist() == [[1.0, -0.5]]

    @given(vectors, st.sampled_from(["l1", "l2", "linf"]))
    @settings(deadline=None, max_examples=examples(50))
    def test_points_inside_and_projected_points_are_unchanged_to_the_bit(
        self, values: list[float], norm: str
    ) -> None:
        v = torch.tensor([values])
        projected = project_to_ball(v, 1.5, norm)
        assert torch.equal(project_to_ball(projected, 1.5, norm), projected)
        assert torch.equal(project_to_ball(v, 100.0, norm), v)

    def test_many_entries_in_float32(self) -> None:
        v = torch.randn(1, 200_000, generator=torch.Generator().manual_seed(0))
        assert float(project_to_simplex(v).double().sum()) == pytest.approx(1.0, abs=1e-5)


def network(images: bool) -> nn.Module:
    torch.manual_seed(0)
    return convnet((1, 4, 4), 3, channels=(5,), dense=(6,)) if images else mlp((4,), 3, hidden=(6, 5))


@pytest.mark.parametrize("images", [False, True], ids=["mlp", "convnet"])
@pytest.mark.parametrize("name", CONSTRAINTS)
@pytest.mark.parametrize("kind", ["sgd", "adam", "lbfgs"])
def test_weights_are_feasible_after_every_step(name: str, images: bool, kind: str) -> None:
    model = network(images)
    constrained = constrain(model, CONSTRAINTS[name]())
    optimizer = {
        "sgd": lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.9),
        "adam": lambda p: torch.optim.Adam(p, lr=0.3, fused=True),
        "lbfgs": lambda p: torch.optim.LBFGS(p, lr=1.0, max_iter=3),
    }[kind](model.parameters())
    constrained.attach(optimizer)
    x = torch.randn(16, 1, 4, 4) if images else torch.randn(16, 4)
    y = torch.arange(16) % 3
    targets = constrained.weights
    assert len(targets) == 3
    assert all(IS_FEASIBLE[name](target.weight.detach()) for target in targets)
    before = [target.weight.detach().clone() for target in targets]

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    for _ in range(12):
        optimizer.step(closure)
        assert all(IS_FEASIBLE[name](target.weight.detach()) for target in targets)
    assert any(not torch.equal(target.weight, old) for target, old in zip(targets, before, strict=True))


def test_weights_are_infeasible_without_attach() -> None:
    """This shows that the test above can fail."""
    model = network(False)
    constrain(model, norm_ball())
    optimizer = torch.optim.SGD(model.parameters(), lr=10.0)
    model(torch.randn(8, 4)).square().sum().backward()
    optimizer.step()
    assert not in_ball(model.linear1.weight)


@pytest.mark.slow
def test_orthonormal_to_1e_6_over_a_thousand_steps_in_float32() -> None:
    torch.manual_seed(0)
    model = nn.Linear(12, 8)
    constrain(model, orthogonal())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    target = torch.randn(8, 12)
    for _ in range(1000):
        optimizer.zero_grad()
        (model.weight - target).square().sum().backward()
        optimizer.step()
        weight = model.weight.detach()
        assert (weight @ weight.T - torch.eye(8)).abs().max() <= 1e-6
    # The nearest orthonormal rows to a matrix are its polar factor.
    left, _, right = torch.linalg.svd(target, full_matrices=False)
    assert (model.weight - left @ right).abs().max() < 1e-3


class TestOrthogonal:
    def test_the_initial_weight_is_a_basis_of_the_row_space(self) -> None:
        layer = nn.Linear(6, 4)
        old = layer.weight.detach().clone()
        constrain(layer, orthogonal())
        projector = layer.weight.T @ layer.weight
        torch.testing.assert_close(old @ projector, old, rtol=1e-4, atol=1e-5)

    def test_an_orthonormal_weight_is_unchanged(self) -> None:
        layer = nn.Linear(6, 4)
        nn.init.orthogonal_(layer.weight)
        old = layer.weight.detach().clone()
        constrain(layer, orthogonal())
        torch.testing.assert_close(layer.weight.detach(), old, rtol=0, atol=1e-5)

    def test_penalty(self) -> None:
        model = network(False)
        constrained = constrain(model, orthogonal(method="penalty", strength=0.5), "linear*")
        w, v = model.linear1.weight, model.linear2.weight
        expected = 0.5 * ((w.T @ w - torch.eye(4)).square().sum() + (v @ v.T - torch.eye(5)).square().sum())
        torch.testing.assert_close(constrained.penalty(), expected)
        assert constrain(model, norm_ball(), "output").penalty() is None
        assert "parametrizations" not in "".join(model.state_dict())


class TestBinary:
    def test_the_gradient_is_the_straight_through_estimate(self) -> None:
        layer = nn.Linear(3, 2, bias=False).double()
        constrain(layer, binary(scale=0.7))
        latent = layer.parametrizations.weight.original
        x = torch.randn(5, 3, dtype=DOUBLE)
        layer(x).pow(2).sum().backward()
        weight = (0.7 * latent.detach().sign()).requires_grad_()
        (x @ weight.T).pow(2).sum().backward()
        torch.testing.assert_close(latent.grad, weight.grad)

    def test_signs_are_kept_and_the_scale_is_the_root_mean_square(self) -> None:
        layer = nn.Linear(30, 20)
        old = layer.weight.detach().clone()
        constrain(layer, binary())
        assert torch.equal(layer.weight.sign(), old.sign())
        assert float(layer.weight.detach().abs().max()) == pytest.approx(
            float(old.square().mean().sqrt()), rel=1e-6
        )

    def test_a_zero_weight_gets_a_scale(self) -> None:
        layer = nn.Linear(4, 2)
        nn.init.zeros_(layer.weight)
        constrain(layer, binary())
        assert layer.weight.unique().tolist() == [0.5]

    def test_latent_weights_are_clipped(self) -> None:
        layer = nn.Linear(3, 2)
        constrained = constrain(layer, binary(scale=0.5))
        optimizer = torch.optim.SGD(layer.parameters(), lr=100.0)
        constrained.attach(optimizer)
        layer(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        assert layer.parametrizations.weight.original.abs().max() == 0.5


class TestPatterns:
    def test_patterns_match_weights_and_their_layers(self) -> None:
        def matched(pattern: str | list[str]) -> list[str]:
            return [target.path for target in constrain(network(False), norm_ball(), pattern).weights]

        assert matched("linear*") == matched("linear*.weight") == ["linear1.weight", "linear2.weight"]
        assert matched(["output", "linear1"]) == ["linear1.weight", "output.weight"]
        assert matched("*") == ["linear1.weight", "linear2.weight", "output.weight"]

    def test_a_pattern_without_a_match_is_rejected(self) -> None:
        expected = r"no weight is called 'dense\*'; there are: linear1.weight, linear2.weight, output.weight"
        with pytest.raises(UserError, match=expected):
            constrain(network(False), norm_ball(), ["linear1", "dense*"])
        with pytest.raises(UserError, match="the model has no weights to constrain"):
            constrain(nn.BatchNorm1d(3), norm_ball())

    def test_biases_norms_and_weight_norms_are_excluded(self) -> None:
        model = nn.Sequential(
            nn.Linear(3, 3), nn.LayerNorm((3, 3)), nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
        )
        assert [target.path for target in constrain(model, norm_ball()).weights] == ["0.weight"]

    def test_a_single_layer(self) -> None:
        assert [target.path for target in constrain(nn.Linear(2, 2), norm_ball()).weights] == ["weight"]

    def test_frozen_and_shared_weights(self) -> None:
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
        model[1].weight = model[0].weight
        model[2].requires_grad_(False)
        assert [target.path for target in constrain(model, norm_ball()).weights] == ["0.weight"]

    @pytest.mark.parametrize("first", [orthogonal, binary])
    def test_a_second_constraint_is_rejected(self, first: object) -> None:
        model = nn.Linear(3, 2)
        constrain(model, first())
        for second in (norm_ball(), simplex(), orthogonal(method="penalty"), orthogonal(), binary()):
            if type(second) is type(first()):
                continue
            with pytest.raises(UserError, match="'weight' is already constrained"):
                constrain(model, second)


@pytest.mark.parametrize("name", CONSTRAINTS)
class TestState:
    def test_impose_is_idempotent(self, name: str) -> None:
        model = network(False)
        constrain(model, CONSTRAINTS[name]())
        before = copy.deepcopy(model.state_dict())
        constrain(model, CONSTRAINTS[name]())
        after = model.state_dict()
        assert list(after) == list(before)
        for key, value in after.items():
            torch.testing.assert_close(value, before[key], rtol=0, atol=1e-7)

    def test_a_saved_state_is_restored(self, name: str) -> None:
        model, other = network(False), network(False)
        for each in (model, other):
            constrain(each, CONSTRAINTS[name]())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.01)
        file = io.BytesIO(safetensors.torch.save({k: v.contiguous() for k, v in model.state_dict().items()}))
        other.load_state_dict(safetensors.torch.load(file.read()))
        x = torch.randn(7, 4)
        assert torch.equal(model(x), other(x))

    def test_removing_parametrizations_keeps_the_outputs(self, name: str) -> None:
        model = network(False)
        constrain(model, CONSTRAINTS[name]())
        x = torch.randn(7, 4)
        expected = model(x)
        plain = remove_parametrizations(copy.deepcopy(model))
        assert torch.equal(plain(x), expected)
        assert torch.equal(model(x), expected)  # the original is unchanged
        assert sorted(plain.state_dict()) == sorted(network(False).state_dict())
        assert all(
            IS_FEASIBLE[name](plain.get_submodule(layer).weight.detach()) for layer in ("linear1", "output")
        )


def test_baking_constraints_only_leaves_other_parametrizations() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)), nn.Linear(2, 2))
    constrain(model, binary(), "1")
    assert sorted(remove_parametrizations(model, constraints_only=True).state_dict()) == [
        "0.bias",
        "0.parametrizations.weight.original0",
        "0.parametrizations.weight.original1",
        "1.bias",
        "1.weight",
    ]


def test_removing_one_of_two_parametrizations_of_a_module() -> None:
    layer = nn.Bilinear(2, 3, 4)
    nn.utils.parametrizations.weight_norm(layer, "weight")
    layer.register_parameter("other", nn.Parameter(torch.randn(3, 3)))
    constrain(layer, binary(), "other")
    expected = layer.other.detach().clone(), layer.weight.detach().clone()
    plain = remove_parametrizations(copy.deepcopy(layer), constraints_only=True)
    assert torch.equal(plain.other, expected[0])
    assert torch.equal(plain.weight, expected[1])
    assert isinstance(plain.other, nn.Parameter)
    assert not isinstance(plain.weight, nn.Parameter)
    assert torch.equal(layer.other, expected[0])


def test_a_custom_constraint() -> None:
    class Positive(Constraint):
        def impose(self, target: object) -> None:
            self.project_(target)

        def project_(self, target: Any) -> None:
            target.weight.clamp_(min=0.0)

    model = nn.Linear(3, 2)
    constrained = constrain(model, Positive())
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    constrained.attach(optimizer)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert (model.weight >= 0).all()
