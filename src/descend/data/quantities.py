"""Numbers, dates, times of day and durations of a column, as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

__all__ = ["shown_duration", "shown_quantities"]

_DAY = 86_400_000_000
_STEPS = ((_DAY, "D"), (60_000_000, "m"), (1_000_000, "s"), (1, "us"))
"""Microseconds of a step of the calendar, and its name."""

_LARGEST = 1e15
"""From here on numbers are written with an exponent."""


def shown_quantities(kind: str, values: Sequence[float], digits: int = 6, spread: float = 0.0) -> list[str]:
    """Return numbers of a column as people read them: dates, times of day, durations or numbers.

    Different values have different texts: dates within a few days have a time of day, and numbers that are close
    together compared with their size have more digits. An integer is written completely and without separators, because
    it may be a year or a code.

    Args:
        kind: kind of the column; ``date``, ``time`` and ``duration`` count days (dates since 1970-01-01).
        values: finite numbers.
        digits: significant digits of a number that is not an integer.
        spread: a difference between values of the column that has to be visible; 0 for that between ``values``.

    >>> shown_quantities("date", [20484.0, 20494.25]), shown_quantities("date", [20484.25, 20484.5])
    (['2026-01-31', '2026-02-10'], ['2026-01-31 06:00', '2026-01-31 12:00'])
    >>> shown_quantities("time", [0.25, 0.75]), shown_quantities("duration", [0.0625, 36.5])
    (['06:00', '18:00'], ['1 h 30 min', '36.5 days'])
    >>> shown_quantities("numeric", [2015.0, 2023.0]), shown_quantities("numeric", [0.125, 1700000000.25])
    (['2015', '2023'], ['0.125', '1700000000'])
    """
    spread = spread or max(values, default=0.0) - min(values, default=0.0)
    if kind in ("date", "time"):
        return _instants(kind, values, spread)
    if kind == "duration":
        return [shown_duration(value, digits, spread) for value in values]
    return [_number(value, digits, spread) for value in values]


def shown_duration(days: float, digits: int = 4, spread: float = 0.0) -> str:
    """Return a duration in suitable units.

    Args:
        days: the duration in days.
        digits: significant digits.
        spread: a difference that has to be visible, in days.

    >>> [shown_duration(days) for days in (256.34, 1.25, -0.004, 0.0001, 0.0)]
    ['256.3 days', '30 h', '-5 min 46 s', '8.64 s', '0 s']
    """
    if abs(days) >= 2:
        return f"{_number(days, digits, spread)} days"
    sign, seconds = "-" if days < 0 else "", abs(days) * 86400
    if seconds < 60 - 1e-9:
        return f"{sign}{_number(round(seconds, 9), digits, spread * 86400)} s"
    whole = round(seconds)
    if seconds < 3600 - 0.5:
        parts = [(whole // 60, "min"), (whole % 60, "s")]
    else:
        minutes = round(seconds / 60)
        parts = [(minutes // 60, "h"), (minutes % 60, "min")]
        if spread * 1440 < 2 and whole % 60:
            parts = [(whole // 3600, "h"), (whole % 3600 // 60, "min"), (whole % 60, "s")]
    return sign + " ".join(f"{count} {unit}" for count, unit in parts if count)


def _number(value: float, digits: int, spread: float) -> str:
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < _LARGEST:
        return str(int(value))
    exponent = math.floor(math.log10(abs(value)))
    if spread > 0:
        digits = min(17, digits + max(0, exponent - math.floor(math.log10(spread)) - 1))
    if not exponent > -5 or abs(value) >= _LARGEST:
        return f"{value:.{digits}g}"
    written = f"{float(f'{value:.{digits}g}'):.{max(0, digits - 1 - exponent)}f}"
    if abs(value) >= 10.0**digits:
        written = f"{value:.0f}"
    return written.rstrip("0").rstrip(".") if "." in written else written


_EPOCH = datetime(1970, 1, 1)
_PRECISION = {"m": "minutes", "s": "seconds", "us": "microseconds"}


def _instants(kind: str, values: Sequence[float], spread: float) -> list[str]:
    """Dates or times of day, to the coarsest of day, minute, second and microsecond at which they differ."""
    try:
        instants = [round(value * _DAY) for value in values]
        exact = [_EPOCH + timedelta(microseconds=instant) for instant in instants]
        texts: list[str] = []
        for step, name in _STEPS[kind == "time" :]:
            whole = all(instant % step == 0 for instant in instants)
            texts = [
                one.date().isoformat() if name == "D" else one.isoformat(" ", _PRECISION[name])
                for one in exact
            ]
            if whole or spread * _DAY >= 2 * step:
                break
    except (OverflowError, ValueError):
        return [_number(value, 6, spread) for value in values]
    return [text.partition(" ")[2] for text in texts] if kind == "time" else texts
