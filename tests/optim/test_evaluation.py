"""Evaluations within a step, against ``torch.func`` and plain autograd: the same rows and random numbers every time."""

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from descend.errors import UserError
from descend.linalg import flat
from descend.optim import OPTIMIZERS, Rows
from descend.optim.evaluation import Evaluations, RichClosure
from descend.optim.vector_step import Position, VectorStep, restore_dtypes


def network(dropout=0.0, norm=False):
    torch.manual_seed(0)
    layers = [nn.Linear(3, 5), nn.Tanh()]
    layers += [nn.BatchNorm1d(5)] if norm else []
    layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers, nn.Linear(5, 2)).double()


X = torch.randn(10, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
Y = torch.randn(10, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def evaluations_of(model, closure=None):
    parameters = list(model.parameters())
    return Evaluations(closure or Rows(model, F.mse_loss, X, Y), parameters, "newton")


def functional(model):
    """Loss and outputs as functions of the flat parameters."""
    names, shapes = zip(*((name, p.shape) for name, p in model.named_parameters()), strict=True)

    def outputs(w):
        parts = w.split([shape.numel() for shape in shapes])
        named = {n: part.view(shape) for n, part, shape in zip(names, parts, shapes, strict=True)}
        return torch.func.functional_call(model, named, (X,))

    return outputs, (lambda w: F.mse_loss(outputs(w), Y))


class TestCurvature:
    def test_hessian_and_gauss_newton_are_those_of_torch_func(self):
        model = network()
        outputs, loss = functional(model)
        w = flat(list(model.parameters())).detach()
        dense = torch.func.hessian(loss)(w)
        jacobian = torch.func.jacrev(outputs)(w).reshape(-1, len(w))
        gauss = jacobian.T @ jacobian * (2 / Y.numel())
        for name, matrix in (("hessian", dense), ("gauss_newton", gauss)):
            found = getattr(evaluations_of(model), name)()
            columns = torch.stack([found(e) for e in torch.eye(len(w), dtype=torch.float64)])
            torch.testing.assert_close(columns, matrix, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(found.gradient, torch.func.grad(loss)(w), rtol=1e-10, atol=1e-13)
            assert float(found.loss) == pytest.approx(float(loss(w)), rel=1e-12)

    def test_a_closure_that_returns_its_graph_is_enough(self):
        model = network()
        plain = evaluations_of(model, lambda: F.mse_loss(model(X), Y))
        v = torch.ones_like(plain.gradient().vector)
        torch.testing.assert_close(plain.hessian()(v), evaluations_of(model).hessian()(v))

    @pytest.mark.parametrize("closure", ["backward", "detached", "number"])
    def test_a_closure_without_graph_is_refused_with_advice(self, closure):
        model = network()

        def evaluate():
            loss = F.mse_loss(model(X), Y)
            loss.backward()
            return {"backward": loss, "detached": loss.detach(), "number": loss.item()}[closure]

        with pytest.raises(UserError, match=r"newton .* must not call backward\(\)"):
            evaluations_of(model, evaluate).hessian()

    def test_outputs_and_parts_need_a_rich_closure(self):
        model = network()
        plain = evaluations_of(model, lambda: F.mse_loss(model(X), Y))
        with pytest.raises(UserError, match=r"descend\.optim\.Rows"):
            plain.gauss_newton()
        with pytest.raises(UserError, match=r"descend\.optim\.Rows"):
            plain.part(0.5)
        assert plain.part(1.0) is plain


class TestRepeatedEvaluations:
    @pytest.mark.parametrize("form", ["rows", "function"])
    def test_dropout_has_one_mask_for_each_step(self, form):
        """Gradient, loss and curvature of a step have the same mask, and the next step has another."""
        model = network(dropout=0.5)
        closure = (lambda: F.mse_loss(model(X), Y)) if form == "function" else None
        objective = evaluations_of(model, closure)
        first = objective.gradient()
        assert torch.equal(first.vector, objective.gradient().vector)
        assert first.number == objective.value()
        assert torch.equal(first.vector, objective.hessian().gradient)
        torch.rand(1)
        assert not torch.equal(first.vector, evaluations_of(model, closure).gradient().vector)

    def test_running_averages_are_updated_once(self):
        model, other = network(norm=True), network(norm=True)
        objective = evaluations_of(model)
        (
            objective.gradient(),
            objective.value(),
            objective.hessian(),
            objective.gauss_newton(),
            objective.part(0.5).value(),
        )
        other(X)
        assert torch.equal(model[2].running_mean, other[2].running_mean)
        assert model[2].num_batches_tracked == 1

    def test_the_hessian_is_correct_after_other_evaluations(self):
        """Buffers that are saved in a graph are not modified."""
        model = network(norm=True)
        objective = evaluations_of(model)
        objective.gradient()
        product = objective.hessian()
        objective.value()
        v = torch.ones_like(product.gradient)
        torch.testing.assert_close(product(v), evaluations_of(model).hessian()(v))


class TestParts:
    def test_a_part_is_the_loss_of_some_rows(self):
        model = network()
        rows = Rows(model, F.mse_loss, X, Y)
        part = rows.part(0.3)
        assert len(part.inputs) == 3
        assert all(any(torch.equal(row, x) for x in X) for row in part.inputs)
        assert float(part.value()) == pytest.approx(F.mse_loss(model(part.inputs), part.targets).item())

    def test_nested_parts_grow(self):
        rows = Rows(network(), F.mse_loss, X, Y)
        small, large = rows.part(0.2, nested=True), rows.part(0.71, nested=True)
        assert (len(small.inputs), len(large.inputs)) == (2, 8)
        assert torch.equal(small.inputs, large.inputs[:2])

    def test_the_cost_is_counted(self):
        rows = Rows(network(), F.mse_loss, X, Y)
        objective = evaluations_of(rows.model, rows)
        objective.gradient()
        objective.value()
        product = objective.hessian()
        product(torch.ones_like(product.gradient))
        assert rows.gradients == pytest.approx(1 + 1 / 3 + 1 + 2)
        assert isinstance(rows, RichClosure)


class TestGradient:
    def test_missing_gradients_are_zero_and_masked(self):
        a, b = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
        found = Evaluations(lambda: (a * a).sum(), [a, b], "gd").gradient()
        assert found.vector.tolist() == [2.0, 2.0, 0.0, 0.0, 0.0]
        assert found.missing.tolist() == [False, False, True, True, True]
        assert not found.empty

    def test_old_gradients_are_not_added_to(self):
        a = torch.ones(2, requires_grad=True)
        a.grad = torch.full((2,), 100.0)
        assert Evaluations(lambda: (a * a).sum(), [a], "gd").gradient().vector.tolist() == [2.0, 2.0]


class Counting(VectorStep):
    """An optimizer whose state has an integer tensor, and a tensor of higher precision than its parameter."""

    def __init__(self, params):
        super().__init__(params, {"lr": 1.0})

    def advance(self, objective, position):
        memory = self.memory
        memory["rounds"] = memory.get("rounds", torch.zeros((), dtype=torch.int64)) + 1
        memory["factor"] = torch.full((2,), 1 / 3, dtype=torch.float64)
        memory["flags"] = torch.tensor([True, False])
        found = objective.gradient()
        position.move(-self.times_lr(found.vector))
        return found.loss


class TestState:
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
    def test_precision_and_integers_survive_loading(self, dtype):
        w = torch.ones(2, dtype=dtype, requires_grad=True)
        optimizer, other = Counting([w]), Counting([w])
        optimizer.step(lambda: (w * w).sum())
        other.load_state_dict(optimizer.state_dict())
        for key, value in optimizer.memory.items():
            assert other.memory[key].dtype == value.dtype, key
            assert torch.equal(other.memory[key], value), key

    def test_torch_would_lose_them(self):
        """The control."""
        w = torch.ones(2, dtype=torch.bfloat16, requires_grad=True)
        optimizer, other = Counting([w]), Counting([w])
        optimizer.step(lambda: (w * w).sum())
        state = optimizer.state_dict()
        torch.optim.Optimizer.load_state_dict(other, state)
        assert other.memory["factor"].dtype == torch.bfloat16
        restore_dtypes(other, state)
        assert other.memory["factor"].dtype == torch.float64

    def test_learning_rates_of_groups(self):
        a, b = torch.zeros(2, requires_grad=True), torch.zeros(1, requires_grad=True)
        optimizer = Counting([{"params": [a], "lr": 0.5}, {"params": [b], "lr": 2.0}])
        optimizer.step(lambda: a.sum() + b.sum())
        assert (a.tolist(), b.tolist()) == ([-0.5, -0.5], [-2.0])

    def test_an_exception_restores_the_parameters(self):
        w = torch.ones(2, requires_grad=True)
        position = Position([w])
        with pytest.raises(KeyboardInterrupt), position.restored_on_error():
            position.move(torch.ones(2))
            raise KeyboardInterrupt
        assert w.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("gd", {}),
        ("cg", {}),
        ("bfgs", {}),
        ("lbfgs", {}),
        ("lbfgs", {"line_search": "armijo"}),
        ("lbfgs", {"line_search": "none", "lr": 0.1}),
        ("newton", {}),
        ("trust_region", {}),
        ("subsampled_newton", {"sample_fraction": 1.0}),
        ("trish", {}),
        ("coordinate_descent", {}),
        ("sqn", {"update_frequency": 2}),
    ],
)
@pytest.mark.parametrize("number", [math.inf, math.nan])
def test_an_evaluation_that_is_not_finite_never_leads_uphill(name, settings, number):
    """Every seventh loss is multiplied or increased by a number that is not finite, the gradient too for the former."""
    for fault in (lambda loss: loss + number, lambda loss: loss * number):
        w = torch.tensor([0.5, 2.0, -1.0], dtype=torch.float64, requires_grad=True)
        h, calls = torch.tensor([1.0, 3.0, 10.0], dtype=torch.float64), 0

        def closure(fault=fault, w=w, h=h):
            nonlocal calls
            calls += 1
            loss = (h * (w - 1) ** 2).sum()
            return fault(loss) if calls % 7 == 0 else loss

        optimizer = OPTIMIZERS[name]([w], **settings)
        previous = (h * (w.detach() - 1) ** 2).sum().item()
        for _ in range(15):
            optimizer.step(closure)
            value = (h * (w.detach() - 1) ** 2).sum().item()
            assert value <= previous + (0.5 if name in ("sqn", "trish") else 1e-9)
            previous = value


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "name", ["gd", "cg", "bfgs", "lbfgs", "sqn", "newton", "trust_region", "coordinate_descent"]
)
def test_parameters_of_half_precision_are_moved_with_a_state_in_single_precision(name, dtype):
    w = torch.tensor([0.5, 2.0], dtype=dtype, requires_grad=True)
    settings = {"lr": 0.1, "update_frequency": 2} if name == "sqn" else {}
    optimizer: Any = OPTIMIZERS[name]([w], **settings)
    for _ in range(12):
        optimizer.step(lambda: ((w - 1) ** 2).sum())
    assert w.dtype == dtype
    assert (w.float() - 1).abs().max() < 0.2
    state = [value for value in optimizer.state[w].values() if isinstance(value, torch.Tensor)]
    assert not any(value.dtype == dtype for value in state)
