"""Cayley SGD and Adam against dense float64 algebra, closed forms, PyTorch, and known faults of other implementations."""

import copy
import io

import pytest
import torch
from tests.support.optimizer_contract import Case, Contract, saved
from torch import nn

from descend.errors import UserError
from descend.linalg.stiefel import frames_of, off_frame, polar
from descend.optim import OPTIMIZERS, CayleyAdam, CayleySGD, adam, cayley_adam, cayley_sgd, sgd

DOUBLE = torch.float64

CASES = [
    Case("cayley_sgd", stateful=False),
    Case("cayley_sgd", {"momentum": 0.9}),
    Case("cayley_adam"),
]

KINDS = {
    "sgd": lambda params, **chosen: CayleySGD(params, **{"lr": 0.1, "orthonormal": True} | chosen),
    "momentum": lambda params, **chosen: CayleySGD(
        params, **{"lr": 0.1, "momentum": 0.9, "orthonormal": True} | chosen
    ),
    "adam": lambda params, **chosen: CayleyAdam(params, **{"lr": 0.1, "orthonormal": True} | chosen),
    "iterated": lambda params, **chosen: CayleyAdam(
        params, **{"lr": 0.1, "orthonormal": True, "iterations": 5} | chosen
    ),
}


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


@pytest.fixture(params=KINDS)
def make(request):
    return KINDS[request.param]


class TestContract(Contract):
    """Without an orthonormal weight they are ordinary optimizers."""


def randn(*shape, seed=0, dtype=DOUBLE):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE).to(dtype)


def frame(n, q, seed=0, dtype=DOUBLE):
    return nn.Parameter(torch.linalg.qr(randn(n, q, seed=seed))[0].to(dtype))


def excess(weight):
    """The Frobenius norm of XᵀX − I, in float64."""
    x = frames_of([weight.detach().double()])[0]
    return float(torch.linalg.matrix_norm(x.T @ x - torch.eye(x.shape[1], dtype=DOUBLE)))


def skew(x, d):
    """W of Li et al.: W X is the tangent part of D."""
    half = d @ x.T - 0.5 * x @ (x.T @ d @ x.T)
    return half - half.T


def transformed(x, w):
    """(I + W/2)⁻¹ (I − W/2) X."""
    eye = torch.eye(len(w), dtype=w.dtype)
    return torch.linalg.solve(eye + w / 2, (eye - w / 2) @ x)


class TestAgainstThePaper:
    """With n × n matrices in float64, and the exact transform in place of the iteration."""

    gradients = tuple(randn(7, 3, seed=seed) for seed in range(1, 6))

    @pytest.mark.parametrize("momentum", [0.0, 0.9])
    def test_sgd(self, momentum):
        weight = frame(7, 3)
        x, m = weight.detach().clone(), torch.zeros(7, 3, dtype=DOUBLE)
        optimizer = CayleySGD([weight], lr=0.3, momentum=momentum, orthonormal=True)
        for gradient in self.gradients:
            weight.grad = gradient.clone()
            optimizer.step()
            w = skew(x, momentum * m + gradient)
            m = w @ x
            x = transformed(x, 0.3 * w)
            torch.testing.assert_close(weight.detach(), x, rtol=0, atol=1e-13)

    def test_adam(self):
        """With the mean of the squares instead of their sum, and ε outside the root, as in PyTorch."""
        weight = frame(7, 3)
        x, m, s = weight.detach().clone(), torch.zeros(7, 3, dtype=DOUBLE), 0.0
        optimizer = CayleyAdam([weight], lr=0.3, betas=(0.8, 0.9), eps=1e-3, orthonormal=True)
        for count, gradient in enumerate(self.gradients, start=1):
            weight.grad = gradient.clone()
            optimizer.step()
            m = 0.8 * m + 0.2 * gradient
            s = 0.9 * s + 0.1 * float(gradient.square().mean())
            scale = (1 - 0.8**count) * ((s / (1 - 0.9**count)) ** 0.5 + 1e-3)
            w = skew(x, m) / scale
            m = scale * w @ x
            x = transformed(x, 0.3 * w)
            torch.testing.assert_close(weight.detach(), x, rtol=0, atol=1e-13)

    def test_the_learning_rate_of_the_paper_is_ours_times_the_root_of_the_size(self):
        """In the paper the first step of Adam has the length of the learning rate, for a tangent gradient."""
        weight = frame(40, 2)
        start = weight.detach().clone()
        weight.grad = skew(start, randn(40, 2, seed=1)) @ start
        CayleyAdam([weight], lr=1e-4 / 80**0.5, eps=0.0, orthonormal=True).step()
        assert float((weight.detach() - start).norm()) == pytest.approx(1e-4, rel=1e-6)

    def test_the_iteration_approximates_the_exact_step(self):
        weights = [frame(7, 3), frame(7, 3)]
        exact, iterated = (CayleySGD([w], lr=0.01, orthonormal=True) for w in weights)
        iterated.param_groups[0]["iterations"] = 5
        for weight, optimizer in zip(weights, (exact, iterated), strict=True):
            weight.grad = self.gradients[0].clone()
            optimizer.step()
        gap = float((weights[0] - weights[1]).detach().norm())
        assert 0 < gap < 1e-9


