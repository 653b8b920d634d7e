"""Reading data of any form: names, files, folders, functions, arrays, data frames, torch datasets."""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from descend.data import standard_input
from descend.data.arrays import from_arrays, from_named_arrays, is_named_arrays, labels_of, read_npz
from descend.data.bundled import BUNDLED, from_bunch, load_bundled
from descend.data.column_choice import choose_columns
from descend.data.compression import COMPRESSED
from descend.data.frames import as_array, as_frame, is_frame, is_records, is_strings, take
from descend.data.functions import call, is_function_path
from descend.data.image_folders import ENDINGS, is_images, read_image_folder, read_images
from descend.data.messages import listed
from descend.data.missing_targets import without_missing_targets
from descend.data.parts import columns_to_keep, joined_parts, refuse_url, table_parts
from descend.data.row_numbers import RowNumbers, naming
from descend.data.schema import Schema
from descend.data.settings import DataSettings, Decimal
from descend.data.source import PARTS, Array, Source, join
from descend.data.split import part_names
from descend.data.streaming import StoredTable
from descend.data.table_files import TABLES, Table, line_numbers, read_table
from descend.data.text_cells import absent_strings, converted_columns, table_decimal, typed
from descend.errors import DataError, did_you_mean
from descend.interface import option
from descend.process import in_fork

if TYPE_CHECKING:
    import polars as pl

__all__ = ["like", "read"]


@in_fork
def read(
    data: Any,
    *,
    target: str | Sequence[str] | None = None,
    settings: DataSettings | None = None,
    weights: Any = None,
    schema: Schema | None = None,
    predicting: bool = False,
    held_out: bool = False,
    keep: Sequence[str] = (),
    after: Source | None = None,
) -> Source:
    """Read data of any form as a :class:`~descend.data.source.Source`.

    Args:
        data: the name of a bundled data set; the path of a CSV, TSV, JSON, Parquet, Arrow, Excel or NPZ file, of a
            folder of images by class, or of a folder or pattern (``parts/*.parquet``) of table files with equal
            columns; ``"-"``, a table on standard input; ``"package.module:function"``, whose return value is read in
            turn; a pair (X, y); a data frame, a dictionary of columns or a list of records; a dictionary of ``X`` and
            ``y``, or of ``train``, ``validation`` and ``test`` data; a map-style torch ``Dataset``; for prediction also
            an image or a list of images, as paths or images of Pillow; or a Source, which is returned unchanged.
        target: the column or columns to predict; overrides ``settings.target``.
        settings: the recipe's ``[data]`` section; the defaults if None.
        weights: a weight for each row, or the name of a column; overrides ``settings.weights``.
        schema: the schema of a trained network; the data are read as its training data were.
        predicting: whether targets are optional.
        held_out: whether the data are the validation or test rows of other data. A target that is specified for those
            names theirs.
        keep: columns of a table to return in ``Source.kept``, as the file has them.
        after: the training data whose validation or test rows these are; images get their size and level of white.

    >>> source = read({"size": [1.0, 2.0, 3.0], "price": [10.0, 21.0, 29.0]}, target="price")
    >>> source.frame.columns, source.targets.tolist()
    (['size'], [10.0, 21.0, 29.0])

    Raises:
        DataError: the data do not exist or cannot be read; the message names the remedy.
    """
    settings = settings or DataSettings()
    strict = target is not None or not (predicting or held_out or schema is not None)
    if schema is not None:
        settings = _as_trained(settings, schema)
    if target is not None:
        settings = dataclasses.replace(settings, target=target if isinstance(target, str) else tuple(target))
    if isinstance(weights, str):
        settings, weights = dataclasses.replace(settings, weights=weights), None
    if after is not None:
        settings = like(settings, after)
    source = _Reader(
        settings, predicting, schema, held_out, tuple(name.strip() for name in keep), after
    ).read(data)
    if not isinstance(data, Source):
        source = choose_columns(source, settings, _targets(settings, _columns_of(source)), strict=strict)
    if weights is not None:
        source = dataclasses.replace(source, weights=as_array(weights))
    if len(source) == 0:
        raise DataError(f"{source.name} has no rows")
    if settings.drop_missing_targets and source.targets is not None:
        source = without_missing_targets(source)
    if keep and source.kept is None:
        raise DataError(
            f"{source.name}: columns to keep ({listed(keep, 3)}) need data with column names: a file or a data frame"
        )
    return source


