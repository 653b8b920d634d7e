import math

import pytest
import torch

from descend.cards import card
from descend.nn.outputs import OUTPUTS

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
