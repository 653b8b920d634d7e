"""Data sets bundled with scikit-learn."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from descend.data.arrays import from_arrays
from descend.data.source import Source

__all__ = ["BUNDLED", "from_bunch", "load_bundled"]

BUNDLED = ("digits", "breast_cancer", "wine", "iris", "diabetes")
"""Names of the data sets that need no file."""


def load_bundled(name: str) -> Source:
    """Return one of the bundled data sets, with its column names.

    Class labels are the names of the classes (``"setosa"``); those of the digits are the integers 0 to 9.
    The digits are scans of 8 by 8 pixels with 17 grey levels: a table of 64 columns that is also an image.

    Args:
        name: one of :data:`BUNDLED`.

    >>> iris = load_bundled("iris")
    >>> len(iris), iris.frame.columns[0], str(iris.targets[0])
    (150, 'sepal length (cm)', 'setosa')
    """
    from sklearn import datasets

    source = from_bunch(getattr(datasets, f"load_{name}")(), name=name, reference=name)
    names = {"diabetes": ("progression",), "digits": ("digit",)}.get(name, ("class",))
    return dataclasses.replace(source, target_names=names, grid=(1, 8, 8) if name == "digits" else None)


def from_bunch(data: Mapping[str, Any], *, name: str, reference: str | None = None) -> Source:
    """Return a source from a scikit-learn ``Bunch``, the result of ``load_*`` and ``fetch_*``."""
    targets = data["target"]
    target_names = data.get("target_names")
    if target_names is not None and getattr(targets, "ndim", 0) == 1 and targets.dtype.kind in "iu":
        names = np.array([str(label) for label in target_names])
        if len(names) > targets.max() and not all(name.isdecimal() for name in names):
            targets = names[targets]
    source = from_arrays(data["data"], targets, name=name, reference=reference)
    columns = data.get("feature_names")
    if source.frame is None or source.named or columns is None or len(columns) != source.frame.width:
        return source
    frame = source.frame.rename(dict(zip(source.frame.columns, map(str, columns), strict=True)))
    return dataclasses.replace(source, frame=frame, named=True)
