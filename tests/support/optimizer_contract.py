"""The contract that every optimizer of the catalogue satisfies, first or second order.

A test module lists its cases and inherits the contract:

    CASES = [Case("sgd", {"momentum": 0.9}), ...]

    @pytest.fixture(params=CASES, ids=str)
    def case(request):
        return request.param

    class TestContract(Contract):
        pass

The case describes the optimizer: whether its step needs a closure, how often it evaluates the closure, whether it has a
learning rate, and whether it treats each parameter independently.
"""

from __future__ import annotations

import copy
import io
import math
import pickle
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from descend.cards import card
from descend.errors import UserError
from descend.optim import OPTIMIZERS


@dataclass(frozen=True)
class Case:
    """An optimizer with settings, and its properties.

    Args:
        name: in the catalogue.
        settings: other than the learning rate.
        lr: a learning rate that lowers the loss of :class:`Problem`; None where the optimizer has none.
        evaluations: the number of evaluations of the closure in a step; None where it varies.
        needs_closure: whether a step without a closure is refused.
        separable: whether a parameter's step depends on that parameter's gradients alone.
        stateful: whether steps depend on previous ones.
        sparse: whether gradients must be sparse.
        graph: whether the closure returns the loss with its graph, and calls no backward().
        needed: settings that replace defaults which need parts of the rows, so that a plain closure is sufficient.
        layers: whether it needs the model, and works on the weights of its linear layers.
        overflows: whether parameters become NaN where the square of a gradient overflows.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    lr: float | None = 0.01
    evaluations: int | None = 1
    needs_closure: bool = False
    separable: bool = True
    stateful: bool = True
    sparse: bool = False
    graph: bool = False
    needed: dict[str, Any] = field(default_factory=dict)
    layers: bool = False
    overflows: bool = False

    def __str__(self) -> str:
        return ",".join([self.name, *(f"{key}={value}" for key, value in self.settings.items())])

    def make(self, params: Any, **changes: Any) -> torch.optim.Optimizer:
        return self.plain(
            params, **{**({} if self.lr is None else {"lr": self.lr}), **self.settings, **changes}
        )

    def plain(self, params: Any, **settings: Any) -> torch.optim.Optimizer:
        """Return the optimizer with the default of every setting that is not given, or with the one needed here."""
        settings = self.needed | settings
        if self.layers:
            params = [entry | _listed(entry) if isinstance(entry, dict) else entry for entry in params]
            settings = {"model": model_of(params), "likelihood": "normal"} | settings
        return OPTIMIZERS[self.name](params, **settings)


def _listed(group: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a group as a list, so that they can be read twice."""
    if "params" not in group:
        return {}
    inside = group["params"]
    return {"params": [inside] if isinstance(inside, torch.Tensor) else list(inside)}


def model_of(params: list[Any]) -> nn.Module:
    """Return the model of the :class:`Problem` with these parameters; else one whose weight is the first of them."""
    inside = [
        each for entry in params for each in (entry.get("params", []) if isinstance(entry, dict) else [entry])
    ]
    found = [each[1] if isinstance(each, tuple) else each for each in inside]
    for each in found:
        if hasattr(each, "model"):
            return each.model
    model = nn.Linear(1, 1, bias=False)
    weight: Any = next((each for each in found if isinstance(each, torch.Tensor)), None)
    model._parameters["weight"] = weight
    return model


class Product(nn.Module):
    """The elementwise product of the outputs of two layers."""

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, rows):
        first, second = self.layers
        return first(rows) * second(rows)


