"""Learning-rate schedules against PyTorch's schedulers and closed forms."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.support.examples import examples
from torch.optim import lr_scheduler

from descend.cards import card
from descend.schedules import SCHEDULES, Plateau

EPOCH = st.integers(1, 12)  # steps in an epoch
EPOCHS = st.integers(1, 15)
BETA = st.floats(0, 0.5)
PER = st.sampled_from(["step", "epoch"])


def factors(name, steps_per_epoch, total, **chosen):
    schedule = SCHEDULES[name](steps_per_epoch, total, **chosen)
    return [schedule.factor(step) for step in range(total)]


def torch_factors(make, count):
    """Return the learning rates of a PyTorch scheduler over `count` steps, from a base learning rate of 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    learning_rates = []
    for _ in range(count):
        learning_rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return learning_rates


def per_step(learning_rates, per, steps_per_epoch, total):
    """Return the learning rate of each step, given those of each k, which counts steps or epochs."""
    return [learning_rates[step if per == "step" else step // steps_per_epoch] for step in range(total)]


def close(expected):
    return pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(EPOCH, EPOCHS, BETA, PER)
@settings(deadline=None, max_examples=examples(50))
def test_inverse(s, epochs, beta, per):
    total = s * epochs
    expected = [1 / (1 + beta * k) for k in range(total)]
    assert factors("inverse", s, total, beta=beta, per=per) == close(per_step(expected, per, s, total))
    reference = torch_factors(lambda o: lr_scheduler.LambdaLR(o, lambda k: 1 / (1 + beta * k)), total)
    assert factors("inverse", s, total, beta=beta, per=per) == close(per_step(reference, per, s, total))


@given(EPOCH, EPOCHS, BETA, PER)
@settings(deadline=None, max_examples=examples(50))
def test_exponential(s, epochs, beta, per):
    total = s * epochs
    reference = torch_factors(lambda o: lr_scheduler.ExponentialLR(o, gamma=math.exp(-beta)), total)
    assert factors("exponential", s, total, beta=beta, per=per) == close(per_step(reference, per, s, total))


@given(EPOCH, EPOCHS, st.floats(0.05, 0.95), st.integers(1, 7), PER)
@settings(deadline=None, max_examples=examples(50))
def test_staircase(s, epochs, factor, every, per):
    total = s * epochs
    reference = torch_factors(lambda o: lr_scheduler.StepLR(o, every, gamma=factor), total)
    actual = factors("staircase", s, total, factor=factor, every=every, per=per)
    assert actual == close(per_step(reference, per, s, total))


@given(EPOCH, EPOCHS, st.floats(0, 1), PER)
@settings(deadline=None, max_examples=examples(50))
def test_cosine(s, epochs, final, per):
    total = s * epochs
    length = total if per == "step" else epochs
    reference = torch_factors(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=length, eta_min=final), total)
    actual = factors("cosine", s, total, final=final, per=per)
    assert actual == pytest.approx(per_step(reference, per, s, total), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("per", ["step", "epoch"])
def test_coslog4_and_flat_cosine_are_their_formulas(per):
    s, total = 4, 60
    time = [
        min(1.0, (k if per == "step" else k // s) / (total if per == "step" else 15))
        for k in range(total + 9)
    ]
    expected = [(1 - math.cos(2 * math.pi * math.log2(1 + 15 * t))) / 2 for t in time]
    assert [SCHEDULES["coslog4"](s, total, per=per).factor(k) for k in range(total + 9)] == pytest.approx(
        expected, abs=1e-12
    )
    flat = [1.0 if t < 0.5 else (1 + math.cos(math.pi * (2 * t - 1))) / 2 for t in time]
    assert [SCHEDULES["flat_cosine"](s, total, per=per).factor(k) for k in range(total + 9)] == pytest.approx(
        flat, abs=1e-12
    )


def test_the_cycles_of_coslog4_double():
    schedule = SCHEDULES["coslog4"](1, 1500)
    lowest = [k for k in range(1501) if schedule.factor(k) < 1e-9]
    assert lowest == [0, 100, 300, 700, 1500]


def test_cosine_against_known_values_and_beyond_its_end():
    schedule = SCHEDULES["cosine"](1, 4, final=0.2)
    expected = [1.0, 0.2 + 0.4 * (1 + math.sqrt(0.5)), 0.6, 0.2 + 0.4 * (1 - math.sqrt(0.5)), 0.2, 0.2]
    assert [schedule.factor(step) for step in range(6)] == close(expected)


@given(
    EPOCH,
    st.integers(2, 15),
    st.floats(0.05, 0.95),
    st.floats(0.01, 0.9),
    st.floats(1e-5, 0.5),
)
@settings(deadline=None, max_examples=examples(80))
def test_one_cycle(s, epochs, peak_at, start, final):
    total = s * epochs
    assume(peak_at * total > 1.01)  # PyTorch divides by the length of the increase
    reference = torch_factors(
        lambda o: lr_scheduler.OneCycleLR(
            o,
            1.0,
            total,
            pct_start=peak_at,
            div_factor=1 / start,
            final_div_factor=start / final,
            cycle_momentum=False,
        ),
        total - 1,
    )
    actual = factors("one_cycle", s, total, peak_at=peak_at, start=start, final=final)
    assert actual[:-1] == pytest.approx(reference, rel=1e-9, abs=1e-9)
    assert actual[-1] == close(final)
    assert max(actual) <= 1.0 + 1e-12


@pytest.mark.parametrize("total", [1, 2, 3])
@pytest.mark.parametrize("peak_at", [0.01, 0.3, 0.99])
def test_one_cycle_of_few_steps(total, peak_at):
    actual = factors("one_cycle", 1, total, peak_at=peak_at)
    assert all(0 < factor <= 1 for factor in actual)


@given(EPOCH, EPOCHS, st.integers(1, 40))
@settings(deadline=None, max_examples=examples(50))
def test_warmup(s, epochs, length):
    total = s * epochs
    if length > 1:
        reference = torch_factors(
            lambda o: lr_scheduler.LinearLR(o, start_factor=1 / length, total_iters=length - 1), total
        )
        assert factors("warmup", s, total, length=length, per="step") == close(reference)
    assert factors("warmup", s, total, length=length, per="step") == close(
        [min(1, (step + 1) / length) for step in range(total)]
    )


def test_warmup_in_epochs_increases_at_every_step():
    assert factors("warmup", 4, 12, length=2.0) == close([min(1, (k + 1) / 8) for k in range(12)])
    assert factors("warmup", 4, 6, length=0.5) == [0.5, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("name", sorted(set(SCHEDULES) - {"warmup"}))
@given(EPOCH, EPOCHS, st.floats(0, 5))
@settings(deadline=None, max_examples=examples(20))
def test_every_schedule_has_a_warmup(name, s, epochs, length):
    total = s * epochs
    plain = factors(name, s, total)
    ramp = [min(1.0, (step + 1) / (length * s)) if length else 1.0 for step in range(total)]
    actual = factors(name, s, total, warmup=length)
    assert actual == close([a * b for a, b in zip(plain, ramp, strict=True)])


@pytest.mark.parametrize("name", SCHEDULES)
def test_factors_depend_on_the_step_only(name):
    schedule = SCHEDULES[name](5, 50)
    forward = [schedule.factor(step) for step in range(50)]
    assert [schedule.factor(step) for step in reversed(range(50))] == forward[::-1]
    assert (forward[0] > 0) == (name != "coslog4")  # a cosine cycle that starts at 0, by its definition
    assert all(0 <= factor <= 1 for factor in forward)


@pytest.mark.parametrize("name", sorted(set(SCHEDULES) - {"plateau"}))
def test_closed_forms_have_no_state(name):
    schedule = SCHEDULES[name](5, 50)
    before = [schedule.factor(step) for step in range(50)]
    for value in (1.0, 2.0, math.nan):
        schedule.observe(value)
    assert schedule.state_dict() == {}
    schedule.load_state_dict({})
    assert [schedule.factor(step) for step in range(50)] == before


def test_the_classical_conditions():
    """For t_k = 1/k, Σ t_k grows as log K and Σ t_k² converges to π²/6."""
    t = torch.tensor(factors("inverse", 1, 200_000, beta=1.0), dtype=torch.float64)
    assert t.sum().item() == pytest.approx(math.log(200_000) + 0.5772156649, abs=1e-4)
    assert t.square().sum().item() == pytest.approx(math.pi**2 / 6, abs=1e-5)


class TestPlateau:
    @given(
        st.lists(st.floats(0.01, 10.0), min_size=1, max_size=60),
        st.floats(0.1, 0.9),
        st.integers(0, 5),
        st.sampled_from([0.0, 1e-4, 0.1]),
        st.sampled_from([0.0, 0.05]),
    )
    @settings(deadline=None, max_examples=examples(150))
    def test_equals_torch(self, losses, factor, patience, threshold, min_factor):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        reference = lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=factor, patience=patience, threshold=threshold, min_lr=min_factor, eps=0.0
        )
        schedule = SCHEDULES["plateau"](
            3, 100, factor=factor, patience=patience, threshold=threshold, min_factor=min_factor
        )
        for loss in losses:
            reference.step(loss)
            schedule.observe(loss)
            assert schedule.factor(0) == close(optimizer.param_groups[0]["lr"])

    @pytest.mark.parametrize("scale", [1.0, 10.0, 0.01])  # the threshold is relative
    def test_known_values(self, scale):
        schedule = SCHEDULES["plateau"](1, 10, factor=0.5, patience=2, threshold=0.1)
        factors = []
        for loss in [1.0, 0.95, 0.91, 0.92, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9]:
            schedule.observe(scale * loss)
            factors.append(schedule.factor(0))
        # 0.95 to 0.92 improve by less than a tenth: three bad epochs. 0.8 is an improvement. Then there are six bad ones.
        assert factors == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125]

    @given(st.lists(st.floats(0.01, 10.0), min_size=2, max_size=30), st.integers(0, 29))
    @settings(deadline=None, max_examples=examples(60))
    def test_a_restored_state_continues_identically(self, losses, cut):
        whole, first, second = (SCHEDULES["plateau"](1, 10, patience=1, factor=0.5) for _ in range(3))
        for loss in losses:
            whole.observe(loss)
        for loss in losses[:cut]:
            first.observe(loss)
        second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
        for loss in losses[cut:]:
            second.observe(loss)
        assert second.state_dict() == whole.state_dict()
        assert second.factor(0) == whole.factor(0)

    def test_a_nan_loss_is_not_an_improvement(self):
        schedule = SCHEDULES["plateau"](1, 10, patience=0)
        schedule.observe(math.nan)
        assert schedule.factor(0) == close(0.1)

    @pytest.mark.parametrize("monitor", ["validation", "objective"])
    def test_the_monitored_loss(self, monitor):
        schedule = SCHEDULES["plateau"](1, 10, monitor=monitor)
        assert isinstance(schedule, Plateau)
        assert schedule.monitor == monitor


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_has_a_card(name):
    own = card(SCHEDULES[name])
    assert own is not None
    assert own.row == ("K8" if name in ("coslog4", "flat_cosine") else "D16")
    assert own.formula
