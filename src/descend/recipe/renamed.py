"""Settings that had another name in earlier versions, so that recipes written by them can be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["KEYS", "RENAMED", "with_current_names"]

RENAMED: Mapping[str, Mapping[str, str]] = {
    "adagrad": {"initial": "initial_accumulator_value"},
    "bfgs": {"iterations": "max_iter"},
    "cg": {"iterations": "max_iter", "restart": "restart_threshold"},
    "coordinate_descent": {"size": "block_size", "rule": "line_search", "order": "selection"},
    "gd": {"c": "c1"},
    "kfac": {
        "decay": "factor_decay",
        "factors_every": "factor_update_steps",
        "inverses_every": "inv_update_steps",
        "others": "adam_lr_scale",
    },
    "lbfgs": {"iterations": "max_iter", "memory": "history_size", "overlap": "sample_fraction"},
    "newton": {"forcing": "cg_tolerance", "limit": "cg_max_iter", "c": "c1"},
    "shampoo": {
        "roots_every": "precondition_frequency",
        "roots_from": "start_preconditioning_step",
        "statistics_every": "statistics_frequency",
        "graft": "grafting",
        "ridge": "matrix_eps",
        "max_size": "max_preconditioner_dim",
    },
    "soap": {
        "covariance_beta": "shampoo_beta",
        "basis_every": "precondition_frequency",
        "max_size": "max_preconditioner_dim",
    },
    "sqn": {"memory": "history_size", "every": "update_frequency", "share": "sample_fraction"},
    "stron": {
        "share": "sample_fraction",
        "growth": "sample_growth",
        "accept": "eta",
        "forcing": "cg_tolerance",
        "limit": "cg_max_iter",
    },
    "subsampled_newton": {
        "share": "sample_fraction",
        "growth": "sample_growth",
        "theta": "cg_tolerance",
        "limit": "cg_max_iter",
        "c": "c1",
    },
    "trish": {"forcing": "cg_tolerance", "limit": "cg_max_iter"},
    "trust_region": {"accept": "eta", "forcing": "cg_tolerance", "limit": "cg_max_iter"},
}
"""The former names of settings of optimizers and the current ones, by the name of the optimizer."""

KEYS: Mapping[str, Mapping[str, str]] = {"init": {"draw": "sample_index"}}
"""The former names of keys and the current ones, by section."""


def with_current_names(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections of a recipe with the current names of all settings.

    >>> with_current_names({"optimizer": {"name": "lbfgs", "lr": 0.5, "memory": 5}, "init": {"draw": 3}})
    {'optimizer': {'name': 'lbfgs', 'lr': 0.5, 'history_size': 5}, 'init': {'sample_index': 3}}
    """
    return {
        section: _renamed(section, values) if isinstance(values, Mapping) else values
        for section, values in sections.items()
    }


def _renamed(section: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    name = settings.get("name")
    renamed = dict(KEYS.get(section, {}))
    if section == "optimizer" and isinstance(name, str):
        renamed |= RENAMED.get(name, {})
    return {
        renamed[key] if key in renamed and renamed[key] not in settings else key: value
        for key, value in settings.items()
    }
