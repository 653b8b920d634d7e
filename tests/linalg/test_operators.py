"""Products with curvature against the dense matrices of torch.func, in float64."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, hessian, jacrev

from descend.linalg import EmpiricalFisher, GaussNewton, Hessian, Jacobian, flat, views


class Problem:
    """A small smooth network, three classes, and its functions of one flat vector."""

    def __init__(self, seed=0):
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
        self.x = torch.randn(6, 3, dtype=torch.float64)
        self.y = torch.randint(0, 3, (6,))
        self.parameters = list(self.model.parameters())
        self.w = flat(self.parameters).detach()
        self.v = torch.randn_like(self.w)

    def outputs(self, w):
        names = [name for name, _ in self.model.named_parameters()]
        return functional_call(
            self.model, dict(zip(names, views(w, self.parameters), strict=True)), (self.x,)
        )

    def losses(self, w):
        return nn.functional.cross_entropy(self.outputs(w), self.y, reduction="none")

    def loss_here(self):
        outputs = self.model(self.x)
        return outputs, nn.functional.cross_entropy(outputs, self.y)


@pytest.fixture(params=[0, 1])
def problem(request):
    return Problem(request.param)


def close(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-13)


class TestHessian:
    def test_is_the_dense_one(self, problem):
        product = Hessian(problem.loss_here()[1], problem.parameters)
        dense = hessian(lambda w: problem.losses(w).mean())(problem.w)
        assert torch.linalg.eigvalsh(dense)[0] < -1e-3  # otherwise a Gauss-Newton matrix would pass
        for _ in range(2):  # products do not free the graph
            close(product(problem.v), dense @ problem.v)

    def test_its_gradient_is_the_gradient(self, problem):
        product = Hessian(problem.loss_here()[1], problem.parameters)
        problem.loss_here()[1].backward()
        close(product.gradient, flat([p.grad for p in problem.parameters]))

    def test_leaves_no_gradients_behind(self, problem):
        Hessian(problem.loss_here()[1], problem.parameters)(problem.v)
        assert all(p.grad is None for p in problem.parameters)

    @pytest.mark.parametrize("power", [0, 1, 2])
    def test_functions_without_curvature(self, power):
        """Linear in one parameter, independent of another: the product is zero."""
        a = torch.ones(2, dtype=torch.float64, requires_grad=True)
        unused = torch.ones(1, dtype=torch.float64, requires_grad=True)
        product = Hessian((a**power).sum() + 0 * a.sum(), [a, unused])
        expected = [2.0, 2.0, 0.0] if power == 2 else [0.0, 0.0, 0.0]
        assert product(torch.ones(3, dtype=torch.float64)).tolist() == expected


class TestJacobian:
    def test_is_the_dense_one_from_both_sides(self, problem):
        jacobian = Jacobian(problem.model(problem.x), problem.parameters)
        dense = jacrev(problem.outputs)(problem.w).reshape(18, -1)
        close(jacobian.times(problem.v).flatten(), dense @ problem.v)
        u = torch.randn(6, 3, dtype=torch.float64)
        close(jacobian.transposed_times(u), dense.T @ u.flatten())

    def test_constant_outputs(self):
        a, b = (torch.ones(2, requires_grad=True) for _ in range(2))
        jacobian = Jacobian(a * 2, [b])
        assert jacobian.times(torch.ones(2)).tolist() == [0.0, 0.0]
        assert jacobian.transposed_times(torch.ones(2)).tolist() == [0.0, 0.0]
        assert Jacobian(a * 2, [a, b]).times(torch.ones(4)).tolist() == [2.0, 2.0]


class TestGaussNewton:
    def dense(self, problem):
        jacobian = jacrev(problem.outputs)(problem.w).reshape(18, -1)
        outer = hessian(lambda z: nn.functional.cross_entropy(z, problem.y))(problem.outputs(problem.w))
        return jacobian.T @ outer.reshape(18, 18) @ jacobian

    def test_is_the_dense_one(self, problem):
        outputs, loss = problem.loss_here()
        product = GaussNewton(loss, outputs, problem.parameters)
        for _ in range(2):
            close(product(problem.v), self.dense(problem) @ problem.v)

    def test_is_the_fisher_matrix_of_cross_entropy(self, problem):
        """The mean over rows and over the model's own distribution of the gradients' outer products."""
        outputs, loss = problem.loss_here()
        product = GaussNewton(loss, outputs, problem.parameters)
        chances = problem.outputs(problem.w).softmax(1)
        logs = jacrev(lambda w: problem.outputs(w).log_softmax(1))(problem.w)
        fisher = torch.einsum("bk,bki,bkj->ij", chances, logs, logs) / 6
        close(product(problem.v), fisher @ problem.v)

    def test_of_a_loss_linear_in_the_outputs_is_zero(self, problem):
        outputs = problem.model(problem.x)
        assert not GaussNewton(outputs.sum(), outputs, problem.parameters)(problem.v).any()


class TestEmpiricalFisher:
    def test_is_the_dense_one(self, problem):
        losses = nn.functional.cross_entropy(problem.model(problem.x), problem.y, reduction="none")
        rows = jacrev(problem.losses)(problem.w)
        product = EmpiricalFisher(losses, problem.parameters)
        for _ in range(2):
            close(product(problem.v), rows.T @ (rows @ problem.v) / 6)


class TestVectors:
    def test_round_trip(self, problem):
        for part, p in zip(views(problem.w, problem.parameters), problem.parameters, strict=True):
            assert torch.equal(part, p)

    def test_views_are_views_and_flat_is_a_copy(self):
        tensors = [torch.zeros(2, 2), torch.zeros(1)]
        vector = flat(tensors)
        views(vector, tensors)[1].fill_(3.0)
        assert vector.tolist() == [0.0, 0.0, 0.0, 0.0, 3.0]
        assert tensors[1].item() == 0.0
        assert flat(tensors[1:]).data_ptr() != tensors[1].data_ptr()

    @pytest.mark.parametrize("size", [4, 6])
    def test_another_length_is_refused(self, size):
        with pytest.raises(ValueError, match="5 entries"):
            views(torch.zeros(size), [torch.zeros(2, 2), torch.zeros(1)])


def test_frozen_parameters_have_zero_derivatives():
    """The blocks of the trained parameters are those of the operator on these alone."""
    problem = Problem()
    frozen, *trained = problem.parameters
    frozen.requires_grad_(False)
    size = frozen.numel()

    def applied(parameters, vector):
        outputs = problem.model(problem.x)
        losses = nn.functional.cross_entropy(outputs, problem.y, reduction="none")
        operators = (
            Hessian(losses.mean(), parameters),
            GaussNewton(losses.mean(), outputs, parameters),
            EmpiricalFisher(losses, parameters),
        )
        return torch.stack([each(vector) for each in operators])

    products = applied([frozen, *trained], problem.v)
    assert not products[:, :size].any()
    assert torch.equal(products[:, size:], applied(trained, problem.v[size:]))
    for p in trained:
        p.requires_grad_(False)
    assert Jacobian(problem.model(problem.x), problem.parameters).times(problem.v).eq(0).all()
