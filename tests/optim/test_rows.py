"""The objective of a plain loop: the same rows and random numbers within a step, and new random parts in each step."""

import pytest
import torch
from torch import nn

from descend.optim import OPTIMIZERS, Rows


def network(**norm):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(3, 8), nn.BatchNorm1d(8) if norm else nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 1)
    )


def rows(model, count=40):
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(count, 3, generator=draw)
    return Rows(model, nn.functional.mse_loss, x, x.sum(1, keepdim=True))


def test_all_evaluations_have_one_dropout_mask_and_the_next_rows_another():
    model = network()
    torch.manual_seed(5)
    first = rows(model)
    losses = [first(), first.value(), first.differentiable().detach(), first.linearized()[0].detach()]
    assert len({loss.item() for loss in losses}) == 1
    assert rows(model).value() != losses[0]


def test_random_numbers_start_from_the_state_at_construction():
    model = network()
    torch.manual_seed(5)
    made = rows(model)
    torch.manual_seed(5)
    expected = nn.functional.mse_loss(model(made.inputs), made.targets)
    torch.rand(7)
    assert made.value() == expected


def test_parts_are_new_samples_whatever_was_evaluated_between():
    """Regression: each evaluation reset the random state, so that all steps of a plain loop used the same sample."""
    model = nn.Linear(3, 1)  # uses no random numbers
    whole = rows(model)
    samples = []
    for _ in range(4):
        whole()
        samples.append(whole.part(0.2).inputs)
        whole.value()
    assert len({tuple(each.flatten().tolist()) for each in samples}) == 4


@pytest.mark.parametrize("name", ["subsampled_newton", "lbfgs", "sqn", "stron"])
def test_samples_do_not_use_the_global_generator_and_differ_between_steps(name, monkeypatch):
    """Also if each step is given a new object, and after loading a state."""
    model = nn.Linear(3, 1)
    samples, part = [], Rows.part

    def recorded(self, share, *, nested=False):
        result = part(self, share, nested=nested)
        samples.append(tuple(result.inputs.flatten().tolist()))
        return result

    monkeypatch.setattr(Rows, "part", recorded)
    settings = {"update_frequency": 1} if name == "sqn" else {}
    optimizer = OPTIMIZERS[name](model.parameters(), sample_fraction=0.2, **settings)
    before = torch.get_rng_state()
    for _ in range(4):
        optimizer.step(rows(model))
    assert torch.equal(torch.get_rng_state(), before)
    other = OPTIMIZERS[name](model.parameters(), sample_fraction=0.2, **settings)
    other.load_state_dict(optimizer.state_dict())
    other.step(rows(model))
    assert len(set(samples)) == len(samples) > 3


def test_nested_parts_contain_one_another():
    whole = rows(nn.Linear(3, 1))
    small, large = (whole.part(share, nested=True).inputs for share in (0.2, 0.5))
    assert (len(small), len(large)) == (8, 20)
    assert torch.equal(large[:8], small)
    assert torch.equal(whole.part(0.2, nested=True).inputs, small)


def test_parts_do_not_update_running_averages_and_count_towards_the_whole():
    model = network(norm="batch")
    whole = rows(model)
    part = whole.part(0.25)
    held = model[1].running_mean.clone()
    part()
    part.value()
    assert torch.equal(model[1].running_mean, held)
    assert whole.gradients == 0.25 * (1 + 1 / 3)
    whole()
    assert not torch.equal(model[1].running_mean, held)
    assert whole.gradients == 0.25 * (1 + 1 / 3) + 1
