"""The `[data]` section of a recipe: what is learned from, how it is split, encoded and drawn.

The defaults of the fields are the defaults; no other place repeats them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from descend.param_types import Count, Fraction, Positive

__all__ = ["MISSING", "ColumnChoice", "DataSettings", "TaskChoice"]

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "None", "?")
"""Words that stand for a missing value in text."""

TaskChoice = Literal["auto", "regression", "classification", "multi_regression", "binary", "multiclass"]
ColumnChoice = Literal["numeric", "categorical", "boolean", "date", "ignore"]


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """What is learned from, how it is split, encoded and drawn.

    Args:
        target: name of the column to predict; a tuple of names, or names joined by commas, for several
            numeric targets. Not needed where the data themselves say it, as the bundled sets do.
        task: what is predicted. ``auto`` infers it from the targets; ``classification`` chooses between
            ``binary`` and ``multiclass``, ``regression`` between one and several targets.
        scale: how numeric inputs are scaled, by statistics of the training part: ``standard``, ``center``,
            ``minmax``, ``pca``, ``whiten``, ``zca`` or ``none``; or a table with a name and settings.
        clip: scaled numbers x are compressed smoothly to x / sqrt(1 + (x / clip)^2), which stays within
            +-clip, so that one outlier cannot dominate a step. Unit: standard deviations. ``none``: off.
            At 10, a number within three deviations changes by at most 5 %.
            Scales that do not bring the deviation to 1 have no bound.
        augment: changes of the training rows, drawn anew for each step: names of methods, or tables with a
            name and settings, in the order in which they are applied.
        batch_size: rows of one step; ``auto`` chooses by the number of training rows.
        sampling: ``epoch`` visits every row once an epoch in a new order, ``with_replacement`` draws each
            batch independently, ``full`` takes all rows in every step.
        shuffle: what ``epoch`` puts in a new order: ``rows``, all of them; or ``blocks`` of neighbouring rows
            (256 kB), with the rows anew within windows of blocks (256 MB): for ``stream``, where the rows
            do not fit into memory and reading each at random would take long.
        validation: share of the rows that choose when to stop; 0 for none.
        test: share of the rows that are touched once, at the end; 0 for none.
        split: name of a column that says ``train``, ``validation`` or ``test`` for each row.
        groups: name of a column whose equal values stay in one part (all rows of one patient, say).
        weights: name of a column with the weight of each row, 0 or more.
        columns: kind of a column by its name, where the inferred one is not wanted; ``ignore`` drops it.
        missing: words that stand for a missing value in text.
        max_categories: a column of text with more categories keeps the most frequent ``max_categories - 1``
            and pools the others.
        image_size: side in pixels to which images are resized; ``auto`` keeps a common size.
        stream: whether a Parquet file, or the pictures of a folder, stay on disk, for data larger than
            memory. Temporary files hold the encoded rows (environment's ``TMPDIR``).
        class_weights: ``balanced`` weights each training row by n / (K n_k), n_k the rows of its class.

    >>> DataSettings(target="price").validation
    0.15
    """

    target: str | tuple[str, ...] | None = None
    task: TaskChoice = "auto"
    scale: str | Mapping[str, Any] = "standard"
    clip: Positive | Literal["none"] = 10.0
    augment: str | Mapping[str, Any] | tuple[str | Mapping[str, Any], ...] = ()
    batch_size: Count | Literal["auto"] = "auto"
    sampling: Literal["epoch", "with_replacement", "full"] = "epoch"
    shuffle: Literal["rows", "blocks"] = "rows"
    validation: Fraction = 0.15
    test: Fraction = 0.25
    split: str | None = None
    groups: str | None = None
    weights: str | None = None
    columns: Mapping[str, ColumnChoice] = field(default_factory=dict)
    missing: tuple[str, ...] = MISSING
    max_categories: Count = 64
    image_size: Count | Literal["auto"] = "auto"
    stream: bool = False
    class_weights: Literal["none", "balanced"] = "none"

    @property
    def scale_name(self) -> str:
        """The name of the scale, without its settings."""
        return self.scale if isinstance(self.scale, str) else str(self.scale["name"])
