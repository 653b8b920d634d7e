"""Batches: the rows of each step, equal for data in memory and for torch datasets."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples
from torch.utils.data import Dataset

from descend.data.batches import LoadedBatches, MemoryBatches, Order, shuffled_blocks

CPU = torch.device("cpu")
orders = st.builds(
    Order,
    rows=st.integers(1, 60),
    batch_size=st.integers(1, 20),
    accumulate=st.integers(1, 4),
    sampling=st.sampled_from(["epoch", "full", "in_order"]),
    seed=st.integers(0, 5),
)


@given(orders, st.integers(0, 3))
def test_each_row_once_an_epoch(order: Order, epoch: int) -> None:
    steps = [order.step(epoch, step) for step in range(order.steps_per_epoch)]
    seen = torch.cat([rows for step in steps for rows in step]).tolist()
    assert sorted(seen) == list(range(order.rows))
    assert [sum(map(len, step)) for step in steps] == order.rows_per_step
    assert all(len(rows) > 1 for step in steps for rows in step) or order.rows == 1 or order.batch_size == 1


class TestBlocks:
    @given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 120), st.integers(0, 9))
    def test_every_row_once_from_few_blocks_at_a_time(
        self, rows: int, block: int, window: int, epoch: int
    ) -> None:
        order = Order(rows, 7, seed=3, block=block, window=window).indices(epoch)
        assert sorted(order.tolist()) == list(range(rows))
        most = -(-(window - 1) // block) + 2  # the last block is shorter, and one is cut at each end
        for piece in order.split(window):
            assert len(set((piece // block).tolist())) <= most

    def test_it_is_a_pure_function_of_seed_and_epoch(self) -> None:
        order = Order(1000, 10, seed=1, block=16, window=128)
        assert torch.equal(order.indices(2), Order(1000, 10, seed=1, block=16, window=128).indices(2))
        assert not torch.equal(order.indices(2), order.indices(3))
        assert not torch.equal(order.indices(2), Order(1000, 10, seed=2, block=16, window=128).indices(2))

    def test_blocks_and_rows_are_shuffled(self) -> None:
        draw = torch.Generator().manual_seed(0)
        first = torch.stack([shuffled_blocks(12, 3, 6, draw) for _ in range(4000)])
        # Each row is equally likely at each position, and the rows of a block are both together and apart.
        counts = torch.stack([(first == row).sum(0) for row in range(12)]).float()
        expected = 4000 / 12
        assert ((counts - expected) ** 2 / expected).sum() < 200  # chi-square with 121 degrees: 1e-4 at 184
        assert not (first.diff(dim=1) == 1).all(1).any()


def test_epochs_differ_and_are_reproducible() -> None:
    order = Order(100, 10, seed=1)
    assert not torch.equal(order.indices(0), order.indices(1))
    assert torch.equal(order.indices(1), Order(100, 10, seed=1).indices(1))
    assert not torch.equal(order.indices(0), Order(100, 10, seed=2).indices(0))


def test_sampling_with_replacement_is_uniform() -> None:
    order = Order(10, 5, sampling="with_replacement", seed=0)
    counts = torch.bincount(torch.cat([order.indices(epoch) for epoch in range(2000)]), minlength=10).double()
    expected = 2000.0
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert chi_square < 27.9  # the 0.999 quantile with 9 degrees of freedom
    assert len(order.indices(0).unique()) < 10


@settings(deadline=None, max_examples=examples(40))
@given(orders, st.integers(0, 2), st.integers(0, 30))
def test_batches_in_memory_are_the_rows_of_the_order(order: Order, epoch: int, start: int) -> None:
    inputs, targets = torch.arange(order.rows * 2.0).reshape(-1, 2), torch.arange(order.rows)
    batches = MemoryBatches(inputs, targets, targets.float(), order)
    result = list(batches.epoch(epoch, start))
    assert len(result) == max(0, order.steps_per_epoch - start)
    for place, step in enumerate(result, start):
        for batch, rows in zip(step, order.step(epoch, place), strict=True):
            assert torch.equal(batch.targets, rows)
            assert torch.equal(batch.inputs, inputs[rows])
            assert torch.equal(batch.weights, rows.float())


def test_gathering_in_pieces_gives_the_same_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, targets = torch.arange(40.0).reshape(-1, 1), torch.arange(40)
    order = Order(40, 6, accumulate=2, seed=3)
    whole = [b.inputs for step in MemoryBatches(inputs, targets, None, order).epoch(1) for b in step]
    monkeypatch.setattr("descend.data.batches.CHUNK_BYTES", 1)
    pieces = [b.inputs for step in MemoryBatches(inputs, targets, None, order).epoch(1) for b in step]
    assert all(torch.equal(a, b) for a, b in zip(whole, pieces, strict=True))


@settings(deadline=None, max_examples=examples(60))
@given(orders, st.integers(0, 30), st.sampled_from([1, 500, 64 * 2**20]))
def test_a_batch_has_the_same_alignment_wherever_the_epoch_is_entered(
    order: Order, start: int, piece: int
) -> None:
    """The last bits of a matrix product depend on the alignment of its operands; a resumed run must reproduce them."""
    inputs, targets = torch.zeros(order.rows, 3), torch.arange(order.rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("descend.data.batches.CHUNK_BYTES", piece)
        whole, entered = (
            [
                [batch.inputs.data_ptr() % 64 for batch in step]
                for step in MemoryBatches(inputs, targets, None, order).epoch(0, at)
            ]
            for at in (0, start)
        )
    assert entered == whole[start:]


class Noisy(Dataset):
    """A data set that uses every global generator, as augmentation does."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        random_numbers = torch.tensor([torch.rand(()).item(), np.random.rand(), random.random()])  # noqa: NPY002 - what data sets do
        return torch.cat([torch.tensor([float(index)]), random_numbers]), index


@pytest.mark.parametrize("workers", [0, 2])
def test_items_have_the_same_random_numbers_for_any_number_of_workers_and_any_start(workers: int) -> None:
    order = Order(20, 6, accumulate=2, seed=1)
    targets = torch.arange(20)

    def batches(number: int) -> LoadedBatches:
        return LoadedBatches(Noisy(), range(20), targets, None, order, device=CPU, workers=number)

    whole = [b for step in batches(0).epoch(2) for b in step]
    state = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002 - the state that must stay
    loaded = batches(workers)
    list(loaded.epoch(0))  # a previous epoch, so that the workers are running
    later = [b for step in loaded.epoch(2, start=1) for b in step]
    assert len(whole) == 4
    for mine, theirs in zip(later, whole[2:], strict=True):
        assert torch.equal(mine.inputs, theirs.inputs)
        assert torch.equal(mine.targets, theirs.targets)
    if workers == 0:
        assert torch.equal(torch.get_rng_state(), state[0])
        assert random.getstate() == state[1]
        assert np.random.get_state()[1].tolist() == state[2]  # noqa: NPY002 - the same
    assert len({tuple(row) for b in whole for row in b.inputs[:, 1:].tolist()}) == 20
