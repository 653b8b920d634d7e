import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mean_pinball_loss
from tests.support.examples import examples

from descend.cards import card
from descend.nn.outputs import OUTPUTS, rearranged

Z = torch.tensor([[-3.0, 0.5, 2.0], [0.1, -0.2, 40.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("identity", lambda z: z),
        ("sigmoid", lambda z: 1 / (1 + math.exp(-z))),
        ("sine", lambda z: (math.sin(z) + 1) / 2),
    ],
)
def test_elementwise_outputs(name, form):
    expected = torch.tensor([[form(z) for z in row] for row in Z.tolist()], dtype=torch.float64)
    torch.testing.assert_close(OUTPUTS[name]()(Z), expected, rtol=1e-13, atol=1e-13)


def test_softmax():
    expected = torch.tensor(
        [[math.exp(z) / sum(math.exp(w) for w in row) for z in row] for row in Z.tolist()],
        dtype=torch.float64,
    )
    torch.testing.assert_close(OUTPUTS["softmax"]()(Z), expected, rtol=1e-13, atol=1e-30)


def test_softmax_is_invariant_to_a_constant_and_finite():
    softmax = OUTPUTS["softmax"]()
    torch.testing.assert_close(softmax(Z + 5.0), softmax(Z))
    assert softmax(1e4 * Z).isfinite().all()


@pytest.mark.parametrize("name", OUTPUTS)
def test_derivatives(name):
    z = Z.clone().requires_grad_()
    assert torch.autograd.gradcheck(OUTPUTS[name](), (z,))


@pytest.mark.parametrize(("name", "low", "high"), [("sigmoid", 0, 1), ("sine", 0, 1), ("softmax", 0, 1)])
def test_probabilities_lie_in_the_unit_interval(name, low, high):
    values = OUTPUTS[name]()(torch.linspace(-50, 50, 1001).unsqueeze(1).repeat(1, 2))
    assert low <= values.min() <= values.max() <= high


def test_links_name_the_inverse():
    assert {name: constructor().link for name, constructor in OUTPUTS.items()} == {
        "identity": "identity",
        "sigmoid": "logit",
        "sine": "arcsine",
        "softmax": "logit",
        "exp": "log",
        "gaussian_mean": "gaussian",
        "negative_binomial_mean": "negative_binomial",
        "middle_quantile": "quantiles",
    }
    p = OUTPUTS["sigmoid"]()(Z[:1])
    torch.testing.assert_close(torch.logit(p), Z[:1])
    z = torch.linspace(-1.5, 1.5, 7, dtype=torch.float64)
    torch.testing.assert_close(torch.arcsin(2 * OUTPUTS["sine"]()(z) - 1), z)


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_output_has_a_card(name):
    method = card(OUTPUTS[name])
    assert method is not None
    assert method.row in ("B9", "K12")
    assert method.formula


@settings(max_examples=examples(60), deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 5), targets=st.integers(1, 3))
def test_sorted_quantiles_do_not_cross_and_never_have_a_larger_pinball_loss(seed, count, targets):
    """Chernozhukov et al. 2010, with the loss of scikit-learn: of each row, the sum over the levels never rises."""
    rng = np.random.default_rng(seed)
    levels = tuple(rng.choice(np.arange(1, 20), count, replace=False) / 20)
    outputs = torch.tensor(rng.normal(size=(7, count * targets)))
    quantiles = rearranged(outputs, levels).numpy()
    ascending = quantiles[:, np.argsort(levels)]
    assert (np.diff(ascending, axis=1) >= 0).all()
    raw = outputs.numpy().reshape(7, count, targets)
    np.testing.assert_array_equal(ascending, np.sort(raw, axis=1))
    y = rng.normal(size=(7, targets))
    for row in range(7):
        before, after = (
            sum(mean_pinball_loss(y[row], q[row, at], alpha=level) for at, level in enumerate(levels))
            for q in (raw, quantiles)
        )
        assert after <= before + 1e-12


def test_quantiles_that_do_not_cross_are_unchanged():
    outputs = torch.tensor([[3.0, 30.0, 1.0, 10.0, 2.0, 20.0]])  # two targets at the levels 0.9, 0.1 and 0.5
    assert torch.equal(rearranged(outputs, (0.9, 0.1, 0.5)), outputs.reshape(1, 3, 2))
