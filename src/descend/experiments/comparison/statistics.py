"""How sure a difference is: intervals, paired tests, and what many tests at once cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["PairedTest", "holm", "interval", "paired_test", "sign_flips"]

Array = np.ndarray[Any, Any]

_EXACT = 14
"""Up to so many pairs all signs are tried; beyond, the permutation test takes a sample of them."""

_SAMPLED = 1 << _EXACT


@dataclass(frozen=True)
class PairedTest:
    """A paired comparison of two variants.

    Args:
        first: a variant's name.
        second: another's.
        pairs: seeds for which both have a score.
        difference: mean of first less second; None without pairs.
        p: of the paired t test; None with fewer than two pairs.
        sign_flips: p of the permutation test, which assumes less; None likewise.
        adjusted: ``p`` after Holm's correction for all tests of the comparison.
    """

    first: str
    second: str
    pairs: int
    difference: float | None
    p: float | None
    sign_flips: float | None
    adjusted: float | None = None


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Student's confidence interval of the mean of n independent normal values.

    mean ± t_{n-1, (1 + level)/2} s / √n, with s the standard deviation with divisor n - 1.

    Args:
        values: n numbers.
        level: how often such an interval holds the true mean, in (0, 1).

    Returns: its ends; None for fewer than two values, which tell nothing of their spread.

    >>> [round(end, 3) for end in interval([1.0, 2.0, 3.0])]
    [-0.484, 4.484]

    Source: Student, "The probable error of a mean", 1908.
    """
    from scipy.special import stdtrit

    if len(values) < 2:
        return None
    data = np.asarray(values, dtype=np.float64)
    reach = float(stdtrit(len(data) - 1, (1 + level) / 2)) * float(data.std(ddof=1)) / math.sqrt(len(data))
    mean = float(data.mean())
    return mean - reach, mean + reach


def paired_test(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Two-sided p value of the paired t test that two variants have the same mean.

    With the differences d_i = a_i - b_i of n pairs, t = mean(d) √n / s(d) is compared with Student's
    distribution of n - 1 degrees of freedom. It is exact for normal differences and the one test with power
    for three to six seeds: a test of ranks or signs cannot go below 2^(1-n), 0.0625 for five. Where all differences
    are equal there is no spread to compare with, and :func:`sign_flips` answers.

    Args:
        first: n scores.
        second: n scores of the same seeds, in the same order.

    Returns: p; None for fewer than two pairs.

    >>> round(paired_test([0.9, 0.8, 0.85], [0.7, 0.7, 0.7]), 4)
    0.0351

    Source: Student, "The probable error of a mean", 1908; for seeds: Bouthillier et al., "Accounting for variance in
    machine learning benchmarks", 2021.
    """
    from scipy.special import stdtr

    off = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    if len(off) < 2:
        return None
    spread = float(off.std(ddof=1))
    if spread <= 1e-12 * float(np.abs(off).max()):  # equal differences, up to rounding
        return sign_flips(first, second)
    t = abs(float(off.mean())) * math.sqrt(len(off)) / spread
    return float(2 * stdtr(len(off) - 1, -t))


def sign_flips(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Two-sided p value of the permutation test on paired differences.

    If the two variants do the same, each difference could as well have the other sign: p is the share of all
    2^n choices of signs whose mean is at least as far from zero as the one found. No distribution is assumed, so it
    stands beside the t test; its smallest value is 2^(1-n). Beyond 14 pairs 16,384 drawn choices stand for all.

    Args:
        first: n scores.
        second: n scores of the same seeds, in the same order.

    Returns: p; None for fewer than two pairs.

    >>> sign_flips([0.9, 0.8, 0.85], [0.7, 0.7, 0.7])
    0.25

    Source: Fisher, "The design of experiments", 1935, section 21.
    """
    off = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    n = len(off)
    if n < 2:
        return None
    found = abs(off.sum()) * (1 - 1e-9)  # sums in another order differ in their last bits
    if n <= _EXACT:
        signs = 1 - 2 * ((np.arange(1 << n)[:, None] >> np.arange(n)) & 1)
        return float((np.abs(signs @ off) >= found).mean())
    signs = np.random.default_rng(0).choice([-1, 1], size=(_SAMPLED, n))
    return float((1 + (np.abs(signs @ off) >= found).sum()) / (1 + _SAMPLED))


def holm(values: Sequence[float | None]) -> list[float | None]:
    """P values adjusted so that among m tests of true hypotheses any is rejected at most at the nominal rate.

    In ascending order p_(1) ≤ … ≤ p_(m), the adjusted value is max_{j ≤ i} min(1, (m - j + 1) p_(j)).

    Args:
        values: p values; None for tests that could not be made, which count for nothing.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    known = sorted((p, place) for place, p in enumerate(values) if p is not None)
    adjusted: list[float | None] = [None] * len(values)
    least = 0.0
    for done, (p, place) in enumerate(known):
        least = max(least, min(1.0, (len(known) - done) * p))
        adjusted[place] = least
    return adjusted
