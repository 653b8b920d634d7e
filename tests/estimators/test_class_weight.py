"""``class_weight`` of the classifier."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.utils.estimator_checks import check_class_weight_classifiers

from descend import Classifier, Search
from descend.errors import UserError

RANDOM = np.random.default_rng(1)
X = RANDOM.normal(size=(200, 3))
CLASSES = (X[:, 0] + RANDOM.normal(size=200) > 1.8).astype(int)


def small(**parameters: Any) -> Classifier:
    return Classifier(**{"hidden": 4, "max_epochs": 5, "lr": 0.02, "random_state": 0, **parameters})


def test_the_check_of_scikit_learn() -> None:
    check_class_weight_classifiers("Classifier", Classifier(hidden=8, max_epochs=5, lr=0.02))


def test_balanced_equals_its_weights() -> None:
    # Without a validation part all rows are training rows, so that the weights are those of all rows.
    parameters = {"validation_fraction": 0, "scale": "none"}
    balanced = small(class_weight="balanced", **parameters).fit(X, CLASSES)
    share = CLASSES.mean()
    table = small(class_weight={0: 0.5 / (1 - share), 1: 0.5 / share}, **parameters).fit(X, CLASSES)
    rows = np.where(CLASSES == 1, 0.5 / share, 0.5 / (1 - share))
    by_row = small(**parameters).fit(X, CLASSES, sample_weight=rows)
    np.testing.assert_array_equal(balanced.predict_proba(X), table.predict_proba(X))
    np.testing.assert_allclose(balanced.predict_proba(X), by_row.predict_proba(X), atol=1e-6)
    assert balanced.predict(X).mean() > small(**parameters).fit(X, CLASSES).predict(X).mean() + 0.1


@pytest.mark.parametrize("weights", ["balanced", {1: 4.0}])
def test_a_weight_of_a_row_is_its_number_of_copies(weights: Any) -> None:
    twice = np.arange(200) % 3 == 0
    copies = small(class_weight=weights).fit(
        np.concatenate([X, X[twice]]), np.concatenate([CLASSES, CLASSES[twice]])
    )
    weighted = small(class_weight=weights).fit(X, CLASSES, sample_weight=1.0 + twice)
    assert np.array_equal(copies.predict_proba(X), weighted.predict_proba(X))


@pytest.mark.parametrize("labels", [np.array(["no", "yes"]), np.array([False, True]), np.array([0.0, 1.0])])
def test_classes_of_any_type(labels: Any) -> None:
    expected = small(class_weight={1: 5.0}).fit(X, CLASSES).predict_proba(X)
    own = small(class_weight={labels[1]: 5.0}).fit(X, labels[CLASSES])
    assert np.array_equal(own.predict_proba(X), expected)


def test_in_passes() -> None:
    model, plain = (small(class_weight=weights, lr=0.05) for weights in ({1: 10.0}, None))
    for _ in range(5):
        model.partial_fit(X, CLASSES, classes=[0, 1])
        plain.partial_fit(X, CLASSES, classes=[0, 1])
    assert model.predict(X).mean() > plain.predict(X).mean() + 0.1
    with pytest.raises(UserError, match="class_weight='balanced' depends on the rows of all passes"):
        small(class_weight="balanced").partial_fit(X, CLASSES, classes=[0, 1])


def test_in_a_search() -> None:
    search = Search(small(class_weight="balanced", max_epochs=1), {"optimizer.lr": [0.01]}, n_trials=1, cv=2)
    found = search.set_params(random_state=0).fit(X, CLASSES)
    assert found.best_estimator_.recipe_.get("data.class_weights") == "balanced"


def test_messages() -> None:
    with pytest.raises(UserError, match=r"class_weight: no class '3'; one of: 0, 1"):
        small(class_weight={3: 2.0}).fit(X, CLASSES)
    with pytest.raises(
        UserError, match='class_weight: expected "none" or "balanced", a list of numbers >= 0'
    ):
        small(class_weight="balance").fit(X, CLASSES)
    labels = np.column_stack([CLASSES, 1 - CLASSES])
    with pytest.raises(
        UserError, match=r"class_weight is for classes, .*: recipe=\{'loss.pos_weight': 2.0\}"
    ):
        small(class_weight="balanced").fit(X, labels)
