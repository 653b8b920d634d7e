import numpy as np
import pytest
from sklearn import datasets

from descend.data.bundled import BUNDLED, from_bunch, load_bundled
from descend.data.sources import read


@pytest.mark.parametrize("name", BUNDLED)
def test_values_equal_scikit_learn(name):
    source, expected = load_bundled(name), getattr(datasets, f"load_{name}")()
    assert np.array_equal(source.frame.to_numpy(), expected.data)
    assert source.frame.columns == list(expected.feature_names)
    assert len(source) == len(expected.data)
    assert source.reference == source.name == name


def test_classes_have_their_names_and_digits_are_numbers():
    assert set(load_bundled("iris").targets) == {"setosa", "versicolor", "virginica"}
    assert set(load_bundled("breast_cancer").targets) == {"malignant", "benign"}
    assert load_bundled("digits").targets.dtype.kind == "i"
    assert load_bundled("digits").grid == (1, 8, 8)
    assert load_bundled("diabetes").targets.dtype == np.float64


def test_whatever_scikit_learn_loads_can_be_read_by_its_path():
    wine = read("sklearn.datasets:load_wine")
    assert wine.frame.columns[0] == "alcohol"
    assert wine.reference == "sklearn.datasets:load_wine"
    linnerud = read("sklearn.datasets:load_linnerud")
    assert linnerud.targets.shape == (20, 3)
    assert from_bunch(datasets.load_wine(as_frame=True), name="wine").frame.columns[0] == "alcohol"
