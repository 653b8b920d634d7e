"""The ``[data]`` section of a recipe: how the data are read, split, encoded and sampled.

The defaults of the fields are defined here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import annotated_types

from descend.param_types import Count, Fraction, Natural, NonNegative, Positive

__all__ = [
    "MISSING",
    "ColumnChoice",
    "DataSettings",
    "Decimal",
    "DeclaredKind",
    "LabelSeparator",
    "Missing",
    "Separator",
    "TaskChoice",
    "missing_in",
]

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "None", "?")
"""Strings that stand for a missing value."""

Missing = Sequence[str] | Mapping[str, Sequence[str]]
"""Strings that stand for a missing value: in all columns, or by the name of the column."""
TaskChoice = Literal[
    "auto", "regression", "classification", "multi_regression", "binary", "multiclass", "multi_label"
]
Decimal = Literal["auto", "point", "comma"]
Separator = Literal["auto", ",", ";", "\t", "|", ":", " "]
LabelSeparator = Literal["none", ";", ",", "|", "/", ":", "+", "&", " ", "\t"]
DeclaredKind = Literal["numeric", "categorical", "boolean", "date", "time", "duration", "text", "ignore"]
ColumnChoice = DeclaredKind | tuple[str | int, ...] | Mapping[str, str | tuple[str, ...]]
"""The kind of a column, its categories in their order, or a table of its kind and settings."""
Buckets = Annotated[int, annotated_types.Ge(1), annotated_types.Le(2**22)]


def missing_in(missing: Missing, column: str) -> Sequence[str]:
    """Return the strings that stand for a missing value in a column.

    >>> missing_in({"region": ["-"]}, "region"), missing_in(["-"], "age"), missing_in({"region": []}, "age")[:2]
    (['-'], ['-'], ('', 'NA'))
    """
    if isinstance(missing, Mapping):
        return missing.get(column, MISSING)
    return missing


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Settings of the data: how they are read, split, encoded and sampled.

    Args:
        target: name of the column to predict; a list of names, or names joined by commas, for several
            numeric targets. Not needed if the data define their target, as the bundled data sets do.
        task: the learning task. ``auto`` infers it from the targets; ``classification`` chooses between
            ``binary``, ``multiclass`` and ``multi_label``, ``regression`` between one and several targets.
            ``multi_label`` is for several targets with the same two values, such as 0 and 1, each of which may hold
            or not; ``auto`` chooses it for such targets, and ``multi_regression`` learns them as numbers.
        target_scale: how the targets of a regression are learned: ``standard``, minus the mean and divided by the
            standard deviation of the training part; ``log``, their logarithms, standardized, of 1 + y if some are 0;
            ``quantile``, their normal scores (:mod:`descend.data.target_transform`); or ``none``, in their own units.
            ``auto`` is what the loss takes:
            counts for ``poisson`` and ``negative_binomial``, standardized targets for others. Predictions and metrics
            are in the units of the targets in any case.
        scale: how numeric inputs are scaled, with statistics of the training part: ``standard``, ``center``,
            ``minmax``, ``robust``, ``quantile``, ``pca``, ``whiten``, ``zca`` or ``none``; or a table with a name and
            settings.
        categories: how columns of categories are encoded: ``onehot``, one input for each category; ``target``, the mean
            target of the category's rows, shrunk to the mean of all, with one input for each class of several; ``both``.
            Training rows are encoded out of fold, see :mod:`descend.data.category_encoding`. ``columns`` chooses it for
            one column.
        clip: scaled numbers x are compressed smoothly to x / sqrt(1 + (x / clip)^2), which stays within
            +-clip, so that one outlier cannot dominate a step. Unit: standard deviations. ``none``: off.
            At 10, a number within three standard deviations changes by at most 5 %.
            It applies only to scales with standard deviation 1; ``robust`` has a bound of its own.
        augment: random changes of the training rows in each step: names of methods, or tables with a
            name and settings, in the order in which they are applied; an empty list or ``none`` for no changes.
            ``choose`` tries shifts, rotations, scales, flips and colors of images in short runs, and takes those
            that lower the loss on rows that the runs are not trained on. ``auto`` is ``choose`` for images in memory
            if ``model.name`` is left open too, and no changes otherwise.
        batch_size: number of rows in a batch; ``auto`` chooses it by the number of training rows.
        sampling: ``epoch`` visits every row once per epoch in a new order, ``with_replacement`` samples each
            batch independently, ``full`` uses all rows in every step.
        shuffle: what ``epoch`` shuffles: ``rows``, all of them; or ``blocks`` of neighboring rows
            (256 kB), and the rows within windows of blocks (256 MB). Blocks are for ``stream``, if the rows
            do not fit into memory and reading each row at random would be slow.
        validation: share of the rows used to decide when to stop; 0 for none.
        test: share of the rows used once, after training; 0 for none.
        split: name of a column with ``train``, ``validation`` or ``test`` for each row.
        groups: name of a column whose equal values stay in one part (all rows of one patient, for example).
        weights: name of a column with the weight of each row, 0 or more.
        columns: the kind of a column by its name, which overrides the inferred one; ``ignore`` drops the column.
            ``date`` is a date with or without a time, ``time`` a time of day, ``duration`` a length of time. A table
            specifies more: ``{kind = "date", parts = ["number", "weekday", "hour"]}`` the parts that are inputs, see
            :mod:`descend.data.date_parts`; ``format`` how the cells are read, ``day-first``, ``month-first``,
            ``year-first``, a pattern such as ``%d.%m.%Y %H:%M``, or the unit of numbers since 1970-01-01 (``days``,
            ``seconds``, ``milliseconds``, ``microseconds``, ``nanoseconds``; ``excel``: days since 1899-12-30); ``zone`` the time
            zone whose local time is meant, such as ``Europe/Paris``.
            A list of strings, ``["S", "M", "L"]``, declares ordered categories. ``{kind = "categorical", encoding =
            "target"}`` chooses the encoding of a column: ``onehot``, ``target`` or ``both``; of an ordered one, with
            ``order = ["S", "M", "L"]``, ``thermometer`` or ``ordinal``, the standardized rank as one input.
        missing: strings that stand for a missing value, in all columns; or a table of such lists by the name of the
            column, ``{"region": []}``, and the defaults for all others. An empty cell is always missing. A number in the
            list, ``-999``, is missing in any way of writing it, also in a column of numbers.
        decimal: the decimal mark of numbers in text files and strings: ``point`` (1,234.5) or ``comma`` (1.234,5).
            ``auto`` finds it from all columns. The schema stores it, so that new data are read in the same way.
        separator: the character between the fields of a text file. ``auto`` takes it from the first line if that is
            ``sep=;``, or else chooses the one of comma, semicolon, tab and ``|`` that divides the header and the
            first rows into equal numbers of fields.
        encoding: the character encoding of a text file without a byte order mark, by its name in Python (``cp1252``,
            ``latin-1``, ``utf-16``). ``auto`` requires UTF-8, and refuses other bytes with their line.
        sheet: the sheet of a workbook; ``auto`` reads the first one.
        drop_missing_targets: whether rows without a target are left out, instead of being refused.
        max_categories: a column of strings with more categories keeps the most frequent ``max_categories - 1``
            and pools the others.
        text_buckets: the number of embeddings that the n-grams of a text column share; ``auto`` is four per training
            row, between 8192 and 65536, as a power of two.
        text_words: the smallest and the largest number of words of a word n-gram; [0, 0] for none.
        text_characters: the smallest and the largest number of characters of a character n-gram; [0, 0] for none.
        text_length: the largest number of different n-grams of a text that are used: its words first, in their order.
        image_size: side in pixels to which images are resized; ``auto`` keeps a common size.
        image_white: the gray level of white in images with more than 8 bits per pixel, which becomes 255. ``auto``
            finds it from all images of a folder, by their bit depth.
        stream: whether a Parquet file, or the images of a folder, stay on disk, for data larger than
            memory. Temporary files hold the encoded rows (in ``TMPDIR``, an environment variable).
        class_weights: factors of the weights of training rows by their class: ``balanced``, n / (K n_k) with n_k the
            number (or total weight) of the rows of class k; a table such as ``{"yes": 5.0}``, in which missing classes
            have the factor 1; or a list in the order of the classes. Predicted probabilities are then those of the
            weighted classes, and higher than the frequencies for classes of larger weight.
        label_separator: the character between the labels of a row, if the target is a string such as ``red;round``. Each
            label is then a target of its own (``multi_label``), and an empty cell is a row without labels. Targets that
            are lists of labels need no setting.

    >>> DataSettings(target="price").validation
    0.15
    """

    target: str | tuple[str, ...] | None = None
    task: TaskChoice = "auto"
    target_scale: str = "auto"
    scale: str | Mapping[str, Any] = "standard"
    categories: str = "onehot"
    clip: Positive | Literal["none"] = 10.0
    augment: str | Mapping[str, Any] | tuple[str | Mapping[str, Any], ...] = "auto"
    batch_size: Count | Literal["auto"] = "auto"
    sampling: Literal["epoch", "with_replacement", "full"] = "epoch"
    shuffle: Literal["rows", "blocks"] = "rows"
    validation: Fraction = 0.15
    test: Fraction = 0.25
    split: str | None = None
    groups: str | None = None
    weights: str | None = None
    columns: Mapping[str, ColumnChoice] = field(default_factory=dict)
    missing: tuple[str, ...] | Mapping[str, tuple[str, ...]] = MISSING
    decimal: Decimal = "auto"
    separator: Separator = "auto"
    encoding: str = "auto"
    sheet: str = "auto"
    drop_missing_targets: bool = False
    max_categories: Count = 64
    text_buckets: Buckets | Literal["auto"] = "auto"
    text_words: tuple[Natural, Natural] = (1, 2)
    text_characters: tuple[Natural, Natural] = (3, 4)
    text_length: Count = 384
    image_size: Count | Literal["auto"] = "auto"
    image_white: Positive | Literal["auto"] = "auto"
    stream: bool = False
    class_weights: Literal["none", "balanced"] | tuple[NonNegative, ...] | Mapping[str, NonNegative] = "none"
    label_separator: LabelSeparator = "none"

    def __post_init__(self) -> None:
        """Remove spaces around the names of columns, as the readers do."""
        target = self.target
        if target is not None:
            stripped = target.strip() if isinstance(target, str) else tuple(one.strip() for one in target)
            object.__setattr__(self, "target", stripped)
        for key in ("split", "groups", "weights"):
            name = getattr(self, key)
            if isinstance(name, str):
                object.__setattr__(self, key, name.strip())
        for key in ("columns", "missing"):
            table = getattr(self, key)
            if isinstance(table, Mapping):
                object.__setattr__(self, key, {name.strip(): value for name, value in table.items()})

    def kind_of(self, column: str) -> str | None:
        """Return the declared kind of a column, or None.

        >>> DataSettings(columns={"when": {"kind": "date", "parts": ["hour"]}}).kind_of("when")
        'date'
        """
        choice = self.columns.get(column)
        if isinstance(choice, Mapping):
            return str(choice.get("kind"))
        return choice if choice is None or isinstance(choice, str) else "categorical"

    @property
    def scale_name(self) -> str:
        """Name of the scale, without its settings."""
        return self.scale if isinstance(self.scale, str) else str(self.scale["name"])
