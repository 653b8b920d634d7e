"""Rows of a program's own data, without changing the state of its loader or of random generators."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from descend.errors import UserError

__all__ = ["rows_of", "undisturbed_randomness"]

MOST = 2048
"""The number of rows that are examined."""


@contextmanager
def undisturbed_randomness(seed: int = 0) -> Iterator[None]:
    """Seed the generators of PyTorch within a block; restore those of PyTorch, NumPy and Python after it."""
    numbers, states = random.getstate(), np.random.get_state()  # noqa: NPY002  # the user's own global generator is kept
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(numbers)
            np.random.set_state(states)  # noqa: NPY002  # as above


def rows_of(data: Any, most: int = MOST) -> tuple[Tensor, Tensor, int | None]:
    """Return inputs (n, ...), targets (n, ...) and the size of a batch, or None if the data have none.

    Args:
        data: a pair (inputs, targets) of tensors or arrays, a ``DataLoader``, a ``Dataset`` of pairs, or an iterable of
            batches that are pairs.
        most: the maximum number of rows; of more, evenly spaced ones.

    Raises:
        UserError: the data are none of these, or have no rows.

    >>> x, y, size = rows_of((torch.zeros(10, 3), torch.arange(10)), most=5)
    >>> x.shape, y.tolist(), size
    (torch.Size([5, 3]), [0, 2, 4, 6, 9], None)
    """
    size = None
    if isinstance(data, (tuple, list)) and len(data) == 2 and all(_is_array(each) for each in data):
        inputs, targets = (torch.as_tensor(each) for each in data)
        if len(inputs) != len(targets):
            raise UserError(
                f"data: {len(inputs)} inputs and {len(targets)} targets; expected as many of both"
            )
        chosen = torch.from_numpy(
            np.unique(np.linspace(0, len(inputs) - 1, min(most, len(inputs))).astype(int))
        )
        pairs = (inputs[chosen], targets[chosen])
    elif isinstance(data, DataLoader) and not isinstance(data.dataset, IterableDataset):
        size = data.batch_size
        pairs = _of_dataset(data.dataset, most, data.collate_fn)
    elif isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        pairs = _of_dataset(data, most, torch.utils.data.default_collate)
    else:
        pairs, size = _of_batches(data, most)
    if not len(pairs[0]):
        raise UserError("data: there are no rows to examine")
    return (*pairs, size)


def _is_array(each: Any) -> bool:
    return isinstance(each, (Tensor, np.ndarray))


def _of_dataset(dataset: Any, most: int, collate: Any) -> tuple[Tensor, Tensor]:
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(most, len(dataset))).astype(int))
    return _pair(collate([dataset[int(each)] for each in chosen]))


def _of_batches(data: Any, most: int) -> tuple[tuple[Tensor, Tensor], int | None]:
    try:
        batches = iter(data)
    except TypeError:
        raise UserError(
            "data: expected a pair (inputs, targets), a DataLoader, a Dataset or an iterable of batches, "
            f"got {type(data).__name__}"
        ) from None
    found: list[tuple[Tensor, Tensor]] = []
    for batch in batches:
        found.append(_pair(batch))
        if sum(len(inputs) for inputs, _ in found) >= most:
            break
    if not found:
        raise UserError("data: there are no rows to examine")
    inputs, targets = (torch.cat(each) for each in zip(*found, strict=True))
    return (inputs[:most], targets[:most]), len(found[0][0])


def _pair(batch: Any) -> tuple[Tensor, Tensor]:
    if isinstance(batch, (tuple, list)) and len(batch) == 2 and all(_is_array(each) for each in batch):
        return torch.as_tensor(batch[0]), torch.as_tensor(batch[1])
    raise UserError(
        f"data: expected batches that are pairs (inputs, targets) of tensors, got {type(batch).__name__}"
        + (f" of {len(batch)}" if isinstance(batch, (tuple, list)) else "")
    )
