"""The programs under ``examples`` run, and find what they say they find."""

from __future__ import annotations

import importlib
import runpy
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "examples"
WAYS = ["hand_gradient", "autograd", "with_nn", "with_optim", "custom_module"]

pytestmark = pytest.mark.skipif(not EXAMPLES.exists(), reason="the examples are not beside the tests")


@pytest.fixture
def program(monkeypatch):
    """Import a program of the lecture's first problem, as if run in its folder."""
    monkeypatch.syspath_prepend(str(EXAMPLES / "polynomial"))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if name in ("problem", *WAYS):
            del sys.modules[name]


def powers(x):
    return np.stack([x**k for k in range(4)], 1)


class TestPolynomial:
    @pytest.mark.slow
    @pytest.mark.parametrize("steps", [1, 50, 2000])
    def test_all_five_ways_agree_with_the_closed_form_of_gradient_descent(self, program, steps):
        """w_k − w* = (I − 2α A'A)^k (w_0 − w*) for the least-squares cubic w*, A the powers of the points."""
        problem = program("problem")
        a = powers(problem.x.numpy())
        best = np.linalg.solve(a.T @ a, a.T @ np.sin(problem.x.numpy()))
        shrink = np.linalg.matrix_power(np.eye(4) - 2 * problem.RATE * a.T @ a, steps)
        expected = best + shrink @ (np.array(problem.START) - best)
        for way in WAYS:
            np.testing.assert_allclose(program(way).fit(steps), expected, rtol=1e-9, atol=1e-11, err_msg=way)

    def test_the_exact_answer_is_numpy_s(self, program):
        problem = program("problem")
        expected = np.polyfit(problem.x.numpy(), problem.y.numpy(), 3)[::-1]
        np.testing.assert_allclose(problem.least_squares(), expected, atol=1e-10)
        moved = problem.least_squares() + torch.tensor([0.0, 1e-3, 0.0, 0.0])
        assert problem.loss_of(*moved.tolist()) > problem.loss_of(*problem.least_squares().tolist())

    def test_the_lecture_s_steps_come_within_five_percent_of_it(self, program):
        problem = program("problem")
        best = problem.loss_of(*problem.least_squares().tolist())
        assert best < problem.loss_of(*program("autograd").fit()) < 1.05 * best

    @pytest.mark.slow
    def test_rmsprop_comes_closer(self, program):
        from descend.optim import rmsprop

        problem, found = program("problem"), program("with_optim")
        coefficients = found.fit(optimizer_of=lambda params: rmsprop(params, lr=1e-3))
        np.testing.assert_allclose(coefficients, problem.least_squares(), atol=2e-3)

    @pytest.mark.slow
    @pytest.mark.parametrize("way", WAYS)
    def test_each_is_a_program(self, program, way, capsys):
        runpy.run_path(str(EXAMPLES / "polynomial" / f"{way}.py"), run_name="__main__")
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("found: y = ")
        assert "exact: y = " in lines[1]


@pytest.mark.slow
def test_transfer_keeps_what_the_first_digits_taught():
    """Frozen convolutions that were trained on other digits are worth more than frozen ones as they were drawn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so few labelled rows earn some
        found = runpy.run_path(str(EXAMPLES / "transfer.py"))["main"](labelled=10, epochs=40, seeds=3)
    assert len(found) == 5
    assert all(0.4 < accuracy < 1.0 for accuracy in found.values())
    assert found["pretrained, convolutions frozen"] > found["from scratch, convolutions frozen"]


class TestCopyMemory:
    @pytest.fixture
    def program(self):
        return runpy.run_path(str(EXAMPLES / "copy_memory.py"))

    def test_the_task_is_the_paper_s(self, program):
        """Ten symbols, T − 1 blanks, the mark, ten blanks; said after T + 10 steps."""
        inputs, wanted = program["sequences"](5, 7, torch.Generator().manual_seed(0))
        assert inputs.shape == (5, 27, 10)
        told = inputs.argmax(-1)
        assert (told[:, :10] < 8).all()
        assert (told[:, 10:16] == 8).all()
        assert (told[:, 16] == 9).all()
        assert (told[:, 17:] == 8).all()
        assert (wanted[:, :17] == 8).all()
        assert torch.equal(wanted[:, 17:], told[:, :10])

    def test_the_baseline_is_that_of_who_remembers_nothing(self, program):
        """Blanks said for certain, and each of eight symbols with probability 1/8."""
        _, wanted = program["sequences"](50, 6, torch.Generator().manual_seed(0))
        said = torch.full((*wanted.shape, 10), -1e4)
        said[:, :-10, 8] = 0.0
        said[:, -10:, :8] = 0.0
        loss = torch.nn.functional.cross_entropy(said.flatten(0, 1), wanted.flatten())
        assert float(loss) == pytest.approx(program["memoryless"](6), rel=1e-5)

    @pytest.mark.slow
    def test_the_unitary_network_remembers(self, program):
        found = program["main"](delay=10, steps=150, units=64, rate=3e-3)
        assert found["loss"] < 0.1 * found["memoryless"]
        assert found["right"] > 0.95


@pytest.mark.slow
def test_dropout_as_composition_minimises_the_loss_of_the_mean_prediction():
    """Each method is better at its own objective, the loss of a mean is below the mean loss, and they differ by the variance."""
    found = runpy.run_path(str(EXAMPLES / "dropout_as_composition.py"))["main"](steps=500)
    sgd, scgd, asc_pg = (found[name] for name in ("sgd", "scgd", "asc_pg"))
    for other in (scgd, asc_pg):
        assert other[0] < sgd[0] - 0.003
        assert other[1] > sgd[1] + 0.02
    assert all(of_mean < mean_of for of_mean, mean_of, _ in found.values())
    assert all(error < 0.7 for _, _, error in found.values())
