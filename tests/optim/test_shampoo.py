"""Shampoo against its definition in dense double precision, its theorems, and known faults of other implementations."""

import copy
import io
import math

import pytest
import torch
from tests.support.optimizer_contract import Case, Contract, Problem, saved

from descend.errors import UserError
from descend.optim import Shampoo, shampoo
from descend.optim.blocks import Blocks, Partition, split_dimension

CASES = [
    Case("shampoo", lr=0.03),
    Case("shampoo", {"precondition_frequency": 1, "grafting": "adam"}, lr=0.03),
    Case("shampoo", {"precondition_frequency": 1, "grafting": "none", "betas": (0.0, 0.9)}, lr=0.03),
    Case("shampoo", {"precondition_frequency": 2, "grafting": "sgd", "block_size": 2}, lr=0.02),
    Case(
        "shampoo",
        {"precondition_frequency": 3, "grafting": "adagrad", "statistics": "sum", "vectors": "matrix"},
        lr=0.3,
    ),
    Case("shampoo", {"precondition_frequency": 1, "one_sided": True, "statistics_frequency": 2}, lr=0.03),
    Case("shampoo", {"precondition_frequency": 2, "nesterov": False}, lr=0.03),
    Case("shampoo", {"precondition_frequency": 1, "grafting": "adam", "nesterov": False}, lr=0.03),
]


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


class TestContract(Contract):
    pass


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gradients(*shape, steps, seed=0):
    """Gradients with a common direction, plus noise."""
    common = random(*shape, seed=seed)
    return [common + random(*shape, seed=100 * seed + step + 1) for step in range(steps)]


def taken(optimizer, params, per_step):
    """Return the parameters after steps with the given gradients, one list of gradients for each step."""
    for given in per_step:
        for p, g in zip(params, given, strict=True):
            p.grad = g.clone().to(p.dtype)
        optimizer.step()
    return [p.detach().clone() for p in params]


def zeros(*shapes, dtype=torch.float64):
    return [torch.nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in shapes]


