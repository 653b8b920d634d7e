import pytest
import torch
from torch import nn

from descend.cards import card
from descend.errors import UserError
from descend.nn.normalization import NORMS, normalized

SHAPES = {1: (12, 6), 2: (5, 6, 4, 3)}


def sample(dims, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 3.0 + 2.0 * torch.randn(SHAPES[dims], dtype=torch.float64, generator=generator)


def standardized(x, over, eps):
    """The definition: subtract the mean, divide by the root of the biased variance plus eps."""
    mean = x.mean(over, keepdim=True)
    variance = ((x - mean) ** 2).mean(over, keepdim=True)
    return (x - mean) / torch.sqrt(variance + eps)


# (name, settings, dims, over); group norm has its own tests.
CASES = [
    ("batch", {}, 1, (0,)),
    ("batch", {"eps": 0.1}, 2, (0, 2, 3)),
    ("layer", {}, 1, (1,)),
    ("layer", {"eps": 0.1}, 2, (1, 2, 3)),
    ("instance", {"eps": 0.1}, 2, (2, 3)),
]


@pytest.mark.parametrize(("name", "settings", "dims", "over"), CASES)
def test_definition(name, settings, dims, over):
    norm = NORMS[name](6, dims=dims, **settings).double()
    x = sample(dims)
    torch.testing.assert_close(norm(x), standardized(x, over, settings.get("eps", 1e-5)))


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_group_definition(dims, groups):
    norm = NORMS["group"](6, dims=dims, groups=groups, eps=0.01).double()
    x = sample(dims)
    parts = [standardized(part, tuple(range(1, x.dim())), 0.01) for part in x.chunk(groups, 1)]
    torch.testing.assert_close(norm(x), torch.cat(parts, 1))


@pytest.mark.parametrize(("name", "settings", "dims", "over"), CASES)
def test_weight_and_bias_per_channel(name, settings, dims, over):
    norm = NORMS[name](6, dims=dims, **settings).double()
    x = sample(dims)
    plain = norm(x)
    gamma, beta = torch.arange(1.0, 7.0).double(), torch.arange(-3.0, 3.0).double()
    with torch.no_grad():
        norm.weight.copy_(gamma)
        norm.bias.copy_(beta)
    view = (6, *[1] * (x.dim() - 2))
    torch.testing.assert_close(norm(x), gamma.view(view) * plain + beta.view(view))


@pytest.mark.parametrize(
    ("name", "dims"),
    [("batch", 1), ("batch", 2), ("layer", 1), ("layer", 2), ("group", 1), ("group", 2), ("instance", 2)],
)
def test_gradients_flow_through_the_statistics(name, dims):
    norm = NORMS[name](6, dims=dims).double()
    x = sample(dims).requires_grad_()
    assert torch.autograd.gradcheck(norm, (x,))
    # If mean and variance were constants, a constant added to x would change the sum of the outputs.
    (gradient,) = torch.autograd.grad((norm(x) * torch.randn_like(x)).sum(), x)
    over = (0, *range(2, x.dim())) if name == "batch" else tuple(range(1, x.dim()))
    torch.testing.assert_close(gradient.sum(over), torch.zeros_like(gradient.sum(over)), atol=1e-10, rtol=0)


class TestBatch:
    @pytest.mark.parametrize("dims", [1, 2])
    def test_running_averages_are_those_of_mean_and_unbiased_variance(self, dims):
        norm = NORMS["batch"](6, dims=dims, momentum=0.3).double()
        over = (0, *range(2, dims + 2)) if dims == 2 else (0,)
        mean, variance = torch.zeros(6).double(), torch.ones(6).double()
        for seed in range(3):
            x = sample(dims, seed)
            norm(x)
            mean = 0.7 * mean + 0.3 * x.mean(over)
            variance = 0.7 * variance + 0.3 * x.var(over, correction=1)
        torch.testing.assert_close(norm.running_mean, mean)
        torch.testing.assert_close(norm.running_var, variance)

    def test_default_momentum_is_a_tenth(self):
        norm = NORMS["batch"](2, dims=1).double()
        norm(torch.tensor([[0.0, 10.0], [0.0, 30.0]], dtype=torch.float64))
        assert norm.running_mean.tolist() == pytest.approx([0.0, 2.0])
        assert norm.running_var.tolist() == pytest.approx([0.9, 0.9 + 0.1 * 200.0])

    def test_evaluation_uses_the_running_averages_and_does_not_change_them(self):
        norm = NORMS["batch"](6, dims=1).double()
        norm(sample(1))
        training = norm(sample(1, 1))
        before = {name: value.clone() for name, value in norm.state_dict().items()}
        norm.eval()
        x = sample(1, 1)
        expected = (x - norm.running_mean) / torch.sqrt(norm.running_var + 1e-5)
        torch.testing.assert_close(norm(x), expected)
        assert not torch.allclose(norm(x), training)
        assert all(torch.equal(value, norm.state_dict()[name]) for name, value in before.items())

    def test_rows_depend_on_each_other_only_in_training(self):
        norm = NORMS["batch"](6, dims=1).double()
        x = sample(1)
        assert not torch.allclose(norm(x)[:4], norm(x[:4]))
        norm.eval()
        torch.testing.assert_close(norm(x)[:4], norm(x[:4]))


@pytest.mark.parametrize(
    ("name", "dims"), [("layer", 1), ("layer", 2), ("group", 1), ("group", 2), ("instance", 2)]
)
def test_rows_do_not_depend_on_the_batch_or_the_mode(name, dims):
    norm = NORMS[name](6, dims=dims).double()
    x = sample(dims)
    whole = norm(x)
    torch.testing.assert_close(
        torch.cat([norm(row.unsqueeze(0)) for row in x]), whole, rtol=1e-12, atol=1e-12
    )
    torch.testing.assert_close(norm.eval()(x), whole, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("features", "expected"),
    [(256, 32), (512, 32), (64, 8), (48, 6), (32, 4), (12, 1), (8, 1), (7, 1), (1, 1), (26, 2)],
)
def test_automatic_groups(features, expected):
    assert NORMS["group"](features, dims=2).num_groups == expected


def test_unsuitable_settings_are_rejected():
    with pytest.raises(UserError, match=r"4 groups do not divide 6 features; use one of \[1, 2, 3, 6\]"):
        NORMS["group"](6, dims=2, groups=4)
    with pytest.raises(UserError, match="always 0"):
        NORMS["group"](6, dims=1, groups=6)
    with pytest.raises(UserError, match="choose 'layer' or 'group'"):
        NORMS["instance"](6, dims=1)


def test_groups_of_one_element_are_zero():
    assert nn.GroupNorm(6, 6)(torch.randn(3, 6)).abs().max() < 1e-3


class TestWeight:
    @pytest.mark.parametrize(
        ("constructor", "over"), [(lambda: nn.Linear(4, 3), (1,)), (lambda: nn.Conv2d(2, 3, 3), (1, 2, 3))]
    )
    def test_is_g_times_the_direction_of_v(self, constructor, over):
        layer = NORMS["weight"](constructor().double())
        g, v = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
        with torch.no_grad():
            g.copy_(torch.tensor([0.5, 2.0, -1.0]).view(g.shape))
            v.mul_(7.0)
        torch.testing.assert_close(layer.weight, g * v / v.square().sum(over, keepdim=True).sqrt())

    def test_does_not_change_the_outputs(self):
        layer = nn.Linear(4, 3).double()
        x = torch.randn(5, 4, dtype=torch.float64)
        before = layer(x)
        torch.testing.assert_close(NORMS["weight"](layer)(x), before)

    def test_the_gradient_of_v_is_orthogonal_to_v(self):
        layer = NORMS["weight"](nn.Linear(4, 3).double())
        layer(torch.randn(5, 4, dtype=torch.float64)).square().sum().backward()
        v = layer.parametrizations.weight.original1
        assert v.grad.abs().max() > 1e-3
        torch.testing.assert_close((v * v.grad).sum(1), torch.zeros(3).double(), atol=1e-12, rtol=0)


class TestNormalized:
    @pytest.mark.parametrize("name", ["none", "weight"])
    def test_no_module_follows_the_layer(self, name):
        layer, norm = normalized(nn.Linear(2, 3), 3, dims=1, norm=name)
        assert isinstance(layer, nn.Linear)
        assert norm is None
        assert nn.utils.parametrize.is_parametrized(layer) == (name == "weight")

    def test_settings_and_constructors(self):
        layer = nn.Conv2d(1, 6, 3)
        assert normalized(layer, 6, dims=2, norm={"name": "group", "groups": 3})[1].num_groups == 3
        assert normalized(layer, 6, dims=2, norm=nn.SyncBatchNorm)[1].num_features == 6

    def test_unknown_names_and_settings(self):
        with pytest.raises(UserError, match="unknown norm 'bath'; did you mean 'batch'"):
            normalized(nn.Linear(2, 3), 3, dims=1, norm="bath")
        with pytest.raises(UserError, match="norm 'batch' has no setting 'groups'"):
            normalized(nn.Linear(2, 3), 3, dims=1, norm={"name": "batch", "groups": 2})
        with pytest.raises(UserError, match="norm 'weight' has no setting 'eps'"):
            normalized(nn.Linear(2, 3), 3, dims=1, norm={"name": "weight", "eps": 2})


@pytest.mark.parametrize("name", NORMS)
def test_every_norm_has_a_card(name):
    method = card(NORMS[name])
    assert method is not None
    assert method.row in {"F3", "F4", "F5, F7", "F6"}