class TestSolutions:
    @pytest.mark.slow
    def test_the_nearest_frame_to_a_matrix(self, make):
        """Procrustes: the polar factor, by the singular value decomposition."""
        goal = randn(8, 3, seed=3)
        weight = frame(8, 3)
        optimizer = make([weight])
        for step in range(600):
            optimizer.param_groups[0]["lr"] = 0.1 * 0.985**step
            optimizer.zero_grad()
            (weight - goal).square().sum().backward()
            optimizer.step()
        torch.testing.assert_close(weight.detach(), polar(goal), rtol=0, atol=1e-4)

    def test_the_eigenvectors_of_the_largest_eigenvalues(self):
        """max tr(XᵀAX) is the sum of the q largest eigenvalues, and X spans their eigenvectors."""
        values = torch.tensor([5.0, 4.0, 3.0, 1.0, 0.5, 0.0], dtype=DOUBLE)
        basis = torch.linalg.qr(randn(6, 6, seed=5))[0]
        matrix = basis @ torch.diag(values) @ basis.T
        weight = frame(6, 3)
        optimizer = CayleySGD([weight], lr=0.1, orthonormal=True)
        for _ in range(300):
            optimizer.zero_grad()
            loss = -(weight.T @ matrix @ weight).trace()
            loss.backward()
            optimizer.step()
        assert float(loss.detach()) == pytest.approx(-12.0, abs=1e-9)
        found = weight.detach() @ weight.detach().T
        torch.testing.assert_close(found, basis[:, :3] @ basis[:, :3].T, rtol=0, atol=1e-5)

    def test_it_moves_in_a_descent_direction(self):
        """d/dt F(X(t)) = −‖Z‖² at 0 for the tangent part Z of the gradient, by a central difference."""
        weight, goal = frame(6, 4), randn(6, 4, seed=2)
        start = weight.detach().clone()

        def loss_after(rate):
            p = nn.Parameter(start.clone())
            p.grad = 2 * (start - goal)
            optimizer = CayleySGD([p], lr=1.0, orthonormal=True)
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()
            return float((p.detach() - goal).square().sum())

        slope = (loss_after(1e-5) - loss_after(-1e-5)) / 2e-5
        z = skew(start, 2 * (start - goal)) @ start
        assert slope == pytest.approx(-float(z.square().sum()), rel=1e-6)


