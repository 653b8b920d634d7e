"""The unitary map compared with the dense product of its factors; modReLU and the network compared with loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples
from torch import nn

import descend
from descend.errors import RecipeError, UserError
from descend.export import load_exported
from descend.nn import ModReLU, UnitaryMap, UnitaryRNN, unitary_rnn
from descend.regularization import decayed_parameters

DOUBLE, COMPLEX = torch.float64, torch.complex128


def seeded(seed: int = 0) -> None:
    torch.manual_seed(seed)


def dense(unitary: UnitaryMap) -> torch.Tensor:
    """D₃ R₂ F⁻¹ D₂ Π R₁ F D₁ as a product of N × N matrices."""
    n = len(unitary.order)
    k = torch.arange(n, dtype=DOUBLE)
    fourier = torch.exp(-2j * math.pi * torch.outer(k, k) / n) / math.sqrt(n)
    permutation = torch.zeros(n, n, dtype=COMPLEX)
    permutation[torch.arange(n), unitary.order] = 1

    def diagonal(angle: torch.Tensor) -> torch.Tensor:
        return torch.diag(torch.exp(1j * angle.detach()))

    def reflection(pairs: torch.Tensor) -> torch.Tensor:
        v = torch.complex(*pairs.detach().chunk(2))
        return torch.eye(n, dtype=COMPLEX) - 2 * torch.outer(v, v.conj()) / v.norm() ** 2

    d1, d2, d3 = (diagonal(getattr(unitary, f"angle{i}")) for i in (1, 2, 3))
    r1, r2 = (reflection(getattr(unitary, f"mirror{i}")) for i in (1, 2))
    return d3 @ r2 @ fourier.conj().T @ d2 @ permutation @ r1 @ fourier @ d1


class TestUnitaryMap:
    @pytest.mark.parametrize("units", [1, 2, 5, 16])
    def test_is_the_product_of_its_factors(self, units: int) -> None:
        seeded()
        unitary = UnitaryMap(units).double()
        h = torch.randn(7, units, dtype=COMPLEX)
        torch.testing.assert_close(unitary(h).detach(), h @ dense(unitary).T, rtol=0, atol=1e-13)

    @given(st.integers(1, 40), st.integers(0, 1000), st.floats(0.01, 100))
    @settings(deadline=None, max_examples=examples(30))
    def test_preserves_the_norm_for_all_parameters(self, units: int, seed: int, scale: float) -> None:
        seeded(seed)
        unitary = UnitaryMap(units)
        with torch.no_grad():
            for p in unitary.parameters():
                p.copy_(scale * torch.randn_like(p))
        h = torch.randn(5, units, dtype=torch.complex64)
        torch.testing.assert_close(unitary(h).norm(dim=1), h.norm(dim=1), rtol=1e-5, atol=0)

    def test_a_thousand_steps_preserve_the_norm(self) -> None:
        seeded()
        unitary = UnitaryMap(64)
        h = start = torch.randn(3, 64, dtype=torch.complex64)
        with torch.no_grad():
            factors = unitary.factors()
            for _ in range(1000):
                h = unitary(h, factors)
        torch.testing.assert_close(h.norm(dim=1), start.norm(dim=1), rtol=1e-4, atol=0)

    def test_the_adjoint_preserves_the_norm_of_gradients(self) -> None:
        seeded()
        unitary = UnitaryMap(12).double()
        h = torch.randn(4, 12, dtype=COMPLEX, requires_grad=True)
        g = torch.randn(4, 12, dtype=COMPLEX)
        (gradient,) = torch.autograd.grad(unitary(h), h, g)
        torch.testing.assert_close(gradient.norm(dim=1), g.norm(dim=1), rtol=1e-12, atol=0)

    def test_has_seven_real_parameters_per_unit_without_weight_decay(self) -> None:
        unitary = UnitaryMap(10)
        assert sum(p.numel() for p in unitary.parameters()) == 70
        assert all(p.is_floating_point() for p in unitary.parameters())
        assert decayed_parameters(unitary)[0] == []

    def test_gradients_match_finite_differences(self) -> None:
        seeded()
        unitary = UnitaryMap(3).double()
        h = torch.randn(2, 3, dtype=COMPLEX, requires_grad=True)

        def apply(h: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
            names = [name for name, _ in unitary.named_parameters()]
            outputs = torch.func.functional_call(unitary, dict(zip(names, parameters, strict=True)), (h,))
            return torch.view_as_real(outputs)

        assert torch.autograd.gradcheck(apply, (h, *unitary.parameters()))


class TestModReLU:
    def test_matches_its_definition(self) -> None:
        z = torch.tensor([3 + 4j, 0.3 - 0.4j, -2j, 0j], dtype=COMPLEX)
        act = ModReLU(4).double()
        with torch.no_grad():
            act.bias.copy_(torch.tensor([-1.0, -0.6, 0.5, -0.1]))
        expected = torch.tensor([4 * (0.6 + 0.8j), 0, -2.5j, 0], dtype=COMPLEX)
        torch.testing.assert_close(act(z).detach(), expected, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("modulus", [1e-5, 1e-4, 1e-3, 1.0, 1e3])
    def test_matches_its_definition_beyond_the_smoothed_jump(self, modulus: float) -> None:
        act = ModReLU(1).double()
        nn.init.constant_(act.bias, 0.5)
        z = torch.tensor([modulus * (0.6 + 0.8j)], dtype=COMPLEX)
        assert act(z).abs().item() == pytest.approx(modulus + 0.5, rel=1e-12)

    def test_is_continuous_at_the_edge_of_the_smoothed_jump(self) -> None:
        act = ModReLU(1).double()
        nn.init.constant_(act.bias, 0.5)
        inner, outer = (
            act(torch.tensor([1e-5 * f + 0j], dtype=COMPLEX)).abs().item() for f in (1 - 1e-9, 1 + 1e-9)
        )
        assert inner == pytest.approx(outer, rel=1e-8)
        assert act(torch.zeros(1, dtype=COMPLEX)).abs().item() == 0.0

    def test_is_initially_the_identity(self) -> None:
        z = torch.randn(5, 8, dtype=torch.complex64)
        assert torch.equal(ModReLU(8)(z), z)

    def test_gradients_at_zero_are_finite(self) -> None:
        z = torch.zeros(3, dtype=torch.complex64, requires_grad=True)
        act = ModReLU(3)
        with torch.no_grad():
            act.bias.copy_(torch.tensor([0.0, 0.5, -0.5]))
        act(z).abs().sum().backward()
        assert z.grad is not None
        assert torch.isfinite(torch.view_as_real(z.grad)).all()
        assert torch.isfinite(act.bias.grad).all()


class TestUnitaryRNN:
    def test_matches_its_recurrence(self) -> None:
        """The recurrence with the dense matrix, step by step."""
        seeded()
        model = UnitaryRNN(3, 2, units=5).double()
        with torch.no_grad():
            model.act.bias.uniform_(-0.2, 0.2)
            x, w = torch.randn(4, 6, 3, dtype=DOUBLE), dense(model.turn)
            h = torch.complex(*model.start.chunk(2)).expand(4, -1)
            for step in range(6):
                inputs = x[:, step] @ model.reading.weight.T
                z = h @ w.T + torch.complex(inputs[:, :5], inputs[:, 5:])
                h = torch.relu(z.abs() + model.act.bias) * z / z.abs()
                expected = torch.cat([h.real, h.imag], 1) @ model.output.weight.T + model.output.bias
                torch.testing.assert_close(model(x)[:, step], expected, rtol=0, atol=1e-4)
            torch.testing.assert_close(model.last(x), model(x)[:, -1], rtol=0, atol=1e-14)

    @pytest.mark.slow
    def test_gradients_neither_vanish_nor_explode(self) -> None:
        """If modReLU is the identity, dF/dh₀ and dF/dh_T have the same norm after 500 steps; with a tanh network they do not."""
        seeded()
        model = UnitaryRNN(1, 1, units=32).double()
        torch.nn.init.zeros_(model.reading.weight)
        h = torch.complex(*model.start.detach().chunk(2))[None].requires_grad_()
        state = h
        for _ in range(500):
            state = model.act(model.turn(state))
        g = torch.randn_like(state)
        (gradient,) = torch.autograd.grad(state, h, g)
        assert float(gradient.norm() / g.norm()) == pytest.approx(1.0, rel=1e-9)
        plain = torch.nn.RNN(1, 32).double()
        first = torch.randn(1, 1, 32, dtype=DOUBLE, requires_grad=True)
        (vanished,) = torch.autograd.grad(
            plain(torch.zeros(500, 1, 1, dtype=DOUBLE), first)[0][-1].sum(), first
        )
        assert float(vanished.norm()) < 1e-20

    def test_the_initial_state_has_norm_one_on_average(self) -> None:
        seeded()
        squares = [float(UnitaryRNN(1, 1, units=64).start.detach().square().sum()) for _ in range(50)]
        assert np.mean(squares) == pytest.approx(1.0, abs=0.05)


class TestRecipe:
    @pytest.mark.parametrize(
        ("shape", "steps"), [((9,), (9, 1)), ((4, 3), (4, 3)), ((2, 3, 4), (12, 2))], ids=str
    )
    def test_rows_of_any_shape_are_processed_step_by_step(
        self, shape: tuple[int, ...], steps: tuple[int, int]
    ) -> None:
        seeded()
        model = unitary_rnn(shape, 5, units=6)
        rows = torch.randn(3, *shape)
        sequence = rows.flatten(2).mT if len(shape) == 3 else rows.reshape(3, *steps)
        assert sequence.shape == (3, *steps)
        assert torch.equal(model(rows), model.network(sequence)[:, -1])

    def test_other_shapes_are_rejected(self) -> None:
        with pytest.raises(UserError, match=r"expected rows of shape.*got rows of shape \(1, 2, 3, 4\)"):
            unitary_rnn((1, 2, 3, 4), 2)

    @pytest.mark.slow
    def test_trains_and_is_exported(self, tmp_path) -> None:
        """The class is the sign of the first of eight numbers; seven steps of noise follow."""
        rng = np.random.default_rng(0)
        x = rng.normal(size=(240, 8, 1)).astype(np.float32)
        y = (x[:, 0, 0] > 0).astype(int)
        recipe = {
            "model": {"name": "unitary_rnn", "units": 8},
            "optimizer": {"lr": 0.02},
            "stop": {"max_epochs": 10},
            "engine": {"threads": 1, "device": "cpu"},
        }
        run = descend.train((x, y), recipe, seed=0, out=tmp_path / "run")
        assert run.metrics["test"]["accuracy"] > 0.85
        loaded = descend.load(tmp_path / "run")
        np.testing.assert_array_equal(loaded.predict_proba(x[:9]), run.predict_proba(x[:9]))
        exported = load_exported(run.export("safetensors", tmp_path)).predict_proba(x[:9])
        np.testing.assert_allclose(exported, run.predict_proba(x[:9]), rtol=1e-4, atol=1e-5)

    def test_a_setting_outside_its_domain_is_rejected(self) -> None:
        with pytest.raises(RecipeError, match="units"):
            descend.Recipe(model={"name": "unitary_rnn", "units": 0})
