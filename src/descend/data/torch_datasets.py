"""Map-style torch datasets, whose items are loaded only when they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from descend.arguments import kind_of
from descend.data.arrays import as_targets
from descend.data.source import Array, Source
from descend.errors import DataError

if TYPE_CHECKING:
    from descend.data.schema import Schema

__all__ = ["EncodedItems", "from_torch_dataset", "item_input"]


def from_torch_dataset(data: Any, *, name: str = "dataset", reference: str | None = None) -> Source:
    """Return a source of a map-style ``Dataset`` of (input, target) or (input, target, weight) items.

    The classes and the split depend on the targets; these are taken from the dataset's ``targets`` or
    ``labels`` if it has such an attribute (as those of torchvision do), and otherwise from one pass over its items.

    Raises:
        DataError: the dataset is iterable, or its items are not pairs of numbers and a target.
    """
    if not hasattr(data, "__len__") or not hasattr(type(data), "__getitem__"):
        raise DataError(
            f"{name}: expected a map-style Dataset (with __len__ and __getitem__), "
            f"got {kind_of(data)}; "
            "an iterable one cannot be split or shuffled: load its items into a list first"
        )
    size = len(data)
    if size == 0:
        raise DataError(f"{name} has no rows")
    item_input(data, 0)
    weights = None
    targets = _stored_targets(data, size) if len(_item(data, 0)) == 2 else None
    if targets is None:
        items = [_item(data, row)[1:] for row in range(size)]
        targets = as_targets([_to_python(item[0]) for item in items])[0]
        if len(items[0]) == 2:
            weights = np.array([float(item[-1]) for item in items])
    return Source(name, reference, "dataset", *as_targets(targets), dataset=data, weights=weights)


def _stored_targets(data: Any, size: int) -> Array | None:
    """Return the targets that a dataset stores in an attribute, or None if it has none."""
    from torch.utils.data import Subset, TensorDataset

    if isinstance(data, Subset):
        whole = _stored_targets(data.dataset, len(data.dataset))  # type: ignore[arg-type]  # sized, if it is a Subset of it
        return None if whole is None else whole[np.asarray(data.indices)]
    stored = data.tensors[1] if isinstance(data, TensorDataset) and len(data.tensors) > 1 else None
    for attribute in ("targets", "labels"):
        stored = getattr(data, attribute, None) if stored is None else stored
    if stored is None or not hasattr(stored, "__len__") or len(stored) != size:
        return None
    targets = as_targets(stored)[0]
    first = _to_python(_item(data, 0)[1])  # it differs if the dataset transforms its targets
    return targets if np.array_equal(np.asarray(targets[0]), np.asarray(first)) else None


def _item(data: Any, row: int) -> tuple[Any, ...]:
    try:
        item = data[row]
    except Exception as cause:
        raise DataError(f"item {row} of the dataset failed with {type(cause).__name__}: {cause}") from cause
    if not isinstance(item, tuple | list) or len(item) not in (2, 3):
        raise DataError(f"item {row} of the dataset: expected a pair (input, target), got {kind_of(item)}")
    return tuple(item)


def _to_python(target: Any) -> Any:
    if hasattr(target, "tolist"):
        target = target.tolist()
    return target


def item_input(data: Any, row: int) -> Array:
    """Return the input of one item as a numeric array.

    Raises:
        DataError: the input does not consist of numbers.
    """
    inputs = _item(data, row)[0]
    try:
        array = np.asarray(inputs.detach().cpu().numpy() if hasattr(inputs, "detach") else inputs)
    except (TypeError, ValueError) as cause:
        raise DataError(f"item {row} of the dataset: expected numbers as input: {cause}") from cause
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"item {row} of the dataset: expected a tensor or an array of numbers as input, "
            f"got {kind_of(inputs)}; add a transform to the dataset that returns a tensor"
        )
    return array


class EncodedItems(Dataset[Any]):
    """Dataset with encoded targets and float32 inputs.

    Args:
        dataset: a dataset of items (input, target) or (input, target, weight).
        schema: the fitted schema, which encodes the targets.
        weights: a weight for each row, or None; if given, items are (input, target, weight).
    """

    def __init__(self, dataset: Any, schema: Schema, weights: Array | None = None) -> None:
        self.dataset, self.schema, self.weights = dataset, schema, weights

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> tuple[Tensor, ...]:
        raw, target = _item(self.dataset, row)[:2]
        inputs = torch.as_tensor(raw).to(torch.float32).reshape(self.schema.input_shape)
        encoded = self.schema.encode_targets(np.asarray(_to_python(target))[None])[0]
        if self.weights is None:
            return inputs, encoded
        return inputs, encoded, torch.tensor(self.weights[row], dtype=torch.float32)
