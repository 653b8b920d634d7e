import math
import warnings

import pytest
import torch
from torch import nn

from descend.cards import card
from descend.errors import UserError
from descend.nn._mlp import mlp
from descend.nn.activations import gain
from descend.nn.init import INITS, initialize
from descend.nn.normalization import weight as weight_norm

D_OUT, D_IN = 500, 2000  # 10⁶ entries, and the two fans differ


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def filled(name, shape, g=1.0, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the negative examples warn
        scheme = INITS[name](**settings)
    weight = torch.full(shape, math.nan)
    scheme(weight, g, seeded())
    return weight


def assert_moments(weight, variance, shape):
    """Mean, variance and kurtosis of 10⁶ independent samples, within five standard errors."""
    w = weight.double().flatten()
    n = len(w)
    kurtosis, eighth = {"normal": (3.0, 105.0), "uniform": (9 / 5, 9.0)}[shape]
    assert abs(w.mean()) < 5 * math.sqrt(variance / n)
    assert abs(w.square().mean() / variance - 1) < 5 * math.sqrt((kurtosis - 1) / n)
    assert abs(w.pow(4).mean() / variance**2 - kurtosis) < 5 * math.sqrt((eighth - kurtosis**2) / n)


@pytest.mark.parametrize("g", [1.0, math.sqrt(2.0), 5 / 3])
@pytest.mark.parametrize(
    ("name", "settings", "scale", "shape"),
    [
        ("xavier_normal", {}, 2 / (D_IN + D_OUT), "normal"),
        ("xavier_uniform", {}, 2 / (D_IN + D_OUT), "uniform"),
        ("kaiming_normal", {}, 1 / D_IN, "normal"),
        ("kaiming_uniform", {}, 1 / D_IN, "uniform"),
        ("geometric", {}, 1 / math.sqrt(D_IN * D_OUT), "normal"),
        ("kaiming_normal", {"mode": "fan_out"}, 1 / D_OUT, "normal"),
        ("kaiming_uniform", {"mode": "fan_out"}, 1 / D_OUT, "uniform"),
    ],
)
def test_moments_of_a_million_samples(name, settings, scale, shape, g):
    assert_moments(filled(name, (D_OUT, D_IN), g, **settings), g**2 * scale, shape)


@pytest.mark.parametrize(
    ("name", "scale", "shape"),
    [
        ("xavier_normal", 2 / (9 * 400 + 9 * 300), "normal"),
        ("xavier_uniform", 2 / (9 * 400 + 9 * 300), "uniform"),
        ("geometric", 1 / (9 * math.sqrt(400 * 300)), "normal"),
        ("kaiming_normal", 1 / (9 * 400), "normal"),
        ("kaiming_uniform", 1 / (9 * 400), "uniform"),
    ],
)
def test_the_fan_of_a_convolution_includes_its_kernel(name, scale, shape):
    assert_moments(filled(name, (300, 400, 3, 3)), scale, shape)


@pytest.mark.parametrize(
    ("name", "equal"), [("geometric", True), ("kaiming_normal", False), ("xavier_normal", False)]
)
def test_geometric_equalizes_the_ratio_of_gradient_to_weight(name, equal):
    """The property of Defazio and Bottou, for widths from 32 to 512; other schemes have ratios that depend on the widths."""
    widths = (512, 32, 256, 64)
    ratios = torch.zeros(5, dtype=torch.float64)
    for seed in range(40):
        model = mlp((64,), 64, hidden=widths).double()
        initialize(model, INITS[name](), generator=seeded(seed), last_layer_gain=math.sqrt(2.0))
        x = torch.randn(200, 64, dtype=torch.float64, generator=seeded(seed + 1000))
        signs = torch.randn(200, 64, dtype=torch.float64, generator=seeded(seed + 2000))
        (model(x) * signs).sum().backward()
        layers = [m for m in model if isinstance(m, nn.Linear)]
        ratios += torch.stack([m.weight.grad.square().mean() / m.weight.square().mean() for m in layers])
    quotient = (ratios.max() / ratios.min()).item()
    assert (quotient < 1.6) == equal, quotient
    assert equal or quotient > 3


def test_normal_has_the_given_standard_deviation():
    assert_moments(filled("normal", (D_OUT, D_IN), g=7.0, std=0.3), 0.09, "normal")


@pytest.mark.parametrize(
    "name", ["xavier_normal", "xavier_uniform", "kaiming_normal", "kaiming_uniform", "orthogonal"]
)
def test_weights_equal_those_of_torch(name):
    expected = torch.empty(30, 20)
    if name.startswith("kaiming"):
        getattr(nn.init, name + "_")(expected, nonlinearity="relu", generator=seeded())
    else:
        getattr(nn.init, name + "_")(expected, gain=math.sqrt(2.0), generator=seeded())
    torch.testing.assert_close(filled(name, (30, 20), math.sqrt(2.0)), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("shape", [(40, 40), (60, 20), (20, 60), (16, 3, 3, 3), (8, 5, 3, 3)])
def test_orthogonal(shape):
    matrix = filled("orthogonal", shape, 1.5).flatten(1).double()
    rows, columns = matrix.shape
    product = matrix @ matrix.T if rows <= columns else matrix.T @ matrix
    torch.testing.assert_close(product, 2.25 * torch.eye(min(rows, columns)).double(), atol=1e-5, rtol=0)


def test_orthogonal_is_uniform_over_the_group():
    """Haar measure: E[Q] = 0 and E[Q_ij²] = 1/d; without the sign correction of QR the diagonal is biased."""
    scheme, generator = INITS["orthogonal"](), seeded()
    samples = torch.empty(4000, 3, 3)
    for q in samples:
        scheme(q, 1.0, generator)
    error = math.sqrt(1 / 3 / 4000)
    assert samples.mean(0).abs().max() < 5 * error
    assert (samples.square().mean(0) - 1 / 3).abs().max() < 5 * error


def test_constant_schemes():
    assert torch.equal(filled("zeros", (3, 2)), torch.zeros(3, 2))
    assert torch.equal(filled("constant", (3, 2), value=0.5), torch.full((3, 2), 0.5))


@pytest.mark.parametrize(("name", "message"), [("zeros", "gradient zero"), ("constant", "remain equal")])
def test_negative_examples_warn(name, message):
    with pytest.warns(UserWarning, match=message):
        INITS[name]()


class TestNegativeExamples:
    def train(self, name, **settings):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # these tests verify the warnings
            model = mlp((4,), 1, hidden=(5, 5), activation="tanh")
            initialize(model, INITS[name](**settings), generator=seeded())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        x, y = torch.randn(20, 4, generator=seeded()), torch.randn(20, 1, generator=seeded(1))
        for _ in range(20):
            optimizer.zero_grad()
            (model(x) - y).square().mean().backward()
            optimizer.step()
        return model

    def test_zeros_never_change(self):
        model = self.train("zeros")
        assert all(torch.count_nonzero(model[k].weight) == 0 for k in (0, 2, 4))

    def test_constants_remain_equal(self):
        model = self.train("constant", value=0.3)
        first = model[0].weight
        assert not torch.equal(first, torch.full_like(first, 0.3))  # the weights have changed
        torch.testing.assert_close(first, first[:1].expand_as(first))


class TestInitialize:
    def variances(self, model, scheme="kaiming_normal", **settings):
        initialize(model, INITS[scheme](), generator=seeded(), **settings)
        return [
            (m.weight.double().square().mean() * m.weight[0].numel()).item()
            for m in model.modules()
            if isinstance(m, nn.Linear | nn.Conv2d)
        ]

    def test_each_layer_has_the_gain_of_its_activation(self):
        model = nn.Sequential(
            nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, 400), nn.Dropout(), nn.Tanh(), nn.Linear(400, 400)
        )
        assert self.variances(model) == pytest.approx([2.0, 25 / 9, 1.0], rel=0.03)

    def test_a_given_gain_applies_to_all_layers_except_the_last(self):
        model = nn.Sequential(
            nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, 400)
        )
        variances = self.variances(model, gain=3.0, last_layer_gain=0.5)
        assert variances == pytest.approx([9.0, 9.0, 0.25], rel=0.03)

    def test_maxout(self):
        assert self.variances(mlp((400,), 400, hidden=(400,), activation="maxout")) == pytest.approx(
            [gain("maxout") ** 2, 1.0], rel=0.03
        )

    def test_biases_and_norms_are_reset(self):
        model = mlp((3,), 2, hidden=(6, 6), norm="batch")
        model(torch.randn(9, 3))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(7.0)
        initialize(model, INITS["orthogonal"](), generator=seeded())
        assert all(
            torch.count_nonzero(model.get_submodule(n).bias) == 0 for n in ("linear1", "linear2", "output")
        )
        for name in ("norm1", "norm2"):
            norm = model.get_submodule(name)
            assert torch.equal(norm.weight, torch.ones(6))
            assert torch.equal(norm.bias, torch.zeros(6))
            assert torch.equal(norm.running_mean, torch.zeros(6))
            assert torch.equal(norm.running_var, torch.ones(6))
            assert norm.num_batches_tracked == 0

    @pytest.mark.parametrize(
        "norm", [nn.LayerNorm(6), nn.GroupNorm(2, 6), nn.LayerNorm(6, elementwise_affine=False)]
    )
    def test_other_norms_are_reset(self, norm):
        with torch.no_grad():
            for parameter in norm.parameters():
                parameter.fill_(7.0)
        initialize(nn.Sequential(norm), INITS["orthogonal"](), generator=seeded())
        assert all(set(p.unique().tolist()) <= {0.0, 1.0} for p in norm.parameters())

    def test_a_weight_normalized_layer_has_the_weight_of_a_plain_one(self):
        plain, normed = nn.Linear(5, 4), weight_norm(nn.Linear(5, 4))
        for layer in (plain, normed):
            initialize(layer, INITS["xavier_normal"](), generator=seeded())
        torch.testing.assert_close(normed.weight, plain.weight)
        g, v = normed.parametrizations.weight.original0, normed.parametrizations.weight.original1
        assert torch.equal(v, plain.weight)
        torch.testing.assert_close(g, plain.weight.norm(dim=1, keepdim=True))
        assert torch.count_nonzero(normed.bias) == 0

    @pytest.mark.parametrize(
        ("name", "settings"), [("zeros", {}), ("normal", {"std": 0.0}), ("constant", {"value": 0.0})]
    )
    @pytest.mark.filterwarnings("ignore:init")  # the warning of zeros
    def test_zero_weights_of_a_weight_normalized_layer_are_rejected(self, name, settings):
        """w = g v/‖v‖ would be 0/0, and training would produce NaN."""
        with pytest.raises(UserError, match="is undefined"):
            initialize(weight_norm(nn.Linear(5, 4)), INITS[name](**settings), generator=seeded())

    def test_depends_only_on_the_generator(self):
        states = []
        for seed in (0, 0, 1):
            model = mlp((3,), 2, hidden=(4,))
            initialize(model, INITS["kaiming_uniform"](), generator=seeded(seed))
            states.append(torch.cat([p.flatten() for p in model.parameters()]))
        assert torch.equal(states[0], states[1])
        assert not torch.equal(states[0], states[2])

    def test_does_not_change_the_global_random_state(self):
        before = torch.get_rng_state()
        model = mlp((3,), 2, hidden=(4,))
        torch.set_rng_state(before)
        for name in INITS:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the negative examples warn
                initialize(model, INITS[name](), generator=seeded())
        assert torch.equal(before, torch.get_rng_state())

    def test_torch_changes_nothing(self):
        model = mlp((3,), 2, hidden=(4,))
        before = {name: value.clone() for name, value in model.state_dict().items()}
        initialize(model, INITS["torch"](), generator=seeded())
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    def test_keeps_requires_grad_and_dtype(self):
        model = mlp((3,), 2, hidden=(4,)).double()
        initialize(model, INITS["orthogonal"](), generator=seeded())
        assert all(p.requires_grad and p.is_leaf and p.dtype == torch.float64 for p in model.parameters())

    @pytest.mark.parametrize(
        ("std", "depth", "verb"), [(0.01, 4, "shrinks"), (1.0, 4, "grows"), (0.088, 4, None), (0.01, 1, None)]
    )
    def test_warns_when_the_signal_vanishes_or_explodes(self, std, depth, verb):
        model = mlp((256,), 1, hidden=(256,) * depth)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            initialize(model, INITS["normal"](std=std), generator=seeded())
        messages = [str(warning.message) for warning in caught]
        assert len(messages) == (verb is not None)
        assert all(verb in message for message in messages)

    def test_a_norm_restores_the_scale(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = mlp((256,), 1, hidden=(256,) * 4, norm="batch")
            initialize(model, INITS["normal"](std=0.01), generator=seeded())

    @pytest.mark.parametrize("scheme", ["kaiming_normal", "kaiming_uniform", "orthogonal"])
    @pytest.mark.parametrize(
        ("name", "depth"),
        [("relu", 10), ("leaky_relu", 10), ("elu", 10), ("gelu", 2), ("silu", 2), ("softplus", 1)],
    )
    def test_the_second_moment_is_preserved_through_depth(self, scheme, name, depth):
        """E[h²] stays close to that of the input; with a gain of 1, relu would lose a factor of 2 per layer.

        If f is not homogeneous, a deviation grows from layer to layer; these networks are less deep.
        """
        model = mlp((512,), 1, hidden=(512,) * depth, activation=name)
        initialize(model, INITS[scheme](), generator=seeded())
        x = torch.randn(64, 512, generator=seeded(5))
        with torch.no_grad():
            h = nn.Sequential(*list(model)[:-1])(x)
        assert 0.6 < h.square().mean() < 1.6


@pytest.mark.parametrize("name", INITS)
def test_every_scheme_has_a_card(name):
    method = card(INITS[name])
    assert method is not None
    assert method.row.startswith("K8" if name == "data_driven" else "E")
    assert method.formula
