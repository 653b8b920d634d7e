"""Dates and times of day: from the cells of a column to instants and days.

A date is read by its form: ISO 8601 (``2026-01-31``, ``20260131``), with the English name of the month
(``31 Jan 2026``, ``Jan 31, 2026``), a month (``2026-01``, ``Jan 2026``), or three numbers of which the year is last
(``31.1.2026``), whose order must be known. A time of day (``14:30``, ``14:30:05.25``, ``2:30 PM``) may follow, and a
time zone (``Z``, ``UTC``, ``+01``, ``+0100``, ``+01:00``). Two-digit years are 1969 to 2068.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from descend.data.date_patterns import by_pattern, digits_of
from descend.data.date_words import MONTHS, ZONES, rewritten

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "DAY",
    "EXCEL",
    "LOOSE",
    "ORDERS",
    "OWN",
    "PLAIN",
    "UNITS",
    "Cells",
    "numbers_of",
    "parse_cells",
    "parse_dates",
    "parse_instants",
    "parse_times",
]

DAY = 86_400_000_000
"""Microseconds of a day."""
ORDERS = {"day-first": "dmy", "month-first": "mdy", "year-first": "ymd"}
"""Orders of day, month and year in a date of three numbers."""
EXCEL = "excel"
"""The unit of days since 1899-12-30, the dates of Excel."""
UNITS = {
    "days": DAY,
    EXCEL: DAY,
    "seconds": 10**6,
    "milliseconds": 10**3,
    "microseconds": 1,
    "nanoseconds": 1e-3,
}
"""Microseconds of the units in which numbers count the time since 1970-01-01, those of Excel since 1899-12-30."""
_EXCEL_DAYS = 25_569  # from 1899-12-30 to 1970-01-01
OWN = "own"
"""The zone of a column in which each instant has a time zone: they are converted to UTC."""
PLAIN = "none"
"""The zone of a column in which no instant has a time zone."""
LOOSE = frozenset({"month", "digits", "short", "month name"})
"""Forms of dates that other strings have too: a column has such dates only if each string has the form of a date."""

_CLOCK = (
    r"(?P<h>[0-9]{1,2})[:h](?P<mi>[0-9]{2})(?::(?P<s>[0-9]{2})(?:[.,](?P<f>[0-9]{1,9}))?)?(?:\s?(?P<ap>[ap])\.?m\.?)?"
    r"|(?P<h2>[0-9]{1,2})\s?(?P<ap2>[ap])\.?m\.?"
)
_ZONE = (
    rf"(?:\s?(?P<z>z|(?:utc|gmt)?[+-][0-9]{{1,2}}(?::?[0-9]{{2}})?(?::[0-9]{{2}})?|utc|gmt|{'|'.join(ZONES)})"
    r"(?:\s?[\[(][^\])]*[\])])?)?"
)
_BASIC = r"(?P<h3>[0-9]{2})(?P<mi3>[0-9]{2})?(?P<s3>[0-9]{2})?"
_CELL = rf"^(?P<date>.*?[0-9])(?:(?:(?:t|[\s,;]+(?:at\s+)?|:)(?:{_CLOCK})|t{_BASIC}){_ZONE})?$"
_NAME = rf"(?P<name>{'|'.join(sorted(MONTHS, key=len, reverse=True))})\.?"
_SEPARATOR = r"(?:-|/|\.\s?)"
_FORMS = {
    "iso": r"^(?P<y>[0-9]{4})[-/.](?P<m>[0-9]{1,2})[-/.](?P<d>[0-9]{1,2})$",
    "numbers": rf"^(?P<p>[0-9]{{1,2}}){_SEPARATOR}(?P<q>[0-9]{{1,2}}){_SEPARATOR}(?P<r>[0-9]{{4}})$",
    "short": rf"^(?P<p>[0-9]{{1,2}}){_SEPARATOR}(?P<q>[0-9]{{1,2}}){_SEPARATOR}(?P<r>[0-9]{{2}})$",
    "named": rf"^(?P<d>[0-9]{{1,2}})(?:st|nd|rd|th|\.)?[\s/-]*{_NAME},?[\s/-]*(?P<y>[0-9]{{4}}|[0-9]{{2}})$",
    "name first": rf"^{_NAME}[\s/-]*(?P<d>[0-9]{{1,2}})(?:st|nd|rd|th)?,?[\s/-]+(?P<y>[0-9]{{4}})$",
    "name second": rf"^(?P<y>[0-9]{{4}})[\s/-]*{_NAME}[\s/-]*(?P<d>[0-9]{{1,2}})$",
    "named month": rf"^{_NAME},?[\s/-]*(?P<y>[0-9]{{4}})$",
    "digits": r"^(?P<y>[0-9]{4})(?P<m>[0-9]{2})(?P<d>[0-9]{2})?$",
    "month": r"^(?P<y>[0-9]{4})[-/](?P<m>[0-9]{2})$",
}
_REWRITTEN = {
    r"^(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,?\s+": "",
    r"^([0-9]{8})([0-9]{2})([0-9]{2})([0-9]{2})$": "${1}t${2}:${3}:${4}",
    r"^([0-9]{8})([0-9]{2})([0-9]{2})$": "${1}t${2}:${3}",
    r"^([a-z]{3})\s+([0-9]{1,2})\s+([0-9]{1,2}:[0-9]{2}:[0-9]{2})((?:\s+(?:utc|gmt|[+-][0-9]{4}))?)\s+([0-9]{4})$": (
        "${1} ${2} ${5} ${3}${4}"
    ),
}
"""Replacements that bring the parts of a date into the usual order."""
_PIVOT = 69  # two-digit years from here on are in the 20th century, as in POSIX
_TIME = rf"^t?(?:{_CLOCK})(?:\s?uhr)?$"


@dataclass(frozen=True)
class Cells:
    """The parts of the dates in a column of strings.

    Args:
        form: the form of the date in each cell, one of ``iso``, ``numbers``, ``short`` (numbers with a year of two
            digits), ``named``, ``digits`` and ``month``; null if the cell contains no date.
        parts: integers ``y``, ``m``, ``d``, or ``p``, ``q``, ``r`` of three numbers whose order must be known; the
            ``clock`` time and the ``offset`` from UTC in microseconds, the offset null without a time zone; and the
            ``instant`` in microseconds since 1970-01-01 if it is known.
    """

    form: pl.Series
    parts: pl.DataFrame

    def instants(self, order: str = "") -> tuple[pl.Series, pl.Series]:
        """Return microseconds since 1970-01-01, null where there is no such date, and the offsets from UTC.

        Args:
            order: the order of three numbers, one of :data:`ORDERS`, or ``""`` if it is not known.
        """
        import polars as pl

        if self.parts["instant"].null_count() == self.form.null_count():
            return self.parts["instant"], self.parts["offset"]
        own = dict(zip(ORDERS.get(order, ""), "pqr", strict=False))
        year, month, day = (pl.coalesce(name, own[name]) if own else pl.col(name) for name in "ymd")
        year = pl.when(pl.lit(self.form) == "short").then(_full_year(year)).otherwise(year)
        digits = ((year, 4), (month, 2), (day, 2))
        date = pl.concat_str([part.cast(pl.String).str.zfill(size) for part, size in digits], separator="-")
        days = date.str.to_date("%Y-%m-%d", strict=False).cast(pl.Int64)
        instants = self.parts.select(pl.coalesce("instant", days * DAY + pl.col("clock")).alias("instant"))
        return instants.to_series(), self.parts["offset"]

    def filled(self, others: Cells) -> Cells:
        """Return these cells, with other ones where they contain no date."""
        known = self.form.is_not_null()
        parts = [one.zip_with(known, others.parts[one.name]) for one in self.parts]
        return Cells(self.form.zip_with(known, others.form), self.parts.with_columns(parts))


def parse_cells(strings: pl.Series) -> Cells:
    """Find the parts of the dates in a column of strings.

    >>> import polars as pl
    >>> cells = parse_cells(pl.Series(["2026-01-31 14:30", "31.1.2026", "soon"]))
    >>> cells.form.to_list(), cells.parts.select("p", "q", "r").rows()[1]
    (['iso', 'numbers', None], (31, 1, 2026))
    """
    import polars as pl

    usual, offset = _usual(strings)
    rest = (usual.is_null() & strings.is_not_null()).arg_true()
    lowercase = strings.gather(rest).str.to_lowercase()
    others = _other_cells(lowercase)
    left = (others.form.is_null() & lowercase.is_not_null()).arg_true()
    if len(left):
        again = _other_cells(rewritten(lowercase.gather(left)).str.strip_chars())
        others = others.filled(_spread(again, left, len(rest)))
    others = _spread(others, rest, len(strings))
    form = others.form.set(usual.is_not_null(), "iso")
    return Cells(
        form, others.parts.with_columns(pl.coalesce("offset", offset).alias("offset"), instant=usual)
    )


def _spread(cells: Cells, rows: pl.Series, size: int) -> Cells:
    """Return the cells of a column of ``size`` rows from those of some of its rows."""
    import polars as pl

    def spread(values: pl.Series) -> pl.Series:
        empty = pl.Series(values.name, [None], dtype=values.dtype).new_from_index(0, size)
        return empty.scatter(rows, values)

    return Cells(spread(cells.form), pl.DataFrame([spread(part) for part in cells.parts]))


def _usual(strings: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return microseconds since 1970-01-01 of the most frequent forms, and 0 if they have an offset (then they are UTC)."""
    import polars as pl

    strings = strings.str.replace(" ", "T", literal=True)
    instants = pl.Series("instant", [None], dtype=pl.Int64).new_from_index(0, len(strings))
    offset = instants
    for form in ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S%.f%#z"):
        if instants.null_count() > strings.null_count():
            parsed = strings.str.to_datetime(form, strict=False, time_unit="us").cast(pl.Int64)
            added = instants.is_null() & parsed.is_not_null()
            instants = instants.zip_with(~added, parsed)
            offset = offset.set(added, 0) if form.endswith("z") else offset
    return instants, offset


