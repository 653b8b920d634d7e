"""Interleaved timing of contenders that train many networks, and the report of the results.

A contender that trains only some of the networks is timed on these, and its seconds are scaled to the number of all
networks. Ratios are taken within a repetition, so that a busy minute that affects both contenders cancels.
"""

from __future__ import annotations

import gc
import statistics
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from contenders.many.interface import Many, ManyContender, Outcome, Runner
from instruments import machine
from instruments.quartiles import Quartiles
from instruments.text import bullets, markdown_table, plain_table
from instruments.threads import threads

__all__ = ["BAND", "Goal", "ManyEntry", "ManyReport", "measure", "slowest"]

BAND = 0.03
"""Tolerated difference between a median accuracy and that of the reference on the same networks."""


@dataclass(frozen=True)
class Goal:
    """Target for the ratio of a contender's seconds to those of the reference.

    >>> Goal(3.0).text(3.2), Goal(4.0, at_most=True).text(4.5)
    ('≥ 3: yes', '≤ 4: no')
    """

    bound: float
    at_most: bool = False

    def text(self, ratio: float) -> str:
        """Format the target, and whether a ratio meets it."""
        met = ratio <= self.bound if self.at_most else ratio >= self.bound
        return f"{'≤' if self.at_most else '≥'} {self.bound:g}: {'yes' if met else 'no'}"


@dataclass(frozen=True)
class ManyEntry:
    """Measurements of one contender.

    Args:
        on: which features were on.
        trained: number of networks that it trained.
        seconds: time for all networks, scaled from those that it trained.
        ratio: seconds divided by those of the reference in the same repetition; above 1 is slower. None for the
            reference itself.
        accuracy: validation accuracy after the last epoch, median over the networks and then over the repetitions.
            Only networks that the reference also trains count, if there are any.
        reference_accuracy: accuracy of the reference on the same networks; None if it trains none of them.
        goal: target for the ratio.
        evidence: evidence of the last repetition.
        outcomes: all measurements, unscaled.
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
        """Whether the accuracy differs too much from that of the reference."""
        return self.reference_accuracy is not None and abs(self.accuracy - self.reference_accuracy) > BAND


@dataclass(frozen=True)
class ManyReport:
    """Measurements of all contenders on one task."""

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
        """Return header and rows."""
        ratio_column = f"÷ {self.reference}"
        header = ["contender", "trained", "seconds", ratio_column, "goal", "accuracy", "reference accuracy"]
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
        """Return notes on the table, one per line."""
        lines = [
            f"{self.repetitions} interleaved repetitions; {self.epochs} epochs per network; load average "
            f"{self.load_before} before, {self.load_after} after."
        ]
        if any(entry.outside_band for entry in self.entries.values()):
            lines.append(
                f"(!) median accuracy differs by more than {BAND} from the reference on the same networks."
            )
        for name, entry in self.entries.items():
            lines.append(f"{name}: {'; '.join(part for part in (entry.on, entry.evidence) if part)}.")
        return lines + [f"{name}: {reason}." for name, reason in self.missing.items()]

    def plain(self) -> str:
        """Format for a terminal."""
        return "\n".join([self.title, "", plain_table(*self.table()), "", *self.remarks()])

    def markdown(self) -> str:
        """Format as a section of Markdown."""
        return "\n\n".join([f"## {self.title}", markdown_table(*self.table()), bullets(self.remarks())])


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
    """Measure all contenders, interleaved, after one warm-up of each.

    Args:
        title: title of the report.
        many: the networks to train.
        contenders: the ways to train them.
        repetitions: measurements of each contender; the seed of a repetition is its index, for all contenders.
        reference: name of the contender that the others are compared with, or a function that chooses it from the
            measurements.
        goals: targets for the ratios, by name of the contender.
        scaled: whether to scale the seconds of a part of the networks to all networks.
    """
    load_before = machine.load_average()
    outcomes, missing = _measure_interleaved(many, contenders, repetitions)
    chosen = reference if isinstance(reference, str) else reference(outcomes)
    by_name = {contender.name: contender for contender in contenders}
    entries = {
        name: _entry(by_name[name], own, by_name[chosen], outcomes[chosen], many, goals, scaled)
        for name, own in outcomes.items()
        if chosen in outcomes
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
    """Return a function that chooses, among these contenders, the one with the largest median time."""
    return lambda outcomes: max(
        (name for name in names if name in outcomes),
        key=lambda name: statistics.median(outcome.seconds for outcome in outcomes[name]),
        default=names[0],
    )


def _measure_interleaved(
    many: Many, contenders: Sequence[ManyContender], repetitions: int
) -> tuple[dict[str, list[Outcome]], dict[str, str]]:
    outcomes: dict[str, list[Outcome]] = {}
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        runners: dict[str, Runner] = {}
        for contender in contenders:
            if reason := machine.not_installed(contender.packages):
                missing[contender.name] = reason
                continue
            indices = contender.indices(many)
            part = replace(many, variants=many.variants[indices.start : indices.stop])
            runners[contender.name] = stack.enter_context(contender.prepare(part))
            outcomes[contender.name] = []
        for repetition in range(-1, repetitions):
            for contender in contenders:
                name = contender.name
                if name not in outcomes:
                    continue
                gc.collect()
                try:
                    with threads(contender.threads):
                        outcome = runners[name](max(repetition, 0))
                    _check(outcome, many, contender)
                except Exception as cause:
                    traceback.print_exc()
                    missing[name] = f"failed: {type(cause).__name__}: {cause}"
                    del outcomes[name]
                    continue
                if repetition >= 0:
                    outcomes[name].append(outcome)
    return outcomes, missing


def _check(outcome: Outcome, many: Many, contender: ManyContender) -> None:
    count = len(contender.indices(many))
    steps = count * many.epochs * many.problem.steps_per_epoch
    if len(outcome.accuracies) != count or outcome.steps not in (None, steps):
        raise ValueError(
            f"expected {count} networks in {steps} steps, got {len(outcome.accuracies)} in {outcome.steps}"
        )


def _entry(
    contender: ManyContender,
    own: list[Outcome],
    reference: ManyContender,
    reference_outcomes: list[Outcome],
    many: Many,
    goals: Mapping[str, Goal],
    scaled: bool,
) -> ManyEntry:
    def seconds(outcome: Outcome) -> float:
        return outcome.seconds * (len(many.variants) / len(outcome.accuracies) if scaled else 1.0)

    indices, reference_indices = contender.indices(many), reference.indices(many)
    shared = [index for index in indices if index in reference_indices]
    own_seconds = [seconds(outcome) for outcome in own]
    ratio = Quartiles.of_ratios(own_seconds, [seconds(outcome) for outcome in reference_outcomes])
    return ManyEntry(
        on=contender.on,
        trained=len(indices),
        seconds=Quartiles.of(own_seconds),
        ratio=None if contender is reference else ratio,
        accuracy=_median_accuracy(own, indices, shared or list(indices)),
        reference_accuracy=_median_accuracy(reference_outcomes, reference_indices, shared)
        if shared
        else None,
        goal=goals.get(contender.name),
        evidence=own[-1].evidence,
        outcomes=own,
    )


def _median_accuracy(outcomes: Sequence[Outcome], trained: range, selected: Sequence[int]) -> float:
    """Median over the selected networks among those trained, then over the repetitions."""
    positions = [trained.index(index) for index in selected]
    return statistics.median(
        statistics.median(outcome.accuracies[position] for position in positions) for outcome in outcomes
    )
