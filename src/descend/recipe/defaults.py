"""The default recipe: the meaning of "auto", as rules that depend on the data, each with its reason.

The rules were chosen by reasoning and by the mean score over many data sets (docs/defaults.md), not for any one of them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from descend.linalg.products import best_library
from descend.optim import COMPOSITIONAL, OPTIMIZERS, TRUNCATED_NEWTON, WHOLE_DATA
from descend.optim._bfgs import MAX_PARAMETERS
from descend.recipe.facts import Facts
from descend.recipe.image_network import epochs_of, image_model, plain_network
from descend.recipe.loss_requirements import loss_requirements
from descend.recipe.presets import default_preset, ensemble_proposals
from descend.recipe.search_space import budget_proposals

__all__ = ["CHOOSE", "DEFAULTS", "Proposal", "proposals"]

DEFAULTS: Mapping[tuple[str, str | None], Mapping[str, Any]] = {
    ("optimizer", "sgd"): {"lr": 0.05},
    ("optimizer", "muon"): {"adjust_lr_fn": "match_rms_adamw"},
    ("optimizer", "prodigy"): {"safeguard_warmup": True},
}
"""Defaults of a recipe that differ from those of the constructor: of a section and name, the keys and their values."""


CHOOSE = "choose"
"""The value of ``data.augment`` that stands for a choice by short runs."""

FEW_ROWS = 1000
"""Regression on fewer training rows gets smaller steps and more dropout."""

IMAGE_BATCH = 64
"""The largest batch of the default network for images on a CPU: more and noisier steps in the same time."""

IMAGE_LR = 3e-3
"""The learning rate of AdamW for the default network for images."""

MANY_TEXTS = 5000
"""Training rows from which the embeddings of text columns are half as large, since they cost more than they gain."""

_LR_DIVISORS: Mapping[str, float] = {"soap": 2, "sgd": 20, "cayley_sgd": 20, "heavy_ball": 20, "nesterov": 20}
"""Divisors of these optimizers' default learning rates for regression on few rows (docs/defaults.md)."""


@dataclass(frozen=True)
class Proposal:
    """A value for a key that is left to "auto", and the reason."""

    value: Any
    reason: str


_OUTPUTS: Mapping[str, str] = {"binary": "sigmoid", "multi_label": "sigmoid", "multiclass": "softmax"}
"""Output activations of classification; that of a regression follows from the loss."""

Values = Mapping[str, Mapping[str, Any]]


def proposals(
    section: str, facts: Facts, specified: Mapping[str, Any], others: Values
) -> dict[str, Proposal]:
    """Return the proposed value of each key of a section for which there is a rule.

    Args:
        section: the name of the section.
        facts: about the data and the machine.
        specified: the specified values of this section.
        others: the complete sections before this one, and the specified values of those after it.
    """
    rule = _RULES.get(section)
    if rule is None:
        return {}
    return {key: Proposal(*pair) for key, pair in rule(facts, specified, others).items()}


Rule = Callable[[Facts, Mapping[str, Any], Values], dict[str, tuple[Any, str]]]


def _data(facts: Facts, specified: Mapping[str, Any], others: Values) -> dict[str, tuple[Any, str]]:
    residual = _is_residual(facts, others)
    largest = IMAGE_BATCH if residual and facts.device == "cpu" else 256
    size = min(largest, max(32, 2 ** round(math.log2(max(facts.rows, 1) / 20))))
    name = others["optimizer"].get("name")
    whole = {"sampling": ("full", f"{name} minimizes the loss over all rows")} if name in WHOLE_DATA else {}
    needs = loss_requirements(others["loss"])
    return whole | {
        "target_scale": ("none" if needs.target_space == "raw" else "standard", needs.why_target_space),
        "augment": _augment(facts, others),
        "task": (facts.task, "inferred from the targets"),
        "batch_size": (size, f"about 20 steps per epoch for {facts.rows:,} rows, between 32 and {largest}"),
    }


def _is_residual(facts: Facts, others: Values) -> bool:
    """Whether the network will be an ``image_resnet``, judged before it is resolved."""
    name = others["model"].get("name", "auto")
    if name == "auto":
        return facts.images and not plain_network(facts.own_model, others["model"], others)
    return bool(name == "image_resnet")


def _augment(facts: Facts, others: Values) -> tuple[Any, str]:
    if not facts.images:
        return (), "augmentations are chosen for images only"
    if others["model"].get("name", "auto") != "auto" or not _is_residual(facts, others):
        return (), "the recipe specifies how the network is; choose tries augmentations for it"
    return CHOOSE, "short runs find what helps"


