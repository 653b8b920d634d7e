import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset

from descend.data.preparation import encode_source, prepare
from descend.data.sources import read
from descend.data.torch_datasets import from_torch_dataset
from descend.errors import DataError


class Items(Dataset):
    """Dataset that counts how often items are loaded."""

    def __init__(self, items):
        self.items, self.requested = items, 0

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        self.requested += 1
        item = self.items[row]
        return item() if callable(item) else item


def labeled(n=40):
    return Items([(torch.full((2, 3), float(i)), "ab"[i % 2]) for i in range(n)])


def test_targets_are_collected_and_inputs_stay_lazy():
    source = read(labeled())
    assert source.kind == "dataset"
    assert source.targets.tolist() == ["a", "b"] * 20
    prepared = prepare(source)
    assert prepared.schema.task == "binary"
    assert prepared.schema.input_shape == (2, 3)
    assert prepared.train.inputs is None
    row = int(prepared.test.rows[3])
    inputs, target = prepared.test.dataset[row]
    assert torch.equal(inputs, torch.full((2, 3), float(row)))
    assert target == row % 2 == prepared.test.targets[3]


def test_stored_targets_need_no_pass_over_the_items():
    data = labeled()
    data.targets = ["a", "b"] * 20
    read(data)
    assert data.requested < 5


def test_an_attribute_that_holds_something_else_is_not_trusted():
    data = labeled()
    data.targets = [0, 1] * 20
    assert read(data).targets.tolist() == ["a", "b"] * 20


@pytest.mark.parametrize("wrap", [lambda d: Subset(d, range(10, 30)), lambda d: ConcatDataset([d, d])])
def test_wrapped_datasets(wrap):
    base = TensorDataset(torch.arange(40.0)[:, None], torch.arange(40) % 4)
    wrapped = wrap(base)
    assert read(wrapped).targets.tolist() == [int(y) for _, y in wrapped]


def test_weights_are_taken_from_the_items():
    data = Items([(np.zeros(3, dtype=np.float32), i % 2, 1.0 + i) for i in range(20)])
    prepared = prepare(read(data))
    assert torch.equal(prepared.train.weights, torch.from_numpy(1.0 + prepared.train.rows).float())
    row = int(prepared.train.rows[0])
    assert prepared.train.dataset[row][2] == 1.0 + row


def test_regression_items_are_standardized_as_in_memory():
    values = np.linspace(5, 9, 30)
    prepared = prepare(read(Items([(np.ones(2), value) for value in values])))
    assert prepared.schema.task == "regression"
    assert abs(float(prepared.train.targets.mean())) < 1e-6
    row = int(prepared.train.rows[4])
    assert torch.equal(prepared.train.dataset[row][1], prepared.train.targets[4])


def test_a_dataset_is_encoded_for_evaluation():
    prepared = prepare(read(labeled()))
    part = encode_source(read(labeled(6)), prepared.schema)
    assert part.targets.tolist() == [0, 1, 0, 1, 0, 1]
    with pytest.raises(DataError, match="trained on data of kind dataset"):
        encode_source(read((np.zeros((4, 2)), list("abab"))), prepared.schema)


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.zeros(2), 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Stream(), "map-style"),
        (Items([]), "no rows"),
        (Items([torch.zeros(2)] * 4), r"item 0 .* a pair \(input, target\)"),
        (Items([("text", 0)] * 4), "got the string 'text'"),
        (Items([(torch.zeros(2), 0), lambda: 1 / 0]), "item 1 of the dataset failed with ZeroDivisionError"),
        (Items([({"a": 1}, 0)] * 4), "numbers|array of numbers"),
    ],
)
def test_datasets_that_do_not_fit_are_refused(data, message):
    with pytest.raises(DataError, match=message):
        from_torch_dataset(data)
