"""Sources from tables: files, parts of a table, and frames; targets, weights, groups and split are taken out."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from descend.data.arrays import labels_of, names_of
from descend.data.frames import take
from descend.data.label_lists import labels_of_column
from descend.data.messages import listed
from descend.data.parts import columns_to_keep, joined_parts
from descend.data.row_numbers import RowNumbers, naming
from descend.data.schema import Schema
from descend.data.settings import DataSettings, Decimal, missing_in
from descend.data.source import Array, Source
from descend.data.split import part_names
from descend.data.streaming import StoredTable
from descend.data.table_files import Table, line_numbers, read_table
from descend.data.text_cells import absent_strings, converted_columns, table_decimal, typed
from descend.errors import DataError, did_you_mean
from descend.interface import option

if TYPE_CHECKING:
    import polars as pl

__all__ = ["TableReader", "target_names"]


@dataclasses.dataclass(frozen=True)
class TableReader:
    """Read tables as sources.

    Args:
        settings: the recipe's ``[data]`` section, or that of a trained network.
        predicting: whether targets are optional.
        schema: the schema of a trained network, or None.
        keep: columns to return in ``Source.kept``.
        weights_from: what names the column of weights, for messages.
    """

    settings: DataSettings
    predicting: bool
    schema: Schema | None
    keep: tuple[str, ...] = ()
    weights_from: str = "data.weights"

    @property
    def _is_table(self) -> bool:
        return self.schema is not None and self.schema.kind == "table"

    def _read_table(self, path: Path, content: bytes | None = None, *, typed: bool) -> Table:
        settings = self.settings
        return read_table(
            path,
            missing=settings.missing,
            strings=self._strings,
            labels=self._labels,
            separator=settings.separator,
            decimal=settings.decimal,
            typed=typed,
            encoding=settings.encoding,
            expected_encoding="auto" if self.schema is None else self.schema.encoding,
            sheet=settings.sheet,
            content=content,
        )

    @property
    def _strings(self) -> list[str]:
        """Columns of a text file that stay strings although they may look like numbers."""
        declared = [one for one in self.settings.columns if _is_read_as_string(self.settings, one)]
        if self.settings.label_separator != "none":
            declared += target_names(self.settings, None) or ()
        return declared + [one for one in (self.settings.groups, self.settings.split) if one is not None]

    @property
    def _labels(self) -> list[str]:
        """Columns of a text file that keep the strings for missing values: targets, and ordered categories among them."""
        ordered = [
            name
            for name, choice in self.settings.columns.items()
            if isinstance(choice, list | tuple) and set(choice) & set(missing_in(self.settings.missing, name))
        ]
        return [*(target_names(self.settings, None) or ()), *ordered]

    def file(self, path: Path, content: bytes | None = None) -> Source:
        """Read the table in a file, or in its content; ``path`` then only names it."""
        table = self._read_table(path, content, typed=not self._is_table)
        kept = None
        if self.keep:
            cells = table if self._is_table else self._read_table(path, content, typed=False)
            kept = columns_to_keep(cells.frame, self.keep, str(path))
        numbers = self._numbers(path, content)
        try:
            with naming(numbers):
                source = self._parsed(table, path.name, str(path) if content is None else None, kept)
        except DataError as problem:
            if table.frame.width > 1 or not table.notes:
                raise
            raise DataError(f"{problem}; {'; '.join(table.notes)}") from problem
        return dataclasses.replace(source, numbers=numbers, notes=(*table.notes, *source.notes))

    def _parsed(self, table: Table, name: str, reference: str | None, kept: pl.DataFrame | None) -> Source:
        """Return the source of a table; numbers in a text file have the decimal mark of the training rows."""
        if not table.is_text:
            return self.frame(table.frame, name, reference, kept)
        decimal = table.decimal
        if decimal == "auto" and self.schema is not None:
            numeric = [column.name for column in self.schema.used if column.kind == "numeric"]
            known = table.frame.select([one for one in table.frame.columns if one in numeric])
            decimal = table_decimal(known, self.settings, prior=table.prior, where=name)
        frame = table.frame
        if self.schema is not None:
            dates = [
                one.name
                for one in self.schema.used
                if one.kind in ("date", "time", "duration") and "%" not in one.form
            ]
            found = [frame[one] for one in frame.columns if one in dates]
            frame = frame.with_columns(converted_columns(found, decimal, self.settings.missing)[0])
        source = self.frame(frame, name, reference, kept, text=decimal)
        return dataclasses.replace(source, decimal=decimal)

    def _numbers(self, path: Path, content: bytes | None = None) -> RowNumbers:
        settings = self.settings
        lines = functools.partial(
            line_numbers, path, separator=settings.separator, encoding=settings.encoding,
            expected_encoding="auto" if self.schema is None else self.schema.encoding, content=content,
        )  # fmt: skip
        return RowNumbers(lines=(lines,))

    def parts(self, path: Path, parts: Sequence[Path]) -> Source:
        """Read the table in several files with equal columns."""
        tables = [self._read_table(part, typed=False) for part in parts]
        cells = joined_parts(parts, [table.frame for table in tables])
        kept = columns_to_keep(cells, self.keep, str(path)) if self.keep else None
        notes = tuple(dict.fromkeys(note for table in tables for note in table.notes))
        joined = tables[0]._replace(frame=cells)
        if joined.is_text and not self._is_table:
            result = typed(
                cells, missing=self.settings.missing, strings=self._strings,
                labels=self._labels, decimal=self.settings.decimal,
                prior=joined.prior, where=str(path),
            )  # fmt: skip
            joined = joined._replace(frame=result.frame, decimal=result.decimal)
            notes += result.notes
        name = path.name if path.is_dir() else path.parent.name or "data"
        numbers = RowNumbers.join(
            [
                (str(part), len(table.frame), self._numbers(part))
                for part, table in zip(parts, tables, strict=True)
            ]
        )
        with naming(numbers):
            source = self._parsed(joined, name, str(path), kept)
        count = f"the table consists of {len(parts)} files, in the order of their names"
        return dataclasses.replace(source, numbers=numbers, notes=(count, *notes, *source.notes))

    def frame(
        self,
        frame: pl.DataFrame | StoredTable,
        name: str,
        reference: str | None,
        kept: pl.DataFrame | None = None,
        text: Decimal | None = None,
    ) -> Source:
        """Read a table: separate targets, weights, split and groups from the features.

        Args:
            frame: the table.
            name: its name.
            reference: what identifies it on a command line.
            kept: the columns to keep; taken from ``frame`` if None.
            text: the decimal mark of a text file, whose targets and weights may be strings of numbers; None for others.
        """
        if self.keep and kept is None and not isinstance(frame, StoredTable):
            kept = columns_to_keep(frame, self.keep, name)
        names = target_names(self.settings, frame.columns)
        if names is None and not self.predicting:
            raise DataError(
                f"{name}: the target column is not specified; set {option('--target COLUMN', 'target=COLUMN')}; "
                f"the columns are {listed(frame.columns, 20)}"
            )
        if isinstance(self.settings.missing, Mapping) and self.schema is None:
            for title in self.settings.missing:
                if title not in frame.columns:
                    raise DataError(
                        f"data.missing: no column {title!r}; {did_you_mean(title, frame.columns)}"
                    )
        targets: Array | None = None
        absent = ""
        notes: tuple[str, ...] = ()
        label_column = ""
        if names is not None and not (self.predicting and any(one not in frame.columns for one in names)):
            frame, series = take(frame, names, f"{name}: target")
            absent = absent_strings(series, self.settings.missing)
            divided = self.settings.label_separator != "none"
            if text is not None and not self._has_string_classes and not divided:
                series, notes = converted_columns(series, text, self.settings.missing)
            lists = labels_of_column(series[0]) if len(series) == 1 else None
            if lists is not None:
                label_column = names[0]
                targets, names = lists
            else:
                columns = [labels_of(one, () if divided else self.settings.missing) for one in series]
                targets = columns[0] if len(columns) == 1 else np.column_stack(columns)
        special = {
            "split": self.settings.split,
            "groups": self.settings.groups,
            "weights": self.settings.weights,
        }
        extra: dict[str, Array] = {}
        for key, column in special.items():
            if column is not None and (column in frame.columns or not self.predicting):
                place = self.weights_from if key == "weights" else f"data.{key}"
                frame, (one,) = take(frame, [column], f"{name}: {place}")
                if text is not None and key == "weights":
                    (one,), _ = converted_columns([one], text, self.settings.missing)
                extra[key] = (
                    names_of(one, self.settings.missing)
                    if key == "groups"
                    else labels_of(one, self.settings.missing)
                )
        if frame.width == 0:
            raise DataError(f"{name}: expected feature columns in addition to the target column")
        split = (
            part_names(extra["split"], f"{name}: column {self.settings.split!r}")
            if "split" in extra
            else None
        )
        return Source(
            name, reference, "table", targets, names or (), split=split,
            frame=None if isinstance(frame, StoredTable) else frame,
            stored=frame if isinstance(frame, StoredTable) else None,
            groups=extra.get("groups"), weights=extra.get("weights"), absent_targets=absent, notes=notes, kept=kept,
            label_column=label_column,
        )  # fmt: skip

    @property
    def _has_string_classes(self) -> bool:
        return self.schema is not None and any(isinstance(label, str) for label in self.schema.classes)


def _is_read_as_string(settings: DataSettings, column: str) -> bool:
    """Return whether the digits of a column of a text file must be kept, as in categories and dates of a special format."""
    choice, kind = settings.columns[column], settings.kind_of(column)
    patterned = isinstance(choice, Mapping) and "%" in str(choice.get("format", ""))
    return patterned or kind not in ("numeric", "boolean", "date", "time", "duration")


def target_names(settings: DataSettings, columns: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the names of the target columns; a string with commas lists several, unless it is itself a column name."""
    if settings.target is None:
        return None
    if columns is not None and isinstance(settings.target, str) and settings.target in columns:
        return (settings.target,)
    listed = settings.target.split(",") if isinstance(settings.target, str) else settings.target
    names = tuple(name.strip() for name in listed) if isinstance(settings.target, str) else tuple(listed)
    if repeated := next((name for at, name in enumerate(names) if name in names[:at]), None):
        raise DataError(f"data.target: '{repeated}' is listed twice")
    return names
