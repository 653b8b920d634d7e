"""Comparison of the settings of an experiment with those it was started with."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["describe_changes"]


def describe_changes(where: str, before: Any, now: Any) -> list[str]:
    """Describe the differences between two JSON values, one line per changed key.

    Args:
        where: dotted path of the values, "" at the top.
        before: the recorded value.
        now: the current value.

    >>> describe_changes("", {"trials": 8, "seed": 0}, {"trials": 9, "seed": 0})
    ['trials: was 8, now 9']
    """
    if isinstance(before, dict) and isinstance(now, dict):
        keys = dict.fromkeys([*before, *now])
        return [
            line
            for key in keys
            for line in describe_changes(f"{where}.{key}".lstrip("."), before.get(key), now.get(key))
        ]
    if before == now:
        return []
    return [f"{where}: was {_shown(before)}, now {_shown(now)}"]


def _shown(value: Any) -> str:
    return "absent" if value is None else json.dumps(value)