def _other_cells(strings: pl.Series) -> Cells:
    import polars as pl

    for pattern, replacement in _REWRITTEN.items():
        strings = strings.str.replace(pattern, replacement)
    cells = strings.str.extract_groups(_CELL).struct.unnest()
    rest = cells["date"]
    forms: list[pl.Series] = []
    found: list[pl.DataFrame] = []
    for form, pattern in _FORMS.items():
        if rest.null_count() == len(rest):
            break
        groups = rest.str.extract_groups(pattern).struct.unnest()
        hit = groups.select(pl.any_horizontal(pl.all().is_not_null())).to_series()
        if hit.any():
            rest = rest.set(hit, None)
            own = "named" if "name" in form else form
            forms.append(pl.select(pl.when(hit).then(pl.lit(own))).to_series())
            found.append(_date_numbers(groups, hit))
    parts = cells.select(**_coalesced(found), clock=_clock(), offset=_offset())
    return Cells(pl.select(pl.coalesce(forms)).to_series() if forms else parts["y"].cast(pl.String), parts)


def _coalesced(found: list[pl.DataFrame]) -> dict[str, pl.Series | pl.Expr]:
    import polars as pl

    if not found:
        return dict.fromkeys("ymdpqr", pl.lit(None, dtype=pl.Int64))
    return {
        name: pl.select(pl.coalesce([one[name] for one in found])).to_series() for name in found[0].columns
    }


