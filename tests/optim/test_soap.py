"""SOAP against the paper's algorithm in dense double precision, against Adam, and against its invariances."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.optimizer_contract import Case, Contract, Problem, saved

from descend.errors import UserError
from descend.optim import SOAP, soap

CASES = [
    Case("soap", lr=0.03),
    Case("soap", {"precondition_frequency": 1, "block_size": 2}, lr=0.03),
    Case("soap", {"precondition_frequency": 2, "one_sided": True, "betas": (0.0, 0.9)}, lr=0.03),
    Case("soap", {"max_preconditioner_dim": 3, "shampoo_beta": 0.5}, lr=0.03),
]


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


class TestContract(Contract):
    pass


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gradients(*shape, steps, seed=0):
    """Noise whose dominant directions change from step to step, so that eigenvalues are reordered."""
    return [
        random(*shape, seed=100 * seed + step)
        * torch.linspace(0.3, 2.0, shape[0], dtype=torch.float64)
        .roll(step // 2)
        .view(-1, *(1 for _ in shape[1:]))
        for step in range(steps)
    ]


def taken(optimizer, params, per_step):
    for gs in per_step:
        for p, g in zip(params, gs, strict=True):
            p.grad = g.clone().to(p.dtype)
        optimizer.step()
    return [p.detach().clone() for p in params]


def zeros(*shapes, dtype=torch.float64):
    return [torch.nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in shapes]


def rotated(tensor, bases, back=False):
    for mode, q in enumerate(bases):
        tensor = torch.tensordot(q if back else q.T, tensor.movedim(mode, 0), dims=1).movedim(0, mode)
    return tensor


class Reference:
    """Algorithm 3 of the paper in our order of operations, with the momentum in the coordinates of the weights."""

    def __init__(self, shape, lr, betas, shampoo_beta, every, eps=1e-8):
        self.w, self.m, self.v = (torch.zeros(shape, dtype=torch.float64) for _ in range(3))
        self.lr, self.betas, self.beta, self.every, self.eps = lr, betas, shampoo_beta, every, eps
        self.c = [torch.zeros(n, n, dtype=torch.float64) for n in shape]
        self.q, self.t, self.exchanged = None, 0, 0

    def step(self, g):
        self.t += 1
        b1, b2 = self.betas
        for mode in range(g.dim()):
            flat = g.transpose(0, mode).reshape(g.shape[mode], -1)
            self.c[mode] = self.beta * self.c[mode] + (1 - self.beta) * flat @ flat.T
        if self.q is None:
            self.q = [torch.linalg.eigh(c).eigenvectors.flip(1) for c in self.c]
        elif self.t % self.every == 0:
            for mode, (q, c) in enumerate(zip(self.q, self.c, strict=True)):
                order = torch.diag(q.T @ c @ q).argsort(descending=True)
                self.exchanged += int(not torch.equal(order, torch.arange(len(order))))
                self.q[mode] = torch.linalg.qr(c @ q[:, order]).Q
                self.v = self.v.index_select(mode, order)
        self.m = b1 * self.m + (1 - b1) * g
        self.v = b2 * self.v + (1 - b2) * rotated(g, self.q) ** 2
        top = rotated(self.m, self.q) / (1 - b1**self.t)
        found = top / ((self.v / (1 - b2**self.t)).sqrt() + self.eps)
        self.w = self.w - self.lr * rotated(found, self.q, back=True)
        return self.w


@pytest.mark.parametrize("shape", [(5, 5), (3, 4, 5), (2, 3, 4, 3)])
@pytest.mark.parametrize("every", [1, 3])
def test_steps_are_those_of_the_paper(shape, every):
    reference = Reference(shape, 0.1, (0.9, 0.95), 0.8, every)
    params = zeros(shape)
    optimizer = soap(
        params,
        lr=0.1,
        betas=(0.9, 0.95),
        shampoo_beta=0.8,
        precondition_frequency=every,
        block_size=max(shape),
    )
    for g in gradients(*shape, steps=13):
        expected = reference.step(g)
        # In the first step Qᵀ G Q is diagonal; its other entries are rounding errors, divided by eps.
        torch.testing.assert_close(taken(optimizer, params, [[g]])[0], expected, rtol=1e-6, atol=1e-6)
    assert reference.exchanged > 1  # squares were permuted with their eigenvectors


class TestTheorems:
    def test_with_the_identity_as_basis_it_is_adam(self):
        shapes = [(5, 4), (4,), (3, 2, 3, 3)]
        given = [[random(*s, seed=10 * step + k) for k, s in enumerate(shapes)] for step in range(9)]
        params, others = zeros(*shapes), zeros(*shapes)
        got = taken(soap(params, lr=0.1, betas=(0.9, 0.99), max_preconditioner_dim=1), params, given)
        expected = taken(torch.optim.Adam(others, lr=0.1, betas=(0.9, 0.99)), others, given)
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)

    def test_with_another_basis_it_is_not_adam(self):
        given = [[random(5, 4, seed=step)] for step in range(3)]
        params, others = zeros((5, 4)), zeros((5, 4))
        (got,) = taken(soap(params, lr=0.1, betas=(0.9, 0.99)), params, given)
        (expected,) = taken(torch.optim.Adam(others, lr=0.1, betas=(0.9, 0.99)), others, given)
        assert (got - expected).abs().max() > 0.05

    def test_vectors_take_adam_s_step(self):
        given = [[random(4, seed=step)] for step in range(9)]
        params, others = zeros((4,)), zeros((4,))
        got = taken(soap(params, lr=0.1), params, given)
        expected = taken(torch.optim.Adam(others, lr=0.1, betas=(0.95, 0.95)), others, given)
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("shape", [(6, 4), (5, 5), (3, 8)])
    def test_the_first_step_is_the_orthogonal_factor(self, shape):
        """Q_Lᵀ G Q_R is diagonal, and Adam's first step is the sign: U Vᵀ."""
        g = random(*shape)
        params = zeros(shape)
        (got,) = taken(soap(params, lr=1.0), params, [[g]])
        u, _, vt = torch.linalg.svd(g, full_matrices=False)
        torch.testing.assert_close(-got, u @ vt, rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("side", ["rows", "columns", "both"])
    def test_it_is_invariant_to_rotations(self, side):
        q, _ = torch.linalg.qr(random(5, 5, seed=7))
        r, _ = torch.linalg.qr(random(5, 5, seed=8))
        q = q if side != "columns" else torch.eye(5, dtype=torch.float64)
        r = r if side != "rows" else torch.eye(5, dtype=torch.float64)
        ends = []
        for turned in (False, True):
            params = zeros((5, 5))
            optimizer = soap(params, lr=0.1, precondition_frequency=2)
            given = gradients(5, 5, steps=9)
            ends += taken(optimizer, params, [[q @ g @ r] if turned else [g] for g in given])
        torch.testing.assert_close(ends[1], q @ ends[0] @ r, rtol=1e-6, atol=1e-8)

    def test_one_sided_is_invariant_to_rotations_of_one_side_only(self):
        q, _ = torch.linalg.qr(random(3, 3, seed=7))
        r, _ = torch.linalg.qr(random(5, 5, seed=8))
        given = gradients(3, 5, steps=9)
        ends = []
        for left, right in ((False, False), (True, False), (False, True)):
            params = zeros((3, 5))
            optimizer = soap(params, lr=0.1, precondition_frequency=2, one_sided=True)
            turned = [
                [(q if left else torch.eye(3).double()) @ g @ (r if right else torch.eye(5).double())]
                for g in given
            ]
            ends += taken(optimizer, params, turned)
        torch.testing.assert_close(ends[1], q @ ends[0], rtol=1e-6, atol=1e-8)
        assert (ends[2] - ends[0] @ r).abs().max() > 0.01

    def test_the_basis_converges_to_the_eigenvectors_of_the_covariance(self):
        """Orthogonal iteration from a wrong basis, for a constant covariance: Qᵀ L Q becomes diagonal, in descending order."""
        g = random(6, 6) * torch.logspace(0, -2, 6, dtype=torch.float64).unsqueeze(1)
        params = zeros((6, 6))
        optimizer = soap(params, lr=0.0, precondition_frequency=1)
        taken(optimizer, params, [[g]])
        wrong, _ = torch.linalg.qr(random(6, 6, seed=3))
        optimizer.state[params[0]]["basis.0.0"].copy_(wrong)
        taken(optimizer, params, [[g]] * 60)
        q = optimizer.state[params[0]]["basis.0.0"][0]
        seen = q.T @ g @ g.T @ q
        expected = torch.linalg.eigvalsh(g @ g.T).flip(0)
        torch.testing.assert_close(seen.diagonal(), expected, rtol=1e-4, atol=1e-9)
        scale = expected.sqrt().outer(expected.sqrt())
        assert ((seen - torch.diag(seen.diagonal())).abs() < 1e-2 * scale).all()

    @settings(deadline=None, max_examples=10, derandomize=True)
    @given(seed=st.integers(0, 1000), every=st.integers(1, 4), scale=st.sampled_from([1e-6, 1.0, 1e6]))
    def test_the_basis_stays_orthogonal_in_single_precision(self, seed, every, scale):
        params = zeros((12, 9), dtype=torch.float32)
        optimizer = soap(params, lr=0.1, precondition_frequency=every)
        taken(optimizer, params, [[scale * random(12, 9, seed=seed + s)] for s in range(12)])
        for key, value in optimizer.state[params[0]].items():
            if key.startswith("basis"):
                eye = torch.eye(value.shape[-1]).expand_as(value)
                torch.testing.assert_close(value.mT @ value, eye, rtol=0, atol=1e-5)


class TestKnownFaults:
    def test_weights_move_from_the_first_step_on(self):
        """The paper's code, and HeavyBall's, take no step at the first gradient."""
        params = zeros((4, 3), (4,))
        moved = taken(soap(params, lr=0.1), params, [[random(4, 3), random(4)]])
        assert all(each.abs().max() > 1e-3 for each in moved)

    def test_rounding_errors_are_not_amplified_to_steps(self):
        """A gradient of rank 1 in single precision: the other 4095 entries of Qᵀ G Q are rounding errors, not directions.

        Divided by their own size each would be as long as the one that is there: 64 lengths of noise for one of step.
        """
        params = zeros((64, 64), dtype=torch.float32)
        optimizer = soap(params, lr=1.0, betas=(0.0, 0.9))
        u, v = random(64, 1, seed=1), random(1, 64, seed=2)
        last = params[0].detach().clone()
        for _ in range(4):
            (got,) = taken(optimizer, params, [[u @ v]])
            assert (got - last).norm() < 1.2
            along = u / u.norm() @ (v / v.norm())
            assert ((last - got).double() * along).sum() == pytest.approx(1.0, abs=0.02)
            last = got

    def test_the_state_consists_of_tensors_and_integers(self):
        params = zeros((7, 5), (4,), (3, 2, 3, 3))
        optimizer = soap(params, block_size=4, precondition_frequency=2)
        taken(optimizer, params, [[random(*p.shape, seed=s) for p in params] for s in range(3)])
        state = optimizer.state_dict()["state"]
        assert {type(value) for each in state.values() for value in each.values()} <= {torch.Tensor, int}
        other = soap(params, block_size=4, precondition_frequency=2)
        other.load_state_dict(saved(optimizer))
        assert str(other.state_dict()) == str(optimizer.state_dict())

    def test_factors_of_half_precision_weights_stay_in_single_precision(self):
        params = zeros((6, 4), dtype=torch.bfloat16)
        optimizer = soap(params, lr=0.1, precondition_frequency=2)
        taken(optimizer, params, [[random(6, 4, seed=s)] for s in range(5)])
        before = {k: v for k, v in optimizer.state[params[0]].items() if isinstance(v, torch.Tensor)}
        assert {v.dtype for v in before.values()} == {torch.float32}
        other = soap(params, lr=0.1, precondition_frequency=2)
        other.load_state_dict(saved(optimizer))
        for key, value in before.items():
            assert torch.equal(other.state[params[0]][key], value)


class TestBlocks:
    def test_blocks_are_equivalent_to_separate_parameters(self):
        given = gradients(7, 5, steps=7)
        params = zeros((7, 5))
        options = {"lr": 0.1, "precondition_frequency": 2, "block_size": 3}
        got = taken(soap(params, **options), params, [[g] for g in given])[0]

        def cut(t):
            return [part for rows in t.split([3, 2, 2]) for part in rows.split([3, 2], dim=1)]

        pieces = zeros(*[part.shape for part in cut(given[0])])
        expected = taken(soap(pieces, **options), pieces, [cut(g) for g in given])
        torch.testing.assert_close(cut(got), expected, rtol=1e-7, atol=1e-9)

    def test_parameters_without_a_gradient_in_some_steps_keep_their_state(self):
        params, single = zeros((4, 4), (4, 4)), zeros((4, 4))
        options = {"lr": 0.1, "precondition_frequency": 2}
        optimizer, other = soap(params, **options), soap(single, **options)
        for step in range(9):
            params[0].grad = random(4, 4, seed=step)
            params[1].grad = random(4, 4, seed=50 + step) if step % 3 else None
            optimizer.step()
            if step % 3:
                taken(other, single, [[random(4, 4, seed=50 + step)]])
        torch.testing.assert_close(params[1].detach(), single[0].detach(), rtol=1e-7, atol=1e-9)


def test_memory_is_as_documented():
    """784-512-512-10, within 10 %: 4 numbers for each weight and Adam's two; two for biases."""
    shapes = [(512, 784), (512,), (512, 512), (512,), (10, 512), (10,)]
    params = zeros(*shapes, dtype=torch.float32)
    optimizer = soap(params)
    for p in params:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    tensors = [v for s in optimizer.state.values() for v in s.values() if isinstance(v, torch.Tensor)]
    held = sum(v.numel() for v in tensors)
    storages = {v.untyped_storage().data_ptr(): v.untyped_storage().nbytes() for v in tensors}
    assert sum(storages.values()) == 4 * held
    weights = sum(math.prod(s) for s in shapes if len(s) == 2)
    assert held == pytest.approx(6 * weights + 2 * (512 + 512 + 10), rel=0.1)


@pytest.mark.parametrize("first", [True, False])
def test_numbers_that_are_not_finite_propagate(first):
    params = zeros((4, 3))
    optimizer = soap(params, precondition_frequency=1)
    if not first:
        taken(optimizer, params, [[random(4, 3, seed=s)] for s in range(3)])
    g = random(4, 3)
    g[1, 1] = math.nan
    assert taken(optimizer, params, [[g]])[0].isnan().any()


def test_a_zero_gradient_moves_nothing():
    params = zeros((4, 3))
    optimizer = soap(params, precondition_frequency=1)
    zero = torch.zeros(4, 3, dtype=torch.float64)
    assert torch.equal(taken(optimizer, params, [[zero]] * 3)[0], zero)
    assert torch.isfinite(taken(optimizer, params, [[random(4, 3)], [zero]])[0]).all()


class TestRefusals:
    @pytest.mark.parametrize(
        ("setting", "message"),
        [
            ({"betas": (1.0, 0.9)}, "betas: expected a list of 2: a number >= 0 and below 1"),
            ({"shampoo_beta": 1.0}, "shampoo_beta: expected a number >= 0 and below 1"),
            ({"block_size": 0}, "block_size: expected an integer >= 1, got 0"),
            ({"precondition_frequency": 0}, "precondition_frequency: expected an integer >= 1"),
            ({"eps": -1.0}, "eps: expected a number >= 0"),
        ],
    )
    def test_settings(self, setting, message):
        with pytest.raises(UserError, match=f"soap: {message}"):
            soap([torch.ones(1, requires_grad=True)], **setting)
        with pytest.raises(ValueError, match=message):
            SOAP([torch.ones(1, requires_grad=True)], **setting)

    def test_sparse_gradients(self):
        problem = Problem(Case("soap", sparse=True))
        with pytest.raises(UserError, match="use sparse_adam"):
            problem.train(soap(problem.parameters()), 1)
