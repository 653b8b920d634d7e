"""Building a loss that is not descend's, after trying what it returns: one that was made for other values is refused."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from descend.arguments import kind_of
from descend.errors import Problem, RecipeError, UserError, message_of
from descend.interface import setting
from descend.losses.conventions import convention_of
from descend.process import exclusive
from descend.recipe.adapters import CallableLoss
from descend.recipe.facts import Facts
from descend.rng import forked

__all__ = ["build_callable_loss", "two_rows"]

LARGE = 1e3
"""Size of the raw outputs that show whether a loss is bounded below."""

_DEFAULTS = {
    "regression": "mse",
    "multi_regression": "mse",
    "binary": "bce",
    "multi_label": "bce",
    "multiclass": "cross_entropy",
}


def two_rows(facts: Facts, width: int) -> tuple[Tensor, Tensor]:
    """Return raw outputs (2, width) and targets of two rows, to try a loss on; three for two outputs.

    With as many rows as outputs, a class index for each row could be taken for a number for each output.
    """
    rows = 3 if width == 2 else 2
    outputs = torch.linspace(-2.0, 2.0, rows * width).reshape(rows, width)
    bits = torch.arange(rows) % 2
    targets = {
        "binary": bits.float(),
        "multiclass": bits,
        "multi_label": bits.float().unsqueeze(1).repeat(1, facts.outputs),
    }
    return outputs, targets.get(facts.task, torch.zeros(rows, facts.outputs))


def build_callable_loss(loss: Any, facts: Facts, output: nn.Module, width: int) -> CallableLoss:
    """Return the loss as a function of raw outputs and encoded targets.

    Args:
        loss: the loss, called as ``loss(outputs, targets)``.
        facts: about the data.
        output: the output activation of the network.
        width: the number of outputs of the network.

    Raises:
        RecipeError: it does not fit the task, or was made for other values than it would get.
    """
    try:
        convention = convention_of(loss)
    except UserError as cause:
        raise _refused(str(cause)) from cause
    if facts.task not in convention.tasks:
        why = convention.reason or f"it does not fit the task {facts.task}"
        own = facts.task == "binary" and convention.instead
        raise _refused(
            f"{convention.name} cannot be used: {why}",
            f"use {setting('loss.name', own or _DEFAULTS[facts.task])}",
        )
    link = getattr(output, "link", None)
    if convention.declared and facts.classification and convention.outputs == "raw" and link != "logit":
        raise _refused(
            f"{convention.name} takes logits, which the output activation {type(output).__name__} does not have",
            f"use {setting('model.output', 'auto')}",
        )
    if any(p.requires_grad for p in loss.parameters()) if isinstance(loss, nn.Module) else False:
        raise _refused(
            f"{convention.name} has parameters of its own, which are not trained: the optimizer updates the network only",
            "make them part of the model, or buffers of the loss",
        )
    built = CallableLoss(loss, convention, output)
    with exclusive(), forked(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are shown again in training
        _check_value(built, facts, width)
        if not convention.declared:
            _check_direction(built, facts, width)
    return built


def _refused(message: str, hint: str = "") -> RecipeError:
    return RecipeError([Problem("loss", "name", message, hint)])


def _check_value(built: CallableLoss, facts: Facts, width: int) -> None:
    """Call the loss on two rows: it must return their mean, one number."""
    outputs, targets = two_rows(facts, width)
    signs = torch.linspace(-0.7, 0.7, len(outputs)).unsqueeze(1)
    if facts.target_average:
        targets = torch.tensor(facts.target_average) * (1.0 + 0.5 * signs)
    elif not facts.classification:
        targets = signs.repeat(1, facts.outputs)
    try:
        with torch.enable_grad():
            value = built(outputs.requires_grad_(), targets)
    except Exception as cause:  # anyone's loss may raise anything
        fault = message_of(cause)
        raise _refused(
            f"the loss does not take raw outputs and targets of the task {facts.task}: {fault}"
            if built.convention.outputs == "raw"
            else f"the loss does not take outputs and targets of the task {facts.task}: {fault}"
        ) from cause
    if not isinstance(value, Tensor) or value.dim() != 0:
        got = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else kind_of(value)
        fault = f"it returns {got} instead of a tensor with one number"
        raise _refused(f"the loss does not take raw outputs and targets of the task {facts.task}: {fault}")
    if not value.requires_grad:
        raise _refused(
            "the loss has no gradient: it converts tensors to numbers or arrays, or returns a constant",
            "use operations of torch on the tensors that it is given",
        )
    outputs = outputs.detach()
    if value.isnan() and not built.convention.declared and not facts.target_average:
        raise _refused(
            f"the loss returns nan for raw outputs from -2 to 2, which are {_meaning(facts)}",
            _advice(facts),
        )
    _check_mean(built, outputs, targets, value.detach())
    _check_pairing(built, facts, width)


def _check_mean(built: CallableLoss, outputs: Tensor, targets: Tensor, value: Tensor) -> None:
    """Refuse a sum over rows: losses of parts of different sizes are compared, and steps must not depend on the batch size."""
    try:
        twice = built(torch.cat([outputs, outputs]), torch.cat([targets, targets]))
    except Exception:  # a loss of exactly two rows fails in training, with its own message
        return
    if abs(float(value)) > 1e-6 and math.isclose(float(twice), 2.0 * float(value), rel_tol=1e-4):
        raise _refused(
            "the loss returns the sum over rows: it doubles when the rows are repeated",
            "return the mean, such as with reduction = 'mean'",
        )


def _check_pairing(built: CallableLoss, facts: Facts, width: int) -> None:
    """Refuse a loss that compares each output with every target, since shapes (n,) and (n, 1) are broadcast to (n, n).

    Such a loss uses the targets, and does not change when they are given to other rows.
    """
    if width != 1 or facts.task == "multiclass":
        return
    outputs = torch.tensor([[-1.0], [0.5], [2.0]])
    targets = torch.tensor([0.0, 1.0, 1.0]) if facts.classification else torch.tensor([[0.4], [0.9], [2.2]])
    try:
        paired, moved, other = (
            float(built(outputs, each)) for each in (targets, targets.roll(1, 0), targets.square() * 0.5)
        )
    except Exception:  # it was called before, so this depends on the values
        return
    tolerance = 1e-6 * max(1.0, abs(paired))
    if abs(paired - moved) <= tolerance < abs(paired - other):
        raise _refused(
            "the loss does not change when the targets are given to other rows: it is called with outputs and targets of "
            "shape (n, 1), and tensors (n,) and (n, 1) are broadcast to (n, n)",
            "give both the same shape, such as with outputs.flatten() and targets.flatten()",
        )


def _meaning(facts: Facts) -> str:
    return "logits" if facts.classification else "values near standardized targets"


def _advice(facts: Facts) -> str:
    if facts.classification:
        return (
            "set output_form = 'probabilities' or 'log_probabilities' on the loss if it takes these ('raw' if it takes "
            f"logits), or use {setting('loss.name', _DEFAULTS[facts.task])}"
        )
    return (
        f"set target_space = 'raw' on the loss, and {setting('model.output', 'exp')} if it takes the logarithm of the mean; "
        f"or use {setting('loss.name', 'poisson')}"
    )


def _check_direction(built: CallableLoss, facts: Facts, width: int) -> None:
    """Refuse a loss without declarations that cannot be one of raw outputs.

    It must not decrease without bound for large outputs, and for classes it must prefer a confident correct logit to a wrong
    one and to one of moderate size.
    """

    def value(outputs: Tensor, targets: Tensor) -> float:
        try:
            return float(built(outputs, targets))
        except Exception:  # it was called before, so this depends on the values
            return math.nan

    outputs, targets = two_rows(facts, width)
    if not facts.classification:
        if built.convention.target_space == "raw" or facts.target_average:
            return
        ones, large = torch.ones_like(targets), torch.full_like(outputs, LARGE)
        values = {
            (sign, target): value(sign * large, target * ones) for sign in (-1, 1) for target in (-1.7, 1.7)
        }
        sign, target = min(values, key=lambda each: values[each])
        lowest = values[sign, target]
        uses_targets = lowest != values[sign, -target]  # a network may compute the objective itself
        if lowest < -0.1 * LARGE and uses_targets:
            raise _refused(
                f"the loss decreases without bound: it returns {lowest:g} for the output {sign * LARGE:g} and the "
                f"standardized target {target:g}, so it was made for other targets or outputs",
                _advice(facts),
            )
        return
    if facts.task == "multiclass":
        correct = torch.nn.functional.one_hot(targets, width).to(outputs.dtype) * 2.0 - 1.0
    else:
        correct = (2.0 * targets - 1.0).reshape(len(targets), -1)
    sure, unsure, wrong = (value(size * correct, targets) for size in (8.0, 1.0, -8.0))
    if value(LARGE * correct, targets) < -0.1 * LARGE:
        fault = "it decreases without bound as the logit of the correct class increases"
    elif sure >= wrong:
        fault = "it is not smaller for correct logits than for wrong ones"
    elif sure > unsure + 1e-3:
        fault = f"it is larger for confident correct logits of size 8 ({sure:.3g}) than for those of size 1 ({unsure:.3g})"
    else:
        return
    raise _refused(f"the loss does not take logits: {fault}", _advice(facts))