def _date_numbers(groups: pl.DataFrame, hit: pl.Series) -> pl.DataFrame:
    """Return the integers of a form; a month without a day is its first day."""
    import polars as pl

    def number(name: str) -> pl.Expr:
        return (pl.col(name) if name in groups.columns else pl.lit(None)).cast(pl.Int64)

    numbers = {name: number(name) for name in "ymdpqr"}
    if "name" in groups.columns:
        numbers["m"] = pl.col("name").replace_strict(MONTHS, default=None, return_dtype=pl.Int64)
    if "name" in groups.columns:
        numbers["y"] = (
            pl.when(pl.col("y").str.len_bytes() == 2).then(_full_year(number("y"))).otherwise(number("y"))
        )
    if "p" not in groups.columns:
        numbers["d"] = pl.when(pl.lit(hit)).then(numbers["d"].fill_null(1))
    return groups.select(**numbers)


def _full_year(year: pl.Expr) -> pl.Expr:
    import polars as pl

    return year + pl.when(year < _PIVOT).then(2000).otherwise(1900)


def _clock() -> pl.Expr:
    """Return the microseconds since midnight of the groups of a clock time, 0 without one, null if there is no such."""
    import polars as pl

    def number(*names: str) -> pl.Expr:
        return pl.coalesce(names).cast(pl.Int64).fill_null(0)

    half = pl.coalesce("ap", "ap2")
    hour, minute, second = number("h", "h2", "h3"), number("mi", "mi3"), number("s", "s3")
    twelve = hour % 12 + pl.when(half == "p").then(12).otherwise(0)
    fraction = pl.col("f").str.pad_end(9, "0").str.head(6).cast(pl.Int64).fill_null(0)
    total = pl.when(half.is_null()).then(hour).otherwise(twelve) * 3600 + minute * 60 + second
    exists = (minute < 60) & (second < 61) & (total <= 86_400)
    exists &= pl.when(half.is_null()).then(hour <= 24).otherwise((hour >= 1) & (hour <= 12))
    return pl.when(exists).then(total * 10**6 + fraction)


