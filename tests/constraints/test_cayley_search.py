"""Line searches along the Cayley curve, compared with the curve by dense n × n matrices and its derivative."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import descend
from descend.constraints import ConstrainedWeights, constrain, orthogonal
from descend.errors import RecipeError
from descend.linalg.stiefel import frames_of, off_frame
from descend.losses import CrossEntropy
from descend.optim import OPTIMIZERS, Rows, bfgs, cg, coordinate_descent, gd, lbfgs
from descend.optim.line_search import armijo, search_along

DOUBLE = torch.float64
N, Q = 7, 3


def skew(frame: Tensor, vector: Tensor) -> Tensor:
    """W of Li, Fuxin and Todorovic 2020: Ŵ − Ŵᵀ with Ŵ = D Xᵀ − X (Xᵀ D Xᵀ)/2, an n × n matrix."""
    hat = vector @ frame.T - 0.5 * frame @ (frame.T @ vector @ frame.T)
    return hat - hat.T


def curve(frame: Tensor, vector: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """X(t) = (I − t W/2)⁻¹ (I + t W/2) X and dX/dt = (I − t W/2)⁻² W X."""
    w, eye = skew(frame, vector), torch.eye(len(frame), dtype=DOUBLE)
    left = torch.linalg.inv(eye - 0.5 * t * w)
    return left @ (eye + 0.5 * t * w) @ frame, left @ left @ w @ frame


class Problem:
    """A smooth loss, neither convex nor quadratic, of Q orthonormal rows of length N and Q unconstrained numbers."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.layer = nn.Linear(N, Q).double()
        with torch.no_grad():
            self.layer.bias.normal_()
        self.constrained: ConstrainedWeights = constrain(self.layer, orthogonal(method="cayley"), "weight")
        root = torch.randn(N, N, dtype=DOUBLE)
        self.matrix, self.goal = root @ root.T, torch.randn(Q, N, dtype=DOUBLE)

    def of(self, frame: Tensor, bias: Tensor) -> Tensor:
        """F of a frame (N, Q) and the bias (Q,)."""
        weight = frame.T
        rows = (weight @ self.matrix * weight).sum(1) + bias
        return rows.sin().sum() + rows.square().mean() / 9 + (weight - self.goal).pow(4).sum() / 30

    def loss(self) -> Tensor:
        return self.of(self.layer.weight.T, self.layer.bias)

    @property
    def point(self) -> tuple[Tensor, Tensor]:
        return self.layer.weight.detach().T.clone(), self.layer.bias.detach().clone()

    def gradient(self, frame: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """∇F, by autograd."""
        at = frame.clone().requires_grad_(), bias.clone().requires_grad_()
        first, second = torch.autograd.grad(self.of(*at), at)
        return first, second

    def error(self) -> float:
        return float(off_frame(frames_of([self.layer.weight.detach()])))


class Evaluation(NamedTuple):
    """The loss and the directional derivative that an optimizer sees at X + t D."""

    t: float
    loss: float
    derivative: float


class Probe(torch.optim.Optimizer):
    """An optimizer that evaluates the closure at X + t D for several t, and steps to the last."""

    def __init__(self, params: Any, steps: list[Tensor], lengths: list[float]) -> None:
        super().__init__(params, {})
        self.steps, self.lengths = steps, lengths
        self.evaluations: list[Any] = []

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        parameters = self.param_groups[0]["params"]
        starts = [p.clone() for p in parameters]
        for t in self.lengths:
            for p, start, step in zip(parameters, starts, self.steps, strict=True):
                p.copy_(start + t * step)
                p.grad = None
            before = [p.clone() for p in parameters]
            with torch.enable_grad():
                loss = closure()
            assert all(torch.equal(p, old) for p, old in zip(parameters, before, strict=True))
            derivative = sum(float((p.grad * s).sum()) for p, s in zip(parameters, self.steps, strict=True))
            self.evaluations.append(Evaluation(t, float(loss), derivative))


class TestClosure:
    LENGTHS = (0.0, 0.1, 1.0, -0.7, 5.0, 0.0)

    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize("computes", ["backward", "graph"])
    def test_the_loss_and_its_derivative_are_those_along_the_curve(self, seed: int, computes: str) -> None:
        problem = Problem(seed)
        frame, bias = problem.point
        steps = [torch.randn(Q, N, dtype=DOUBLE), torch.randn(Q, dtype=DOUBLE)]
        probe = Probe(problem.layer.parameters(), steps, list(self.LENGTHS))
        problem.constrained.attach(probe)

        def closure() -> Tensor:
            loss = problem.loss()
            if computes == "backward":
                loss.backward()
            return loss

        probe.step(closure)
        for t, loss, derivative in probe.evaluations:
            point, velocity = curve(frame, steps[0].T, t)
            at = bias + t * steps[1]
            assert loss == pytest.approx(float(problem.of(point, at)), rel=1e-13, abs=1e-13)
            by_frame, by_bias = problem.gradient(point, at)
            expected = float((by_frame * velocity).sum() + by_bias @ steps[1])
            assert derivative == pytest.approx(expected, rel=1e-11, abs=1e-11)
        assert problem.error() <= 1e-12

    @pytest.mark.parametrize("seed", range(2))
    @pytest.mark.parametrize("writes", ["into", "another"])
    def test_changes_through_data_are_detected(self, seed: int, writes: str) -> None:
        """PyTorch's version counter does not count them, and third-party optimizers make them."""

        class Older(torch.optim.Optimizer):
            @torch.no_grad()
            def step(self, closure: Any = None) -> Any:
                with torch.enable_grad():
                    closure()
                p = self.param_groups[0]["params"][0]
                if writes == "into":
                    p.data.add_(step)
                else:
                    p.data = p.data + step
                with torch.enable_grad():
                    losses.append(float(closure().detach()))

        problem = Problem(seed)
        losses: list[float] = []
        frame, bias = problem.point
        step = torch.randn(Q, N, dtype=DOUBLE)
        optimizer = Older(problem.layer.parameters(), {})
        problem.constrained.attach(optimizer)
        optimizer.step(problem.loss)
        point, _ = curve(frame, step.T, 1.0)
        assert losses == [pytest.approx(float(problem.of(point, bias)), rel=1e-13)]
        torch.testing.assert_close(problem.layer.weight.detach().T, point, rtol=0, atol=1e-12)

    def test_the_derivative_of_the_curve_matches_finite_differences(self) -> None:
        """A check of the formula in this file."""
        frame, _ = Problem().point
        step = torch.randn(N, Q, dtype=DOUBLE)
        for t in (0.0, 0.8):
            ahead, back = (curve(frame, step, t + h)[0] for h in (1e-6, -1e-6))
            torch.testing.assert_close(curve(frame, step, t)[1], (ahead - back) / 2e-6, rtol=1e-7, atol=1e-8)

    def test_the_gradient_with_respect_to_coordinates_matches_finite_differences(self) -> None:
        """Each entry at a point away from the start, and not only the derivative along the step."""
        problem = Problem()
        frame, bias = problem.point
        step = torch.randn(Q, N, dtype=DOUBLE)
        probe = Probe(problem.layer.parameters(), [step, torch.zeros(Q, dtype=DOUBLE)], [0.6])
        problem.constrained.attach(probe)
        gradients: list[Tensor] = []

        def closure() -> Tensor:
            problem.loss().backward()
            gradients.append(problem.layer.weight.grad)
            return problem.loss().detach()

        probe.step(closure)
        (gradient,) = gradients
        for i in range(Q):
            for j in range(N):
                h = torch.zeros(N, Q, dtype=DOUBLE)
                h[j, i] = 1e-6
                ahead, back = (problem.of(curve(frame, 0.6 * step.T + s * h, 1.0)[0], bias) for s in (1, -1))
                assert float(gradient[i, j]) == pytest.approx(float(ahead - back) / 2e-6, rel=1e-6, abs=1e-7)

    def test_at_the_start_of_a_step_the_weights_are_not_changed(self) -> None:
        """Weights and gradients at the start equal those of a step without a line search, to the bit."""
        problem = Problem()
        optimizer = torch.optim.SGD(problem.layer.parameters(), lr=0.1)
        problem.constrained.attach(optimizer)
        before, counts = problem.layer.weight.detach().clone(), set()

        def closure() -> Tensor:
            counts.add(problem.layer.weight._version)
            assert torch.equal(problem.layer.weight, before)
            optimizer.zero_grad()
            loss = problem.loss()
            loss.backward()
            return loss

        count = problem.layer.weight._version
        optimizer.step(closure)
        assert counts == {count}

    def test_a_closure_without_a_backward_pass_does_not_change_gradients(self) -> None:
        """When only the loss is evaluated, the gradients of an earlier call are not transformed again."""
        problem = Problem()
        optimizer = gd(problem.layer.parameters(), lr=1e3)  # the search tries several step lengths
        problem.constrained.attach(optimizer)
        frame, bias = problem.point
        optimizer.step(problem.loss)
        expected = skew(frame, problem.gradient(frame, bias)[0]) @ frame
        torch.testing.assert_close(problem.layer.weight.grad.T, expected, rtol=0, atol=1e-12)

    def test_a_failing_closure_restores_the_weights(self) -> None:
        problem = Problem()
        optimizer = lbfgs(problem.layer.parameters())
        problem.constrained.attach(optimizer)
        before = problem.layer.weight.detach().clone()
        calls = 0

        def closure() -> Tensor:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise KeyboardInterrupt
            return problem.loss()

        with pytest.raises(KeyboardInterrupt):
            optimizer.step(closure)
        assert torch.equal(problem.layer.weight, before)


class LineSearch(NamedTuple):
    """One line search: the step, the loss and directional derivative at its start, and the accepted step length."""

    step: Tensor
    value: float
    derivative: float
    t: float
    c1: float
    c2: float | None


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[LineSearch]:
    """Record the line searches of cg, bfgs and lbfgs."""
    recorded: list[LineSearch] = []

    def record(evaluate: Any, position: Any, step: Tensor, start: Any, **settings: Any) -> Any:
        result = search_along(evaluate, position, step, start, **settings)
        assert result is not None
        wolfe = settings["line_search"] == "strong_wolfe"
        derivative = float(torch.dot(step, start.vector))
        c2 = settings["c2"] if wolfe else None
        recorded.append(LineSearch(step, start.number, derivative, result.t, settings["c1"], c2))
        return result

    for module in ("_bfgs", "conjugate", "_lbfgs"):
        monkeypatch.setattr(f"descend.optim.{module}.search_along", record)
    return recorded


METHODS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "cg": lambda p: cg(p),
    "bfgs": lambda p: bfgs(p),
    "lbfgs": lambda p: lbfgs(p),
    "lbfgs with Armijo": lambda p: lbfgs(p, line_search="armijo"),
    "long steps": lambda p: lbfgs(p, line_search="armijo", lr=50.0),
}


