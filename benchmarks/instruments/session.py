"""Date, machine, package versions and settings of a measurement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from instruments import machine

__all__ = ["Session"]


@dataclass(frozen=True)
class Session:
    """The circumstances of a measurement.

    Args:
        date: ISO date in UTC.
        machine: processor, cores, system, Python version.
        versions: versions of the packages that took part.
        settings: settings of the benchmark, and the load average before and after.
    """

    date: str
    machine: Mapping[str, str | int]
    versions: Mapping[str, str]
    settings: Mapping[str, str | int | float]

    @classmethod
    def now(cls, packages: Iterable[str], **settings: str | int | float) -> Session:
        """Describe this machine today, and those of the packages that are installed."""
        today = datetime.now(UTC).date().isoformat()
        return cls(today, machine.describe(), machine.versions(packages), settings)

    def line(self) -> str:
        """Format everything as one line of text."""
        settings = {key.replace("_", " "): value for key, value in self.settings.items()}
        groups = [self.machine, self.versions, settings]
        formatted = [", ".join(f"{key} {value}" for key, value in group.items()) for group in groups if group]
        return "; ".join([self.date, *formatted])
