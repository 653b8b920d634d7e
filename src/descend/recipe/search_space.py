"""The search space of the preset "best": random variations of a recipe, and small changes of one that is known to be good.

Each variation is a pure function of (seed, round, member), so that a search continues without a saved state. The members of a
round share what decides whether they can be packed together: the kind of the embedding of numbers, the depth, the activation,
and whether the network is narrow or wide. They differ in learning rate, weight decay, dropout and width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from descend.recipe.presets import specifies
from descend.rng import key

__all__ = ["SEARCHED_KEYS", "budget_proposals", "random_member", "varied_member"]

DEFAULT_MINUTES = 10.0
"""The time of the preset "best" if none is specified."""

MOST_NETWORKS = 12
"""The largest number of networks in its ensemble: more cost latency and gain little."""

SEARCHED_KEYS = (
    "optimizer.lr",
    "regularize.weight_decay",
    "model.hidden",
    "model.dropout",
    "model.activation",
    "model.number_embedding",
    "model.scaling_layer",
)
"""The keys that the preset "best" varies, unless the recipe specifies them."""

NARROW, WIDE = (64, 96, 128), (192, 256, 384)
"""Widths of the hidden layers. Members of a round have all narrow or all wide layers, so that little is padded."""

EMBEDDINGS: Sequence[Any] = (
    "none",
    "none",
    {"name": "piecewise_linear", "bins": 8},
    {"name": "piecewise_linear", "bins": 16},
    {"name": "piecewise_linear", "bins": 32},
    {"name": "periodic", "sigma": 0.05},
    {"name": "periodic", "sigma": 0.1},
    {"name": "periodic", "sigma": 0.3},
)
"""Embeddings of numbers, each with the same probability."""

Sections = Mapping[str, Mapping[str, Any]]
"""The sections of a resolved recipe."""

Uniform = Callable[[str], float]
"""The random number in [0, 1) of a name."""


def budget_proposals(
    specified: Mapping[str, Mapping[str, Any]], *, numbers: bool
) -> dict[str, tuple[Any, str]]:
    """Return the values of the keys that the preset "best" chooses, with the reasons.

    Args:
        specified: the specified values by section.
        numbers: whether the rows contain numbers, which can be embedded.
    """
    keys = tuple(
        path
        for path in SEARCHED_KEYS
        if not specifies(specified, path) and (numbers or path != "model.number_embedding")
    )
    return {
        "minutes": (DEFAULT_MINUTES, "the default time of the preset best"),
        "ensemble": (MOST_NETWORKS, "the preset best: each network costs latency, and more gain little"),
        "searched_keys": (keys, "the preset best varies what the recipe does not specify"),
    }


def random_member(
    base: Sections, keys: Sequence[str], seed: int, round_number: int, number: int
) -> dict[str, Any]:
    """Return the keys of a random member and their values.

    The learning rate is that of the recipe times 2^u with u uniform in [-1, 3], the weight decay times 10^u with u uniform in
    [-1, 1]; dropout is uniform in [0, 0.5]. The number of hidden layers is 1 to 4, their width one of :data:`NARROW` or of
    :data:`WIDE`; the activation is that of the recipe or one of silu, relu and gelu. Keys that the recipe does not have are
    left out.

    Args:
        base: the sections of the resolved recipe.
        keys: the keys that are varied, among :data:`SEARCHED_KEYS`.
        seed: of the run.
        round_number: the number of the round, from 1.
        number: of the member within the round.

    >>> base = {"optimizer": {"lr": 0.001}, "model": {"dropout": 0.1}}
    >>> first = random_member(base, ("optimizer.lr", "model.dropout"), 0, 1, 0)
    >>> first == random_member(base, ("optimizer.lr", "model.dropout"), 0, 1, 0), 0.0005 <= first["optimizer.lr"] <= 0.008
    (True, True)
    """
    own, shared = _uniform(seed, round_number, number), _uniform(seed, round_number, -1)
    depth = 1 + int(4 * shared("depth"))
    widths = WIDE if shared("wide") < 0.5 else NARROW
    values: dict[str, Callable[[Any], Any]] = {
        "optimizer.lr": lambda old: _rounded(old * 2.0 ** (4.0 * own("lr") - 1.0)),
        "regularize.weight_decay": lambda old: _rounded(old * 10.0 ** (2.0 * own("weight_decay") - 1.0)),
        "model.hidden": lambda old: (_choice(widths, own("width")),) * depth,
        "model.dropout": lambda old: round(0.5 * own("dropout"), 3),
        "model.activation": lambda old: _choice((old, "silu", "relu", "gelu"), shared("activation")),
        "model.number_embedding": lambda old: _choice(EMBEDDINGS, shared("number_embedding")),
        "model.scaling_layer": lambda old: shared("scaling_layer") < 0.3,
    }
    return {path: values[path](value) for path, value in _present(base, keys)}


def varied_member(
    base: Sections, keys: Sequence[str], parent: Mapping[str, Any], seed: int, round_number: int, number: int
) -> dict[str, Any]:
    """Return a member that differs from another one in learning rate, weight decay and dropout.

    The learning rate is multiplied by 2^u with u uniform in [-1, 1], the weight decay by 4^u; dropout changes by up to 0.1. The
    member 0 is the other one itself, which is trained from other initial weights.

    Args:
        base: the sections of the resolved recipe.
        keys: the keys that are varied, among :data:`SEARCHED_KEYS`.
        parent: the keys in which the other member differs from the recipe, and their values.
        seed: of the run.
        round_number: the number of the round.
        number: of the member within the round.
    """
    own = _uniform(seed, round_number, number)
    table = dict(parent)
    if number == 0:
        return table
    for path, value in _present(base, keys):
        old = table.get(path, value)
        if path == "optimizer.lr":
            table[path] = _rounded(old * 2.0 ** (2.0 * own("lr") - 1.0))
        elif path == "regularize.weight_decay":
            table[path] = _rounded(old * 4.0 ** (2.0 * own("weight_decay") - 1.0))
        elif path == "model.dropout":
            table[path] = round(min(0.6, max(0.0, old + 0.2 * own("dropout") - 0.1)), 3)
    return table


def _present(base: Sections, keys: Sequence[str]) -> list[tuple[str, Any]]:
    found = []
    for path in keys:
        section, _, name = path.partition(".")
        values = base.get(section, {})
        if name in values:
            found.append((path, values[name]))
    return found


def _uniform(seed: int, round_number: int, number: int) -> Uniform:
    """Each name has its own random stream, so that another key does not change the values of the others."""
    return lambda name: (key(seed, f"best {name}", round_number, number) >> 10) / 2**53


def _choice(options: Sequence[Any], share: float) -> Any:
    return options[int(len(options) * share)]


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
