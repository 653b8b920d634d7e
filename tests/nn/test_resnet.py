"""The residual network for tables, against its formula in float64."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from descend.errors import UserError
from descend.nn import NORMS, resnet


def test_the_formula() -> None:
    model: Any = (
        resnet((4,), 3, width=6, inner_width=9, blocks=2, activation="tanh", norm="layer").double().eval()
    )
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn_like(p))
    x = torch.randn(5, 4, dtype=torch.float64)

    def norm(layer: nn.LayerNorm, h: torch.Tensor) -> torch.Tensor:
        centered = h - h.mean(1, keepdim=True)
        scaled = centered / (centered.square().mean(1, keepdim=True) + layer.eps).sqrt()
        return scaled * layer.weight + layer.bias

    h = x @ model.input.weight.T + model.input.bias
    for block in (model.block1.body, model.block2.body):
        inner = torch.tanh(norm(block.norm, h) @ block.linear1.weight.T + block.linear1.bias)
        h = h + inner @ block.linear2.weight.T + block.linear2.bias
    expected = torch.tanh(norm(model.norm, h)) @ model.output.weight.T + model.output.bias
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)


def test_parts_and_number_of_parameters() -> None:
    model = resnet((2, 3), 2, width=8, inner_width=10, blocks=1, residual_dropout=0.2)
    assert [name for name, _ in model.named_children()] == [
        "flatten",
        "input",
        "block1",
        "norm",
        "act",
        "output",
    ]
    body: Any = model.block1
    assert [name for name, _ in body.body.named_children()] == [
        "norm", "linear1", "act", "drop1", "linear2", "drop2",
    ]  # fmt: skip
    block = 2 * 8 + (8 * 10 + 10) + (10 * 8 + 8)
    assert sum(p.numel() for p in model.parameters()) == (6 * 8 + 8) + block + 2 * 8 + (8 * 2 + 2)


@pytest.mark.parametrize("norm", sorted(set(NORMS) - {"instance"}))
def test_every_norm_has_finite_gradients(norm: str) -> None:
    model = resnet((4,), 1, width=16, inner_width=16, norm=norm)
    F.mse_loss(model(torch.randn(32, 4)), torch.randn(32, 1)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_norm_of_images_is_refused() -> None:
    with pytest.raises(UserError, match="instance"):
        resnet((4,), 1, norm="instance")
