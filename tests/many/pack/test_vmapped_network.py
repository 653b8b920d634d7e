"""Networks run together by torch.func: each member is what it is alone."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.support.packs import assert_equal_solo, difference, member_state, pack_of, trainings
from tests.support.user_modules import (
    Attention,
    Averaging,
    Half,
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
    pytest.param({"model": {"name": Half}}, id="frozen layer"),
]


def rates(recipe, values=(1e-3, 1e-2, 3e-3), optimizer="adamw"):
    faster = 30.0 if optimizer == "sgd" else 1.0
    return [{**recipe, "optimizer": {"name": optimizer, "lr": faster * value}} for value in values]


class TestAMemberEqualsItsSoloRun:
    # The gradient of a bias before a norm, or of an attention's keys, is 0 but for rounding, which Adam makes into
    # whole steps where it exceeds eps: a comparison in float32 is one of rounding errors then.
    @pytest.mark.parametrize(
        ("dtype", "optimizer"), [(torch.float32, "sgd"), (torch.float64, "adamw")], ids=["float32", "float64"]
    )
    @pytest.mark.parametrize("recipe", MODELS)
    def test_with_a_rate_and_an_order_of_rows_of_its_own(self, recipe, dtype, optimizer):
        assert_equal_solo(rates(recipe, optimizer=optimizer), vmap_models, dtype=dtype)

    @pytest.mark.parametrize("recipe", MODELS)
    def test_after_another_has_gone(self, recipe):
        assert_equal_solo(rates(recipe), vmap_models, drop=1, dtype=torch.float64)

    def test_with_rates_of_dropout_of_its_own_or_none(self):
        recipes = [
            {"model": {"name": NormAndDropout, "early": early, "late": late}}
            for early, late in ((0.0, 0.5), (0.3, 0.0), (0.0, 0.0), (0.1, 0.6))
        ]
        assert_equal_solo(recipes, vmap_models, dtype=torch.float64)
        assert_equal_solo(recipes, vmap_models, drop=3, dtype=torch.float64)

    def test_where_those_that_draw_have_gone(self):
        recipes = [{"model": {"name": NormAndDropout, "early": p, "late": p}} for p in (0.0, 0.5, 0.0)]
        assert_equal_solo(recipes, vmap_models, drop=1, dtype=torch.float64)

    def test_with_several_batches_a_step_penalties_and_clipping(self):
        recipe = {
            "model": {"name": NormAndDropout},
            "gradient": {"accumulate": 3, "clip_norm": 0.5},
            "regularize": {"l1": 1e-4, "l2": 1e-3},
        }
        assert_equal_solo([recipe] * 3, vmap_models, dtype=torch.float64)

    def test_in_a_regression(self):
        assert_equal_solo(
            rates({"model": {"name": ResidualMlp}}), vmap_models, data="diabetes", dtype=torch.float64
        )

    def test_where_it_could_be_stacked(self):
        recipe = {"model": {"hidden": [16, 16], "dropout": 0.2, "norm": "batch"}}
        assert_equal_solo(rates(recipe), vmap_models, dtype=torch.float64)


@pytest.mark.parametrize("recipe", MODELS)
def test_a_member_that_diverges_changes_no_bit_of_the_others(recipe):
    def packed(rate):
        made = trainings(rates(recipe, (1e-3, rate, 3e-3)), [0, 1, 2], "digits")
        pack = pack_of(made, vmap_models)
        steps = iter(pack.batches.epoch(0))
        advance = pack.stepper()
        for _ in range(4):
            advance(next(steps))
            pack.step_in_epoch += 1
        return pack

    calm, wild = packed(1e-3), packed(1e30)
    assert not all(t.isfinite().all() for t in member_state(wild, 1).values())
    for number in (0, 2):
        for name, value in member_state(calm, number).items():
            assert torch.equal(value, member_state(wild, number)[name]), name


def test_evaluation_is_that_of_each_member():
    pairs = trainings(rates({"model": {"name": NormAndDropout}}), [0, 1, 2], "digits")
    pack = pack_of(pairs, vmap_models)
    fit(pack, until=1)
    rows = pairs[0][1].batches.tensors[0][:50]
    together = pack.network.outputs(rows.unsqueeze(0))
    for number, (_, training) in enumerate(pairs):
        training.model.load_state_dict(member_state(pack, number))
        with torch.no_grad():
            torch.testing.assert_close(together[number], training.model.eval()(rows), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("recipe", MODELS)
@pytest.mark.filterwarnings("error:There is a performance drop")
def test_nothing_runs_member_by_member(recipe):
    pack = pack_of(trainings(rates(recipe), [0, 1, 2], "digits"), vmap_models)
    pack.stepper()(next(pack.batches.epoch(0)))
    pack.network.outputs(pack.batches._tensors[0][:4].unsqueeze(0))


@pytest.mark.parametrize("model", [NormAndDropout, InstanceNormed, Attention, ResidualMlp])
def test_mixed_precision(model):
    # One epoch, on the scale of bfloat16's rounding: 2^-8, over some layers.
    recipe = {"model": {"name": model}, "stop": {"max_epochs": 1}, "engine": {"precision": "bfloat16"}}
    together, alone = (train_many([recipe] * 2, "digits", seeds=[0, 1], engine=e) for e in ("vmap", "loop"))
    for one, other in zip(together, alone, strict=True):
        assert one.environment["engine"]["name"] == "vmap"
        assert difference(other.model.state_dict(), one.model.state_dict()) < 0.02
        assert one.history[0]["train"]["loss"] == pytest.approx(other.history[0]["train"]["loss"], rel=0.02)


class Scaled(nn.Module):
    def __init__(self, scale=1.0):
        super().__init__()
        self.inner, self.scale = nn.Linear(4, 4), scale

    def forward(self, x):
        return x + self.scale * self.inner(x)


class ScaledInPrivate(Scaled):
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
    """Drops along a dimension that is not the rows."""

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


REFUSED = [
    (Twice, "a dropout is called more than once"),
    (Transposed, "'drop' acts on a transposed signal"),
    (OverRows, "'drop' does not act on one row after another"),
    (Idle, "take no part"),
    (Branching, "torch.vmap cannot run it"),
    (Noisy, "draws random numbers other than by dropout"),
    (hooked, "has hooks"),
    (lambda: nn.Sequential(nn.Linear(4, 3), nn.Dropout(1.0), nn.Linear(3, 2)), "drops everything"),
    (lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, momentum=None), nn.Linear(3, 2)), "cannot run it"),
    (lambda: Recurrent((32,), 2), "Batching rule not implemented for aten::gru"),
    (nn.Flatten, "no weights"),
]  # fmt: skip


class TestWhatCannotRide:
    @pytest.mark.parametrize(("make", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
    def test_is_named(self, make, reason):
        model = make()
        sample = torch.randn(4, 32 if isinstance(model, Recurrent) else 4)
        assert reason in cannot_vmap_because(model, sample)

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    @pytest.mark.parametrize(
        "make", [ResidualMlp, NormAndDropout, InstanceNormed, Attention, Averaging, Half]
    )
    def test_a_trial_on_a_gpu(self, make):
        assert cannot_vmap_because(make((64,), 3).cuda(), torch.randn(6, 64, device="cuda")) == ""

    def test_too_few_rows(self):
        assert "too few rows" in cannot_vmap_because(nn.Linear(4, 2), torch.randn(2, 4))

    @pytest.mark.parametrize(
        "make", [ResidualMlp, NormAndDropout, InstanceNormed, Attention, Averaging, Half]
    )
    def test_a_trial_leaves_no_trace(self, make):
        model = make((64,), 3).eval()
        before, mode = copy.deepcopy(model.state_dict()), torch.get_rng_state()
        assert (
            cannot_vmap_because(model, torch.randn(6, 64, generator=torch.Generator().manual_seed(0))) == ""
        )
        assert torch.equal(mode, torch.get_rng_state())
        assert not any(module.training for module in model.modules())
        assert all(p.grad is None for p in model.parameters())
        assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())

    @pytest.mark.parametrize("make", [Scaled, ScaledInPrivate])
    def test_settings_that_no_repr_shows(self, make):
        with pytest.raises(CannotPack, match="differ in more than"):
            vmap_models([make(1.0), make(2.0)], torch.randn(4, 4))

    def test_a_result_that_is_not_the_member_s_own(self, monkeypatch):
        # A rule of vmap that were wrong would be seen: the trial compares with the plain module.
        real = torch.vmap

        def wrong(function):
            return lambda *inputs: torch.utils._pytree.tree_map(lambda t: t.flip(0), real(function)(*inputs))

        monkeypatch.setattr(torch, "vmap", wrong)
        assert "does not compute what" in cannot_vmap_because(nn.Linear(4, 2), torch.randn(4, 4))


class TestStructure:
    def test_leaves_out_values_and_rates_of_dropout(self):
        one, other = NormAndDropout((4,), 2), NormAndDropout((4,), 2, early=0.7)
        assert structure_of(one) == structure_of(other)

    def test_sees_widths_settings_shared_weights_and_frozen_ones(self):
        shared = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        shared[1].weight = shared[0].weight
        frozen = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        frozen[0].requires_grad_(False)
        made = [
            nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)),
            nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 3)),
            nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3, bias=False)),
            nn.Sequential(nn.Linear(3, 3), nn.Tanh()),
            shared,
            frozen,
        ]
        assert len({structure_of(model) for model in made}) == len(made)

    def test_takes_parametrized_layers_for_what_they_are(self):
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

    @pytest.mark.parametrize("recipe", [{"model": {"name": NormAndDropout}}, WEIGHT_NORM])
    def test_gives_what_each_gives_alone(self, recipe):
        together, alone = self.both(rates(recipe, optimizer="sgd"))
        for one, other in zip(together, alone, strict=True):
            assert one.environment["engine"]["name"] == "vmap"
            assert one.environment["engine"]["members"] == 3
            assert difference(other.model.state_dict(), one.model.state_dict()) < 1e-5
            for part in ("validation", "test"):
                assert one.metrics[part] == pytest.approx(other.metrics[part], rel=1e-4)

    def test_members_with_several_rates_of_dropout_ride_together(self):
        recipes = [{"model": {"name": NormAndDropout, "late": p}} for p in (0.0, 0.2, 0.5)]
        together, _ = self.both(recipes)
        assert [run.environment["engine"]["members"] for run in together] == [3, 3, 3]

    def test_says_why_one_after_another(self):
        recipe = {"model": {"name": Recurrent}, "stop": {"max_epochs": 3}}
        runs = train_many([recipe] * 2, "digits", engine="auto", rungs=[1], survivors=lambda epoch, going: [])
        for run in runs:
            engine = run.environment["engine"]
            assert engine["name"] == "loop"
            assert engine["why"].startswith("Recurrent has no packed form; torch.vmap cannot run it: ")

    def test_vmap_can_be_asked_for(self):
        recipe = {"model": {"hidden": [8]}, "stop": {"max_epochs": 1}}
        (run,) = train_many([recipe], "iris", engine="vmap")
        assert run.environment["engine"]["name"] == "vmap"
