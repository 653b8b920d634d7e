"""Statistics of a comparison: confidence intervals, paired tests, and the correction for multiple tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["PairedTest", "holm", "interval", "paired_test", "sign_flips"]

Array = np.ndarray[Any, Any]

_EXACT = 14
"""Up to this many pairs, the permutation test enumerates all signs; beyond, it samples them."""

_SAMPLED = 1 << _EXACT


@dataclass(frozen=True)
class PairedTest:
    """A paired test of two variants.

    Args:
        first: name of a variant.
        second: name of another variant.
        pairs: number of seeds for which both have a score.
        difference: mean of first minus second; None without pairs.
        p: p-value of the paired t-test; None for fewer than two pairs.
        sign_flips: p-value of the sign-flip permutation test, which assumes less; None for fewer than two pairs.
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
    """Return Student's confidence interval of the mean of n independent normal values.

    mean ± t_{n-1, (1 + level)/2} s / √n, where s is the standard deviation with divisor n - 1.

    Args:
        values: n numbers.
        level: confidence level, in (0, 1).

    Returns:
        The bounds; None for fewer than two values, which do not determine a standard deviation.

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
    """Return the two-sided p-value of the paired t-test that two variants have the same mean.

    With the differences d_i = a_i - b_i of n pairs, t = mean(d) √n / s(d) is compared with Student's distribution with
    n - 1 degrees of freedom. The test is exact for normal differences, and the only one with power for three to six
    seeds: a rank or sign test cannot go below 2^(1-n), 0.0625 for five seeds. If all differences are equal, s(d) = 0
    and the p-value of :func:`sign_flips` is returned.

    Args:
        first: n scores.
        second: n scores of the same seeds, in the same order.

    Returns:
        The p-value; None for fewer than two pairs.

    >>> round(paired_test([0.9, 0.8, 0.85], [0.7, 0.7, 0.7]), 4)
    0.0351

    Source: Student, "The probable error of a mean", 1908; for seeds: Bouthillier et al., "Accounting for variance in
    machine learning benchmarks", 2021.
    """
    from scipy.special import stdtr

    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    n = len(differences)
    if n < 2:
        return None
    std = float(differences.std(ddof=1))
    if std <= 1e-12 * float(np.abs(differences).max()):  # equal differences, up to rounding
        return sign_flips(first, second)
    t = abs(float(differences.mean())) * math.sqrt(n) / std
    return float(2 * stdtr(n - 1, -t))


def sign_flips(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return the two-sided p-value of the sign-flip permutation test on paired differences.

    Under the null hypothesis, each difference is as likely to have the opposite sign: p is the share of all 2^n sign
    patterns whose mean is at least as far from zero as the observed one. No distribution is assumed, which complements
    the t-test; the smallest possible value is 2^(1-n). Beyond 14 pairs, 16,384 random sign patterns are used.

    Args:
        first: n scores.
        second: n scores of the same seeds, in the same order.

    Returns:
        The p-value; None for fewer than two pairs.

    >>> sign_flips([0.9, 0.8, 0.85], [0.7, 0.7, 0.7])
    0.25

    Source: Fisher, "The design of experiments", 1935, section 21.
    """
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    n = len(differences)
    if n < 2:
        return None
    observed = abs(differences.sum()) * (1 - 1e-9)  # sums in another order differ in their last bits
    if n <= _EXACT:
        signs = 1 - 2 * ((np.arange(1 << n)[:, None] >> np.arange(n)) & 1)
        return float((np.abs(signs @ differences) >= observed).mean())
    signs = np.random.default_rng(0).choice([-1, 1], size=(_SAMPLED, n))
    return float((1 + (np.abs(signs @ differences) >= observed).sum()) / (1 + _SAMPLED))


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values for multiple tests by Holm's method, which controls the family-wise error rate.

    In ascending order p_(1) ≤ … ≤ p_(m), the adjusted value is max_{j ≤ i} min(1, (m - j + 1) p_(j)).

    Args:
        values: p-values; None for tests without a result, which do not count as tests.

    Returns:
        The adjusted p-values, in the order of ``values``.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    ordered = sorted((p, index) for index, p in enumerate(values) if p is not None)
    adjusted: list[float | None] = [None] * len(values)
    running_max = 0.0
    for rank, (p, index) in enumerate(ordered):
        running_max = max(running_max, min(1.0, (len(ordered) - rank) * p))
        adjusted[index] = running_max
    return adjusted
