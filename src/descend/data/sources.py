"""Reading data of any form: names, files, folders, functions, arrays, data frames, torch datasets."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from descend.arguments import kind_of
from descend.data import standard_input
from descend.data.arrays import from_arrays, from_named_arrays, is_named_arrays, read_npz
from descend.data.bundled import BUNDLED, from_bunch, load_bundled
from descend.data.column_choice import choose_columns
from descend.data.compression import COMPRESSED
from descend.data.frames import as_array, as_frame, is_frame, is_records, is_strings
from descend.data.functions import call, is_function_path
from descend.data.image_arrays import image_arrays
from descend.data.image_folders import is_images, read_image_folder, read_images
from descend.data.image_layout import ENDINGS
from descend.data.image_values import image_files
from descend.data.label_lists import divided
from descend.data.messages import listed
from descend.data.missing_targets import without_missing_targets
from descend.data.parts import refuse_url, table_parts
from descend.data.schema import Schema
from descend.data.settings import DataSettings, missing_in
from descend.data.source import PARTS, Source, join, with_labels
from descend.data.streaming import StoredTable
from descend.data.table_files import TABLES
from descend.data.table_sources import TableReader, target_names
from descend.errors import DataError, closest_file
from descend.files import RUN_MARKERS
from descend.process import in_fork

if TYPE_CHECKING:
    pass

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
    name: str = "data",
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
        name: what data in memory are called in messages.

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
    weights_from = "sample_weight" if isinstance(weights, str) else "data.weights"
    if isinstance(weights, str):
        settings, weights = dataclasses.replace(settings, weights=weights), None
    if after is not None:
        settings = like(settings, after)
    titles = tuple(title.strip() for title in keep)
    source = _Reader(settings, predicting, schema, held_out, titles, after, name, weights_from).read(data)
    if not isinstance(data, Source):
        names = target_names(settings, _columns_of(source))
        own = names is not None and names == (source.label_column,)
        source = choose_columns(
            source, settings, None if own else names, strict=strict, weights_from=weights_from
        )
    source = divided(
        source, settings.label_separator, missing_in(settings.missing, _first(source.target_names))
    )
    if schema is not None and schema.label_column and source.label_column:
        source = with_labels(source, schema.target_names)
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
        target=settings.target or _targets_of(schema),
        missing=schema.missing,
        decimal=settings.decimal if settings.decimal != "auto" else schema.decimal,
        separator=settings.separator if settings.separator != "auto" else schema.separator,
        label_separator=(
            settings.label_separator if settings.label_separator != "none" else schema.label_separator
        ),
    )


def _targets_of(schema: Schema) -> tuple[str, ...] | None:
    if schema.kind != "table" or not schema.named:
        return None
    return (schema.label_column,) if schema.label_column else schema.target_names


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
    name: str = "data"
    weights_from: str = "data.weights"

    @property
    def _given_names(self) -> tuple[str, ...] | None:
        """Names for the targets of arrays, which have none, from the data that they belong to."""
        return target_names(self.settings, None) if self.held_out or self.schema is not None else None

    def read(self, data: Any) -> Source:
        if isinstance(data, Source):
            return data
        if self.predicting and self._image_shape is not None:
            piped = isinstance(data, str) and data == standard_input.NAME
            images = image_files(standard_input.read_standard_input() if piped else data)
            if images is not None:
                return self._images(images)
            data = image_arrays(data, self._image_shape)
        elif self.predicting and is_images(data, by_name=not self._is_table):
            return self._images(data if isinstance(data, list | tuple) else [data])
        if isinstance(data, str):
            return self._named(data)
        if isinstance(data, os.PathLike):
            return self._path(Path(data))
        return self._object(data, self.name, None)

    @property
    def tables(self) -> TableReader:
        """The reader of tables."""
        return TableReader(self.settings, self.predicting, self.schema, self.keep, self.weights_from)

    @property
    def _is_table(self) -> bool:
        return self.schema is not None and self.schema.kind == "table"

    def _named(self, name: str) -> Source:
        if name in BUNDLED:
            self._refuse_stream(name)
            return load_bundled(name)
        if name == standard_input.NAME:
            self._refuse_stream("standard input")
            return self.tables.file(Path("standard input"), standard_input.read_standard_input())
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
            return self.tables.frame(as_frame(data), name, reference)
        if _is_dataset(data):
            from descend.data.torch_datasets import from_torch_dataset

            return from_torch_dataset(data, name=name, reference=reference)
        if _is_pair(data) or (not self.predicting and _is_text_pair(data)):
            return from_arrays(
                data[0], data[1], name=name, reference=reference, target_names=self._given_names,
                label_lists=self.schema is not None and bool(self.schema.label_column),
            )  # fmt: skip
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
        return self.tables.frame(as_frame(data), name, reference)

    def _path(self, path: Path) -> Source:
        try:
            path = path.expanduser() if str(path).startswith("~") else path
            exists, folder = path.exists(), path.is_dir()
            parts = table_parts(path) if folder or not exists else []
        except (OSError, ValueError, RuntimeError) as cause:
            raise DataError(f"no such file: {str(path)[:100]!r} ({cause})") from cause
        if parts and self.settings.stream and {part.suffix.lower() for part in parts} <= {".parquet", ".pq"}:
            return self.tables.frame(StoredTable.open(path, parts), path.name, str(path))
        if parts and not self.settings.stream:
            return self.tables.parts(path, parts)
        if not exists:
            raise DataError(f"no such file, folder or data set: {path}{_suggestion(path)}")
        if folder:
            _refuse_results(path)
            return self._folder(path)
        suffix = path.suffix.lower()
        if self.settings.stream:
            if suffix not in (".parquet", ".pq"):
                raise DataError(
                    f"{path}: data.stream reads Parquet files and folders of images; save this file as Parquet, for "
                    f"example with polars: pl.scan_csv('data.csv').sink_parquet('data.parquet')"
                )
            return self.tables.frame(StoredTable.open(path), path.name, str(path))
        if suffix in ("", *TABLES, *COMPRESSED):
            if self.schema is not None and self.schema.kind == "images":
                raise DataError(f"{path} is a table, but the network was trained on images")
            return self.tables.file(path)
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


def _columns_of(source: Source) -> list[str]:
    return [
        *source.target_names,
        source.label_column,
        *(source.frame.columns if source.frame is not None else ()),
    ]


def _first(names: Sequence[str]) -> str:
    return names[0] if names else ""


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
    if isinstance(data, list | tuple):
        return f"{kind_of(data)} of {len(data)} item{'' if len(data) == 1 else 's'}"
    return kind_of(data) + (f" of shape {tuple(shape)}" if shape is not None else "")


def _refuse_results(path: Path) -> None:
    """Refuse the folder of a run, a search or a comparison, which contains no data."""
    is_run = all((path / name).is_file() for name in RUN_MARKERS)
    if is_run or any((path / name).is_file() for name in ("search.json", "comparison_settings.json")):
        raise DataError(
            f"{path} is a folder of results, not of data; specify a data set, a data file or a folder of images by class"
        )


def _suggestion(path: Path) -> str:
    try:
        siblings = [one.name for one in path.parent.iterdir()][:1000]
    except (OSError, ValueError):
        siblings = []
    close = closest_file(path.name, [*BUNDLED, *siblings])
    if close is None:
        return f"; bundled data sets are {listed(BUNDLED)}"
    return f"; did you mean '{close if close in BUNDLED else path.parent / close}'?"