def _model(facts: Facts, specified: Mapping[str, Any], others: Values) -> dict[str, tuple[Any, str]]:
    needs = loss_requirements(others["loss"])
    output = _OUTPUTS.get(facts.task, needs.output)
    of_loss = not facts.classification and output != "identity"
    proposed: dict[str, tuple[Any, str]] = {
        "output": (output, needs.why_output if of_loss else f"the task is {facts.task}")
    }
    proposed["calibration"] = _calibration(facts, specified.get("output", output))
    if facts.texts and facts.rows >= MANY_TEXTS:
        proposed["text_dimension"] = (16, "a larger embedding gains little on many rows")
    all_specified = {**others, "model": specified}
    proposed["preset"] = default_preset(
        all_specified,
        rows_are_vectors=facts.kind in ("table", "tensor")
        and len(facts.input_shape) == 1
        and not others["data"].get("stream"),
        validated=facts.validation_rows > 0,
    )
    preset = specified.get("preset", proposed["preset"][0])
    fits = len(facts.input_shape) == 1 and facts.validation_rows > 0
    proposed |= {"number_embedding": ("none", "each number is one input")}
    proposed |= ensemble_proposals(preset if fits else "quick", all_specified, numbers=len(facts.numbers))
    if preset == "best":
        proposed |= budget_proposals(all_specified, numbers=bool(facts.numbers))
    differ = bool(specified.get("members", proposed["members"][0]))
    proposed["ensemble_selection"] = (
        ("greedy", "members differ, and a mean of them may be better than the best")
        if differ
        else ("best", "networks of one kind")
    )
    if facts.images:
        plain = plain_network(facts.own_model, specified, all_specified)
        return proposed | image_model(facts.input_shape, facts.rows, facts.device, plain)
    return proposed | {
        "name": ("mlp", "the rows are a table" if facts.kind == "table" else "each row is a vector"),
        "hidden": _hidden(facts, others["optimizer"].get("name")),
        "activation": ("silu", "smooth, and better than relu on average over small tables"),
        "dropout": (0.4, "a network soon fits the noise of few regression rows")
        if not facts.classification and facts.rows < FEW_ROWS
        else (0.1, "mild, against overfitting"),
    }


def _calibration(facts: Facts, output: Any) -> tuple[str, str]:
    if not facts.classification:
        return "none", "the predictions are not probabilities"
    if output not in ("softmax", "sigmoid"):
        return "none", f"the raw outputs of {output} are not logits"
    if not facts.validation_rows:
        return "none", "there are no validation rows to fit it on"
    return (
        "temperature",
        "one number, fitted on the validation rows, gives probabilities that match the frequencies",
    )


