"""The objective against autograd."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from descend.data.batches import Batch
from descend.errors import UserError
from descend.losses import CrossEntropy
from descend.nn import mlp
from descend.regularization import jacobian_penalty, l2_penalty
from descend.training.clipping import GradientSettings
from descend.training.objective import Objective

CPU = torch.device("cpu")
ROWS, TARGETS = torch.randn(24, 5, generator=torch.Generator().manual_seed(1)).double(), torch.arange(24) % 3


def network(**settings: object) -> nn.Module:
    torch.manual_seed(0)
    return mlp((5,), 3, hidden=(7,), **settings).double()


def gradients(model: nn.Module) -> list[torch.Tensor]:
    return [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("activation", ["relu", "maxout"], ids=["chain", "autograd"])
@pytest.mark.parametrize("weighted", [False, True])
def test_accumulated_batches_equal_one_large_batch(activation: str, weighted: bool) -> None:
    model, loss = network(activation=activation), CrossEntropy()
    weights = torch.rand(24, generator=torch.Generator().manual_seed(2)).double() if weighted else None
    parts = [slice(0, 10), slice(10, 20), slice(20, 24)]  # of unequal size
    objective = Objective(model, loss, device=CPU, penalty=lambda: 0.1 * l2_penalty(model.parameters()))
    whole = objective.at([Batch(ROWS, TARGETS, weights)], 0, 0)()
    expected = gradients(model)
    value = objective.at(
        [Batch(ROWS[p], TARGETS[p], None if weights is None else weights[p]) for p in parts], 0, 0
    )()
    torch.testing.assert_close(value, whole, rtol=1e-12, atol=0)
    for actual, reference in zip(gradients(model), expected, strict=True):
        torch.testing.assert_close(actual, reference, rtol=1e-10, atol=1e-14)


def test_weighted_batches_average_to_the_weighted_gradient() -> None:
    """The gradients of the steps of an epoch average to that of the weighted mean, for any assignment of rows to batches."""
    model, loss = network(), CrossEntropy()
    weights = torch.ones(24).double()
    weights[:3] = 50.0
    weights[20:] = 0.0  # a batch with zero weights must not divide by zero
    weights /= weights.mean()
    objective = Objective(model, loss, device=CPU)
    total = [torch.zeros_like(p) for p in model.parameters()]
    for step in range(6):
        part = slice(4 * step, 4 * step + 4)
        objective.at([Batch(ROWS[part], TARGETS[part], weights[part])], 0, step)()
        for sum_, gradient in zip(total, gradients(model), strict=True):
            sum_ += gradient / 6
    model.zero_grad()
    (loss.per_sample(model(ROWS), TARGETS) @ weights / weights.sum()).backward()
    for actual, reference in zip(total, gradients(model), strict=True):
        torch.testing.assert_close(actual, reference, rtol=1e-10, atol=1e-14)


def test_every_evaluation_within_a_step_uses_the_same_random_numbers() -> None:
    model = network(dropout=0.5)
    objective = Objective(model, CrossEntropy(), device=CPU, seed=5)
    batch = Batch(ROWS, TARGETS, None)
    first = objective.at([batch], 2, 7)()
    first_gradients = gradients(model)
    torch.rand(100)
    assert torch.equal(objective(), first)
    assert all(
        torch.equal(actual, reference)
        for actual, reference in zip(gradients(model), first_gradients, strict=True)
    )
    assert not torch.equal(objective.at([batch], 2, 8)(), first)
    assert not torch.equal(objective.at([batch], 3, 7)(), first)


@pytest.mark.parametrize("settings", [GradientSettings(clip_norm=0.01), GradientSettings(clip_value=0.003)])
def test_clipping_equals_that_of_pytorch(settings: GradientSettings) -> None:
    model, batch = network(), Batch(ROWS, TARGETS, None)
    Objective(model, CrossEntropy(), device=CPU, gradient=settings).at([batch], 0, 0)()
    clipped = gradients(model)
    Objective(model, CrossEntropy(), device=CPU).at([batch], 0, 0)()
    if settings.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
    else:
        torch.nn.utils.clip_grad_value_(model.parameters(), settings.clip_value)
    for actual, reference in zip(clipped, gradients(model), strict=True):
        torch.testing.assert_close(actual, reference)
    assert sum(float(g.square().sum()) for g in clipped) > 0


def test_bfloat16_computes_the_network_in_half_precision_and_the_loss_in_full() -> None:
    model = network().float()
    dtypes: list[torch.dtype] = []
    model.register_forward_hook(lambda module, arguments, output: dtypes.append(output.dtype))
    value = Objective(model, CrossEntropy(), device=CPU, precision="bfloat16").at(
        [Batch(ROWS.float(), TARGETS, None)], 0, 0
    )()
    assert dtypes == [torch.bfloat16]
    assert value.dtype == torch.float32
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())


def test_an_optimizer_with_several_evaluations_per_step() -> None:
    """L-BFGS calls the closure up to twenty times; on a convex problem one step of it beats ten of gradient descent."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 3)).double()
    objective = Objective(model, CrossEntropy(), device=CPU).at([Batch(ROWS, TARGETS, None)], 0, 0)
    optimizer = torch.optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe", max_iter=20)
    before = optimizer.step(objective)
    after = objective()
    descent = nn.Sequential(nn.Linear(5, 3)).double()
    plain = Objective(descent, CrossEntropy(), device=CPU).at([Batch(ROWS, TARGETS, None)], 0, 0)
    steps = torch.optim.SGD(descent.parameters(), lr=0.1)
    for _ in range(10):
        steps.step(plain)
    assert after < before
    assert after < plain()


