"""Layers of a pack: K layers of one kind, with weights stacked along a leading member dimension.

The signal of a pack has the shape (K, B, …): one batch per member. Linear layers are batched matrix products.
Convolutions run as one grouped convolution with the members concatenated along the channels, (B, K·C, …), and return
a view in the order (K, B, C, …), so that nothing is copied between convolutions. The results of a member do not depend
on the other members.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "PackedActivations",
    "PackedBatchNorm",
    "PackedBranch",
    "PackedConv",
    "PackedDropout",
    "PackedEmbedding",
    "PackedGroupNorm",
    "PackedLayerNorm",
    "PackedLinear",
    "PackedMask",
    "PackedPooling",
    "PackedShared",
    "PackedSum",
    "folded",
    "unfolded",
]


def folded(x: Tensor) -> Tensor:
    """Return (K, B, C, …) as (B, K·C, …), without a copy if x is a view made by :func:`unfolded`."""
    return x.transpose(0, 1).reshape(x.shape[1], -1, *x.shape[3:])


def unfolded(x: Tensor, members: int) -> Tensor:
    """Return (B, K·C, …) as a view (K, B, C, …)."""
    return x.view(x.shape[0], members, -1, *x.shape[2:]).transpose(0, 1)


class _Stacked(nn.Module):
    """Base class of layers whose parameters and buffers have a leading member dimension.

    Args:
        layers: the K layers.
        names: of the parameters and buffers to stack.
    """

    def __init__(self, layers: list[nn.Module], names: list[str]) -> None:
        super().__init__()
        for name in names:
            each = [getattr(layer, name) for layer in layers]
            if each[0] is None:
                self.register_parameter(name, None)
            elif isinstance(each[0], nn.Parameter):
                self.register_parameter(name, nn.Parameter(torch.stack([p.detach() for p in each])))
            else:
                self.register_buffer(name, torch.stack(each))


class PackedLinear(_Stacked):
    """Linear layer y = x Wᵀ + b for each member: (K, B, i) → (K, B, o), W (K, o, i), b (K, o).

    >>> layers = [nn.Linear(3, 2) for _ in range(4)]
    >>> x = torch.randn(4, 5, 3)
    >>> y = PackedLinear(layers)(x)
    >>> torch.allclose(y[1], layers[1](x[1]), atol=1e-6)
    True
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__(layers, ["weight", "bias"])

    def forward(self, x: Tensor) -> Tensor:
        """(K, B, i) → (K, B, o)."""
        if self.bias is None:
            return torch.bmm(x, self.weight.transpose(1, 2))
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight.transpose(1, 2))


class PackedConv(_Stacked):
    """Convolution in one or two dimensions: (K, B, C, …) → (K, B, O, …), W (K, O, C/groups, …)."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, layers: list[Any]) -> None:
        super().__init__(layers, ["weight", "bias"])
        first = layers[0]
        self._run = F.conv1d if isinstance(first, nn.Conv1d) else F.conv2d
        self._settings = (first.stride, first.padding, first.dilation)
        self._groups: int = first.groups

    def forward(self, x: Tensor) -> Tensor:
        """(K, B, C, …) → (K, B, O, …)."""
        members = len(self.weight)
        bias = None if self.bias is None else self.bias.reshape(-1)
        y = self._run(folded(x), self.weight.flatten(0, 1), bias, *self._settings, members * self._groups)
        return unfolded(y, members)


class PackedBatchNorm(_Stacked):
    """Batch normalization of each member over its own batch: (K, B, C) or (K, B, C, …)."""

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, layers: list[Any]) -> None:
        super().__init__(layers, ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"])
        self.momentum: float = layers[0].momentum
        self.eps: float = layers[0].eps

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        if self.training:
            self.num_batches_tracked.add_(1)
        weight, bias = (None if t is None else t.reshape(-1) for t in (self.weight, self.bias))
        y = F.batch_norm(
            folded(x),
            self.running_mean.view(-1),
            self.running_var.view(-1),
            weight,
            bias,
            self.training,
            self.momentum,
            self.eps,
        )
        # Contiguous for each member: the rounding of later operations depends on strides, which would otherwise depend
        # on the number of members.
        return unfolded(y, len(self.running_mean)).contiguous()


class PackedLayerNorm(_Stacked):
    """Layer normalization: (K, B, …, *shape), weight and bias (K, *shape)."""

    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, layers: list[Any]) -> None:
        super().__init__(layers, ["weight", "bias"])
        self._shape: tuple[int, ...] = tuple(layers[0].normalized_shape)
        self._eps: float = layers[0].eps

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return _affine(F.layer_norm(x, self._shape, eps=self._eps), self.weight, self.bias, len(self._shape))


class PackedGroupNorm(_Stacked):
    """Group normalization: (K, B, C, …), weight and bias (K, C)."""

    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, layers: list[Any]) -> None:
        super().__init__(layers, ["weight", "bias"])
        self._groups: int = layers[0].num_groups
        self._eps: float = layers[0].eps

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        y = F.group_norm(x.flatten(0, 1), self._groups, eps=self._eps).view(x.shape)
        return _affine(y, self.weight, self.bias, x.dim() - 2, channels=True)


def _affine(
    y: Tensor, weight: Tensor | None, bias: Tensor | None, dims: int, *, channels: bool = False
) -> Tensor:
    """Apply each member's weight and bias over the last ``dims`` dimensions, or only over the first of these."""

    def broadcast(t: Tensor) -> Tensor:
        shape = (t.shape[1], *([1] * (dims - 1))) if channels else t.shape[1:]
        return t.view(len(t), *([1] * (y.dim() - 1 - dims)), *shape)

    if weight is not None:
        y = y * broadcast(weight)
    return y if bias is None else y + broadcast(bias)


