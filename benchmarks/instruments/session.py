"""When, where and with what something was measured, and the two files that keep the figures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from instruments import machine

__all__ = ["Session", "write"]


@dataclass(frozen=True)
class Session:
    """The circumstances of a measurement.

    Args:
        date: UTC.
        machine: processor, cores, system, Python.
        versions: of the packages that took part.
        settings: how the benchmark was called, and the load before and after.
    """

    date: str
    machine: Mapping[str, str | int]
    versions: Mapping[str, str]
    settings: Mapping[str, str | int | float]

    @classmethod
    def now(cls, packages: Iterable[str], **settings: str | int | float) -> Session:
        today = datetime.now(UTC).date().isoformat()
        return cls(today, machine.describe(), machine.versions(packages), settings)

    def line(self) -> str:
        settings = {key.replace("_", " "): value for key, value in self.settings.items()}
        parts = [self.machine, self.versions, settings]
        words = [", ".join(f"{key} {value}" for key, value in part.items()) for part in parts if part]
        return "; ".join([self.date, *words])


def write(stem: Path, session: Session, content: Mapping[str, Any], markdown: str) -> None:
    """Write ``stem.json``, with the session at its head, and ``stem.md``, and say so."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    as_json, as_markdown = stem.with_name(stem.name + ".json"), stem.with_name(stem.name + ".md")
    everything = {"session": asdict(session), **content}
    as_json.write_text(json.dumps(everything, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    as_markdown.write_text(markdown + "\n", encoding="utf-8")
    print(f"wrote {as_json} and {as_markdown}")