def test_temporary_hooks_are_called_and_the_bits_are_those_of_the_chain() -> None:
    """An optimizer may register hooks at some steps; at the others backpropagation is manual."""
    model = network(dropout=0.5)
    objective, called = (
        Objective(model, CrossEntropy(), device=CPU).at([Batch(ROWS, TARGETS, None)], 0, 0),
        [],
    )
    expected, value = [objective(), *gradients(model)], objective.value()
    for module in (model, model[0], model[-1]):
        handle = module.register_forward_hook(
            lambda module, inputs, outputs: called.append(outputs.requires_grad)
        )
        assert all(torch.equal(a, b) for a, b in zip([objective(), *gradients(model)], expected, strict=True))
        assert torch.equal(objective.value(), value)
        assert called == [True, False]  # a value has no graph
        handle.remove()
        objective()
        assert called == [True, False]
        called.clear()


def test_a_random_penalty_follows_the_step() -> None:
    """Also for a chain without dropout, which needs no seed without the penalty."""
    model = network()
    objective = Objective(
        model, CrossEntropy(), device=CPU, penalty=lambda: torch.rand(()) * l2_penalty(model.parameters())
    )
    batch = Batch(ROWS, TARGETS, None)
    first = objective.at([batch], 2, 7)()
    torch.rand(100)
    assert torch.equal(objective(), first)
    assert not torch.equal(objective.at([batch], 2, 8)(), first)


