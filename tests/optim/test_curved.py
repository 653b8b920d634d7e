"""What the methods with a quadratic model of the loss have in common."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from descend.errors import UserError
from descend.many.pack.optimizer import optimizer_cannot_be_packed_because
from descend.optim import CURVED, OPTIMIZERS, Rows
from descend.optim.curved import CurvedStep


def weight():
    return torch.ones(2, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("name", sorted(CURVED))
class TestEach:
    def test_says_what_it_needs_of_its_objective(self, name):
        make = OPTIMIZERS[name]
        parts = {"part"} if name in ("stron", "subsampled_newton") else set()
        assert make([weight()]).needs == {"graph"} | parts
        assert make([weight()], curvature="gauss_newton").needs == {"outputs"} | parts
        if parts:
            assert make([weight()], share=1.0).needs == {"graph"}

    def test_is_of_this_family_and_named_as_in_the_catalogue(self, name):
        made = OPTIMIZERS[name]([weight()])
        assert isinstance(made, CurvedStep)
        assert made.name == name

    def test_refuses_a_function_that_gives_less(self, name):
        w = weight()
        settings = {"share": 1.0} if name in ("stron", "subsampled_newton") else {}
        with pytest.raises(UserError, match=f"{name} needs the network's outputs"):
            OPTIMIZERS[name]([w], curvature="gauss_newton", **settings).step(lambda: w @ w)
        with pytest.raises(UserError, match=f"{name} differentiates the loss twice"):
            OPTIMIZERS[name]([w], **settings).step(lambda: w.detach() @ w.detach())
        assert w.tolist() == [1.0, 1.0]

    def test_rides_in_no_pack(self, name):
        assert "no packed form" in optimizer_cannot_be_packed_because(OPTIMIZERS[name]([weight()]))

    def test_keeps_the_precision_of_its_parameters(self, name):
        """In float32 an iterate is that of float64, but for rounding."""
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
    """The weights after three steps on a small fit; all rows, as a sample is drawn by another generator on a GPU."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(20, 3, generator=draw, dtype=torch.float64)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).to(torch.float64)
    for p in model.parameters():
        p.data = 0.5 * torch.randn(p.shape, generator=draw, dtype=torch.float64)
    model.to(device, dtype)
    rows = Rows(model, F.mse_loss, x.to(device, dtype), x.sum(1, keepdim=True).sin().to(device, dtype))
    settings = {"share": 1.0} if name in ("stron", "subsampled_newton") else {}
    optimizer = OPTIMIZERS[name](model.parameters(), curvature="gauss_newton", **settings)
    for _ in range(3):
        optimizer.step(rows)
    return torch.cat([p.detach().flatten() for p in model.parameters()])
