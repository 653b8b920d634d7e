"""Report of the benchmark of training steps, as text for a terminal and as Markdown; its fields are written as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from instruments.quartiles import Quartiles
from instruments.session import Session
from instruments.step_cost import Lengths, StepCost
from instruments.text import bullets, markdown_table, paragraph, plain_table

__all__ = ["Entry", "SpeedReport", "outside_band", "page"]


@dataclass(frozen=True)
class Entry:
    """Measurements of one contender on one problem, in microseconds per step; see :mod:`instruments.step_cost`.

    Args:
        variant: the fastest variant and number of threads.
        on: which features were on.
        threads: numbers of threads in use over all repetitions.
        steady: wall time without setup.
        gross: wall time of the long fit, including setup.
        cpu: processor time of all threads, without setup.
        accuracy: median validation accuracy after the long fits.
        ratio: steady cost divided by that of the reference in the same repetition; above 1 is slower.
        tried: steady cost of every variant that was tried.
        evidence: output of the last fit that shows which features were on.
        measurements: all measurements.
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
    measurements: list[StepCost]


@dataclass(frozen=True)
class SpeedReport:
    """Measurements of all contenders on one problem."""

    problem: str
    source: str
    channels: tuple[int, ...]
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
        """Return the problem, the network and the data as a heading."""
        dense = "-".join(map(str, self.widths))
        network = (
            f"convolutions {'-'.join(map(str, self.channels))}, dense {dense}"
            if self.channels
            else f"MLP {dense}"
        )
        return (
            f"{self.problem}: {network}, batch {self.batch_size}, {self.source}, "
            f"{self.rows[0]} training rows, {self.rows[1]} validation rows"
        )

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return header and rows."""
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
        """Return notes on the table, one per line."""
        lines = [
            f"{self.repetitions} interleaved repetitions; fits of {self.lengths.short} and {self.lengths.long} "
            f"epochs of {self.steps_per_epoch} steps; load average {self.load_before} before, "
            f"{self.load_after} after.",
        ]
        if self.quality_outside_band:
            lines.append(
                f"(!) accuracy differs too much from the median of all: {', '.join(self.quality_outside_band)}."
            )
        for name, entry in self.entries.items():
            details = [entry.on, entry.variant, entry.evidence]
            lines.append(f"{name}: {'; '.join(part for part in details if part)}.")
        for name, entry in self.entries.items():
            if len(entry.tried) > 1:
                tried = "; ".join(f"{label}: {cost.text()}" for label, cost in entry.tried.items())
                lines.append(f"{name}, variants tried (µs/step): {tried}.")
        return lines + [f"{name}: {reason}." for name, reason in self.missing.items()]

    def plain(self) -> str:
        """Format for a terminal."""
        return "\n".join([self.title(), "", plain_table(*self.table()), "", *self.remarks()])

    def markdown(self) -> str:
        """Format as a section of Markdown."""
        return "\n\n".join([f"## {self.title()}", markdown_table(*self.table()), bullets(self.remarks())])


HOW_TO_READ = (
    "Medians, quartiles in brackets. *µs/step* is the steady cost: the difference between a long and a short fit "
    "divided by the difference in steps. *gross* is the long fit divided by its steps, including setup. *CPU µs* is "
    "the processor time of all threads per step. The last column is µs/step divided by that of the reference in the "
    "same repetition: above 1 is slower than the reference. Unless a remark says otherwise, every contender evaluates "
    "loss and accuracy on the validation rows, in one batch, after each epoch."
)


def outside_band(accuracies: Mapping[str, float], band: float) -> list[str]:
    """Return the names whose accuracy differs from the median by more than ``band``.

    >>> outside_band({"a": 0.95, "b": 0.96, "c": 0.80}, band=0.03)
    ['c']
    """
    if not accuracies:
        return []
    middle = statistics.median(accuracies.values())
    return [name for name, accuracy in accuracies.items() if abs(accuracy - middle) > band]


def page(session: Session, reports: list[SpeedReport]) -> str:
    """Return the page with all problems as Markdown."""
    sections = [report.markdown() for report in reports]
    return "\n\n".join(
        ["# Cost of a training step", paragraph(HOW_TO_READ), paragraph(f"{session.line()}."), *sections]
    )