def test_a_row_penalty_is_a_mean_over_accumulated_batches() -> None:
    model = network(activation="tanh")

    def row_penalty(inputs: torch.Tensor, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return jacobian_penalty(outputs, inputs, projections="exact")

    objective = Objective(model, CrossEntropy(), device=CPU, row_penalty=row_penalty)
    whole = objective.at([Batch(ROWS, TARGETS, None)], 0, 0)()
    expected = gradients(model)
    parts = [slice(0, 10), slice(10, 24)]
    value = objective.at([Batch(ROWS[p], TARGETS[p], None) for p in parts], 0, 0)()
    torch.testing.assert_close(value, whole, rtol=1e-12, atol=0)
    for actual, reference in zip(gradients(model), expected, strict=True):
        torch.testing.assert_close(actual, reference, rtol=1e-10, atol=1e-14)


def test_a_penalty_may_add_its_own_gradient() -> None:
    model, batch = network(), Batch(ROWS, TARGETS, None)
    weight = model.linear1.weight

    def with_gradient() -> torch.Tensor:
        assert weight.grad is not None
        weight.grad.add_(weight.detach())
        return weight.detach().square().sum() / 2

    value = Objective(model, CrossEntropy(), device=CPU, penalty=with_gradient).at([batch], 0, 0)()
    manual = gradients(model)
    other = Objective(model, CrossEntropy(), device=CPU, penalty=lambda: weight.square().sum() / 2)
    torch.testing.assert_close(value, other.at([batch], 0, 0)())
    for actual, reference in zip(manual, gradients(model), strict=True):
        torch.testing.assert_close(actual, reference)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_differentiable_loss_equals_the_closure(weighted: bool) -> None:
    """Value, gradient and random numbers, over several batches, with weights and a penalty; .grad is unchanged."""
    model = network(dropout=0.5)
    weights = torch.rand(24, dtype=torch.float64) if weighted else None
    parts = [slice(0, 10), slice(10, 24)]
    batches = [Batch(ROWS[p], TARGETS[p], None if weights is None else weights[p]) for p in parts]
    objective = Objective(
        model, CrossEntropy(), device=CPU, seed=5, penalty=lambda: 0.1 * l2_penalty(model.parameters())
    ).at(batches, 2, 7)
    value = objective()
    before = [g.clone() for g in gradients(model)]
    torch.rand(100)
    loss = objective.differentiable()
    torch.testing.assert_close(loss.detach(), value, rtol=1e-12, atol=0)
    second = torch.autograd.grad(loss, objective.parameters, create_graph=True)
    for actual, reference, left in zip(second, before, gradients(model), strict=True):
        torch.testing.assert_close(actual.detach(), reference, rtol=1e-10, atol=1e-14)
        assert torch.equal(left, reference)
    assert all(g.requires_grad for g in second)


def test_a_penalty_without_a_graph_has_no_differentiable_loss() -> None:
    model = network()
    weight = model.linear1.weight

    def with_gradient() -> torch.Tensor:
        weight.grad = weight.detach().clone()
        return l2_penalty(model.parameters())

    objective = Objective(model, CrossEntropy(), device=CPU, penalty=with_gradient)
    with pytest.raises(UserError, match="no second derivative"):
        objective.at([Batch(ROWS, TARGETS, None)], 0, 0).differentiable()
    assert weight.grad is None


@pytest.mark.parametrize("chain", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_value_equals_the_closure(chain: bool, weighted: bool) -> None:
    """Value and random numbers, over several batches, with weights and a penalty; no graph, and .grad is unchanged."""
    model = network(dropout=0.5)
    weights = torch.rand(24, dtype=torch.float64) if weighted else None
    parts = [slice(0, 10), slice(10, 24)]
    batches = [Batch(ROWS[p], TARGETS[p], None if weights is None else weights[p]) for p in parts]

    def penalty():
        return 0.1 * l2_penalty(model.parameters())

    objective = Objective(model, CrossEntropy(), device=CPU, seed=5, penalty=penalty).at(batches, 2, 7)
    if not chain:
        objective._chain = None
    value = objective()
    before = [g.clone() for g in gradients(model)]
    again = objective.value()
    torch.testing.assert_close(again, value, rtol=1e-12, atol=0)
    assert not again.requires_grad
    assert all(torch.equal(a, b) for a, b in zip(gradients(model), before, strict=True))


def test_the_value_with_a_gradient_penalty() -> None:
    model = network()

    def input_gradient_penalty(x, z, y):
        return torch.autograd.grad(z.sum(), x, create_graph=True)[0].square().mean()

    objective = Objective(model, CrossEntropy(), device=CPU, row_penalty=input_gradient_penalty)
    objective.at([Batch(ROWS, TARGETS, None)], 0, 0)
    torch.testing.assert_close(objective.value(), objective(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("chain", [True, False])
def test_running_averages_are_updated_once_per_step(chain: bool) -> None:
    """For any number of evaluations; a part of the rows never updates them."""
    batch = Batch(ROWS, TARGETS, None)
    model, other = network(norm="batch"), network(norm="batch")
    other.load_state_dict(model.state_dict())
    objective = Objective(model, CrossEntropy(), device=CPU).at([batch], 0, 0)
    if not chain:
        objective._chain = None
    assert (objective._chain is None) is not chain
    objective.part(0.5)()
    first = objective()
    objective.value(), objective.differentiable(), objective.linearized(), objective.part(0.3).value()
    assert torch.equal(objective(), first)
    other.train()(ROWS)
    for name, value in other.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    objective.at([batch], 0, 1)()
    assert not torch.equal(model.state_dict()["norm1.running_mean"], other.state_dict()["norm1.running_mean"])


def test_parts_are_random_or_nested_fractions_of_the_rows() -> None:
    model = network()
    objective = Objective(model, CrossEntropy(), device=CPU, seed=3).at([Batch(ROWS, TARGETS, None)], 1, 4)
    (part,) = objective.part(0.25)._batches
    assert len(part.targets) == 6
    assert torch.equal(part.inputs, objective.part(0.25)._batches[0].inputs)
    assert not torch.equal(part.inputs, objective.at(objective._batches, 1, 5).part(0.25)._batches[0].inputs)
    small, large = (objective.part(share, nested=True)._batches[0].inputs for share in (0.25, 0.5))
    assert torch.equal(small, large[:6])
    assert torch.equal(
        small, objective.at(objective._batches, 9, 9).part(0.25, nested=True)._batches[0].inputs
    )
    assert len(objective.part(1e-9)._batches[0].targets) == 1
    assert len(objective.part(0.5).part(0.5)._batches[0].targets) == 6


def test_evaluations_are_counted() -> None:
    batches = [Batch(ROWS[:12], TARGETS[:12], None), Batch(ROWS[12:], TARGETS[12:], None)]
    objective = Objective(network(), CrossEntropy(), device=CPU).at(batches, 0, 0)
    objective()
    assert (objective.gradients, objective.several) == (2.0, False)
    objective.at(batches, 0, 1)()
    assert (objective.gradients, objective.several) == (4.0, False)
    objective.value()
    assert objective.several
    assert objective.gradients == pytest.approx(4 + 2 / 3)
    objective.part(0.5)()
    assert objective.gradients == pytest.approx(5 + 2 / 3)


def test_the_loss_of_given_outputs() -> None:
    model = network()
    batches = [Batch(ROWS[:10], TARGETS[:10], None), Batch(ROWS[10:], TARGETS[10:], None)]
    objective = Objective(model, CrossEntropy(), device=CPU).at(batches, 0, 0)
    loss, outputs, added = objective.linearized()
    assert added is None
    torch.testing.assert_close(objective.loss_of(outputs.detach()), loss.detach())
    torch.testing.assert_close(objective.loss_of(0 * outputs.detach()), torch.tensor(3.0).log().double())
