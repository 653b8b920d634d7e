"""The learning rates to try: quasi-random and log-uniform, the same for every variant."""

from __future__ import annotations

import math

from descend.rng import key

__all__ = ["log_uniform", "van_der_corput"]

_BITS = 53


def van_der_corput(seed: int, index: int) -> float:
    """Return point ``index`` of a scrambled van der Corput sequence in [0, 1), a pure function of its arguments.

    The binary digits of the index, reversed behind the binary point, are the digits of the number; the seed determines
    which of them are flipped. The first 2^k points, and any 2^k consecutive points starting at a multiple of 2^k, have
    exactly one point in each of 2^k equal intervals of [0, 1).

    Args:
        seed: seed of the scrambling.
        index: 0, 1, 2, ...

    >>> sorted(int(8 * van_der_corput(0, index)) for index in range(8))
    [0, 1, 2, 3, 4, 5, 6, 7]

    Source: van der Corput, "Verteilungsfunktionen", 1935; the digital shift: Owen, "Monte Carlo theory, methods and
    examples", 2013, chapter 17.
    """
    reversed_bits = int(f"{index:0{_BITS}b}"[::-1], 2)
    scrambled: int = reversed_bits ^ (key(seed, "quasi-random") >> (63 - _BITS))
    return scrambled / (1 << _BITS)


def log_uniform(count: int, low: float, high: float, seed: int) -> list[float]:
    """Return ``count`` log-uniform, quasi-random numbers between ``low`` and ``high``, in ascending order.

    Args:
        count: how many numbers.
        low: lower bound, above 0.
        high: upper bound.
        seed: seed of the sequence.

    >>> [f"{lr:.1g}" for lr in log_uniform(4, 1e-4, 1.0, seed=0)]
    ['0.0007', '0.007', '0.07', '0.7']
    """
    log_range = math.log(high / low)
    return sorted(low * math.exp(log_range * van_der_corput(seed, index)) for index in range(count))
