"""What ``auto`` means: the default recipe, as rules of the data with their reasons.

The rules were chosen by reasoning and by their mean over many data sets (docs/defaults.md), not for any one of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Facts", "Proposal", "proposals"]


@dataclass(frozen=True)
class Facts:
    """What the rules may know of the data and the machine.

    Args:
        kind: "table", "images", "tensor" or "dataset".
        rows: training rows.
        task: "regression", "multi_regression", "binary" or "multiclass".
        input_shape: shape of one encoded row.
        outputs: numbers the network gives per row.
        validation_rows: rows that choose when to stop.
        device: where training runs.
    """

    kind: str
    rows: int
    task: str
    input_shape: tuple[int, ...]
    outputs: int
    validation_rows: int
    device: str = "cpu"

    @property
    def classification(self) -> bool:
        """Whether labels are predicted."""
        return self.task in ("binary", "multiclass")


@dataclass(frozen=True)
class Proposal:
    """A value for a key left to ``auto``, and why."""

    value: Any
    reason: str


Values = Mapping[str, Mapping[str, Any]]


def proposals(section: str, facts: Facts, said: Mapping[str, Any], before: Values) -> dict[str, Proposal]:
    """What the rules propose for a section.

    Args:
        section: its name.
        facts: of the data and machine.
        said: what the recipe says in this section.
        before: the complete sections before this one.
    """
    rule = _RULES.get(section)
    if rule is None:
        return {}
    return {key: Proposal(*pair) for key, pair in rule(facts, said, before).items()}


Rule = Callable[[Facts, Mapping[str, Any], Values], dict[str, tuple[Any, str]]]


def _data(facts: Facts, said: Mapping[str, Any], before: Values) -> dict[str, tuple[Any, str]]:
    size = min(256, max(16, 2 ** round(math.log2(max(facts.rows, 1) / 25))))
    return {
        "task": (facts.task, "inferred from the targets"),
        "batch_size": (size, f"about 25 steps an epoch for {facts.rows:,} rows, between 16 and 256"),
        "image_size": ("auto", "the images' own size"),
    }


def _model(facts: Facts, said: Mapping[str, Any], before: Values) -> dict[str, tuple[Any, str]]:
    if facts.kind != "table" and len(facts.input_shape) == 3:
        name, why = "convnet", "the inputs are images"
    else:
        name, why = "mlp", "the rows are a table" if facts.kind == "table" else "each row is a vector"
    output = {"binary": "sigmoid", "multiclass": "softmax"}.get(facts.task, "identity")
    return {
        "name": (name, why),
        "output": (output, f"the task is {facts.task}"),
    }


def _loss(facts: Facts, said: Mapping[str, Any], before: Values) -> dict[str, tuple[Any, str]]:
    name = {"binary": "bce", "multiclass": "cross_entropy"}.get(facts.task, "mse")
    return {"name": (name, f"the likelihood of the task, {facts.task}")}


def _init(facts: Facts, said: Mapping[str, Any], before: Values) -> dict[str, tuple[Any, str]]:
    if before["model"]["name"] not in ("linear", "mlp", "convnet"):
        return {"name": ("torch", "the module brings its own initialisation")}
    return {"name": ("kaiming_normal", "keeps the variance through layers, with the activation's gain")}


def _optimizer(facts: Facts, said: Mapping[str, Any], before: Values) -> dict[str, tuple[Any, str]]:
    return {
        "name": ("adamw", "works for most networks without tuning, with decoupled weight decay"),
        "lr": (2e-3, "the middle of the range that works with AdamW for small networks"),
    }


def _schedule(facts: Facts, said: Mapping[str, Any], before: Values) -> dict[str, tuple[Any, str]]:
    return {
        "name": ("cosine", "large steps to explore, small ones to settle, with nothing to tune"),
    }


def _regularize(facts: Facts, said: Mapping[str, Any], before: Values) -> dict[str, tuple[Any, str]]:
    if before["optimizer"]["name"] != "adamw":
        return {"weight_decay": (0.0, "no decay unless asked with this optimizer")}
    return {"weight_decay": (0.01, "mild; AdamW's usual value")}


def _stop(facts: Facts, said: Mapping[str, Any], before: Values) -> dict[str, tuple[Any, str]]:
    return {
        "max_epochs": (60, "the schedule comes to rest after them"),
        "patience": (20, "a third of the epochs without a new best"),
        "monitor": ("loss", "the smoothest measure of fit on few validation rows"),
    }


def _engine(facts: Facts, said: Mapping[str, Any], before: Values) -> dict[str, tuple[Any, str]]:
    return {"device": (facts.device, "the fastest device here")}


_RULES: Mapping[str, Rule] = {
    "data": _data,
    "model": _model,
    "loss": _loss,
    "init": _init,
    "optimizer": _optimizer,
    "schedule": _schedule,
    "regularize": _regularize,
    "stop": _stop,
    "engine": _engine,
}
