"""Targets, costs and selection on synthetic histories."""

import math
from dataclasses import replace

import pytest

from descend.experiments.comparison import Comparison
from descend.experiments.comparison.outcome import Conditions, Outcome, best_tuning_run, median_best_score
from descend.experiments.comparison.results import pairwise_tests
from descend.experiments.comparison.trials import Trial
from descend.experiments.comparison.variants import variants_of
from descend.recipe import Recipe

ONE, OTHER = variants_of(Recipe(), {"optimizer.name": ["sgd", "adam"]})
CONDITIONS = Conditions(
    "synthetic", "binary", "accuracy", "test", {"train": 60, "validation": 20, "test": 20}, 0, range(1, 4),
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
    return Outcome(variant, lr, bool(tuning), tuning, runs, CONDITIONS, target)


class TestCostToReach:
    def test_the_first_epoch_that_is_as_good(self):
        cost = trial(0.5, 0.8, 0.7, 0.9).cost_to_reach("accuracy", 0.8)
        assert (cost.epochs, cost.steps, cost.gradients, cost.seconds) == (2, 20, 20, 1.0)

    def test_lower_losses_are_better(self):
        assert trial(0.5, 0.8, 0.9).cost_to_reach("loss", 0.2 + 1e-9).epochs == 2

    def test_not_reached(self):
        assert trial(0.5, 0.8).cost_to_reach("accuracy", 0.81) is None
        assert trial().cost_to_reach("accuracy", 0.1) is None

    def test_each_accumulated_batch_costs_a_gradient(self):
        assert trial(0.9, accumulate=4).cost_to_reach("accuracy", 0.5).gradients == 40

    def test_every_network_of_an_ensemble_counts(self):
        cost = replace(trial(0.5, 0.9), networks=3).cost_to_reach("accuracy", 0.9)
        assert (cost.steps, cost.gradients, cost.seconds) == (20, 60, 3.0)

    def test_a_recorded_gradient_count_takes_precedence(self):
        run = trial(0.9)
        run.history[0]["gradients"] = 123
        assert run.cost_to_reach("accuracy", 0.5).gradients == 123

    def test_a_run_may_reach_the_target_before_it_diverges(self):
        run = trial(0.9, failed=True)
        assert run.cost_to_reach("accuracy", 0.9).epochs == 1
        assert run.score("test", "accuracy") is None


class TestTarget:
    def test_is_the_median_of_the_baselines_best(self):
        assert median_best_score([trial(0.5, 0.9, 0.6), trial(0.7, 0.6), trial(0.8)], "accuracy") == 0.8
        assert median_best_score([trial(0.5, 0.9), trial(0.7)], "loss") == pytest.approx(0.2)

    def test_is_none_without_an_epoch(self):
        assert median_best_score([trial(failed=True)], "accuracy") is None

    def test_at_least_half_of_the_baselines_runs_reach_it(self):
        runs = [trial(0.5, 0.9), trial(0.7), trial(0.8)]
        base = outcome(*runs, target=median_best_score(runs, "accuracy"))
        assert [cost is not None for cost in base.target_costs] == [True, False, True]
        assert base.to_target is not None

    def test_a_miss_counts_as_infinite_in_the_median(self):
        result = outcome(trial(0.8), trial(0.1, 0.2, 0.8), trial(0.1, 0.2), target=0.8)
        assert result.to_target.epochs == 3
        assert result.to_target.seconds == 1.5
        missed = outcome(trial(0.8), trial(0.1), trial(0.1), target=0.8)
        assert missed.to_target is None
        assert sum(cost is not None for cost in missed.target_costs) == 1

    def test_half_of_an_even_number_is_not_enough(self):
        assert outcome(trial(0.8), trial(0.1), target=0.8).to_target is None


class TestScores:
    def test_mean_and_interval_of_the_runs_that_finished(self):
        result = outcome(trial(0.9, test=0.8), trial(0.9, test=0.9), trial(failed=True))
        assert result.scores == [0.8, 0.9, None]
        assert result.mean == pytest.approx(0.85)
        assert result.interval == pytest.approx((0.85 - 12.7062047 * 0.05, 0.85 + 12.7062047 * 0.05))

    def test_all_runs_failed(self):
        result = outcome(trial(failed=True))
        assert result.failed
        assert (result.mean, result.interval) == (None, None)


class TestLearningRate:
    def test_is_selected_by_the_validation_score(self):
        runs = [trial(0.8, test=0.99, lr=0.01), trial(0.9, test=0.1, lr=0.1), trial(failed=True, lr=1.0)]
        assert best_tuning_run(runs, "accuracy").lr == 0.1
        assert best_tuning_run(runs, "loss").lr == 0.1

    def test_ties_go_to_the_lower_loss_then_to_the_lower_learning_rate(self):
        def run(lr, loss):
            return Trial(0, lr, False, "", {"validation": {"accuracy": 0.9, "loss": loss}}, [])

        assert best_tuning_run([run(1.0, 0.5), run(0.1, 0.3), run(0.01, 0.4)], "accuracy").lr == 0.1
        assert best_tuning_run([run(1.0, 0.3), run(0.1, 0.3)], "accuracy").lr == 0.1

    def test_all_diverged(self):
        assert best_tuning_run([trial(failed=True)], "accuracy") is None

    def test_sensitivity(self):
        tuning = [trial(value, lr=lr) for lr, value in [(0.001, 0.5), (0.01, 0.95), (0.1, 1.0)]]
        result = outcome(trial(1.0), tuning=[*tuning, trial(failed=True, lr=1.0)])
        assert result.good_rates == 0.5  # two of four are within 5 %
        assert result.curve == [(0.001, 0.5), (0.01, 0.95), (0.1, 1.0), (1.0, None)]
        assert not result.at_edge
        assert outcome(trial(1.0), tuning=tuning, lr=0.1).at_edge

    def test_sensitivity_of_a_negative_score(self):
        tuning = [
            Trial(0, lr, False, "", {"validation": {"r2": value}}, [])
            for lr, value in [(0.1, -1.0), (0.2, -1.04), (0.3, -1.1)]
        ]
        regression = Conditions(**{**vars(CONDITIONS), "metric": "r2", "task": "regression"})
        assert Outcome(ONE, 0.1, True, tuning, [], regression).good_rates == pytest.approx(2 / 3)


class TestPairwiseTests:
    def test_pairs_are_seeds_for_which_both_have_a_score(self):
        first = outcome(trial(test=0.9), trial(test=0.8), trial(failed=True))
        second = outcome(trial(test=0.7), trial(test=0.7), trial(test=0.1), variant=OTHER)
        (test,) = pairwise_tests([first, second])
        assert (test.first, test.second, test.pairs) == ("sgd", "adam", 2)
        assert test.difference == pytest.approx(0.15)
        # t = 0.15 √2 / 0.0707 = 3 with one degree of freedom: p = 1 - 2/π atan(3)
        assert test.p == pytest.approx(1 - 2 / math.pi * math.atan(3))
        assert test.adjusted == test.p

    def test_a_variant_without_scores_is_not_tested(self):
        good = [outcome(trial(test=a), trial(test=b)) for a, b in [(0.9, 0.8), (0.7, 0.7)]]
        failed = outcome(trial(failed=True), trial(failed=True), variant=OTHER)
        result = pairwise_tests([*good, failed])
        assert [test.p is None for test in result] == [False, True, True]
        assert result[0].adjusted == result[0].p


def test_outcomes_are_accessible_by_name():
    result = Comparison([outcome(trial(0.9))], [], CONDITIONS, 0.9, 1.0)
    assert result["sgd"] is result.outcomes[0]
    with pytest.raises(KeyError, match="the variants are: sgd"):
        result["adam"]
