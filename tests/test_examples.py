"""The programs under ``examples`` run, and print the expected results."""

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
PROGRAMS = ["hand_gradient", "autograd", "with_nn", "with_optim", "custom_module"]

pytestmark = pytest.mark.skipif(not EXAMPLES.exists(), reason="the examples are not installed")


@pytest.fixture
def program(monkeypatch):
    """Import a program of the polynomial example, as if run in its folder."""
    monkeypatch.syspath_prepend(str(EXAMPLES / "polynomial"))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if name in ("problem", *PROGRAMS):
            del sys.modules[name]


def powers(x):
    return np.stack([x**k for k in range(4)], 1)


class TestPolynomial:
    @pytest.mark.slow
    @pytest.mark.parametrize("steps", [1, 50, 2000])
    def test_all_programs_agree_with_the_closed_form_of_gradient_descent(self, program, steps):
        """w_k − w* = (I − 2α A'A)^k (w_0 − w*) for the least-squares cubic w*, A the powers of the points."""
        problem = program("problem")
        a = powers(problem.x.numpy())
        best = np.linalg.solve(a.T @ a, a.T @ np.sin(problem.x.numpy()))
        shrink = np.linalg.matrix_power(np.eye(4) - 2 * problem.LR * a.T @ a, steps)
        expected = best + shrink @ (np.array(problem.START) - best)
        for name in PROGRAMS:
            np.testing.assert_allclose(
                program(name).fit(steps), expected, rtol=1e-9, atol=1e-11, err_msg=name
            )

    def test_the_exact_solution_agrees_with_numpy(self, program):
        problem = program("problem")
        expected = np.polyfit(problem.x.numpy(), problem.y.numpy(), 3)[::-1]
        np.testing.assert_allclose(problem.least_squares(), expected, atol=1e-10)
        moved = problem.least_squares() + torch.tensor([0.0, 1e-3, 0.0, 0.0])
        assert problem.loss_of(*moved.tolist()) > problem.loss_of(*problem.least_squares().tolist())

    @pytest.mark.slow
    def test_gradient_descent_comes_within_five_percent_of_the_minimum(self, program):
        problem = program("problem")
        best = problem.loss_of(*problem.least_squares().tolist())
        assert best < problem.loss_of(*program("autograd").fit()) < 1.05 * best

    @pytest.mark.slow
    def test_rmsprop_comes_closer(self, program):
        from descend.optim import rmsprop

        problem, with_optim = program("problem"), program("with_optim")
        coefficients = with_optim.fit(optimizer_of=lambda params: rmsprop(params, lr=1e-3))
        np.testing.assert_allclose(coefficients, problem.least_squares(), atol=2e-3)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", PROGRAMS)
    def test_each_runs_as_a_program(self, program, name, capsys):
        runpy.run_path(str(EXAMPLES / "polynomial" / f"{name}.py"), run_name="__main__")
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("fitted: y = ")
        assert "exact: y = " in lines[1]


@pytest.mark.slow
def test_transfer_helps_frozen_convolutions():
    """Frozen convolutions trained on other digits are better than frozen convolutions with random weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the small number of rows
        result = runpy.run_path(str(EXAMPLES / "transfer.py"))["main"](labeled=10, epochs=40, seeds=3)
    assert len(result) == 5
    assert all(0.4 < accuracy < 1.0 for accuracy in result.values())
    assert result["pretrained, convolutions frozen"] > result["from scratch, convolutions frozen"]


class TestCopyMemory:
    @pytest.fixture
    def program(self):
        return runpy.run_path(str(EXAMPLES / "copy_memory.py"))

    def test_the_task_is_that_of_the_paper(self, program):
        """Ten symbols, T − 1 blanks, the signal, ten blanks; the targets follow after T + 10 steps."""
        inputs, targets = program["sequences"](5, 7, torch.Generator().manual_seed(0))
        assert inputs.shape == (5, 27, 10)
        symbols = inputs.argmax(-1)
        assert (symbols[:, :10] < 8).all()
        assert (symbols[:, 10:16] == 8).all()
        assert (symbols[:, 16] == 9).all()
        assert (symbols[:, 17:] == 8).all()
        assert (targets[:, :17] == 8).all()
        assert torch.equal(targets[:, 17:], symbols[:, :10])

    def test_the_baseline_is_that_of_a_predictor_without_memory(self, program):
        """Blanks with probability 1, and each of the eight symbols with probability 1/8."""
        _, targets = program["sequences"](50, 6, torch.Generator().manual_seed(0))
        outputs = torch.full((*targets.shape, 10), -1e4)
        outputs[:, :-10, 8] = 0.0
        outputs[:, -10:, :8] = 0.0
        loss = torch.nn.functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())
        assert float(loss) == pytest.approx(program["memoryless"](6), rel=1e-5)

    @pytest.mark.slow
    def test_the_unitary_network_remembers(self, program):
        result = program["main"](delay=10, steps=150, units=64, lr=3e-3)
        assert result["loss"] < 0.1 * result["memoryless"]
        assert result["correct"] > 0.95


@pytest.mark.slow
def test_dropout_as_composition_minimizes_the_loss_of_the_mean_prediction():
    """Each method is better at its own objective, and the loss of the mean is below the mean loss, by the variance."""
    result = runpy.run_path(str(EXAMPLES / "dropout_as_composition.py"))["main"](steps=500)
    sgd, scgd, asc_pg = (result[name] for name in ("sgd", "scgd", "asc_pg"))
    for other in (scgd, asc_pg):
        assert other[0] < sgd[0] - 0.003
        assert other[1] > sgd[1] + 0.02
    assert all(of_mean < mean_of for of_mean, mean_of, _ in result.values())
    assert all(error < 0.7 for _, _, error in result.values())
