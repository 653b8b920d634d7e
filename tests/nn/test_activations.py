import math

import pytest
import torch
from scipy import integrate, stats
from torch import nn

from descend.cards import card
from descend.errors import UserError
from descend.nn.activations import ACTIVATIONS, Maxout, activation, gain, is_activation

# Definitions for one number, without torch.
CLOSED_FORMS = {
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "tanh": lambda x: (math.exp(x) - math.exp(-x)) / (math.exp(x) + math.exp(-x)),
    "relu": lambda x: max(0.0, x),
    "leaky_relu": lambda x: max(0.01 * x, x),
    "elu": lambda x: x if x > 0 else math.exp(x) - 1,
    "gelu": lambda x: x * stats.norm.cdf(x),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "selu": lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * (math.exp(x) - 1)),
    "softplus": lambda x: math.log(1 + math.exp(x)),
    "identity": lambda x: x,
}
POINTS = [-3.0, -1.7, -0.5, -0.01, 0.02, 0.4, 1.0, 2.9]


def test_every_activation_except_sign_and_maxout_has_a_closed_form():
    assert set(ACTIVATIONS) - {"sign", "maxout"} == set(CLOSED_FORMS)


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_values(name):
    result = activation(name)(torch.tensor(POINTS, dtype=torch.float64))
    expected = torch.tensor([CLOSED_FORMS[name](x) for x in POINTS], dtype=torch.float64)
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - {"sign"}))
def test_derivatives(name):
    x = torch.tensor([POINTS], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(activation(name), (x,))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_has_a_card(name):
    method = card(ACTIVATIONS[name])
    assert method is not None
    assert method.row.startswith("B")
    assert method.formula
    assert method.summary


def test_settings_reach_the_module():
    x = torch.tensor([-2.0])
    assert activation({"name": "leaky_relu", "negative_slope": 0.25})(x).item() == -0.5
    assert activation({"name": "elu", "alpha": 2.0})(x).item() == pytest.approx(2 * (math.exp(-2) - 1))
    assert isinstance(activation(nn.Mish), nn.Mish)


def test_sign_is_rejected_with_the_reason():
    with pytest.raises(UserError, match="derivative is zero almost everywhere"):
        activation("sign")
    with pytest.raises(UserError, match="derivative is zero almost everywhere"):
        gain("sign")


def test_the_gradient_below_sign_is_zero():
    x = torch.randn(50, dtype=torch.float64, requires_grad=True)
    torch.sign(x).sum().backward()
    assert torch.count_nonzero(x.grad) == 0


def test_a_constructor_that_does_not_return_a_module_is_rejected():
    with pytest.raises(UserError, match=r"expected a constructor of a torch\.nn\.Module, .* returned an int"):
        activation(lambda: 3)


class TestMaxout:
    @pytest.mark.parametrize("k", [1, 2, 3, 5])
    def test_is_the_maximum_of_k_affine_maps(self, k):
        layer = nn.Linear(4, 6 * k).double()
        x = torch.randn(7, 4, dtype=torch.float64)
        result = Maxout(k)(layer(x))
        for unit in range(6):
            rows = range(unit * k, (unit + 1) * k)
            maps = torch.stack([x @ layer.weight[row] + layer.bias[row] for row in rows])
            torch.testing.assert_close(result[:, unit], maps.max(0).values)

    def test_on_images_the_maximum_is_over_channels(self):
        x = torch.randn(2, 6, 5, 4)
        result = Maxout(3)(x)
        assert result.shape == (2, 2, 5, 4)
        torch.testing.assert_close(result[:, 1], x[:, 3:].max(1).values)

    def test_two_maps_represent_relu_and_the_absolute_value(self):
        x = torch.linspace(-2, 2, 9).unsqueeze(1)
        assert torch.equal(Maxout(2)(torch.cat([x, 0 * x], 1)), torch.relu(x))
        assert torch.equal(Maxout(2)(torch.cat([x, -x], 1)), x.abs())

    def test_wrong_widths_are_rejected(self):
        with pytest.raises(UserError, match="does not divide the 5 features"):
            Maxout(2)(torch.zeros(1, 5))
        with pytest.raises(UserError, match="k = 0"):
            Maxout(0)


class TestGain:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("sigmoid", 1.0),
            ("identity", 1.0),
            ("tanh", 5 / 3),
            ("relu", math.sqrt(2)),
            ("leaky_relu", math.sqrt(2 / (1 + 0.01**2))),
            ("selu", 0.75),
        ],
    )
    def test_published_values(self, name, value):
        assert gain(name) == pytest.approx(value, rel=1e-12)

    @pytest.mark.parametrize("name", ["elu", "gelu", "silu", "softplus"])
    def test_second_moment_matches_adaptive_quadrature(self, name):
        form = CLOSED_FORMS[name]

        def integrand(z):
            return form(z) ** 2 * stats.norm.pdf(z)

        moment = sum(integrate.quad(integrand, a, b, epsabs=1e-12)[0] for a, b in [(-20, 0), (0, 20)])
        assert gain(name) == pytest.approx(1 / math.sqrt(moment), rel=1e-6)

    @pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu", "gelu", "silu", "softplus", "maxout"])
    def test_preserves_the_second_moment(self, name):
        z = torch.randn(400_000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        values = gain(name) * activation(name)(z)
        # Up to a few standard errors of this sample.
        error = values.square().std() / math.sqrt(values.numel())
        assert abs(values.square().mean() - 1) < 5 * error

    @pytest.mark.parametrize("k", [2, 3, 5])
    def test_maxout_matches_order_statistics(self, k):
        z = torch.randn(400_000, k, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
        squares = z.max(1).values.square()
        error = squares.std() / math.sqrt(len(squares))
        assert abs(gain(Maxout(k)) ** -2 - squares.mean()) < 5 * error

    def test_depends_on_the_settings(self):
        assert gain(nn.LeakyReLU(1.0)) == pytest.approx(1.0)
        assert gain(nn.ELU(2.0)) != gain(nn.ELU(1.0))

    def test_the_gain_of_maxout_with_two_maps_is_exactly_one(self):
        assert gain("maxout") == pytest.approx(1.0, abs=1e-9)


def test_is_activation():
    assert all(is_activation(activation(name)) for name in set(ACTIVATIONS) - {"sign", "identity"})
    assert not any(is_activation(m) for m in (nn.Identity(), nn.Dropout(), nn.BatchNorm1d(2), nn.Flatten()))
