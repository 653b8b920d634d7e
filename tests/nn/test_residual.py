import pytest
import torch
from torch import nn

from descend.errors import UserError
from descend.nn import Residual, initialize, mlp
from descend.nn.init import kaiming_normal


def test_adds_the_input():
    body = nn.Sequential(nn.Linear(5, 5), nn.Tanh())
    x = torch.randn(3, 5)
    assert torch.equal(Residual(body)(x), x + body(x))


def test_the_jacobian_is_the_identity_plus_that_of_the_body():
    body = nn.Sequential(nn.Linear(4, 4), nn.Tanh()).double()
    x = torch.randn(4, dtype=torch.float64)
    jacobian = torch.func.jacrev(Residual(body))(x)
    weight, bias = body[0].weight, body[0].bias
    derivative = 1.0 - torch.tanh(weight @ x + bias).square()
    torch.testing.assert_close(jacobian, torch.eye(4, dtype=torch.float64) + derivative.unsqueeze(1) * weight)


def test_a_zero_body_is_the_identity():
    body = nn.Linear(4, 4)
    nn.init.zeros_(body.weight)
    nn.init.zeros_(body.bias)
    x = torch.randn(3, 4)
    assert torch.equal(Residual(body)(x), x)


@pytest.mark.parametrize("outputs", [3, 1])
def test_another_shape_is_rejected_even_if_it_could_be_broadcast(outputs):
    with pytest.raises(ValueError, match="keep the shape"):
        Residual(nn.Linear(4, outputs))(torch.zeros(2, 4))


class TestResidualMlp:
    def test_skips_where_consecutive_widths_are_equal(self):
        model = mlp((6,), 2, hidden=(6, 6, 5, 5), residual=True)
        assert [name for name, _ in model.named_children()] == [
            "linear1", "act1", "residual2", "linear3", "act3", "residual4", "output",
        ]  # fmt: skip

    @pytest.mark.parametrize("position", ["before", "after"])
    @pytest.mark.parametrize("activation", ["tanh", "maxout"])
    def test_computes_the_sum_explicitly(self, position, activation):
        model = mlp(
            (4,), 2, hidden=(8, 8), residual=True, norm="layer", activation=activation, norm_position=position
        )
        x = torch.randn(3, 4)
        parts = dict(model.residual2.body.named_children())
        assert set(parts) == {"linear2", "norm2", "act2"}
        order = ["norm2", "act2"] if position == "before" else ["act2", "norm2"]
        raw = model.linear1(x)
        h = model.act1(model.norm1(raw)) if position == "before" else model.norm1(model.act1(raw))
        residual = parts["linear2"](h)
        for name in order:
            residual = parts[name](residual)
        assert torch.equal(model(x), model.output(h + residual))

    def test_the_initial_weights_equal_those_of_the_plain_mlp(self):
        def weights(residual):
            torch.manual_seed(0)
            model = mlp((4,), 2, hidden=(8, 8), residual=residual)
            initialize(model, kaiming_normal(), generator=torch.Generator().manual_seed(0))
            return list(model.parameters())

        assert all(map(torch.equal, weights(True), weights(False)))

    @pytest.mark.parametrize("hidden", [(), (8,), (8, 4, 8)])
    def test_is_rejected_if_no_two_consecutive_widths_are_equal(self, hidden):
        with pytest.raises(UserError, match="two consecutive widths must be equal"):
            mlp((4,), 2, hidden=hidden, residual=True)
