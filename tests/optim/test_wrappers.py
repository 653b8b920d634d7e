"""SAM and Lookahead around other optimizers: their definitions, and the contract of all optimizers."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from tests.support.optimizer_contract import Case, Contract, Problem, saved
from tests.support.stop_at import StopAt
from torch import nn

import descend
from descend import optim
from descend.cards import card
from descend.errors import RecipeError, UserError
from descend.optim import OPTIMIZERS, SAM, WRAPPERS, Lookahead, lookahead, sam
from descend.optim.wrapper import evaluation_weights, unwrapped


@dataclass(frozen=True)
class Wrapped(Case):
    """An optimizer within a wrapper, whose settings are ``outer``."""

    wrapper: str = "sam"
    outer: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.wrapper}({super().__str__()})"

    def plain(self, params: Any, **settings: Any) -> torch.optim.Optimizer:
        return WRAPPERS[self.wrapper](super().plain(params, **settings), **self.outer)


WRAPPED = [
    Wrapped("sgd", evaluations=2, needs_closure=True, separable=False, stateful=False),
    Wrapped("adamw", evaluations=2, needs_closure=True, separable=False, outer={"rho": 0.1, "adaptive": True}),
    Wrapped("nesterov", evaluations=2, needs_closure=True, separable=False),
    Wrapped("schedule_free_adamw", lr=0.03, evaluations=2, needs_closure=True, separable=False),
    Wrapped("sgd", wrapper="lookahead", lr=0.02),
    Wrapped("adam", wrapper="lookahead", outer={"steps": 3, "alpha": 0.7}, lr=0.02),
    Wrapped("soap", wrapper="lookahead", outer={"steps": 3}, lr=0.03),
]  # fmt: skip


@pytest.fixture(params=WRAPPED, ids=str)
def case(request):
    return request.param


class TestContract(Contract):
    pass


def test_every_wrapper_has_a_card_and_a_case():
    assert {each.wrapper for each in WRAPPED} == set(WRAPPERS)
    for constructor in WRAPPERS.values():
        found = card(constructor)
        assert found is not None
        assert found.row == "K4"


MATRIX = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64)


def quadratic(w: torch.Tensor) -> torch.Tensor:
    return w @ MATRIX @ w / 2


class TestSAM:
    @pytest.mark.parametrize("adaptive", [False, True])
    def test_the_gradient_is_that_at_the_worst_point(self, adaptive):
        """On a quadratic: A (w + ρ g/‖g‖) with g = A w, or adaptively with ρ w² g/‖w g‖."""
        w = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
        optimizer = sam(torch.optim.SGD([w], lr=0.1), rho=0.3, adaptive=adaptive)

        def closure():
            optimizer.zero_grad()
            loss = quadratic(w)
            loss.backward()
            return loss

        matrix, x = MATRIX.numpy(), w.detach().numpy().copy()
        for _ in range(5):
            loss = optimizer.step(closure)
            assert loss.item() == pytest.approx(x @ matrix @ x / 2, rel=1e-12)
            g = matrix @ x
            e = 0.3 * x**2 * g / np.linalg.norm(x * g) if adaptive else 0.3 * g / np.linalg.norm(g)
            np.testing.assert_allclose(w.grad.numpy(), matrix @ (x + e), rtol=1e-10)
            x = x - 0.1 * matrix @ (x + e)
            np.testing.assert_allclose(w.detach().numpy(), x, rtol=1e-12)

    def test_the_norm_is_that_of_all_parameters(self):
        a, b = nn.Parameter(torch.tensor([3.0])), nn.Parameter(torch.tensor([4.0]))
        optimizer = SAM(torch.optim.SGD([{"params": [a]}, {"params": [b]}], lr=1.0), rho=5.0)
        optimizer.step(lambda: (a.square() + b.square()).sum() / 2)
        assert a.item() == pytest.approx(-3.0, rel=1e-6)  # the gradient at 3 + 3
        assert b.item() == pytest.approx(-4.0, rel=1e-6)

    def test_a_gradient_of_zero_is_no_ascent(self):
        w = nn.Parameter(torch.zeros(2))
        SAM(torch.optim.SGD([w], lr=1.0)).step(lambda: w.square().sum())
        assert w.tolist() == [0.0, 0.0]

    def test_both_gradients_have_the_same_random_numbers(self):
        """Dropout of an identity: with different masks the two gradients would differ."""
        torch.manual_seed(0)
        w, seen = nn.Parameter(torch.ones(1000)), []

        def closure():
            mask = torch.rand(1000) < 0.5
            seen.append(mask)
            return (w * mask).sum()

        SAM(torch.optim.SGD([w], lr=0.1)).step(closure)
        assert torch.equal(*seen)
        assert 300 < seen[0].sum() < 700

    @pytest.mark.parametrize(
        "name", ["kfac", "lbfgs", "newton", "gd", "scgd", "asc_pg", "sparse_adam", "bfgs"]
    )
    def test_optimizers_of_more_than_a_gradient_are_refused(self, name):
        network = nn.Linear(2, 2)
        settings = {"model": network, "likelihood": "normal"} if name == "kfac" else {}
        inner = OPTIMIZERS[name](network.parameters(), **settings)
        with pytest.raises(UserError, match=f"sam cannot wrap {name}: "):
            sam(inner)
        assert "sam_rho" not in inner.param_groups[0]

    def test_settings_are_checked(self):
        inner = torch.optim.SGD([nn.Parameter(torch.ones(1))])
        with pytest.raises(UserError, match="sam: rho: expected a number above 0, got -1"):
            sam(inner, rho=-1)
        with pytest.raises(UserError, match="sam: expected an optimizer, such as adamw"):
            sam([nn.Parameter(torch.ones(1))])


class TestLookahead:
    @pytest.mark.parametrize(("steps", "alpha"), [(1, 0.5), (3, 0.25), (4, 1.0)])
    def test_the_weights_are_those_of_two_loops(self, steps, alpha):
        """Algorithm 1 of Zhang et al. 2019: an outer and an inner loop over a copy of the optimizer."""
        problem, other = Problem(Case("adam")), Problem(Case("adam"))
        optimizer = lookahead(optim.adam(problem.parameters(), 0.05), steps, alpha)
        inner = optim.adam(other.parameters(), 0.05)
        slow = other.vector()
        for _ in range(4):
            for _ in range(steps):
                inner.step(other.closure(inner))
            slow = slow + alpha * (other.vector() - slow)
            torch.nn.utils.vector_to_parameters(slow.clone(), other.parameters())
            problem.train(optimizer, steps)
            torch.testing.assert_close(problem.vector(), slow, rtol=1e-12, atol=1e-14)

    def test_the_slow_weights_are_evaluated(self):
        problem = Problem(Case("sgd"))
        optimizer = lookahead(optim.sgd(problem.parameters(), 0.01), 3)
        at_slow = problem.train(optimizer, 3)
        fast = problem.train(optimizer, 2)
        with evaluation_weights(optimizer):
            assert torch.equal(problem.vector(), at_slow)
        assert torch.equal(problem.vector(), fast)
        assert not torch.equal(fast, at_slow)

    def test_without_an_interpolation_it_is_the_optimizer(self):
        a, b = Problem(Case("adam")), Problem(Case("adam"))
        got = a.train(lookahead(optim.adam(a.parameters(), 0.05), 100), 20)
        assert torch.equal(got, b.train(optim.adam(b.parameters(), 0.05), 20))

    @pytest.mark.parametrize("name", ["lbfgs", "trust_region", "schedule_free_adamw"])
    def test_optimizers_that_decide_themselves_are_refused(self, name):
        with pytest.raises(UserError, match=f"lookahead cannot wrap {name}"):
            lookahead(OPTIMIZERS[name]([nn.Parameter(torch.ones(2, 2))]))


def test_wrappers_may_be_nested():
    problem, other = Problem(Case("adam")), Problem(Case("adam"))

    def make(each):
        return Lookahead(SAM(optim.adam(each.parameters(), 0.05)), 2)

    optimizer = make(problem)
    assert type(unwrapped(optimizer)) is torch.optim.Adam
    problem.train(optimizer, 3)
    restored = make(other)
    with torch.no_grad():
        for p, q in zip(other.parameters(), problem.parameters(), strict=True):
            p.copy_(q)
    restored.load_state_dict(saved(optimizer))
    assert torch.equal(problem.train(optimizer, 3), other.train(restored, 3))


def test_hooks_belong_to_the_wrapped_optimizer():
    w, calls = nn.Parameter(torch.ones(1)), []
    inner = torch.optim.SGD([w], lr=0.1)
    optimizer = Lookahead(inner, 2)
    handle = optimizer.register_step_post_hook(lambda stepped, *_: calls.append(stepped))
    w.grad = torch.ones(1)
    optimizer.step()
    assert calls == [inner]
    handle.remove()
    optimizer.step()
    assert len(calls) == 1


class TestInARecipe:
    BASE: ClassVar[dict[str, dict[str, Any]]] = {
        "model": {"hidden": [8]},
        "stop": {"max_epochs": 2, "patience": None},
        "engine": {"threads": 1},
    }

    def run(self, **sections: dict[str, Any]) -> descend.Run:
        return descend.train("iris", descend.Recipe.of({**self.BASE, **sections}), seed=0)

    @pytest.mark.parametrize("name", ["adamw", "sgd", "lion", "muon", "shampoo", "torch.optim.ASGD"])
    def test_sam_costs_two_gradients(self, name):
        run = self.run(optimizer={"name": name, "sam": 0.05})
        assert run.history[-1]["gradients"] == 2 * run.history[-1]["step"]

    def test_zero_is_none(self):
        plain, off = self.run(), self.run(optimizer={"sam": 0, "lookahead": 0})
        for name, tensor in plain.model.state_dict().items():
            assert torch.equal(tensor, off.model.state_dict()[name])

    def test_a_table_has_all_settings(self):
        one = self.run(optimizer={"lookahead": 2})
        other = self.run(optimizer={"lookahead": {"steps": 2, "alpha": 0.5}})
        further = self.run(optimizer={"lookahead": {"steps": 2, "alpha": 0.9}})
        weights = [next(run.model.parameters()) for run in (one, other, further)]
        assert torch.equal(weights[0], weights[1])
        assert not torch.equal(weights[0], weights[2])

    @pytest.mark.parametrize(
        ("optimizer", "words"),
        [
            ({"sam": -0.1}, r"\[optimizer\] sam: expected"),
            ({"sam": {"radius": 1}}, r"\[optimizer\] sam.radius: unknown key of 'sam'"),
            ({"lookahead": {"alpha": 2}}, r"\[optimizer\] lookahead.alpha: expected"),
            ({"name": "lbfgs", "sam": 0.1}, r"\[optimizer\] sam: sam cannot wrap lbfgs"),
            ({"name": "newton", "lookahead": 5}, r"\[optimizer\] lookahead: lookahead cannot wrap newton"),
        ],
    )
    def test_senseless_combinations_are_refused(self, optimizer, words):
        with pytest.raises(RecipeError, match=words):
            self.run(optimizer=optimizer)

    def test_lookahead_leaves_a_sphere(self):
        with pytest.raises(RecipeError, match="a point between two weights"):
            self.run(
                optimizer={"lookahead": 5},
                constrain={"orthogonal": {"pattern": "linear1*", "method": "cayley"}},
            )

    def test_schedule_free_evaluates_its_average(self):
        run = self.run(optimizer={"name": "schedule_free_adamw"})
        assert run.recipe.stop["average"] == 0.0
        with pytest.raises(RecipeError, match=r"\[stop\] average: 'schedule_free_adamw' evaluates"):
            self.run(optimizer={"name": "schedule_free_adamw"}, stop={"max_epochs": 2, "average": 3})
        with pytest.raises(RecipeError, match=r"\[regularize\] l1_prox"):
            self.run(optimizer={"name": "schedule_free_adamw"}, regularize={"l1_prox": 1e-3})

    @pytest.mark.parametrize(
        "optimizer",
        [
            {"name": "schedule_free_adamw"},
            {"lookahead": 7, "sam": 0.05},
            {"name": "prodigy"},
            {"name": "muon"},
        ],
    )
    def test_a_run_stopped_anywhere_resumes_to_the_same_bits(self, optimizer, tmp_path):
        recipe = descend.Recipe.of(
            {**self.BASE, "optimizer": optimizer, "stop": {"max_epochs": 3, "average": 0}}
        )
        whole = descend.train("iris", recipe, seed=0, out=tmp_path / "whole")
        with pytest.raises(descend.errors.Interrupted):
            descend.train("iris", recipe, seed=0, out=tmp_path / "part", observers=[StopAt(4)])
        resumed = descend.train("iris", out=tmp_path / "part", resume=True)
        for name, tensor in whole.model.state_dict().items():
            assert torch.equal(tensor, resumed.model.state_dict()[name])
        loaded = descend.load(tmp_path / "whole")
        assert loaded.metrics == whole.metrics


def test_the_saved_weights_are_the_evaluated_ones():
    """What the run holds is the average x, not the point y of the last gradient."""
    recipe = descend.Recipe.of(
        {
            **TestInARecipe.BASE,
            "optimizer": {"name": "schedule_free_adamw"},
            "stop": {"max_epochs": 1, "patience": None},
        }
    )
    caught = []

    class Watch:
        def stepped(self, training: Any) -> None:
            with training.optimizer.evaluation_weights():
                caught.append(copy.deepcopy(training.model.state_dict()))

    run = descend.train("iris", recipe, seed=0, observers=[Watch()])
    for name, tensor in run.model.state_dict().items():
        assert torch.equal(tensor, caught[-1][name])
