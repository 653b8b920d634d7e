"""Median and quartiles, the statistics reported for repeated measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Quartiles"]


@dataclass(frozen=True)
class Quartiles:
    """Median and interquartile range of a sample.

    >>> Quartiles.of([4.0, 1.0, 2.0, 3.0, 100.0])
    Quartiles(lower=2.0, median=3.0, upper=4.0)
    """

    lower: float
    median: float
    upper: float

    @classmethod
    def of(cls, sample: Sequence[float]) -> Quartiles:
        """Compute the quartiles of a sample."""
        lower, median, upper = np.percentile(np.asarray(sample, dtype=float), [25, 50, 75])
        return cls(float(lower), float(median), float(upper))

    @classmethod
    def of_ratios(cls, sample: Sequence[float], reference: Sequence[float]) -> Quartiles:
        """Compute the quartiles of the ratios of paired measurements, one pair per repetition.

        >>> Quartiles.of_ratios([2.0, 3.0, 8.0], [1.0, 1.0, 2.0])
        Quartiles(lower=2.5, median=3.0, upper=3.5)
        """
        return cls.of([own / other for own, other in zip(sample, reference, strict=True)])

    def text(self, decimals: int = 0) -> str:
        """Format as median and quartiles in brackets.

        >>> Quartiles(1.0, 2.0, 3.0).text(1)
        '2.0 (1.0–3.0)'
        """
        return f"{self.median:,.{decimals}f} ({self.lower:,.{decimals}f}–{self.upper:,.{decimals}f})"
