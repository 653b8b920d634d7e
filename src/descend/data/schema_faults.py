"""Inconsistencies of a schema that was read from a file."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from descend.data.labels import restore

__all__ = ["fault_of"]


def fault_of(schema: Any) -> str:
    """Return the first inconsistency of a :class:`~descend.data.schema.Schema`, or an empty string."""
    size = math.prod(schema.input_shape)
    if any(side < 1 for side in schema.input_shape) or schema.outputs < 1:
        return "input_shape and outputs must be positive"
    if schema.kind == "table" and sum(len(column.inputs) for column in schema.columns) != size:
        return "the columns do not match input_shape"
    if len({column.name for column in schema.columns}) != len(schema.columns):
        return "a column name occurs twice"
    for column in schema.columns:
        if column.scale <= 0:
            return f"column {column.name!r}: scale must be positive"
        if len(set(column.categories)) != len(column.categories):
            return f"column {column.name!r}: a category occurs twice"
        if not 0 <= column.unseen <= len(column.categories) - (column.kind == "categorical"):
            return f"column {column.name!r}: more unseen categories than categories"
        if column.ordered and (column.kind not in ("categorical", "constant", "empty") or column.pooled):
            return f"column {column.name!r}: only categories have an order"
        if column.used and (column.kind == "categorical") != bool(column.categories):
            return f"column {column.name!r}: categories and kind do not match"
        if (
            column.effects
            and column.kind == "categorical"
            and (len(column.effects) != len(column.coded) or len({len(each) for each in column.effects}) != 1)
        ):
            return f"column {column.name!r}: the effects do not match the categories"
        if column.used and (column.encoding != "block") != bool(column.effects and column.effects[0]):
            return f"column {column.name!r}: effects and encoding do not match"
        if (column.kind == "text") != (column.text is not None):
            return f"column {column.name!r}: text and kind do not match"
        if column.quantiles and any(a > b for a, b in pairwise(column.quantiles)):
            return f"column {column.name!r}: its quantiles decrease"
        if column.text is not None and column.text.fault():
            return f"column {column.name!r}: {column.text.fault()}"
    if len(schema.shift) != len(schema.spread) or any(spread <= 0 for spread in schema.spread):
        return "shift and spread do not match"
    if schema.white is not None and schema.white <= 0:
        return "white must be positive"
    if schema.kind == "images" and len(schema.shift) != schema.input_shape[0]:
        return "shift needs one number per channel"
    if schema.rotation is not None:
        numbers = sum(column.has_number for column in schema.columns)
        if schema.rotation.size != (numbers if schema.kind == "table" else size):
            return "the rotation does not match the inputs"
        fault = schema.rotation.fault()
        if fault:
            return str(fault)
    if schema.task in ("binary", "multiclass", "multi_label"):
        outputs = {"binary": 1, "multi_label": len(schema.target_names)}.get(schema.task, len(schema.classes))
        two = len(set(schema.classes)) == 2
        if (
            len(set(schema.classes)) < 2
            or schema.outputs != outputs
            or (schema.task == "multi_label" and not two)
        ):
            return "classes and outputs do not match"
        try:
            restore(schema.classes, schema.label_dtype)
        except (TypeError, ValueError, OverflowError):
            return f"label_dtype {schema.label_dtype!r} does not match the classes"
    elif not len(schema.target_mean) == len(schema.target_scale) == schema.outputs:
        return "target_mean and target_scale need one number per output"
    elif any(scale <= 0 for scale in schema.target_scale):
        return "target_scale must be positive"
    elif len(schema.target_transforms) not in (0, schema.outputs):
        return "target_transforms needs one transform per output"
    faults = (transform.fault() for transform in schema.target_transforms)
    if fault := next(filter(None, faults), ""):
        return f"target_transforms: {fault}"
    return ""
