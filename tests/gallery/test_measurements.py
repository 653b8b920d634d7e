"""Measurements of the figures, against closed forms, theorems, SciPy, scikit-learn and independent implementations."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import optimize, special
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from torch import nn

from descend.gallery import paths
from descend.gallery.datasets import digits
from descend.gallery.figures import (
    activations,
    adaptive,
    augmentation,
    batch_norm,
    dropout,
    gd_vs_sgd,
    initialization,
    learning_rate,
    normalization_zoo,
    polynomial,
    race,
    random_vs_grid,
    restarts,
    scaling,
    second_order,
)
from descend.gallery.intervals import repetitions
from descend.gallery.training import network, shuffled
from descend.rng import generator

pytestmark = pytest.mark.slow  # each test may be the first to need a measurement

FIRST = repetitions(0, 1)[0]


class TestPolynomial:
    def test_each_implementation_equals_the_closed_form_of_gradient_descent(self, measurements):
        points, steps, rate = 200, 200, 1e-5
        x = np.linspace(-math.pi, math.pi, points)
        table = np.stack([x**power for power in range(4)], 1)
        start = torch.randn(4, generator=generator(0, "gallery/polynomial"), dtype=torch.float64).numpy()
        best = np.linalg.lstsq(table, np.sin(x), rcond=None)[0]
        shrink = np.linalg.matrix_power(np.eye(4) - rate * 2 * table.T @ table, steps)
        expected = best + shrink @ (start - best)
        assert len(measurements["polynomial"].coefficients) == 5
        for way, weights in measurements["polynomial"].coefficients.items():
            np.testing.assert_allclose(weights.numpy(), expected, atol=1e-10, err_msg=way)
            losses = measurements["polynomial"].losses[way]
            assert losses[0] == pytest.approx(np.square(table @ start - np.sin(x)).sum(), rel=1e-9)

    def test_the_exact_cubic(self, measurements):
        fitted = np.polyfit(
            np.linspace(-math.pi, math.pi, 200), np.sin(np.linspace(-math.pi, math.pi, 200)), 3
        )
        np.testing.assert_allclose(measurements["polynomial"].exact.numpy(), fitted[::-1], atol=1e-12)

    def test_an_implementation_that_differs_is_detected(self, measurements):
        one = measurements["polynomial"]
        other = {**one.coefficients, "wrong": one.exact}
        changed = polynomial.Measurement(
            one.x, other, one.losses, one.exact, one.least, one.adaptive, one.adaptive_losses
        )
        assert not polynomial.picture(changed).supported
        assert polynomial.picture(one).supported


def test_flat_shares_are_tails_of_the_normal_distribution(measurements):
    """|f'(z)| < 0.01 is a tail of z, whose probability is given by the error function."""
    flat = measurements["activations"].flat
    std, flat_below = activations.INPUT_STD, activations.FLAT
    edge = {
        "tanh": math.atanh(math.sqrt(1 - flat_below)),
        "sigmoid": 2 * math.atanh(math.sqrt(1 - 4 * flat_below)),
    }
    for name, at in edge.items():
        assert flat[name].value == pytest.approx(math.erfc(at / std / math.sqrt(2)), abs=4e-3), name
    assert flat["relu"].value == pytest.approx(0.5, abs=0.015)
    assert (flat["sign"].value, flat["leaky_relu"].value) == (1.0, 0.0)
    assert float(measurements["activations"].derivatives["sigmoid"].max()) == pytest.approx(0.25, abs=1e-9)


def test_gradient_descent_shrinks_by_its_eigenvalues(measurements):
    """F(w_k) - F* = sum of λ c² (1 - 2 t λ)^(2k) over the eigenvectors of XᵀX/m."""
    x, y = (part.double().numpy() for part in gd_vs_sgd._problem(FIRST, 1000, 50))
    spectrum, axes = np.linalg.eigh(x.T @ x / len(x))
    best = np.linalg.lstsq(x, y, rcond=None)[0]
    along = spectrum * (axes.T @ best) ** 2
    rate = 1 / (spectrum[0] + spectrum[-1])
    expected = [np.sum(along * (1 - 2 * rate * spectrum) ** (2 * k)) / along.sum() for k in range(5)]
    np.testing.assert_allclose(measurements["gd_vs_sgd"].descent[0].numpy(), expected, rtol=2e-3)
    assert measurements["gd_vs_sgd"].steps.shape == (2, 4 * 50 + 1)
    assert bool((measurements["gd_vs_sgd"].epochs[:, 1] < measurements["gd_vs_sgd"].descent[:, 1]).all())


