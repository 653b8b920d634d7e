"""Constraints on weights that no initialization yields: zeros, equal entries, 1e20, NaN, single rows and columns."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from descend.constraints import CONSTRAINTS, binary, constrain, norm_ball, orthogonal, simplex
from descend.errors import UserError

SHAPES = [(1, 1), (1, 6), (6, 1), (4, 4), (2, 5), (5, 2)]

FILLS: dict[str, Callable[[tuple[int, int]], Tensor]] = {
    "zeros": torch.zeros,
    "equal": lambda shape: torch.full(shape, 0.5),
    "large": lambda shape: torch.full(shape, 1e20),
    "tiny": lambda shape: torch.full(shape, -1e-30),
    "denormal": lambda shape: torch.full(shape, 1e-42),
    "graded": lambda shape: torch.logspace(-20, 20, shape[0] * shape[1]).reshape(shape),
}


def layer(weight: Tensor) -> torch.nn.Sequential:
    inner = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    with torch.no_grad():
        inner.weight.copy_(weight)
    return torch.nn.Sequential(inner)


def frame_error(w: Tensor) -> float:
    gram = w @ w.T if len(w) <= w.shape[1] else w.T @ w
    return float((gram - torch.eye(len(gram))).abs().max())


VIOLATIONS = [
    (orthogonal, frame_error),
    (lambda: orthogonal(method="cayley"), frame_error),
    (norm_ball, lambda w: float((w.double().norm(dim=1) - 1.0).clamp(min=0.0).max())),
    (simplex, lambda w: float(torch.maximum((w.sum(1) - 1.0).abs().max(), -w.min()))),
    (binary, lambda w: float((w.abs() / w.abs().max() - 1.0).abs().max())),
]


@pytest.mark.parametrize("index", range(len(VIOLATIONS)))
@pytest.mark.parametrize("fill", FILLS)
def test_a_step_from_any_weight_satisfies_the_constraint(index: int, fill: str) -> None:
    constraint, violation = VIOLATIONS[index]
    for shape in SHAPES:
        torch.manual_seed(0)
        model = layer(FILLS[fill](shape))
        constrained = constrain(model, constraint(), "0")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        constrained.attach(optimizer)
        model(torch.ones(2, shape[1])).sum().backward()
        optimizer.step()
        weight = model[0].weight.detach()
        assert isinstance(weight, Tensor)
        assert violation(weight) < 1e-5, shape


def test_a_weight_of_full_rank_keeps_its_span() -> None:
    torch.manual_seed(0)
    weight = torch.randn(2, 5)
    model = layer(weight)
    constrain(model, orthogonal(), "0")
    frame = model[0].weight
    assert isinstance(frame, Tensor)
    torch.testing.assert_close(weight @ frame.detach().T @ frame.detach(), weight, rtol=1e-5, atol=1e-6)


def test_the_scale_of_large_binary_weights_is_their_root_mean_square() -> None:
    model = layer(torch.tensor([[3e20, -4e20]]))
    constrain(model, binary(), "0")
    weight = model[0].weight
    assert isinstance(weight, Tensor)
    expected = torch.tensor([[1.0, -1.0]]) * (12.5**0.5 * 1e20)
    torch.testing.assert_close(weight.detach(), expected, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("name", sorted(CONSTRAINTS))
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_before_any_is_changed(name: str, value: float) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    with torch.no_grad():
        model[1].weight[0, 0] = value
    before = model[0].weight.detach().clone()
    with pytest.raises(UserError, match=r"the weight '1\.weight' contains NaN or infinite entries"):
        constrain(model, CONSTRAINTS[name]())
    assert not hasattr(model[0], "parametrizations")
    assert torch.equal(model[0].weight, before)
