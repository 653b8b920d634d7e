"""The batches of a pack: for each member the rows that it would see alone, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from descend.data.batches import CHUNK_BYTES, Batch, MemoryBatches, OrderedBatches

__all__ = ["PackedBatches"]


class PackedBatches(OrderedBatches):
    """Batches of K members: inputs (K, B, …), targets (K, B) or (K, B, T), weights (K, B) or None.

    Members whose rows are the same tensors share them; different ones are put one behind another, so that one gather
    serves all. Everyone has an order of rows of its own.

    Args:
        members: their batches; all with equal numbers of rows, batch sizes and kinds of rows.
    """

    def __init__(self, members: Sequence[MemoryBatches]) -> None:
        self.orders = [each.order for each in members]
        self.order = self.orders[0]
        places: dict[tuple[int, ...], int] = {}
        tables: list[list[Tensor]] = []
        of_member = []
        for each in members:
            key = tuple(tensor.data_ptr() for tensor in each.tensors)
            if key not in places:
                places[key] = len(tables)
                tables.append(each.tensors)
            of_member.append(places[key])
        self._tensors = (
            tables[0] if len(tables) == 1 else [torch.cat(parts) for parts in zip(*tables, strict=True)]
        )
        self._first = torch.tensor(of_member).unsqueeze(1) * len(tables[0][0])
        row_bytes = sum(tensor[0].numel() * tensor.element_size() for tensor in self._tensors)
        per_step = row_bytes * self.order.batch_size * len(members)
        self._batches_per_gather = max(1, CHUNK_BYTES // max(1, per_step))

    def rows(self, epoch: int, step: int) -> list[Tensor]:
        """Row numbers (K, B) of each batch of a step, in the tables put together."""
        sizes = self.order.sizes()
        accumulate = self.order.accumulate
        indices = self._indices(epoch).split(sizes, dim=1)
        return list(indices[step * accumulate : (step + 1) * accumulate])

    def _indices(self, epoch: int) -> Tensor:
        return torch.stack([order.indices(epoch) for order in self.orders]) + self._first

    def epoch(self, epoch: int, start: int = 0) -> Iterator[list[Batch]]:
        """For each step from ``start`` on, its batches."""
        accumulate = self.order.accumulate
        held: list[Batch] = []
        for batch in self._each(epoch, start * accumulate):
            held.append(batch)
            if len(held) == accumulate:
                yield held
                held = []
        if held:
            yield held

    def _each(self, epoch: int, start: int) -> Iterator[Batch]:
        members = len(self.orders)
        sizes = self.order.sizes()
        if self.order.sampling == "full" and not self._first.any():
            shared = [t.unsqueeze(0).expand(members, *t.shape) for t in self._tensors]
            yield from [_batch(shared)][start:]
            return
        device = self._tensors[0].device
        indices = self._indices(epoch).to(device, non_blocking=True)
        at = place = 0
        # The pieces are the same wherever the epoch is entered: a batch's place in memory decides its last bits.
        while place < len(sizes):
            size, count = sizes[place], 1
            while (
                place + count < len(sizes)
                and sizes[place + count] == size
                and count < self._batches_per_gather
            ):
                count += 1
            if place + count > start:
                piece = indices[:, at : at + count * size].view(members, count, size)
                # Rows in the order (batch, member, row), so that each batch is one piece of what is gathered.
                index = piece.transpose(0, 1).reshape(-1)
                gathered = [
                    tensor.index_select(0, index).view(count, members, size, *tensor.shape[1:]).unbind(0)
                    for tensor in self._tensors
                ]
                yield from [_batch(parts) for parts in zip(*gathered, strict=True)][max(0, start - place) :]
            at, place = at + count * size, place + count

    def select(self, places: list[int]) -> PackedBatches:
        """The batches of some of the members."""
        made = object.__new__(PackedBatches)
        made.orders = [self.orders[place] for place in places]
        made.order = made.orders[0]
        made._tensors = self._tensors
        made._first = self._first[torch.tensor(places)]
        made._batches_per_gather = self._batches_per_gather
        return made


def _batch(parts: Sequence[Tensor]) -> Batch:
    return Batch(parts[0], parts[1], parts[2] if len(parts) > 2 else None)
