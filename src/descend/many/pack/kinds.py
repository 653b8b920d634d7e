"""Kinds of layers that have a packed form, and what layers of a kind must share to be stacked."""

from __future__ import annotations

from typing import Any

from torch import nn

from descend.many.pack.layers import PackedBranch, PackedSum
from descend.many.pack.number_embedding import PACKED_EMBEDDINGS
from descend.nn import (
    CategoryEmbedding,
    Dropout,
    LearnedCategories,
    NumberEmbedding,
    ParametricActivation,
    Scaling,
)
from descend.nn.activations import Maxout

__all__ = ["DROPOUTS", "ELEMENTWISE", "POOLING", "CannotPack", "kind_of"]

ELEMENTWISE: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.SELU, nn.Softplus, nn.Identity,
)  # fmt: skip
"""Activations that act elementwise, on signals of any shape."""

DROPOUTS: dict[type[nn.Module], int] = {nn.Dropout: 0, Dropout: 0, nn.Dropout1d: 1, nn.Dropout2d: 2}
"""Kinds of dropout, with the number of trailing dimensions that share one random value."""

POOLING = (
    nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d,
)  # fmt: skip


class CannotPack(Exception):
    """The models cannot be stacked; the message says why."""


def kind_of(layer: Any) -> tuple[Any, ...]:
    """Return what a layer must share with the layers it is stacked with; widths of linear layers may differ."""
    kind = type(layer)
    if kind in ELEMENTWISE:
        return ("elementwise",)
    if kind in (PackedBranch, PackedSum):
        return (kind,)
    match layer:
        case nn.Linear() if kind is nn.Linear:
            return (kind, layer.bias is not None)
        case nn.Conv1d() | nn.Conv2d() if kind in (nn.Conv1d, nn.Conv2d):
            if layer.padding_mode != "zeros":
                raise CannotPack(f"a convolution has the padding mode '{layer.padding_mode}'")
            shape = tuple(layer.weight.shape)
            return (
                kind,
                shape,
                layer.bias is not None,
                layer.stride,
                layer.padding,
                layer.dilation,
                layer.groups,
            )
        case nn.BatchNorm1d() | nn.BatchNorm2d() if kind in (nn.BatchNorm1d, nn.BatchNorm2d):
            if not layer.track_running_stats or layer.momentum is None:
                raise CannotPack("a batch norm has no exponential moving averages")
            return (kind, layer.momentum, layer.eps, layer.affine)
        case nn.LayerNorm() if kind is nn.LayerNorm:
            affine = (layer.weight is not None, layer.bias is not None)
            return (kind, tuple(layer.normalized_shape), layer.eps, affine)
        case nn.GroupNorm() if kind is nn.GroupNorm:
            return (kind, layer.num_groups, layer.num_channels, layer.eps, layer.affine)
        case nn.Embedding() if kind is nn.Embedding:
            if layer.padding_idx is not None or layer.max_norm is not None or layer.sparse:
                raise CannotPack("an embedding sets padding_idx, max_norm or sparse")
            return (kind, tuple(layer.weight.shape))
        case nn.MaxPool2d() | nn.AvgPool2d() | nn.MaxPool1d() | nn.AvgPool1d() if kind in POOLING:
            return (kind, layer.extra_repr())
        case nn.AdaptiveAvgPool1d() | nn.AdaptiveAvgPool2d() | nn.AdaptiveMaxPool2d() if kind in POOLING:
            return (kind, layer.extra_repr())
        case nn.Flatten() if kind is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1):
            return (kind,)
        case Maxout():
            return (kind, layer.k)
        case Scaling():
            return (kind, len(layer.weight))
        case ParametricActivation() if type(layer.function) in (*ELEMENTWISE, nn.Mish):
            return (kind, repr(layer.function), len(layer.weight))
        case NumberEmbedding() if type(layer.embedding) in PACKED_EMBEDDINGS:
            shapes = tuple((name, tuple(t.shape)) for name, t in layer.state_dict().items())
            return (kind, type(layer.embedding), repr(layer.embedding), layer.positions, layer.width, shapes)
        case CategoryEmbedding() if type(layer.embedding) is LearnedCategories:
            return (kind, repr(layer.embedding), layer.positions, layer.width)
    raise CannotPack(f"{kind.__name__} has no packed form")
