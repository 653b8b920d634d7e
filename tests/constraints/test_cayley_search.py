"""Searches along Cayley's curve: what they see and accept, against the curve of n × n matrices and its derivative."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import descend
from descend.constraints import Held, constrain, orthogonal
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
    """A smooth loss, neither convex nor quadratic, of Q orthonormal rows of N numbers and Q free ones."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.layer = nn.Linear(N, Q).double()
        with torch.no_grad():
            self.layer.bias.normal_()
        self.held: Held = constrain(self.layer, orthogonal(method="cayley"), "weight")
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

    def slope(self, frame: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """∇F, by autograd."""
        at = frame.clone().requires_grad_(), bias.clone().requires_grad_()
        first, second = torch.autograd.grad(self.of(*at), at)
        return first, second

    def off(self) -> float:
        return float(off_frame(frames_of([self.layer.weight.detach()])))


class Seen(NamedTuple):
    t: float
    loss: float
    slope: float


class Probe(torch.optim.Optimizer):
    """It looks at places t D for some t, and goes to the last."""

    def __init__(self, params: Any, steps: list[Tensor], places: list[float]) -> None:
        super().__init__(params, {})
        self.steps, self.places, self.seen = steps, places, []

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        parameters = self.param_groups[0]["params"]
        starts = [p.clone() for p in parameters]
        for t in self.places:
            for p, start, step in zip(parameters, starts, self.steps, strict=True):
                p.copy_(start + t * step)
                p.grad = None
            before = [p.clone() for p in parameters]
            with torch.enable_grad():
                loss = closure()
            assert all(torch.equal(p, old) for p, old in zip(parameters, before, strict=True))
            along = sum(float((p.grad * s).sum()) for p, s in zip(parameters, self.steps, strict=True))
            self.seen.append(Seen(t, float(loss), along))


class TestWhatIsSeen:
    PLACES = (0.0, 0.1, 1.0, -0.7, 5.0, 0.0)

    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize("does", ["backward", "graph"])
    def test_loss_and_slope_are_those_of_the_curve(self, seed: int, does: str) -> None:
        problem = Problem(seed)
        frame, bias = problem.point
        steps = [torch.randn(Q, N, dtype=DOUBLE), torch.randn(Q, dtype=DOUBLE)]
        probe = Probe(problem.layer.parameters(), steps, list(self.PLACES))
        problem.held.follow(probe)

        def closure() -> Tensor:
            loss = problem.loss()
            if does == "backward":
                loss.backward()
            return loss

        probe.step(closure)
        for t, loss, slope in probe.seen:
            there, speed = curve(frame, steps[0].T, t)
            at = bias + t * steps[1]
            assert loss == pytest.approx(float(problem.of(there, at)), rel=1e-13, abs=1e-13)
            by_frame, by_bias = problem.slope(there, at)
            expected = float((by_frame * speed).sum() + by_bias @ steps[1])
            assert slope == pytest.approx(expected, rel=1e-11, abs=1e-11)
        assert problem.off() <= 1e-12

    @pytest.mark.parametrize("seed", range(2))
    @pytest.mark.parametrize("writes", ["into", "another"])
    def test_what_is_written_through_data_is_seen_as_well(self, seed: int, writes: str) -> None:
        """PyTorch does not count it as a change, and optimizers of others do it."""

        class Older(torch.optim.Optimizer):
            @torch.no_grad()
            def step(self, closure: Any = None) -> None:
                with torch.enable_grad():
                    closure()
                p = self.param_groups[0]["params"][0]
                if writes == "into":
                    p.data.add_(step)
                else:
                    p.data = p.data + step
                with torch.enable_grad():
                    found.append(float(closure().detach()))

        problem, found = Problem(seed), []
        frame, bias = problem.point
        step = torch.randn(Q, N, dtype=DOUBLE)
        optimizer = Older(problem.layer.parameters(), {})
        problem.held.follow(optimizer)
        optimizer.step(problem.loss)
        there, _ = curve(frame, step.T, 1.0)
        assert found == [pytest.approx(float(problem.of(there, bias)), rel=1e-13)]
        torch.testing.assert_close(problem.layer.weight.detach().T, there, rtol=0, atol=1e-12)

    def test_the_curves_derivative_is_that_of_differences(self) -> None:
        """Of the tests' own formula."""
        frame, _ = Problem().point
        step = torch.randn(N, Q, dtype=DOUBLE)
        for t in (0.0, 0.8):
            ahead, back = (curve(frame, step, t + h)[0] for h in (1e-6, -1e-6))
            torch.testing.assert_close(curve(frame, step, t)[1], (ahead - back) / 2e-6, rtol=1e-7, atol=1e-8)

    def test_the_gradient_by_coordinates_is_that_of_differences(self) -> None:
        """Entry by entry, away from the start: every slope, and not only the one along the step."""
        problem = Problem()
        frame, bias = problem.point
        step = torch.randn(Q, N, dtype=DOUBLE)
        probe = Probe(problem.layer.parameters(), [step, torch.zeros(Q, dtype=DOUBLE)], [0.6])
        problem.held.follow(probe)
        found: list[Tensor] = []

        def closure() -> Tensor:
            problem.loss().backward()
            found.append(problem.layer.weight.grad)
            return problem.loss().detach()

        probe.step(closure)
        (seen,) = found
        for i in range(Q):
            for j in range(N):
                h = torch.zeros(N, Q, dtype=DOUBLE)
                h[j, i] = 1e-6
                ahead, back = (problem.of(curve(frame, 0.6 * step.T + s * h, 1.0)[0], bias) for s in (1, -1))
                assert float(seen[i, j]) == pytest.approx(float(ahead - back) / 2e-6, rel=1e-6, abs=1e-7)

    def test_where_the_step_starts_nothing_is_moved(self) -> None:
        """The bits of weights and gradients there are those of a step without a search."""
        problem = Problem()
        optimizer = torch.optim.SGD(problem.layer.parameters(), lr=0.1)
        problem.held.follow(optimizer)
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

    def test_a_closure_that_leaves_the_graph_alone_leaves_gradients_alone(self) -> None:
        """Of a loss that is asked for without a gradient, the gradients of before are not turned once more."""
        problem = Problem()
        optimizer = gd(problem.layer.parameters(), lr=1e3)  # several lengths are tried
        problem.held.follow(optimizer)
        frame, bias = problem.point
        optimizer.step(problem.loss)
        expected = skew(frame, problem.slope(frame, bias)[0]) @ frame
        torch.testing.assert_close(problem.layer.weight.grad.T, expected, rtol=0, atol=1e-12)

    def test_a_failing_closure_leaves_the_weights_where_the_step_started(self) -> None:
        problem = Problem()
        optimizer = lbfgs(problem.layer.parameters())
        problem.held.follow(optimizer)
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


class Watched(NamedTuple):
    """A search: the step, what it was told at the start, and where it ended."""

    step: Tensor
    value: float
    slope: float
    t: float
    c1: float
    c2: float | None


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[Watched]:
    """What searches of gd, cg, bfgs and lbfgs were asked and answered."""
    found: list[Watched] = []

    def watching(asked: Any, position: Any, step: Tensor, here: Any, **chosen: Any) -> Any:
        answer = search_along(asked, position, step, here, **chosen)
        assert answer is not None
        wolfe = chosen["line_search"] == "strong_wolfe"
        slope = float(torch.dot(step, here.vector))
        found.append(
            Watched(step, here.number, slope, answer.t, chosen["c1"], chosen["c2"] if wolfe else None)
        )
        return answer

    for module in ("_bfgs", "conjugate", "_lbfgs"):
        monkeypatch.setattr(f"descend.optim.{module}.search_along", watching)
    return found


METHODS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "cg": lambda p: cg(p),
    "bfgs": lambda p: bfgs(p),
    "lbfgs": lambda p: lbfgs(p),
    "lbfgs with Armijo": lambda p: lbfgs(p, line_search="armijo"),
    "long steps": lambda p: lbfgs(p, line_search="armijo", lr=50.0),
}


