"""What happens to a gradient before the step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from descend.training.settings import GradientSettings

__all__ = ["clip_coefficient", "clipped"]


def clipped(
    parameters: Sequence[Tensor], clip: GradientSettings, *, wants_norm: bool = False
) -> Tensor | None:
    """Clip the gradients of parameters in place, first by their norm, then by value.

    Args:
        parameters: those with a gradient count.
        clip: the bounds.
        wants_norm: whether the norm is asked for where nothing is clipped by it.

    Returns:
        The norm of all gradients before clipping, on the device; None where it was not needed.

    >>> w = torch.zeros(2, requires_grad=True)
    >>> w.grad = torch.tensor([3.0, 4.0])
    >>> clipped([w], GradientSettings(clip_norm=1.0)), [round(g, 4) for g in w.grad.tolist()]
    (tensor(5.), [0.6, 0.8])
    """
    gradients = [_entries(p) for p in parameters if p.grad is not None]
    norm = None
    if clip.clip_norm is not None or wants_norm:
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


def _entries(parameter: Tensor) -> Tensor:
    """A gradient to read and to change; of a sparse one the entries that are there, each once."""
    gradient = parameter.grad
    assert gradient is not None
    if gradient.is_sparse:
        parameter.grad = gradient.coalesce()
        gradient = parameter.grad._values()
    return gradient
