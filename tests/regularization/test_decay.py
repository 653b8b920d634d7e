"""Decoupled weight decay against AdamW and SGD, the decayed parameters, and penalties in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from descend.cards import card
from descend.errors import UserError
from descend.nn import NORMS, convnet, mlp
from descend.regularization import decayed_parameters, l1_penalty, l1_prox, l2_penalty, weight_decay


def shapes(parameters):
    return sorted(tuple(p.shape) for p in parameters)


class TestDecayedParameters:
    def test_weights_decay_and_biases_and_norms_do_not(self):
        model = nn.Sequential(
            nn.Embedding(7, 2), nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.Linear(4, 5), nn.LayerNorm([4, 5])
        )
        decay, rest = decayed_parameters(model)
        assert shapes(decay) == [(3, 1, 2, 2), (5, 4), (7, 2)]
        assert shapes(rest) == [(3,), (3,), (3,), (4, 5), (4, 5), (5,)]

    @pytest.mark.parametrize("norm", sorted(set(NORMS) - {"weight"}))
    def test_every_parameter_is_in_one_of_the_lists(self, norm):
        model = convnet((1, 8, 8), 2, channels=(8,), norm=norm)
        decay, rest = decayed_parameters(model)
        assert {id(p) for p in decay}.isdisjoint(id(p) for p in rest)
        assert len(decay) + len(rest) == len(list(model.parameters()))
        assert len(decay) == 3

    def test_weight_norm_decays_the_lengths(self):
        model = mlp((3,), 2, hidden=(4,), norm="weight")
        decay, _ = decayed_parameters(model)
        assert shapes(decay) == [(2, 4), (4, 1)]
        torch.testing.assert_close(
            l2_penalty(decay), model.linear1.weight.square().sum() + model.output.weight.square().sum()
        )

    def test_shared_and_frozen_parameters(self):
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
        model[1].weight = model[0].weight
        model[2].requires_grad_(False)
        decay, rest = decayed_parameters(model)
        assert len(decay) == 1
        assert len(rest) == 2


def trained(make, decay, steps=5):
    """Return the weights after some steps on a fixed problem, in float64."""
    torch.manual_seed(0)
    model = mlp((3,), 1, hidden=(4,), activation="tanh").double()
    x, y = torch.randn(8, 3, dtype=torch.float64), torch.randn(8, 1, dtype=torch.float64)
    optimizer = make(model)
    decay(model, optimizer)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.1 / (1 + step)
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


class TestWeightDecay:
    def test_turns_adam_into_adamw(self):
        """With a learning rate that changes at every step, so that the schedule must affect the decay."""

        def adamw(model):
            decay, rest = decayed_parameters(model)
            return torch.optim.AdamW(
                [{"params": decay, "weight_decay": 0.3}, {"params": rest, "weight_decay": 0.0}]
            )

        def adam(model):
            decay, rest = decayed_parameters(model)
            return torch.optim.Adam([{"params": decay}, {"params": rest}])

        expected = trained(adamw, lambda model, optimizer: None)
        actual = trained(
            adam, lambda model, optimizer: weight_decay(optimizer, decayed_parameters(model)[0], 0.3)
        )
        without = trained(adam, lambda model, optimizer: None)
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-14)
        assert (without - expected).abs().max() > 1e-3

    def test_equals_the_coupled_decay_of_plain_sgd(self):
        coupled = trained(lambda m: torch.optim.SGD(m.parameters(), weight_decay=0.3), lambda m, o: None)
        actual = trained(
            lambda m: torch.optim.SGD(m.parameters()), lambda m, o: weight_decay(o, list(m.parameters()), 0.3)
        )
        torch.testing.assert_close(actual, coupled, rtol=1e-12, atol=1e-14)

    def test_differs_from_the_coupled_decay_of_adam(self):
        coupled = trained(lambda m: torch.optim.Adam(m.parameters(), weight_decay=0.3), lambda m, o: None)
        actual = trained(
            lambda m: torch.optim.Adam(m.parameters()),
            lambda m, o: weight_decay(o, list(m.parameters()), 0.3),
        )
        assert (actual - coupled).abs().max() > 1e-3

    def test_selected_parameters_decay_with_the_learning_rate_of_their_group(self):
        a, b, c = (nn.Parameter(torch.ones(1)) for _ in range(3))
        optimizer = torch.optim.SGD([{"params": [a, b], "lr": 0.1}, {"params": [c], "lr": 0.5}])
        weight_decay(optimizer, [a, c], 0.2)
        for p in (a, b, c):
            p.grad = torch.zeros(1)
        optimizer.step()
        optimizer.step()
        assert [a.item(), b.item(), c.item()] == pytest.approx([0.98**2, 1.0, 0.9**2])

    def test_can_be_removed(self):
        w = nn.Parameter(torch.ones(1))
        optimizer = torch.optim.SGD([w], lr=0.1)
        weight_decay(optimizer, [w], 0.2).remove()
        w.grad = torch.zeros(1)
        optimizer.step()
        assert w.item() == 1.0

    def test_invalid_arguments(self):
        w = nn.Parameter(torch.ones(1))
        optimizer = torch.optim.SGD([w], lr=0.1)
        with pytest.raises(UserError, match=r"weight_decay must be at least 0, got -0\.1"):
            weight_decay(optimizer, [w], -0.1)
        with pytest.raises(UserError, match="not among the optimizer's"):
            weight_decay(optimizer, [nn.Parameter(torch.ones(1))], 0.1)


class TestPenalties:
    weights = (
        torch.tensor([[1.5, -2.0], [0.0, 0.5]], dtype=torch.float64),
        torch.tensor([-3.0], dtype=torch.float64),
    )

    def test_values(self):
        assert l2_penalty(self.weights).item() == 1.5**2 + 4 + 0.25 + 9
        assert l1_penalty(self.weights).item() == 1.5 + 2 + 0.5 + 3

    def test_gradients(self):
        for penalty, closed in ((l2_penalty, lambda w: 2 * w), (l1_penalty, torch.sign)):
            ws = [w.clone().requires_grad_() for w in self.weights]
            (0.7 * penalty(ws)).backward()
            for w in ws:
                torch.testing.assert_close(w.grad, 0.7 * closed(w.detach()), rtol=0, atol=0)
        assert torch.autograd.gradcheck(
            lambda *ws: l2_penalty(ws), tuple(w.requires_grad_() for w in self.weights)
        )

    def test_the_factor_of_the_l2_penalty_is_half_of_weight_decay(self):
        """λ Σ‖W‖² in the objective is weight_decay = 2 λ in PyTorch's SGD."""

        torch.manual_seed(0)
        x, y = torch.randn(8, 3), torch.randn(8, 1)
        results = []
        for mode in ("penalty", "coupled"):
            torch.manual_seed(1)
            model = nn.Linear(3, 1)
            optimizer = torch.optim.SGD(
                model.parameters(), lr=0.1, weight_decay=0.6 if mode == "coupled" else 0.0
            )
            for _ in range(5):
                optimizer.zero_grad()
                loss = (model(x) - y).square().mean()
                if mode == "penalty":
                    loss = loss + 0.3 * l2_penalty(model.parameters())
                loss.backward()
                optimizer.step()
            results.append(model.weight.detach().clone())
        torch.testing.assert_close(*results)

    def test_a_penalty_without_weights_is_rejected(self):
        with pytest.raises(UserError, match="at least one weight"):
            l2_penalty([])


@pytest.mark.parametrize(("subject", "row"), [(weight_decay, "G1"), (l2_penalty, "G1"), (l1_penalty, "G2")])
def test_every_method_has_a_card(subject, row):
    own = card(subject)
    assert own is not None
    assert own.row == row


@pytest.mark.parametrize("hook", [weight_decay, l1_prox])
def test_the_current_learning_rate_is_used_after_a_state_is_loaded(hook) -> None:
    """Loading a state replaces the group dictionaries; a schedule changes the learning rate in the new ones."""
    weights = []
    for load in (False, True):
        w = nn.Parameter(torch.full((3,), 2.0))
        optimizer = torch.optim.SGD([w], lr=0.5)
        hook(optimizer, [w], 0.5)
        if load:
            optimizer.load_state_dict(optimizer.state_dict())
        optimizer.param_groups[0]["lr"] = 0.1
        w.grad = torch.zeros(3)
        optimizer.step()
        weights.append(w.detach())
    assert torch.equal(*weights)
    assert weights[0][0].item() == pytest.approx({weight_decay: 1.9, l1_prox: 1.95}[hook])
