"""What losses that are not descend's take: PyTorch's own losses, and what other losses declare.

A loss by import path is called as ``loss(outputs, targets)``, or ``loss(targets, outputs)`` if its arguments are named so,
such as ``y_true`` and ``y_pred``. What it takes for these differs: logits, probabilities or their
logarithms; class indices, one-hot rows or signs; standardized targets or counts. For PyTorch's losses, classes and functions,
it is known (:data:`CONVENTIONS`). Any other loss declares it by two attributes, on the class, the object or the function:

``output_form``
    ``"raw"``, the raw outputs of the network, which are values or logits; ``"probabilities"``, the outputs after the output
    activation; ``"log_probabilities"``, their logarithms. Without the attribute: raw.
``target_space``
    ``"standardized"``, the targets of a regression minus their mean, divided by their standard deviation; ``"raw"``, in
    their own units. Without the attribute: standardized.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import nn

from descend.errors import UserError
from descend.losses.base import TargetSpace
from descend.param_types import signature_of

__all__ = ["CONVENTIONS", "Convention", "OutputForm", "convention_of"]

OutputForm = Literal["raw", "probabilities", "log_probabilities"]

_REGRESSION = frozenset({"regression", "multi_regression"})
_LABELS = frozenset({"binary", "multi_label"})
_MULTICLASS = frozenset({"multiclass"})
_EVERY = _REGRESSION | _LABELS | _MULTICLASS

_FORMS: Mapping[str, OutputForm] = {
    **{form: form for form in get_args(OutputForm)},
    "logits": "raw",
    "values": "raw",
}


@dataclass(frozen=True)
class Convention:
    """What a loss takes as outputs and targets.

    Args:
        tasks: the tasks that it fits.
        outputs: the form of the outputs.
        targets: how targets are passed: ``as_they_are``, ``signs`` (0 and 1 as -1 and 1) or ``one_hot``.
        target_space: whether targets of a regression are standardized.
        output: for regression, the output activation that computes predictions from the raw outputs.
        blocks: the number of raw outputs per target; with 2 the loss takes mean, targets and variance.
        declared: whether this is known or was declared, rather than assumed.
        known: whether it is a loss of PyTorch.
        targets_first: whether the names of its arguments show that it is called as ``loss(targets, outputs)``.
        instead: what to use for tasks that it does not fit, if not the default loss of the task.
        reason: why it fits no task.
        name: the name of the loss, for messages.
    """

    tasks: frozenset[str] = _EVERY
    outputs: OutputForm = "raw"
    targets: Literal["as_they_are", "signs", "one_hot"] = "as_they_are"
    target_space: TargetSpace = "standardized"
    output: str = "identity"
    blocks: int = 1
    declared: bool = True
    known: bool = True
    targets_first: bool = False
    instead: str = ""
    reason: str = ""
    name: str = ""


_VALUES = Convention(_REGRESSION)
_NONE: frozenset[str] = frozenset()

CONVENTIONS: Mapping[str, Convention] = {
    "MSELoss": replace(_VALUES, instead="squared"),
    "L1Loss": _VALUES,
    "SmoothL1Loss": _VALUES,
    "HuberLoss": _VALUES,
    "CrossEntropyLoss": Convention(_MULTICLASS),
    "NLLLoss": Convention(_MULTICLASS, "log_probabilities"),
    "NLLLoss2d": Convention(_MULTICLASS, "log_probabilities"),
    "KLDivLoss": Convention(_MULTICLASS, "log_probabilities", "one_hot"),
    "MultiMarginLoss": Convention(_MULTICLASS),
    "BCELoss": Convention(_LABELS, "probabilities"),
    "BCEWithLogitsLoss": Convention(_LABELS),
    "SoftMarginLoss": Convention(_LABELS, targets="signs"),
    "MultiLabelSoftMarginLoss": Convention(_LABELS),
    "PoissonNLLLoss": Convention(_REGRESSION, target_space="raw", output="exp"),
    "GaussianNLLLoss": Convention(_REGRESSION, output="gaussian_mean", blocks=2),
    "MultiLabelMarginLoss": Convention(
        _NONE, reason="its targets are lists of class indices, padded with -1"
    ),
    "HingeEmbeddingLoss": Convention(_NONE, reason="it takes distances between pairs"),
    "CosineEmbeddingLoss": Convention(_NONE, reason="it takes pairs of embeddings"),
    "MarginRankingLoss": Convention(_NONE, reason="it takes pairs of scores"),
    "TripletMarginLoss": Convention(_NONE, reason="it takes triples of embeddings"),
    "TripletMarginWithDistanceLoss": Convention(_NONE, reason="it takes triples of embeddings"),
    "CTCLoss": Convention(_NONE, reason="it takes sequences with their lengths"),
    "AdaptiveLogSoftmaxWithLoss": Convention(_NONE, reason="it is a layer with weights of its own"),
}
"""PyTorch's losses by the name of their class."""

