"""Skip connections."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

__all__ = ["Residual"]


class Residual(nn.Module):
    """Adds what a body makes of its input to the input: y = x + body(x).

    The derivative is I + J with J that of the body, so that a gradient reaches early layers however many bodies it
    passes, and a body of zeros is the identity.
    Shapes: that of ``x``, which the body must keep.

    Args:
        body: any module whose outputs have the shape of its inputs.

    Raises:
        ValueError: when called, if the body changes the shape; nothing is broadcast.

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
        """The same shape."""
        change = cast(Tensor, self.body(x))
        if change.shape != x.shape:
            raise ValueError(
                f"the body of a Residual must keep the shape of its input; it made {tuple(change.shape)} "
                f"of {tuple(x.shape)}"
            )
        return x + change