class Problem:
    """Least squares whose parameters are rows of two embedding tables, with sparse gradients on request.

    A linear layer on one-hot rows looks up its columns, so that the problem with linear layers is the same.
    """

    def __init__(self, case: Case, dtype: torch.dtype = torch.float64, seed: int = 0) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.tables = nn.ModuleList(
            nn.Linear(4, 3, bias=False, dtype=dtype)
            if case.layers
            else nn.Embedding(4, 3, sparse=case.sparse, dtype=dtype)
            for _ in range(2)
        )
        self.model = Product(self.tables)
        with torch.no_grad():
            for p in self.tables.parameters():
                start = torch.randn(4, 3, generator=draw, dtype=torch.float64)
                p.copy_(start.T if case.layers else start)
                p.model = self.model  # type: ignore[attr-defined]  # where model_of looks for it
        self.rows = torch.tensor([0, 1, 3])
        if case.layers:
            self.rows = nn.functional.one_hot(self.rows, 4).to(dtype)
        self.goal = torch.randn(3, 3, generator=draw, dtype=torch.float64).to(dtype)
        self.sign, self.graph, self.second_moves = 1.0, case.graph, True

    def parameters(self) -> list[nn.Parameter]:
        return list(self.tables.parameters())

    def loss(self):
        first, second = self.tables
        if self.graph and not self.second_moves:
            return self.sign * (first(self.rows) * second(self.rows).detach() - self.goal).square().sum()
        return self.sign * (self.model(self.rows) - self.goal).square().sum()

    def closure(self, optimizer):
        def evaluate():
            optimizer.zero_grad()
            loss = self.loss()
            if not self.graph:
                loss.backward()
            return loss

        return evaluate

    def train(self, optimizer, steps=4):
        for _ in range(steps):
            optimizer.step(self.closure(optimizer))
        return self.vector()

    def vector(self):
        return torch.cat([p.detach().flatten() for p in self.parameters()])


