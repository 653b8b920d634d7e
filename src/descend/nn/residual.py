"""Residual block with a skip connection."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

__all__ = ["Residual"]


class Residual(nn.Module):
    """Residual block: y = x + body(x).

    Its Jacobian is I + J with J the Jacobian of the body, so that gradients reach early layers through any number of
    blocks. A body whose outputs are zero makes the block the identity.
    Shapes: the shape of ``x``, which the body must keep.

    Args:
        body: any module whose outputs have the shape of its inputs.

    Raises:
        ValueError: when called, if the body changes the shape; shapes are not broadcast.

    >>> import torch
    >>> body = nn.Linear(3, 3)
    >>> x = torch.ones(2, 3)
    >>> torch.equal(Residual(body)(x), x + body(x))
    True

    Source: He et al. 2016, Deep residual learning for image recognition.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """Return x + body(x), in the shape of x."""
        residual = cast(Tensor, self.body(x))
        if residual.shape != x.shape:
            raise ValueError(
                f"the body of a Residual must keep the shape of its input; got an output of shape "
                f"{tuple(residual.shape)} for an input of shape {tuple(x.shape)}"
            )
        return x + residual
