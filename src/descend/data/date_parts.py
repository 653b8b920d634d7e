"""Parts of dates and times as network inputs: hour, weekday, month and others, as sine and cosine of their phase.

An instant is one number, the days since 1970-01-01, from which no network learns a weekend or an afternoon. Each part
is a position in a cycle, t in [0, 1), and enters the network as (sin 2 pi t, cos 2 pi t), so that Sunday is next to Monday and
December next to January. The parts are computed from the number by arithmetic, within an exported model too; the
calendar is the proleptic Gregorian one.

Reference: E. G. Richards, "Calendars", in Explanatory Supplement to the Astronomical Almanac (3rd ed., 2013), chapter 15.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["civil", "cyclic_inputs", "phases", "sine_and_cosine"]

_TURN = (6.28125, float.fromhex("0x1.fb54440000000p-10"), float.fromhex("0x1.68c0000000000p-37"))
"""Three numbers of single precision whose sum is 2 pi: the ONNX exporter writes factors in single precision."""
_MILLISECONDS = 86_400_000.0  # of a day
_PERIODS = {"second": 60_000.0, "minute": 3_600_000.0, "hour": _MILLISECONDS}


def civil(day: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return year, month and day of the month for days since 1970-01-01.

    Years are counted from March, so that a leap day is the last day of its year; 400 years have 146,097 days.

    Args:
        day: integers in float64, of any shape.

    >>> [int(part) for part in civil(torch.tensor(-1.0, dtype=torch.float64))]
    [1969, 12, 31]
    """
    since = day + 719_468.0  # since 0000-03-01
    era = torch.floor(since / 146_097.0)
    day_of_era = since - era * 146_097.0
    leap_days = (
        torch.floor(day_of_era / 1_460.0)
        - torch.floor(day_of_era / 36_524.0)
        + torch.floor(day_of_era / 146_096.0)
    )
    year_of_era = torch.floor((day_of_era - leap_days) / 365.0)
    start = 365.0 * year_of_era + torch.floor(year_of_era / 4.0) - torch.floor(year_of_era / 100.0)
    day_of_year = day_of_era - start
    since_march = torch.floor((5.0 * day_of_year + 2.0) / 153.0)
    day_of_month = day_of_year - torch.floor((153.0 * since_march + 2.0) / 5.0) + 1.0
    month = torch.where(since_march < 10.0, since_march + 3.0, since_march - 9.0)
    year = year_of_era + 400.0 * era + torch.where(month <= 2.0, 1.0, 0.0).to(day.dtype)
    return year, month, day_of_month


def phases(days: Tensor, parts: Sequence[str]) -> Tensor:
    """Return the positions of instants in cycles, each in [0, 1).

    ``hour`` is the time of day; ``minute`` and ``second`` are the time within an hour and a minute, with fractions.
    ``weekday`` is k/7 from Monday on, ``month`` k/12 from January on, ``day_of_month`` k/n in a month of n days, and
    ``day_of_year`` k/365 or k/366. An instant is rounded to milliseconds.

    Args:
        days: days since 1970-01-01, or fractions of a day, float64 (n,).
        parts: some of :data:`descend.data.date_reading.CYCLES`.

    Returns: float64 (n, k) for k parts.

    >>> phases(torch.tensor([0.25, 1.5], dtype=torch.float64), ["hour", "weekday"])[:, 0].tolist()
    [0.25, 0.5]
    """
    instant = torch.round(days * _MILLISECONDS)
    day = torch.floor(instant / _MILLISECONDS)
    within = instant - day * _MILLISECONDS
    positions = {
        part: (within - torch.floor(within / period) * period) / period
        for part, period in _PERIODS.items()
        if part in parts
    }
    if "weekday" in parts:
        monday = day + 3.0  # 1970-01-01 was a Thursday
        positions["weekday"] = (monday - torch.floor(monday / 7.0) * 7.0) / 7.0
    if set(parts) & {"month", "day_of_month", "day_of_year"}:
        year, month, day_of_month = civil(day)
        positions["month"] = (month - 1.0) / 12.0
        leap = _divisible(year, 4.0) - _divisible(year, 100.0) + _divisible(year, 400.0)
        positions["day_of_month"] = (day_of_month - 1.0) / _length(month, leap)
        shift = torch.where(month <= 2.0, torch.zeros_like(leap), leap - 2.0)
        day_of_year = torch.floor((367.0 * month - 362.0) / 12.0) + shift + day_of_month - 1.0
        positions["day_of_year"] = day_of_year / (365.0 + leap)
    return torch.stack([positions[part] for part in parts], dim=1)