class TestWhatIsAccepted:
    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("name", METHODS)
    def test_meets_the_tests_of_the_search_where_the_step_leads(
        self, name: str, seed: int, searches: list[Watched]
    ) -> None:
        problem = Problem(seed)
        optimizer = METHODS[name](problem.layer.parameters())
        problem.held.follow(optimizer)
        for _ in range(12):
            frame, bias = problem.point
            optimizer.step(problem.loss)
            (said,) = searches
            searches.clear()
            weight, free = said.step[: Q * N].view(Q, N).T, said.step[Q * N :]
            by_frame, by_bias = problem.slope(frame, bias)
            first = float((by_frame * (skew(frame, weight) @ frame)).sum() + by_bias @ free)
            assert said.slope == pytest.approx(first, rel=1e-10, abs=1e-12)
            assert first < 0
            there, speed = curve(frame, weight, said.t)
            now, own = problem.point
            torch.testing.assert_close(now, there, rtol=0, atol=1e-12)
            assert problem.off() <= 1e-12
            before, after = float(problem.of(frame, bias)), float(problem.of(now, own))
            assert said.value == pytest.approx(before, rel=1e-14)
            assert after <= before + said.c1 * said.t * first + 1e-14
            if said.c2 is not None:
                by_frame, by_bias = problem.slope(now, own)
                last = float((by_frame * speed).sum() + by_bias @ free)
                assert abs(last) <= said.c2 * abs(first) * (1 + 1e-9)

    @pytest.mark.parametrize("c", [1e-4, 0.4])
    def test_gradient_descent_by_armijos_test(self, c: float, monkeypatch: pytest.MonkeyPatch) -> None:
        problem = Problem()
        optimizer = gd(problem.layer.parameters(), lr=8.0, c1=c)
        problem.held.follow(optimizer)
        answers: list[Any] = []

        def watching(*given: Any, **chosen: Any) -> Any:
            answers.append((given[2], armijo(*given, **chosen)))
            return answers[-1][1]

        monkeypatch.setattr("descend.optim.gradient_descent.armijo", watching)
        shares = set()
        for _ in range(25):
            frame, bias = problem.point
            optimizer.step(problem.loss)
            slope, found = answers[-1]
            by_frame, by_bias = problem.slope(frame, bias)
            flow = skew(frame, by_frame) @ frame
            expected = -8.0 * float((by_frame * flow).sum() + by_bias @ by_bias)
            assert slope == pytest.approx(expected, rel=1e-10)
            there, _ = curve(frame, -8.0 * flow, found.t)
            now, own = problem.point
            torch.testing.assert_close(now, there, rtol=0, atol=1e-12)
            assert float(problem.of(now, own)) == found.value  # what is accepted is what happens, to the bit
            assert found.value <= float(problem.of(frame, bias)) + c * found.t * expected + 1e-14
            assert problem.off() <= 1e-12
            shares.add(found.t)
        assert len(shares) > 1

    @pytest.mark.slow
    @pytest.mark.parametrize("iterations", [2, 6])
    def test_several_iterations_a_step_and_pytorchs_own_never_raise_the_loss(self, iterations: int) -> None:
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
            problem.held.follow(optimizer)

            def closure(problem: Problem = problem, optimizer: Any = optimizer) -> Tensor:
                optimizer.zero_grad()
                loss = problem.loss()
                loss.backward()
                return loss

            losses = [float(problem.loss().detach())]
            for _ in range(15):
                optimizer.step(closure)
                losses.append(float(problem.loss().detach()))
                assert problem.off() <= 1e-12
            assert all(later <= earlier + 1e-13 for earlier, later in pairwise(losses))
            assert losses[-1] < losses[0] - 0.1

    @pytest.mark.parametrize("name", ["bfgs", "lbfgs", "cg", "gd"])
    def test_comes_to_the_smallest_eigenvalues(self, name: str) -> None:
        """min tr(Xᵀ A X) over frames is the sum of the q smallest eigenvalues (Ky Fan 1949)."""
        problem = Problem()
        matrix = torch.diag(torch.linspace(1.0, 3.0, N, dtype=DOUBLE))
        settings = {"lr": 0.3} if name == "gd" else {}
        optimizer = OPTIMIZERS[name]([problem.layer.weight], **settings)
        problem.held.follow(optimizer)
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
        assert problem.off() <= 1e-12


