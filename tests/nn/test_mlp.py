from itertools import pairwise

import pytest
import torch
from torch import nn

from descend.cards import card
from descend.errors import UserError
from descend.nn import ACTIVATIONS, MODELS, NORMS, initialize, linear, mlp
from descend.nn.init import kaiming_normal


def names(model):
    return [name for name, _ in model.named_children()]


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_names_and_parameters_of_a_network_for_images():
    model = mlp((28, 28), 10, hidden=(512, 512))
    assert names(model) == ["flatten", "linear1", "act1", "linear2", "act2", "output"]
    assert count(model) == 784 * 512 + 512 + 512 * 512 + 512 + 512 * 10 + 10


def test_equals_a_hand_written_sequential():
    model = mlp((3,), 2, hidden=(5, 4), activation="tanh")
    reference = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2))
    reference.load_state_dict(dict(zip(reference.state_dict(), model.state_dict().values(), strict=True)))
    x = torch.randn(7, 3)
    assert torch.equal(model(x), reference(x))


def test_the_order_of_the_parts_of_a_layer():
    settings = {"hidden": (5,), "norm": "batch", "dropout": 0.5}
    assert names(mlp((3,), 2, **settings)) == ["linear1", "norm1", "act1", "drop1", "output"]
    after = mlp((3,), 2, norm_position="after", **settings)
    assert names(after) == ["linear1", "act1", "norm1", "drop1", "output"]


def test_linear_is_one_layer():
    assert names(linear((3,), 2)) == ["output"]
    assert names(linear((2, 3), 2)) == ["flatten", "output"]
    assert count(linear((2, 3), 2)) == 14


@pytest.mark.parametrize("norm", sorted(set(NORMS) - {"instance"}))
@pytest.mark.parametrize("position", ["before", "after"])
@pytest.mark.parametrize("activation", sorted(set(ACTIVATIONS) - {"sign"}))
def test_every_combination_has_finite_outputs_and_gradients(activation, norm, position):
    model = mlp(
        (4,), 3, hidden=(16, 16), activation=activation, norm=norm, norm_position=position, dropout=0.2
    )
    outputs = model(torch.randn(8, 4))
    assert outputs.shape == (8, 3)
    outputs.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(("k", "hidden"), [(2, (6,)), (3, (6, 5)), (5, (4, 3, 2))])
def test_maxout_has_k_affine_maps_for_every_unit(k, hidden):
    """Each unit has k (d_in + 1) parameters; the inputs of the next layer are the units."""
    model = mlp((4,), 3, hidden=hidden, activation={"name": "maxout", "k": k})
    widths = (4, *hidden)
    expected = sum(k * (a + 1) * b for a, b in pairwise(widths)) + (widths[-1] + 1) * 3
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize("k", [2, 3, 4])
def test_the_initial_variance_for_maxout_preserves_the_second_moment(k):
    """With Var(W) = 1/(d_in E[max_k z²]) the value of E[h²] is preserved through two layers; with 1/d_in it would grow."""
    model = mlp((256,), 1, hidden=(256, 256), activation={"name": "maxout", "k": k})
    initialize(model, kaiming_normal(), generator=torch.Generator().manual_seed(0))
    z = torch.randn(200_000, k, generator=torch.Generator().manual_seed(1)).max(1).values
    assert model.linear1.weight.var().item() * 256 == pytest.approx(1 / z.square().mean().item(), rel=0.03)
    x = torch.randn(400, 256, generator=torch.Generator().manual_seed(2))
    for depth in (2, 4):
        assert model[:depth](x).square().mean().item() == pytest.approx(1.0, rel=0.15)


def test_maxout_widens_the_layer_and_the_norm_before_it():
    model = mlp((4,), 3, hidden=(6,), activation={"name": "maxout", "k": 3}, norm="batch")
    assert model.linear1.out_features == 18
    assert model.norm1.num_features == 18
    assert model.output.in_features == 6
    after = mlp(
        (4,), 3, hidden=(6,), activation={"name": "maxout", "k": 3}, norm="batch", norm_position="after"
    )
    assert after.norm1.num_features == 6


def test_layers_do_not_share_an_activation():
    model = mlp((4,), 3, hidden=(6, 6), activation=nn.PReLU)
    assert model.act1 is not model.act2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"activation": "rlu"}, "did you mean 'relu'"),
        ({"activation": "sign"}, "derivative is zero"),
        ({"norm": "instance"}, "choose 'layer' or 'group'"),
        ({"norm": {"name": "group", "groups": 7}}, "do not divide"),
    ],
)
def test_unsuitable_settings_are_rejected(settings, message):
    with pytest.raises(UserError, match=message):
        mlp((4,), 3, hidden=(6,), **settings)


class TestDropout:
    """The setting is the probability p to drop a unit; units that are kept are divided by 1 - p."""

    def test_expectation_is_the_identity(self):
        torch.manual_seed(0)
        out = mlp((1,), 1, hidden=(8,), dropout=0.3).drop1(torch.ones(200_000, 1))
        assert out.unique().tolist() == pytest.approx(
            [0.0, 1 / (1 - 19661 / 2**16)]
        )  # the nearest to 0.3 of 16 bits
        assert abs((out == 0).double().mean() - 0.3) < 5 * (0.21 / 200_000) ** 0.5
        assert abs(out.double().mean() - 1.0) < 5 * (0.3 / 0.7 / 200_000) ** 0.5

    def test_is_sampled_for_each_row_and_call_and_disabled_in_evaluation(self):
        torch.manual_seed(0)
        model = mlp((4,), 2, hidden=(32,), dropout=0.5)
        x = torch.randn(1, 4).repeat(6, 1)
        first, second = model(x), model(x)
        assert len(first.unique(dim=0)) == 6
        assert not torch.equal(first, second)
        model.eval()
        assert torch.equal(model(x), model(x))
        # Equal up to rounding: a BLAS may sum the last rows of a batch in another order than the others.
        torch.testing.assert_close(model(x), model(x[:1]).expand(6, -1), rtol=1e-5, atol=1e-6)

    def test_evaluation_of_a_linear_network_is_the_mean_over_sub_networks(self):
        """Without an activation, the mean of the ensemble over all masks is the network without dropout."""
        model = mlp((3,), 1, hidden=(4,), activation="identity", dropout=0.5).double()
        x = torch.randn(2, 3, dtype=torch.float64)
        h = model.linear1(x)
        masks = torch.cartesian_prod(*[torch.tensor([0.0, 2.0], dtype=torch.float64)] * 4)
        mean = torch.stack([model.output(h * mask) for mask in masks]).mean(0)
        torch.testing.assert_close(model.eval()(x), mean)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_a_card(name):
    method = card(MODELS[name])
    assert method is not None
    assert method.summary
