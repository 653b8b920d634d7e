"""Manual backpropagation through convolutional networks, against autograd in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from descend.data.batches import Batch
from descend.losses import CrossEntropy
from descend.nn import convnet, image_resnet
from descend.nn.dropout import Dropout
from descend.training.chain import Chain
from descend.training.evaluation import IMAGE_BATCH_SIZE, outputs_of
from descend.training.image_rules import IMAGE_RULES, exchanged
from descend.training.objective import Objective


def _convolution(inputs: int, outputs: int, **settings: object) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, **settings)


NETWORKS: dict[str, tuple[Callable[[], list[nn.Module]], tuple[int, ...]]] = {
    "plain": (lambda: [_convolution(3, 4, kernel_size=3, padding=1), nn.ReLU()], (5, 3, 8, 8)),
    "stride": (lambda: [_convolution(3, 4, kernel_size=3, stride=(2, 1), padding=1)], (5, 3, 9, 7)),
    "padding": (lambda: [_convolution(3, 4, kernel_size=(5, 3), padding=(3, 0))], (5, 3, 6, 8)),
    "dilation": (lambda: [_convolution(3, 4, kernel_size=3, dilation=2, padding=1)], (4, 3, 9, 8)),
    "groups": (lambda: [_convolution(4, 6, kernel_size=3, groups=2)], (4, 4, 7, 7)),
    "depthwise": (lambda: [_convolution(4, 4, kernel_size=3, groups=4, padding=1)], (4, 4, 7, 5)),
    "no bias": (lambda: [_convolution(3, 4, kernel_size=3, bias=False)], (5, 3, 7, 7)),
    "one channel": (lambda: [_convolution(1, 4, kernel_size=3, padding=1)], (5, 1, 7, 9)),
    "one output channel": (lambda: [_convolution(3, 1, kernel_size=3), nn.Tanh()], (5, 3, 7, 9)),
    "one pixel": (lambda: [_convolution(3, 4, kernel_size=1)], (5, 3, 1, 1)),
    "batch of 1": (lambda: [_convolution(3, 4, kernel_size=3), nn.ReLU()], (1, 3, 8, 8)),
    "one of everything": (lambda: [_convolution(1, 1, kernel_size=1)], (1, 1, 1, 1)),
    "two convolutions": (
        lambda: [
            _convolution(1, 3, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            _convolution(3, 4, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ],
        (6, 1, 11, 9),
    ),
    "overlapping pools": (
        lambda: [
            _convolution(2, 4, kernel_size=3),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1, dilation=1, ceil_mode=True),
        ],
        (4, 2, 10, 9),
    ),
    "norm": (
        lambda: [
            _convolution(2, 4, kernel_size=3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            _convolution(4, 3, kernel_size=3, padding=1),
            nn.GELU(),
        ],
        (5, 2, 9, 9),
    ),
    "average": (
        lambda: [
            _convolution(2, 4, kernel_size=3),
            nn.LeakyReLU(0.1),
            nn.AvgPool2d((2, 3), stride=2, padding=1, count_include_pad=False),
            _convolution(4, 5, kernel_size=3, padding=1),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(1),
        ],
        (5, 2, 9, 10),
    ),
    "norm before pool": (
        lambda: [_convolution(2, 4, kernel_size=3), nn.ReLU(), nn.BatchNorm2d(4), nn.MaxPool2d(2)],
        (5, 2, 9, 9),
    ),
    "dropped channels": (
        lambda: [_convolution(2, 4, kernel_size=3), nn.ReLU(), nn.Dropout2d(0.4), nn.MaxPool2d(2)],
        (5, 2, 9, 9),
    ),
}


def test_every_rule_is_tested() -> None:
    tested = {type(layer) for build, _ in NETWORKS.values() for layer in build()}
    assert set(IMAGE_RULES) <= tested


def _network(name: str) -> tuple[nn.Sequential, Tensor]:
    torch.manual_seed(3)
    build, shape = NETWORKS[name]
    layers, rows = build(), torch.randn(shape, dtype=torch.float64)
    flat = nn.Sequential(*layers).double()(rows).flatten(1).shape[1]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, 3)).double().train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    return model, rows


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=["float64", "float32"]
)
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_equal_those_of_autograd_in_float64(
    name: str, dtype: torch.dtype, tolerance: float
) -> None:
    model, rows = _network(name)
    twin = copy.deepcopy(model).to(dtype)
    direction = torch.randn(len(rows), 3, dtype=torch.float64)
    torch.manual_seed(5)
    outputs = model(rows)
    outputs.backward(direction)

    chain = Chain.of(twin)
    assert chain is not None
    for _ in range(2):  # the second pass writes to the memory of the first
        for buffer, initial in zip(twin.buffers(), _network(name)[0].buffers(), strict=True):
            buffer.copy_(initial)
        torch.manual_seed(5)
        with torch.no_grad():
            own, saved = chain.forward(rows.to(dtype))
            gradients = chain.backward(direction.to(dtype), saved)
        _assert_close(own, outputs.detach(), tolerance)
        for gradient, parameter in zip(gradients, model.parameters(), strict=True):
            assert parameter.grad is not None
            _assert_close(gradient, parameter.grad, tolerance)
        for buffer, expected in zip(twin.buffers(), model.buffers(), strict=True):
            _assert_close(buffer, expected, tolerance)


def _assert_close(value: Tensor, expected: Tensor, tolerance: float) -> None:
    """Compare with the largest expected entry as the unit, since sums of products cancel."""
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(value.double(), expected.double(), rtol=0, atol=tolerance * scale)


def test_batches_of_other_sizes_share_memory_without_mixing() -> None:
    model, rows = _network("two convolutions")
    twin = copy.deepcopy(model)
    chain = Chain.of(twin)
    assert chain is not None
    for count in (4, 6, 1, 5):
        model.zero_grad()
        outputs = model(rows[:count])
        outputs.sum().backward()
        with torch.no_grad():
            own, saved = chain.forward(rows[:count])
            gradients = chain.backward(torch.ones_like(own), saved)
        _assert_close(own, outputs.detach(), 1e-12)
        for gradient, parameter in zip(gradients, model.parameters(), strict=True):
            assert parameter.grad is not None
            _assert_close(gradient, parameter.grad, 1e-12)


def test_max_pooling_and_relu_are_exchanged_with_equal_bits() -> None:
    layers = [nn.ReLU(), nn.MaxPool2d(2), nn.Tanh(), nn.MaxPool2d(2), nn.ReLU(), nn.MaxPool2d(2)]
    order = [type(layer).__name__ for layer in exchanged(layers)]
    assert order == ["MaxPool2d", "ReLU", "Tanh", "MaxPool2d", "MaxPool2d", "ReLU"]
    images = torch.randn(3, 2, 8, 8).round(decimals=1)  # ties
    images[0, 0, 0, 0] = torch.nan
    leaf, twin = images.clone().requires_grad_(), images.clone().requires_grad_()
    first = nn.Sequential(*layers[:2])(leaf)
    second = nn.Sequential(*exchanged(layers[:2]))(twin)
    torch.testing.assert_close(first, second, rtol=0, atol=0, equal_nan=True)
    direction = torch.randn_like(first)
    (expected,) = torch.autograd.grad(first, leaf, direction)
    (gradient,) = torch.autograd.grad(second, twin, direction)
    assert torch.equal(gradient[1:], expected[1:])


def test_training_leaves_the_order_of_weights_and_gradients_in_memory() -> None:
    """Saved files and optimizer states depend on it."""
    torch.manual_seed(0)
    model = convnet((2, 8, 8), 3, channels=(3, 4), dense=(5,))
    before = [parameter.stride() for parameter in model.parameters()]
    objective = Objective(model, CrossEntropy(), device=torch.device("cpu"))
    batch = Batch(torch.randn(6, 2, 8, 8), torch.randint(3, (6,)), None)
    torch.optim.Adam(model.parameters(), fused=True).step(objective.at([batch], epoch=0, step=0))
    assert [parameter.stride() for parameter in model.parameters()] == before
    assert [p.grad.stride() for p in model.parameters() if p.grad is not None] == before


@pytest.mark.parametrize("settings", [{}, {"norm": "batch"}, {"pool": "average"}, {"head": "average"}])
def test_the_built_in_convnet_is_a_chain(settings: dict[str, object]) -> None:
    model = convnet((1, 8, 8), 3, channels=(3, 4), dropout=0.2, channel_dropout=0.1, **settings)
    assert Chain.of(model) is not None


def test_other_networks_for_images_have_no_chain() -> None:
    class Own(nn.Conv2d):
        """A subclass may compute anything."""

    def of(*layers: nn.Module) -> Chain | None:
        return Chain.of(nn.Sequential(*layers))

    conv = nn.Conv2d(1, 2, 3)
    assert of(conv) is not None
    assert of(Own(1, 2, 3)) is None
    assert of(nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular")) is None
    assert of(nn.Conv2d(1, 2, 3, padding="same")) is None
    assert of(conv, nn.MaxPool2d(2, return_indices=True)) is None
    assert of(conv, nn.BatchNorm2d(2, affine=False)) is None
    assert of(conv, nn.BatchNorm2d(2, momentum=None)) is None
    assert of(conv, nn.Dropout2d(0.1, inplace=True)) is None
    assert of(nn.BatchNorm2d(2)) is None
    # The random numbers of nn.Dropout depend on the order in memory, those of descend's dropout do not.
    assert of(conv, nn.Dropout(0.1), nn.Flatten()) is None
    assert of(conv, nn.Flatten(), nn.Dropout(0.1)) is not None


def test_own_dropout_of_images_has_the_masks_of_autograd() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), Dropout(0.4), nn.Flatten(), nn.Linear(48, 3))
    batch = Batch(torch.randn(6, 1, 6, 6), torch.randint(3, (6,)), None)
    objective = Objective(model, CrossEntropy(), device=torch.device("cpu"), seed=7)
    assert objective._chain is not None
    value = objective.at([batch], epoch=0, step=0)()
    by_autograd = objective.plain().at([batch], epoch=0, step=0)()
    torch.testing.assert_close(value, by_autograd, rtol=1e-6, atol=0)


def _settings(model: nn.Module) -> tuple[Objective, torch.optim.Adam]:
    objective = Objective(model, CrossEntropy(), device=torch.device("cpu"), seed=1)
    return objective, torch.optim.Adam(model.parameters(), lr=0.01, fused=True)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_run_that_continues_in_the_middle_has_equal_bits(norm: str) -> None:
    """Nothing is left in the memory that is kept from step to step, in which batches have different sizes."""
    torch.manual_seed(0)
    model = convnet((1, 8, 8), 3, channels=(3, 4), dense=(5,), norm=norm, dropout=0.2, channel_dropout=0.1)
    batches = [Batch(torch.randn(n, 1, 8, 8), torch.randint(3, (n,)), None) for n in (6, 6, 3, 6)]
    objective, optimizer = _settings(model)
    for step, batch in enumerate(batches):
        if step == 2:
            kept = copy.deepcopy((model, optimizer.state_dict()))
        optimizer.step(objective.at([batch], epoch=0, step=step))
    twin, state = kept
    objective, optimizer = _settings(twin)
    optimizer.load_state_dict(state)
    for step in (2, 3):
        optimizer.step(objective.at([batches[step]], epoch=0, step=step))
    for own, expected in zip(twin.state_dict().values(), model.state_dict().values(), strict=True):
        assert torch.equal(own, expected)


@pytest.mark.parametrize("build", [convnet, image_resnet])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 8)])
def test_outputs_in_evaluation_equal_those_of_float64(
    build: Callable[..., nn.Module], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    model, rows = build(shape, 3, channels=(3, 4)), torch.randn(2 * IMAGE_BATCH_SIZE + 1, *shape)
    expected = copy.deepcopy(model).double().eval()(rows.double()).detach()
    _assert_close(outputs_of(model, rows), expected, 1e-5)


def test_a_network_that_is_no_chain_has_the_gradients_of_float64() -> None:
    torch.manual_seed(0)
    model = image_resnet((1, 8, 8), 3, channels=(3, 4)).train()
    twin = copy.deepcopy(model).double()
    batch = Batch(torch.randn(6, 1, 8, 8), torch.randint(3, (6,)), None)
    objective, _ = _settings(model)
    assert objective._chain is None
    objective.at([batch], epoch=0, step=0)()
    CrossEntropy()(twin(batch.inputs.double()), batch.targets).backward()
    for own, expected in zip(model.parameters(), twin.parameters(), strict=True):
        assert own.grad is not None
        assert expected.grad is not None
        _assert_close(own.grad, expected.grad, 1e-5)
        for order in (torch.contiguous_format, torch.channels_last):
            if own.dim() == 4:
                assert own.grad.is_contiguous(memory_format=order) == own.is_contiguous(memory_format=order)
