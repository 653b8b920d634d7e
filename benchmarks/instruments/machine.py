"""Processor, system and package versions of the machine that runs a benchmark."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

__all__ = ["describe", "installed", "load_average", "not_installed", "versions"]

DISTRIBUTIONS = {"sklearn": "scikit-learn", "PIL": "Pillow"}
"""Distribution names that differ from the name of the imported package."""


def describe() -> dict[str, str | int]:
    """Return the processor, the number of cores this process may use, the system and the Python version."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def load_average() -> float:
    """Return the load average of the last minute, including this process."""
    return round(os.getloadavg()[0], 2)


def installed(package: str) -> bool:
    """Return whether a package can be imported, without importing it."""
    return find_spec(package) is not None


def not_installed(packages: Iterable[str]) -> str:
    """Return a message with those packages that cannot be imported; empty if there are none.

    >>> not_installed(["json", "no_such_package"])
    'not installed (no_such_package)'
    """
    missing = [package for package in packages if not installed(package)]
    return f"not installed ({', '.join(missing)})" if missing else ""


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the version of each package that can be imported, by distribution."""
    result = {}
    for package in packages:
        distribution = DISTRIBUTIONS.get(package, package)
        try:
            result[distribution] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            if installed(package):
                result[distribution] = "(source tree)"
    return result


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
