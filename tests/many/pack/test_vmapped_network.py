"""Networks run together by torch.vmap: each member equals its solo run."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tests.support.packs import assert_equal_solo, member_state, pack_of, relative_difference, trainings
from tests.support.user_modules import (
    Attention,
    Averaging,
    HalfFrozen,
    InstanceNormed,
    NormAndDropout,
    Recurrent,
    ResidualMlp,
)
from torch import nn

from descend import train_many
from descend.many.pack import CannotPack
from descend.many.pack.structure import structure_of
from descend.many.pack.vmapped_network import cannot_vmap_because, vmap_models
from descend.training.loop import fit

WEIGHT_NORM = {"model": {"hidden": [16, 12], "norm": "weight", "dropout": 0.1}}
MODELS = [
    pytest.param({"model": {"name": ResidualMlp}}, id="residual"),
    pytest.param(WEIGHT_NORM, id="weight norm"),
    pytest.param({"model": {"name": NormAndDropout}}, id="batch norm and dropout"),
    pytest.param({"model": {"name": InstanceNormed}}, id="instance norm"),
    pytest.param({"model": {"name": Attention}}, id="attention"),
    pytest.param({"model": {"name": Averaging}}, id="replaced buffer, shared weight"),
    pytest.param({"model": {"name": HalfFrozen}}, id="frozen layer"),
]


def with_learning_rates(recipe, values=(1e-3, 1e-2, 3e-3), optimizer="adamw"):
    factor = 30.0 if optimizer == "sgd" else 1.0
    return [{**recipe, "optimizer": {"name": optimizer, "lr": factor * value}} for value in values]


class TestMemberEqualsItsSoloRun:
    # The gradient of a bias before a norm, or of the keys' bias in attention, is 0 up to rounding, which Adam amplifies to
    # full steps if it exceeds eps: in float32 rounding errors would be compared.
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("dtype", "optimizer"), [(torch.float32, "sgd"), (torch.float64, "adamw")], ids=["float32", "float64"]
    )
    @pytest.mark.parametrize("recipe", MODELS)
    def test_with_its_own_learning_rate_and_order_of_rows(self, recipe, dtype, optimizer):
        assert_equal_solo(with_learning_rates(recipe, optimizer=optimizer), vmap_models, dtype=dtype)

    @pytest.mark.slow
    @pytest.mark.parametrize("recipe", MODELS)
    def test_after_another_was_dropped(self, recipe):
        assert_equal_solo(with_learning_rates(recipe), vmap_models, drop=1, dtype=torch.float64)

    @pytest.mark.slow
    def test_with_its_own_dropout_rates(self):
        recipes = [
            {"model": {"name": NormAndDropout, "early": early, "late": late}}
            for early, late in ((0.0, 0.5), (0.3, 0.0), (0.0, 0.0), (0.1, 0.6))
        ]
        assert_equal_solo(recipes, vmap_models, dtype=torch.float64)
        assert_equal_solo(recipes, vmap_models, drop=3, dtype=torch.float64)

    @pytest.mark.slow
    def test_after_the_member_with_dropout_was_dropped(self):
        recipes = [{"model": {"name": NormAndDropout, "early": p, "late": p}} for p in (0.0, 0.5, 0.0)]
        assert_equal_solo(recipes, vmap_models, drop=1, dtype=torch.float64)

    @pytest.mark.slow
    def test_with_accumulation_penalties_and_clipping(self):
        recipe = {
            "model": {"name": NormAndDropout},
            "gradient": {"accumulate": 3, "clip_norm": 0.5},
            "regularize": {"l1": 1e-4, "l2": 1e-3},
        }
        assert_equal_solo([recipe] * 3, vmap_models, dtype=torch.float64)

    @pytest.mark.slow
    def test_in_a_regression(self):
        assert_equal_solo(
            with_learning_rates({"model": {"name": ResidualMlp}}),
            vmap_models,
            data="diabetes",
            dtype=torch.float64,
        )

    @pytest.mark.slow
    def test_with_a_network_that_could_be_stacked(self):
        recipe = {"model": {"hidden": [16, 16], "dropout": 0.2, "norm": "batch"}}
        assert_equal_solo(with_learning_rates(recipe), vmap_models, dtype=torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", MODELS)
def test_diverged_member_changes_no_bit_of_others(recipe):
    def packed(lr):
        planned = trainings(with_learning_rates(recipe, (1e-3, lr, 3e-3)), [0, 1, 2], "digits")
        pack = pack_of(planned, vmap_models)
        steps = iter(pack.batches.epoch(0))
        advance = pack.stepper()
        for _ in range(4):
            advance(next(steps))
            pack.step_in_epoch += 1
        return pack

    undisturbed, diverged = packed(1e-3), packed(1e30)
    assert not all(t.isfinite().all() for t in member_state(diverged, 1).values())
    for number in (0, 2):
        for name, value in member_state(undisturbed, number).items():
            assert torch.equal(value, member_state(diverged, number)[name]), name


def test_evaluation_equals_that_of_each_member():
    pairs = trainings(with_learning_rates({"model": {"name": NormAndDropout}}), [0, 1, 2], "digits")
    pack = pack_of(pairs, vmap_models)
    fit(pack, until=1)
    batches: Any = pairs[0][1].batches
    rows = batches.tensors[0][:50]
    outputs = pack.network.outputs(rows.unsqueeze(0))
    for number, (_, training) in enumerate(pairs):
        training.model.load_state_dict(member_state(pack, number))
        with torch.no_grad():
            torch.testing.assert_close(outputs[number], training.model.eval()(rows), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("recipe", MODELS)
@pytest.mark.filterwarnings("error:There is a performance drop")
def test_nothing_runs_member_by_member(recipe):
    pack = pack_of(trainings(with_learning_rates(recipe), [0, 1, 2], "digits"), vmap_models)
    pack.stepper()(next(pack.batches.epoch(0)))
    pack.network.outputs(pack.batches._tensors[0][:4].unsqueeze(0))


@pytest.mark.slow
@pytest.mark.parametrize("model", [NormAndDropout, InstanceNormed, Attention, ResidualMlp])
def test_mixed_precision(model):
    # One epoch; the tolerance is the rounding of bfloat16, 2^-8, over a few layers.
    recipe = {"model": {"name": model}, "stop": {"max_epochs": 1}, "engine": {"precision": "bfloat16"}}
    packed, solo = (train_many([recipe] * 2, "digits", seeds=[0, 1], engine=e) for e in ("vmap", "loop"))
    for one, other in zip(packed, solo, strict=True):
        assert one.environment["engine"]["name"] == "vmap"
        assert relative_difference(other.model.state_dict(), one.model.state_dict()) < 0.02
        assert one.history[0]["train"]["loss"] == pytest.approx(other.history[0]["train"]["loss"], rel=0.02)


class Scaled(nn.Module):
    def __init__(self, scale=1.0):
        super().__init__()
        self.inner, self.scale = nn.Linear(4, 4), scale

    def forward(self, x):
        return x + self.scale * self.inner(x)


class PrivatelyScaled(Scaled):
    def __init__(self, scale):
        super().__init__()
        self._scale = scale

    def forward(self, x):
        return self._scale * self.inner(x)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.outer, self.drop = nn.Linear(4, 4), nn.Linear(4, 2), nn.Dropout(0.3)

    def forward(self, x):
        return self.outer(self.drop(self.inner(self.drop(x))))


class Transposed(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.drop = nn.Linear(4, 4), nn.Dropout(0.3)

    def forward(self, x):
        columns = x.unsqueeze(2).expand(-1, -1, 3).contiguous().transpose(1, 2)
        return self.inner(self.drop(columns).mean(1))


class OverRows(nn.Module):
    """A network with a dropout whose input does not have the rows as its first dimension."""

    def __init__(self):
        super().__init__()
        self.inner, self.drop = nn.Linear(4, 4), nn.Dropout(0.3)

    def forward(self, x):
        return self.inner(self.drop(x.t().contiguous()).t())


class Idle(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.unused = nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x):
        return self.inner(x)


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 2)

    def forward(self, x):
        y = self.inner(x)
        return y if y.sum() > 0 else -y


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 2)

    def forward(self, x):
        return self.inner(x + torch.randn_like(x)) if self.training else self.inner(x)


def hooked():
    model = nn.Linear(4, 2)
    model.register_forward_hook(lambda module, inputs, output: 2.0 * output)
    return model


UNPACKABLE = [
    (Twice, "a dropout is called more than once"),
    (Transposed, "'drop' is not contiguous"),
    (OverRows, "first dimension of the input of dropout 'drop' is not the rows"),
    (Idle, "do not affect its outputs"),
    (Branching, "torch.vmap cannot run it"),
    (Noisy, "uses random numbers outside of dropout layers"),
    (hooked, "has hooks"),
    (lambda: nn.Sequential(nn.Linear(4, 3), nn.Dropout(1.0), nn.Linear(3, 2)), "drops everything"),
    (lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, momentum=None), nn.Linear(3, 2)), "cannot run it"),
    (lambda: Recurrent((32,), 2), "Batching rule not implemented for aten::gru"),
    (nn.Flatten, "no weights"),
]  # fmt: skip


class TestUnpackableNetworks:
    @pytest.mark.parametrize(("make", "reason"), UNPACKABLE, ids=[reason for _, reason in UNPACKABLE])
    def test_reason(self, make, reason):
        model = make()
        sample = torch.randn(4, 32 if isinstance(model, Recurrent) else 4)
        assert reason in cannot_vmap_because(model, sample)

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    @pytest.mark.parametrize(
        "make", [ResidualMlp, NormAndDropout, InstanceNormed, Attention, Averaging, HalfFrozen]
    )
    def test_trial_on_a_gpu(self, make):
        assert cannot_vmap_because(make((64,), 3).cuda(), torch.randn(6, 64, device="cuda")) == ""

    def test_too_few_rows(self):
        assert "too few rows" in cannot_vmap_because(nn.Linear(4, 2), torch.randn(2, 4))

    @pytest.mark.parametrize(
        "make", [ResidualMlp, NormAndDropout, InstanceNormed, Attention, Averaging, HalfFrozen]
    )
    def test_trial_does_not_change_model_or_random_state(self, make):
        model = make((64,), 3).eval()
        before, random_state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
        assert (
            cannot_vmap_because(model, torch.randn(6, 64, generator=torch.Generator().manual_seed(0))) == ""
        )
        assert torch.equal(random_state, torch.get_rng_state())
        assert not any(module.training for module in model.modules())
        assert all(p.grad is None for p in model.parameters())
        assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())

    @pytest.mark.parametrize("make", [Scaled, PrivatelyScaled])
    def test_settings_that_repr_does_not_show(self, make):
        with pytest.raises(CannotPack, match="differ in more than"):
            vmap_models([make(1.0), make(2.0)], torch.randn(4, 4))

    def test_wrong_results_of_vmap(self, monkeypatch):
        # A wrong batching rule would be noticed: the trial compares with the plain module.
        real = torch.vmap

        def wrong(function):
            return lambda *inputs: torch.utils._pytree.tree_map(lambda t: t.flip(0), real(function)(*inputs))

        monkeypatch.setattr(torch, "vmap", wrong)
        assert "differ from those of a solo run" in cannot_vmap_because(nn.Linear(4, 2), torch.randn(4, 4))


class TestStructure:
    def test_ignores_values_and_dropout_rates(self):
        one, other = NormAndDropout((4,), 2), NormAndDropout((4,), 2, early=0.7)
        assert structure_of(one) == structure_of(other)

    def test_depends_on_widths_settings_shared_and_frozen_weights(self):
        shared = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        shared[1].weight = shared[0].weight
        frozen = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        frozen[0].requires_grad_(False)
        models = [
            nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)),
            nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 3)),
            nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3, bias=False)),
            nn.Sequential(nn.Linear(3, 3), nn.Tanh()),
            shared,
            frozen,
        ]
        assert len({structure_of(model) for model in models}) == len(models)

    def test_of_parametrized_layers(self):
        norm = torch.nn.utils.parametrizations.weight_norm
        assert structure_of(norm(nn.Linear(3, 3))) == structure_of(norm(nn.Linear(3, 3)))
        assert structure_of(norm(nn.Linear(3, 3))) != structure_of(nn.Linear(3, 3))


class TestTrainMany:
    def both(self, recipes, **settings):
        each = [{**recipe, "stop": {"max_epochs": 3}} for recipe in recipes]
        return [
            train_many(each, "iris", seeds=[0, 1, 2][: len(each)], engine=engine, **settings)
            for engine in ("vmap", "loop")
        ]

    @pytest.mark.slow
    @pytest.mark.parametrize("recipe", [{"model": {"name": NormAndDropout}}, WEIGHT_NORM])
    def test_runs_equal_solo_runs(self, recipe):
        packed, solo = self.both(with_learning_rates(recipe, optimizer="sgd"))
        for one, other in zip(packed, solo, strict=True):
            assert one.environment["engine"]["name"] == "vmap"
            assert one.environment["engine"]["members"] == 3
            assert relative_difference(other.model.state_dict(), one.model.state_dict()) < 1e-5
            for part in ("validation", "test"):
                assert one.metrics[part] == pytest.approx(other.metrics[part], rel=1e-4)

    @pytest.mark.slow
    def test_members_with_different_dropout_rates_are_packed_together(self):
        recipes = [{"model": {"name": NormAndDropout, "late": p}} for p in (0.0, 0.2, 0.5)]
        packed, _ = self.both(recipes)
        assert [run.environment["engine"]["members"] for run in packed] == [3, 3, 3]

    @pytest.mark.slow
    def test_reason_for_training_one_after_another(self):
        recipe = {"model": {"name": Recurrent}, "stop": {"max_epochs": 3}}
        runs = train_many(
            [recipe] * 2, "digits", engine="auto", rungs=[1], survivors=lambda epoch, running: []
        )
        for run in runs:
            engine = run.environment["engine"]
            assert engine["name"] == "loop"
            assert engine["why"].startswith("Recurrent has no packed form; torch.vmap cannot run it: ")

    def test_vmap_on_request(self):
        recipe = {"model": {"hidden": [8]}, "stop": {"max_epochs": 1}}
        (run,) = train_many([recipe], "iris", engine="vmap")
        assert run.environment["engine"]["name"] == "vmap"