def test_schedules_match_their_formulas(measurements):
    factors = measurements["schedules"].factors
    epochs = range(32)
    np.testing.assert_allclose(factors["inverse"], [1 / (1 + 0.3 * k) for k in epochs])
    np.testing.assert_allclose(factors["exponential"], [math.exp(-0.08 * k) for k in epochs])
    np.testing.assert_allclose(factors["staircase"], [0.2 ** (k // 15) for k in epochs])
    assert factors["constant"] == [1.0] * 32
    for losses in measurements["schedules"].excess.values():
        assert float(losses.min()) > -1e-5  # none is below the minimum


class TestMomentum:
    def test_gradient_descent_contracts_by_the_same_factor_at_every_step(self, measurements):
        values = measurements["momentum"].values["gradient descent"][:150]
        factor = ((50 - 1) / (50 + 1)) ** 2
        torch.testing.assert_close(
            values[1:] / values[:-1], torch.full_like(values[1:], factor), rtol=1e-6, atol=0
        )

    @pytest.mark.parametrize("name", ["heavy ball", "Nesterov"])
    def test_others_approach_the_theoretical_rate(self, measurements, name):
        k = 50.0
        factor = {
            "heavy ball": (math.sqrt(k) - 1) / (math.sqrt(k) + 1),
            "Nesterov": 1 - 2 / math.sqrt(3 * k + 1),
        }[name]
        values = measurements["momentum"].values[name]
        # With the optimal settings the roots are double, so the error is (a + b k) factor^k.
        measured = (values[140] / values[60]) ** (1 / 160) / (140 / 60) ** (1 / 80)
        torch.testing.assert_close(measured, torch.full_like(measured, factor), rtol=0.02, atol=0)

    def test_the_heavy_ball_equals_polyaks_recursion(self, measurements):
        """x⁺ = x − α ∇f + β (x − x⁻), implemented independently."""
        root = math.sqrt(50.0)
        alpha, beta = 4 / (root + 1) ** 2, ((root - 1) / (root + 1)) ** 2
        path = measurements["momentum"].paths["heavy ball"][:, 0].numpy()
        curvature = np.array([1.0, 50.0])
        before = now = path[0]
        for step in range(1, 30):
            before, now = now, now - alpha * curvature * now + beta * (now - before)
            np.testing.assert_allclose(path[step], now, atol=1e-9)

    def test_nesterov_takes_the_gradient_at_the_extrapolated_point(self, measurements):
        """The two-sequence form, implemented independently."""
        third = math.sqrt(3 * 50.0 + 1)
        alpha, beta = 4 / (3 * 50.0 + 1), (third - 2) / (third + 2)
        path = measurements["momentum"].paths["Nesterov"][:, 0].numpy()
        curvature = np.array([1.0, 50.0])
        old = new = path[0]
        for step in range(30):
            ahead = new + beta * (new - old)
            np.testing.assert_allclose(path[step], new, atol=1e-9)
            old, new = new, ahead - alpha * curvature * ahead


class TestAdaptive:
    @pytest.mark.parametrize("name", ["Adagrad", "RMSprop", "Adam"])
    def test_paths_do_not_depend_on_the_curvature(self, name):
        make = paths.with_lr(adaptive.METHODS[name], 0.1)
        start = torch.tensor([2.0, 2.0])
        short = paths.follow(adaptive.bowl(4.0), start, make, 50)
        long = paths.follow(adaptive.bowl(4000.0), start, make, 50)
        torch.testing.assert_close(short, long, atol=1e-6, rtol=0)
        torch.testing.assert_close(short[:, 0], short[:, 1], atol=1e-6, rtol=0)

    def test_steps_of_gradient_descent(self, measurements):
        """Coordinates shrink by 1 - 2t and 1 - 2tc; the first k at which their norm is small enough."""
        for ratio, steps in zip(
            (1.0, 4.0, 16.0), measurements["adaptive"].steps["gradient descent", False], strict=True
        ):
            t = 1 / (1 + ratio)
            shrink = np.array([1 - 2 * t, 1 - 2 * t * ratio])
            expected = next(
                k for k in range(1000) if np.linalg.norm(shrink**k) / math.sqrt(2) <= adaptive.CLOSE + 1e-12
            )
            assert steps == expected


class TestRace:
    def test_the_stated_minima_are_minima(self):
        for surface in race.SURFACES.values():
            for place in surface.minima:
                point = torch.tensor([float(each) for each in place], dtype=torch.float64, requires_grad=True)
                value = surface.function(point)
                value.backward()
                assert float(point.grad.abs().max()) < 1e-12
                assert value.item() < surface.arrival

    def test_sgd_leaves_the_saddle_as_its_recursion_predicts(self, measurements):
        lr = measurements["race"].lrs["saddle", "SGD"]
        samples = torch.rand(4, 2, generator=generator(0, "gallery/race"), dtype=torch.float64)
        for (_, sample), escape in zip(samples.tolist(), measurements["race"].escapes["SGD"], strict=True):
            y, steps = 10 ** (-4 + 4 * (sample % 0.5)), 0
            while y < 0.5:
                y, steps = y + lr * (y - y**3), steps + 1
            assert escape == steps

    def test_scipy_finds_the_minimum_of_beales_function(self):
        def beale(x):
            return float(paths.beale(torch.tensor(x, dtype=torch.float64)))

        assert optimize.minimize(beale, [1.0, 1.0], method="Nelder-Mead").x == pytest.approx(
            [3, 0.5], abs=1e-3
        )


def test_losses_are_ordered_by_learning_rate(measurements):
    losses = measurements["learning_rate"].losses
    for low, good, loud in zip(losses["low"], losses["good"], losses["very high"], strict=True):
        assert low[0] == good[0] == loud[0]
        assert good[-1] < low[-1] < low[0] < loud[-1]
    rows, labels = digits(FIRST, train=100, noise=0.2).train
    first = nn.functional.cross_entropy(network(FIRST, hidden=(64,))(rows), labels)
    assert losses["good"][0][0] == pytest.approx(first.item(), rel=1e-6)
    assert (
        learning_rate.LEARNING_RATES["low"]
        < learning_rate.LEARNING_RATES["good"]
        < learning_rate.LEARNING_RATES["high"]
    )


def test_sigmoid_layers_pass_a_quarter(measurements):
    """Near 0 the sigmoid's derivative is 1/4, and Xavier's weights keep a vector's length."""
    for norms in measurements["depth"].norms["sigmoid"]:
        for early, late in itertools.pairwise(norms[2:-1]):
            assert 0.19 < early / late < 0.27
    for norms in measurements["depth"].norms["ReLU"]:
        assert 0.1 < norms[0] / norms[-1] < 10


@pytest.fixture(scope="module")
def wide():
    return initialization.measure(3, seeds=3, layers=6, width=512, rows=256)


class TestInitialization:
    @pytest.mark.parametrize("name", [name for name in initialization.SCHEMES if name != "zeros"])
    def test_variance_through_depth(self, wide, name):
        factor = {"normal, σ = 0.01": 1e-4 * 256, "normal, σ = 0.2": 0.04 * 256, "Xavier, gain 1": 0.5}.get(
            name, 1.0
        )
        assert initialization.factor(name, 512) == pytest.approx(factor)
        # The fluctuation of one layer's factor is about √(5/512) = 10 %.
        moments = wide.moments[name].mean(0)
        for layer in range(1, 7):
            assert float(moments[layer] / moments[0]) == pytest.approx(factor**layer, rel=0.35), layer
        gradients = wide.gradients[name].mean(0)
        for layer in range(1, 6):
            assert float(gradients[layer] / gradients[-1]) == pytest.approx(
                factor ** (6 - layer), rel=0.45
            ), layer

    def test_zero_weights_give_no_signal(self, wide):
        assert float(wide.moments["zeros"][:, 1:].abs().max()) == 0.0
        assert float(wide.gradients["zeros"][:, :-1].abs().max()) == 0.0


class TestRestarts:
    def test_the_lowest_is_the_global_minimum(self):
        ground = restarts.landscape(1, 3)
        lowest, _ = restarts._extremes(ground)
        for at in range(3):
            one = restarts.Landscape(ground.amplitudes[at : at + 1], ground.frequencies[at : at + 1])

            def height(x, one=one):
                return float(one.at(torch.tensor(x, dtype=torch.float64).reshape(1, 1, 2)))

            best = optimize.differential_evolution(height, [(-math.pi, math.pi)] * 2, seed=0, maxiter=60)
            assert float(lowest[at]) == pytest.approx(best.fun, abs=1e-4)

    def test_groups_succeed_like_independent_trials(self):
        hits = torch.rand(2, 4096, generator=torch.Generator().manual_seed(0)) < torch.tensor([[0.1], [0.6]])
        measurement = restarts.Measurement(restarts.landscape(0, 2), torch.empty(0), torch.empty(0), hits)
        for count in (1, 2, 8):
            torch.testing.assert_close(
                measurement.success(count), measurement.theory(count), atol=0.04, rtol=0
            )
            assert measurement.theory(count)[0] == pytest.approx(1 - 0.9**count, abs=0.03)

    def test_curvature_is_a_bound(self):
        ground = restarts.landscape(2, 4)
        points = torch.rand(4, 5, 2, dtype=torch.float64)
        for at in range(4):
            for place in points[at]:
                hessian = torch.autograd.functional.hessian(
                    lambda p, at=at: ground.at(p.expand(4, 1, 2))[at, 0], place
                )
                assert float(torch.linalg.eigvalsh(hessian).abs().max()) <= 1.0 + 1e-9


def test_early_stopping_keeps_and_stops_at_the_counted_epochs(measurements):
    for run in measurements["early_stopping"].runs:
        best, kept, stopped = math.inf, 0, len(run.validation)
        for epoch, loss in enumerate(run.validation, 1):
            if loss < best:
                best, kept = loss, epoch
            elif epoch - kept >= 10:
                stopped = epoch
                break
        assert (run.kept, run.stopped) == (kept, stopped)
    assert min(run.stopped for run in measurements["early_stopping"].runs) < 50


class TestScaling:
    def test_condition_numbers(self, measurements):
        measured = measurements["scaling"]
        for kind in scaling.KINDS:
            for r, kappa in zip(
                measured.correlations[kind], measured.conditions[kind, "normalized"], strict=True
            ):
                assert kappa == pytest.approx((1 + abs(r)) / (1 - abs(r)), rel=1e-9)
            assert measured.conditions[kind, "whitened"] == pytest.approx([1.0] * 3, abs=1e-9)

    def test_whitening_equals_that_of_scikit_learn(self):
        rows = scaling.features(0, "dependent", 100)
        ours = scaling.whitened(rows).numpy()
        theirs = PCA(whiten=True).fit_transform(rows.numpy()) * math.sqrt(100 / 99)
        np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-9)

    def test_clouds(self, measurements):
        cloud = measurements["whitening"].clouds["whitened"].numpy()
        np.testing.assert_allclose(np.cov(cloud.T, ddof=0), np.eye(2), atol=1e-12)
        turned = np.cov(measurements["whitening"].clouds["decorrelated"].numpy().T, ddof=0)
        assert abs(turned[0, 1]) < 1e-12
        assert turned[0, 0] > turned[1, 1]


class TestBatchNorm:
    def test_a_probe_equals_evaluation_at_the_moved_parameters(self):
        rows, labels = digits(0, train=100).train
        model = network(0, hidden=(16,), norm="batch").train()
        before = [parameter.detach().clone() for parameter in model.parameters()]
        one = batch_norm.probe(model, rows, labels, 0.1)
        assert all(map(torch.equal, before, (p.detach() for p in model.parameters())))

        def loss_and_gradient():
            model.zero_grad()
            loss = nn.functional.cross_entropy(model(rows), labels)
            loss.backward()
            return float(loss.detach()), torch.cat([p.grad.flatten() for p in model.parameters()])

        _, gradient = loss_and_gradient()
        losses, changes, smooth = [], [], []
        for reach in (0.5, 1.0, 2.0, 4.0):
            nn.utils.vector_to_parameters(
                torch.cat([p.flatten() for p in before]) - reach * 0.1 * gradient, model.parameters()
            )
            loss, there = loss_and_gradient()
            losses.append(loss)
            changes.append(float((there - gradient).norm()))
            smooth.append(changes[-1] / float((reach * 0.1 * gradient).norm()))
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), before, strict=True):
                parameter.copy_(value)
        expected = batch_norm.Probe(min(losses), max(losses), max(changes), max(smooth))
        for name in ("low", "high", "change", "smoothness"):
            assert getattr(one, name) == pytest.approx(getattr(expected, name), rel=1e-3)

    def test_the_loss_of_a_diverged_network_is_that_of_a_guess(self):
        assert batch_norm._end(0, {"norm": "none"}, 30, (16,), 1e6) == pytest.approx(math.log(10))


