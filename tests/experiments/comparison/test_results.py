"""Targets, times and choices on histories made by hand."""

import math
from dataclasses import replace

import pytest

from descend.experiments.comparison.results import Comparison, Conditions, Outcome, pairwise, pick, target_of
from descend.experiments.comparison.trials import Trial
from descend.experiments.comparison.variants import variants_of
from descend.recipe import Recipe

ONE, OTHER = variants_of(Recipe(), {"optimizer.name": ["sgd", "adam"]})
HOW = Conditions(
    "made", "binary", "accuracy", "test", {"train": 60, "validation": 20, "test": 20}, 0, range(1, 4),
    [0.01, 0.1, 1.0], (1e-3, 1.0), 0.95, True,
)  # fmt: skip


def history(*values, steps=10, seconds=0.5, name="accuracy"):
    return [
        {
            "epoch": at,
            "step": steps * at,
            "seconds": seconds * at,
            "validation": {name: value, "loss": 1 - value},
        }
        for at, value in enumerate(values, start=1)
    ]


def trial(*values, test=None, lr=0.1, failed=False, accumulate=1, **more):
    best = max(values, default=0.0)
    metrics = {
        "validation": {"accuracy": best, "loss": 1 - best},
        "test": {"accuracy": best if test is None else test},
    }
    return Trial(1, lr, failed, "", {} if failed else metrics, history(*values, **more), accumulate)


def outcome(*runs, variant=ONE, target=None, tuning=(), lr=0.1):
    return Outcome(variant, lr, bool(tuning), tuning, runs, HOW, target)


class TestReaching:
    def test_the_first_epoch_that_is_as_good(self):
        reach = trial(0.5, 0.8, 0.7, 0.9).to_reach("accuracy", 0.8)
        assert (reach.epochs, reach.steps, reach.gradients, reach.seconds) == (2, 20, 20, 1.0)

    def test_of_a_loss_lower_is_better(self):
        assert trial(0.5, 0.8, 0.9).to_reach("loss", 0.2 + 1e-9).epochs == 2

    def test_not_reached(self):
        assert trial(0.5, 0.8).to_reach("accuracy", 0.81) is None
        assert trial().to_reach("accuracy", 0.1) is None

    def test_accumulated_batches_cost_a_gradient_each(self):
        assert trial(0.9, accumulate=4).to_reach("accuracy", 0.5).gradients == 40

    def test_every_network_of_an_ensemble_counts(self):
        reach = replace(trial(0.5, 0.9), networks=3).to_reach("accuracy", 0.9)
        assert (reach.steps, reach.gradients, reach.seconds) == (20, 60, 3.0)

    def test_a_method_that_evaluates_more_counts_for_itself(self):
        run = trial(0.9)
        run.history[0]["gradients"] = 123
        assert run.to_reach("accuracy", 0.5).gradients == 123

    def test_a_run_that_diverged_later_did_reach_it(self):
        run = trial(0.9, failed=True)
        assert run.to_reach("accuracy", 0.9).epochs == 1
        assert run.score("test", "accuracy") is None


class TestTheTarget:
    def test_is_the_median_of_the_baselines_best(self):
        assert target_of([trial(0.5, 0.9, 0.6), trial(0.7, 0.6), trial(0.8)], "accuracy") == 0.8
        assert target_of([trial(0.5, 0.9), trial(0.7)], "loss") == pytest.approx(0.2)

    def test_there_is_none_without_an_epoch(self):
        assert target_of([trial(failed=True)], "accuracy") is None

    def test_at_least_half_of_the_baselines_runs_reach_it(self):
        runs = [trial(0.5, 0.9), trial(0.7), trial(0.8)]
        base = outcome(*runs, target=target_of(runs, "accuracy"))
        assert [reach is not None for reach in base.reaches] == [True, False, True]
        assert base.to_target is not None

    def test_time_to_it_is_a_median_in_which_a_miss_is_endless(self):
        found = outcome(trial(0.8), trial(0.1, 0.2, 0.8), trial(0.1, 0.2), target=0.8)
        assert found.to_target.epochs == 3
        assert found.to_target.seconds == 1.5
        missed = outcome(trial(0.8), trial(0.1), trial(0.1), target=0.8)
        assert missed.to_target is None
        assert sum(reach is not None for reach in missed.reaches) == 1

    def test_half_is_not_enough_of_an_even_number(self):
        assert outcome(trial(0.8), trial(0.1), target=0.8).to_target is None


