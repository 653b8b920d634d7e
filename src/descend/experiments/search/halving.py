"""Successive halving: many trials start, and at each rung only the best continue.

A bracket of n trials with its first rung at r epochs keeps the best n / 3 at epoch r, the best n / 9 at epoch 3 r, and
so on; the remaining trials are trained to their end. A single bracket relies on early epochs predicting the final
score. Several brackets hedge against that, as in Hyperband: the first rung of each further bracket is three times as
late, and the last brackets have none.

All brackets are trained together, as one pack where possible: once the first bracket has few trials left, the trials of
the others keep the pack full.

The budget is counted in epochs: :func:`budget` is the number that brackets take if no training stops early.

Sources: Jamieson, Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", 2016; Li et
al., "Hyperband: a novel bandit-based approach to hyperparameter optimization", 2018.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from descend.experiments.search.trial import Trial, best_score_until
from descend.metrics import better
from descend.runs.run import Run
from descend.training.records import Record

__all__ = ["ETA", "Bracket", "HalvingScheduler", "budget", "make_brackets"]

ETA = 3
"""Reduction factor: one of every ETA trials continues at each rung."""


@dataclass(frozen=True)
class Bracket:
    """Trials that compete with each other.

    Args:
        numbers: the numbers of the trials.
        rungs: the epochs after which the best trials are selected.
    """

    numbers: range
    rungs: tuple[int, ...]

    def n_kept(self, rung_index: int) -> int:
        """Number of trials that continue after a rung, given by its index from 0."""
        return max(1, len(self.numbers) // int(ETA ** (rung_index + 1)))


def make_brackets(trials: int, epochs: int, count: int = 1) -> list[Bracket]:
    """Divide trials among brackets of nearly equal size.

    The first bracket has as many rungs as its number of trials and the epochs allow, at ``epochs`` / 3^k, rounded;
    each further bracket has one rung fewer.

    Args:
        trials: number of trials in all brackets.
        epochs: length of a complete training.
        count: number of brackets, limited to the number of trials.

    >>> [(len(bracket.numbers), bracket.rungs) for bracket in make_brackets(27, 81, 2)]
    [(14, (9, 27)), (13, (27,))]
    """
    count = min(count, trials)
    brackets, start = [], 0
    for index in range(count):
        size = trials // count + (index < trials % count)
        depth = 0
        while ETA ** (depth + 1) <= size and round(epochs / ETA ** (depth + 1)) >= 1:
            depth += 1
        depth = max(0, depth - index)
        rungs = sorted({max(1, round(epochs / ETA**level)) for level in range(1, depth + 1)})
        brackets.append(Bracket(range(start, start + size), tuple(rung for rung in rungs if rung < epochs)))
        start += size
    return brackets


def budget(brackets: Sequence[Bracket], epochs: int) -> int:
    """Return the maximum number of epochs that brackets take, where a complete training takes ``epochs``.

    >>> budget(make_brackets(9, 9), 9), 9 * 9  # 9 trials of 1 epoch, 3 of them of 3, one of 9
    (21, 81)
    """
    total = 0
    for bracket in brackets:
        active, before = len(bracket.numbers), 0
        for index, rung in enumerate(bracket.rungs):
            total += active * (rung - before)
            active, before = min(active, bracket.n_kept(index)), rung
        total += active * (epochs - before)
    return total


@dataclass
class HalvingScheduler:
    """Select the trials that continue at each rung of each bracket, for ``train_many(survivors=)``.

    Trials are ranked by their best validation score up to the rung. Trials that were recorded before the search was
    interrupted stay in the ranking with their recorded scores, so a resumed search selects the same trials.

    Args:
        brackets: the brackets; their trials compete only within the bracket.
        metric: the metric to rank by.
        numbers: the trial number of each member of the current call.
        known: records of completed trials of these brackets.
        values: the scores of the members at each rung, by trial number and epoch.
    """

    brackets: Sequence[Bracket]
    metric: str
    numbers: Sequence[int]
    known: Mapping[int, Trial] = field(default_factory=dict)
    values: dict[int, dict[int, float | None]] = field(default_factory=dict)
    _histories: dict[int, list[Record]] = field(default_factory=dict)

    @property
    def rungs(self) -> list[int]:
        """The epochs after which some bracket selects trials."""
        return sorted({rung for bracket in self.brackets for rung in bracket.rungs})

    def epoch_ended(self, member: int, record: Record) -> None:
        """Store the measurements of one epoch of a member."""
        self._histories.setdefault(member, []).append(record)

    def survivors(self, epoch: int, active: Mapping[int, Run]) -> Collection[int]:
        """Return the members that continue after an epoch; brackets without a rung there keep all of theirs."""
        kept = set(active)
        for bracket in self.brackets:
            if epoch in bracket.rungs:
                competing = [member for member in active if self.numbers[member] in bracket.numbers]
                kept -= set(competing) - self._best(bracket, epoch, competing)
        return kept

    def _best(self, bracket: Bracket, epoch: int, competing: Sequence[int]) -> set[int]:
        scores = {
            number: trial.rungs[epoch]
            for number, trial in self.known.items()
            if number in bracket.numbers and epoch in trial.rungs
        }
        for member in competing:
            value = best_score_until(self._histories[member], self.metric, epoch)
            scores[self.numbers[member]] = value
            self.values.setdefault(self.numbers[member], {})[epoch] = value
        sign = -1.0 if better(self.metric) == "higher" else 1.0

        def rank(number: int) -> tuple[float, int]:
            score = scores[number]
            return math.inf if score is None else sign * score, number  # an undefined score is the last

        ranked = sorted(scores, key=rank)
        kept = set(ranked[: bracket.n_kept(bracket.rungs.index(epoch))])
        return {member for member in competing if self.numbers[member] in kept}