def test_norms_share_the_entries_of_their_definition(measurements):
    n, c, h, w = normalization_zoo.SHAPE
    sizes = {"batch": n * h * w, "layer": c * h * w, "instance": h * w, "group": c // 2 * h * w}
    assert {name: measurements["normalization_zoo"].size(name) for name in sizes} == sizes
    assert measurements["normalization_zoo"].moved["batch"] > 0.01
    assert {measurements["normalization_zoo"].moved[name] for name in ("layer", "instance", "group")} == {0.0}


class TestAugmentation:
    def test_the_sheet_changes_the_same_scans(self):
        original, strips = augmentation.sheet(0)
        tiles, flipped = original.split(32, 1), strips["flip"].split(32, 1)
        mirrored = [torch.equal(one, other.flip(1)) for one, other in zip(flipped, tiles, strict=True)]
        same = [torch.equal(one, other) for one, other in zip(flipped, tiles, strict=True)]
        assert all(map(bool.__or__, mirrored, same))
        assert any(mirrored)
        assert all(
            strip.shape == original.shape and not torch.equal(strip, original) for strip in strips.values()
        )

    def test_scans_move_by_at_most_a_pixel(self):
        rows = torch.zeros(200, 8, 8)
        rows[:, 4, 4] = 1.0
        moved = augmentation._moved(rows.flatten(1), 1, torch.Generator().manual_seed(0)).reshape(-1, 8, 8)
        places = moved.nonzero()[:, 1:]
        assert len(places) == 200
        assert {tuple(place) for place in places.tolist()} == set(itertools.product((3, 4, 5), repeat=2))

    @pytest.mark.slow
    def test_training_with_shifts_helps_on_shifted_scans(self, measurements):
        more = augmentation.measure(0, seeds=2, epochs=30, train=100, width=32)
        assert bool((more.augmented[:, 1] < more.plain[:, 1]).all())


class TestDropout:
    def test_an_ensemble_approaches_the_mean_over_all_masks(self):
        """Two units have four sub-networks, whose mean is known."""
        rng = torch.Generator().manual_seed(1)
        weight = torch.randn(3, 2, generator=rng)
        model = nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 3, bias=False))
        with torch.no_grad():
            model[1].weight.copy_(weight)
        rows, labels = torch.ones(400, 2), torch.zeros(400, dtype=torch.long)
        ensembles, single, gaps = dropout._ensembles(model, rows, labels, 0)
        masks = [torch.tensor(mask) for mask in itertools.product((0.0, 2.0), repeat=2)]
        mean = torch.stack([(weight @ mask).softmax(0) for mask in masks]).mean(0)
        assert ensembles[-1] == pytest.approx(-math.log(float(mean[0])), abs=0.02)
        assert single == pytest.approx(-float((weight @ torch.ones(2)).log_softmax(0)[0]), abs=1e-5)
        assert gaps[0] > 0.1
        assert gaps[1] == 0.0

    def test_averaging_helps(self, measurements):
        """Jensen: the loss of a mean is at most the mean of losses."""
        assert bool(
            (measurements["dropout"].ensembles[:, -1] < measurements["dropout"].ensembles[:, 0]).all()
        )


