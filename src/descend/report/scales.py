"""Positions on an axis, in percent of its length."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from descend.report.marks import Area, Axis, Bars, Cells, Figure, Interval, Line, Mark, Points, Rule, Texts

__all__ = ["Scale", "scales_of"]

_MARGIN = 0.04
"""Distance of the outermost values from the ends of an axis, as a share of its length."""


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic map from a range to 0..100.

    Args:
        low: the value at 0.
        high: the value at 100; different from ``low``.
        log: whether the map is logarithmic; then both ends are positive.

    >>> Scale(1.0, 3.0).at(1.5), Scale(0.01, 100.0, log=True).at(1.0), Scale(0.0, 1.0).at(float("nan"))
    (25.0, 50.0, None)
    """

    low: float
    high: float
    log: bool = False

    def at(self, value: float | None) -> float | None:
        """Return the position of a value; None if it has none."""
        if value is None or not math.isfinite(value) or (self.log and value <= 0):
            return None
        if self.log:
            low, high = math.log10(self.low), math.log10(self.high)
            return 100 * (math.log10(value) - low) / (high - low)
        # Halves, since the difference of two large numbers may be infinite.
        return 100 * ((value / 2 - self.low / 2) / (self.high / 2 - self.low / 2))


def scales_of(figure: Figure) -> tuple[Scale, Scale]:
    """Return the horizontal and the vertical scale of a figure, which contain all of its marks."""
    points = [point for mark in figure.marks for point in _extent(mark)]
    x, y = (_scale(axis, [point[side] for point in points]) for side, axis in enumerate((figure.x, figure.y)))
    return x, (Scale(y.high, y.low) if figure.y.names else y)


def _scale(axis: Axis, values: Iterable[float | None]) -> Scale:
    if axis.names:
        return Scale(-0.5, len(axis.names) - 0.5)
    if axis.limits is not None:
        return Scale(*axis.limits, log=axis.log)
    known = [value for value in values if value is not None and math.isfinite(value)]
    if axis.log:
        known = [value for value in known if value > 0]
        low, high = min(known, default=1.0), max(known, default=1.0)
        factor = (high / low) ** _MARGIN if high / low < math.inf else 10.0
        factor = factor if factor > 1.0 + 1e-6 else 2.0
        return Scale(max(low / factor, 5e-324), min(high * factor, 1.7e308), log=True)
    low, high = min(known, default=0.0), max(known, default=0.0)
    from_zero = axis.zero and low >= 0
    low = 0.0 if from_zero else low
    if low == high:
        if axis.style == "share" and 0 <= high <= 1:
            return Scale(0.0, 1.0)
        other = 2 * high if 0 < abs(high) < 8e307 else 0.0
        return (
            Scale(min(other, 0.0), max(other, 0.0))
            if other
            else Scale(min(high, 0.0) - 1, max(high, 0.0) + 1)
        )
    # At least a little, so that the ticks differ as floating-point numbers too.
    margin = max(_MARGIN * high - _MARGIN * low, 1e-12 * max(abs(low), abs(high)))
    return Scale(low if from_zero else max(low - margin, -1.7e308), min(high + margin, 1.7e308))


def _extent(mark: Mark) -> Iterator[tuple[float | None, float | None]]:
    """Yield points that span a mark."""
    if isinstance(mark, Line | Area | Points | Texts):
        yield from zip(mark.x, mark.y, strict=True)
    elif isinstance(mark, Bars):
        for center, length in zip(mark.at, mark.lengths, strict=True):
            for side in (-0.5, 0.5):
                edge = center + side * mark.width
                yield from [(0.0, edge), (length, edge)] if mark.horizontal else [(edge, 0.0), (edge, length)]
    elif isinstance(mark, Interval):
        yield from [(mark.low, mark.y), (mark.high, mark.y)]
    elif isinstance(mark, Rule):
        yield mark.x, None
    else:
        assert isinstance(mark, Cells)
