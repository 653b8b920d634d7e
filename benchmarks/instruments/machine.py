"""The machine and the software that the figures were measured with."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

__all__ = ["describe", "installed", "load_average", "versions"]

DISTRIBUTIONS = {"sklearn": "scikit-learn"}
"""Packages whose distribution has another name."""


def describe() -> dict[str, str | int]:
    """Processor, cores that this process may use, system and Python."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def load_average() -> float:
    """Processes that wanted to run, mean over the last minute. Ours count too."""
    return round(os.getloadavg()[0], 2)


def installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    return find_spec(package) is not None


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Version of each package that can be imported, by distribution."""
    found = {}
    for package in packages:
        distribution = DISTRIBUTIONS.get(package, package)
        try:
            found[distribution] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            if installed(package):
                found[distribution] = "(source tree)"
    return found


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