_FUNCTIONS: Mapping[str, str] = {
    "mse_loss": "MSELoss",
    "l1_loss": "L1Loss",
    "smooth_l1_loss": "SmoothL1Loss",
    "huber_loss": "HuberLoss",
    "cross_entropy": "CrossEntropyLoss",
    "nll_loss": "NLLLoss",
    "kl_div": "KLDivLoss",
    "multi_margin_loss": "MultiMarginLoss",
    "binary_cross_entropy": "BCELoss",
    "binary_cross_entropy_with_logits": "BCEWithLogitsLoss",
    "soft_margin_loss": "SoftMarginLoss",
    "multilabel_soft_margin_loss": "MultiLabelSoftMarginLoss",
    "poisson_nll_loss": "PoissonNLLLoss",
    "gaussian_nll_loss": "GaussianNLLLoss",
    "multilabel_margin_loss": "MultiLabelMarginLoss",
    "hinge_embedding_loss": "HingeEmbeddingLoss",
    "cosine_embedding_loss": "CosineEmbeddingLoss",
    "margin_ranking_loss": "MarginRankingLoss",
    "triplet_margin_loss": "TripletMarginLoss",
    "triplet_margin_with_distance_loss": "TripletMarginWithDistanceLoss",
    "ctc_loss": "CTCLoss",
}


def convention_of(loss: Any) -> Convention:
    """Return what a loss takes: what it declares, what is known of a loss of PyTorch, or else what is assumed.

    Raises:
        UserError: an attribute declares something unknown.

    >>> convention_of(nn.NLLLoss()).outputs, convention_of(nn.functional.poisson_nll_loss).target_space
    ('log_probabilities', 'raw')
    >>> convention_of(lambda outputs, targets: (outputs - targets).abs().mean()).declared
    False
    """
    known = _known(loss)
    form, space = _declared(loss, "output_form"), _declared(loss, "target_space")
    name = getattr(_function_of(loss), "__qualname__", type(loss).__qualname__)
    convention = replace(
        known or Convention(declared=False, known=False, targets_first=_targets_first(loss)), name=name
    )
    if form is not None:
        if form not in _FORMS:
            raise UserError(f"{name}.output_form: expected one of {', '.join(_FORMS)}, got {form!r}")
        convention = replace(convention, outputs=_FORMS[form], declared=True)
    if space is not None:
        if space not in get_args(TargetSpace):
            raise UserError(
                f"{name}.target_space: expected one of {', '.join(get_args(TargetSpace))}, got {space!r}"
            )
        convention = replace(convention, target_space=space, declared=True)
    return convention


_TARGETS = frozenset({"y_true", "true", "target", "targets", "label", "labels", "y", "ytrue"})
_OUTPUTS = frozenset({"y_pred", "pred", "preds", "prediction", "predictions", "predicted", "output", "outputs", "logits",
                      "y_hat", "yhat", "input", "inputs", "z", "ypred"})  # fmt: skip


def _targets_first(loss: Any) -> bool:
    """Return whether the names of a loss's arguments are those of targets and outputs, in this order."""
    function = _function_of(loss)
    signature = signature_of(function.forward if isinstance(function, nn.Module) else function)
    names = [] if signature is None else [name.lower() for name in signature.parameters][:2]
    return len(names) == 2 and names[0] in _TARGETS and names[1] in _OUTPUTS


def _function_of(loss: Any) -> Any:
    while isinstance(loss, functools.partial):
        loss = loss.func
    return loss


def _declared(loss: Any, attribute: str) -> Any:
    return getattr(loss, attribute, getattr(_function_of(loss), attribute, None))


def _known(loss: Any) -> Convention | None:
    """Return the convention of a loss of PyTorch, or of an object of a class derived from one."""
    function = _function_of(loss)
    settings = loss.keywords if isinstance(loss, functools.partial) else vars(loss) if _has_vars(loss) else {}
    for each in type(loss).__mro__:
        if each.__module__ == nn.MSELoss.__module__ and each.__name__ in CONVENTIONS:
            return _with_settings(CONVENTIONS[each.__name__], each.__name__, settings)
    name = getattr(function, "__name__", "")
    if name in _FUNCTIONS and function is getattr(torch.nn.functional, name, None):
        return _with_settings(CONVENTIONS[_FUNCTIONS[name]], _FUNCTIONS[name], settings)
    return None


def _has_vars(value: Any) -> bool:
    return hasattr(value, "__dict__")


def _with_settings(known: Convention, name: str, settings: Mapping[str, Any]) -> Convention:
    """Return the convention of a loss whose settings change what it takes."""
    if name == "PoissonNLLLoss" and settings.get("log_input") is False:
        return replace(known, outputs="probabilities")  # here: after the output activation, which is exp
    if name == "KLDivLoss" and settings.get("log_target"):
        return replace(
            known, tasks=_NONE, reason="with log_target, classes have the logarithm of 0 as target"
        )
    return known
