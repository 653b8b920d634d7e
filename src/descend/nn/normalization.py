"""Normalization layers.

:data:`NORMS` maps the names that recipes use to functions that build a layer. A normalization layer gives activations mean 0
and variance 1 over a set of elements. For activations of shape (n, C) or (n, C, H, W) the sets are

========== ======================================== ============================
name       elements with common mean and variance   depends on the batch
========== ======================================== ============================
batch      one channel, all rows and positions      in training
layer      one row, all channels and positions      no
group      one row, C/groups channels, positions    no
instance   one row, one channel, all positions      no
========== ======================================== ============================

followed by a learned weight γ and bias β per channel: y = γ (x − μ) / √(σ² + ε) + β, with σ² the biased
variance (divided by the number of elements). PyTorch adds ε inside the root; some texts add it outside. ``decorrelated`` and
``iterative`` (:mod:`descend.nn.whitening`) use the sets of ``batch`` and also remove the correlations between the channels of
a group. ``weight`` does not normalize activations; it reparametrizes the weights of the layer before it as a norm times a
direction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from descend.cards import method
from descend.errors import UserError
from descend.nn.choice import Choice, choose
from descend.nn.whitening import decorrelated, iterative
from descend.param_types import Count, Positive, Share

__all__ = ["NORMS", "batch", "group", "instance", "layer", "none", "normalized", "weight"]

Dims = Literal[1, 2]
"""1 for activations (n, C), 2 for images (n, C, H, W)."""


@method(
    row="F3",
    reference="Ioffe and Szegedy 2015; torch.nn.BatchNorm1d, BatchNorm2d",
    formula="y = g (x - mean_batch) / sqrt(var_batch + eps) + b; running = (1 - h) running + h new, h = 0.1",
    note="Some texts define running averages of sigma; PyTorch averages the unbiased variance and normalizes the batch "
    "with the biased one.",
)
def batch(features: int, *, dims: Dims, momentum: Share = 0.1, eps: Positive = 1e-5) -> nn.Module:
    """Batch normalization: statistics of the mini-batch in training, running averages in evaluation.

    Gradients flow through the batch statistics, so the rows of a batch depend on each other. A batch of a
    single row has no variance (for dims = 1), so it cannot be used in training.

    Args:
        features: C, the number of channels.
        dims: 1 for (n, C), 2 for (n, C, H, W).
        momentum: h of the running averages, the weight of the current batch. Default 0.1.
        eps: ε, added to the variance. Default 1e-5.

    >>> batch(3, dims=1).num_features
    3
    """
    kind = nn.BatchNorm1d if dims == 1 else nn.BatchNorm2d
    return kind(features, eps=eps, momentum=momentum)


@method(
    row="F4",
    reference="Ba, Kiros and Hinton 2016; torch.nn.LayerNorm, torch.nn.GroupNorm",
    formula="y = g (x - mean_row) / sqrt(var_row + eps) + b",
    note="On images the statistics are over all channels and positions, with one weight per channel (group norm with "
    "one group), as in Wu and He 2018.",
)
def layer(features: int, *, dims: Dims, eps: Positive = 1e-5) -> nn.Module:
    """Layer normalization: statistics of one row over all its features, in training and evaluation.

    Args:
        features: C, the number of channels.
        dims: 1 for (n, C), 2 for (n, C, H, W).
        eps: ε, added to the variance. Default 1e-5.

    >>> layer(4, dims=1)
    LayerNorm((4,), eps=1e-05, elementwise_affine=True, bias=True)
    """
    return nn.LayerNorm(features, eps=eps) if dims == 1 else nn.GroupNorm(1, features, eps=eps)


@method(
    row="F4",
    reference="Wu and He 2018; torch.nn.GroupNorm",
    formula="y = g (x - mean_group) / sqrt(var_group + eps) + b",
)
def group(
    features: int, *, dims: Dims, groups: Count | Literal["auto"] = "auto", eps: Positive = 1e-5
) -> nn.Module:
    """Group normalization: statistics of one row over each of ``groups`` groups of channels.

    Args:
        features: C, the number of channels.
        dims: 1 for (n, C), 2 for (n, C, H, W).
        groups: a divisor of C; ``"auto"`` is the largest divisor that is at most 32 (the paper's value) with at least 8
            channels per group, or 1 if there is none. Default ``"auto"``.
        eps: ε, added to the variance. Default 1e-5.

    Raises:
        UserError: ``groups`` does not divide C, or a group has one element, whose normalized value is always 0.

    >>> group(64, dims=2).num_groups, group(12, dims=1).num_groups
    (8, 1)
    """
    if groups == "auto":
        count = max(g for g in range(1, 33) if features % g == 0 and (g == 1 or features // g >= 8))
    elif features % groups:
        divisors = [g for g in range(1, features + 1) if features % g == 0]
        raise UserError(
            f"group norm: {groups} groups do not divide {features} features; use one of {divisors}"
        )
    elif dims == 1 and groups == features:
        raise UserError(
            f"group norm: the outputs of {groups} groups of one feature each are always 0; use fewer groups"
        )
    else:
        count = groups
    return nn.GroupNorm(count, features, eps=eps)


@method(
    row="F4",
    reference="Ulyanov, Vedaldi and Lempitsky 2016; torch.nn.InstanceNorm2d",
    formula="y = g (x - mean_positions) / sqrt(var_positions + eps) + b",
    note="With a learned weight and bias like the other norms; PyTorch's default is without.",
)
def instance(features: int, *, dims: Dims, eps: Positive = 1e-5) -> nn.Module:
    """Instance normalization: statistics of one channel of one image over its positions.

    Args:
        features: C, the number of channels.
        dims: 2, for (n, C, H, W).
        eps: ε, added to the variance. Default 1e-5.

    Raises:
        UserError: dims is 1: a vector has one position per channel, so every output would be 0.

    >>> instance(4, dims=2).affine
    True
    """
    if dims == 1:
        raise UserError(
            "norm 'instance' averages over the positions of an image; a vector has one position, so the "
            "normalized values would always be 0; choose 'layer' or 'group' instead"
        )
    return nn.InstanceNorm2d(features, eps=eps, affine=True)


@method(
    row="F4",
    reference="Salimans and Kingma 2016; torch.nn.utils.parametrizations.weight_norm",
    formula="w = g v / ||v||",
    note="One norm g per output unit or channel; ||v|| is over the other dimensions of the weight.",
)
def weight(layer: nn.Module) -> nn.Module:
    """Weight normalization: reparametrize a layer's weight as w = g v/‖v‖, and train g and v.

    The outputs of the layer do not change; only the optimization variables differ. In the state
    dict g is ``parametrizations.weight.original0``, v is ``parametrizations.weight.original1``.

    Args:
        layer: a linear or convolutional layer, changed in place and returned.

    >>> sorted(name for name, _ in weight(nn.Linear(2, 3)).named_parameters())
    ['bias', 'parametrizations.weight.original0', 'parametrizations.weight.original1']
    """
    reparametrized: nn.Module = weight_norm(layer)
    return reparametrized


@method(row="F3", reference="", formula="y = x")
def none(features: int, *, dims: Dims) -> None:
    """No normalization.

    Args:
        features: C, the number of channels; not used.
        dims: not used.
    """


NORMS: dict[str, Callable[..., nn.Module | None]] = {
    "none": none,
    "batch": batch,
    "layer": layer,
    "group": group,
    "instance": instance,
    "weight": weight,
    "decorrelated": decorrelated,
    "iterative": iterative,
}


def normalized(
    linear: nn.Module, features: int, *, dims: Dims, norm: Choice
) -> tuple[nn.Module, nn.Module | None]:
    """Add a norm to a linear or convolutional layer: return the layer, and the norm module that follows it, if any.

    Args:
        linear: the layer whose outputs or weights are normalized.
        features: the number of channels of the norm's inputs.
        dims: 1 for (n, C), 2 for (n, C, H, W).
        norm: a name in ``NORMS``, a name with settings, or a constructor called as ``norm(features)``.

    Raises:
        UserError: the norm or a setting is unknown, or the norm does not suit ``features`` and ``dims``.

    >>> normalized(nn.Linear(2, 3), 3, dims=1, norm="batch")[1].num_features
    3
    """
    constructor, settings = choose(NORMS, norm, "norm")
    if constructor is weight:
        return weight(linear), None
    if constructor in NORMS.values():
        return linear, constructor(features, dims=dims, **settings)
    return linear, constructor(features)
