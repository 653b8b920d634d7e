import pytest
from hypothesis import given
from hypothesis import strategies as st

from descend.experiments.search import Trial
from descend.experiments.search.halving import Bracket, Race, brackets, budget


def raced(curve, count, bracket, known=(), skipped=()):
    """What is left of a race over a synthetic objective, and the epochs that it took."""
    numbers = [number for number in range(count) if number not in skipped]
    race = Race([bracket], "accuracy", numbers, {trial.number: trial for trial in known})
    going, spent, before = dict(enumerate(numbers)), 0, 0
    for rung in bracket.rungs:
        spent += len(going) * (rung - before)
        for member, number in going.items():
            for epoch in range(before + 1, rung + 1):
                race.epoch_ended(member, {"epoch": epoch, "validation": {"accuracy": curve(number, epoch)}})
        kept = race.survivors(rung, going)
        going, before = {member: going[member] for member in kept}, rung
    return sorted(going.values()), spent, race


class TestWhoGoesOn:
    def test_the_best_where_early_epochs_tell(self):
        bracket = brackets(27, 27)[0]
        assert bracket.rungs == (1, 3, 9)
        left, spent, _ = raced(lambda number, epoch: -((number - 11) ** 2) - 5 / epoch, 27, bracket)
        assert left == [11]
        assert spent + 18 == budget([bracket], 27) == 27 * 1 + 9 * 2 + 3 * 6 + 1 * 18

    def test_the_best_so_far_counts_and_not_the_last(self):
        bracket = Bracket(range(3), (2,))
        curves = {0: [0.9, 0.1], 1: [0.5, 0.5], 2: [0.4, 0.6]}
        left, _, _ = raced(lambda number, epoch: curves[number][min(epoch, 2) - 1], 3, bracket)
        assert left == [0]

    def test_epochs_after_the_rung_do_not_count(self):
        race = Race([Bracket(range(3), (2,))], "accuracy", [0, 1, 2])
        for member, values in enumerate([(0.1, 0.2, 0.9), (0.1, 0.3, 0.3), (0.0, 0.0, 1.0)]):
            for epoch, value in enumerate(values, 1):
                race.epoch_ended(member, {"epoch": epoch, "validation": {"accuracy": value}})
        assert list(race.survivors(2, dict.fromkeys(range(3)))) == [1]

    def test_late_bloomers_need_more_brackets(self):
        def blooms(number, epoch):
            return float(epoch >= 9 if number % 9 == 8 else 0.5)

        first, last = brackets(54, 27, 3)[0], brackets(54, 27, 3)[2]
        assert 8 not in raced(blooms, 18, Bracket(range(18), first.rungs))[0]
        assert 8 in raced(blooms, 18, Bracket(range(18), last.rungs))[0]

    def test_records_stay_in_the_race(self):
        """A race that goes on after a kill ends as if there had been none."""
        bracket = brackets(9, 9)[0]

        def curve(number, epoch):
            return -abs(number - 4) + epoch / 100

        whole, _, race = raced(curve, 9, bracket)
        known = [Trial(n, {}, "dropped", 0.0, rungs=race.values[n]) for n in (3, 0, 8)]
        again, _, _ = raced(curve, 9, bracket, known, skipped=(3, 0, 8))
        assert again == whole == [4]

    def test_brackets_race_side_by_side(self):
        """Each bracket's trials fare as if they were alone, though all are trained together."""
        both = brackets(40, 27, 2)
        assert both[0].rungs != both[1].rungs

        def curve(number, epoch):
            return -abs((number % 20) - 7.3) - 3 / epoch

        race = Race(both, "accuracy", list(range(40)))
        going = dict.fromkeys(range(40))
        before = 0
        for rung in race.rungs:
            for member in going:
                for epoch in range(before + 1, rung + 1):
                    race.epoch_ended(
                        member, {"epoch": epoch, "validation": {"accuracy": curve(member, epoch)}}
                    )
            going, before = dict.fromkeys(sorted(race.survivors(rung, going))), rung
        alone = []
        for each in both:
            shifted = Bracket(range(len(each.numbers)), each.rungs)
            first = each.numbers.start
            left, _, _ = raced(lambda n, e, first=first: curve(n + first, e), len(each.numbers), shifted)
            alone += [number + first for number in left]
        assert list(going) == alone

    @pytest.mark.parametrize(("metric", "kept"), [("accuracy", 2), ("loss", 0)])
    def test_direction(self, metric, kept):
        race = Race([Bracket(range(3), (1,))], metric, [0, 1, 2])
        for member in range(3):
            race.epoch_ended(member, {"epoch": 1, "validation": {metric: float(member)}})
        assert list(race.survivors(1, dict.fromkeys(range(3)))) == [kept]


@given(st.integers(1, 200), st.integers(1, 300), st.integers(1, 5))
def test_brackets_hold_every_trial_once_and_save_epochs(trials, epochs, count):
    found = brackets(trials, epochs, count)
    assert [number for each in found for number in each.numbers] == list(range(trials))
    for each in found:
        assert list(each.rungs) == sorted(set(each.rungs))
        assert all(1 <= rung < epochs for rung in each.rungs)
        if each.rungs:  # someone is left at the end
            assert each.kept(len(each.rungs) - 1) >= 1
    assert trials <= budget(found, epochs) <= trials * epochs