def _offset() -> pl.Expr:
    """Return the microseconds from UTC of the group ``z``, null without a zone."""
    import polars as pl

    digits = pl.col("z").str.replace_all(":", "").str.extract(r"(\d+)$").fill_null("0")
    padded = (
        pl.when(digits.str.len_bytes() % 2 == 1)
        .then(pl.lit("0") + digits)
        .otherwise(digits)
        .str.pad_end(6, "0")
    )
    hour, minute, second = (padded.str.slice(at, 2).cast(pl.Int64) for at in (0, 2, 4))
    size = (hour * 3600 + minute * 60 + second) * 10**6
    sign = pl.when(pl.col("z").str.contains("-", literal=True)).then(-1).otherwise(1)
    named = pl.col("z").replace_strict(ZONES, default=None, return_dtype=pl.Int64) * 3600 * 10**6
    return pl.when(pl.col("z").is_not_null()).then(pl.coalesce(named, sign * size))


def parse_instants(column: pl.Series, form: str = "", zone: str = "") -> tuple[pl.Series, pl.Series]:
    """Parse a tidied column as Datetime without a time zone; also return a mask of the values that are not such dates.

    Args:
        column: strings, instants, or numbers such as 20260131.
        form: one of :data:`ORDERS` for dates of three numbers, which are otherwise no dates; a pattern of ``strptime``
            for strings (``%d.%m.%Y``); or one of :data:`UNITS` for numbers that count from 1970-01-01.
        zone: the time zone of the result. ``""``: UTC, and instants without a zone are taken as such. ``own``: UTC, and
            each instant must have a zone. ``none``: no instant may have a zone. The name of a zone such as
            ``Europe/Paris``: its local time, and instants without a zone are taken as such.

    >>> import polars as pl
    >>> parse_instants(pl.Series(["31.1.2026 14:30"]), "day-first")[0].to_list()
    [datetime.datetime(2026, 1, 31, 14, 30)]
    """
    import polars as pl

    instants, offset = _local(column, form)
    if zone == PLAIN:
        instants = instants.set(offset.is_not_null(), None)
    elif zone == OWN:
        instants = (instants - offset).cast(pl.Int64)
    else:
        instants = instants - offset.fill_null(0)
    result = instants.cast(pl.Datetime("us"))
    if zone not in ("", PLAIN, OWN):
        there = result.dt.replace_time_zone("UTC").dt.convert_time_zone(zone).dt.replace_time_zone(None)
        result = result.zip_with(offset.is_null(), there)
    return result.alias(column.name), column.is_not_null() & result.is_null()