class TestScores:
    def test_mean_and_interval_of_the_runs_that_finished(self):
        found = outcome(trial(0.9, test=0.8), trial(0.9, test=0.9), trial(failed=True))
        assert found.scores == [0.8, 0.9, None]
        assert found.mean == pytest.approx(0.85)
        assert found.interval == pytest.approx((0.85 - 12.7062047 * 0.05, 0.85 + 12.7062047 * 0.05))

    def test_none_without_any(self):
        found = outcome(trial(failed=True))
        assert found.failed
        assert (found.mean, found.interval) == (None, None)


class TestTheRate:
    def test_the_best_is_chosen_by_validation(self):
        runs = [trial(0.8, test=0.99, lr=0.01), trial(0.9, test=0.1, lr=0.1), trial(failed=True, lr=1.0)]
        assert pick(runs, "accuracy").lr == 0.1
        assert pick(runs, "loss").lr == 0.1

    def test_of_equals_the_lower_loss_then_the_lower_rate(self):
        def made(lr, loss):
            return Trial(0, lr, False, "", {"validation": {"accuracy": 0.9, "loss": loss}}, [])

        assert pick([made(1.0, 0.5), made(0.1, 0.3), made(0.01, 0.4)], "accuracy").lr == 0.1
        assert pick([made(1.0, 0.3), made(0.1, 0.3)], "accuracy").lr == 0.1

    def test_all_diverged(self):
        assert pick([trial(failed=True)], "accuracy") is None

    def test_sensitivity(self):
        tuning = [trial(value, lr=lr) for lr, value in [(0.001, 0.5), (0.01, 0.95), (0.1, 1.0)]]
        found = outcome(trial(1.0), tuning=[*tuning, trial(failed=True, lr=1.0)])
        assert found.good_rates == 0.5  # two of four are within 5 %
        assert found.curve == [(0.001, 0.5), (0.01, 0.95), (0.1, 1.0), (1.0, None)]
        assert not found.at_edge
        assert outcome(trial(1.0), tuning=tuning, lr=0.1).at_edge

    def test_sensitivity_of_a_negative_score(self):
        tuning = [
            Trial(0, lr, False, "", {"validation": {"r2": value}}, [])
            for lr, value in [(0.1, -1.0), (0.2, -1.04), (0.3, -1.1)]
        ]
        how = Conditions(**{**vars(HOW), "metric": "r2", "task": "regression"})
        assert Outcome(ONE, 0.1, True, tuning, [], how).good_rates == pytest.approx(2 / 3)


class TestTests:
    def test_pairs_are_seeds_for_which_both_have_a_score(self):
        first = outcome(trial(test=0.9), trial(test=0.8), trial(failed=True))
        second = outcome(trial(test=0.7), trial(test=0.7), trial(test=0.1), variant=OTHER)
        (test,) = pairwise([first, second])
        assert (test.first, test.second, test.pairs) == ("sgd", "adam", 2)
        assert test.difference == pytest.approx(0.15)
        # t = 0.15 √2 / 0.0707 = 3 with one degree of freedom: p = 1 - 2/π atan(3)
        assert test.p == pytest.approx(1 - 2 / math.pi * math.atan(3))
        assert test.adjusted == test.p

    def test_a_variant_without_scores_is_not_tested_and_does_not_count(self):
        good = [outcome(trial(test=a), trial(test=b)) for a, b in [(0.9, 0.8), (0.7, 0.7)]]
        lost = outcome(trial(failed=True), trial(failed=True), variant=OTHER)
        found = pairwise([*good, lost])
        assert [test.p is None for test in found] == [False, True, True]
        assert found[0].adjusted == found[0].p


def test_an_outcome_is_found_by_its_name():
    found = Comparison([outcome(trial(0.9))], [], HOW, 0.9, 1.0)
    assert found["sgd"] is found.outcomes[0]
    with pytest.raises(KeyError, match="the variants are: sgd"):
        found["adam"]
