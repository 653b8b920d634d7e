"""Rates to try: quasi-random and log-uniform, the same for every variant."""

from __future__ import annotations

import math

from descend.rng import key

__all__ = ["log_uniform", "low_discrepancy"]

_BITS = 53


def low_discrepancy(seed: int, index: int) -> float:
    """Point ``index`` of a scrambled van der Corput sequence in [0, 1), a pure function of its arguments.

    The binary digits of the index, mirrored at the point, are the digits of the number; each is flipped or not as
    the seed says. The first 2^k points, and every later 2^k in a row from a multiple of 2^k, have exactly one in each of
    the 2^k equal parts of [0, 1).

    Args:
        seed: of the scrambling.
        index: 0, 1, 2, ...

    >>> sorted(int(8 * low_discrepancy(0, index)) for index in range(8))
    [0, 1, 2, 3, 4, 5, 6, 7]

    Source: van der Corput, "Verteilungsfunktionen", 1935; the digital shift: Owen, "Monte Carlo theory, methods and
    examples", 2013, chapter 17.
    """
    mirrored = int(f"{index:0{_BITS}b}"[::-1], 2)
    scrambled: int = mirrored ^ (key(seed, "quasi-random") >> (63 - _BITS))
    return scrambled / (1 << _BITS)


def log_uniform(count: int, low: float, high: float, seed: int) -> list[float]:
    """``count`` numbers between ``low`` and ``high`` whose logarithms are spread evenly, in ascending order.

    Args:
        count: how many.
        low: the least, above 0.
        high: the largest.
        seed: which ones.

    >>> [f"{rate:.1g}" for rate in log_uniform(4, 1e-4, 1.0, seed=0)]
    ['0.0007', '0.007', '0.07', '0.7']
    """
    span = math.log(high / low)
    return sorted(low * math.exp(span * low_discrepancy(seed, index)) for index in range(count))