def _as_trained(settings: DataSettings, schema: Schema) -> DataSettings:
    return dataclasses.replace(
        settings,
        target=settings.target or (schema.target_names if schema.kind == "table" and schema.named else None),
        missing=schema.missing,
        decimal=settings.decimal if settings.decimal != "auto" else schema.decimal,
        separator=settings.separator if settings.separator != "auto" else schema.separator,
    )


def like(settings: DataSettings, source: Source) -> DataSettings:
    """Return the settings that read further data as a source was read: with its level of white and decimal mark."""
    if source.white is not None and settings.image_white == "auto":
        settings = dataclasses.replace(settings, image_white=source.white)
    if settings.decimal == "auto":
        settings = dataclasses.replace(settings, decimal=source.decimal)
    return settings


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Dispatch on the form of the data."""

    settings: DataSettings
    predicting: bool
    schema: Schema | None
    held_out: bool
    keep: tuple[str, ...] = ()
    after: Source | None = None

    @property
    def _given_names(self) -> tuple[str, ...] | None:
        """Names for the targets of arrays, which have none, from the data that they belong to."""
        return _targets(self.settings, None) if self.held_out or self.schema is not None else None

    def read(self, data: Any) -> Source:
        if isinstance(data, Source):
            return data
        if self.predicting and is_images(data, by_name=not self._is_table):
            return self._images(data if isinstance(data, list | tuple) else [data])
        if isinstance(data, str):
            return self._named(data)
        if isinstance(data, os.PathLike):
            return self._path(Path(data))
        return self._object(data, "data", None)

    @property
    def _is_table(self) -> bool:
        return self.schema is not None and self.schema.kind == "table"

    def _named(self, name: str) -> Source:
        if name in BUNDLED:
            self._refuse_stream(name)
            return load_bundled(name)
        if name == standard_input.NAME:
            self._refuse_stream("standard input")
            return self._table(Path("standard input"), standard_input.read_standard_input())
        if is_function_path(name) and not Path(name).exists():
            result = call(name)
            if isinstance(result, str | os.PathLike):
                return self._path(Path(result))
            return self._object(result, name, name)
        refuse_url(name)
        return self._path(Path(name))

    def _refuse_stream(self, what: str) -> None:
        if self.settings.stream:
            raise DataError(f"data.stream supports files only; these data ({what}) are already in memory")

    def _object(self, data: Any, name: str, reference: str | None) -> Source:
        """Read data in memory."""
        if isinstance(data, Source):
            return data
        self._refuse_stream(_described(data))
        if isinstance(data, Mapping) and not is_frame(data):
            return self._mapping(data, name, reference)
        if is_frame(data) or is_records(data):
            return self._frame(as_frame(data), name, reference)
        if _is_dataset(data):
            from descend.data.torch_datasets import from_torch_dataset

            return from_torch_dataset(data, name=name, reference=reference)
        if _is_pair(data) or (not self.predicting and _is_text_pair(data)):
            return from_arrays(
                data[0], data[1], name=name, reference=reference, target_names=self._given_names
            )
        if self.predicting:
            return from_arrays(data, None, name=name, reference=reference)
        raise DataError(
            f"{name}: {_described(data)} has no targets; pass a pair (X, y), "
            "a dictionary with 'X' and 'y', a data frame and the name of its target, or a torch Dataset"
        )

    def _mapping(self, data: Mapping[Any, Any], name: str, reference: str | None) -> Source:
        if {"data", "target"} <= set(data) and hasattr(data, "data"):
            return from_bunch(data, name=name, reference=reference)
        if "train" in data and set(data) <= set(PARTS):
            parts: dict[str, Source] = {}
            reader = self
            for part in sorted(data, key=PARTS.index):
                own, is_path = data[part], isinstance(data[part], str | os.PathLike)
                parts[part] = reader.read(own) if is_path else reader._object(own, name, reference)
                first = parts["train"]
                reader = dataclasses.replace(self, settings=like(self.settings, first), after=first)
            return join(parts["train"], parts.get("validation"), parts.get("test"))
        inputs = data.get("X", data.get("X_train"))
        if is_named_arrays(data) and (self.settings.target is None or getattr(inputs, "ndim", 1) > 1):
            return from_named_arrays(data, name=name, reference=reference, predicting=self.predicting)
        return self._frame(as_frame(data), name, reference)

    def _path(self, path: Path) -> Source:
        try:
            path = path.expanduser() if str(path).startswith("~") else path
            exists, folder = path.exists(), path.is_dir()
            parts = table_parts(path) if folder or not exists else []
        except (OSError, ValueError, RuntimeError) as cause:
            raise DataError(f"no such file: {str(path)[:100]!r} ({cause})") from cause
        if parts and not self.settings.stream:
            return self._parts(path, parts)
        if not exists:
            raise DataError(f"no such file, folder or data set: {path}{_suggestion(path)}")
        if folder:
            return self._folder(path)
        suffix = path.suffix.lower()
        if self.settings.stream:
            if suffix not in (".parquet", ".pq"):
                raise DataError(
                    f"{path}: data.stream reads Parquet files and folders of images; save this file as Parquet, for "
                    f"example with polars: pl.scan_csv('data.csv').sink_parquet('data.parquet')"
                )
            return self._frame(StoredTable.open(path), path.name, str(path))
        if suffix in ("", *TABLES, *COMPRESSED):
            return self._table(path)
        if suffix == ".npz":
            return read_npz(path, predicting=self.predicting, target_names=self._given_names)
        if suffix in ENDINGS:
            raise DataError(
                f"{path} is a single image; "
                + (
                    "the network was trained on a table"
                    if self._is_table
                    else "expected a folder of images by class"
                )
            )
        raise DataError(
            f"{path}: expected a data file ending in {listed([*TABLES, '.npz'], 30)} (also compressed, as in .csv.gz)"
        )

    def _read_table(self, path: Path, content: bytes | None = None, *, typed: bool) -> Table:
        settings = self.settings
        return read_table(
            path,
            missing=settings.missing,
            strings=self._strings,
            labels=_targets(settings, None) or (),
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
        return declared + [one for one in (self.settings.groups, self.settings.split) if one is not None]

    def _table(self, path: Path, content: bytes | None = None) -> Source:
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
            return self._frame(table.frame, name, reference, kept)
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
        source = self._frame(frame, name, reference, kept, text=decimal)
        return dataclasses.replace(source, decimal=decimal)

    def _numbers(self, path: Path, content: bytes | None = None) -> RowNumbers:
        settings = self.settings
        lines = functools.partial(
            line_numbers, path, separator=settings.separator, encoding=settings.encoding,
            expected_encoding="auto" if self.schema is None else self.schema.encoding, content=content,
        )  # fmt: skip
        return RowNumbers(lines=(lines,))

    def _parts(self, path: Path, parts: Sequence[Path]) -> Source:
        """Read the table in several files with equal columns."""
        tables = [self._read_table(part, typed=False) for part in parts]
        cells = joined_parts(parts, [table.frame for table in tables])
        kept = columns_to_keep(cells, self.keep, str(path)) if self.keep else None
        notes = tuple(dict.fromkeys(note for table in tables for note in table.notes))
        joined = tables[0]._replace(frame=cells)
        if joined.is_text and not self._is_table:
            result = typed(
                cells, missing=self.settings.missing, strings=self._strings,
                labels=_targets(self.settings, None) or (), decimal=self.settings.decimal,
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

    def _images(self, images: Sequence[Any]) -> Source:
        if self.schema is not None and self.schema.kind != "images":
            raise DataError(
                f"the network was trained on data of kind {self.schema.kind}, so it cannot predict images"
            )
        return read_images(images, shape=self._image_shape, white=self._white)

    @property
    def _image_shape(self) -> tuple[int, int, int] | None:
        shape: tuple[int, ...] = ()
        if self.after is not None and self.after.kind == "images" and self.after.inputs is not None:
            shape = self.after.inputs.shape[1:]
        elif self.schema is not None and self.schema.kind == "images":
            shape = self.schema.input_shape
        return (shape[0], shape[1], shape[2]) if len(shape) == 3 else None

    @property
    def _white(self) -> float | Literal["auto", "none"]:
        if self.schema is None or self.schema.kind != "images":
            return self.settings.image_white
        return "none" if self.schema.white is None else self.schema.white

    def _folder(self, path: Path) -> Source:
        if self._is_table:
            raise DataError(f"{path} is a folder of images, but the network was trained on a table")
        return read_image_folder(
            path,
            size=self.settings.image_size,
            shape=self._image_shape,
            white=self._white,
            predicting=self.predicting,
            stream=self.settings.stream,
        )

    def _frame(
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
        names = _targets(self.settings, frame.columns)
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
        if names is not None and not (self.predicting and any(one not in frame.columns for one in names)):
            frame, series = take(frame, names, f"{name}: target")
            absent = absent_strings(series, self.settings.missing)
            if text is not None and not self._has_string_classes:
                series, notes = converted_columns(series, text, self.settings.missing)
            columns = [labels_of(one, self.settings.missing) for one in series]
            targets = columns[0] if len(columns) == 1 else np.column_stack(columns)
        special = {
            "split": self.settings.split,
            "groups": self.settings.groups,
            "weights": self.settings.weights,
        }
        extra: dict[str, Array] = {}
        for key, column in special.items():
            if column is not None and (column in frame.columns or not self.predicting):
                frame, (one,) = take(frame, [column], f"{name}: data.{key}")
                if text is not None and key == "weights":
                    (one,), _ = converted_columns([one], text, self.settings.missing)
                extra[key] = labels_of(one, self.settings.missing)
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
        )  # fmt: skip

    @property
    def _has_string_classes(self) -> bool:
        return self.schema is not None and any(isinstance(label, str) for label in self.schema.classes)


def _is_read_as_string(settings: DataSettings, column: str) -> bool:
    """Return whether the digits of a column of a text file must be kept, as in categories and dates of a special format."""
    choice, kind = settings.columns[column], settings.kind_of(column)
    patterned = isinstance(choice, Mapping) and "%" in str(choice.get("format", ""))
    return patterned or kind not in ("numeric", "boolean", "date", "time", "duration")


def _targets(settings: DataSettings, columns: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the names of the target columns; a string with commas lists several, unless it is itself a column name."""
    if settings.target is None:
        return None
    if not isinstance(settings.target, str):
        return tuple(settings.target)
    if columns is not None and settings.target in columns:
        return (settings.target,)
    return tuple(name.strip() for name in settings.target.split(","))


