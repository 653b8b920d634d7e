"""Pairs against the BFGS formula with full matrices in float64; damping against its inequality."""

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples
from torch.utils._python_dispatch import TorchDispatchMode

from descend.linalg import Pairs, damped


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def definite(n, seed=0):
    a = draw(n, n, seed=seed)
    return a @ a.T + torch.eye(n, dtype=torch.float64)


def dense(pairs, n):
    """H by the formula of Broyden, Fletcher, Goldfarb and Shanno from γI, pair by pair."""
    one = torch.eye(n, dtype=torch.float64)
    step, change = pairs[-1]
    h = one * (step @ change) / (change @ change)
    for s, y in pairs:
        rho = 1 / (s @ y)
        h = (one - rho * torch.outer(s, y)) @ h @ (one - rho * torch.outer(y, s)) + rho * torch.outer(s, s)
    return h


@settings(deadline=None, max_examples=examples(40))
@given(st.integers(1, 9), st.integers(1, 6), st.integers(1, 14), st.integers(0, 10**6))
def test_a_product_is_that_of_the_formula(n, count, added, seed):
    matrix, steps = definite(n, seed), draw(added, n, seed=seed + 1)
    pairs, given_ = Pairs(count, like=steps[0]), []
    for s in steps:
        assert bool(pairs.add(s, matrix @ s))
        given_.append((s, matrix @ s))
        v = draw(n, seed=seed + 2)
        expected = dense(given_[-count:], n) @ v
        torch.testing.assert_close(pairs.inverse_times(v), expected, rtol=1e-8, atol=1e-10)
    s, y = given_[-1]
    torch.testing.assert_close(pairs.inverse_times(y), s, rtol=1e-8, atol=1e-10)


def test_is_scipys_operator():
    n, m = 30, 7
    matrix, steps = definite(n), draw(m, n, seed=1)
    changes = steps @ matrix
    pairs = Pairs(m, like=steps[0])
    for s, y in zip(steps, changes, strict=True):
        pairs.add(s, y)
    v = draw(n, seed=2)
    # SciPy's operator starts from the identity: the products agree in variables scaled by √γ.
    root = float(pairs.scaling) ** 0.5
    theirs = scipy.optimize.LbfgsInvHessProduct(steps.numpy() / root, changes.numpy() * root)
    assert np.allclose(pairs.inverse_times(v).numpy(), root**2 * theirs.matvec(v.numpy()), rtol=1e-10)


def test_a_rejected_pair_changes_no_bit():
    matrix, steps = definite(5), draw(3, 5)
    pairs = Pairs(2, like=steps[0])
    for s in steps:
        pairs.add(s, matrix @ s)
    before = {name: tensor.clone() for name, tensor in pairs.state().items()}
    s = draw(5, seed=3)
    orthogonal = torch.tensor([0.0, 1.0, 0, 0, 0], dtype=torch.float64), torch.eye(5, dtype=torch.float64)[0]
    bad = [(s, -s), (0 * s, s), (s, 0 * s), orthogonal, (s, s * torch.nan), (s * torch.nan, s)]
    bad += [(s, s * torch.inf), (s, s * 1e300), (s * torch.inf, s)]
    for step, change in bad:
        assert not bool(pairs.add(step, change))
        assert all(torch.equal(tensor, before[name]) for name, tensor in pairs.state().items())


def test_without_pairs_it_is_a_multiple_of_the_identity():
    v = draw(4)
    assert torch.equal(Pairs(3, like=v).inverse_times(v, first=0.5), 0.5 * v)
    assert bool(Pairs(3, like=v).none)


def test_the_state_is_the_pairs():
    matrix, steps = definite(4), draw(5, 4)
    pairs = Pairs(3, like=steps[0])
    for s in steps:
        pairs.add(s, matrix @ s)
    again = Pairs.of({name: tensor.clone() for name, tensor in pairs.state().items()})
    assert torch.equal(again.inverse_times(steps[0]), pairs.inverse_times(steps[0]))
    assert sum(tensor.numel() for tensor in pairs.state().values()) == 2 * 3 * 4 + 3 * 3 + 2


NUMBERS = st.lists(st.floats(-1e3, 1e3, allow_subnormal=False), min_size=4, max_size=4)


@pytest.mark.slow
@settings(deadline=None, max_examples=examples(200))
@given(NUMBERS, NUMBERS, st.integers(0, 1000))
def test_a_damped_pair_has_positive_curvature_whatever_the_change(step, change, seed):
    s, y = torch.tensor(step, dtype=torch.float64), torch.tensor(change, dtype=torch.float64)
    if s.norm() < 1e-3:
        return
    b = definite(4, seed)
    found = damped(s, y, b @ s)
    old = float(s @ b @ s)
    assert float(s @ found) >= 0.2 * old * (1 - 1e-6)
    if float(s @ y) >= 0.2 * old:
        assert torch.equal(found, y)
    else:  # the smallest share of B s that is enough
        assert float(s @ found) == pytest.approx(0.2 * old, rel=1e-6)
        assert torch.linalg.matrix_rank(torch.stack([found - y, b @ s - y]), rtol=1e-9) <= 1
    pairs = Pairs(1, like=s)
    assert bool(pairs.add(s, found))
    assert float(pairs.scaling) > 0


def test_the_initial_scaling_is_of_the_damped_pair():
    """A known fault: PyTorch-LBFGS scales by the raw yᵀs after damping, which may be negative."""
    s, y = torch.tensor([1.0, 1.0, 0.0]), torch.tensor([-1.0, -1.0, 0.5])
    assert float(s @ y) < 0
    pairs = Pairs(2, like=s)
    change = damped(s, y, 2 * s)
    pairs.add(s, change)
    assert float(pairs.scaling) == pytest.approx(float(s @ change / (change @ change)))
    assert float(pairs.scaling) > 0
    v = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    assert all(float(each @ pairs.inverse_times(each)) > 0 for each in v)


class Synchronizations(TorchDispatchMode):
    """Records every operation that returns a number to Python or whose shape depends on values."""

    SYNCHRONIZING = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "equal", "item")

    def __init__(self):
        super().__init__()
        self.operations, self.waits = 0, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.operations += 1
        name = function.overloadpacket.__name__
        if name in self.SYNCHRONIZING:
            self.waits.append(name)
        return function(*args, **(kwargs or {}))


def operations(count):
    matrix, steps = definite(8), draw(12, 8)
    pairs = Pairs(count, like=steps[0])
    with Synchronizations() as seen:
        for s in steps:
            change = damped(s, matrix @ s, s)
            pairs.add(s, change)
            pairs.inverse_times(s, first=s.norm())
    assert not seen.waits
    return seen.operations


def test_nothing_synchronizes_with_the_device():
    """A known fault: one synchronization for each pair. The number of kernels does not depend on that of the pairs."""
    assert operations(10) == operations(2)
    with Synchronizations() as seen:  # the control
        assert draw(2).sum().item() != 0
    assert seen.waits


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_nothing_synchronizes_with_a_cuda_device():
    matrix, steps = definite(8).cuda(), draw(12, 8).cuda()
    pairs = Pairs(4, like=steps[0])
    pairs.add(steps[0], matrix @ steps[0])
    pairs.inverse_times(steps[0])
    torch.cuda.set_sync_debug_mode("error")
    try:
        for s in steps:
            pairs.add(s, damped(s, matrix @ s, s))
            found = pairs.inverse_times(s)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert bool(found.isfinite().all())
