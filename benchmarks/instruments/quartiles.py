"""Median and quartiles: what is reported of repeated measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Quartiles"]


@dataclass(frozen=True)
class Quartiles:
    """The middle of a sample and the range of its inner half.

    >>> Quartiles.of([4.0, 1.0, 2.0, 3.0, 100.0])
    Quartiles(lower=2.0, median=3.0, upper=4.0)
    """

    lower: float
    median: float
    upper: float

    @classmethod
    def of(cls, sample: Sequence[float]) -> Quartiles:
        lower, median, upper = np.percentile(np.asarray(sample, dtype=float), [25, 50, 75])
        return cls(float(lower), float(median), float(upper))

    def text(self, decimals: int = 0) -> str:
        """
        >>> Quartiles(1.0, 2.0, 3.0).text(1)
        '2.0 (1.0–3.0)'
        """
        return f"{self.median:,.{decimals}f} ({self.lower:,.{decimals}f}–{self.upper:,.{decimals}f})"
