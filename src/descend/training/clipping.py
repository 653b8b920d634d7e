"""Gradient clipping: the [gradient] section of a recipe, and what it does to the gradient before a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from descend.param_types import Count, Positive

__all__ = ["GradientSettings", "clip_coefficient", "clip_gradients"]


@dataclass(frozen=True, kw_only=True)
class GradientSettings:
    """What happens to the gradient between the loss and the optimizer.

    Args:
        accumulate: the number of batches whose gradients are averaged into one step; the step equals that of one
            batch ``accumulate`` times as large, in less memory.
        clip_norm: the gradient is scaled so that its Euclidean norm over all parameters is at most this.
        clip_value: each component is limited to [-clip_value, clip_value].
    """

    accumulate: Count = 1
    clip_norm: Positive | None = None
    clip_value: Positive | None = None

    @property
    def clips(self) -> bool:
        """Whether gradients are clipped at all."""
        return self.clip_norm is not None or self.clip_value is not None


def clip_gradients(
    parameters: Sequence[Tensor], clip: GradientSettings, *, return_norm: bool = False
) -> Tensor | None:
    """Clip the gradients of parameters in place, first by their norm, then by value.

    Args:
        parameters: those without a gradient are ignored.
        clip: the bounds.
        return_norm: whether to compute the norm even if nothing is clipped by it.

    Returns:
        The norm of all gradients before clipping, on the device; None where it was not needed.

    >>> w = torch.zeros(2, requires_grad=True)
    >>> w.grad = torch.tensor([3.0, 4.0])
    >>> clip_gradients([w], GradientSettings(clip_norm=1.0)), [round(g, 4) for g in w.grad.tolist()]
    (tensor(5.), [0.6, 0.8])
    """
    gradients = [_gradient_values(p) for p in parameters if p.grad is not None]
    norm = None
    if clip.clip_norm is not None or return_norm:
        norm = torch.nn.utils.get_total_norm(gradients)
    if clip.clip_norm is not None and norm is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, clip.clip_norm, norm)
    if clip.clip_value is not None:
        torch._foreach_clamp_min_(gradients, -clip.clip_value)
        torch._foreach_clamp_max_(gradients, clip.clip_value)
    return norm


def clip_coefficient(norm: Tensor, max_norm: float | Tensor) -> Tensor:
    """Return the factor by which gradients are scaled so that their norm is at most ``max_norm``.

    The factor is min(1, max_norm / (norm + 1e-6)), as in ``torch.nn.utils.clip_grads_with_norm_``.

    Args:
        norm: of the gradients, () or (K,) for the members of a pack.
        max_norm: the bound; a tensor (K,) holds one per member, infinity for none.

    >>> clip_coefficient(torch.tensor([5.0, 0.5]), 1.0)
    tensor([0.2000, 1.0000])
    """
    return (max_norm / (norm + 1e-6)).clamp(max=1.0)


def _gradient_values(parameter: Tensor) -> Tensor:
    """Return a gradient that can be modified in place; of a sparse one, its coalesced values."""
    gradient = parameter.grad
    assert gradient is not None
    if gradient.is_sparse:
        parameter.grad = gradient.coalesce()
        gradient = parameter.grad._values()
    return gradient
