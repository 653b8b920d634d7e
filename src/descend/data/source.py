"""Raw data as read, before anything is inferred or fitted; joining of parts; the fingerprint."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from descend.data.messages import listed, rows_text
from descend.data.parsing import EXACT, tidy, to_strings
from descend.data.row_numbers import RowNumbers, naming
from descend.data.settings import Decimal
from descend.data.streaming import StoredTable
from descend.errors import DataError
from descend.process import in_fork, is_fork

if TYPE_CHECKING:
    import polars as pl

__all__ = ["PARTS", "Array", "Kind", "Source", "join", "take_rows", "with_labels"]

Array = np.ndarray[Any, Any]
Kind = Literal["table", "images", "tensor", "dataset"]
PARTS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Source:
    """Raw rows with their targets; nothing is encoded, scaled or split yet.

    Args:
        name: a short name for display.
        reference: what identifies these data on a command line, or None for data in memory.
        kind: ``table`` (``frame`` is set), ``images`` or ``tensor`` (``inputs`` is set) or ``dataset``.
        targets: raw labels or numbers, shape (n,) or (n, T); None only for data read for prediction.
        target_names: a name for each target.
        frame: the features of a table, one column each, without targets.
        stored: the features of a table that stays on disk, instead of ``frame``.
        inputs: images as uint8 (n, channels, height, width), or numbers of shape (n, ...).
        dataset: a map-style torch ``Dataset`` of (input, target) items, unchanged.
        split: "train", "validation" or "test" for each row, if the data come with a split.
        groups: a label for each row; rows of one group stay in one part.
        weights: the weight of each row.
        grid: shape (channels, height, width) of a table whose columns are the pixels of an image.
        named: whether the column names are meaningful, or only number the columns of an array.
        row_names: a name for each row, such as the file of an image.
        classes: the class labels if they are known in advance; they need not all occur in the targets.
        notes: remarks for the user from reading the data.
        decimal: the decimal mark of the numbers in a text file; ``auto`` if none occurs, and for other data.
        absent_targets: a remark on strings that were taken for missing targets.
        white: the gray level of white in images with more than 8 bits per pixel; None if there are none.
        numbers: where the rows come from, for messages; None for rows 0, 1, 2, ...
        kept: columns to be written next to the predictions, as the file has them.
        label_column: name of the target whose rows list their labels; ``targets`` then are columns of 0 and 1 for the
            labels ``target_names``. Empty for other targets.
    """

    name: str
    reference: str | None
    kind: Kind
    targets: Array | None
    target_names: tuple[str, ...]
    frame: pl.DataFrame | None = None
    stored: StoredTable | None = None
    inputs: Array | None = None
    dataset: Any = None
    split: Array | None = None
    groups: Array | None = None
    weights: Array | None = None
    grid: tuple[int, ...] | None = None
    named: bool = True
    row_names: tuple[str, ...] | None = None
    classes: Array | None = None
    notes: tuple[str, ...] = ()
    decimal: Decimal = "auto"
    absent_targets: str = ""
    white: float | None = None
    numbers: RowNumbers | None = None
    kept: pl.DataFrame | None = None
    label_column: str = ""

    def __len__(self) -> int:
        for rows in (self.frame, self.stored, self.inputs, self.dataset):
            if rows is not None:
                return len(rows)
        raise DataError(f"{self.name} has no rows")

    @in_fork
    def take(self, rows: Array) -> Source:
        """Return a source of some rows in the given order; a row may occur more than once.

        Args:
            rows: row numbers.

        Raises:
            DataError: there is no such row, or the table is not in memory.
        """
        if self.stored is not None:
            raise DataError(
                f"{self.name}: rows cannot be selected from a table that stays on disk (data.stream)"
            )
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self)):
            raise DataError(
                f"{self.name} has rows 0 to {len(self) - 1}, got row numbers from {rows.min()} to {rows.max()}"
            )
        chosen: dict[str, Any] = {
            name: None if (own := getattr(self, name)) is None else np.asarray(own)[rows]
            for name in ("targets", "inputs", "split", "groups", "weights")
        }
        for name in ("frame", "kept"):
            if getattr(self, name) is not None:
                chosen[name] = take_rows(getattr(self, name), rows)
        if self.dataset is not None:
            from torch.utils.data import Subset

            chosen["dataset"] = Subset(self.dataset, rows.tolist())
        if self.row_names is not None:
            chosen["row_names"] = tuple(self.row_names[row] for row in rows.tolist())
        return dataclasses.replace(self, **chosen, numbers=(self.numbers or RowNumbers()).take(rows))

    @in_fork
    def fingerprint(self) -> str:
        """Return a digest of the content: names, values, targets, weights and split.

        Equal content has equal fingerprints in any file format and memory layout; an integer has the same value in
        an integer and in a floating-point column.

        Returns: ``"blake2b:"`` and 32 hexadecimal digits.
        """
        digest = blake2b(digest_size=16)
        digest.update(f"{self.kind} {len(self)} {self.target_names}".encode())
        if self.frame is not None:
            # Hashing releases the GIL. In a fork, the thread that is watched does it.
            with nullcontext() if is_fork() else ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
                for one in (map if pool is None else pool.map)(_digest_series, self.frame):
                    digest.update(one)
        for series in self.stored or ():  # one at a time
            digest.update(_digest_series(series))
        if self.inputs is not None:
            _digest_array(digest, self.inputs)
        if self.dataset is not None:
            for row in np.unique(np.linspace(0, len(self) - 1, 64).astype(int)):
                _digest_array(digest, np.asarray(self.dataset[int(row)][0]))
        for extra in (self.targets, self.split, self.groups, self.weights):
            digest.update(b"|")
            if extra is not None:
                _digest_array(digest, extra)
        return "blake2b:" + digest.hexdigest()


def take_rows(frame: pl.DataFrame, rows: Array) -> pl.DataFrame:
    """Return some rows of a frame in the given order; a row may occur more than once."""
    if not is_fork():
        return frame[rows]
    import polars as pl

    return pl.DataFrame([series.gather(rows) for series in frame])  # uses no threads


def _digest_series(series: pl.Series) -> bytes:
    import polars as pl

    digest = blake2b(series.name.encode("utf-8", "replace"), digest_size=16)
    if series.dtype.is_numeric() or series.dtype == pl.Boolean:
        floats = series.cast(pl.Float64, strict=False)
        _digest_array(digest, floats.to_numpy())
        if (
            series.dtype.is_integer()
            and not (floats.cast(pl.Int128, strict=False) == series.cast(pl.Int128, strict=False)).all()
        ):
            _digest_integers(digest, series.to_list())
        return digest.digest()
    if series.dtype.is_temporal():
        digest.update(b"time")
        instants = tidy(series, ())
        _digest_array(digest, instants.to_physical().cast(pl.Float64).to_numpy())
        return digest.digest()
    strings = _strings(series)
    lengths = strings.str.len_bytes().fill_null(2**32 - 1).to_numpy().astype("<u4")
    digest.update(b"text")
    digest.update(lengths.tobytes())
    digest.update(str(strings.fill_null("").str.join("").item()).encode())
    return digest.digest()


def _strings(series: pl.Series) -> pl.Series:
    import polars as pl

    if series.dtype in (pl.String, pl.Categorical, pl.Enum):
        return series.cast(pl.String)
    return pl.Series(
        series.name, [None if one is None else str(one) for one in series.to_list()], dtype=pl.String
    )


def _digest_integers(digest: blake2b, values: list[int | None]) -> None:
    """Add integers that double precision would merge."""
    digest.update(b"integers" + ",".join(map(str, values)).encode())


def _digest_array(digest: blake2b, values: Array) -> None:
    digest.update(str(values.shape).encode())
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8 and values.size:
        integers = values.reshape(-1).tolist()
        if max(-min(integers), max(integers)) > EXACT and any(float(one) != one for one in integers):
            _digest_integers(digest, integers)
    if values.dtype.kind in "biuf":
        if values.dtype != np.uint8:
            values = values.astype("<f8") + 0.0  # -0.0 becomes 0.0
            absent = np.isnan(values)
            if absent.any():
                values[absent] = np.nan  # one bit pattern for all NaNs
        digest.update(np.ascontiguousarray(values).data)
    else:
        for value in values.reshape(-1).tolist():
            digest.update(f"{value!r},".encode())


@in_fork
def join(train: Source, validation: Source | None = None, test: Source | None = None) -> Source:
    """Join up to three parts to one source with a given split.

    Rows of ``train`` come first, then validation, then test. All parts must have the same columns or shapes.

    Raises:
        DataError: the parts do not match.
    """
    if validation is None and test is None:
        return train
    import polars as pl

    if any(one is not None and one.stored is not None for one in (train, validation, test)):
        raise DataError(
            f"{train.name}: data.stream reads one file; specify the column that assigns each row to a part (data.split)"
        )
    given = [
        (part, one) for part, one in zip(PARTS, (train, validation, test), strict=True) if one is not None
    ]
    given = list(
        zip([part for part, _ in given], _with_common_labels([one for _, one in given]), strict=True)
    )
    train = given[0][1]
    for part, one in given[1:]:
        _same_layout(train, one, part)
    split = np.concatenate([np.full(len(one), part) for part, one in given])
    frame = None
    if train.frame is not None:
        frames = with_common_types(
            [one.frame.select(train.frame.columns) for _, one in given if one.frame is not None]
        )
        try:
            frame = pl.concat(frames, how="vertical_relaxed")
        except pl.exceptions.PolarsError as cause:
            raise DataError(f"{train.name}: the parts have columns of different types: {cause}") from cause
    inputs = None if train.inputs is None else np.concatenate([np.asarray(one.inputs) for _, one in given])
    targets = None if train.targets is None else _joined([np.asarray(one.targets) for _, one in given])
    weights = None
    if any(one.weights is not None for _, one in given):
        weights = np.concatenate(
            [np.ones(len(one)) if one.weights is None else one.weights for _, one in given]
        )
    dataset = None
    if train.dataset is not None:
        from torch.utils.data import ConcatDataset

        dataset = ConcatDataset[Any]([one.dataset for _, one in given])
    return dataclasses.replace(
        train, frame=frame, inputs=inputs, targets=targets, weights=weights, dataset=dataset, split=split,
        groups=None, row_names=None,
        numbers=RowNumbers.join([(_name(part, one), len(one), one.numbers) for part, one in given]),
    )  # fmt: skip


def with_labels(source: Source, names: Sequence[str]) -> Source:
    """Return a source of listed labels with a column for each given label, in the given order.

    Raises:
        DataError: a row has a label that is not among the names; the message names the row.
    """
    if source.targets is None or source.target_names == tuple(names):
        return source
    place = {name: at for at, name in enumerate(source.target_names)}
    unknown = [name for name in source.target_names if name not in set(names)]
    if unknown:
        held = source.targets[:, [place[name] for name in unknown]] == 1
        with naming(source.numbers):
            raise DataError(
                f"the target {source.label_column!r} contains {listed(unknown, 5)} in "
                f"{rows_text(np.flatnonzero(held.any(axis=1)))}, which {'is' if len(unknown) == 1 else 'are'} not among "
                f"the labels {listed(names, 10)}"
            )
    absent = np.array([value is None for value in source.targets[:, :1].reshape(-1).tolist()], dtype=bool)
    columns = np.zeros((len(source), len(names)), dtype=source.targets.dtype)
    for at, name in enumerate(names):
        if name in place:
            columns[:, at] = source.targets[:, place[name]]
    if absent.any():
        columns[absent] = None
    return dataclasses.replace(source, targets=columns, target_names=tuple(names))


def _with_common_labels(sources: Sequence[Source]) -> list[Source]:
    """Return the sources with a column for each label that occurs in any of them."""
    if not all(source.label_column for source in sources):
        return list(sources)
    names = list(dict.fromkeys(name for source in sources for name in source.target_names))
    return [with_labels(source, names) for source in sources]


def _name(part: str, source: Source) -> str:
    """Return the name of a part in messages about rows."""
    return source.name if source.reference else f"the {part} data"


def with_common_types(frames: list[pl.DataFrame]) -> list[pl.DataFrame]:
    """Convert columns that have different types in the parts, so that no value changes.

    Integers that Float64 would merge stay integers; numbers become strings if another part has strings, such as codes
    with leading zeros.
    """
    import polars as pl

    for name in frames[0].columns:
        tidied = [
            tidy(frame[name], ()) if frame[name].dtype.is_numeric() else frame[name] for frame in frames
        ]
        kinds = {series.dtype for series in tidied}
        if pl.String in kinds and len(kinds) > 1:
            common = [to_strings(series) for series in tidied]
        elif pl.Int128 not in kinds:
            continue
        elif all(frame[name].dtype.is_integer() for frame in frames):
            common = [series.cast(pl.Int128) for series in tidied]
        else:
            common = [to_strings(series) for series in tidied]
        frames = [frame.with_columns(series) for frame, series in zip(frames, common, strict=True)]
    return frames


def _joined(targets: list[Array]) -> Array:
    """Concatenate targets; integers that would become different floating-point numbers stay Python integers."""
    joined = np.concatenate(targets)
    integers = [one for one in targets if one.dtype.kind in "iu" and one.size]
    if joined.dtype.kind == "f" and any(max(-int(one.min()), int(one.max())) > EXACT for one in integers):
        return np.concatenate([one.astype(object) for one in targets])
    return joined


def _same_layout(train: Source, other: Source, part: str) -> None:
    if train.kind != other.kind:
        raise DataError(
            f"the {part} data are of the kind {other.kind}, but the training data are of the kind {train.kind}"
        )
    if train.frame is not None and other.frame is not None:
        absent = [name for name in train.frame.columns if name not in other.frame.columns]
        if absent:
            own = f" ({other.name})" if other.reference else ""
            raise DataError(
                f"the {part} data{own} lack the column{'' if len(absent) == 1 else 's'} {listed(absent)}, which the training "
                "data have"
            )
    if (
        train.inputs is not None
        and other.inputs is not None
        and train.inputs.shape[1:] != other.inputs.shape[1:]
    ):
        raise DataError(
            f"a row of the {part} data has shape {other.inputs.shape[1:]}, "
            f"a row of the training data {train.inputs.shape[1:]}"
        )
    if (train.targets is None) != (other.targets is None):
        raise DataError(f"only one of the training and the {part} data has targets")
    if (
        train.targets is not None
        and other.targets is not None
        and train.targets.shape[1:] != other.targets.shape[1:]
    ):
        raise DataError(f"the {part} data have a different number of targets than the training data")
