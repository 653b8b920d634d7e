import pytest
from hypothesis import given
from hypothesis import strategies as st

from descend.experiments.search import Trial
from descend.experiments.search.halving import Bracket, HalvingScheduler, budget, make_brackets
from descend.experiments.search.trial import best_trial


def run_bracket(curve, count, bracket, known=(), skipped=()):
    """Run one bracket on a synthetic objective: the surviving trials, the epochs taken, the scheduler."""
    numbers = [number for number in range(count) if number not in skipped]
    scheduler = HalvingScheduler([bracket], "accuracy", numbers, {trial.number: trial for trial in known})
    active, spent, before = dict(enumerate(numbers)), 0, 0
    for rung in bracket.rungs:
        spent += len(active) * (rung - before)
        for member, number in active.items():
            for epoch in range(before + 1, rung + 1):
                scheduler.epoch_ended(
                    member, {"epoch": epoch, "validation": {"accuracy": curve(number, epoch)}}
                )
        kept = scheduler.survivors(rung, active)
        active, before = {member: active[member] for member in kept}, rung
    return sorted(active.values()), spent, scheduler


class TestSurvivors:
    def test_the_best_trial_survives_if_early_epochs_are_predictive(self):
        bracket = make_brackets(27, 27)[0]
        assert bracket.rungs == (1, 3, 9)
        survivors, spent, _ = run_bracket(
            lambda number, epoch: -((number - 11) ** 2) - 5 / epoch, 27, bracket
        )
        assert survivors == [11]
        assert spent + 18 == budget([bracket], 27) == 27 * 1 + 9 * 2 + 3 * 6 + 1 * 18

    def test_the_best_score_so_far_counts_rather_than_the_last(self):
        bracket = Bracket(range(3), (2,))
        curves = {0: [0.9, 0.1], 1: [0.5, 0.5], 2: [0.4, 0.6]}
        survivors, _, _ = run_bracket(lambda number, epoch: curves[number][min(epoch, 2) - 1], 3, bracket)
        assert survivors == [0]

    def test_epochs_after_the_rung_do_not_count(self):
        scheduler = HalvingScheduler([Bracket(range(3), (2,))], "accuracy", [0, 1, 2])
        for member, values in enumerate([(0.1, 0.2, 0.9), (0.1, 0.3, 0.3), (0.0, 0.0, 1.0)]):
            for epoch, value in enumerate(values, 1):
                scheduler.epoch_ended(member, {"epoch": epoch, "validation": {"accuracy": value}})
        assert list(scheduler.survivors(2, dict.fromkeys(range(3)))) == [1]

    def test_slow_starters_need_more_brackets(self):
        def slow_starter(number, epoch):
            return float(epoch >= 9 if number % 9 == 8 else 0.5)

        first, last = make_brackets(54, 27, 3)[0], make_brackets(54, 27, 3)[2]
        assert 8 not in run_bracket(slow_starter, 18, Bracket(range(18), first.rungs))[0]
        assert 8 in run_bracket(slow_starter, 18, Bracket(range(18), last.rungs))[0]

    def test_records_stay_in_the_ranking(self):
        """A resumed bracket selects the same trials as an uninterrupted one."""
        bracket = make_brackets(9, 9)[0]

        def curve(number, epoch):
            return -abs(number - 4) + epoch / 100

        uninterrupted, _, scheduler = run_bracket(curve, 9, bracket)
        known = [Trial(n, {}, "dropped", 0.0, rungs=scheduler.values[n]) for n in (3, 0, 8)]
        again, _, _ = run_bracket(curve, 9, bracket, known, skipped=(3, 0, 8))
        assert again == uninterrupted == [4]

    def test_brackets_do_not_affect_each_other(self):
        """All brackets are trained together, with the same selection as if each were trained separately."""
        both = make_brackets(40, 27, 2)
        assert both[0].rungs != both[1].rungs

        def curve(number, epoch):
            return -abs((number % 20) - 7.3) - 3 / epoch

        scheduler = HalvingScheduler(both, "accuracy", list(range(40)))
        active = dict.fromkeys(range(40))
        before = 0
        for rung in scheduler.rungs:
            for member in active:
                for epoch in range(before + 1, rung + 1):
                    scheduler.epoch_ended(
                        member, {"epoch": epoch, "validation": {"accuracy": curve(member, epoch)}}
                    )
            active, before = dict.fromkeys(sorted(scheduler.survivors(rung, active))), rung
        separate = []
        for each in both:
            shifted = Bracket(range(len(each.numbers)), each.rungs)
            first = each.numbers.start
            left, _, _ = run_bracket(
                lambda n, e, first=first: curve(n + first, e), len(each.numbers), shifted
            )
            separate += [number + first for number in left]
        assert list(active) == separate

    @pytest.mark.parametrize(("metric", "kept"), [("accuracy", 2), ("loss", 0)])
    def test_direction(self, metric, kept):
        scheduler = HalvingScheduler([Bracket(range(3), (1,))], metric, [0, 1, 2])
        for member in range(3):
            scheduler.epoch_ended(member, {"epoch": 1, "validation": {metric: float(member)}})
        assert list(scheduler.survivors(1, dict.fromkeys(range(3)))) == [kept]


@given(st.integers(1, 200), st.integers(1, 300), st.integers(1, 5))
def test_brackets_contain_every_trial_once_and_save_epochs(trials, epochs, count):
    brackets = make_brackets(trials, epochs, count)
    assert [number for bracket in brackets for number in bracket.numbers] == list(range(trials))
    for each in brackets:
        assert list(each.rungs) == sorted(set(each.rungs))
        assert all(1 <= rung < epochs for rung in each.rungs)
        if each.rungs:  # at least one trial survives
            assert each.n_kept(len(each.rungs) - 1) >= 1
    assert trials <= budget(brackets, epochs) <= trials * epochs


def test_an_undefined_score_is_the_last_at_a_rung():
    """A trial whose metric was never defined up to the rung does not continue before one with a bad score."""
    scheduler = HalvingScheduler([Bracket(range(3), (1,))], "precision", [0, 1, 2])
    for member, value in enumerate([None, 0.1, None]):
        scheduler.epoch_ended(member, {"epoch": 1, "validation": {"precision": value}})
    assert scheduler.survivors(1, dict.fromkeys(range(3))) == {1}
    assert scheduler.values == {0: {1: None}, 1: {1: 0.1}, 2: {1: None}}


def test_a_trial_without_a_score_is_never_the_best():
    undefined = Trial(0, {}, "finished", None, 0.1, message="its precision is undefined")
    assert best_trial([undefined, Trial(1, {}, "finished", 0.2, 9.0)], "precision").number == 1
    assert best_trial([undefined], "precision") is None
    assert Trial.from_json(undefined.to_json()) == undefined
