import pytest
import torch
from torch import nn

from descend.errors import UserError
from descend.nn import NORMS, convnet


def names(model):
    return [name for name, _ in model.named_children()]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (1, 28, 28), (3, 32, 32), (1, 9, 13), (2, 64, 48)])
@pytest.mark.parametrize("head", ["auto", "flatten", "average"])
def test_shapes(shape, head):
    model = convnet(shape, 10, channels=(4, 8, 8), head=head)
    assert model(torch.randn(2, *shape)).shape == (2, 10)


@pytest.mark.parametrize(
    ("side", "pools"),
    [(3, []), (4, ["pool1"]), (7, ["pool1"]), (8, ["pool1", "pool2"]), (64, ["pool1", "pool2", "pool3"])],
)
def test_pools_while_the_shorter_side_is_at_least_four(side, pools):
    model = convnet((1, side, side), 2, channels=(2, 2, 2))
    assert [name for name in names(model) if name.startswith("pool")] == pools


def test_equals_a_hand_written_sequential():
    model = convnet((1, 8, 8), 3, channels=(2, 4), kernel=3, dense=(5,), pool="average")
    reference = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 5),
        nn.ReLU(),
        nn.Linear(5, 3),
    )
    reference.load_state_dict(dict(zip(reference.state_dict(), model.state_dict().values(), strict=True)))
    x = torch.randn(6, 1, 8, 8)
    assert torch.equal(model(x), reference(x))


def test_the_order_of_the_layers_of_a_block():
    settings = {"channels": (4,), "norm": "batch", "channel_dropout": 0.1, "dense": (5,), "dropout": 0.2}
    block = ["conv1", "norm1", "act1", "pool1", "drop1"]
    dense = ["flatten", "dense1", "dense_act1", "dense_drop1", "output"]
    assert names(convnet((1, 8, 8), 2, **settings)) == block + dense
    after = convnet((1, 8, 8), 2, norm_position="after", **settings)
    assert names(after)[:3] == ["conv1", "act1", "norm1"]


def test_an_automatic_head_flattens_small_maps_and_averages_large_ones():
    assert "average" not in names(convnet((1, 28, 28), 10))  # 64 * 7 * 7 = 3136
    assert "average" in names(convnet((3, 64, 64), 10))  # 64 * 16 * 16


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("position", ["before", "after"])
@pytest.mark.parametrize("activation", ["relu", "maxout", "gelu"])
def test_every_combination_has_finite_outputs_and_gradients(activation, norm, position):
    model = convnet(
        (2, 8, 8), 3, channels=(8, 8), activation=activation, norm=norm, norm_position=position, dropout=0.1
    )
    model(torch.randn(4, 2, 8, 8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_channel_dropout_drops_whole_channels():
    torch.manual_seed(0)
    model = convnet((1, 8, 8), 2, channels=(40,), channel_dropout=0.5, activation="sigmoid")
    maps = nn.Sequential(*[m for n, m in model.named_children() if n in {"conv1", "act1", "pool1", "drop1"}])
    out = maps(torch.randn(50, 1, 8, 8))
    zeros = (out == 0).flatten(2)
    assert torch.equal(zeros.all(2), zeros.any(2))
    fraction = zeros.all(2).double().mean()
    assert abs(fraction - 0.5) < 5 * (0.25 / 2000) ** 0.5
    assert len(zeros.all(2).unique(dim=0)) > 25  # each sample has its own mask
    assert torch.equal(maps.eval()(torch.ones(1, 1, 8, 8)), maps(torch.ones(1, 1, 8, 8)))


def test_unsuitable_settings_are_rejected():
    with pytest.raises(
        UserError, match=r"expected images of shape \(channels, height, width\), got rows of shape \(64,\)"
    ):
        convnet((64,), 10)
    with pytest.raises(UserError, match="odd kernel size, got 2"):
        convnet((1, 8, 8), 10, kernel=2)
    with pytest.raises(UserError, match="did you mean 'relu'"):
        convnet((1, 8, 8), 10, activation="rlu")