class TestKnownFaults:
    """Faults of existing implementations."""

    @pytest.mark.slow
    def test_drift(self, make):
        """‖XᵀX − I‖ stays below 1e-6 in float32 after each of 1000 steps of any length."""
        weights = [frame(32, 8, dtype=torch.float32), frame(12, 12, dtype=torch.float32)]
        optimizer = make(weights)
        draw = torch.Generator().manual_seed(0)
        for step in range(1000):
            optimizer.param_groups[0]["lr"] = (1e-3, 0.01, 0.1)[step % 3]
            for weight in weights:
                weight.grad = torch.randn(weight.shape, generator=draw)
            optimizer.step()
            assert max(excess(weight) for weight in weights) <= 1e-6

    def test_drift_under_steps_of_any_length(self):
        weight = frame(32, 8, dtype=torch.float32)
        optimizer = CayleySGD([weight], lr=1.0, momentum=0.9, orthonormal=True)
        draw = torch.Generator().manual_seed(0)
        for step in range(100):
            optimizer.param_groups[0]["lr"] = 10.0 ** (step % 7 - 3)
            weight.grad = torch.randn(weight.shape, generator=draw)
            optimizer.step()
            assert excess(weight) <= 1e-6

    @pytest.mark.parametrize("iterations", [1, 2, 5])
    def test_drift_of_the_iteration(self, iterations):
        """Also with few iterations and the longest step in the smallest space, where the error is largest."""
        weight = frame(2, 1, dtype=torch.float32)
        optimizer = CayleySGD([weight], lr=100.0, iterations=iterations, orthonormal=True)
        for step in range(20):
            weight.grad = randn(2, 1, seed=step, dtype=torch.float32)
            optimizer.step()
            assert excess(weight) <= 1e-6

    def test_random_orthonormalization(self, make):
        """Steps are deterministic and do not change the random state."""
        found = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            weight = frame(20, 5, dtype=torch.float32)
            optimizer = make([weight])
            for step in range(120):
                weight.grad = randn(20, 5, seed=step, dtype=torch.float32)
                optimizer.step()
            assert torch.equal(torch.get_rng_state(), before)
            found.append(weight.detach().clone())
        assert torch.equal(*found)

    def test_groups_that_are_not_orthonormal(self):
        """They take the steps of SGD and Adam, bit for bit, together with orthonormal weights."""
        for ours, theirs in (
            (
                lambda p: CayleySGD(p, lr=0.1, momentum=0.9),
                lambda p: sgd(p, lr=0.1, momentum=0.9, fused=False),
            ),
            (lambda p: CayleyAdam(p, lr=0.1), lambda p: adam(p, lr=0.1, fused=False)),
        ):
            held, bias, other = frame(5, 2), nn.Parameter(randn(4)), nn.Parameter(randn(4))
            mixed = ours([{"params": [held], "orthonormal": True}, {"params": [bias]}])
            plain = theirs([other])
            for step in range(5):
                held.grad, bias.grad = randn(5, 2, seed=step), randn(4, seed=step)
                other.grad = bias.grad.clone()
                mixed.step()
                plain.step()
            assert torch.equal(bias, other)
            assert excess(held) < 1e-12

    def test_weights_that_are_not_orthonormal_initially(self, make):
        """They are replaced by the closest frame; orthonormal weights are not changed."""
        weight, there = nn.Parameter(randn(6, 3)), frame(6, 3)
        nearest, before = polar(weight.detach()), there.detach().clone()
        make([weight, there])
        torch.testing.assert_close(weight.detach(), nearest, rtol=0, atol=1e-12)
        assert torch.equal(there, before)


