"""The batches of a pack: for each member the rows of its solo run, stacked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from descend.data.batches import CHUNK_BYTES, Batch, MemoryBatches, OrderedBatches

__all__ = ["PackedBatches"]


class PackedBatches(OrderedBatches):
    """Batches of K members: inputs (K, B, …), targets (K, B) or (K, B, T), weights (K, B) or None.

    Members whose rows are the same tensors share them; different tensors are concatenated, so that one gather serves
    all members. Each member has its own order of rows.

    Args:
        members: the batches of each member, all with the same number of rows, batch size and kinds of rows.
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
        """Return the row numbers (K, B) of each batch of a step, in the concatenated rows."""
        sizes = self.order.sizes()
        accumulate = self.order.accumulate
        indices = self._indices(epoch).split(sizes, dim=1)
        return list(indices[step * accumulate : (step + 1) * accumulate])

    def _indices(self, epoch: int) -> Tensor:
        return torch.stack([order.indices(epoch) for order in self.orders]) + self._first

    def epoch(self, epoch: int, start: int = 0) -> Iterator[list[Batch]]:
        """Yield the batches of each step, from step ``start`` on."""
        accumulate = self.order.accumulate
        step: list[Batch] = []
        for batch in self._single_batches(epoch, start * accumulate):
            step.append(batch)
            if len(step) == accumulate:
                yield step
                step = []
        if step:
            yield step

    def _single_batches(self, epoch: int, start: int) -> Iterator[Batch]:
        members = len(self.orders)
        sizes = self.order.sizes()
        if self.order.sampling == "full" and not self._first.any():
            shared = [t.unsqueeze(0).expand(members, *t.shape) for t in self._tensors]
            yield from [_batch(shared)][start:]
            return
        device = self._tensors[0].device
        indices = self._indices(epoch).to(device, non_blocking=True)
        at = place = 0
        # The pieces do not depend on ``start``: the last bits of a result depend on the position of a batch in memory.
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
                # Rows are ordered (batch, member, row), so that each batch is contiguous in the gathered tensor.
                index = piece.transpose(0, 1).reshape(-1)
                gathered = [
                    tensor.index_select(0, index).view(count, members, size, *tensor.shape[1:]).unbind(0)
                    for tensor in self._tensors
                ]
                yield from [_batch(parts) for parts in zip(*gathered, strict=True)][max(0, start - place) :]
            at, place = at + count * size, place + count

    def select(self, places: list[int]) -> PackedBatches:
        """Return the batches of the members at these places."""
        result = object.__new__(PackedBatches)
        result.orders = [self.orders[place] for place in places]
        result.order = result.orders[0]
        result._tensors = self._tensors
        result._first = self._first[torch.tensor(places)]
        result._batches_per_gather = self._batches_per_gather
        return result


def _batch(parts: Sequence[Tensor]) -> Batch:
    return Batch(parts[0], parts[1], parts[2] if len(parts) > 2 else None)
