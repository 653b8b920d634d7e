"""Settings that had another name in earlier versions, so that recipes written by them can be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["RENAMED", "with_current_names"]

RENAMED: Mapping[str, Mapping[str, str]] = {
    "adagrad": {"initial": "initial_accumulator_value"},
    "bfgs": {"iterations": "max_iter"},
    "cg": {"iterations": "max_iter", "restart": "restart_threshold"},
    "coordinate_descent": {"size": "block_size", "rule": "line_search", "order": "selection"},
    "gd": {"c": "c1"},
    "lbfgs": {"iterations": "max_iter", "memory": "history_size"},
    "sqn": {"memory": "history_size", "every": "update_frequency"},
}
"""The former names of settings and the current ones, by the name of the optimizer."""


def with_current_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an optimizer, ``name`` among them, under their current names.

    >>> with_current_names({"name": "lbfgs", "lr": 0.5, "memory": 5})
    {'name': 'lbfgs', 'lr': 0.5, 'history_size': 5}
    """
    name = settings.get("name")
    renamed = RENAMED.get(name, {}) if isinstance(name, str) else {}
    return {
        renamed[key] if key in renamed and renamed[key] not in settings else key: value
        for key, value in settings.items()
    }
