"""Jacobian and gradient penalties against torch.func, closed forms and the mean of the estimator."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from descend.errors import UserError
from descend.nn import DecorrelatedBatchNorm1d, mlp
from descend.regularization import differentiable_inputs, gradient_penalty, jacobian_penalty

DOUBLE = torch.float64


def network(**settings: object) -> nn.Module:
    torch.manual_seed(0)
    return mlp((5,), 3, hidden=(7,), activation="tanh", **settings).double()


def rows(count: int = 6) -> Tensor:
    return torch.randn(count, 5, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))


def by_jacrev(model: nn.Module, x: Tensor) -> Tensor:
    """Mean squared Frobenius norm, from one row's Jacobian at a time."""
    return torch.stack(
        [torch.func.jacrev(lambda row: model(row[None])[0])(row).square().sum() for row in x]
    ).mean()


class TestJacobian:
    def test_exact_value_and_gradient(self) -> None:
        model, x = network(), rows()
        inputs = differentiable_inputs(x)
        penalty = jacobian_penalty(model(inputs), inputs, projections="exact")
        expected = by_jacrev(model, x)
        torch.testing.assert_close(penalty, expected, rtol=1e-12, atol=0)
        weights = [model.linear1.weight, model.linear1.bias, model.output.weight]
        for own, theirs in zip(
            torch.autograd.grad(penalty, weights), torch.autograd.grad(expected, weights), strict=True
        ):
            torch.testing.assert_close(own, theirs, rtol=1e-10, atol=1e-12)

    def test_a_linear_model_in_closed_form(self) -> None:
        model, inputs = nn.Linear(5, 3).double(), differentiable_inputs(rows())
        penalty = jacobian_penalty(model(inputs), inputs, projections="exact")
        torch.testing.assert_close(penalty, model.weight.square().sum())
        torch.testing.assert_close(torch.autograd.grad(penalty, model.weight)[0], 2 * model.weight)

    @pytest.mark.parametrize("projections", [1, 2])
    def test_projections_are_unbiased(self, projections: int) -> None:
        """The mean over copies of one row is a mean over random samples; it lies within five standard errors."""
        model = network()
        one = rows(1)
        exact = float(by_jacrev(model, one).detach())
        torch.manual_seed(3)
        inputs = differentiable_inputs(one.expand(20_000, 5).clone())
        outputs = model(inputs)
        estimate = float(jacobian_penalty(outputs, inputs, projections=projections).detach())
        singular = torch.linalg.svdvals(torch.func.jacrev(lambda row: model(row[None])[0])(one[0]))
        # K vᵀ J Jᵀ v over the sphere has variance 2 K (Σ s⁴ - (Σ s²)²/K)/(K + 2).
        variance = 2 * 3 * (singular.pow(4).sum() - exact**2 / 3) / 5
        error = float((variance.detach() / projections / 20_000).sqrt())
        assert abs(estimate - exact) < 5 * error
        assert error < 0.01 * exact

    def test_the_gradient_of_the_estimate_is_unbiased(self) -> None:
        model = network()
        one = rows(1)
        weight = model.output.weight
        (exact,) = torch.autograd.grad(by_jacrev(model, one), weight)
        torch.manual_seed(4)
        inputs = differentiable_inputs(one.expand(40_000, 5).clone())
        (estimate,) = torch.autograd.grad(jacobian_penalty(model(inputs), inputs), weight)
        torch.testing.assert_close(estimate, exact, rtol=0, atol=0.03 * float(exact.abs().max()))

    def test_as_many_projections_as_outputs_are_exact(self) -> None:
        model, inputs = network(), differentiable_inputs(rows())
        outputs = model(inputs)
        exact = jacobian_penalty(outputs, inputs, projections="exact")
        assert jacobian_penalty(outputs, inputs, projections=3) == exact
        assert jacobian_penalty(outputs, inputs, projections=2) != exact

    def test_random_directions_follow_the_seed(self) -> None:
        model, inputs = network(), differentiable_inputs(rows())
        outputs = model(inputs)
        values = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            values.append(float(jacobian_penalty(outputs, inputs).detach()))
        assert values[0] == values[1] != values[2]

    @pytest.mark.slow
    def test_through_a_whitening_layer(self) -> None:
        """Finite differences of the penalty with respect to a weight verify the layer's second derivatives."""
        model = network(norm="decorrelated")
        assert isinstance(model.norm1, DecorrelatedBatchNorm1d)

        def value(weight: Tensor) -> Tensor:
            inputs = differentiable_inputs(rows(12))
            outputs = torch.func.functional_call(model, {"linear1.weight": weight}, (inputs,))
            return jacobian_penalty(outputs, inputs, projections="exact")

        assert torch.autograd.gradcheck(value, (model.linear1.weight,), rtol=1e-3)


class TestGradientPenalty:
    def test_logistic_regression_in_closed_form(self) -> None:
        """∂loss/∂x = (p - y) w."""
        model, inputs = nn.Linear(5, 1).double(), differentiable_inputs(rows())
        y = torch.tensor([0.0, 1, 1, 0, 1, 0], dtype=DOUBLE)
        logits = model(inputs)[:, 0]
        losses = nn.functional.binary_cross_entropy_with_logits(logits, y, reduction="none")
        expected = ((logits.sigmoid() - y).square() * model.weight.square().sum()).mean()
        torch.testing.assert_close(gradient_penalty(losses, inputs), expected)

    def test_its_gradient(self) -> None:
        model = network()

        def value(weight: Tensor) -> Tensor:
            inputs = differentiable_inputs(rows())
            outputs = torch.func.functional_call(model, {"linear1.weight": weight}, (inputs,))
            losses = nn.functional.cross_entropy(outputs, torch.arange(6) % 3, reduction="none")
            return gradient_penalty(losses, inputs)

        assert torch.autograd.gradcheck(value, (model.linear1.weight,))


class TestRejectedInputs:
    def test_integers(self) -> None:
        with pytest.raises(UserError, match=r"got integers \(torch.int64\)"):
            differentiable_inputs(torch.arange(3))

    def test_outputs_that_do_not_depend_on_the_inputs(self) -> None:
        inputs = differentiable_inputs(rows())
        table = nn.Embedding(4, 3)
        with pytest.raises(UserError, match="of this network are not"):
            jacobian_penalty(table(inputs[:, 0].detach().abs().long().clamp(0, 3)), inputs)
        with pytest.raises(UserError, match="differentiable with respect to the inputs"):
            gradient_penalty(torch.zeros(6), inputs)