def _divisible(number: Tensor, divisor: float) -> Tensor:
    """Return 1 where a number is divisible, else 0."""
    return torch.where(torch.floor(number / divisor) * divisor == number, 1.0, 0.0).to(number.dtype)


def _length(month: Tensor, leap: Tensor) -> Tensor:
    """Return the number of days of a month."""
    position = month - 3.0 + torch.where(month <= 2.0, 12.0, 0.0).to(month.dtype)  # 0 is March
    length = torch.floor((153.0 * (position + 1.0) + 2.0) / 5.0) - torch.floor((153.0 * position + 2.0) / 5.0)
    return torch.where(month == 2.0, 28.0 + leap, length)


def cyclic_inputs(days: Tensor, parts: Sequence[str]) -> Tensor:
    """Return sine and cosine of the phase of each part.

    Args:
        days: days since 1970-01-01 with NaN for missing values, float64 (n,).
        parts: some of :data:`descend.data.date_reading.CYCLES`.

    Returns: float32 (n, 2 k) for k parts: sine and cosine of the first part, of the second, and so on. All are 0 for a
        missing value.

    >>> cyclic_inputs(torch.tensor([0.0], dtype=torch.float64), ["hour"]).tolist()
    [[0.0, 1.0]]
    """
    missing = torch.isnan(days)
    known = torch.where(missing, torch.zeros_like(days), days)
    pairs = torch.stack(sine_and_cosine(phases(known, parts)), dim=2).flatten(1).to(torch.float32)
    return torch.where(missing.unsqueeze(1), torch.zeros_like(pairs), pairs)


def sine_and_cosine(position: Tensor) -> tuple[Tensor, Tensor]:
    """Return sin 2 pi t and cos 2 pi t, from sums and products only.

    The results of libraries for sine and cosine differ in the last digit; an exported model must not. An angle is moved
    by quarters of the circle into [-pi/4, pi/4], where Taylor polynomials of degree 13 and 12 are exact to 1e-12.

    Args:
        position: t in [0, 1), float64.

    >>> [float(one) for one in sine_and_cosine(torch.tensor(0.0, dtype=torch.float64))]
    [0.0, 1.0]
    """
    quarter = torch.round(position * 4.0)
    rest = position - quarter / 4.0
    angle = rest * _TURN[0] + rest * _TURN[1] + rest * _TURN[2]
    square = angle * angle
    sine = _nested(square, (6.0, 20.0, 42.0, 72.0, 110.0, 156.0)) * angle
    cosine = _nested(square, (2.0, 12.0, 30.0, 56.0, 90.0, 132.0))
    turned = (quarter == 1.0) | (quarter == 3.0)
    upper, right = quarter <= 1.0, (quarter == 0.0) | (quarter >= 3.0)
    first = torch.where(turned, cosine, sine)
    second = torch.where(turned, sine, cosine)
    first = torch.where(upper | (quarter == 4.0), first, -first)
    return first, torch.where(right, second, -second)


def _nested(square: Tensor, divisors: Sequence[float]) -> Tensor:
    """Return 1 - x/a (1 - x/b (1 - x/c ...)) for x = ``square``."""
    result = torch.ones_like(square)
    for divisor in reversed(divisors):
        result = 1.0 - square / divisor * result
    return result