def _columns_of(source: Source) -> list[str]:
    return [*source.target_names, *(source.frame.columns if source.frame is not None else ())]


def _is_pair(data: Any) -> bool:
    """Return whether data are a pair (X, y) rather than two rows of a table."""
    if (
        not isinstance(data, tuple | list)
        or len(data) != 2
        or any(part is None or np.isscalar(part) for part in data)
    ):
        return False
    first = data[0]
    return not (
        isinstance(first, list | tuple) and len(first) > 0 and all(np.isscalar(value) for value in first)
    )


def _is_text_pair(data: Any) -> bool:
    """Return whether data with targets are a pair (texts, labels), each a list of the same length."""
    return isinstance(data, tuple) and len(data) == 2 and is_strings(data[0]) and len(data[0]) == len(data[1])


def _is_dataset(data: object) -> bool:
    torch_data = sys.modules.get("torch.utils.data")
    return torch_data is not None and isinstance(data, torch_data.Dataset)


def _described(data: object) -> str:
    shape = getattr(data, "shape", None)
    return type(data).__name__ + (f" of shape {tuple(shape)}" if shape is not None else "")


def _suggestion(path: Path) -> str:
    try:
        siblings = [one.name for one in path.parent.iterdir()][:1000]
    except (OSError, ValueError):
        siblings = []
    suggestion = did_you_mean(path.name, [*BUNDLED, *siblings])
    return f"; {suggestion}" if suggestion.startswith("did") else f"; bundled data sets are {listed(BUNDLED)}"
