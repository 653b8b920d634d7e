"""Calibration is compared with SciPy's minimizers and scikit-learn's calibrators, and never raises the fitted log-loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from sklearn.calibration import _SigmoidCalibration
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import log_loss

from descend.errors import UserError
from descend.nn.calibration import (
    CALIBRATIONS,
    Calibration,
    IsotonicCalibration,
    PlattScaling,
    TemperatureScaling,
)


def sample(rows: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a network that is too sure of itself, with the classes that a third of them would give."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(rows, classes, generator=generator)
    if classes == 1:
        return logits, torch.bernoulli(torch.sigmoid(logits / 3), generator=generator)
    return logits, torch.multinomial(torch.softmax(logits / 3, 1), 1, generator=generator).squeeze(1)


def log_losses(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None = None) -> float:
    z = logits.double().numpy()
    p = np.concatenate([np.zeros_like(z), z], 1) if z.shape[1] == 1 else z
    p = np.exp(p - p.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return float(log_loss(targets.flatten().numpy(), p, labels=range(p.shape[1]), sample_weight=weights))


@pytest.mark.parametrize("classes", [1, 2, 5])
@pytest.mark.parametrize("rows", [7, 300])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_temperature_minimizes_the_penalized_log_loss(classes, rows, weighted):
    logits, targets = sample(rows, classes)
    weights = torch.rand(rows, generator=torch.Generator().manual_seed(1)) if weighted else None
    scaling = TemperatureScaling()
    scaling.fit(logits, targets, weights)

    def objective(a: float) -> float:
        return log_losses(a * logits.double(), targets, weights) + (a - 1) ** 2 / (2 * rows)

    best = optimize.minimize_scalar(objective, bounds=(1 / 20, 20), method="bounded", options={"xatol": 1e-9})
    assert scaling.factor.item() == pytest.approx(best.x, rel=1e-5)
    if rows > 7:  # a third, by construction
        assert scaling.factor.item() == pytest.approx(1 / 3, abs=0.1)


def test_the_temperature_of_labels_is_common_to_all_of_them():
    logits, targets = zip(*(sample(400, 1, seed) for seed in range(3)), strict=True)
    scaling = TemperatureScaling()
    scaling.fit(torch.cat(logits, 1), torch.cat(targets, 1), labels=True)
    stacked = TemperatureScaling()
    stacked.fit(torch.cat(logits), torch.cat(targets))
    assert scaling.factor.item() == pytest.approx(stacked.factor.item(), rel=5e-3)  # the penalty differs


@pytest.mark.parametrize("rows", [12, 500])
def test_platt_scaling_is_that_of_scikit_learn(rows):
    logits, targets = sample(rows, 1)
    scaling = PlattScaling()
    scaling.fit(logits, targets)
    theirs = _SigmoidCalibration().fit(logits.flatten().numpy().astype(float), targets.flatten().numpy())
    ours = torch.sigmoid(scaling(logits)).flatten().numpy()
    np.testing.assert_allclose(ours, theirs.predict(logits.flatten().numpy().astype(float)), atol=2e-4)


def test_platt_scaling_of_labels_fits_each():
    logits, targets = zip(*(sample(200, 1, seed) for seed in range(3)), strict=True)
    scaling = PlattScaling()
    scaling.fit(torch.cat(logits, 1), torch.cat(targets, 1), labels=True)
    for label in range(3):
        single = PlattScaling()
        single.fit(logits[label], targets[label])
        torch.testing.assert_close(scaling(torch.cat(logits, 1))[:, label], single(logits[label])[:, 0])


def test_platt_scaling_does_not_reverse_the_order():
    logits, targets = sample(500, 1)
    scaling = PlattScaling()
    scaling.fit(-logits, targets)
    assert scaling.factor.item() == 0.0
    assert torch.sigmoid(scaling.shift).item() == pytest.approx(targets.mean().item(), abs=0.01)


@pytest.mark.parametrize("weighted", [False, True])
def test_isotonic_calibration_is_that_of_scikit_learn(weighted):
    logits, targets = sample(400, 1)
    logits = (4 * logits).round() / 4  # with ties
    weights = torch.rand(400, generator=torch.Generator().manual_seed(1)) if weighted else None
    calibration = IsotonicCalibration()
    calibration.fit(logits, targets, weights)
    theirs = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(
        logits.flatten().numpy(), targets.flatten().numpy(), None if weights is None else weights.numpy()
    )
    new = torch.linspace(-12, 12, 1001)[:, None]
    expected = theirs.predict(new.flatten().numpy()).clip(1 / 402, 1 - 1 / 402)
    ours = torch.sigmoid(calibration(new)).flatten().numpy()
    # Between a knot that is bounded and one that is not, the line differs by at most the bound.
    np.testing.assert_allclose(ours, expected, atol=1.1 / 402)
    z = logits.flatten().numpy()
    knots = torch.sigmoid(calibration(logits)).flatten().numpy()
    np.testing.assert_allclose(knots, theirs.predict(z).clip(1 / 402, 1 - 1 / 402), atol=2e-6)


@pytest.mark.parametrize("name", ["temperature", "platt", "isotonic"])
@given(
    logits=st.lists(st.floats(-50, 50), min_size=1, max_size=12),
    bits=st.lists(st.integers(0, 1), min_size=12, max_size=12),
)
def test_the_log_loss_of_the_fitted_rows_never_rises(name, logits, bits):
    z, y = torch.tensor(logits)[:, None], torch.tensor(bits[: len(logits)])
    calibration = CALIBRATIONS[name]()
    assert isinstance(calibration, Calibration)
    calibration.fit(z, y)
    assert torch.isfinite(calibration(z)).all()
    assert log_losses(calibration(z), y) <= log_losses(z, y) * (1 + 1e-5) + 1e-6


def test_rows_without_weight_have_no_effect():
    logits, targets = sample(100, 1)
    weights = torch.cat([torch.ones(50), torch.zeros(50)])
    for name in ("platt", "isotonic"):
        one, other = CALIBRATIONS[name](), CALIBRATIONS[name]()
        assert one is not None
        assert other is not None
        one.fit(logits, targets, weights)
        changed = torch.cat([targets[:50], 1 - targets[50:]])
        other.fit(logits, changed, weights) if name == "isotonic" else other.fit(logits, targets, 2 * weights)
        torch.testing.assert_close(one(logits), other(logits))


def test_states_are_restored_or_refused():
    fitted = IsotonicCalibration()
    fitted.fit(*sample(100, 1))
    restored = IsotonicCalibration()
    restored.restore(dict(fitted.named_buffers()))
    assert torch.equal(restored(torch.tensor([[0.3]])), fitted(torch.tensor([[0.3]])))
    with pytest.raises(UserError, match="expected the tensors"):
        restored.restore({"factor": torch.ones(1)})
    with pytest.raises(UserError, match="expected the tensors"):
        TemperatureScaling().restore({"factor": torch.ones(1, 1)})
