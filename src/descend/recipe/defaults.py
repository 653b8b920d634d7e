"""What ``auto`` means: the default recipe, as rules of the data with their reasons.

The rules were chosen by reasoning and by their mean over many data sets (docs/defaults.md), not for any one of them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from descend.data.schema import Schema
from descend.linalg.products import best_library
from descend.optim import COMPOSITIONAL, OPTIMIZERS, TRUNCATED_NEWTON, WHOLE_DATA
from descend.optim._bfgs import MAX_PARAMETERS

__all__ = ["DEFAULTS", "Facts", "Proposal", "facts_of", "proposals"]

DEFAULTS: Mapping[tuple[str, str | None], Mapping[str, Any]] = {("optimizer", "sgd"): {"lr": 0.05}}
"""Defaults of a recipe that differ from those of the constructor: of a section and name, the keys and their values."""


FEW_ROWS = 1000
"""Regression on fewer training rows gets finer steps and more dropout."""

_FINER: Mapping[str, float] = {"soap": 2, "sgd": 20, "cayley_sgd": 20, "heavy_ball": 20, "nesterov": 20}
"""What the own rates of these are divided by on few rows of regression (docs/defaults.md)."""


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


def facts_of(schema: Schema, device: str = "cpu") -> Facts:
    """What the rules of the default recipe may know of the data."""
    rows = dict(schema.rows)
    return Facts(
        kind=schema.kind,
        rows=rows.get("train", 0),
        task=schema.task,
        input_shape=schema.input_shape,
        outputs=schema.outputs,
        validation_rows=rows.get("validation", 0),
        device=device,
    )


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
        before: the complete sections before this one, and what the recipe says in those after it.
    """
    rule = _RULES.get(section)
    if rule is None:
        return {}
    return {key: Proposal(*pair) for key, pair in rule(facts, said, before).items()}


Rule = Callable[[Facts, Mapping[str, Any], Values], dict[str, tuple[Any, str]]]


def _data(facts: Facts, said: Mapping[str, Any], before: Values) -> dict[str, tuple[Any, str]]:
    size = min(256, max(32, 2 ** round(math.log2(max(facts.rows, 1) / 20))))
    name = before["optimizer"].get("name")
    whole = {"sampling": ("full", f"{name} lowers the loss of all rows")} if name in WHOLE_DATA else {}
    return whole | {
        "task": (facts.task, "inferred from the targets"),
        "batch_size": (size, f"about 20 steps an epoch for {facts.rows:,} rows, between 32 and 256"),
    }


def _model(facts: Facts, said: Mapping[str, Any], before: Values) -> dict[str, tuple[Any, str]]:
    output = {"binary": "sigmoid", "multiclass": "softmax"}.get(facts.task, "identity")
    found = {"output": (output, f"the task is {facts.task}")}
    if facts.kind != "table" and len(facts.input_shape) == 3:
        return found | {"name": ("convnet", "the inputs are images")}
    return found | {
        "name": ("mlp", "the rows are a table" if facts.kind == "table" else "each row is a vector"),
        "hidden": _hidden(facts, before["optimizer"].get("name")),
        "activation": ("silu", "smooth, and better than relu on average over small tables"),
        "dropout": (0.4, "few rows of regression: a network fits their noise at once")
        if not facts.classification and facts.rows < FEW_ROWS
        else (0.1, "mild, against overfitting"),
    }


