"""Taking turns at training many networks: A B C, A B C, … in one process, and what was found, as tables.

A contender that trains only its share of the networks is timed on these, and its seconds are scaled by their number.
Ratios are those of turns of the same repetition: a busy minute that hits both cancels.
"""

from __future__ import annotations

import gc
import statistics
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from contenders.many.contract import Many, ManyContender, Outcome, Runner
from instruments import machine
from instruments.quartiles import Quartiles
from instruments.table import markdown, plain
from instruments.threads import threads

__all__ = ["BAND", "Goal", "ManyEntry", "ManyReport", "measure", "slowest"]

BAND = 0.03
"""How far a median accuracy may be from the reference's on the same networks."""


@dataclass(frozen=True)
class Goal:
    """What a contender's seconds over the reference's are meant to be.

    >>> Goal(3.0).text(3.2), Goal(4.0, at_most=True).text(4.5)
    ('≥ 3: yes', '≤ 4: no')
    """

    bound: float
    at_most: bool = False

    def text(self, ratio: float) -> str:
        met = ratio <= self.bound if self.at_most else ratio >= self.bound
        return f"{'≤' if self.at_most else '≥'} {self.bound:g}: {'yes' if met else 'no'}"


@dataclass(frozen=True)
class ManyEntry:
    """One contender's figures.

    Args:
        on: what was on, in words.
        trained: how many networks it trained.
        seconds: for all networks, scaled from those that it trained.
        ratio: seconds over the reference's in the same repetition; above 1 is slower. None for the reference.
        accuracy: median over its networks, after the last epoch, and over the repetitions; over those that the
            reference trains too, if there are any.
        reference_accuracy: the reference's on the same networks; None if it trains none of them.
        goal: for the ratio.
        evidence: of the last turn.
        outcomes: everything measured, unscaled.
    """

    on: str
    trained: int
    seconds: Quartiles
    ratio: Quartiles | None
    accuracy: float
    reference_accuracy: float | None
    goal: Goal | None
    evidence: str
    outcomes: list[Outcome]

    @property
    def outside_band(self) -> bool:
        return self.reference_accuracy is not None and abs(self.accuracy - self.reference_accuracy) > BAND


@dataclass(frozen=True)
class ManyReport:
    """One piece of work, all contenders."""

    title: str
    networks: int
    epochs: int
    repetitions: int
    reference: str
    entries: Mapping[str, ManyEntry]
    missing: Mapping[str, str]
    load_before: float
    load_after: float

    def table(self) -> tuple[list[str], list[list[str]]]:
        header = ["contender", "trained", "seconds", f"÷ {self.reference}", "goal", "accuracy", "reference's"]
        rows = []
        for name, entry in self.entries.items():
            met = "" if entry.goal is None or entry.ratio is None else entry.goal.text(entry.ratio.median)
            accuracy = f"{entry.accuracy:.3f}" + (" (!)" if entry.outside_band else "")
            ratio = "–" if entry.ratio is None else entry.ratio.text(2)
            trained = f"{entry.trained} of {self.networks}"
            other = "–" if entry.reference_accuracy is None else f"{entry.reference_accuracy:.3f}"
            rows.append([name, trained, entry.seconds.text(2), ratio, met, accuracy, other])
        return header, rows

    def remarks(self) -> list[str]:
        """What a reader must know beside the table, a line each."""
        lines = [
            f"{self.repetitions} repetitions in turns; {self.epochs} epochs of each network; load average "
            f"{self.load_before} before, {self.load_after} after."
        ]
        if any(entry.outside_band for entry in self.entries.values()):
            lines.append(f"(!) median accuracy more than {BAND} from the reference's on the same networks.")
        for name, entry in self.entries.items():
            lines.append(f"{name}: {'; '.join(part for part in (entry.on, entry.evidence) if part)}.")
        return lines + [f"{name}: {reason}." for name, reason in self.missing.items()]

    def plain(self) -> str:
        return "\n".join([self.title, "", plain(*self.table()), "", *self.remarks()])

    def markdown(self) -> str:
        remarks = [f"- {remark}" for remark in self.remarks()]
        return "\n".join([f"## {self.title}", "", markdown(*self.table()), "", *remarks])