class TestPartsOfRows:
    @pytest.mark.parametrize("overlap", [0.5, 1.0])
    def test_pairs_on_a_part_of_the_rows(self, overlap: float) -> None:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
        held = constrain(model, orthogonal(method="cayley"), "0")
        optimizer = lbfgs(model.parameters(), sample_fraction=overlap)
        held.follow(optimizer)
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


class TestFromARecipe:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["gd", "cg", "bfgs", "lbfgs", "coordinate_descent"])
    def test_searches_never_raise_the_loss_of_all_rows(self, name: str) -> None:
        run = descend.train("iris", {**RECIPE, "optimizer": {"name": name}}, seed=0)
        losses = [record["train"]["loss"] for record in run.history]
        assert all(later <= earlier + 1e-6 for earlier, later in pairwise(losses))
        assert losses[-1] < 0.7 * losses[0]
        for name, weight in run.model.named_parameters():
            if name.startswith("linear") and weight.dim() > 1:
                assert float(off_frame(frames_of([weight.detach()]))) <= 1e-6

    @pytest.mark.parametrize("name", ["newton", "trust_region", "subsampled_newton", "sqn"])
    def test_curvature_is_refused_with_what_works(self, name: str, tmp_path: Any) -> None:
        with pytest.raises(
            RecipeError, match=rf"\[constrain\]: {name} asks.*method = 'exponential'.*lbfgs, cg, gd or adamw"
        ):
            descend.train("iris", {**RECIPE, "optimizer": {"name": name}}, out=tmp_path / "run")
        assert not (tmp_path / "run").exists()