def _hidden(facts: Facts, optimizer: str | None) -> tuple[tuple[int, ...], str]:
    if optimizer == "bfgs":
        each = math.prod(facts.input_shape) + 1 + facts.outputs
        return (
            min(32, max(1, (MAX_PARAMETERS - facts.outputs) // each)),
        ), "bfgs keeps a matrix of n x n numbers"
    return (256, 256), "wide enough for most tables; early stopping keeps it from overfitting"


def _loss(facts: Facts, said: Mapping[str, Any], before: Values) -> dict[str, tuple[Any, str]]:
    name = {"binary": "bce", "multiclass": "cross_entropy"}.get(facts.task, "mse")
    found: dict[str, tuple[Any, str]] = {"name": (name, f"the likelihood of the task, {facts.task}")}
    if facts.classification:
        found["label_smoothing"] = (0.1, "against overconfidence; helps most on few rows")
    return found


def _init(facts: Facts, said: Mapping[str, Any], before: Values) -> dict[str, tuple[Any, str]]:
    if before["model"]["name"] not in ("linear", "polynomial", "mlp", "convnet"):
        return {
            "name": ("torch", "the module brings its own initialisation"),
            "output_gain": (1.0, "the module brings its own initialisation"),
        }
    return {
        "name": ("kaiming_normal", "keeps the variance through layers, with the activation's gain"),
        "output_gain": (0.0, "training starts at a constant prediction and not at random ones"),
    }


def _optimizer(facts: Facts, said: Mapping[str, Any], before: Values) -> dict[str, tuple[Any, str]]:
    name = said.get("name")
    if name in TRUNCATED_NEWTON:
        matrix = ("gauss_newton", "of networks it has a minimum to go to, where the Hessian has saddles")
        most = (
            {"cg_max_iter": (20, "more iterations cost more than they bring")} if name in WHOLE_DATA else {}
        )
        return {"name": (name, "as the recipe says"), "curvature": matrix, **most}
    if not facts.classification and facts.rows < FEW_ROWS:
        rate = (5e-4, "finer steps for early stopping to choose among, on few rows of regression")
        if isinstance(name, str) and name in _FINER:
            own = inspect.signature(OPTIMIZERS[name]).parameters["lr"].default
            own = DEFAULTS.get(("optimizer", name), {}).get("lr", own)
            return {"name": (name, "as said"), "lr": (own / _FINER[name], rate[1])}
    else:
        rate = (1e-3, "works for most networks with averaged weights")
    return {
        "name": ("adamw", "works for most networks without tuning, with decoupled weight decay"),
        "lr": rate,
    }


def _schedule(facts: Facts, said: Mapping[str, Any], before: Values) -> dict[str, tuple[Any, str]]:
    name = before["optimizer"]["name"]
    if name in WHOLE_DATA:
        return {
            "name": ("constant", f"{name} finds the length of its steps itself"),
            "warmup": (0.0, f"{name} finds the length of its steps itself"),
        }
    return {
        "name": ("constant", "averaged weights do what a decay would, without knowing when training ends"),
        "warmup": (5.0, "small steps until the optimizer's averages are known"),
    }


def _gradient(facts: Facts, said: Mapping[str, Any], before: Values) -> dict[str, tuple[Any, str]]:
    if before["optimizer"]["name"] not in COMPOSITIONAL:
        return {}
    return {
        "clip_norm": (1.0, "averages of outputs lag behind, and a rate that suits labels is long for numbers")
    }


def _regularize(facts: Facts, said: Mapping[str, Any], before: Values) -> dict[str, tuple[Any, str]]:
    if before["optimizer"]["name"] != "adamw":
        return {"weight_decay": (0.0, "no decay unless asked with this optimizer")}
    if not facts.classification and facts.rows < FEW_ROWS:
        return {"weight_decay": (1.0, "strong, as few rows of regression are mostly noise to a network")}
    return {"weight_decay": (0.01, "mild; AdamW's usual value")}


def _stop(facts: Facts, said: Mapping[str, Any], before: Values) -> dict[str, tuple[Any, str]]:
    validated = facts.validation_rows > 0
    return {
        "max_epochs": (100, "more than most tables need; early stopping ends most runs before"),
        "patience": (20, "epochs in which noise in the validation value evens out")
        if validated
        else (None, "there are no validation rows"),
        "monitor": ("loss", "the smoothest measure of fit on few validation rows"),
        "min_improvement": (0.01, "earlier, simpler weights unless later ones are better by 1 %"),
        "average": (0.0, "steps on all rows have no noise to average")
        if before["optimizer"]["name"] in WHOLE_DATA
        else (3.0, "settles near the minimum without a decaying rate"),
    }


def _engine(facts: Facts, said: Mapping[str, Any], before: Values) -> dict[str, tuple[Any, str]]:
    return {
        "device": (facts.device, "the fastest device here"),
        "products": best_library(str(said.get("device", facts.device)).partition(":")[0]),
    }


_RULES: Mapping[str, Rule] = {
    "data": _data,
    "model": _model,
    "loss": _loss,
    "init": _init,
    "optimizer": _optimizer,
    "schedule": _schedule,
    "gradient": _gradient,
    "regularize": _regularize,
    "stop": _stop,
    "engine": _engine,
}
