"""What the speed benchmark found, as text for a terminal and as Markdown. (JSON holds the dataclasses.)"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from instruments.quartiles import Quartiles
from instruments.session import Session
from instruments.table import markdown, plain
from instruments.turns import Lengths, Turn

__all__ = ["Entry", "SpeedReport", "outside_band", "page"]


@dataclass(frozen=True)
class Entry:
    """One contender's figures on one problem. Microseconds a step; see :mod:`instruments.turns`.

    Args:
        variant: which way of writing it and how many threads were kept.
        on: what was on, in words.
        threads: in use, in any of the turns.
        steady: wall time without setup.
        gross: wall time of the long fit, whole.
        cpu: processor time of all threads, without setup.
        accuracy: median validation accuracy of the long fits.
        ratio: steady cost over that of the reference in the same repetition; above 1 is slower.
        tried: steady cost of every variant that was tried.
        evidence: what the last fit left behind.
        turns: everything measured.
    """

    variant: str
    on: str
    threads: str
    steady: Quartiles
    gross: Quartiles
    cpu: Quartiles
    accuracy: float
    ratio: Quartiles | None
    tried: Mapping[str, Quartiles]
    evidence: str
    turns: list[Turn]


@dataclass(frozen=True)
class SpeedReport:
    """One problem, all contenders."""

    problem: str
    source: str
    widths: tuple[int, ...]
    batch_size: int
    rows: tuple[int, int]
    steps_per_epoch: int
    lengths: Lengths
    repetitions: int
    reference: str
    entries: Mapping[str, Entry]
    missing: Mapping[str, str]
    quality_outside_band: list[str]
    load_before: float
    load_after: float

    def title(self) -> str:
        return (
            f"{self.problem}: MLP {'-'.join(map(str, self.widths))}, batch {self.batch_size}, {self.source}, "
            f"{self.rows[0]} rows to train on, {self.rows[1]} to validate on"
        )

    def table(self) -> tuple[list[str], list[list[str]]]:
        header = ["contender", "threads", "µs/step", "gross", "CPU µs", "accuracy", f"÷ {self.reference}"]
        rows = [
            [
                name,
                entry.threads,
                entry.steady.text(),
                entry.gross.text(),
                entry.cpu.text(),
                f"{entry.accuracy:.3f}" + (" (!)" if name in self.quality_outside_band else ""),
                "–" if entry.ratio is None else entry.ratio.text(2),
            ]
            for name, entry in self.entries.items()
        ]
        return header, rows

    def remarks(self) -> list[str]:
        """What a reader must know beside the table, a line each."""
        lines = [
            f"{self.repetitions} repetitions in turns; fits of {self.lengths.short} and {self.lengths.long} "
            f"epochs of {self.steps_per_epoch} steps; load average {self.load_before} before, "
            f"{self.load_after} after.",
        ]
        if self.quality_outside_band:
            lines.append(f"(!) accuracy outside the others' band: {', '.join(self.quality_outside_band)}.")
        for name, entry in self.entries.items():
            details = [entry.on, entry.variant, entry.evidence]
            lines.append(f"{name}: {'; '.join(part for part in details if part)}.")
        for name, entry in self.entries.items():
            if len(entry.tried) > 1:
                tried = "; ".join(f"{label}: {cost.text()}" for label, cost in entry.tried.items())
                lines.append(f"{name}, tried before (µs/step): {tried}.")
        return lines + [f"{name}: {reason}." for name, reason in self.missing.items()]

    def plain(self) -> str:
        return "\n".join([self.title(), "", plain(*self.table()), "", *self.remarks()])

    def markdown(self) -> str:
        remarks = [f"- {remark}" for remark in self.remarks()]
        return "\n".join([f"## {self.title()}", "", markdown(*self.table()), "", *remarks])


HOW_TO_READ = (
    "Medians, quartiles in brackets. *µs/step* is the steady cost: the difference of a long and a short fit "
    "over the difference of their steps. *gross* is the long fit over its steps, setup included. *CPU µs* is "
    "processor time of all threads a step. The last column is their µs/step over the reference's in the same "
    "repetition: above 1 is slower than the reference. Everyone evaluates loss and accuracy on the "
    "validation rows, in one batch, after each epoch, unless its remark says otherwise."
)


def outside_band(accuracies: Mapping[str, float], band: float) -> list[str]:
    """Those farther than ``band`` from the median: they did not train to the same quality.

    >>> outside_band({"a": 0.95, "b": 0.96, "c": 0.80}, band=0.03)
    ['c']
    """
    if not accuracies:
        return []
    middle = statistics.median(accuracies.values())
    return [name for name, accuracy in accuracies.items() if abs(accuracy - middle) > band]


def page(session: Session, reports: list[SpeedReport]) -> str:
    """Everything, as Markdown."""
    sections = [report.markdown() for report in reports]
    return "\n\n".join(["# Cost of a training step", HOW_TO_READ, f"{session.line()}.", *sections])