def _hidden(facts: Facts, optimizer: str | None) -> tuple[tuple[int, ...], str]:
    if optimizer == "bfgs":
        each = math.prod(facts.input_shape) + 1 + facts.outputs
        return (min(32, max(1, (MAX_PARAMETERS - facts.outputs) // each)),), "bfgs stores a dense n×n matrix"
    return (256, 256), "wide enough for most tables; early stopping limits overfitting"


def _loss(facts: Facts, specified: Mapping[str, Any], others: Values) -> dict[str, tuple[Any, str]]:
    name = {"binary": "bce", "multi_label": "bce", "multiclass": "cross_entropy"}.get(facts.task, "mse")
    proposed: dict[str, tuple[Any, str]] = {"name": (name, f"the likelihood of the task, {facts.task}")}
    if facts.task in ("binary", "multiclass"):
        proposed["label_smoothing"] = (0.1, "against overconfidence; helps most on few rows")
    return proposed


def _init(facts: Facts, specified: Mapping[str, Any], others: Values) -> dict[str, tuple[Any, str]]:
    if others["model"]["name"] not in ("linear", "polynomial", "mlp", "resnet", "convnet", "image_resnet"):
        return {
            "name": ("torch", "the module initializes its own weights"),
            "output_gain": (1.0, "the module initializes its own weights"),
        }
    return {
        "name": ("kaiming_normal", "keeps the variance from layer to layer, with the activation's gain"),
        "output_gain": (0.0, "training starts from a constant prediction instead of random ones"),
    }


def _optimizer(facts: Facts, specified: Mapping[str, Any], others: Values) -> dict[str, tuple[Any, str]]:
    name = specified.get("name")
    if name in TRUNCATED_NEWTON:
        matrix = (
            "gauss_newton",
            "positive semidefinite, so the quadratic model has a minimum; a network's Hessian is indefinite",
        )
        most = {"cg_max_iter": (20, "more iterations cost more than they gain")} if name in WHOLE_DATA else {}
        return {"name": (name, "as specified"), "curvature": matrix, **most}
    if not facts.classification and facts.rows < FEW_ROWS:
        lr = (
            5e-4,
            "smaller steps give early stopping more weights to choose from, for regression on few rows",
        )
        if isinstance(name, str) and name in _LR_DIVISORS:
            own = inspect.signature(OPTIMIZERS[name]).parameters["lr"].default
            own = DEFAULTS.get(("optimizer", name), {}).get("lr", own)
            return {"name": (name, "as specified"), "lr": (own / _LR_DIVISORS[name], lr[1])}
    elif others["model"]["name"] == "image_resnet":
        lr = (IMAGE_LR, "large, since norms bound the outputs of layers and the learning rate decays to 0")
    else:
        lr = (1e-3, "works for most networks with averaged weights")
    return {
        "name": ("adamw", "works for most networks without tuning, with decoupled weight decay"),
        "lr": lr,
    }


def _schedule(facts: Facts, specified: Mapping[str, Any], others: Values) -> dict[str, tuple[Any, str]]:
    name = others["optimizer"]["name"]
    if name in WHOLE_DATA:
        return {
            "name": ("constant", f"{name} chooses its own step length"),
            "warmup": (0.0, f"{name} chooses its own step length"),
        }
    if others["model"]["name"] == "image_resnet" and name == "adamw":
        return {
            "name": ("cosine", "the number of epochs is chosen in advance, and a decay to 0 uses it best"),
            "warmup": (2.0, "small steps until the optimizer's running averages have settled"),
        }
    return {
        "name": ("constant", "averaged weights replace a decay, without a known end of training"),
        "warmup": (5.0, "small steps until the optimizer's running averages have settled"),
    }


def _gradient(facts: Facts, specified: Mapping[str, Any], others: Values) -> dict[str, tuple[Any, str]]:
    if others["optimizer"]["name"] not in COMPOSITIONAL:
        return {}
    return {
        "clip_norm": (
            1.0,
            "averages of outputs lag behind, and a learning rate that suits classification is large for regression",
        )
    }


def _regularize(facts: Facts, specified: Mapping[str, Any], others: Values) -> dict[str, tuple[Any, str]]:
    if others["optimizer"]["name"] != "adamw":
        return {"weight_decay": (0.0, "no decay with this optimizer unless it is specified")}
    if not facts.classification and facts.rows < FEW_ROWS:
        return {"weight_decay": (1.0, "strong, as a network fits the noise of few regression rows")}
    return {"weight_decay": (0.01, "mild; AdamW's usual value")}


def _stop(facts: Facts, specified: Mapping[str, Any], others: Values) -> dict[str, tuple[Any, str]]:
    validated = facts.validation_rows > 0
    monitor = ("loss", "the smoothest measure of fit on few validation rows")
    smoothing = others["loss"].get("label_smoothing", 0.0)
    balanced = others["data"].get("class_weights", "none") != "none"
    if smoothing or balanced:
        included = " and ".join(
            name for name, used in (("label smoothing", smoothing), ("class weights", balanced)) if used
        )
        monitor = (
            "objective",
            f"it includes {included}: the loss without may be lowest before training has begun to fit",
        )
    decays = others["schedule"].get("name") == "cosine" and others["model"]["name"] == "image_resnet"
    return {
        "max_epochs": (
            epochs_of(facts.rows),
            f"for {facts.rows:,} images; the learning rate decays over them",
        )
        if decays
        else (100, "more than most tables need; early stopping ends most runs earlier"),
        "patience": (20, "enough epochs to average out the noise of the validation value")
        if validated
        else (None, "there are no validation rows"),
        "monitor": monitor,
        "min_improvement": (0.0, "the last epochs have the smallest learning rate, and small gains")
        if decays
        else (0.01, "earlier, simpler weights unless later ones are better by 1 %"),
        "average": (0.0, "steps on all rows have no noise to average")
        if others["optimizer"]["name"] in WHOLE_DATA
        else (0.0, "the optimizer evaluates the average of its own iterates")
        if others["optimizer"]["name"] == "schedule_free_adamw"
        else (3.0, "settles near the minimum without a decaying learning rate"),
    }


def _engine(facts: Facts, specified: Mapping[str, Any], others: Values) -> dict[str, tuple[Any, str]]:
    return {
        "device": (facts.device, "the fastest available device"),
        "products": best_library(str(specified.get("device", facts.device)).partition(":")[0]),
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