class TestAcceptedSteps:
    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("name", METHODS)
    def test_the_new_weights_satisfy_the_conditions_of_the_search(
        self, name: str, seed: int, searches: list[LineSearch]
    ) -> None:
        problem = Problem(seed)
        optimizer = METHODS[name](problem.layer.parameters())
        problem.constrained.attach(optimizer)
        for _ in range(12):
            frame, bias = problem.point
            optimizer.step(problem.loss)
            (line_search,) = searches
            searches.clear()
            weight, free = line_search.step[: Q * N].view(Q, N).T, line_search.step[Q * N :]
            by_frame, by_bias = problem.gradient(frame, bias)
            first = float((by_frame * (skew(frame, weight) @ frame)).sum() + by_bias @ free)
            assert line_search.derivative == pytest.approx(first, rel=1e-10, abs=1e-12)
            assert first < 0
            point, velocity = curve(frame, weight, line_search.t)
            now, own = problem.point
            torch.testing.assert_close(now, point, rtol=0, atol=1e-12)
            assert problem.error() <= 1e-12
            before, after = float(problem.of(frame, bias)), float(problem.of(now, own))
            assert line_search.value == pytest.approx(before, rel=1e-14)
            assert after <= before + line_search.c1 * line_search.t * first + 1e-14
            if line_search.c2 is not None:
                by_frame, by_bias = problem.gradient(now, own)
                last = float((by_frame * velocity).sum() + by_bias @ free)
                assert abs(last) <= line_search.c2 * abs(first) * (1 + 1e-9)

    @pytest.mark.parametrize("c", [1e-4, 0.4])
    def test_gradient_descent_satisfies_the_armijo_condition(
        self, c: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        problem = Problem()
        optimizer = gd(problem.layer.parameters(), lr=8.0, c1=c)
        problem.constrained.attach(optimizer)
        results: list[Any] = []

        def record(*args: Any, **settings: Any) -> Any:
            results.append((args[2], armijo(*args, **settings)))
            return results[-1][1]

        monkeypatch.setattr("descend.optim.gradient_descent.armijo", record)
        lengths = set()
        for _ in range(25):
            frame, bias = problem.point
            optimizer.step(problem.loss)
            derivative, result = results[-1]
            by_frame, by_bias = problem.gradient(frame, bias)
            flow = skew(frame, by_frame) @ frame
            expected = -8.0 * float((by_frame * flow).sum() + by_bias @ by_bias)
            assert derivative == pytest.approx(expected, rel=1e-10)
            point, _ = curve(frame, -8.0 * flow, result.t)
            now, own = problem.point
            torch.testing.assert_close(now, point, rtol=0, atol=1e-12)
            assert float(problem.of(now, own)) == result.value  # to the bit
            assert result.value <= float(problem.of(frame, bias)) + c * result.t * expected + 1e-14
            assert problem.error() <= 1e-12
            lengths.add(result.t)
        assert len(lengths) > 1

    @pytest.mark.slow
    @pytest.mark.parametrize("iterations", [2, 6])
    def test_several_iterations_per_step_and_torch_lbfgs_never_increase_the_loss(
        self, iterations: int
    ) -> None:
        makers: list[Callable[[Any], torch.optim.Optimizer]] = [
            lambda p: lbfgs(p, max_iter=iterations),
            lambda p: bfgs(p, max_iter=iterations),
            lambda p: cg(p, max_iter=iterations),
            lambda p: coordinate_descent(p, block_size=5),
            lambda p: coordinate_descent(p, line_search="exact"),
            lambda p: torch.optim.LBFGS(p, max_iter=iterations, line_search_fn="strong_wolfe"),
        ]
        for make in makers:
            problem = Problem(1)
            optimizer = make(problem.layer.parameters())
            problem.constrained.attach(optimizer)

            def closure(problem: Problem = problem, optimizer: Any = optimizer) -> Tensor:
                optimizer.zero_grad()
                loss = problem.loss()
                loss.backward()
                return loss

            losses = [float(problem.loss().detach())]
            for _ in range(15):
                optimizer.step(closure)
                losses.append(float(problem.loss().detach()))
                assert problem.error() <= 1e-12
            assert all(later <= earlier + 1e-13 for earlier, later in pairwise(losses))
            assert losses[-1] < losses[0] - 0.1

    @pytest.mark.parametrize("name", ["bfgs", "lbfgs", "cg", "gd"])
    def test_converges_to_the_smallest_eigenvalues(self, name: str) -> None:
        """min tr(Xᵀ A X) over frames is the sum of the q smallest eigenvalues (Ky Fan 1949)."""
        problem = Problem()
        matrix = torch.diag(torch.linspace(1.0, 3.0, N, dtype=DOUBLE))
        settings = {"lr": 0.3} if name == "gd" else {}
        optimizer = OPTIMIZERS[name]([problem.layer.weight], **settings)
        problem.constrained.attach(optimizer)
        weight = problem.layer.weight
        lowest = float(matrix.diagonal()[:Q].sum())

        def value() -> torch.Tensor:
            return (weight @ matrix * weight).sum()

        for _ in range(290):
            optimizer.step(value)
            if float(value().detach()) - lowest < 1e-11:
                break
        for _ in range(10):
            optimizer.step(value)
            assert float(value().detach()) == pytest.approx(lowest, abs=1e-9)  # and stays there
        assert problem.error() <= 1e-12


class TestSubsampledRows:
    @pytest.mark.parametrize("overlap", [0.5, 1.0])
    def test_curvature_pairs_on_a_sample_of_the_rows(self, overlap: float) -> None:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
        constrained = constrain(model, orthogonal(method="cayley"), "0")
        optimizer = lbfgs(model.parameters(), sample_fraction=overlap)
        constrained.attach(optimizer)
        x = torch.randn(40, 4, dtype=DOUBLE)
        rows = Rows(model, CrossEntropy(), x, x[:, :3].argmax(1))
        losses = [float(rows.value())]
        for _ in range(12):
            optimizer.step(rows)
            losses.append(float(rows.value()))
        assert all(later <= earlier for earlier, later in pairwise(losses))
        assert losses[-1] < 0.5 * losses[0]
        assert float(off_frame(frames_of([model[0].weight.detach()]))) <= 1e-12


RECIPE = {
    "model": {"name": "mlp", "hidden": [6, 5], "norm": "none", "dropout": 0.0},
    "data": {"sampling": "full"},
    "schedule": {"name": "constant", "warmup": 0.0},
    "constrain": {"orthogonal": {"pattern": "linear*", "method": "cayley"}},
    "stop": {"max_epochs": 25, "patience": None, "average": 0.0},
    "regularize": {"weight_decay": 0.0},
    "engine": {"threads": 1},
}


class TestRecipe:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["gd", "cg", "bfgs", "lbfgs", "coordinate_descent"])
    def test_searches_never_increase_the_training_loss(self, name: str) -> None:
        run = descend.train("iris", {**RECIPE, "optimizer": {"name": name}}, seed=0)
        losses = [record["train"]["loss"] for record in run.history]
        assert all(later <= earlier + 1e-6 for earlier, later in pairwise(losses))
        assert losses[-1] < 0.7 * losses[0]
        for name, weight in run.model.named_parameters():
            if name.startswith("linear") and weight.dim() > 1:
                assert float(off_frame(frames_of([weight.detach()]))) <= 1e-6

    @pytest.mark.parametrize("name", ["newton", "trust_region", "subsampled_newton", "sqn"])
    def test_optimizers_that_need_curvature_are_rejected_with_alternatives(
        self, name: str, tmp_path: Any
    ) -> None:
        with pytest.raises(
            RecipeError, match=rf"\[constrain\]: {name} needs.*method = 'exponential'.*lbfgs, cg, gd or adamw"
        ):
            descend.train("iris", {**RECIPE, "optimizer": {"name": name}}, out=tmp_path / "run")
        assert not (tmp_path / "run").exists()
