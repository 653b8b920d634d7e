"""Successive halving: many configurations begin, and at each rung the best of them go on.

A bracket of n configurations whose first rung is at r epochs keeps the best n / 3 at r, the best n / 9 at 3 r,
and so on, until the last ones are trained to their ends. One bracket bets that early epochs tell who will be
good. Several brackets, as in Hyperband, hedge: each further one begins with a rung three times as late, the last
ones with none.

The brackets are trained together, as one pack where they fit: while the first has few trials left, the trials of the
others keep it full.

The budget is counted in epochs: :func:`budget` is what the brackets take if no training stops by itself.

Sources: Jamieson, Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", 2016; Li et
al., "Hyperband: a novel bandit-based approach to hyperparameter optimization", 2018.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from descend.experiments.search.trial import Trial, value_until
from descend.metrics import better
from descend.runs.run import Run
from descend.training.records import Record

__all__ = ["ETA", "Bracket", "Race", "brackets", "budget"]

ETA = 3
"""One of so many goes on at each rung."""


@dataclass(frozen=True)
class Bracket:
    """Trials that race each other.

    Args:
        numbers: of the trials.
        rungs: the epochs at whose ends the best are chosen.
    """

    numbers: range
    rungs: tuple[int, ...]

    def kept(self, place: int) -> int:
        """How many go on after the rung of this place, from 0."""
        return max(1, len(self.numbers) // int(ETA ** (place + 1)))


def brackets(trials: int, epochs: int, count: int = 1) -> list[Bracket]:
    """Brackets of about equally many trials.

    The first has as many rungs as its trials and the epochs allow, at ``epochs`` / 3^k, rounded; each further one
    has one rung fewer.

    Args:
        trials: in all brackets.
        epochs: of a whole training.
        count: how many brackets, at most as many as there are trials.

    >>> [(len(each.numbers), each.rungs) for each in brackets(27, 81, 2)]
    [(14, (9, 27)), (13, (27,))]
    """
    count = min(count, trials)
    found, start = [], 0
    for place in range(count):
        size = trials // count + (place < trials % count)
        depth = 0
        while ETA ** (depth + 1) <= size and round(epochs / ETA ** (depth + 1)) >= 1:
            depth += 1
        depth = max(0, depth - place)
        rungs = sorted({max(1, round(epochs / ETA**level)) for level in range(1, depth + 1)})
        found.append(Bracket(range(start, start + size), tuple(rung for rung in rungs if rung < epochs)))
        start += size
    return found


def budget(races: Sequence[Bracket], epochs: int) -> int:
    """Epochs that brackets take at most, where a whole training takes ``epochs``.

    >>> budget(brackets(9, 9), 9), 9 * 9  # 9 of 1 epoch, 3 of them of 3, one of 9
    (21, 81)
    """
    total = 0
    for race in races:
        going, before = len(race.numbers), 0
        for place, rung in enumerate(race.rungs):
            total += going * (rung - before)
            going, before = min(going, race.kept(place)), rung
        total += going * (epochs - before)
    return total


@dataclass
class Race:
    """Who goes on in each bracket, for ``train_many``'s ``survivors``. The brackets are trained together.

    What is ranked is the best validation score up to the rung. Trials that were recorded before a search was
    killed stay in the ranking with the scores they had, so the others fare as if it had not been.

    Args:
        brackets: whose trials race, each bracket by itself.
        metric: what is ranked.
        numbers: the trial number of each member of this call.
        known: records of the brackets' trials that are done.
    """

    brackets: Sequence[Bracket]
    metric: str
    numbers: Sequence[int]
    known: Mapping[int, Trial] = field(default_factory=dict)
    values: dict[int, dict[int, float]] = field(default_factory=dict)
    _histories: dict[int, list[Record]] = field(default_factory=dict)

    @property
    def rungs(self) -> list[int]:
        """The epochs at whose ends some bracket chooses."""
        return sorted({rung for bracket in self.brackets for rung in bracket.rungs})

    def epoch_ended(self, member: int, record: Record) -> None:
        """Note what an epoch of a member measured."""
        self._histories.setdefault(member, []).append(record)

    def survivors(self, epoch: int, going: Mapping[int, Run]) -> Collection[int]:
        """The members that go on after a rung: all of the brackets that have none there."""
        found = set(going)
        for bracket in self.brackets:
            if epoch in bracket.rungs:
                racing = [member for member in going if self.numbers[member] in bracket.numbers]
                found -= set(racing) - self._best(bracket, epoch, racing)
        return found

    def _best(self, bracket: Bracket, epoch: int, racing: Sequence[int]) -> set[int]:
        scores = {
            number: trial.rungs[epoch]
            for number, trial in self.known.items()
            if number in bracket.numbers and epoch in trial.rungs
        }
        for member in racing:
            value = value_until(self._histories[member], self.metric, epoch)
            scores[self.numbers[member]] = value
            self.values.setdefault(self.numbers[member], {})[epoch] = value
        sign = -1.0 if better(self.metric) == "higher" else 1.0
        ranked = sorted(scores, key=lambda number: (sign * scores[number], number))
        kept = set(ranked[: bracket.kept(bracket.rungs.index(epoch))])
        return {member for member in racing if self.numbers[member] in kept}