def saved(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the state after a round trip through a file that holds only data."""
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


class Contract:
    """The properties of every optimizer, whatever its method."""

    def test_has_a_card(self, case):
        found = card(OPTIMIZERS[case.name])
        assert found is not None
        assert found.row.startswith(("D", "G6", "K"))  # optimizers, and those that keep a constraint
        assert found.formula
        assert found.reference

    def test_is_a_torch_optimizer_that_lowers_the_loss(self, case):
        problem = Problem(case)
        optimizer = case.make(problem.parameters())
        assert isinstance(optimizer, torch.optim.Optimizer)
        before = problem.loss().item()
        problem.train(optimizer, 100)
        assert problem.loss().item() < 0.7 * before

    def test_its_default_settings_lower_the_loss_too(self, case):
        problem = Problem(case)
        before = problem.loss().item()
        problem.train(case.plain(problem.parameters()), 100)
        assert problem.loss().item() < before

    def test_a_closure_runs_with_gradients_and_its_loss_is_returned(self, case):
        problem = Problem(case)
        optimizer = case.make(problem.parameters())
        expected = problem.loss().item()
        calls = []

        def closure():
            calls.append(torch.is_grad_enabled())
            return problem.closure(optimizer)()

        assert torch.as_tensor(optimizer.step(closure)).item() == expected
        assert all(calls)
        assert case.evaluations is None or len(calls) == case.evaluations

    def test_a_closure_may_return_a_detached_loss(self, case):
        """The objective of the training loop returns its loss without a graph."""
        a, b = Problem(case), Problem(case)
        first, second = case.make(a.parameters()), case.make(b.parameters())
        if case.graph:
            with pytest.raises(UserError, match="graph"):
                second.step(lambda: b.closure(second)().detach())
            assert torch.equal(a.vector(), b.vector())
            return
        for _ in range(3):
            first.step(a.closure(first))
            second.step(lambda: b.closure(second)().detach())
        assert torch.equal(a.vector(), b.vector())

    def test_a_closure_may_leave_the_backward_pass_to_the_optimizer(self, case):
        """It returns the loss with its graph; no gradient of one step is left for the next."""
        a, b = Problem(case), Problem(case)
        first, second = case.make(a.parameters()), case.make(b.parameters())
        if type(second).__module__.startswith("torch."):
            pytest.skip("PyTorch's own classes expect the closure to call backward()")
        for _ in range(3):
            first.step(a.closure(first))
            second.step(b.loss)
        assert torch.equal(a.vector(), b.vector())

    def test_without_a_closure(self, case):
        a, b = Problem(case), Problem(case)
        first, second = case.make(a.parameters()), case.make(b.parameters())
        if case.needs_closure:
            before = b.vector()
            with pytest.raises(UserError, match="closure"):
                second.step()
            assert torch.equal(b.vector(), before)
            return
        expected = a.train(first)
        for _ in range(4):
            b.closure(second)()
            second.step()
        assert torch.equal(b.vector(), expected)

    def test_a_closure_that_fails_leaves_the_parameters(self, case):
        problem = Problem(case)
        optimizer = case.make(problem.parameters())
        before = problem.train(optimizer, 2)

        def closure():
            raise FloatingPointError("no")

        with pytest.raises(FloatingPointError):
            optimizer.step(closure)
        assert torch.equal(problem.vector(), before)

    def test_groups_have_their_own_learning_rate(self, case):
        if case.lr is None:
            pytest.skip("it has no learning rate")
        problem = Problem(case)
        first, second = problem.parameters()
        optimizer = case.make([{"params": [first], "lr": 2 * case.lr}, {"params": second}])
        assert [group["lr"] for group in optimizer.param_groups] == [2 * case.lr, case.lr]
        before = problem.vector()
        got = problem.train(optimizer, 1)
        assert not torch.equal(got[:12], before[:12])
        assert not torch.equal(got[12:], before[12:])
        for rate, part in ((2 * case.lr, slice(0, 12)), (case.lr, slice(12, 24))) if case.separable else ():
            alone = Problem(case)
            expected = alone.train(case.make(alone.parameters(), lr=rate), 1)
            torch.testing.assert_close(got[part], expected[part], rtol=1e-12, atol=1e-14)

    def test_equal_groups_are_like_one_group(self, case):
        a, b = Problem(case), Problem(case)
        expected = a.train(case.make(a.parameters()))
        got = b.train(case.make([{"params": [p]} for p in b.parameters()]))
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)

    def test_a_group_may_be_added_later(self, case):
        problem, whole = Problem(case), Problem(case)
        first, second = problem.parameters()
        optimizer = case.make([first])
        optimizer.add_param_group({"params": [second]})
        expected = whole.train(case.make(whole.parameters()), 1)
        torch.testing.assert_close(problem.train(optimizer, 1), expected, rtol=1e-9, atol=1e-12)

    def test_a_learning_rate_of_zero_moves_nothing_and_a_changed_one_is_used(self, case):
        if case.lr is None:
            pytest.skip("it has no learning rate")
        problem = Problem(case)
        optimizer = case.make(problem.parameters())
        optimizer.param_groups[0]["lr"] = 0.0
        before = problem.vector()
        assert torch.equal(problem.train(optimizer, 1), before)
        optimizer.param_groups[0]["lr"] = case.lr
        assert not torch.equal(problem.train(optimizer, 1), before)

    def test_missing_gradients_leave_a_parameter_unchanged(self, case):
        problem = Problem(case)
        unused = nn.Parameter(torch.ones(2, dtype=torch.float64))
        got = problem.train(case.make([*problem.parameters(), unused]))
        assert unused.tolist() == [1.0, 1.0]
        alone = Problem(case)
        expected = alone.train(case.make(alone.parameters()))
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)

    def test_parameters_without_entries_change_nothing(self, case):
        if case.sparse or case.name == "adafactor":
            pytest.skip("PyTorch's class divides by the number of entries, or its gradients are sparse")
        problem, other = Problem(case), Problem(case)
        expected = other.train(case.make(other.parameters()))
        empty = nn.Parameter(torch.ones(0, 3, dtype=torch.float64))
        optimizer = case.make([*problem.parameters(), empty])
        plain = problem.loss
        problem.loss = lambda: plain() + empty.sum()  # type: ignore[method-assign]  # it has a gradient without entries
        torch.testing.assert_close(problem.train(optimizer), expected, rtol=1e-9, atol=1e-12)

    def test_a_gradient_that_goes_missing_leaves_a_parameter_unchanged(self, case):
        problem = Problem(case)
        optimizer = case.make(problem.parameters())
        problem.train(optimizer, 3)
        first, second = problem.parameters()
        held = second.detach().clone()

        def closure():
            loss = problem.closure(optimizer)()
            second.grad = None
            return loss

        problem.second_moves = False
        before = first.detach().clone()
        optimizer.step(closure)
        assert torch.equal(second, held)
        assert not torch.equal(first, before)

    def test_without_any_gradient_there_is_no_step(self, case):
        problem = Problem(case)
        before = problem.vector()
        optimizer = case.make(problem.parameters())
        if not case.graph:
            optimizer.step(lambda: problem.loss().detach())
        if not case.needs_closure:
            optimizer.step()
        assert torch.equal(problem.vector(), before)

    def test_no_weight_decay_where_it_is_zero(self, case):
        """With a gradient of zero no weight moves, also where the default is another one, as in AdamW."""
        w = torch.ones(3, requires_grad=True)
        optimizer = case.plain([{"params": [w], "weight_decay": 0.0}])

        def closure():
            if case.graph:
                return (0.0 * w).sum()
            w.grad = torch.zeros(3).to_sparse() if case.sparse else torch.zeros(3)
            return torch.zeros(())

        optimizer.step(closure)
        assert w.tolist() == [1.0, 1.0, 1.0]

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_a_saved_state_continues_to_the_same_bits(self, case, dtype):
        """Through torch.save and torch.load(weights_only=True), into an optimizer built with other settings."""
        straight = Problem(case, dtype)
        expected = straight.train(case.make(straight.parameters()), 6)
        problem = Problem(case, dtype)
        optimizer = case.make(problem.parameters())
        problem.train(optimizer, 3)
        restored = case.plain(problem.parameters(), **({} if case.lr is None else {"lr": 50 * case.lr}))
        restored.load_state_dict(saved(optimizer))
        assert torch.equal(problem.train(restored, 3), expected)

    @pytest.mark.parametrize("way", ["deepcopy", "pickle"])
    def test_a_copy_with_its_problem_continues_to_the_same_bits(self, case, way):
        """The original, too: it is not affected by its copy."""
        problem = Problem(case)
        optimizer = case.make(problem.parameters())
        problem.train(optimizer, 3)
        both = problem, optimizer
        other, copied = copy.deepcopy(both) if way == "deepcopy" else pickle.loads(pickle.dumps(both))
        expected = other.train(copied, 3)
        assert torch.equal(problem.train(optimizer, 3), expected)
        straight = Problem(case)
        assert torch.equal(straight.train(case.make(straight.parameters()), 6), expected)

    def test_saving_changes_nothing_and_the_copy_is_a_copy(self, case):
        problem = Problem(case)
        optimizer = case.make(problem.parameters())
        problem.train(optimizer, 2)
        first, second = saved(optimizer), saved(optimizer)
        problem.train(optimizer, 2)
        assert str(first) == str(second)

    def test_without_its_state_the_result_differs(self, case):
        """Control of the tests above: dropping the state changes the result, where there is one."""
        straight, problem = Problem(case), Problem(case)
        expected = straight.train(case.make(straight.parameters()), 6)
        problem.train(case.make(problem.parameters()), 3)
        got = problem.train(case.make(problem.parameters()), 3)
        assert torch.equal(got, expected) == (not case.stateful)

    def test_a_state_in_other_groups_is_refused(self, case):
        problem = Problem(case)
        first, second = problem.parameters()
        state = case.make([first, second]).state_dict()
        with pytest.raises(ValueError, match="group"):
            case.make([{"params": [first]}, {"params": [second]}]).load_state_dict(state)

    def test_parameters_may_come_as_a_generator_or_with_names(self, case):
        problem, other, named = Problem(case), Problem(case), Problem(case)
        expected = problem.train(case.make(problem.parameters()))
        got = other.train(case.make([{"params": (p for p in other.parameters())}]))
        assert torch.equal(got, expected)
        got = named.train(case.make(named.tables.named_parameters()))
        assert torch.equal(got, expected)

    def test_groups_given_are_not_changed(self, case):
        w = nn.Parameter(torch.ones(1, 1))
        group = {"params": iter([w])}
        case.make([group])
        assert set(group) == {"params"}

    def test_maximize_minimizes_the_negative(self, case):
        problem, negative = Problem(case), Problem(case)
        group = {"params": problem.parameters(), "maximize": True}
        if "maximize" not in case.make(problem.parameters()).defaults:
            with pytest.raises(UserError, match="maximize: the optimizer has no such setting"):
                case.make([group])
            return
        optimizer = case.make([group])
        negative.sign = -1.0
        expected = negative.train(case.make(negative.parameters()))
        torch.testing.assert_close(problem.train(optimizer), expected, rtol=1e-12, atol=1e-14)

    def test_complex_parameters_are_refused_before_anything_moves_or_moved_to_finite_values(self, case):
        w = torch.tensor([[1 + 1j, 2 - 1j]], requires_grad=True)
        before = w.detach().clone()

        def closure():
            w.grad = None
            loss = ((w - 1).abs().square() * torch.tensor([1.0, 3.0])).sum()
            if not case.graph:
                loss.backward()
            return loss

        if case.sparse or case.layers:
            pytest.skip("its gradients come from layers of real numbers")
        try:
            optimizer = case.plain([w])
            for _ in range(3):
                optimizer.step(closure)
        except UserError:
            assert torch.equal(w.detach(), before)
        else:
            assert torch.isfinite(torch.view_as_real(w.detach())).all()
            assert not torch.equal(w.detach(), before)

    def test_one_exploding_gradient_leaves_finite_parameters(self, case):
        """As with PyTorch's Adam, whose step m/√v is zero where the square overflows: it is not NaN for good."""
        if case.needs_closure or case.sparse or case.layers:
            pytest.skip("it needs a closure, sparse gradients or a forward pass")
        w = nn.Parameter(torch.ones(4, 3))
        optimizer = case.make([w])
        for step in range(12):
            noise = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
            w.grad = noise * (1e20 if step == 5 else 1.0)
            optimizer.step()
        assert torch.isfinite(w).all() == (not case.overflows)

    def test_foreach_equals_the_loop_over_parameters(self, case):
        results = []
        for foreach in (True, False):
            problem = Problem(case)
            optimizer = case.make([{"params": problem.parameters(), "foreach": foreach, "fused": None}])
            if "foreach" not in optimizer.defaults:
                pytest.skip("it has no such option")
            results.append(problem.train(optimizer, 20))
        torch.testing.assert_close(*results, rtol=1e-12, atol=1e-13)

    def test_a_tensor_as_the_learning_rate(self, case):
        if case.lr is None:
            pytest.skip("it has no learning rate")
        problem, other = Problem(case), Problem(case)
        expected = problem.train(case.make(problem.parameters()))
        optimizer = case.make(other.parameters())
        optimizer.param_groups[0]["lr"] = torch.tensor(case.lr, dtype=torch.float64)
        torch.testing.assert_close(other.train(optimizer), expected, rtol=1e-12, atol=1e-14)

    def test_a_tensor_of_one_entry_is_a_learning_rate_and_one_of_two_is_refused(self, case):
        if case.lr is None:
            pytest.skip("it has no learning rate")
        problem, other = Problem(case, torch.float32), Problem(case, torch.float32)
        expected = problem.train(case.make(problem.parameters()), 1)
        got = other.train(case.make(other.parameters(), lr=torch.tensor([case.lr])), 1)
        torch.testing.assert_close(got, expected)
        with pytest.raises(UserError, match=f"^{case.name}: lr: expected a number above 0"):
            case.make([nn.Parameter(torch.ones(2, 2))], lr=torch.tensor([0.1, 0.2]))

    def test_a_learning_rate_that_becomes_infinite_ends_in_a_step(self, case):
        if case.lr is None:
            pytest.skip("it has no learning rate")
        problem = Problem(case)
        optimizer = case.make(problem.parameters())
        optimizer.param_groups[0]["lr"] = math.inf
        optimizer.step(problem.closure(optimizer))  # a line search that halves infinity would not end

    def test_a_negative_learning_rate_is_refused(self, case):
        if case.lr is None:
            pytest.skip("it has no learning rate")
        with pytest.raises(UserError, match=f"^{case.name}: "):
            case.make([nn.Parameter(torch.ones(1))], lr=-0.1)

    @pytest.mark.parametrize("lr", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("kind", [float, torch.tensor])
    def test_a_learning_rate_that_is_not_finite_is_refused(self, case, lr, kind):
        if case.lr is None:
            pytest.skip("it has no learning rate")
        for params, settings in (
            ([nn.Parameter(torch.ones(2, 2))], {"lr": kind(lr)}),
            ([{"params": [nn.Parameter(torch.ones(2, 2))], "lr": kind(lr)}], {}),
        ):
            with pytest.raises(UserError, match=f"^{case.name}: lr: expected a number above 0"):
                case.make(params, **settings)

    @pytest.mark.parametrize(
        ("params", "words"),
        [
            (lambda w: [], "empty parameter list"),
            (lambda w: [3.0], "optimize Tensors"),
            (lambda w: [w * 2], "non-leaf"),
            (lambda w: [{"params": [w]}, {"params": [w]}], "more than one parameter group"),
            (lambda w: [w, w], "occurs twice"),
            (lambda w: [{"params": [w, w]}], "occurs twice"),
            (lambda w: [("first", w), ("second", w)], "occurs twice"),
            (lambda w: [{"lr": 0.1}], "needs the key 'params'"),
        ],
        ids=[
            "none",
            "numbers",
            "results",
            "twice",
            "repeated",
            "repeated in a group",
            "two names",
            "no params",
        ],
    )
    def test_bad_parameters_are_refused(self, case, params, words):
        with pytest.raises(UserError, match=words):
            case.make(params(nn.Parameter(torch.ones(1))))
