import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from descend.nn.ensemble import Ensemble
from descend.nn.outputs import OUTPUTS


class Constant(nn.Module):
    """A network whose outputs do not depend on its inputs."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, inputs):
        return self.outputs


def ensemble(outputs, link):
    return Ensemble([Constant(each) for each in outputs], link)(torch.zeros(1))


@pytest.mark.parametrize(("name", "classes"), [("softmax", 4), ("sigmoid", 1), ("sine", 1), ("identity", 3)])
@settings(deadline=None)
@given(seed=st.integers(0, 500), members=st.integers(1, 5), scale=st.sampled_from([0.1, 1.0, 5.0]))
def test_the_prediction_is_the_mean_of_the_members_predictions(name, classes, seed, members, scale):
    generator = torch.Generator().manual_seed(seed)
    outputs = scale * torch.randn(members, 6, classes, generator=generator, dtype=torch.float64)
    activation = OUTPUTS[name]()
    expected = activation(outputs).mean(0)
    assert torch.allclose(activation(ensemble(outputs, activation.link)), expected, atol=1e-9)


def test_log_probabilities_stay_exact_where_probabilities_round_to_0():
    outputs = torch.tensor([[[0.0, 200.0]], [[0.0, 300.0]]])
    # p_0 = (e^-200 + e^-300) / 2
    log_probability = F.log_softmax(ensemble(outputs, "logit"), -1)[0, 0]
    assert log_probability.item() == pytest.approx(-200 - torch.log(torch.tensor(2.0)).item(), rel=1e-6)


def test_the_raw_outputs_are_log_probabilities():
    outputs = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.softmax(outputs, -1).mean(0).log()
    assert torch.allclose(ensemble(outputs, "logit"), expected, atol=1e-12)


@pytest.mark.parametrize("z", [90.0, -90.0, 1e4, -1e4])
def test_logits_of_confident_members_are_finite(z):
    outputs = torch.tensor([[[z]], [[z]]])
    assert ensemble(outputs, "logit").item() == pytest.approx(z)


def test_an_uncertain_member_changes_the_prediction():
    # (σ(100) + σ(0)) / 2 = 3/4, whose logit is log 3
    assert ensemble(torch.tensor([[[100.0]], [[0.0]]]), "logit").item() == pytest.approx(1.0986123)


@settings(deadline=None)
@given(seed=st.integers(0, 500))
def test_the_loss_is_at_most_the_mean_of_the_members_losses(seed):
    generator = torch.Generator().manual_seed(seed)
    outputs = 3 * torch.randn(4, 10, 3, generator=generator)
    targets = torch.randint(3, (10,), generator=generator)
    loss = F.cross_entropy(ensemble(outputs, "logit"), targets)
    assert loss <= torch.stack([F.cross_entropy(each, targets) for each in outputs]).mean() + 1e-6


def test_gradients_reach_every_member():
    model = Ensemble([nn.Linear(2, 3) for _ in range(3)], "logit")
    model(torch.randn(4, 2)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
