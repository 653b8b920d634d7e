"""Numbers as people write them: ``1,234.50``, ``1.234,50``, ``1 234,5``, ``1'234.50``, ``$3.10``, ``12 %``, ``(3.10)``.

``1.250`` is 1250 in a table that also contains ``1.234,56``, and 1.25 in one that contains ``0.5``. The decimal mark is
therefore a property of the whole table: :func:`find_decimal` finds it from all columns, and refuses a table whose cells
contradict each other or can be read either way. :func:`parse` then converts a column, or shows the cells that are not
numbers in this format.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from descend.data.messages import listed
from descend.errors import DataError
from descend.interface import setting

if TYPE_CHECKING:
    import polars as pl

__all__ = ["CODE", "MOSTLY", "Mark", "different_units", "find_decimal", "has_codes", "integers", "parse",
           "written_otherwise"]  # fmt: skip

Mark = Literal["point", "comma"]

MOSTLY = 0.8
"""Share of numbers above which the other values of a column are taken for mistakes."""
CODE = r"^\+?0[0-9]+(?:[.,][0-9]*)?$"
"""Pattern of digits with a leading zero, such as the postal code 01001, which a number does not keep."""

_SPACE = "[ \u00a0\u2007\u2009\u202f]"  # spaces that separate thousands, some of them not breaking
_CURRENCIES = (
    "AUD|BRL|CAD|CHF|CNY|CZK|DKK|EUR|GBP|HKD|HUF|IDR|ILS|INR|JPY|KRW|MXN|MYR|NOK|NZD|PHP|PLN|RON|RUB|SEK|SGD|THB|TRY|"
    "TWD|UAH|USD|VND|ZAR"
)
_UNIT = rf"(?:US|C|CA|A|AU|R|HK|NZ|S)?\$|\p{{Sc}}|%|‰|{_CURRENCIES}|Fr\.|kr\.?|zł|Kč|Ft|lei"
_SAME_UNIT = {"€": "EUR", "£": "GBP", "US$": "USD", "CA$": "C$", "AU$": "A$", "kr.": "kr"}
_PERCENT = ("%", "‰")  # a number without this unit would have another magnitude
_DIGITS = rf"[0-9.,](?:(?:[0-9.,'’]|{_SPACE})*[0-9.,])?(?:[eE][+-]?[0-9]+)?"
_CELL = (
    r"^(?<open>\()?\s*(?<sign>[+-])?\s*"
    rf"(?<before>{_UNIT})?\s*(?<inner>[+-])?(?<digits>{_DIGITS})\s*(?<after>{_UNIT})?"
    r"\s*(?<close>\))?(?<last>-)?$"
)


def _grammar(mark: str, thousands: str, lakhs: str = "") -> str:
    groups = "|".join(rf"[1-9][0-9]{{0,2}}(?:{one}[0-9]{{3}})+" for one in (thousands, _SPACE, "'", "’"))
    integer = rf"(?:[0-9]+|{groups}{lakhs})"
    return rf"^[+-]?(?:{integer}(?:{mark}[0-9]*)?|{mark}[0-9]+)(?:[eE][+-]?[0-9]+)?$"


_GRAMMARS: dict[Mark, str] = {
    "point": _grammar(r"\.", ",", "|[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3}"),
    "comma": _grammar(",", r"\."),
}
_MARKS: dict[Mark, str] = {"point": ".", "comma": ","}
_OTHER: dict[Mark, Mark] = {"point": "comma", "comma": "point"}
_THOUSANDS = {"point": rf"[,'’]|{_SPACE}", "comma": rf"[.'’]|{_SPACE}"}
_THREE_DIGITS = r"^[+-]?[1-9][0-9]{0,2}\.[0-9]{3}$"  # 1.250 is 1.25 or 1250


@dataclass(frozen=True)
class _Core:
    """The numbers of a column without their units: strings of digits and marks with a sign, null where there is none."""

    digits: pl.Series
    units: pl.Series


def _core(cells: pl.Series) -> _Core:
    import polars as pl

    parts = _plain_characters(cells).str.extract_groups(_CELL).struct.unnest()
    signs = [parts[name] == "-" for name in ("sign", "inner", "last")]
    negative = [one.fill_null(False) for one in signs]
    parentheses = parts["open"].is_not_null()
    count = sum((one.cast(pl.Int8) for one in (*negative, parentheses)), start=pl.Series([0], dtype=pl.Int8))
    valid = (
        (parentheses == parts["close"].is_not_null())
        & (parts["before"].is_null() | parts["after"].is_null())
        & (parts["sign"].is_null() | parts["inner"].is_null())
        & (count <= 1)
    )
    sign = pl.Series(["", "-"]).gather((count > 0).cast(pl.UInt32))
    digits = (sign + parts["digits"]).set(~valid, None).alias(cells.name)
    units = pl.select(pl.coalesce(parts["before"], parts["after"], pl.lit(""))).to_series()
    return _Core(digits, units.replace(_SAME_UNIT))


def _plain_characters(cells: pl.Series) -> pl.Series:
    """Return cells with ASCII digits and minus signs; a dash in place of cents (``78,-``) is left out."""
    if cells.str.contains(r"[\p{Nd}--0-9]").any():
        cells = cells.str.replace_many(_ascii_characters())
    return cells.str.replace_all("[−–—﹣－]", "-").str.replace(
        r"([0-9])[.,]--?(\s|\)|\p{L}|\p{Sc}|$)", "${1}${2}"
    )


@functools.cache
def _ascii_characters() -> dict[str, str]:
    """Return the digit of each decimal digit of another script, such as the Arabic ٣, and the marks of Arabic."""
    others = filter(str.isdecimal, map(chr, range(128, 0x10000)))
    return {one: str(unicodedata.digit(one)) for one in others} | {"٫": ".", "٬": ","}


def has_codes(cells: pl.Series) -> bool:
    """Return whether some strings are digits with a leading zero, and the others are digits too, perhaps after a plus sign.

    >>> import polars as pl
    >>> has_codes(pl.Series(["01001", "1001"])), has_codes(pl.Series(["0.5", "10"])), has_codes(pl.Series(["0", "10"]))
    (True, False, False)
    >>> has_codes(pl.Series(["+4930", "004930"]))
    True
    """
    if not cells.str.contains(CODE).any():
        return False
    return bool(cells.str.contains(r"^\+?[0-9]+(?:[.,][0-9]*)?$").all())


def find_decimal(
    columns: Iterable[pl.Series], *, where: str = "", prior: Mark | None = "point"
) -> Mark | None:
    """Return the decimal mark of a table, or None if no cell contains one.

    Cells such as ``0.5`` and ``1,234.5`` need a point, ``1,50`` and ``1.234.567`` need a comma. ``1.250`` fits both.

    Args:
        columns: columns of stripped strings, with nulls for missing values. Columns that do not contain numbers are
            left out.
        where: the file, for messages.
        prior: the mark to expect, if there is a reason for it, where cells fit both. A column such as 950, 1.250 is
            refused nevertheless, because decimals hardly look like this.

    Raises:
        DataError: columns contradict each other, or can be read either way; the message shows their cells.
    """
    evidence: dict[Mark, str] = {}
    unclear: list[tuple[pl.Series, str]] = []
    for cells in columns:
        numbers = _candidates(cells)
        if numbers is None:
            continue
        fits: dict[Mark, pl.Series] = {mark: numbers.str.contains(form) for mark, form in _GRAMMARS.items()}
        only = {mark: cells.filter(fits[mark] & ~fits[_OTHER[mark]]) for mark in fits}
        needed = [mark for mark in only if len(only[mark])]
        if len(needed) == 2:
            raise DataError(
                f"{_place(where)}column {cells.name!r} contains numbers with decimal points "
                f"({_shown(only['point'], 2)}) and with decimal commas ({_shown(only['comma'], 2)}); write all numbers "
                f"in one format, or if these are not numbers: {_as_strings(cells.name)}"
            )
        if needed:
            evidence.setdefault(needed[0], f"column {cells.name!r} ({_shown(only[needed[0]], 3)})")
            continue
        marked = numbers.str.contains("[.,]") & fits["point"]
        if marked.any():
            unclear.append((cells, _first_mark(numbers.filter(marked))))
    if len(evidence) == 2:
        raise DataError(
            f"{_place(where)}{evidence['comma']} has decimal commas, but {evidence['point']} has decimal points; write "
            "all numbers in one format, or declare a column whose values are not numbers, such as "
            f"{setting(('data', 'columns', 'NAME'), 'categorical')}"
        )
    if evidence:
        ((found, where_found),) = evidence.items()
        for cells, mark in unclear:
            if _mark(mark) == found:
                _refuse_thousands(cells, mark, where_found, where)
        return found
    for cells, mark in unclear:
        _refuse_unclear(cells, mark, prior, where)
    return prior if unclear else None


def _candidates(cells: pl.Series) -> pl.Series | None:
    """Return the numbers of a column without units, null where a cell is not a number; None without decimal marks."""
    import polars as pl

    present = len(cells) - cells.null_count()
    if present == 0:
        return None
    sample = cells.drop_nulls().head(50)  # most columns of words end here
    if not sample.str.contains("[0-9]").any() and not cells.str.contains("[0-9]").any():
        return None
    plain = cells.cast(pl.Float64, strict=False)
    if plain.null_count() == cells.null_count():
        return cells if cells.str.contains(".", literal=True).any() else None
    digits = _core(cells).digits
    either = digits.str.contains(_GRAMMARS["point"]) | digits.str.contains(_GRAMMARS["comma"])
    digits = digits.set(~either, None)
    if int(either.sum() or 0) < MOSTLY * present or not digits.str.contains("[.,]").any():
        return None
    return digits


def _first_mark(numbers: pl.Series) -> str:
    return "." if "." in str(numbers[0]) else ","


def _refuse_unclear(cells: pl.Series, mark: str, prior: Mark | None, where: str) -> None:
    """Raise a DataError if cells such as 1.250 may be thousands or decimals."""
    numbers = _core(cells).digits.drop_nulls()
    unmarked = numbers.filter(~numbers.str.contains("[.,]"))
    ungrouped = unmarked.str.contains(
        "[0-9]{4}"
    ).any()  # 1250 in addition to 1.250: not a separator of thousands
    if prior == "point" and (mark == "," or len(unmarked) == 0 or ungrouped):
        return
    shown = cells.filter(_core(cells).digits.str.contains("[.,]").fill_null(False))
    example = str(numbers.filter(numbers.str.contains("[.,]"))[0])
    decimals, thousands = _OTHER[_mark(mark)], _mark(mark)
    value = float(example.replace(mark, "."))
    raise DataError(
        f"{_place(where)}column {cells.name!r} ({_shown(shown, 3)}) has decimals or separators of thousands, and no cell "
        f"decides it; if {example} is {value:g}: {setting(('data', 'decimal'), thousands)}; "
        f"if it is {example.replace(mark, '')}: {setting(('data', 'decimal'), decimals)}; "
        f"if these are not numbers: {_as_strings(cells.name)}"
    )


_GROUPED = 5  # numbers that all have three digits after the mark, by chance with probability 0.9^5 at most


def _refuse_thousands(cells: pl.Series, mark: str, evidence: str, where: str) -> None:
    """Raise a DataError if a column looks like thousands (950, 1.250) in a table whose decimal mark is this mark."""
    numbers = _core(cells).digits.drop_nulls()
    marked = numbers.str.contains("[.,]")
    unmarked = numbers.filter(~marked)
    if (
        numbers.filter(marked).n_unique() < _GROUPED
        or not len(unmarked)
        or unmarked.str.contains("[0-9]{4}").any()
    ):
        return
    example = str(numbers.filter(marked)[0])
    raise DataError(
        f"{_place(where)}column {cells.name!r} ({_shown(cells, 4)}) looks like separators of thousands, but {evidence} "
        f"has decimal {_mark(mark)}s; if {example} is {float(example.replace(mark, '.')):g}: "
        f"{setting(('data', 'decimal'), _mark(mark))}; if it is {example.replace(mark, '')}, write all numbers in one "
        f"format; if these are not numbers: {_as_strings(cells.name)}"
    )


def _mark(character: str) -> Mark:
    return "point" if character == "." else "comma"


def _place(where: str) -> str:
    return f"{where}: " if where else ""


def _shown(cells: pl.Series, limit: int) -> str:
    return listed(cells.drop_nulls().head(200).unique(maintain_order=True).to_list()[:limit])


def _as_strings(name: str) -> str:
    return setting(("data", "columns", name), "categorical")


def parse(
    cells: pl.Series, decimal: Mark = "point", unit: str | None = None
) -> tuple[pl.Series, pl.Series, str]:
    """Convert strings to numbers: separators of thousands and units are removed, parentheses mean a negative number.

    Args:
        cells: stripped strings, with nulls for missing values.
        decimal: the decimal mark.
        unit: the unit of the column, which other cells must have too: a currency, ``%``, or an empty string. None: all
            cells have the same unit, or a currency is missing in some.

    Returns: the numbers, Float64; a mask of the cells that are not numbers; and the unit.

    >>> import polars as pl
    >>> numbers, invalid, unit = parse(pl.Series(["1.234,50 €", "(7)", "x"]), "comma")
    >>> numbers.to_list(), invalid.to_list(), unit
    ([1234.5, -7.0, None], [False, False, True], 'EUR')
    """
    import polars as pl

    plain = cells.cast(pl.Float64, strict=False).fill_nan(None)
    if (
        plain.null_count() == cells.null_count()
        and unit not in _PERCENT
        and (decimal == "point" or not cells.str.contains(".", literal=True).any())
    ):
        return plain, cells.is_null() & False, unit or ""
    core = _core(cells)
    digits = core.digits.set(~core.digits.str.contains(_GRAMMARS[decimal]), None)
    written = core.units.filter(digits.is_not_null())
    if unit is None:
        distinct = written.unique().sort().to_list()
        named = [one for one in distinct if one]
        unit = named[0] if len(named) == 1 and (named == distinct or named[0] not in _PERCENT) else ""
        if len(distinct) > 1 and not unit:
            unit = str(written.mode().sort()[0])
    allowed = [unit] if unit in _PERCENT else ["", unit]
    digits = digits.set(~core.units.is_in(allowed), None)
    digits = digits.str.replace_all(_THOUSANDS[decimal], "").str.replace(_MARKS[decimal], ".", literal=True)
    numbers = digits.cast(pl.Float64, strict=False)
    if decimal == "point" and unit not in _PERCENT:  # "inf" and others that the grammar does not contain
        numbers = plain.zip_with(plain.is_not_null(), numbers)
    return numbers, cells.is_not_null() & numbers.is_null(), unit


def integers(cells: pl.Series, decimal: Mark = "point") -> pl.Series | None:
    """Return strings as Int64, or Int128 beyond it, if all of them are integers in the format; otherwise None."""
    import polars as pl

    for kind in (pl.Int64, pl.Int128):
        numbers = cells.cast(kind, strict=False)
        if numbers.null_count() == cells.null_count():
            return numbers
    if cells.cast(pl.Float64, strict=False).null_count() == cells.null_count() and decimal == "point":
        return None  # such as 1.0
    core = _core(cells).digits
    core = core.set(~core.str.contains(_GRAMMARS[decimal]), None)
    core = core.str.replace_all(_THOUSANDS[decimal], "")
    for kind in (pl.Int64, pl.Int128):
        numbers = core.cast(kind, strict=False)
        if numbers.null_count() == cells.null_count():
            return numbers
    return None


def written_otherwise(cells: pl.Series, decimal: Mark) -> bool:
    """Return whether most strings are numbers, but only with the other decimal mark.

    >>> import polars as pl
    >>> written_otherwise(pl.Series(["1.5", "2.25"]), "comma"), written_otherwise(pl.Series(["1.5"]), "point")
    (True, False)
    """
    present = len(cells) - cells.null_count()
    if present == 0:
        return False
    digits = _core(cells).digits
    own, other = (
        digits.str.contains(_GRAMMARS[mark]).fill_null(False) for mark in (decimal, _OTHER[decimal])
    )
    return not bool(own.sum() >= MOSTLY * present) and bool(other.sum() >= MOSTLY * present)


def different_units(cells: pl.Series, decimal: Mark) -> list[str]:
    """Return the units of a column of numbers if they differ, or percentages are mixed with other numbers.

    >>> import polars as pl
    >>> different_units(pl.Series(["$3", "5 €"]), "point"), different_units(pl.Series(["$3", "5"]), "point")
    (['$', 'EUR'], [])
    """
    core = _core(cells)
    numbers = core.digits.str.contains(_GRAMMARS[decimal]).fill_null(False)
    if not numbers.any() or int(numbers.sum()) < MOSTLY * (len(cells) - cells.null_count()):
        return []
    units: list[str] = core.units.filter(numbers).unique().sort().to_list()
    named = [one for one in units if one]
    return units if len(named) > 1 or (named != units and any(one in _PERCENT for one in named)) else []
