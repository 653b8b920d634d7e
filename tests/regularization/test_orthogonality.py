"""Orthogonality penalties: zeros, closed forms, unbiased estimates, the spectral norm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples
from torch import Tensor, nn

from descend.errors import UserError
from descend.nn import convnet, mlp
from descend.regularization import ORTHOGONALITIES, add_gradients, orthogonality_penalty, regular_weights
from descend.regularization.orthogonality import dso, mc, so, srip

KINDS = ["so", "dso", "mc", "srip"]
DOUBLE = torch.float64


def matrix(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def orthonormal(rows: int, columns: int, seed: int = 0) -> Tensor:
    tall, _ = torch.linalg.qr(matrix(max(rows, columns), min(rows, columns), seed))
    return tall if rows >= columns else tall.mT


shapes = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(0, 10**6))


@pytest.mark.parametrize("kind", ["so", "mc", "srip"])
@settings(deadline=None, max_examples=examples(40))
@given(shapes)
def test_zero_if_and_only_if_orthonormal(kind: str, shape: tuple[int, int, int]) -> None:
    frame = orthonormal(*shape)
    assert float(orthogonality_penalty([frame], kind)) < 1e-12
    assert float(orthogonality_penalty([1.01 * frame], kind)) > 1e-4


@settings(deadline=None, max_examples=examples(40))
@given(shapes)
def test_the_penalties_on_both_gram_matrices(shape: tuple[int, int, int]) -> None:
    """SO differs from the penalty on either Gram matrix by a constant, and DSO is the sum of both."""
    rows, columns, _ = shape
    w = matrix(*shape).requires_grad_()
    left = (w @ w.mT - torch.eye(rows)).square().sum()
    right = (w.mT @ w - torch.eye(columns)).square().sum()
    single, double = so(w, probes="exact"), dso(w, probes="exact")
    torch.testing.assert_close(single, torch.minimum(left, right))
    torch.testing.assert_close(double, left + right)
    for penalty, expected in ((single, left), (single, right), (double, left + right)):
        a, b = (torch.autograd.grad(each, w, retain_graph=True)[0] for each in (penalty, expected))
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [so, dso])
@pytest.mark.parametrize("shape", [(4, 9), (9, 4)])
def test_probes_are_unbiased(penalty: object, shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    w = matrix(*shape).requires_grad_()
    exact = penalty(w, probes="exact")
    estimates = torch.stack([penalty(w, probes=2) for _ in range(4000)])
    error = estimates.detach().std() / 4000**0.5
    assert 0 < (estimates.mean() - exact).abs() < 5 * error < 0.1 * exact
    (estimate,) = torch.autograd.grad(estimates.mean(), w)
    (expected,) = torch.autograd.grad(exact, w)
    torch.testing.assert_close(estimate, expected, rtol=0, atol=0.06 * float(expected.abs().max()))


@pytest.mark.parametrize("kind", ["so", "dso"])
@pytest.mark.parametrize("probes", [2, "exact"])
@pytest.mark.parametrize("layout", ["wide", "tall", "kernel", "channels_last"])
def test_gradients_added_in_place_equal_those_of_autograd(kind: str, probes: object, layout: str) -> None:
    shape = {"wide": (4, 9), "tall": (9, 4)}.get(layout, (5, 2, 3, 3))
    raw = matrix(shape[0], int(np.prod(shape[1:]))).view(shape)
    if layout == "channels_last":
        raw = raw.contiguous(memory_format=torch.channels_last)
    w, other = nn.Parameter(raw), nn.Parameter(raw.clone())
    for each in (w, other):
        each.grad = torch.ones_like(each)
    torch.manual_seed(5)
    value = add_gradients([w], 0.3, kind=kind, probes=probes)
    torch.manual_seed(5)
    expected = 0.3 * orthogonality_penalty([other], kind, probes=probes)
    expected.backward()
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(w.grad, other.grad, rtol=1e-10, atol=1e-10)


def test_as_many_probes_as_rows_are_exact() -> None:
    w = matrix(3, 5)
    assert torch.equal(so(w, probes=3), so(w, probes="exact"))


def test_coherence_of_unit_rows_is_the_largest_cosine() -> None:
    w = nn.functional.normalize(matrix(4, 6), dim=1)
    cosines = [abs(float(w[i] @ w[j])) for i in range(4) for j in range(i)]
    assert float(mc(w)) == pytest.approx(max(cosines), rel=1e-12)


@pytest.mark.parametrize("shape", [(5, 8), (8, 5)])
def test_srip_is_the_spectral_norm_with_its_gradient(shape: tuple[int, int]) -> None:
    torch.manual_seed(1)
    w = (0.4 * matrix(*shape)).requires_grad_()
    wide = w if shape[0] <= shape[1] else w.mT
    expected = torch.linalg.matrix_norm(wide @ wide.mT - torch.eye(5, dtype=DOUBLE), 2)
    penalty = srip(w, iterations=3000)
    torch.testing.assert_close(penalty, expected, rtol=1e-8, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(penalty, w)[0], torch.autograd.grad(expected, w)[0], rtol=1e-4, atol=1e-6
    )
    assert srip(w, iterations=2) <= expected + 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_descent_converges_to_orthonormal_weights(kind: str) -> None:
    torch.manual_seed(0)
    w = nn.Parameter(0.5 * matrix(4, 6))
    optimizer = torch.optim.Adam([w], lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 800)
    for _ in range(800):
        optimizer.zero_grad()
        orthogonality_penalty([w], kind).backward()
        optimizer.step()
        schedule.step()
    assert (w @ w.mT - torch.eye(4)).abs().max() < 0.02


def test_kernels_are_flattened() -> None:
    kernel = matrix(4, 18).view(4, 2, 3, 3)
    for kind in ("so", "dso", "mc"):
        assert orthogonality_penalty([kernel], kind) == orthogonality_penalty([kernel.flatten(1)], kind)


def test_regular_weights() -> None:
    model = convnet((1, 8, 8), 3, channels=(4,), dense=(5,), norm="batch")
    assert [w.dim() for w in regular_weights(model)] == [4, 2, 2]
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Embedding(3, 3))
    tied[1].weight = tied[0].weight
    assert len(regular_weights(tied)) == 1
    normed = mlp((3,), 2, hidden=(4,), norm="weight")
    assert [tuple(w.shape) for w in regular_weights(normed)] == [(4, 3), (2, 4)]


def test_invalid_arguments() -> None:
    with pytest.raises(UserError, match="no orthogonality penalty 'ss'; one of: dso, mc, so, srip"):
        orthogonality_penalty([torch.eye(2)], "ss")
    with pytest.raises(UserError, match="at least one weight"):
        orthogonality_penalty([], "so")
    assert ORTHOGONALITIES["none"](torch.eye(2)) is None
