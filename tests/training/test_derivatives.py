"""The gradient check passes models that ``gradcheck`` passes, and locates wrong derivatives."""

import copy

import pytest
import torch
from torch import nn

from descend.data.batches import Batch
from descend.losses import MeanSquaredError
from descend.runs.checks import check_gradients
from descend.training.derivatives import check_derivatives
from descend.training.objective import Objective

DEVICE = torch.device("cpu")


class Scaled(torch.autograd.Function):
    """The identity with the wrong derivative ``factor``."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx, d):
        return d * ctx.factor, None


class WrongDerivative(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor
        self.inner = nn.Tanh()

    def forward(self, x):
        return Scaled.apply(self.inner(x), self.factor)


def objective_on(model, loss=None, rows=12, **settings):
    rng = torch.Generator().manual_seed(0)
    inputs = torch.randn(rows, 4, generator=rng, dtype=torch.float64)
    targets = torch.randn(rows, 2, generator=rng, dtype=torch.float64)
    objective = Objective(model.double(), loss or MeanSquaredError(), device=DEVICE, **settings)
    return objective.at([Batch(inputs, targets, None)], epoch=0, step=0)


def network(*middle):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 6), *middle, nn.Linear(6, 2))


@pytest.mark.slow
@pytest.mark.parametrize(
    "middle",
    [
        [nn.Tanh()],
        [nn.ReLU()],
        [nn.BatchNorm1d(6), nn.ReLU()],
        [nn.Dropout(0.5)],
        [nn.LayerNorm(6), nn.Softplus()],
    ],
    ids=lambda each: type(each[0]).__name__,
)
def test_models_that_pass_gradcheck_agree(middle):
    objective = objective_on(network(*middle))
    result = check_derivatives(objective)
    assert result.agrees, result
    model = copy.deepcopy(objective.model)
    inputs = objective._batches[0].inputs.clone().requires_grad_()

    def outputs(x):
        torch.manual_seed(3)
        return model(x)

    assert torch.autograd.gradcheck(outputs, (inputs,))


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.001, -1.0])
def test_a_wrong_derivative_is_located(factor):
    """The enclosing module is also wrong, and the enclosed one is right; the innermost wrong module is the culprit."""
    result = check_derivatives(objective_on(network(nn.Sequential(nn.Identity(), WrongDerivative(factor)))))
    assert [each.name for each in result.culprits] == ["1.1"]
    assert not result.agrees
    assert {each.name for each in result.modules if not each.agrees} == {"1", "1.1"}
    wrong = {each.name for each in result.parameters if not each.agrees}
    assert wrong == {"0.weight", "0.bias"}


def test_an_error_below_the_tolerance_passes():
    assert check_derivatives(objective_on(network(WrongDerivative(1.001))), tolerance=0.01).agrees


def test_a_wrong_rule_of_a_chain_is_detected():
    """The gradient that training uses is checked, in addition to that of autograd."""
    objective = objective_on(network(nn.Tanh()))
    assert objective._chain is not None
    rule = objective._chain.rules[1]
    wrong = rule._replace(backward=lambda d, saved, needs: (0.9 * rule.backward(d, saved, needs)[0], []))
    objective._chain.rules[1] = wrong
    result = check_derivatives(objective)
    assert [each.name for each in result.parameters if each.analytic_error > 0.05] == ["0.weight", "0.bias"]
    assert all(each.numeric_error < 1e-6 for each in result.parameters)
    assert result.culprits == ()


def test_a_wrong_penalty_is_the_culprit():
    model = network(nn.Tanh())

    def penalty():
        model[0].weight.grad = 0.5 * model[0].weight.detach()  # the gradient of |w|^2 is 2 w
        return model[0].weight.detach().square().sum()

    result = check_derivatives(objective_on(model, penalty=penalty))
    assert [each.name for each in result.culprits] == ["penalty"]


def test_a_wrong_loss_is_the_culprit():
    def loss(outputs, targets, weights=None):
        return Scaled.apply((outputs - targets).square().mean(), 0.5)

    result = check_derivatives(objective_on(network(nn.Tanh()), loss=loss))
    assert [each.name for each in result.culprits] == ["loss"]


def test_the_model_and_the_random_state_are_unchanged():
    model = network(nn.BatchNorm1d(6), nn.Dropout(0.3))
    objective = objective_on(model)
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    check_derivatives(objective)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert model[3].weight.grad is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "recipe"),
    [
        ("digits", {"model": {"hidden": [8], "norm": "batch", "activation": "relu", "dropout": 0.3}}),
        ("diabetes", {"model": {"hidden": [6]}, "regularize": {"l2": 0.1, "jacobian": 0.1}}),
        ("digits", {"model": {"hidden": [8]}, "regularize": {"orthogonality": "so"}}),
        ("wine", {"model": {"hidden": [8]}, "constrain": {"orthogonal": "linear1*"}}),
        ("digits", {"model": {"name": "convnet", "channels": [4], "dense": [8]}, "data": {"augment": ["flip"]}}),
        ("breast_cancer", {"model": {"hidden": [6]}, "loss": "squared", "data": {"augment": ["mixup"]}}),
    ],
)  # fmt: skip
def test_the_objectives_of_recipes_agree(data, recipe):
    result = check_gradients(data, recipe, seed=2)
    assert result.agrees, result


def test_general_conditions_are_included():
    """They are also part of the loss: at multipliers of zero, (rho/2) max(c, 0)^2 is added."""

    def large(model):
        return torch.stack([3.0 - p.square().sum() for p in model.parameters() if p.dim() == 2])

    recipe = {"model": {"name": "linear"}, "loss": "mse", "regularize": {"weight_decay": 0.0}}
    constrained = check_gradients("diabetes", recipe | {"constrain": {"inequality": large}}, seed=2)
    unconstrained = check_gradients("diabetes", recipe, seed=2)
    assert constrained.agrees
    assert constrained.loss > unconstrained.loss


def test_a_straight_through_estimator_is_not_a_derivative():
    """The derivative of the sign is zero, and its straight-through estimator is not; the check names the module."""
    result = check_gradients("iris", {"model": {"hidden": [4]}, "constrain": {"binary": "linear1*"}})
    assert [each.kind for each in result.culprits] == ["_SignParametrization"]


def test_the_loss_equals_that_of_the_objective():
    objective = objective_on(network(nn.Tanh()), penalty=lambda: torch.tensor(2.0))
    assert check_derivatives(objective).loss == pytest.approx(float(objective()))
