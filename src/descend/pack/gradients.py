"""Losses and gradients of a pack of stacked modules, without a tape where layers are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from torch import Tensor, nn

from descend.losses import CrossEntropy
from descend.pack.layers import PackedDropout, PackedLinear, PackedMask, PackedMixed
from descend.pack.stacking import ELEMENTWISE, Stack
from descend.training.chain import RULES, Chain, Rule, by_autograd
from descend.training.objective import Loss

__all__ = ["LossOfMembers", "chain_of", "loss_signature"]


def _linear(layer: PackedLinear, into: Tensor | None) -> Rule:
    weight = layer.weight.detach()
    bias = None if layer.bias is None else layer.bias.detach().unsqueeze(1)
    transposed = weight.transpose(1, 2)
    of_weight = torch.empty_like(weight) if into is None else into

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        return torch.bmm(x, transposed) if bias is None else torch.baddbmm(bias, x, transposed), x

    def backward(d: Tensor, x: Tensor, wanted: bool) -> tuple[Tensor | None, list[Tensor]]:
        torch.bmm(d.transpose(1, 2), x, out=of_weight)
        return torch.bmm(d, weight) if wanted else None, [of_weight, *([] if bias is None else [d.sum(1)])]

    return Rule(forward, backward)


def _times(factor: Callable[[], Tensor | None]) -> Rule:
    def forward(x: Tensor) -> tuple[Tensor, Any]:
        own = factor()
        return (x, None) if own is None else (x * own, own)

    def backward(d: Tensor, own: Any, wanted: bool) -> tuple[Tensor | None, list[Tensor]]:
        return d if own is None else d * own, []

    return Rule(forward, backward)


def _mixed(layer: PackedMixed) -> Rule:
    rules = [RULES[type(kind)](kind) if type(kind) in RULES else by_autograd(kind) for kind in layer.kinds]

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        done = [rules[kind].forward(x.narrow(0, at, count)) for at, count, kind in layer.runs]
        return torch.cat([y for y, _ in done]), [saved for _, saved in done]

    def backward(d: Tensor, saved: Any, wanted: bool) -> tuple[Tensor | None, list[Tensor]]:
        parts = [
            cast(Tensor, rules[kind].backward(d.narrow(0, at, count), own, True)[0])
            for (at, count, kind), own in zip(layer.runs, saved, strict=True)
        ]
        return torch.cat(parts), []

    return Rule(forward, backward)


def _rule(layer: nn.Module, into: Tensor | None) -> Rule:
    if isinstance(layer, PackedLinear):
        return _linear(layer, into)
    if isinstance(layer, PackedDropout):
        return _times(lambda: layer.noise)
    if isinstance(layer, PackedMask):
        return _times(lambda: layer.mask)
    if isinstance(layer, PackedMixed):
        return _mixed(layer)
    if type(layer) in ELEMENTWISE and type(layer) in RULES:
        return RULES[type(layer)](layer)
    return by_autograd(layer)


def chain_of(
    stack: Stack,
    gradients: Sequence[Tensor],
    arithmetic: Callable[[], AbstractContextManager[object]] | None = None,
) -> Chain:
    """The stack's layers as a chain that differentiates itself.

    Args:
        stack: in training mode.
        gradients: where those by the parameters shall end up; weights of linear layers are written there directly.
        arithmetic: autocast, say; then all layers run on one tape.
    """
    if arithmetic is not None:
        return Chain([stack.network], [by_autograd(stack.network, arithmetic)])
    place = 0
    rules = []
    for layer in stack.network:
        count = len(list(layer.parameters()))
        rules.append(_rule(layer, gradients[place] if count else None))
        place += count
    return Chain(list(stack.network), rules)


def loss_signature(loss: Loss) -> tuple[Any, ...]:
    """What the losses of two members must share: all but label smoothing.

    >>> loss_signature(CrossEntropy(label_smoothing=0.1)) == loss_signature(CrossEntropy())
    True
    """
    smooth = float(getattr(loss, "label_smoothing", 0.0))
    settings = {
        name: value
        for name, value in vars(loss).items()
        if not name.startswith("_") and name not in ("label_smoothing", "training")
    }
    inner = {name: repr(module) for name, module in getattr(loss, "_modules", {}).items()}
    return (type(loss), repr(settings), repr(inner), *(() if _smooths(loss) else (smooth,)))


def _smooths(loss: Loss) -> bool:
    return type(loss) is CrossEntropy and loss.form == "logits"


class LossOfMembers:
    """The mean losses (K,) of K members' batches, and the derivative of each by its outputs.

    Args:
        losses: one for each member, alike but for label smoothing.
    """

    def __init__(self, losses: Sequence[Loss]) -> None:
        self._losses = list(losses)
        self._first = losses[0]
        self._smoothing: Tensor | None = None
        self._closed = _smooths(self._first)
        if self._closed:
            shares = [float(cast(CrossEntropy, loss).label_smoothing) for loss in losses]
            self._smoothing = (
                torch.tensor(shares, dtype=torch.float64).view(-1, 1, 1) if any(shares) else None
            )

    def select(self, places: list[int]) -> LossOfMembers:
        """For some of the members."""
        return LossOfMembers([self._losses[place] for place in places])

    def __call__(
        self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean losses and derivatives.

        Args:
            outputs: (K, B, C).
            targets: (K, B) or (K, B, T).
            weights: (K, B), with a mean of 1 over all rows, or None.

        Returns:
            Losses (K,), and d loss_k / d outputs_k, (K, B, C).
        """
        if self._closed and weights is None and targets.dim() == 2 and not targets.is_floating_point():
            return self._cross_entropy(outputs, targets)
        with torch.enable_grad():
            leaf = outputs.detach().requires_grad_()
            values = self.values(leaf, targets, weights)
            (derivative,) = torch.autograd.grad(values.sum(), leaf)
        return values.detach(), derivative

    def values(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean losses (K,), differentiable."""
        members, rows = outputs.shape[:2]
        if self._smoothing is not None:
            each = [
                loss.per_sample(own, target)
                for loss, own, target in zip(self._losses, outputs, targets, strict=True)
            ]
            losses = torch.stack(each)
        else:
            losses = self._first.per_sample(outputs.flatten(0, 1), targets.flatten(0, 1)).view(members, rows)
        if weights is not None:
            losses = losses * weights.to(losses.dtype)
        return losses.mean(1)

    def _cross_entropy(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        # With q = (1 - a) onehot + a/C the loss is -sum q log p and its derivative p - q, averaged over rows.
        # Over so few classes PyTorch's log softmax takes several times as long as its parts.
        rows, classes = outputs.shape[1:]
        shifted = outputs - outputs.amax(2, keepdim=True)
        d = shifted.exp()
        total = d.sum(2, keepdim=True)
        d.div_(total)
        log_total = total.log_().squeeze(2)
        at = targets.unsqueeze(2)
        values = (log_total - shifted.gather(2, at).squeeze(2)).mean(1)
        if self._smoothing is None:
            d.scatter_add_(2, at, d.new_full((1, 1, 1), -1.0).expand(at.shape))
        else:
            share = self._smoothing = self._smoothing.to(d.device, d.dtype)
            own = share.view(-1)
            evenly = (log_total - shifted.mean(2)).mean(1)
            values = values * (1.0 - own) + evenly * own
            d.sub_(share / classes)
            d.scatter_add_(2, at, (share - 1.0).expand(at.shape))
        return values, d.div_(rows)