class TestStacks:
    def test_weights_of_a_stack_are_independent(self, make):
        shapes = [(6, 3), (3, 6), (6, 3), (4, 4), (6, 3), (2, 3, 2, 2)]
        together = [nn.Parameter(randn(*shape, seed=k)) for k, shape in enumerate(shapes)]
        single = [nn.Parameter(weight.detach().clone()) for weight in together]
        one, many = make(together), [make([weight]) for weight in single]
        for step in range(4):
            for k, (a, b) in enumerate(zip(together, single, strict=True)):
                a.grad = randn(*a.shape, seed=100 * step + k)
                b.grad = a.grad.clone()
            one.step()
            for optimizer in many:
                optimizer.step()
        for a, b in zip(together, single, strict=True):
            torch.testing.assert_close(a.detach(), b.detach(), rtol=0, atol=1e-13)
            assert excess(a) < 1e-12

    def test_weights_without_a_gradient_stay_and_have_their_own_bias_correction(self):
        weights = [frame(6, 3, seed=k) for k in range(2)]
        twin = nn.Parameter(weights[1].detach().clone())
        both, single = (
            CayleyAdam(weights, lr=0.1, orthonormal=True),
            CayleyAdam([twin], lr=0.1, orthonormal=True),
        )
        before = weights[1].detach().clone()
        for step in range(4):
            weights[0].grad = randn(6, 3, seed=step)
            weights[1].grad = randn(6, 3, seed=50 + step) if step >= 2 else None
            both.step()
            if step < 2:
                assert torch.equal(weights[1], before)
            else:
                twin.grad = weights[1].grad.clone()
                single.step()
        torch.testing.assert_close(weights[1].detach(), twin.detach(), rtol=0, atol=1e-13)

    def test_wide_weights_have_orthonormal_rows_and_kernels_are_flattened(self, make):
        layer, kernel = nn.Linear(9, 4), nn.Conv2d(2, 5, 3)
        optimizer = make(
            [{"params": [layer.weight, kernel.weight]}, {"params": [layer.bias], "orthonormal": False}]
        )
        layer(torch.ones(3, 9)).square().sum().backward()
        kernel.weight.grad = torch.ones_like(kernel.weight)
        optimizer.step()
        rows, flat = layer.weight.detach(), kernel.weight.detach().flatten(1)
        torch.testing.assert_close(rows @ rows.T, torch.eye(4), rtol=0, atol=1e-6)
        torch.testing.assert_close(flat @ flat.T, torch.eye(5), rtol=0, atol=1e-6)

    def test_bfloat16(self, make):
        weight = frame(8, 3, dtype=torch.bfloat16)
        optimizer = make([weight])
        for step in range(20):
            weight.grad = randn(8, 3, seed=step, dtype=torch.bfloat16)
            optimizer.step()
        assert weight.dtype == torch.bfloat16
        assert off_frame(weight.detach()) < 0.03


class TestState:
    def test_a_loaded_state_continues_bit_for_bit(self, make):
        def started():
            return [frame(6, 3, dtype=torch.float32), nn.Parameter(randn(4, dtype=torch.float32))]

        def groups(weights):
            return [{"params": weights[:1]}, {"params": weights[1:], "orthonormal": False}]

        def steps(optimizer, weights, numbers):
            for step in numbers:
                for weight in weights:
                    weight.grad = randn(*weight.shape, seed=step, dtype=torch.float32)
                optimizer.step()

        straight = started()
        steps(make(groups(straight)), straight, range(6))
        weights = started()
        optimizer = make(groups(weights))
        steps(optimizer, weights, range(3))
        restored = make(groups(weights), lr=3.0)
        restored.load_state_dict(saved(optimizer))
        steps(restored, weights, range(3, 6))
        assert all(torch.equal(a, b) for a, b in zip(weights, straight, strict=True))

    def test_a_loaded_state_keeps_its_dtypes(self):
        weight = frame(6, 3, dtype=torch.bfloat16)
        optimizer = CayleyAdam([weight], orthonormal=True)
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        state = copy.deepcopy(optimizer.state_dict())
        state["state"][0]["exp_avg_sq"] = torch.tensor(1 + 2.0**-20)
        again = CayleyAdam([weight], orthonormal=True)
        again.load_state_dict(state)
        assert again.state[weight]["exp_avg_sq"].dtype == torch.float32
        assert again.state[weight]["step"] == 1
        assert isinstance(again.state[weight]["step"], int)

    @pytest.mark.parametrize(("kind", "formula"), [("sgd", 0), ("momentum", 600), ("adam", 602)])
    def test_memory_is_as_documented(self, kind, formula):
        weight = frame(30, 20)
        optimizer = KINDS[kind]([weight])
        weight.grad = randn(30, 20)
        optimizer.step()
        held = optimizer.state[weight].values()
        assert sum(torch.as_tensor(each).numel() for each in held) == formula

    def test_it_loads_with_weights_only(self, make):
        weight = frame(6, 3)
        optimizer = make([weight])
        weight.grad = randn(6, 3)
        optimizer.step()
        file = io.BytesIO()
        torch.save(optimizer.state_dict(), file)
        file.seek(0)
        assert torch.load(file, weights_only=True)["param_groups"][0]["orthonormal"] is True


