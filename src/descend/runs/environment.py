"""The environment of a run: versions, processor, command and time."""

from __future__ import annotations

import datetime
import platform
import shlex
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from descend._version import __version__
from descend.training.threads import cores

__all__ = ["describe_environment"]


def describe_environment() -> dict[str, Any]:
    """Return the versions, the processor, the command and the time.

    >>> sorted(describe_environment())[:4]
    ['command', 'cores', 'cpu', 'descend']
    """
    return {
        **_constant(),
        "cores": cores(),
        "command": _command(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


@cache
def _constant() -> dict[str, str]:
    """What does not change during a process. Reading it takes milliseconds, so it is read once for many runs."""
    return {
        "descend": __version__,
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "numpy": metadata.version("numpy"),
        "platform": platform.platform(),
        "cpu": _processor(),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _command() -> str:
    name = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    return shlex.join([name, *sys.argv[1:]])