def _local(column: pl.Series, form: str) -> tuple[pl.Series, pl.Series]:
    """Return the microseconds of the clock time since 1970-01-01, and the offset from UTC (null without a zone)."""
    import polars as pl

    nothing = pl.Series(column.name, [None], dtype=pl.Int64).new_from_index(0, len(column))
    if column.dtype == pl.Datetime:
        instants = column.cast(pl.Int64)
        zoned = getattr(column.dtype, "time_zone", None) is not None
        return instants, instants * 0 if zoned else nothing
    if form in UNITS:
        numbers = numbers_of(column) - (_EXCEL_DAYS if form == EXCEL else 0)
        return (numbers * UNITS[form]).round().cast(pl.Int64, strict=False), nothing
    if column.dtype in (pl.Float64, pl.Int128) and "%" in form:
        column = digits_of(column, form)
    if column.dtype == pl.String and "%" in form:
        parsed = by_pattern(column, form)
        return parsed.cast(pl.Int64), parsed.cast(pl.Int64) * 0 if "%z" in form else nothing
    if column.dtype == pl.String:
        return parse_cells(column).instants(form)
    if column.dtype in (pl.Float64, pl.Int128):
        cells = parse_cells(column.cast(pl.Int64, strict=False).cast(pl.String))
        instants, offset = cells.instants(form)
        is_date = (cells.form == "digits") & (column == column.cast(pl.Int64, strict=False))
        return instants.set(~is_date.fill_null(False), None), offset
    return nothing, nothing


def numbers_of(column: pl.Series) -> pl.Series:
    """Return the numbers of a tidied column as Float64, null where there is none."""
    import polars as pl

    if column.dtype.is_numeric() or column.dtype == pl.String:
        return column.cast(pl.Float64, strict=False).fill_nan(None)
    return pl.Series(column.name, [None], dtype=pl.Float64).new_from_index(0, len(column))


def parse_dates(column: pl.Series, form: str = "", zone: str = "") -> tuple[pl.Series, pl.Series]:
    """Parse a tidied column as days since 1970-01-01; also return a mask of the values that are not dates.

    The arguments are those of :func:`parse_instants`.
    """
    import polars as pl

    instants, invalid = parse_instants(column, form, zone)
    return instants.cast(pl.Int64).cast(pl.Float64) / DAY, invalid


def parse_times(column: pl.Series, form: str = "") -> tuple[pl.Series, pl.Series]:
    """Parse a tidied column as times of day in days, from 0 to below 1; also return a mask of the other values.

    Args:
        column: strings such as ``14:30`` and ``2:30 PM``, instants, or fractions of a day.
        form: a pattern of ``strptime``, or ``""``.

    >>> import polars as pl
    >>> parse_times(pl.Series(["06:00", "6 pm", "25:00"]))[0].to_list()
    [0.25, 0.75, None]
    """
    import polars as pl

    if column.dtype == pl.Datetime:
        days = column.cast(pl.Int64).cast(pl.Float64) / DAY
        days = days - days.floor()
    elif column.dtype in (pl.Float64, pl.Int128) and "%" in form:
        return parse_times(digits_of(column, form), form)
    elif column.dtype == pl.String and "%" in form:
        days = column.str.to_time(form, strict=False).cast(pl.Int64).cast(pl.Float64) / (1000 * DAY)
    elif column.dtype == pl.String:
        groups = column.str.to_lowercase().str.extract_groups(_TIME).struct.unnest()
        groups = groups.with_columns(h3=pl.lit(None), mi3=pl.lit(None), s3=pl.lit(None))
        days = groups.select(
            pl.when(pl.coalesce("h", "h2").is_not_null()).then(_clock().cast(pl.Float64) / DAY)
        ).to_series()
    else:
        days = numbers_of(column)
    days = days.set(((days < 0) | (days >= 1)).fill_null(False), None).alias(column.name)
    return days, column.is_not_null() & days.is_null()