def measure(
    title: str,
    many: Many,
    contenders: Sequence[ManyContender],
    repetitions: int,
    *,
    reference: str | Callable[[Mapping[str, list[Outcome]]], str],
    goals: Mapping[str, Goal],
    scaled: bool = True,
) -> ManyReport:
    """Measure all contenders in turns, after a warm-up of each.

    Args:
        title: of the report.
        many: what is trained.
        contenders: who trains it.
        repetitions: turns of each; the seed of one is its number, for everybody.
        reference: the contender that all are compared with, or how to choose it by what was measured.
        goals: by name.
        scaled: whether the seconds of a share stand for all networks.
    """
    load_before = machine.load_average()
    turns, missing = _take_turns(many, contenders, repetitions)
    chosen = reference if isinstance(reference, str) else reference(turns)
    of_name = {contender.name: contender for contender in contenders}
    entries = {
        name: _entry(of_name[name], own, of_name[chosen], turns[chosen], many, goals, scaled)
        for name, own in turns.items()
        if chosen in turns
    }
    return ManyReport(
        title=title,
        networks=len(many.variants),
        epochs=many.epochs,
        repetitions=repetitions,
        reference=chosen,
        entries=entries,
        missing=missing,
        load_before=load_before,
        load_after=machine.load_average(),
    )


def slowest(names: Sequence[str]) -> Callable[[Mapping[str, list[Outcome]]], str]:
    """Chooses the one of these with the largest median time."""
    return lambda turns: max(
        (name for name in names if name in turns),
        key=lambda name: statistics.median(outcome.seconds for outcome in turns[name]),
        default=names[0],
    )


def _take_turns(
    many: Many, contenders: Sequence[ManyContender], repetitions: int
) -> tuple[dict[str, list[Outcome]], dict[str, str]]:
    turns: dict[str, list[Outcome]] = {}
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        runners: dict[str, Runner] = {}
        for contender in contenders:
            lacking = [package for package in contender.packages if not machine.installed(package)]
            if lacking:
                missing[contender.name] = f"not installed ({', '.join(lacking)})"
                continue
            places = contender.places(many)
            share = replace(many, variants=many.variants[places.start : places.stop])
            runners[contender.name] = stack.enter_context(contender.prepare(share))
            turns[contender.name] = []
        for repetition in range(-1, repetitions):
            for contender in contenders:
                name = contender.name
                if name not in turns:
                    continue
                gc.collect()
                try:
                    with threads(contender.threads):
                        outcome = runners[name](max(repetition, 0))
                    _check(outcome, many, contender)
                except Exception as cause:
                    traceback.print_exc()
                    missing[name] = f"failed: {type(cause).__name__}: {cause}"
                    del turns[name]
                    continue
                if repetition >= 0:
                    turns[name].append(outcome)
    return turns, missing


def _check(outcome: Outcome, many: Many, contender: ManyContender) -> None:
    count = len(contender.places(many))
    steps = count * many.epochs * many.problem.steps_per_epoch
    if len(outcome.accuracies) != count or outcome.steps not in (None, steps):
        raise ValueError(
            f"trained {len(outcome.accuracies)} networks in {outcome.steps} steps, not {count} in {steps}"
        )


def _entry(
    contender: ManyContender,
    own: list[Outcome],
    reference: ManyContender,
    others: list[Outcome],
    many: Many,
    goals: Mapping[str, Goal],
    scaled: bool,
) -> ManyEntry:
    def seconds(outcome: Outcome) -> float:
        return outcome.seconds * (len(many.variants) / len(outcome.accuracies) if scaled else 1.0)

    places, theirs = contender.places(many), reference.places(many)
    shared = [place for place in places if place in theirs]
    ratios = [seconds(turn) / seconds(other) for turn, other in zip(own, others, strict=True)]
    return ManyEntry(
        on=contender.on,
        trained=len(places),
        seconds=Quartiles.of([seconds(turn) for turn in own]),
        ratio=None if contender is reference else Quartiles.of(ratios),
        accuracy=_median_accuracy(own, places, shared or list(places)),
        reference_accuracy=_median_accuracy(others, theirs, shared) if shared else None,
        goal=goals.get(contender.name),
        evidence=own[-1].evidence,
        outcomes=own,
    )


def _median_accuracy(turns: Sequence[Outcome], trained: range, places: Sequence[int]) -> float:
    """Over the networks of some places, of those that were trained, and then over the turns."""
    indices = [trained.index(place) for place in places]
    return statistics.median(statistics.median(turn.accuracies[at] for at in indices) for turn in turns)
