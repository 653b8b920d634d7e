"""Normalisation layers: each makes activations of mean 0 and variance 1 over a set of its own.

For activations of shape (n, C) or (n, C, H, W) the set that shares a mean and a variance is

========== ======================================== ============================
name       the set                                  depends on the batch
========== ======================================== ============================
batch      one channel, all rows and positions      while training
layer      one row, all channels and positions      no
group      one row, C/groups channels, positions    no
instance   one row, one channel, all positions      no
========== ======================================== ============================

followed by a learned scale γ and shift β per channel: y = γ (x − μ) / √(σ² + ε) + β, with σ² the biased
variance (divided by the size of the set). ``decorrelated`` and ``iterative`` (:mod:`descend.nn.whitening`)
share the set of ``batch`` and also make the covariances between channels of a group 0. ``weight`` normalises
no activations; it rewrites the weights of the layer before it as a length times a direction.
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
    note="The lecture prints running averages of sigma; PyTorch, followed here, averages the unbiased "
    "variance and normalises the batch with the biased one.",
)
def batch(features: int, *, dims: Dims, momentum: Share = 0.1, eps: Positive = 1e-5) -> nn.Module:
    """Batch normalisation: statistics of the mini-batch while training, running averages in evaluation.

    Gradients flow through the batch statistics, so the rows of a batch depend on each other. A batch of a
    single row has no variance (for dims = 1) and cannot be trained on.

    Args:
        features: C, the number of channels.
        dims: 1 for (n, C), 2 for (n, C, H, W).
        momentum: η of the running averages, the weight of the newest batch. Default 0.1.
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
    note="On images: over channels and positions together with one scale per channel (one group), "
    "Wu and He's form.",
)
def layer(features: int, *, dims: Dims, eps: Positive = 1e-5) -> nn.Module:
    """Layer normalisation: statistics of one row over all its features. The same in training and evaluation.

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
    """Group normalisation: statistics of one row over each of ``groups`` groups of channels.

    Args:
        features: C, the number of channels.
        dims: 1 for (n, C), 2 for (n, C, H, W).
        groups: a divisor of C; ``"auto"`` is the largest that is at most 32 (the paper's) and leaves 8
            channels or more in a group, and 1 where there is none.
        eps: ε, added to the variance. Default 1e-5.

    Raises:
        UserError: ``groups`` does not divide C, or leaves one number in a group, whose normalised value is
            always 0.

    >>> group(64, dims=2).num_groups, group(12, dims=1).num_groups
    (8, 1)
    """
    if groups == "auto":
        count = max(g for g in range(1, 33) if features % g == 0 and (g == 1 or features // g >= 8))
    elif features % groups:
        divisors = [g for g in range(1, features + 1) if features % g == 0]
        raise UserError(f"group norm: {groups} groups do not divide {features} features; one of {divisors}")
    elif dims == 1 and groups == features:
        raise UserError(f"group norm: {groups} groups of one feature each are always 0; use fewer groups")
    else:
        count = groups
    return nn.GroupNorm(count, features, eps=eps)


@method(
    row="F4",
    reference="Ulyanov, Vedaldi and Lempitsky 2016; torch.nn.InstanceNorm2d",
    formula="y = g (x - mean_positions) / sqrt(var_positions + eps) + b",
    note="Here with a learned scale and shift as the other norms, which PyTorch leaves off by default.",
)
def instance(features: int, *, dims: Dims, eps: Positive = 1e-5) -> nn.Module:
    """Instance normalisation: statistics of one channel of one image over its positions.

    Args:
        features: C, the number of channels.
        dims: 2, for (n, C, H, W).
        eps: ε, added to the variance. Default 1e-5.

    Raises:
        UserError: dims = 1: a vector has one position per channel, so that every output would be 0.

    >>> instance(4, dims=2).affine
    True
    """
    if dims == 1:
        raise UserError(
            "norm 'instance' averages over the positions of an image; a vector has one position, so its "
            "normalised value is always 0; choose 'layer' or 'group' here"
        )
    return nn.InstanceNorm2d(features, eps=eps, affine=True)


@method(
    row="F4",
    reference="Salimans and Kingma 2016; torch.nn.utils.parametrizations.weight_norm",
    formula="w = g v / ||v||",
    note="One length g per output unit or channel; the norm is over the other dimensions of the weight.",
)
def weight(layer: nn.Module) -> nn.Module:
    """Weight normalisation: rewrites a layer's weight as w = g v/‖v‖ and trains g and v.

    The layer computes what it computed before; only the variables of the optimisation differ. In the state
    dict g is ``parametrizations.weight.original0``, v is ``parametrizations.weight.original1``.

    Args:
        layer: a linear or convolutional layer, changed in place and returned.

    >>> sorted(name for name, _ in weight(nn.Linear(2, 3)).named_parameters())
    ['bias', 'parametrizations.weight.original0', 'parametrizations.weight.original1']
    """
    made: nn.Module = weight_norm(layer)
    return made


@method(row="F3", reference="", formula="y = x")
def none(features: int, *, dims: Dims) -> None:
    """No normalisation.

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
    """A linear or convolutional layer with a norm: the layer to use, and the module to put behind it, if any.

    Args:
        linear: the layer whose outputs, or weights, are normalised.
        features: the number of channels that the norm sees.
        dims: 1 for (n, C), 2 for (n, C, H, W).
        norm: a name in ``NORMS``, a name with settings, or a constructor called as ``norm(features)``.

    Raises:
        UserError: an unknown name or setting, or a norm that does not fit.

    >>> normalized(nn.Linear(2, 3), 3, dims=1, norm="batch")[1].num_features
    3
    """
    constructor, settings = choose(NORMS, norm, "norm")
    if constructor is weight:
        return weight(linear), None
    if constructor in NORMS.values():
        return linear, constructor(features, dims=dims, **settings)
    return linear, constructor(features)
