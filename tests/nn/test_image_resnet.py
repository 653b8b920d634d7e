"""The residual network for images, against its formula in float64."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from descend.errors import UserError
from descend.many.pack.stacking import stack
from descend.nn import NORMS, image_resnet


def names(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_children()]


def normalized(norm: Any, h: torch.Tensor, *, training: bool) -> torch.Tensor:
    """Batch normalization from its definition."""
    mean, variance = norm.running_mean, norm.running_var
    if training:
        mean, variance = h.mean((0, 2, 3)), h.var((0, 2, 3), unbiased=False)
    scale = norm.weight / (variance + norm.eps).sqrt()
    return (h - mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]


def convolved(conv: Any, h: torch.Tensor) -> torch.Tensor:
    """A 3 x 3 convolution as a sum over the nine shifted images."""
    height, width = h.shape[2:]
    padded = F.pad(h, (1, 1, 1, 1))
    total = conv.bias[:, None, None]
    for i in range(3):
        for j in range(3):
            shifted = padded[:, :, i : i + height, j : j + width]
            total = total + torch.einsum("oc,nchw->nohw", conv.weight[:, :, i, j], shifted)
    return total


def halved(h: torch.Tensor) -> torch.Tensor:
    n, c, height, width = h.shape
    h = h[:, :, : height // 2 * 2, : width // 2 * 2]
    return h.reshape(n, c, height // 2, 2, width // 2, 2).amax((3, 5))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 17, 20)])
def test_the_formula(shape: tuple[int, int, int], training: bool) -> None:
    model: Any = image_resnet(shape, 3, channels=(4, 5, 6), activation="tanh").double().train(training)
    with torch.no_grad():
        for p in [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]:
            p.add_(0.1 * torch.rand_like(p))
    x = torch.randn(7, *shape, dtype=torch.float64)

    def norm(layer: Any, h: torch.Tensor) -> torch.Tensor:
        return normalized(layer, h, training=training)

    h = convolved(model.conv1, x)
    h = torch.tanh(norm(model.norm1, halved(h) if min(shape[1:]) >= 16 else h))
    for stage in (2, 3):
        part = {name: getattr(model, f"{name}{stage}") for name in ("conv", "norm")}
        h = halved(h)
        h = torch.tanh(norm(part["norm"], convolved(part["conv"], h)))
        body = getattr(model, f"block{stage}_1").body
        inner = torch.tanh(norm(body.norm1, convolved(body.conv1, h)))
        h = torch.tanh(h + norm(body.norm2, convolved(body.conv2, inner)))
    expected = h.mean((2, 3)) @ model.output.weight.T + model.output.bias
    torch.testing.assert_close(model(x), expected, rtol=1e-11, atol=1e-11)


def test_parts_and_number_of_parameters() -> None:
    model = image_resnet((3, 32, 32), 10, channels=(4, 8), blocks=2, reduce=1, dropout=0.1)
    assert names(model) == [
        "reduce1", "conv1", "pool1", "norm1", "act1", "pool2", "conv2", "norm2", "act2",
        "block2_1", "block2_1_act", "block2_2", "block2_2_act", "average", "flatten", "drop", "output",
    ]  # fmt: skip
    body = 2 * (9 * 8 * 8 + 8 + 2 * 8)
    expected = (9 * 3 * 4 + 4 + 2 * 4) + (9 * 4 * 8 + 8 + 2 * 8) + 2 * body + 8 * 10 + 10
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 3), (3, 8, 8), (2, 5, 40), (1, 33, 16), (3, 64, 64)])
def test_every_size_of_image(shape: tuple[int, int, int]) -> None:
    model = image_resnet(shape, 2, channels=(2, 3, 4), reduce=1).eval()
    assert model(torch.randn(2, *shape)).shape == (2, 2)


@pytest.mark.parametrize("norm", sorted(NORMS))
def test_every_norm_has_finite_gradients(norm: str) -> None:
    model = image_resnet((2, 8, 8), 1, channels=(4, 8), norm=norm)
    F.mse_loss(model(torch.randn(16, 2, 8, 8)), torch.randn(16, 1)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_the_order_of_the_weights_in_memory_does_not_change_the_function() -> None:
    model: Any = image_resnet((2, 16, 16), 3, channels=(4, 8))
    assert model.conv2.weight.is_contiguous(memory_format=torch.channels_last)
    x = torch.randn(5, 2, 16, 16)
    outputs = model.double()(x.double())
    for conv in (each for each in model.modules() if isinstance(each, nn.Conv2d)):
        conv.weight = nn.Parameter(conv.weight.detach().contiguous())
    torch.testing.assert_close(model(x.double()), outputs, rtol=1e-12, atol=1e-12)


def test_packs_stack_it() -> None:
    models = [image_resnet((1, 8, 8), 3, channels=(4, 6)) for _ in range(3)]
    stacked = stack(models)
    x = torch.randn(3, 5, 1, 8, 8)
    together = stacked(x)
    for at, model in enumerate(models):
        torch.testing.assert_close(together[at], model(x[at]), rtol=1e-5, atol=1e-5)
        assert all(torch.equal(stacked.state(at)[name], t) for name, t in models[at].state_dict().items())


def test_what_it_refuses() -> None:
    with pytest.raises(
        UserError, match=r"expected images of shape \(channels, height, width\), got rows of shape \(4,\)"
    ):
        image_resnet((4,), 2)
    with pytest.raises(UserError, match="maxout"):
        image_resnet((1, 8, 8), 2, activation="maxout")
