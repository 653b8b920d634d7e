"""Common properties of the truncated Newton methods."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from descend.errors import UserError
from descend.many.pack.optimizer import optimizer_cannot_be_packed_because
from descend.optim import OPTIMIZERS, TRUNCATED_NEWTON, Rows
from descend.optim.truncated_newton import TruncatedNewton


def weight():
    return torch.ones(2, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("name", sorted(TRUNCATED_NEWTON))
class TestEach:
    def test_declares_what_it_needs_of_its_objective(self, name):
        make: Any = OPTIMIZERS[name]
        parts = {"part"} if name in ("stron", "subsampled_newton") else set()
        assert make([weight()]).needs == {"graph"} | parts
        assert make([weight()], curvature="gauss_newton").needs == {"outputs"} | parts
        if parts:
            assert make([weight()], sample_fraction=1.0).needs == {"graph"}

    def test_has_the_base_class_and_its_name_in_the_catalogue(self, name):
        made = OPTIMIZERS[name]([weight()])
        assert isinstance(made, TruncatedNewton)
        assert made.name == name

    def test_refuses_a_function_that_provides_less(self, name):
        w = weight()
        settings = {"sample_fraction": 1.0} if name in ("stron", "subsampled_newton") else {}
        with pytest.raises(UserError, match=f"{name} needs the network's outputs"):
            OPTIMIZERS[name]([w], curvature="gauss_newton", **settings).step(lambda: w @ w)
        with pytest.raises(UserError, match=f"{name} differentiates the loss twice"):
            OPTIMIZERS[name]([w], **settings).step(lambda: w.detach() @ w.detach())
        assert w.tolist() == [1.0, 1.0]

    @pytest.mark.parametrize("curvature", ["hessian", "gauss_newton"])
    def test_trains_the_rest_of_a_network_with_a_frozen_layer(self, name, curvature):
        """The frozen layer keeps its bits, and the others take the steps of an optimizer of these alone."""
        ends = []
        for frozen_too in (True, False):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
            model[0].requires_grad_(False)
            before = model[0].weight.clone()
            x = torch.randn(20, 3, dtype=torch.float64)
            optimizer = OPTIMIZERS[name](
                model.parameters() if frozen_too else model[2].parameters(), curvature=curvature
            )
            for _ in range(3):
                optimizer.step(Rows(model, nn.functional.mse_loss, x, x[:, :1]))
            assert torch.equal(model[0].weight, before)
            ends.append(model[2].weight.detach())
        torch.testing.assert_close(*ends, rtol=1e-10, atol=1e-12)

    def test_takes_no_step_if_all_parameters_are_frozen(self, name):
        model = nn.Linear(3, 1).requires_grad_(False)
        before = model.weight.clone()
        OPTIMIZERS[name](model.parameters()).step(
            Rows(model, nn.functional.mse_loss, torch.ones(8, 3), torch.ones(8, 1))
        )
        assert torch.equal(model.weight, before)

    def test_cannot_be_packed(self, name):
        assert "no packed form" in optimizer_cannot_be_packed_because(OPTIMIZERS[name]([weight()]))

    def test_keeps_the_precision_of_its_parameters(self, name):
        """In float32 the iterates are those of float64, up to rounding."""
        found = [path(name, dtype) for dtype in (torch.float32, torch.float64)]
        assert found[0].dtype == torch.float32
        torch.testing.assert_close(found[0].double(), found[1], rtol=1e-3, atol=1e-4)

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_takes_the_same_steps_on_a_gpu(self, name):
        torch.testing.assert_close(
            path(name, torch.float64, "cuda").cpu(), path(name, torch.float64), rtol=1e-8, atol=1e-10
        )


def path(name, dtype, device="cpu"):
    """The weights after three steps on all rows of a small problem; on a GPU, samples would differ."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(20, 3, generator=draw, dtype=torch.float64)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).to(torch.float64)
    for p in model.parameters():
        p.data = 0.5 * torch.randn(p.shape, generator=draw, dtype=torch.float64)
    model.to(device, dtype)
    rows = Rows(model, F.mse_loss, x.to(device, dtype), x.sum(1, keepdim=True).sin().to(device, dtype))
    settings = {"sample_fraction": 1.0} if name in ("stron", "subsampled_newton") else {}
    optimizer = OPTIMIZERS[name](model.parameters(), curvature="gauss_newton", **settings)
    for _ in range(3):
        optimizer.step(rows)
    return torch.cat([p.detach().flatten() for p in model.parameters()])
