"""Map-style torch datasets, kept lazy: items are loaded when they are trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from descend.data.arrays import as_targets
from descend.data.source import Array, Source
from descend.errors import DataError

if TYPE_CHECKING:
    from descend.data.schema import Schema

__all__ = ["EncodedItems", "from_torch_dataset", "item_input"]


def from_torch_dataset(data: Any, *, name: str = "dataset", reference: str | None = None) -> Source:
    """A map-style ``Dataset`` of (input, target) or (input, target, weight) items as a source.

    Targets are needed to know the classes and to split; they are taken from the dataset's ``targets`` or
    ``labels`` where it has them (as torchvision's do), and otherwise from one pass over its items.

    Raises:
        DataError: an iterable dataset, or items that are no pairs of numbers and a target.
    """
    if not hasattr(data, "__len__") or not hasattr(type(data), "__getitem__"):
        raise DataError(
            f"{name}: a map-style Dataset (with __len__ and __getitem__) was expected, "
            f"found {type(data).__name__}; "
            "an iterable one cannot be split or shuffled: load its items into a list first"
        )
    size = len(data)
    if size == 0:
        raise DataError(f"{name} holds no rows")
    item_input(data, 0)
    weights = None
    found = _known_targets(data, size) if len(_item(data, 0)) == 2 else None
    if found is None:
        items = [_item(data, row)[1:] for row in range(size)]
        found = as_targets([_plain(item[0]) for item in items])[0]
        if len(items[0]) == 2:
            weights = np.array([float(item[-1]) for item in items])
    width = found.shape[1] if found.ndim == 2 else 1
    names = ("y",) if width == 1 else tuple(f"y{at}" for at in range(width))
    return Source(name, reference, "dataset", found, names, dataset=data, weights=weights)


def _known_targets(data: Any, size: int) -> Array | None:
    from torch.utils.data import Subset, TensorDataset

    if isinstance(data, Subset):
        whole = _known_targets(data.dataset, len(data.dataset))  # type: ignore[arg-type]  # sized, if it is a Subset of it
        return None if whole is None else whole[np.asarray(data.indices)]
    held = data.tensors[1] if isinstance(data, TensorDataset) and len(data.tensors) > 1 else None
    for attribute in ("targets", "labels"):
        held = getattr(data, attribute, None) if held is None else held
    if held is None or not hasattr(held, "__len__") or len(held) != size:
        return None
    known = as_targets(held)[0]
    own = _plain(_item(data, 0)[1])  # a transformed target tells that the attribute holds something else
    return known if np.array_equal(np.asarray(known[0]), np.asarray(own)) else None


def _item(data: Any, row: int) -> tuple[Any, ...]:
    try:
        item = data[row]
    except Exception as cause:
        raise DataError(f"item {row} of the dataset failed with {type(cause).__name__}: {cause}") from cause
    if not isinstance(item, tuple | list) or len(item) not in (2, 3):
        raise DataError(
            f"item {row} of the dataset: a pair (input, target) was expected, found {type(item).__name__}"
        )
    return tuple(item)


def _plain(target: Any) -> Any:
    if hasattr(target, "tolist"):
        target = target.tolist()
    return target


def item_input(data: Any, row: int) -> Array:
    """The input of one item, as a numeric array.

    Raises:
        DataError: it is not made of numbers.
    """
    held = _item(data, row)[0]
    try:
        array = np.asarray(held.detach().cpu().numpy() if hasattr(held, "detach") else held)
    except (TypeError, ValueError) as cause:
        raise DataError(f"item {row} of the dataset: numbers were expected as input: {cause}") from cause
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"item {row} of the dataset: a tensor or an array of numbers was expected as input, "
            f"found {type(held).__name__}; give the dataset a transform that makes a tensor"
        )
    return array


class EncodedItems(Dataset[Any]):
    """A dataset whose targets are encoded and whose inputs are float32 tensors.

    Args:
        dataset: items (input, target) or (input, target, weight).
        schema: how targets are encoded.
        weights: a weight for each row, or None; where given, items are (input, target, weight).
    """

    def __init__(self, dataset: Any, schema: Schema, weights: Array | None = None) -> None:
        self.dataset, self.schema, self.weights = dataset, schema, weights

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> tuple[Tensor, ...]:
        held, target = _item(self.dataset, row)[:2]
        inputs = torch.as_tensor(held).to(torch.float32).reshape(self.schema.input_shape)
        encoded = self.schema.encode_targets(np.asarray(_plain(target))[None])[0]
        if self.weights is None:
            return inputs, encoded
        return inputs, encoded, torch.tensor(self.weights[row], dtype=torch.float32)
