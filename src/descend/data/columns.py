"""What each column is: its kind is inferred from all of its values, or named by the user."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from descend.data.messages import listed, rows_hold
from descend.data.parsing import parse_booleans, parse_dates, parse_instants, parse_numbers, tidy, to_text
from descend.data.settings import DataSettings
from descend.data.streaming import StoredTable
from descend.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import polars as pl

__all__ = ["FARTHEST", "LARGEST", "STRICT", "Column", "choice", "infer", "raise_all", "refuse", "refuse_wild"]

ColumnKind = Literal["numeric", "boolean", "categorical", "date", "constant", "empty", "ignored"]
USED = ("numeric", "boolean", "categorical", "date")
STRICT: dict[str, object] = {"extra": "forbid", "strict": True, "allow_inf_nan": False}
"""How pydantic checks what it reads from a file: every field known, of its own type, finite."""
LARGEST = 1e150
"""Squares of larger numbers overflow."""
FARTHEST = 1e37
"""Standard deviations from the mean at which single precision comes to its end."""
_SHOWN = 20  # problems in one message
_FEW = 5  # rows a category needs on average, where there are many categories
_MOSTLY = 0.8  # share of numbers from which the other values of a column look like mistakes


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Args:
        name: its name.
        kind: ``numeric``, ``boolean``, ``categorical``, ``date``; or ``constant``, ``empty``, ``ignored``,
            which are not used.
        categories: of a categorical column, in the order of their codes.
        pooled: whether the last category stands for all others that training saw.
        missing: number of missing values in all rows.
        note: what is worth saying about it.
        indicator: whether a 0/1 input says that the value is missing (it was, in some training row).
        fill: what stands in for a missing number: the training rows' median.
        mean, scale: a number x enters the network as (x - mean) / scale.
        low, high: the smallest and largest number in all rows.
    """

    name: str
    kind: ColumnKind
    categories: tuple[str, ...] = ()
    pooled: bool = False
    missing: int = 0
    note: str = ""
    indicator: bool = False
    fill: float = 0.0
    mean: float = 0.0
    scale: float = 1.0
    low: float | None = None
    high: float | None = None

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    @property
    def used(self) -> bool:
        """Whether the network sees it."""
        return self.kind in USED

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the network's inputs that it becomes, the missing-value indicator last.

        >>> Column("colour", "categorical", ("blue", "red"), indicator=True).inputs
        ('colour=blue', 'colour=red', 'colour is missing')
        """
        if not self.used:
            return ()
        own = [f"{self.name}={one}" for one in self.categories] if self.kind == "categorical" else [self.name]
        return (*own, *([f"{self.name} is missing"] if self.indicator else []))


def choice(name: str, kind: str) -> str:
    r"""How to choose a column's kind, as it is written in a shell.

    >>> choice("age", "ignore"), choice("sepal length", "ignore")
    ('--set data.columns.age=ignore', '--set \'data.columns."sepal length"=ignore\'')
    """
    if re.fullmatch(r"[A-Za-z0-9_-]+", name):
        return f"--set data.columns.{name}={kind}"
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return f"--set 'data.columns.\"{quoted}\"={kind}'"


def raise_all(problems: Sequence[str]) -> None:
    """Raise one DataError for all problems, or return where there is none."""
    if len(problems) == 1:
        raise DataError(problems[0])
    if problems:
        shown = [
            *problems[:_SHOWN],
            *([f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []),
        ]
        raise DataError(f"The data have {len(problems)} problems:\n  " + "\n  ".join(shown))


def infer(
    frame: pl.DataFrame | StoredTable, settings: DataSettings, *, keep_constant: bool = False
) -> tuple[list[Column], pl.DataFrame]:
    """The kind of every column, and the used columns with their values parsed.

    Kinds: numbers (also as text), ``true`` / ``false``, dates (also ISO 8601 text), and text as categories.
    A column with one value, or with none, is set aside with a note.

    Args:
        frame: the raw features.
        settings: ``columns`` names kinds that are not to be inferred; ``missing`` the words for nothing.
        keep_constant: use constant numeric columns too (the black corners of an image have their place).

    Returns: a :class:`Column` for every column of the frame, not fitted yet; and a frame of the used
        columns: Float64 for numbers and days, Boolean, String for categories; of a table that is not in
        memory, without rows.

    Raises:
        DataError: all columns that cannot be used, each with the ways out.
    """
    import polars as pl

    problems = []
    for name in settings.columns:
        if name not in frame.columns:
            problems.append(
                f"data.columns names {name!r}, no such column; {did_you_mean(name, frame.columns)}"
            )
    columns: list[Column] = []
    parsed: list[pl.Series] = []
    for series in frame:
        try:
            column, values = _infer_one(series, settings, keep_constant)
        except DataError as problem:
            problems.append(str(problem))
            continue
        columns.append(column)
        if values is not None:
            parsed.append(values.clear() if isinstance(frame, StoredTable) else values)
    raise_all(problems)
    if not parsed:
        facts = "; ".join(f"{column.name}: {column.note or column.kind}" for column in columns[:8])
        raise DataError(
            f"no column is left to learn from ({facts or 'the table has none besides the target'})"
        )
    return columns, pl.DataFrame(parsed)


def _infer_one(
    series: pl.Series, settings: DataSettings, keep_constant: bool
) -> tuple[Column, pl.Series | None]:
    import polars as pl

    name = series.name
    declared = settings.columns.get(name)
    if declared == "ignore":
        return Column(name, "ignored", note="ignored as asked"), None
    values = tidy(series, settings.missing)
    missing = values.null_count()
    if missing == len(values):
        return Column(name, "empty", missing=missing, note="every value is missing; not used"), None
    if declared is not None:
        return _declared(values, declared, missing, settings)
    if values.dtype == pl.String:
        values = _parse_text(values, settings)
    if values.dtype == pl.String:
        return _categorical(values, missing, settings)
    if values.dtype == pl.Boolean:
        if missing == 0 and (values.all() or not values.any()):
            return Column(name, "constant", note=f"always {str(values[0]).lower()}; not used"), None
        return Column(name, "boolean", missing=missing), values
    if values.dtype == pl.Datetime:
        return _of_numbers(parse_dates(values)[0], "date", missing, keep_constant)
    return _of_numbers(values, "numeric", missing, keep_constant)


def _of_numbers(
    values: pl.Series, kind: Literal["numeric", "date"], missing: int, keep_constant: bool
) -> tuple[Column, pl.Series | None]:
    refuse_wild(values)
    low, high = float(values.min()), float(values.max())  # type: ignore[arg-type]  # of numbers it is a number
    if low == high and missing == 0 and not keep_constant:
        return Column(values.name, "constant", note=f"always {low:g}; not used", low=low, high=high), None
    note = ""
    size = len(values)
    if kind == "numeric" and size >= 20 and high - low == size - 1 and values.is_sorted():
        note = f"counts the rows? if so: {choice(values.name, 'ignore')}"
    return Column(values.name, kind, missing=missing, note=note, low=low, high=high), values


def _parse_text(values: pl.Series, settings: DataSettings) -> pl.Series:
    """Texts as numbers, truth values or instants where all of them are; the texts themselves otherwise."""
    filled = len(values) - values.null_count()
    numbers, bad = parse_numbers(values)
    wrong = int(bad.sum())
    if wrong == 0:
        return numbers
    if wrong <= (1 - _MOSTLY) * filled:
        raise _mixed(values, bad, "numbers", settings)
    lowered = values.str.to_lowercase()
    if lowered.is_in(["true", "false"]).fill_null(True).all():
        return lowered == "true"
    if values.drop_nulls().head(5).str.contains(r"^\d{4}-\d").any():
        instants, bad = parse_instants(values)
        wrong = int(bad.sum())
        if wrong == 0:
            return instants
        if wrong <= (1 - _MOSTLY) * filled:
            raise _mixed(values, bad, "dates", settings)
    return values


def _mixed(values: pl.Series, bad: pl.Series, what: str, settings: DataSettings) -> DataError:
    rows = np.flatnonzero(bad.to_numpy())
    words = values.filter(bad).unique(maintain_order=True).to_list()
    right = len(values) - values.null_count() - len(rows)
    tokens = _toml([*settings.missing, *words[:3]])
    return DataError(
        f"column {values.name!r}: {right} values are {what}, but {rows_hold(rows)} "
        f"{listed(words, 5)}; correct them, "
        f"name the words that mean 'missing' (--set 'data.missing={tokens}'), "
        f"or {choice(values.name, 'categorical')}"
    )


def _toml(words: Sequence[str]) -> str:
    return "[" + ", ".join('"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in words) + "]"


def _categorical(values: pl.Series, missing: int, settings: DataSettings) -> tuple[Column, pl.Series | None]:
    name, filled = values.name, len(values) - missing
    distinct = values.drop_nulls().n_unique()
    if distinct == 1 and missing == 0:
        return Column(name, "constant", note=f"always {listed([values[0]])}; not used"), None
    ways = f"{choice(name, 'ignore')} drops it, {choice(name, 'categorical')} keeps the most frequent values"
    if distinct > 0.9 * filled and distinct > 10:
        raise DataError(
            f"column {name!r}: {distinct} different texts in {filled} rows identify rows, "
            f"nothing can be learned from them ({listed(values.drop_nulls().head(3).to_list())}, ...); {ways}"
        )
    if distinct > settings.max_categories and filled < _FEW * distinct:
        raise DataError(
            f"column {name!r}: {distinct} categories in {filled} rows "
            f"leave fewer than {_FEW} rows a category; {ways}"
        )
    return Column(name, "categorical", missing=missing), values


def _declared(
    values: pl.Series, declared: str, missing: int, settings: DataSettings
) -> tuple[Column, pl.Series | None]:
    if declared == "categorical":
        return Column(values.name, "categorical", missing=missing), to_text(values)
    parse: Callable[[pl.Series], tuple[pl.Series, pl.Series]]
    parse = {"numeric": parse_numbers, "boolean": parse_booleans, "date": parse_dates}[declared]
    found, bad = parse(values)
    refuse(values, bad, declared)
    if declared == "boolean":
        return Column(values.name, "boolean", missing=missing), found
    return _of_numbers(found, "date" if declared == "date" else "numeric", missing, keep_constant=True)


def refuse(values: pl.Series, bad: pl.Series, kind: str) -> None:
    """Raise a DataError that shows the bad values of a column, if there are any."""
    if bad.any():
        rows = np.flatnonzero(bad.to_numpy())
        wanted = {"numeric": "numbers", "boolean": "true or false", "date": "dates as in 2026-01-31"}[kind]
        found = values.filter(bad).head(50).unique(maintain_order=True).to_list()
        raise DataError(
            f"column {values.name!r}: {wanted} were expected, {rows_hold(rows)} {listed(found, 5)}"
        )


def refuse_wild(values: pl.Series, column: Column | None = None) -> None:
    """Raise a DataError if numbers are infinite, too large to be squared, or too far from those of training.

    Args:
        values: Float64.
        column: fitted; its numbers enter the network in single precision, which overflows at 3e38.
    """
    if values.null_count() == len(values):
        return
    low, high = float(values.min()), float(values.max())  # type: ignore[arg-type]  # of numbers it is a number
    if max(-low, high) > LARGEST:
        centre, reach = 0.0, LARGEST
        what = "infinite values" if np.isinf([low, high]).any() else f"numbers beyond {LARGEST:g}"
    elif column is not None and max(column.mean - low, high - column.mean) > FARTHEST * column.scale:
        centre, reach = column.mean, FARTHEST * column.scale
        what = f"numbers more than {FARTHEST:g} standard deviations from those of training"
    else:
        return
    rows = np.flatnonzero(((values - centre).abs() > reach).fill_null(False).to_numpy())
    raise DataError(
        f"column {values.name!r}: finite numbers were expected, {rows_hold(rows)} {what}; correct them, "
        f"leave them empty to have them treated as missing, or {choice(values.name, 'ignore')}"
    )
