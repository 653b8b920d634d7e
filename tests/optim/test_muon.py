"""Muon against PyTorch's, against the singular value decomposition, and its AdamW against PyTorch's."""

import math

import pytest
import torch
from tests.support.optimizer_contract import Case, Contract
from torch import nn

from descend.nn.ensemble import Ensemble
from descend.optim import Muon, muon
from descend.optim._muon import orthogonalized

CASES = [
    Case("muon", {"weight_decay": 0.0}, lr=0.05, needed={"weight_decay": 0.0, "lr": 0.01}),
    Case("muon", {"nesterov": False, "adjust_lr_fn": "match_rms_adamw"}, lr=0.1, needed={"lr": 0.01}),
    Case("muon", {"use_muon": False, "weight_decay": 0.0}, lr=0.05, needed={"lr": 0.01}),
]

CONVERGENT = (15 / 8, -10 / 8, 3 / 8)


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


class TestContract(Contract):
    pass


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def factor(matrix):
    """U Vᵀ."""
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    return u @ vt


class TestOrthogonalized:
    @pytest.mark.parametrize("shape", [(5, 5), (3, 8), (9, 4), (1, 6)])
    def test_the_limit_is_the_orthogonal_factor(self, shape):
        matrix = random(*shape)
        got = orthogonalized(matrix.unsqueeze(0), CONVERGENT, 60)[0]
        torch.testing.assert_close(got, factor(matrix), rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("shape", [(40, 40), (20, 64), (64, 20)])
    def test_five_steps_bring_singular_values_into_the_band_and_keep_the_singular_vectors(self, shape):
        matrix = random(*shape, seed=1)
        u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
        result = u.T @ orthogonalized(matrix.unsqueeze(0))[0] @ vt.T
        values = result.diagonal()
        torch.testing.assert_close(result, torch.diag(values), rtol=0, atol=1e-10)
        large = s / torch.linalg.matrix_norm(matrix) > 0.002
        assert large.sum() > 15
        assert values[large].min() > 0.68
        assert values[large].max() < 1.21

    def test_the_band_is_that_of_the_polynomial(self):
        """p applied five times, for all singular values."""
        s = torch.linspace(0.0, 1.0, 200_001, dtype=torch.float64)
        a, b, c = 3.4445, -4.7750, 2.0315
        values = s
        for _ in range(5):
            values = a * values + b * values**3 + c * values**5
        inside = values[s > 0.002]
        assert (inside.min().item(), inside.max().item()) == pytest.approx((0.6818, 1.2024), abs=1e-4)
        # Matrices of one row have one singular value, their norm.
        row = orthogonalized(torch.tensor([[[3.0, 4.0]]], dtype=torch.float64))[0]
        torch.testing.assert_close(row.norm(), values[-1])

    def test_a_stack_is_its_matrices(self):
        stack = random(4, 6, 3)
        for matrix, result in zip(stack, orthogonalized(stack), strict=True):
            torch.testing.assert_close(orthogonalized(matrix[None])[0], result, rtol=1e-12, atol=1e-12)

    def test_zero_remains_zero(self):
        assert torch.equal(orthogonalized(torch.zeros(1, 3, 2)), torch.zeros(1, 3, 2))


def steps_of(optimizer, params, count=6):
    for step in range(count):
        for number, p in enumerate(params):
            p.grad = random(*p.shape, seed=10 * step + number).to(p.dtype)
        optimizer.step()
    return [p.detach().clone() for p in params]


SHAPES = [(6, 6), (6, 6), (4, 9), (12, 3)]


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("scale", [None, "original", "match_rms_adamw"])
def test_matrices_take_pytorchs_step(nesterov, scale):
    """PyTorch iterates in bfloat16, whose precision is 0.004; the same dtype here, in batches."""
    settings = {"nesterov": nesterov, "adjust_lr_fn": scale, "weight_decay": 0.1, "momentum": 0.8}
    ends = []
    for make in (
        lambda p: muon(p, 0.1, ns_dtype="bfloat16", **settings),
        lambda p: torch.optim.Muon(p, 0.1, **settings),
    ):
        params = [nn.Parameter(random(*shape, seed=99).float()) for shape in SHAPES]
        starts = [p.detach().clone() for p in params]
        ends.append(steps_of(make(params), params))
    for ours, theirs, start in zip(*ends, starts, strict=True):
        assert (ours - theirs).norm() < 0.01 * (theirs - start).norm()  # fmt: skip


def test_the_defaults_are_pytorchs():
    w = nn.Parameter(torch.ones(2, 2))
    ours, theirs = Muon([w]).defaults, torch.optim.Muon([w]).defaults
    assert {name: ours[name] for name in theirs if name != "differentiable"} == {
        name: value for name, value in theirs.items() if name != "differentiable"
    }


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 2, 3, 3)])
@pytest.mark.parametrize(
    ("scale", "factor_of"),
    [
        ("original", lambda rows, columns: math.sqrt(max(1, rows / columns))),
        ("match_rms_adamw", lambda rows, columns: 0.2 * math.sqrt(max(rows, columns))),
    ],
)
def test_steps_are_those_of_dense_algebra(shape, scale, factor_of):
    """A convolution is a matrix of its outputs and the rest; the orthogonal factor by its decomposition."""
    w = nn.Parameter(random(*shape, seed=5))
    x, m = w.detach().clone(), torch.zeros(shape, dtype=torch.float64)
    rows, columns = shape[0], math.prod(shape[1:])
    optimizer = Muon([w], 0.1, 0.2, 0.7, ns_coefficients=CONVERGENT, ns_steps=60, adjust_lr_fn=scale)
    for step in range(5):
        g = random(*shape, seed=step)
        w.grad = g.clone()
        optimizer.step()
        m = 0.7 * m + 0.3 * g
        direction = factor((0.3 * g + 0.7 * m).reshape(rows, -1)).view(shape)
        x = (1 - 0.1 * 0.2) * x - 0.1 * factor_of(rows, columns) * direction
        torch.testing.assert_close(w.detach(), x, rtol=1e-8, atol=1e-8)


