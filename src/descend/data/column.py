"""A column of a table: its kind, and what is fitted on the training rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from descend.data.date_reading import NUMBER
from descend.data.ngrams import NGrams
from descend.data.quantities import shown_quantities

__all__ = ["NUMBERS", "STRICT", "USED", "Column", "ColumnKind"]

ColumnKind = Literal["numeric", "boolean", "categorical", "date", "time", "duration", "text", "constant",
                     "empty", "identifier", "ignored"]  # fmt: skip
Encoding = Literal["block", "target", "both", "ordinal"]
USED = ("numeric", "boolean", "categorical", "date", "time", "duration", "text")
NUMBERS = ("numeric", "date", "time", "duration")
"""Kinds of columns whose values are numbers: as they are, days since 1970-01-01, fractions of a day, and days."""
STRICT: dict[str, object] = {"extra": "forbid", "strict": True, "allow_inf_nan": False}
"""Pydantic settings for values read from a file: no unknown fields, no type conversion, finite numbers."""


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Args:
        name: the column name.
        kind: ``numeric``, ``boolean``, ``categorical``, ``date``, ``time`` (of day), ``duration`` or ``text``; or
            ``constant``, ``empty``, ``identifier`` or ``ignored`` for columns that are not used.
        categories: the categories of a categorical column, in the order of their codes.
        unseen: number of categories, at the end, that occur only outside the training rows. They have no input.
        pooled: whether the last category stands for all other categories of the training rows.
        ordered: whether the categories have an order, see :mod:`descend.data.ordered`.
        missing: number of missing values in all rows.
        note: a remark for the user.
        indicator: whether a 0/1 input indicates a missing value (if some training row lacks the value).
        fill: the replacement for a missing number: the median of the training rows.
        mean, scale: a number x enters the network as (x - mean) / scale.
        quantiles: the quantiles of this ratio by which it is mapped to a normal number; empty for none.
        low, high: the smallest and largest number in all rows.
        unit: the unit of numbers that are written with one: a currency or ``%``.
        form, zone: how dates are read, see :func:`descend.data.dates.parse_instants`.
        parts: the inputs made of a date or a time, ``number`` and cyclic ones (:mod:`descend.data.date_parts`); without
            any, the number is the only input.
        text: how a text column is hashed, once it is fitted.
        effects: the inputs of each category with an input, if the column is encoded as a table: its mean target or rank,
            see :mod:`descend.data.category_encoding`. A missing or unseen category is 0 in each.
        encoding: how categories are encoded: ``block``, one input each; ``target``, ``both`` or ``ordinal``.
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
    unseen: int = 0
    unit: str = ""
    form: str = ""
    zone: str = ""
    parts: tuple[str, ...] = ()
    ordered: bool = False
    text: NGrams | None = None
    effects: tuple[tuple[float, ...], ...] = ()
    encoding: Encoding = "block"
    quantiles: tuple[float, ...] = ()

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    @property
    def used(self) -> bool:
        """Whether the column is an input of the network."""
        return self.kind in USED

    @property
    def coded(self) -> tuple[str, ...]:
        """The categories that occur in the training rows, each with an input of the network."""
        return self.categories[: len(self.categories) - self.unseen]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the network inputs of this column, the missing-value indicator last.

        >>> Column("color", "categorical", ("blue", "red"), indicator=True).inputs
        ('color=blue', 'color=red', 'color is missing')
        """
        if not self.used:
            return ()
        sign = ">=" if self.ordered else "="
        own = (
            [f"{self.name}{sign}{one}" for one in self.blocks] if self.kind == "categorical" else [self.name]
        )
        own += self.effect_names
        if self.parts and not self.has_number:
            own = []
        if self.text is not None:
            own = [*self.cell_names]
        return (*own, *self.cyclic_inputs, *([f"{self.name} is missing"] if self.indicator else []))

    @property
    def blocks(self) -> tuple[str, ...]:
        """The categories with an input of their own, which is 1 for them."""
        return self.coded if self.encoding in ("block", "both") else ()

    @property
    def effect_names(self) -> tuple[str, ...]:
        """Names of the inputs from the table of effects.

        >>> Column("city", "categorical", ("Oslo", "Rome"), effects=((-1.0,), (1.0,)), encoding="target").inputs
        ('city: mean target',)
        """
        if not self.effects or self.kind != "categorical":
            return ()
        if self.encoding == "ordinal":
            return (f"{self.name}: rank",)
        count = len(self.effects[0])
        numbers = [""] if count == 1 else [f" {number}" for number in range(1, count + 1)]
        return tuple(f"{self.name}: mean target{number}" for number in numbers)

    @property
    def cell_names(self) -> tuple[str, ...]:
        """Names of the inputs of a text column, one for each n-gram."""
        length = 0 if self.text is None else self.text.length
        return tuple(f"{self.name}: n-gram {number}" for number in range(1, length + 1))

    @property
    def has_number(self) -> bool:
        """Whether one of the inputs is a scaled number."""
        return self.kind in NUMBERS and (not self.parts or NUMBER in self.parts)

    @property
    def cycles(self) -> tuple[str, ...]:
        """The cyclic parts among the inputs."""
        return tuple(part for part in self.parts if part != NUMBER) if self.used else ()

    @property
    def cyclic_inputs(self) -> tuple[str, ...]:
        """Names of the inputs made of cyclic parts, two of each.

        >>> Column("sold", "date", parts=("number", "hour")).cyclic_inputs
        ('sold: hour (sine)', 'sold: hour (cosine)')
        """
        names = [f"{self.name}: {part.replace('_', ' ')}" for part in self.cycles]
        return tuple(f"{name} ({function})" for name in names for function in ("sine", "cosine"))

    @property
    def values(self) -> str:
        """The values of the column in a few words.

        >>> Column("age", "numeric", low=1, high=9).values, Column("c", "categorical", ("a", "b"), unseen=1).values
        ('1 to 9', '2 categories, 1 not in the training rows')
        """
        if self.kind == "categorical":
            outside = f", {self.unseen} not in the training rows" if self.unseen else ""
            return f"{len(self.categories)} {'ordered ' if self.ordered else ''}categories{outside}"
        if self.text is not None:
            return f"up to {self.text.length} n-grams"
        if self.low is None or self.high is None:
            return ""
        limits = " to ".join(shown_quantities(self.kind, [self.low, self.high]))
        limits += f" {self.unit}" if self.unit else ""
        return limits + (f" ({', '.join(self.parts).replace('_', ' ')})" if self.parts else "")
