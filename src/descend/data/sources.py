"""Reading data of any form: names, files, folders, functions, arrays, data frames, torch datasets."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.data.arrays import from_arrays, from_named_arrays, is_named_arrays, labels_of, read_npz
from descend.data.bundled import BUNDLED, from_bunch, load_bundled
from descend.data.frames import as_array, as_frame, is_frame, is_records, take
from descend.data.functions import call, is_function_path
from descend.data.image_folders import read_image_folder
from descend.data.messages import listed
from descend.data.number_format import Decimal, Mark
from descend.data.schema import Schema
from descend.data.settings import DataSettings, Missing, missing_in
from descend.data.source import PARTS, Array, Source, join
from descend.data.split import part_names
from descend.data.streaming import StoredTable
from descend.data.table_files import TABLES, read_table
from descend.data.text_cells import converted, stripped, table_decimal
from descend.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import polars as pl

__all__ = ["read"]


def read(
    data: Any,
    *,
    target: str | Sequence[str] | None = None,
    settings: DataSettings | None = None,
    weights: Any = None,
    schema: Schema | None = None,
    predicting: bool = False,
) -> Source:
    """Read data of any form as a :class:`~descend.data.source.Source`.

    Args:
        data: the name of a bundled data set; the path of a CSV, TSV, Parquet, Arrow or NPZ file, or of a folder of
            images by class; ``"package.module:function"``, whose return value is read in turn; a pair (X, y);
            a data frame, a dictionary of columns or a list of records; a dictionary of ``X`` and ``y``, or of
            ``train``, ``validation`` and ``test`` data; a map-style torch ``Dataset``; or a Source, which is
            returned unchanged.
        target: the column or columns to predict; overrides ``settings.target``.
        settings: the recipe's ``[data]`` section; the defaults if None.
        weights: a weight for each row, or the name of a column; overrides ``settings.weights``.
        schema: the schema of a trained network; the data are read as its training data were.
        predicting: whether targets are optional.

    >>> source = read({"size": [1.0, 2.0, 3.0], "price": [10.0, 21.0, 29.0]}, target="price")
    >>> source.frame.columns, source.targets.tolist()
    (['size'], [10.0, 21.0, 29.0])

    Raises:
        DataError: the data do not exist or cannot be read; the message names the remedy.
    """
    settings = settings or DataSettings()
    if schema is not None:
        settings = _as_trained(settings, schema)
    if target is not None:
        settings = dataclasses.replace(settings, target=target if isinstance(target, str) else tuple(target))
    if isinstance(weights, str):
        settings, weights = dataclasses.replace(settings, weights=weights), None
    source = _Reader(settings, predicting, schema).read(data)
    if weights is not None:
        source = dataclasses.replace(source, weights=as_array(weights))
    if len(source) == 0:
        raise DataError(f"{source.name} has no rows")
    return source


def _as_trained(settings: DataSettings, schema: Schema) -> DataSettings:
    return dataclasses.replace(
        settings,
        target=settings.target or (schema.target_names if schema.kind == "table" and schema.named else None),
        missing=schema.missing,
        decimal=settings.decimal if settings.decimal != "auto" else schema.decimal,
        separator=settings.separator if settings.separator != "auto" else schema.separator,
    )


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Dispatch on the form of the data."""

    settings: DataSettings
    predicting: bool
    schema: Schema | None

    def read(self, data: Any) -> Source:
        if isinstance(data, Source):
            return data
        if isinstance(data, str):
            return self._named(data)
        if isinstance(data, os.PathLike):
            return self._path(Path(data))
        return self._object(data, "data", None)

    def _named(self, name: str) -> Source:
        if name in BUNDLED:
            self._refuse_stream(name)
            return load_bundled(name)
        if is_function_path(name) and not Path(name).exists():
            result = call(name)
            if isinstance(result, str | os.PathLike):
                return self._path(Path(result))
            return self._object(result, name, name)
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
        target_names = _targets(self.settings, None)
        if _is_pair(data):
            return from_arrays(data[0], data[1], name=name, reference=reference, target_names=target_names)
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
            train = self._part(data["train"], name, reference)
            # All parts are read with the decimal mark of the training rows.
            like = dataclasses.replace(
                self, settings=dataclasses.replace(self.settings, decimal=train.decimal)
            )
            others = [like._part(data[part], name, reference) if part in data else None for part in PARTS[1:]]
            return join(train, *others)
        if self.settings.target is None and is_named_arrays(data):
            return from_named_arrays(data, name=name, reference=reference, predicting=self.predicting)
        return self._frame(as_frame(data), name, reference)

    def _part(self, data: Any, name: str, reference: str | None) -> Source:
        return self.read(data) if isinstance(data, str | os.PathLike) else self._object(data, name, reference)

    def _path(self, path: Path) -> Source:
        try:
            exists, folder = path.exists(), path.is_dir()
        except (OSError, ValueError) as cause:
            raise DataError(f"no such file: {str(path)[:100]!r} ({cause})") from cause
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
        if suffix in TABLES:
            return self._table_file(path)
        if suffix == ".npz":
            return read_npz(path, predicting=self.predicting, target_names=_targets(self.settings, None))
        raise DataError(f"{path}: expected a data file ending in {listed([*TABLES, '.npz'], 20)}")

    def _table_file(self, path: Path) -> Source:
        declared = self.settings.columns
        table = read_table(
            path,
            missing=self.settings.missing,
            strings=[
                *(one for one, kind in declared.items() if kind not in ("numeric", "boolean")),
                *(one for one in (self.settings.groups, self.settings.split) if one is not None),
            ],
            labels=_targets(self.settings, None) or (),
            separator=self.settings.separator,
            decimal=self.settings.decimal,
            typed=self.schema is None or self.schema.kind != "table",
        )
        frame, decimal = table.frame, table.decimal
        if decimal == "auto" and self.schema is not None:
            numeric = [column.name for column in self.schema.used if column.kind == "numeric"]
            known = frame.select([name for name in frame.columns if name in numeric])
            decimal = table_decimal(known, self.settings, prior=table.prior, where=str(path))
        try:
            source = self._frame(frame, path.name, str(path), text=decimal)
        except DataError as problem:
            if frame.width > 1 or not table.notes:
                raise
            raise DataError(f"{problem}; {'; '.join(table.notes)}") from problem
        return dataclasses.replace(source, notes=(*table.notes, *source.notes), decimal=decimal)

    def _folder(self, path: Path) -> Source:
        shape = None
        if self.schema is not None and self.schema.kind == "images" and len(self.schema.input_shape) == 3:
            shape = (self.schema.input_shape[0], self.schema.input_shape[1], self.schema.input_shape[2])
        return read_image_folder(
            path,
            size=self.settings.image_size,
            shape=shape,
            predicting=self.predicting,
            stream=self.settings.stream,
        )

    def _frame(
        self,
        frame: pl.DataFrame | StoredTable,
        name: str,
        reference: str | None,
        text: Decimal | None = None,
    ) -> Source:
        """Read a table: separate targets, weights, split and groups from the features.

        Args:
            frame: the table.
            name: its name.
            reference: what identifies it on a command line.
            text: the decimal mark of a text file, whose targets and weights may be strings of numbers; None for others.
        """
        names = _targets(self.settings, frame.columns)
        if names is None and not self.predicting:
            raise DataError(
                f"{name}: the target column is not specified; set --target COLUMN (target= in Python); "
                f"the columns are {listed(frame.columns, 20)}"
            )
        if isinstance(self.settings.missing, Mapping) and self.schema is None:
            for title in self.settings.missing:
                if title not in frame.columns:
                    raise DataError(
                        f"data.missing: no column {title!r}; {did_you_mean(title, frame.columns)}"
                    )
        targets: Array | None = None
        absent: tuple[str, ...] = ()
        notes: tuple[str, ...] = ()
        if names is not None and not (self.predicting and any(one not in frame.columns for one in names)):
            frame, series = take(frame, names, f"{name}: target")
            absent = _absent_strings(series, self.settings.missing)
            if text is not None and not self._has_string_classes:
                series, notes = self._from_text(series, text)
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
                    (one,), _ = self._from_text([one], text)
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
            groups=extra.get("groups"), weights=extra.get("weights"), absent_targets=absent, notes=notes,
        )  # fmt: skip

    @property
    def _has_string_classes(self) -> bool:
        return self.schema is not None and any(isinstance(label, str) for label in self.schema.classes)

    def _from_text(
        self, columns: Sequence[pl.Series], decimal: Decimal
    ) -> tuple[list[pl.Series], tuple[str, ...]]:
        """Convert strings of a text file to numbers or booleans, if all of them allow it; also return notes."""
        import polars as pl

        mark: Mark = "comma" if decimal == "comma" else "point"
        result, notes = [], []
        for one in columns:
            numbers, note = None, ""
            if one.dtype == pl.String:
                numbers, note = converted(stripped(one, self.settings.missing), mark, units=True)
            result.append(one if numbers is None else numbers)
            notes += [f"column {one.name!r}: {note}"] if note else []
        return result, tuple(notes)


def _absent_strings(columns: Sequence[pl.Series], missing: Missing) -> tuple[str, ...]:
    """Return the strings of some columns that stand for a missing value."""
    import polars as pl

    found: dict[str, None] = {}
    for one in columns:
        if one.dtype == pl.String:
            cells = one.drop_nulls().str.strip_chars()
            present = cells.filter(cells.is_in([word for word in missing_in(missing, one.name) if word]))
            found |= dict.fromkeys(present.unique(maintain_order=True).to_list())
    return tuple(found)


def _targets(settings: DataSettings, columns: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the names of the target columns; a string with commas lists several, unless it is itself a column name."""
    if settings.target is None:
        return None
    if not isinstance(settings.target, str):
        return tuple(settings.target)
    if columns is not None and settings.target in columns:
        return (settings.target,)
    return tuple(name.strip() for name in settings.target.split(","))


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