def test_steps_that_match_rms_have_the_root_mean_square_of_adamws():
    """0.2, about that of Adam's steps in training."""
    for shape in ((30, 50), (50, 30)):
        w = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
        w.grad = random(*shape)
        Muon([w], 1.0, ns_coefficients=CONVERGENT, ns_steps=60, adjust_lr_fn="match_rms_adamw").step()
        assert w.detach().square().mean().sqrt().item() == pytest.approx(0.2, rel=1e-6)


class TestOthers:
    def test_vectors_and_matrices_of_vectors_take_adamws_step(self):
        network = nn.Sequential(
            nn.Embedding(5, 4), nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 6), nn.Linear(6, 3)
        ).double()
        params = list(network.parameters())
        hidden = {id(network[1].weight), id(network[3].weight)}
        starts = [p.detach().clone() for p in params]
        got = steps_of(Muon(params, 0.01, model=network, adam_lr_scale=2.0), params)
        others = [nn.Parameter(start.clone()) for start in starts]
        adamw = torch.optim.AdamW(others, lr=0.02, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.1)
        expected = steps_of(adamw, others)
        for p, ours, theirs in zip(params, got, expected, strict=True):
            if id(p) in hidden:
                assert (ours - theirs).norm() > 1e-3
            else:
                torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)

    def test_each_network_of_an_ensemble_has_an_output_layer(self):
        ensemble = Ensemble([nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)) for _ in range(2)], "identity")
        optimizer = Muon(ensemble.parameters(), model=ensemble)
        kinds = [optimizer.state[p]["use_muon"] for p in ensemble.parameters()]
        assert kinds == [1, 0, 0, 0] * 2

    def test_groups_may_choose(self):
        a, b = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
        optimizer = Muon([{"params": [a]}, {"params": [b], "use_muon": False}])
        assert [optimizer.state[p]["use_muon"] for p in (a, b)] == [1, 0]


def test_a_gradient_that_is_not_finite_is_noticed():
    w = nn.Parameter(torch.ones(2, 2))
    w.grad = torch.tensor([[1.0, float("nan")], [1.0, 1.0]])
    Muon([w]).step()
    assert w.isnan().all()
