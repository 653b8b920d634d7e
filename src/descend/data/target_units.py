"""The module that maps learned targets to the units of the targets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from descend.data.target_transform import TargetTransform

__all__ = ["TargetInverse"]


class TargetInverse(nn.Module):
    """Inverse transforms of targets, T^-1, with one transform for each target.

    All operations can be exported by ``torch.export`` and to ONNX.

    Shapes: float64 (..., T) → float64 (..., T).

    Args:
        transforms: the T transforms.

    >>> inverse = TargetInverse([TargetTransform("log"), TargetTransform("quantile", (0.0, 10.0), (-1.0, 1.0))])
    >>> inverse(torch.tensor([[0.0, 0.5]], dtype=torch.float64)).tolist()
    [[1.0, 7.5]]
    """

    def __init__(self, transforms: Sequence[TargetTransform]) -> None:
        super().__init__()
        self.names = [each.name for each in transforms]
        for at, each in enumerate(transforms):
            for part in ("values", "scores"):
                numbers = torch.tensor(getattr(each, part), dtype=torch.float64)
                self.register_buffer(f"{part}{at}", numbers, persistent=False)

    def forward(self, numbers: Tensor) -> Tensor:
        """Return T^-1 of each number."""
        columns = [self._inverse(at, numbers[..., at]) for at in range(len(self.names))]
        return torch.stack(columns, dim=-1)

    def _inverse(self, at: int, numbers: Tensor) -> Tensor:
        if self.names[at] == "log":
            return torch.exp(numbers)
        if self.names[at] == "log1p":
            return torch.expm1(numbers)
        values, scores = self.get_buffer(f"values{at}"), self.get_buffer(f"scores{at}")
        slope = (values[1:] - values[:-1]) / (scores[1:] - scores[:-1])
        # The inner scores at or below a number count the pieces before its own.
        piece = (numbers.unsqueeze(-1) >= scores[1:-1]).sum(-1)
        return values[piece] + (numbers - scores[piece]) * slope[piece]
