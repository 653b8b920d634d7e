import pytest
import torch
from torch import nn

from descend.errors import UserError
from descend.nn import Residual, initialize, mlp
from descend.nn.init import kaiming_normal


def test_adds_its_input():
    body = nn.Sequential(nn.Linear(5, 5), nn.Tanh())
    x = torch.randn(3, 5)
    assert torch.equal(Residual(body)(x), x + body(x))


def test_the_derivative_is_the_identity_plus_the_body_s():
    body = nn.Sequential(nn.Linear(4, 4), nn.Tanh()).double()
    x = torch.randn(4, dtype=torch.float64)
    found = torch.func.jacrev(Residual(body))(x)
    weight, bias = body[0].weight, body[0].bias
    slope = 1.0 - torch.tanh(weight @ x + bias).square()
    torch.testing.assert_close(found, torch.eye(4, dtype=torch.float64) + slope.unsqueeze(1) * weight)


def test_a_body_of_zeros_is_the_identity():
    body = nn.Linear(4, 4)
    nn.init.zeros_(body.weight)
    nn.init.zeros_(body.bias)
    x = torch.randn(3, 4)
    assert torch.equal(Residual(body)(x), x)


@pytest.mark.parametrize("outputs", [3, 1])
def test_refuses_another_shape_even_where_it_could_be_broadcast(outputs):
    with pytest.raises(ValueError, match="keep the shape"):
        Residual(nn.Linear(4, outputs))(torch.zeros(2, 4))


class TestOfAnMlp:
    def test_skips_where_neighbouring_widths_are_equal(self):
        model = mlp((6,), 2, hidden=(6, 6, 5, 5), residual=True)
        assert [name for name, _ in model.named_children()] == [
            "linear1", "act1", "residual2", "linear3", "act3", "residual4", "output",
        ]  # fmt: skip

    @pytest.mark.parametrize("position", ["before", "after"])
    @pytest.mark.parametrize("activation", ["tanh", "maxout"])
    def test_computes_the_sum_written_out(self, position, activation):
        model = mlp(
            (4,), 2, hidden=(8, 8), residual=True, norm="layer", activation=activation, norm_position=position
        )
        x = torch.randn(3, 4)
        parts = dict(model.residual2.body.named_children())
        assert set(parts) == {"linear2", "norm2", "act2"}
        order = ["norm2", "act2"] if position == "before" else ["act2", "norm2"]
        raw = model.linear1(x)
        h = model.act1(model.norm1(raw)) if position == "before" else model.norm1(model.act1(raw))
        change = parts["linear2"](h)
        for name in order:
            change = parts[name](change)
        assert torch.equal(model(x), model.output(h + change))

    def test_starts_from_the_bits_of_the_plain_one(self):
        def weights(residual):
            torch.manual_seed(0)
            model = mlp((4,), 2, hidden=(8, 8), residual=residual)
            initialize(model, kaiming_normal(), generator=torch.Generator().manual_seed(0))
            return list(model.parameters())

        assert all(map(torch.equal, weights(True), weights(False)))

    @pytest.mark.parametrize("hidden", [(), (8,), (8, 4, 8)])
    def test_is_refused_where_no_two_neighbours_are_equal(self, hidden):
        with pytest.raises(UserError, match="two neighbouring widths must be equal"):
            mlp((4,), 2, hidden=hidden, residual=True)
