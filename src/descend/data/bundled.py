"""Data sets bundled with scikit-learn, read from its files: importing scikit-learn takes longer than a short training."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from descend.data.arrays import from_arrays
from descend.data.source import Array, Source

__all__ = ["BUNDLED", "from_bunch", "load_bundled"]

BUNDLED = ("digits", "breast_cancer", "wine", "iris", "diabetes")
"""Names of the data sets that need no file."""


def load_bundled(name: str) -> Source:
    """Return one of the bundled data sets, with its column names.

    Class labels are the names of the classes (``"setosa"``); those of the digits are the integers 0 to 9.
    The digits are scans of 8 by 8 pixels with 17 gray levels: a table of 64 columns that is also an image.

    Args:
        name: one of :data:`BUNDLED`.

    >>> iris = load_bundled("iris")
    >>> len(iris), iris.frame.columns[0], str(iris.targets[0])
    (150, 'sepal length (cm)', 'setosa')
    """
    inputs, targets = _read_diabetes() if name == "diabetes" else _read_classes(name)
    source = from_arrays(inputs, targets, name=name, reference=name)
    assert source.frame is not None  # a matrix of floats is a table
    frame = source.frame.rename(dict(zip(source.frame.columns, _COLUMNS[name], strict=True)))
    names = {"diabetes": ("progression",), "digits": ("digit",)}.get(name, ("class",))
    grid = (1, 8, 8) if name == "digits" else None
    return dataclasses.replace(source, frame=frame, named=True, target_names=names, grid=grid)


_MEASURED = (
    "radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "concave points", "symmetry",
    "fractal dimension",
)  # fmt: skip
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "iris": ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"),
    "wine": (
        "alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium", "total_phenols", "flavanoids",
        "nonflavanoid_phenols", "proanthocyanins", "color_intensity", "hue", "od280/od315_of_diluted_wines", "proline",
    ),
    "breast_cancer": tuple(
        form.format(name) for form in ("mean {}", "{} error", "worst {}") for name in _MEASURED
    ),
    "digits": tuple(f"pixel_{row}_{column}" for row in range(8) for column in range(8)),
    "diabetes": ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"),
}  # fmt: skip
"""The column names, which scikit-learn keeps in its code."""
_FILES = {
    "iris": "iris.csv",
    "wine": "wine_data.csv",
    "breast_cancer": "breast_cancer.csv",
    "digits": "digits.csv.gz",
}


def _folder() -> Path:
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("scikit-learn is not installed; its files contain the bundled data sets")
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data"


def _read_classes(name: str) -> tuple[Array, Array]:
    """Return inputs and labels. The last column is the class; a first line, if any, contains the names of the classes."""
    path = _folder() / _FILES[name]
    if name == "digits":
        values = np.loadtxt(path, delimiter=",")
        return values[:, :-1], values[:, -1].astype(np.int64)
    values = np.loadtxt(path, delimiter=",", skiprows=1)
    with path.open(encoding="utf-8") as file:
        labels = np.array(file.readline().strip().split(",")[2:])
    return values[:, :-1], labels[values[:, -1].astype(np.int64)]


def _read_diabetes() -> tuple[Array, Array]:
    """Return inputs whose columns have mean 0 and norm 1, as scikit-learn's loader does, and the targets."""
    values = np.loadtxt(_folder() / "diabetes_data_raw.csv.gz")
    centered = values - values.mean(axis=0)
    return centered / values.std(axis=0) / len(values) ** 0.5, np.loadtxt(
        _folder() / "diabetes_target.csv.gz"
    )


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