class PackedEmbedding(_Stacked):
    """Embedding: int64 indices (K, B, …) → (K, B, …, D), W (K, V, D)."""

    weight: Tensor

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__(layers, ["weight"])

    def forward(self, x: Tensor) -> Tensor:
        """Indices (K, B, …) → (K, B, …, D)."""
        members, rows = self.weight.shape[:2]
        first = torch.arange(members, device=x.device).mul_(rows).view(-1, *([1] * (x.dim() - 1)))
        return F.embedding(x + first, self.weight.flatten(0, 1))


class PackedDropout(nn.Module):
    """Dropout whose noise is set before each step: x · noise, noise = bernoulli(1 − p) / (1 − p).

    Args:
        rates: the dropout probability p of each member; 0 where a member has no dropout here.
        features: number of trailing dimensions that share one random value: 0 drops single entries, otherwise whole
            channels are dropped.
        own_masks: whether the members' layers are :class:`descend.nn.Dropout`, which has its own random numbers.
    """

    def __init__(self, rates: list[float], features: int = 0, *, own_masks: bool = False) -> None:
        super().__init__()
        self.rates, self.features, self.own_masks = rates, features, own_masks
        self.noise: Tensor | None = None
        self.shape: tuple[int, ...] = ()
        self.dtype = torch.float32

    def forward(self, x: Tensor) -> Tensor:
        """Multiply by the noise in training mode; return x in evaluation mode."""
        self.shape, self.dtype = tuple(x.shape), x.dtype
        return x * self.noise if self.training and self.noise is not None else x

    def noise_shape(self) -> tuple[int, ...]:
        """Return the shape of one member's noise, (B, …), for the most recent input."""
        own = self.shape[1:]
        return (*own[: len(own) - self.features], *([1] * self.features))

    def select(self, places: list[int]) -> PackedDropout:
        """Return the dropout of the members at these places."""
        rates = [self.rates[place] for place in places]
        selected = PackedDropout(rates, self.features, own_masks=self.own_masks)
        selected.shape, selected.dtype = self.shape, self.dtype
        return selected


class PackedMask(nn.Module):
    """Set the padded units of narrower members to zero: x · mask, mask (K, 1, H) of 0 and 1."""

    mask: Tensor

    def __init__(self, widths: list[int], dims: int = 0) -> None:
        super().__init__()
        unit = torch.arange(max(widths)) < torch.tensor(widths).unsqueeze(1)
        self.register_buffer("mask", unit.float().view(len(widths), 1, -1, *([1] * dims)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return x * self.mask


class PackedShared(nn.Module):
    """A module without weights, applied to the rows of all members as one batch: (K, B, …) → (K, B, …)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """(K, B, …) → (K, B, …)."""
        y = cast(Tensor, self.module(x.flatten(0, 1)))
        return y.view(*x.shape[:2], *y.shape[1:])


class PackedPooling(nn.Module):
    """Pooling over single channels, applied to (B, K·C, …), so that nothing is copied between convolutions."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """(K, B, C, …) → (K, B, C, …)."""
        return unfolded(self.module(folded(x)), len(x))


class PackedActivations(nn.Module):
    """Elementwise functions that differ between members.

    Args:
        modules: the distinct functions.
        of_member: index of each member's function.
    """

    def __init__(self, modules: list[nn.Module], of_member: list[int]) -> None:
        super().__init__()
        self.kinds = nn.ModuleList(modules)
        self.of_member = of_member
        self.runs: list[tuple[int, int, int]] = []  # first member, number of members, index of the module
        for member, kind in enumerate(of_member):
            if self.runs and self.runs[-1][2] == kind:
                first, count, _ = self.runs[-1]
                self.runs[-1] = (first, count + 1, kind)
            else:
                self.runs.append((member, 1, kind))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        # A slice with other strides is computed with other instructions than the whole tensor.
        x = x.contiguous()
        return torch.cat([self.kinds[kind](x.narrow(0, at, count)) for at, count, kind in self.runs])


class PackedBranch(nn.Module):
    """Start of a skip connection: returns x, and keeps it for the matching :class:`PackedSum`.

    A residual block is represented by two layers with its body between them, so that a pack remains a chain of layers.
    In the backward pass ``kept`` holds the derivative that arrives through the skip connection.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return x."""
        self.kept = x
        return x


class PackedSum(nn.Module):
    """End of a skip connection: x plus the signal that its branch has kept.

    >>> branch = PackedBranch()
    >>> nn.Sequential(branch, nn.Flatten(2), PackedSum(branch))(torch.ones(1, 1, 3))
    tensor([[[2., 2., 2.]]])
    """

    def __init__(self, branch: PackedBranch) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        kept = self.branch.kept
        assert kept is not None
        self.branch.kept = None
        return kept + x
