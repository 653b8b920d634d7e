"""Mini-batches whose content is a pure function of (seed, epoch, step).

Data in memory stay on their device and are gathered by index, many batches at a time; a batch is then a
view and costs nothing. A torch ``Dataset`` goes through a ``DataLoader`` with an explicit list of rows to fetch.
Both kinds can start anywhere in an epoch and see the same rows in the same order.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from descend.rng import forked, generator, key

__all__ = [
    "Batch",
    "Batches",
    "LoadedBatches",
    "MemoryBatches",
    "MovedBatches",
    "Order",
    "OrderedBatches",
    "WrappedBatches",
    "shuffled_blocks",
]

Place = tuple[int, int, int]
"""An item to fetch: epoch, position within the epoch, row."""

CHUNK_BYTES = 64 * 2**20
"""Size of the pieces in which rows are gathered: large enough that the overhead of a gather is negligible."""


class Batch(NamedTuple):
    """Rows that go through the network together: inputs (b, ...), targets (b,) or (b, T), weights (b,) or None."""

    inputs: Tensor
    targets: Tensor
    weights: Tensor | None

    def some(self, rows: Tensor) -> Batch:
        """Return the batch of the rows at these positions."""
        weights = None if self.weights is None else self.weights[rows]
        return Batch(self.inputs[rows], self.targets[rows], weights)


class Batches(Protocol):
    """Interface of the training data that the loop consumes."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one epoch."""

    @property
    def rows_per_step(self) -> list[int]:
        """Rows that each step of an epoch averages over."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[list[Batch]]:
        """Yield, for each step from ``start`` on, the batches whose gradients it averages."""

    def rows(self, epoch: int, step: int) -> list[Tensor]:
        """Row numbers (within the part) of each batch of a step."""


@dataclass(frozen=True)
class Order:
    """Which rows each step of an epoch sees.

    Args:
        rows: number of rows n.
        batch_size: number of rows B in a batch. A last batch of a single row is merged into the one before it,
            because batch statistics need two rows.
        accumulate: number of batches in a step.
        sampling: "epoch" (a fresh permutation each epoch, every row once), "with_replacement"
            (n independent samples), "full" (all rows, in order, one batch), "in_order" (batches without
            shuffling, for evaluation).
        seed: the run's seed.
        block, window: number of rows in a block and in a window. If they are not 0, an epoch shuffles blocks of
            neighboring rows, and rows within windows of such blocks; see :func:`shuffled_blocks`.

    >>> order = Order(rows=10, batch_size=4, seed=0)
    >>> [len(batch) for batch in order.batches(0)], order.steps_per_epoch
    ([4, 4, 2], 3)
    >>> sorted(torch.cat(order.batches(0)).tolist()) == list(range(10))
    True
    """

    rows: int
    batch_size: int
    accumulate: int = 1
    sampling: Literal["epoch", "with_replacement", "full", "in_order"] = "epoch"
    seed: int = 0
    block: int = 0
    window: int = 0

    def sizes(self) -> list[int]:
        """Return the number of rows in each batch of an epoch."""
        if self.sampling == "full" or self.batch_size >= self.rows:
            return [self.rows]
        full, rest = divmod(self.rows, self.batch_size)
        sizes = [self.batch_size] * full + ([rest] if rest else [])
        if rest == 1 and self.batch_size > 1:
            sizes[-2:] = [self.batch_size + 1]
        return sizes

    @property
    def steps_per_epoch(self) -> int:
        """Number of optimizer steps in an epoch."""
        return -(-len(self.sizes()) // self.accumulate)

    @property
    def rows_per_step(self) -> list[int]:
        """Rows that each step of an epoch averages over."""
        sizes = self.sizes()
        return [sum(sizes[at : at + self.accumulate]) for at in range(0, len(sizes), self.accumulate)]

    def indices(self, epoch: int) -> Tensor:
        """Return the rows of an epoch in order, (n,) int64."""
        if self.sampling in ("full", "in_order"):
            return torch.arange(self.rows)
        random_order = generator(self.seed, "order", epoch)
        if self.sampling == "with_replacement":
            return torch.randint(self.rows, (self.rows,), generator=random_order)
        if self.block:
            return shuffled_blocks(self.rows, self.block, self.window, random_order)
        return torch.randperm(self.rows, generator=random_order)

    def batches(self, epoch: int) -> tuple[Tensor, ...]:
        """Return the rows of each batch of an epoch."""
        return tuple(torch.split(self.indices(epoch), self.sizes()))

    def step(self, epoch: int, step: int) -> list[Tensor]:
        """Return the rows of each batch of one step."""
        return list(self.batches(epoch)[step * self.accumulate : (step + 1) * self.accumulate])


def shuffled_blocks(rows: int, block: int, window: int, generator: torch.Generator) -> Tensor:
    """Return an order of all rows that reads a file in pieces, (rows,) int64.

    Blocks of neighboring rows are put in a random order, and the rows are then shuffled within each window
    of that order. While a window is used, only its blocks are needed, so that every page of a file
    larger than memory is read about once per epoch. Rows that are adjacent in the file stay in one window, or
    in two: shuffle a sorted file first.

    Args:
        rows: number of rows.
        block: number of rows in a block; the last one may be shorter.
        window: number of rows in a window.
        generator: source of the random numbers.

    >>> order = shuffled_blocks(12, 3, 6, torch.Generator().manual_seed(0))
    >>> sorted(order.tolist()) == list(range(12)), len(set((order[:6] // 3).tolist()))
    (True, 2)
    """
    blocks = torch.randperm(-(-rows // block), generator=generator)
    order = (blocks[:, None] * block + torch.arange(block)).flatten()
    order = order[order < rows]
    for start in range(0, rows, window):
        piece = order[start : start + window]
        order[start : start + window] = piece[torch.randperm(len(piece), generator=generator)]
    return order


class OrderedBatches(ABC):
    """Base class of batches whose size and rows follow an :class:`Order`."""

    order: Order

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one epoch."""
        return self.order.steps_per_epoch

    @property
    def rows_per_step(self) -> list[int]:
        """Rows that each step of an epoch averages over."""
        return self.order.rows_per_step

    def rows(self, epoch: int, step: int) -> list[Tensor]:
        """Return the row numbers of each batch of a step."""
        return self.order.step(epoch, step)

    @abstractmethod
    def epoch(self, epoch: int, start: int = 0) -> Iterator[list[Batch]]:
        """Yield the batches of each step, from step ``start`` on."""


class WrappedBatches(ABC):
    """Base class of batches that change the content of other batches, but not their rows."""

    batches: Batches

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one epoch."""
        return self.batches.steps_per_epoch

    @property
    def rows_per_step(self) -> list[int]:
        """Rows that each step of an epoch averages over."""
        return self.batches.rows_per_step

    def rows(self, epoch: int, step: int) -> list[Tensor]:
        """Return the row numbers of each batch of a step."""
        return self.batches.rows(epoch, step)

    @abstractmethod
    def epoch(self, epoch: int, start: int = 0) -> Iterator[list[Batch]]:
        """Yield the batches of each step, from step ``start`` on."""


class MemoryBatches(OrderedBatches):
    """Batches of tensors in memory, on the training device.

    Args:
        inputs: (n, ...) on any device.
        targets: (n,) or (n, T) on the same device.
        weights: (n,) or None.
        order: the rows of each step.
    """

    def __init__(self, inputs: Tensor, targets: Tensor, weights: Tensor | None, order: Order) -> None:
        self.tensors = [inputs, targets, *([] if weights is None else [weights])]
        self.order = order
        row_bytes = sum(tensor[0].numel() * tensor.element_size() for tensor in self.tensors)
        per_step = max(1, row_bytes * order.batch_size * order.accumulate)
        self._steps_per_gather = max(1, CHUNK_BYTES // per_step)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[list[Batch]]:
        """Yield, for each step from ``start`` on, its batches, as views of gathered rows."""
        accumulate, total = self.order.accumulate, self.steps_per_epoch
        if self.order.sampling == "full":
            yield from [[self._batch(self.tensors)]][start:]
            return
        sizes = self.order.sizes()
        indices = self.order.indices(epoch).to(self.tensors[0].device, non_blocking=True)
        # Rows are gathered in the same pieces wherever the epoch is entered, so that a batch always has the same offset
        # within its piece: matrix products round differently where their operands are aligned differently.
        begin = start - start % self._steps_per_gather
        at = sum(sizes[: begin * accumulate])
        for first in range(begin, total, self._steps_per_gather):
            of_batches = sizes[first * accumulate : (first + self._steps_per_gather) * accumulate]
            index = indices[at : at + sum(of_batches)]
            at += len(index)
            split = [tensor.index_select(0, index).split(of_batches) for tensor in self.tensors]
            if first < start:
                split = [parts[(start - first) * accumulate :] for parts in split]
            if accumulate == 1:
                for parts in zip(*split, strict=True):
                    yield [self._batch(parts)]
            else:
                batches = [self._batch(parts) for parts in zip(*split, strict=True)]
                for place in range(0, len(batches), accumulate):
                    yield batches[place : place + accumulate]

    @staticmethod
    def _batch(parts: Sequence[Tensor]) -> Batch:
        return Batch(parts[0], parts[1], parts[2] if len(parts) > 2 else None)


class MovedBatches(WrappedBatches):
    """Batches that are moved to a device one at a time, for data that do not fit into its memory.

    Args:
        batches: batches on the CPU.
        device: the target device.
    """

    def __init__(self, batches: Batches, device: torch.device) -> None:
        self.batches, self.device = batches, device

    def epoch(self, epoch: int, start: int = 0) -> Iterator[list[Batch]]:
        """Yield, for each step from ``start`` on, its batches on the device."""
        for batches in self.batches.epoch(epoch, start):
            yield [self._moved(batch) for batch in batches]

    def _moved(self, batch: Batch) -> Batch:
        inputs, targets, weights = (
            None if part is None else part.to(self.device, non_blocking=True) for part in batch
        )
        assert inputs is not None
        assert targets is not None
        return Batch(inputs, targets, weights)


class LoadedBatches(OrderedBatches):
    """Batches of a torch ``Dataset``, fetched by worker processes.

    A data set may use random numbers for an item (augmentation). The global generators of torch, NumPy and Python
    are seeded from (seed, epoch, position in the epoch) before each item, in the process that fetches it, so that
    its random numbers depend neither on the number of workers nor on where a run was resumed.

    Args:
        dataset: a data set whose items start with the inputs.
        items: the item of the data set for each row, (n,).
        targets: encoded targets of the rows, (n,) or (n, T).
        weights: (n,) or None.
        order: the rows of each step.
        device: the device that batches are moved to.
        workers: number of worker processes; 0 fetches in the current process.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        items: Sequence[int],
        targets: Tensor,
        weights: Tensor | None,
        order: Order,
        *,
        device: torch.device,
        workers: int = 0,
    ) -> None:
        self.order, self.device = order, device
        self._plan: list[list[Place]] = []
        self._loader: DataLoader[Any] = DataLoader(
            _SeededItems(dataset, items, targets, weights, order.seed),
            batch_sampler=_PlannedSampler(self),
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            generator=generator(order.seed, "workers"),
        )

    def epoch(self, epoch: int, start: int = 0) -> Iterator[list[Batch]]:
        """Yield, for each step from ``start`` on, its batches, moved to the device."""
        accumulate = self.order.accumulate
        position, plan = 0, []
        for rows in self.order.batches(epoch):
            plan.append([(epoch, position + offset, row) for offset, row in enumerate(rows.tolist())])
            position += len(rows)
        self._plan = plan[start * accumulate :]
        step_batches: list[Batch] = []
        for parts in self._loader:
            moved = [part.to(self.device, non_blocking=True) for part in parts]
            step_batches.append(Batch(moved[0], moved[1], moved[2] if len(moved) > 2 else None))
            if len(step_batches) == accumulate:
                yield step_batches
                step_batches = []
        if step_batches:
            yield step_batches


class _PlannedSampler(Sampler[list[Place]]):
    """The batches that the owner planned for the epoch; read again each time the loader is iterated."""

    def __init__(self, owner: LoadedBatches) -> None:
        self.owner = owner

    def __iter__(self) -> Iterator[list[Place]]:
        return iter(self.owner._plan)

    def __len__(self) -> int:
        return len(self.owner._plan)


class _SeededItems(Dataset[Any]):
    """A data set whose items, indexed by (epoch, position, row), use random numbers from a fresh seed."""

    def __init__(
        self, dataset: Dataset[Any], items: Sequence[int], targets: Tensor, weights: Tensor | None, seed: int
    ) -> None:
        self.dataset, self.items, self.targets, self.weights, self.seed = (
            dataset,
            items,
            targets,
            weights,
            seed,
        )

    def __getitem__(self, place: Place) -> tuple[Any, ...]:
        epoch, position, row = place
        seed = key(self.seed, "item", epoch, position)
        python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the data set may use it
        try:
            with forked():
                torch.default_generator.manual_seed(seed)
                random.seed(seed)
                np.random.seed(seed % 2**32)  # noqa: NPY002 - the data set may use it
                inputs = self.dataset[int(self.items[row])][0]
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002 - restores the global state
        encoded = torch.as_tensor(np.asarray(inputs) if not isinstance(inputs, Tensor) else inputs).float()
        weight = [] if self.weights is None else [self.weights[row]]
        return (encoded, self.targets[row], *weight)