class TestRandomVsGrid:
    def test_on_a_table_where_rows_alone_matter(self):
        table = torch.arange(20.0).reshape(-1, 1).expand(20, 20).double()
        assert random_vs_grid.effective(table) == pytest.approx(1.0)
        grids, randoms = random_vs_grid._searched(table, 16, 20_000, 0)
        assert float(grids.mean()) == 2.0  # offsets 0 to 4
        expected = sum((1 - row / 20) ** 16 for row in range(1, 20))
        assert float(randoms.mean()) == pytest.approx(expected, abs=0.03)

    def test_grids_are_placed_at_every_offset(self):
        grids, _ = random_vs_grid._searched(torch.arange(400.0).reshape(20, 20).double(), 16, 1, 0)
        assert sorted(grids.tolist()) == [20.0 * first + second for first in range(5) for second in range(5)]

    def test_a_cell_equals_the_training_of_one_network(self):
        data = digits(FIRST, train=100)
        lrs, decays = random_vs_grid._lattice()
        row, column = 13, 19
        at = row * 20 + column
        rng = generator(FIRST, "gallery/random_vs_grid")
        first = torch.randn(64, 24, generator=rng) * (2 / 64) ** 0.5
        second = torch.randn(24, 10, generator=rng) * 24**-0.5
        model = nn.Sequential(nn.Linear(64, 24, bias=False), nn.ReLU(), nn.Linear(24, 10, bias=False))
        with torch.no_grad():
            model[0].weight.copy_(first.T)
            model[2].weight.copy_(second.T)
        optimizer = torch.optim.SGD(model.parameters(), lr=float(lrs[at]), weight_decay=float(decays[at]))
        for epoch, half in itertools.product(range(4), range(2)):
            chosen = list(shuffled(FIRST, 100, epoch, 50))[half]
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(data.train[0][chosen]), data.train[1][chosen]).backward()
            optimizer.step()
        loss = nn.functional.cross_entropy(model(data.validation[0]), data.validation[1])
        assert float(loss.detach()) < 2.0
        assert float(random_vs_grid._table(FIRST, 4, 100)[row, column]) == pytest.approx(
            float(loss.detach()), rel=1e-4
        )


class TestSecondOrder:
    def test_the_minimum_equals_that_of_scikit_learn(self):
        problem = second_order.Problem(0, 200)
        x, y = problem.x.double().numpy(), problem.y.numpy()
        fitted = LogisticRegression(
            C=1 / (second_order.PENALTY * len(x)), fit_intercept=False, tol=1e-10, max_iter=5000
        ).fit(x, y)
        scores = x @ fitted.coef_.T
        loss = np.mean(special.logsumexp(scores, 1) - scores[np.arange(len(y)), y])
        loss += 0.5 * second_order.PENALTY * np.sum(fitted.coef_**2)
        assert problem.least == pytest.approx(loss, abs=1e-7)

    def test_counts_and_descent(self, measurements):
        traces = measurements["second_order"].traces
        for trace in traces["gradient descent"]:
            assert trace.passes == [float(step) for step in range(61)]
            assert all(later <= earlier + 1e-6 for earlier, later in itertools.pairwise(trace.excess))
        for trace in traces["SGD"]:
            assert trace.passes[-1] == 4.0
        for trace in traces["L-BFGS"]:
            assert trace.passes[-1] <= 62
            assert trace.excess[-1] < 1e-4