def power(matrix, exponent, matrix_eps):
    """(A + matrix_eps λ_max I)^exponent by eigenvectors."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * (values.clamp_min(0) + matrix_eps * values[-1]) ** exponent) @ vectors.T


class Reference:
    """Shampoo of one tensor of any order, dense, as in the paper.

    No blocks, no stacks: each mode's covariance by einsum of the whole tensor, each product by tensordot.
    """

    def __init__(
        self,
        shape,
        lr,
        betas,
        *,
        precondition_frequency,
        grafting,
        matrix_eps,
        nesterov,
        start_preconditioning_step=1,
        eps=1e-8,
        summed=False,
    ):
        self.w = torch.zeros(shape, dtype=torch.float64)
        self.lr, self.betas, self.every, self.grafting = lr, betas, precondition_frequency, grafting
        self.matrix_eps, self.eps, self.summed, self.nesterov = matrix_eps, eps, summed, nesterov
        self.start_preconditioning_step = start_preconditioning_step
        self.c = [torch.zeros(n, n, dtype=torch.float64) for n in shape]
        self.roots = None
        self.m, self.v, self.a = (torch.zeros_like(self.w) for _ in range(3))
        self.t = 0

    def step(self, g):
        self.t += 1
        b1, b2 = self.betas
        keep, add = (1.0, 1.0) if self.summed else (b2, 1 - b2)
        order = g.dim()
        for mode in range(order):
            flat = g.transpose(0, mode).reshape(g.shape[mode], -1)
            self.c[mode] = keep * self.c[mode] + add * flat @ flat.T
        weight = 1.0 if self.summed else 1 - b2**self.t
        if self.t >= self.start_preconditioning_step and (self.t % self.every == 0 or self.roots is None):
            self.roots = [power(c / weight, -1 / (2 * order), self.matrix_eps) for c in self.c]
        if self.grafting == "adagrad":
            self.v = self.v + g * g
            simple = g / (self.v.sqrt() + self.eps)
        elif self.grafting in ("rmsprop", "adam"):
            self.v = b2 * self.v + (1 - b2) * g * g
            self.a = b1 * self.a + (1 - b1) * g
            top = self.a / (1 - b1**self.t) if self.grafting == "adam" else g
            simple = top / ((self.v / (1 - b2**self.t)).sqrt() + self.eps)
        else:
            simple = g
        p = simple
        if self.roots is not None:
            p = g
            for mode, root in enumerate(self.roots):
                p = torch.tensordot(root, p.movedim(mode, 0), dims=1).movedim(0, mode)
            if self.grafting != "none":
                p = p * simple.norm() / p.norm()
        self.m = b1 * self.m + (1 - b1) * p
        m, count = (b1 * self.m + (1 - b1) * p, self.t + 1) if self.nesterov else (self.m, self.t)
        if self.grafting == "adam":
            self.w = self.w - self.lr * m * simple.norm() / m.norm()
        else:
            self.w = self.w - self.lr * m / (1 - b1**count)
        return self.w


class TestAgainstDenseAlgebra:
    @pytest.mark.slow
    @pytest.mark.parametrize("grafting", ["rmsprop", "adam", "adagrad", "sgd", "none"])
    @pytest.mark.parametrize("shape", [(5,), (4, 6), (3, 4, 5), (2, 3, 4, 3)])
    @pytest.mark.parametrize(
        ("precondition_frequency", "start_preconditioning_step"), [(1, 1), (3, 1), (3, 3), (3, 5)]
    )
    @pytest.mark.parametrize("nesterov", [True, False])
    def test_tensors_of_every_order_for_several_steps(
        self, shape, grafting, precondition_frequency, start_preconditioning_step, nesterov
    ):
        settings = {
            "precondition_frequency": precondition_frequency,
            "start_preconditioning_step": start_preconditioning_step,
            "grafting": grafting,
            "nesterov": nesterov,
        }
        settings["matrix_eps"] = 1e-4
        reference = Reference(shape, 0.1, (0.9, 0.95), **settings)
        # The whole tensor is one block, and none of its dimensions are merged.
        params = zeros(shape)
        optimizer = shampoo(
            params, lr=0.1, betas=(0.9, 0.95), block_size=max(shape), vectors="matrix", **settings
        )
        for g in gradients(*shape, steps=7):
            expected = reference.step(g)
            (got,) = taken(optimizer, params, [[g]])
            torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-10)

    def test_sums_as_in_adagrad(self):
        settings = {"precondition_frequency": 2, "grafting": "adagrad", "matrix_eps": 1e-5, "nesterov": False}
        reference = Reference((4, 3), 0.1, (0.5, 0.9), summed=True, **settings)
        params = zeros((4, 3))
        optimizer = shampoo(params, lr=0.1, betas=(0.5, 0.9), statistics="sum", **settings)
        for g in gradients(4, 3, steps=6):
            expected = reference.step(g)
            torch.testing.assert_close(taken(optimizer, params, [[g]])[0], expected, rtol=1e-8, atol=1e-10)

    def test_statistics_frequency(self):
        """Every second gradient updates the averages of which the roots are computed."""
        params = zeros((4, 3))
        optimizer = shampoo(
            params,
            lr=1.0,
            betas=(0.0, 0.8),
            statistics_frequency=2,
            precondition_frequency=5,
            grafting="sgd",
            matrix_eps=1e-3,
        )
        given = gradients(4, 3, steps=5)
        before = taken(optimizer, params, [[g] for g in given[:4]])[0]
        after = taken(optimizer, params, [[given[4]]])[0]
        seen = given[0::2]
        shares = torch.tensor([0.8 ** (2 - k) * 0.2 for k in range(3)], dtype=torch.float64)
        shares /= 1 - 0.8**3
        left = sum(s * g @ g.T for s, g in zip(shares, seen, strict=True))
        right = sum(s * g.T @ g for s, g in zip(shares, seen, strict=True))
        found = power(left, -0.25, 1e-3) @ given[4] @ power(right, -0.25, 1e-3)
        expected = found * given[4].norm() / found.norm()
        torch.testing.assert_close(before - after, expected, rtol=1e-9, atol=1e-11)


class TestTheorems:
    @pytest.mark.parametrize("shape", [(6, 4), (5, 5), (3, 8)])
    def test_one_gradient_without_regularization_yields_the_orthogonal_factor(self, shape):
        """(G Gᵀ)^(-1/4) G (Gᵀ G)^(-1/4) = U Vᵀ."""
        g = random(*shape)
        params = zeros(shape)
        optimizer = shampoo(params, lr=1.0, grafting="none", matrix_eps=1e-14)
        (got,) = taken(optimizer, params, [[g]])
        u, _, vt = torch.linalg.svd(g, full_matrices=False)
        torch.testing.assert_close(-got, u @ vt, rtol=1e-3, atol=1e-3)

    def test_for_vectors_it_is_full_matrix_adagrad(self):
        """x ← x − t (Σ g gᵀ + matrix_eps)^(-1/2) g."""
        given = [random(6, seed=seed) for seed in range(9)]
        params = zeros((6,))
        optimizer = shampoo(
            params, lr=0.3, betas=(0.0, 0.9), precondition_frequency=1, statistics="sum", grafting="none",
            vectors="matrix", matrix_eps=1e-8,
        )  # fmt: skip
        total, x = torch.zeros(6, 6, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)
        for g in given:
            total += torch.outer(g, g)
            x = x - 0.3 * power(total, -0.5, 1e-8) @ g
            torch.testing.assert_close(taken(optimizer, params, [[g]])[0], x, rtol=1e-6, atol=1e-8)

    @pytest.mark.parametrize("grafting", ["rmsprop", "adam", "adagrad", "sgd", "none"])
    def test_the_first_step_is_along_the_orthogonal_factor_for_every_grafting(self, grafting):
        """The first roots are computed from the first gradient, whatever the precondition_frequency."""
        g = random(6, 4)
        params = zeros((6, 4))
        (got,) = taken(
            shampoo(params, lr=1.0, grafting=grafting, precondition_frequency=100, matrix_eps=1e-14),
            params,
            [[g]],
        )
        u, _, vt = torch.linalg.svd(g, full_matrices=False)
        torch.testing.assert_close(-got / got.norm(), u @ vt / 2, rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("side", ["rows", "columns", "both"])
    def test_it_is_invariant_to_rotations(self, side):
        """Gradients Q_L G Q_R lead to Q_L W Q_R: the method is invariant to orthogonal changes of coordinates."""
        q, _ = torch.linalg.qr(random(5, 5, seed=7))
        r, _ = torch.linalg.qr(random(4, 4, seed=8))
        q = q if side != "columns" else torch.eye(5, dtype=torch.float64)
        r = r if side != "rows" else torch.eye(4, dtype=torch.float64)
        given = gradients(5, 4, steps=8)
        ends = []
        for turned in (False, True):
            params = zeros((5, 4))
            optimizer = shampoo(params, lr=0.1, precondition_frequency=1, grafting="sgd", matrix_eps=1e-5)
            ends += taken(optimizer, params, [[q @ g @ r] if turned else [g] for g in given])
        torch.testing.assert_close(ends[1], q @ ends[0] @ r, rtol=1e-8, atol=1e-10)

    def test_rmsprop_is_not_invariant(self):
        """The control: before the first roots, steps are those of the grafting method."""
        q, _ = torch.linalg.qr(random(5, 5, seed=7))
        given = gradients(5, 4, steps=8)
        ends = []
        for turned in (False, True):
            params = zeros((5, 4))
            optimizer = shampoo(params, lr=0.1, start_preconditioning_step=100)
            ends += taken(optimizer, params, [[q @ g] if turned else [g] for g in given])
        assert (ends[1] - q @ ends[0]).abs().max() > 0.1

    def test_one_sided_has_the_exponent_minus_one_half(self):
        """(G Gᵀ)^(-1/2) G = U Vᵀ as well, from the smaller side only."""
        g = random(3, 8)
        params = zeros((3, 8))
        optimizer = shampoo(params, lr=1.0, grafting="none", matrix_eps=1e-14, one_sided=True)
        (got,) = taken(optimizer, params, [[g]])
        u, _, vt = torch.linalg.svd(g, full_matrices=False)
        torch.testing.assert_close(-got, u @ vt, rtol=1e-3, atol=1e-3)
        assert [k for k in optimizer.state[params[0]] if k.startswith("covariance")] == ["covariance.0.0"]

    def test_before_the_first_roots_without_grafting_a_vector_does_not_affect_a_matrix(self):
        given = gradients(7, 5, steps=3)
        settings = {"lr": 0.1, "betas": (0.0, 0.99), "grafting": "none", "start_preconditioning_step": 100}
        single, both = zeros((7, 5)), zeros((7, 5), (5,))
        taken(shampoo(single, **settings), single, [[g] for g in given])
        taken(shampoo(both, **settings), both, [[g, g[0]] for g in given])
        assert torch.equal(single[0], both[0])
        torch.testing.assert_close(single[0].detach(), -0.1 * sum(given), rtol=0, atol=1e-12)

    @pytest.mark.parametrize("grafting", ["rmsprop", "adam", "adagrad", "sgd"])
    def test_steps_have_the_length_of_the_grafting_method(self, grafting):
        """Without momentum, for each tensor and any block size."""
        given = gradients(7, 5, steps=6)
        params = zeros((7, 5))
        settings = {"lr": 0.1, "betas": (0.0, 0.99), "grafting": grafting, "block_size": 3}
        optimizer = shampoo(params, precondition_frequency=1, **settings)
        simple = zeros((7, 5))
        other = shampoo(simple, start_preconditioning_step=1000, **settings)
        for g in given:
            old = [p.detach().clone() for p in (params[0], simple[0])]
            moved = taken(optimizer, params, [[g]])[0] - old[0]
            expected = taken(other, simple, [[g]])[0] - old[1]
            assert moved.norm().item() == pytest.approx(expected.norm().item(), rel=1e-9)
            assert (moved - expected).norm() > 0.1 * expected.norm()

    @pytest.mark.parametrize(
        ("grafting", "theirs"),
        [
            ("adam", lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.9, 0.99))),
            ("adagrad", lambda p: torch.optim.Adagrad(p, lr=0.1, eps=1e-8)),
            ("sgd", lambda p: torch.optim.SGD(p, lr=0.1)),
        ],
    )
    def test_the_grafting_methods_are_pytorch_s(self, grafting, theirs):
        """Biases always take their steps, weights until the first roots. Only Adam has momentum."""
        given = [[random(4, 3, seed=s), random(4, seed=50 + s)] for s in range(6)]
        params, others = zeros((4, 3), (4,)), zeros((4, 3), (4,))
        betas = (0.9, 0.99) if grafting == "adam" else (0.0, 0.99)
        got = taken(
            shampoo(params, lr=0.1, betas=betas, start_preconditioning_step=9, grafting=grafting),
            params,
            given,
        )
        expected = taken(theirs(others), others, given)
        if grafting == "adam":  # For weights it only determines the length, along the momentum of its steps.
            got, expected = got[1:], expected[1:]
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-11)

    def test_rmsprop_for_biases_is_adam_with_momentum_applied_last(self):
        given = [random(4, seed=s) for s in range(8)]
        params = zeros((4,))
        settings = {"lr": 0.1, "betas": (0.9, 0.99), "nesterov": False}
        got = taken(shampoo(params, **settings), params, [[g] for g in given])[0]
        x, v, m = (torch.zeros(4, dtype=torch.float64) for _ in range(3))
        for t, g in enumerate(given, 1):
            v = 0.99 * v + 0.01 * g * g
            m = 0.9 * m + 0.1 * g / ((v / (1 - 0.99**t)).sqrt() + 1e-8)
            x = x - 0.1 * m / (1 - 0.9**t)
        torch.testing.assert_close(got, x, rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("nesterov", [True, False])
    def test_the_weights_of_past_gradients_in_a_step(self, nesterov):
        """Before the first roots and with SGD's lengths a step is an average of gradients. Unit vectors show the weights.

        β^(k−j) for step j of k; for Nesterov's step once more of the last, and all of the others a step older.
        """
        beta, last = 0.8, 6
        params = zeros((7,))
        optimizer = shampoo(params, lr=1.0, betas=(beta, 0.9), grafting="sgd", nesterov=nesterov)
        unit = torch.eye(7, dtype=torch.float64)
        before = taken(optimizer, params, [[unit[k]] for k in range(last)])[0]
        after = taken(optimizer, params, [[unit[last]]])[0]
        ages = torch.arange(last, -1, -1, dtype=torch.float64)
        shares = beta ** (ages + 1) if nesterov else beta**ages
        shares[last] += 1.0 if nesterov else 0.0
        torch.testing.assert_close(before - after, shares / shares.sum(), rtol=1e-12, atol=1e-14)


class TestKnownFaults:
    """Faults of existing implementations."""

    @pytest.mark.parametrize("order", [1, 2, 3, 4])
    def test_exponent_is_one_over_twice_the_order(self, order):
        """jettify, kozistr: −1/order. A gradient c e₁⊗…⊗e₁ has covariances c² e₁e₁ᵀ: P = c · c^(-2·order/(2·order)) = 1."""
        shape = (3,) * order
        for scale in (0.1, 50.0):
            g = torch.zeros(shape, dtype=torch.float64)
            g[(0,) * order] = scale
            params = zeros(shape)
            optimizer = shampoo(
                params, lr=1.0, grafting="none", matrix_eps=1e-12, vectors="matrix", block_size=3
            )
            (got,) = taken(optimizer, params, [[g]])
            assert -got[(0,) * order].item() == pytest.approx(1.0, rel=1e-6)

    def test_momentum_averages_preconditioned_gradients(self):
        """kozistr: the buffer of preconditioned gradients is mixed into the raw gradient, which has a different scale.

        With the loss in other units, P is the same at every step, and so must every step be.
        """
        given = gradients(4, 3, steps=6)
        ends = []
        for unit in (1.0, 1e4):
            params = zeros((4, 3))
            optimizer = shampoo(params, lr=0.1, grafting="none", precondition_frequency=1)
            ends += taken(optimizer, params, [[unit * g] for g in given])
        torch.testing.assert_close(ends[1], ends[0], rtol=1e-9, atol=1e-12)

    def test_momentum_is_applied_after_preconditioning_and_grafting(self):
        """M = Σ β^(t−k) P_k with each P_k preconditioned by the roots of its own step, not by those of the last."""
        first, second = gradients(4, 3, steps=2)
        singles = []
        params = zeros((4, 3))
        optimizer = shampoo(params, lr=1.0, betas=(0.0, 0.9), grafting="sgd", precondition_frequency=1)
        singles.append(-taken(optimizer, params, [[first]])[0])
        singles.append(-taken(optimizer, params, [[second]])[0] - singles[0])
        params = zeros((4, 3))
        settings = {"lr": 1.0, "grafting": "sgd", "precondition_frequency": 1, "nesterov": False}
        optimizer = shampoo(params, betas=(0.9, 0.9), **settings)
        one = taken(optimizer, params, [[first]])[0]
        two = taken(optimizer, params, [[second]])[0]
        expected = (0.9 * 0.1 * singles[0] + 0.1 * singles[1]) / (1 - 0.81)
        torch.testing.assert_close(one - two, expected, rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("grafting", ["rmsprop", "adam", "adagrad", "sgd", "none"])
    def test_weights_move_before_the_first_root(self, grafting):
        """kozistr: weights do not move in the first k − 1 steps, as the roots are zero until then."""
        params = zeros((4, 3), (4,))
        optimizer = shampoo(params, lr=0.1, start_preconditioning_step=50, grafting=grafting)
        last = [p.detach().clone() for p in params]
        for step in range(5):
            moved = taken(optimizer, params, [[random(4, 3, seed=step), random(4, seed=step)]])
            for before, after in zip(last, moved, strict=True):
                assert (after - before).abs().min() > 1e-6
            last = moved

    def test_the_state_consists_of_tensors_and_integers(self):
        """pytorch_optimizer: the state has Python objects, which weights_only refuses."""
        params = zeros((7, 5), (4,), (3, 2, 3, 3))
        optimizer = shampoo(params, block_size=4, precondition_frequency=2, grafting="adam", vectors="matrix")
        taken(optimizer, params, [[random(*p.shape, seed=s) for p in params] for s in range(3)])
        for state in optimizer.state_dict()["state"].values():
            assert {type(value) for value in state.values()} <= {torch.Tensor, int}
        file = io.BytesIO()
        torch.save(optimizer.state_dict(), file)
        file.seek(0)
        loaded = torch.load(file, weights_only=True)
        other = shampoo(params, block_size=4, precondition_frequency=2, grafting="adam", vectors="matrix")
        other.load_state_dict(loaded)
        assert str(other.state_dict()) == str(optimizer.state_dict())

    def test_factors_of_half_precision_weights_stay_in_single_precision(self):
        """load_state_dict casts to the dtype of the parameter, which silently demotes factors."""
        params = zeros((6, 4), dtype=torch.bfloat16)
        optimizer = shampoo(params, lr=0.1, precondition_frequency=2)
        taken(optimizer, params, [[random(6, 4, seed=s)] for s in range(5)])
        before = {k: v for k, v in optimizer.state[params[0]].items() if isinstance(v, torch.Tensor)}
        assert {v.dtype for v in before.values()} == {torch.float32}
        other = shampoo(params, lr=0.1, precondition_frequency=2)
        other.load_state_dict(saved(optimizer))
        for key, value in before.items():
            assert other.state[params[0]][key].dtype is torch.float32
            assert torch.equal(other.state[params[0]][key], value)
        assert other.state[params[0]]["step"] == 5

    def test_old_roots_are_used_until_the_next(self):
        """Between two roots the preconditioner is fixed: P is linear in the gradient."""
        params = zeros((4, 3))
        optimizer = shampoo(params, lr=1.0, betas=(0.0, 0.9), precondition_frequency=3, grafting="none")
        given = gradients(4, 3, steps=8)
        taken(optimizer, params, [[g] for g in given[:3]])
        optimizer.param_groups[0]["precondition_frequency"] = 100
        steps = []
        for g in (given[3], 2 * given[3]):
            before = params[0].detach().clone()
            steps.append(taken(optimizer, params, [[g]])[0] - before)
        torch.testing.assert_close(steps[1], 2 * steps[0], rtol=1e-9, atol=1e-12)


def cut(matrix):
    """The blocks of a 7 × 5 matrix with block size 3: 7 is 3 + 2 + 2 and 5 is 3 + 2."""
    return [part for rows in matrix.split([3, 2, 2]) for part in rows.split([3, 2], dim=1)]


class TestBlocks:
    def test_dimensions_are_split_into_nearly_equal_parts(self):
        for size in range(1, 60):
            for limit in range(1, 20):
                found = split_dimension(size, limit)
                sizes = [each for _, count, each in found for _ in range(count)]
                assert sum(sizes) == size
                assert len(sizes) == math.ceil(size / limit)
                assert max(sizes) <= limit
                assert max(sizes) - min(sizes) <= 1
                firsts = [first + k * each for first, count, each in found for k in range(count)]
                assert firsts == [sum(sizes[:k]) for k in range(len(sizes))]

    @pytest.mark.parametrize(
        "shapes",
        [
            [(4, 6), (3,), (2, 2), ()],
            [(7, 5), (7, 5)],
            [(5, 4, 3, 3), (1, 9), (8, 1)],
            [(10,)],
            [(2, 0), (3, 3)],
        ],
    )
    @pytest.mark.parametrize("vectors", [False, True])
    def test_every_entry_has_one_place(self, shapes, vectors):
        blocks = Blocks(shapes, Partition(3, 8192, False, vectors))
        total = sum(math.prod(shape) for shape in shapes)
        assert blocks.size == total
        numbers = torch.arange(float(total))
        tensors = [
            part.view(shape)
            for part, shape in zip(numbers.split([math.prod(s) for s in shapes]), shapes, strict=True)
        ]
        vector = torch.full((total,), -1.0)
        blocks.copy(tensors, vector)
        assert torch.equal(vector.sort().values, numbers)
        back = [torch.zeros(shape) for shape in shapes]
        blocks.add(vector, back, 2.0)
        for each, tensor in zip(back, tensors, strict=True):
            assert torch.equal(each, 2 * tensor)

    @pytest.mark.parametrize(
        ("shape", "merged"),
        [((64, 32, 3, 3), (64, 32, 9)), ((64, 3, 3, 3), (64, 27)), ((10, 1, 5, 5), (10, 25)), ((6, 7), (6, 7)),
         ((1, 9), (9,)), ((), (1,)), ((4, 2, 2, 2, 2), (4, 16))],
    )  # fmt: skip
    def test_small_dimensions_are_merged(self, shape, merged):
        assert Partition(128, 8192, False, True).plan(shape)[0] == merged

    def test_a_dimension_that_is_too_large_has_no_matrix_and_is_not_split(self):
        blocks = Blocks([(50, 6)], Partition(4, 10, False, False))
        assert [(stack.block, stack.count, stack.sides) for stack in blocks.stacks] == [((50, 3), 2, (1,))]

    def test_blocks_are_equivalent_to_separate_parameters(self):
        """Without grafting and with a negligible matrix_eps, both of which act on the whole tensor."""
        given = gradients(7, 5, steps=5)
        params = zeros((7, 5))
        settings = {
            "lr": 0.1,
            "precondition_frequency": 2,
            "grafting": "none",
            "block_size": 3,
            "matrix_eps": 1e-14,
        }
        got = taken(shampoo(params, **settings), params, [[g] for g in given])[0]
        pieces = zeros(*[part.shape for part in cut(given[0])])
        expected = taken(shampoo(pieces, **settings), pieces, [cut(g) for g in given])
        torch.testing.assert_close(cut(got), expected, rtol=1e-9, atol=1e-12)

    def test_matrix_eps_is_relative_to_the_largest_eigenvalue_of_any_block_of_the_tensor(self):
        """Another tensor in the same stacks, with much larger gradients, does not affect it."""
        sizes = torch.tensor([1.0, 30.0, 0.01])[torch.tensor([0, 0, 0, 1, 1, 2, 2])]
        given = [g * sizes[:, None] for g in gradients(7, 5, steps=3)]
        others = [1000 * g for g in gradients(7, 5, steps=3, seed=1)]
        params = zeros((7, 5), (7, 5))
        optimizer = shampoo(
            params,
            lr=1.0,
            betas=(0.0, 0.8),
            grafting="none",
            block_size=3,
            matrix_eps=0.1,
            precondition_frequency=1,
        )
        before = taken(optimizer, params, list(map(list, zip(given[:2], others[:2], strict=True))))[0]
        after = taken(optimizer, params, [[given[2], others[2]]])[0]
        shares = torch.tensor([0.8**2, 0.8, 1.0], dtype=torch.float64)
        shares /= shares.sum()
        seen = list(zip(*map(cut, given), strict=True))  # for each block its three gradients
        left = [sum(s * g @ g.T for s, g in zip(shares, block, strict=True)) for block in seen]
        right = [sum(s * g.T @ g for s, g in zip(shares, block, strict=True)) for block in seen]

        def root(matrix, all_of_them):
            top = max(torch.linalg.eigvalsh(each)[-1] for each in all_of_them)
            values, vectors = torch.linalg.eigh(matrix)
            return (vectors * (values + 0.1 * top) ** -0.25) @ vectors.T

        expected = [
            root(rows, left) @ block[2] @ root(columns, right)
            for rows, columns, block in zip(left, right, seen, strict=True)
        ]
        torch.testing.assert_close(cut(before - after), expected, rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("faint", [0.0, 1e-4])
    def test_a_block_with_hardly_any_gradient_does_not_dominate_the_step(self, faint):
        """Pixels that are rarely non-zero: the roots of their block are computed from almost no gradients, and then one comes."""
        params = zeros((4, 8), dtype=torch.float32)
        settings = {"lr": 1.0, "betas": (0.0, 0.9), "block_size": 4, "grafting": "sgd", "matrix_eps": 1e-2}
        optimizer = shampoo(params, precondition_frequency=3, **settings)
        sizes = torch.tensor([1.0] * 4 + [faint] * 4)
        dark = [g.float() * sizes for g in gradients(4, 8, steps=3)]
        before = taken(optimizer, params, [[g] for g in dark])[0]
        lit = dark[2] + 1e-2 * random(4, 8, seed=9).float() * torch.tensor([0.0] * 4 + [1.0] * 4)
        moved = taken(optimizer, params, [[lit]])[0] - before
        assert moved[:, :4].norm() > 0.9 * lit.norm()
        assert moved[:, 4:].norm() > 0

    @pytest.mark.parametrize("grafting", ["rmsprop", "adam", "adagrad", "sgd", "none"])
    def test_a_tensor_without_gradients_so_far_moves_along_the_next_one(self, grafting):
        """Its roots are the identity, so the next gradient is not preconditioned."""
        params = zeros((4, 3), dtype=torch.float32)
        optimizer = shampoo(params, lr=1.0, betas=(0.0, 0.9), grafting=grafting, precondition_frequency=3)
        before = taken(optimizer, params, [[torch.zeros(4, 3)]] * 3)[0]
        g = random(4, 3).float()
        moved = taken(optimizer, params, [[g]])[0] - before
        assert torch.nn.functional.cosine_similarity(-moved.flatten(), g.flatten(), dim=0) > 0.9999
        assert 0.1 < moved.norm() < 10 * g.norm()
        if grafting == "none":
            torch.testing.assert_close(-moved, g, rtol=1e-6, atol=0)

    def test_parameters_of_a_stack_are_independent(self):
        shapes = [(4, 3), (4, 3), (3,), (8, 3), (2, 3, 2, 2)]
        settings = {"lr": 0.1, "precondition_frequency": 2, "block_size": 4}
        given = [[random(*s, seed=10 * step + k) for k, s in enumerate(shapes)] for step in range(5)]
        params = zeros(*shapes)
        together = taken(shampoo(params, **settings), params, given)
        for place, shape in enumerate(shapes):
            single = zeros(shape)
            (got,) = taken(shampoo(single, **settings), single, [[each[place]] for each in given])
            torch.testing.assert_close(together[place], got, rtol=1e-9, atol=1e-12)

    def test_channels_last_weights(self):
        given = [random(4, 3, 2, 2, seed=s) for s in range(4)]
        ends = []
        for memory in (torch.contiguous_format, torch.channels_last):
            p = torch.nn.Parameter(
                torch.zeros(4, 3, 2, 2, dtype=torch.float64).contiguous(memory_format=memory)
            )
            optimizer = shampoo([p], lr=0.1, precondition_frequency=2)
            for g in given:
                p.grad = g.contiguous(memory_format=memory)
                optimizer.step()
            ends.append(p.detach())
        torch.testing.assert_close(*ends, rtol=1e-9, atol=1e-12)

    def test_parameters_without_a_gradient_in_some_steps_keep_their_state(self):
        """A parameter that has no gradient in some steps moves as if it were the only one."""
        shapes = [(4, 3), (4, 3)]
        params, single = zeros(*shapes), zeros((4, 3))
        settings = {"lr": 0.1, "precondition_frequency": 2}
        optimizer, other = shampoo(params, **settings), shampoo(single, **settings)
        for step in range(7):
            given = [random(4, 3, seed=step), random(4, 3, seed=50 + step)]
            params[0].grad, params[1].grad = given[0], given[1] if step % 3 else None
            optimizer.step()
            if step % 3:
                taken(other, single, [[given[1]]])
        torch.testing.assert_close(params[1].detach(), single[0].detach(), rtol=1e-9, atol=1e-12)
        assert [optimizer.state[p]["step"] for p in params] == [7, 4]


class TestMemory:
    @pytest.mark.parametrize(
        ("grafting", "vectors", "others"),
        [("rmsprop", 2, 6), ("adam", 3, 7), ("adagrad", 2, 6), ("sgd", 1, 5)],
    )
    def test_memory_is_as_documented(self, grafting, vectors, others):
        """784-512-512-10, within 10 %: square blocks of 128 take 4 numbers for each weight."""
        shapes = [(512, 784), (512,), (512, 512), (512,), (10, 512), (10,)]
        params = zeros(*shapes, dtype=torch.float32)
        optimizer = shampoo(params, grafting=grafting, precondition_frequency=1)
        for p in params:
            p.grad = torch.zeros_like(p)
        optimizer.step()
        held = sum(
            v.numel() for s in optimizer.state.values() for v in s.values() if isinstance(v, torch.Tensor)
        )
        storages = {
            v.untyped_storage().data_ptr(): v.untyped_storage().nbytes()
            for s in optimizer.state.values()
            for v in s.values()
            if isinstance(v, torch.Tensor)
        }
        assert sum(storages.values()) == 4 * held  # nothing is stored twice
        weights = sum(math.prod(s) for s in shapes if len(s) == 2)
        biases = sum(math.prod(s) for s in shapes if len(s) == 1)
        assert held == pytest.approx(others * weights + vectors * biases, rel=0.1)


def test_numbers_that_are_not_finite_propagate():
    """A NaN in a gradient is in the weights after the step, whether roots are computed or not."""
    for precondition_frequency in (1, 5):
        params = zeros((4, 3))
        optimizer = shampoo(params, precondition_frequency=precondition_frequency)
        g = random(4, 3)
        g[1, 1] = math.nan
        (got,) = taken(optimizer, params, [[g]])
        assert got.isnan().any()


def test_a_zero_gradient_moves_nothing():
    params = zeros((4, 3))
    optimizer = shampoo(params, precondition_frequency=1, grafting="adam")
    zero = torch.zeros(4, 3, dtype=torch.float64)
    (got,) = taken(optimizer, params, [[zero]] * 3)
    assert torch.equal(got, zero)
    taken(optimizer, params, [[random(4, 3)]])
    (got,) = taken(optimizer, params, [[zero]] * 3)
    assert torch.isfinite(got).all()


def test_a_copy_of_the_optimizer_takes_the_same_steps():
    problem = Problem(Case("shampoo"))
    optimizer = shampoo(problem.parameters(), lr=0.03, precondition_frequency=2)
    problem.train(optimizer, 3)
    twin, other = copy.deepcopy((problem, optimizer))
    assert torch.equal(twin.train(other, 3), problem.train(optimizer, 3))


class TestRefusals:
    @pytest.mark.parametrize(
        ("setting", "message"),
        [
            ({"betas": (1.0, 0.9)}, r"betas: expected a list of 2: .*got \[1.0, 0.9\]"),
            ({"block_size": 0}, "block_size: expected an integer >= 1, got 0"),
            ({"precondition_frequency": 0}, "precondition_frequency: expected an integer >= 1"),
            ({"start_preconditioning_step": 0}, "start_preconditioning_step: expected an integer >= 1"),
            ({"matrix_eps": 0.0}, "matrix_eps: expected a number above 0"),
            ({"eps": -1.0}, "eps: expected a number >= 0"),
            ({"grafting": "lion"}, 'grafting: expected "rmsprop", "adam"'),
            ({"statistics": "mean"}, 'statistics: expected "average" or "sum"'),
            ({"lr": math.nan}, "lr: expected a number above 0"),
        ],
    )
    def test_settings(self, setting, message):
        with pytest.raises(UserError, match=f"shampoo: {message}"):
            shampoo([torch.ones(1, requires_grad=True)], **setting)
        with pytest.raises(ValueError, match=message):
            Shampoo([torch.ones(1, requires_grad=True)], **setting)

    def test_sparse_gradients(self):
        problem = Problem(Case("shampoo", sparse=True))
        with pytest.raises(UserError, match="use sparse_adam"):
            problem.train(shampoo(problem.parameters()), 1)

    def test_complex_parameters(self):
        p = torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.complex64))
        p.grad = torch.ones_like(p)
        with pytest.raises(UserError, match="complex"):
            shampoo([p]).step()