class TestRefusals:
    @pytest.mark.parametrize("name", ["cayley_sgd", "cayley_adam"])
    def test_orthonormal_weights_are_matrices(self, name):
        group = {"params": [nn.Parameter(torch.ones(3))], "orthonormal": True}
        with pytest.raises(
            UserError, match=rf"{name}: orthonormal weights need two or more dimensions.*\(3,\)"
        ):
            OPTIMIZERS[name]([group])

    @pytest.mark.parametrize(
        ("constructor", "settings", "message"),
        [
            (cayley_sgd, {"lr": -1.0}, "lr: expected a number above 0"),
            (cayley_sgd, {"momentum": 1.0}, "momentum: expected a number >= 0 and below 1"),
            (cayley_sgd, {"iterations": 0}, "iterations: expected an integer >= 1"),
            (cayley_adam, {"betas": (0.9, 1.0)}, "betas: expected a list of 2"),
            (cayley_adam, {"eps": -1e-8}, "eps: expected a number >= 0"),
            (cayley_adam, {"iterations": 2.5}, "iterations: expected an integer >= 1"),
        ],
    )
    def test_settings_outside_their_domain(self, constructor, settings, message):
        with pytest.raises(UserError, match=message):
            constructor([nn.Parameter(torch.ones(2, 2))], **settings)

    def test_a_refused_group_is_not_added(self):
        optimizer = CayleySGD([frame(3, 2)], orthonormal=True)
        with pytest.raises(ValueError, match="two or more dimensions"):
            optimizer.add_param_group({"params": [nn.Parameter(torch.ones(3))]})
        assert len(optimizer.param_groups) == 1

    def test_sparse_gradients(self):
        table = nn.Embedding(3, 2, sparse=True)
        optimizer = cayley_sgd(table.parameters())
        table(torch.tensor([1])).sum().backward()
        with pytest.raises(UserError, match="cayley_sgd does not support sparse gradients; use sparse_adam"):
            optimizer.step()


@pytest.mark.parametrize("shape", [(6, 3), (3, 6), (4, 4)])
def test_a_gradient_whose_square_overflows_leaves_an_orthonormal_weight(make, shape):
    weight = frame(*sorted(shape, reverse=True), dtype=torch.float32)
    weight = nn.Parameter(weight.detach().T.clone() if shape[0] < shape[1] else weight.detach())
    optimizer = make([weight])
    for step in range(12):
        weight.grad = randn(*shape, seed=step, dtype=torch.float32) * (1e20 if step == 5 else 1.0)
        optimizer.step()
        assert excess(weight) < 1e-2
    assert excess(weight) < 1e-5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_steps_are_those_of_the_cpu(make):
    found = []
    for device in ("cpu", "cuda"):
        weights = [
            nn.Parameter(frame(8, 3).detach().to(device)),
            nn.Parameter(frame(9, 9).detach().to(device)),
        ]
        optimizer = make(weights)
        for step in range(5):
            for weight in weights:
                weight.grad = randn(*weight.shape, seed=step).to(device)
            optimizer.step()
        found.append([weight.detach().cpu() for weight in weights])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
