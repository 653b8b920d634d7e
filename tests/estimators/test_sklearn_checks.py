"""The estimator checks of scikit-learn, without exemptions: all on one network, and the most telling ones on the defaults."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import sklearn
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from descend import Classifier, Regressor

# scikit-learn skips it if SciPy was imported without SCIPY_ARRAY_API, so it runs in a separate process.
SEPARATE = "check_array_api_input"
# The lists of older releases do not have it.
OLDER = tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 9)


def name_of(check: Any) -> str:
    while hasattr(check, "func"):
        check = check.func
    return check.__name__


@pytest.mark.slow
@parametrize_with_checks([Classifier(preset="quick"), Regressor(preset="quick")])
@pytest.mark.filterwarnings(
    "ignore:invalid value encountered in cast:RuntimeWarning"
)  # from scikit-learn, on infinite targets
def test_check(estimator, check):
    if name_of(check) == SEPARATE:
        return  # see test_array_api_check
    if name_of(check) == "check_class_weight_classifiers":
        # With its weights of 1000 and 0.0001, an epoch of a hundred rows has 2,000 samples.
        estimator.set_params(preset="quick", max_epochs=10)
    check(estimator)


ON_DEFAULTS = ("check_fit_idempotent", "check_methods_subset_invariance")


@pytest.mark.slow
@pytest.mark.parametrize("estimator", [Classifier(), Regressor()], ids=["classifier", "regressor"])
@pytest.mark.parametrize("name", ON_DEFAULTS)
def test_defaults(estimator, name):
    checks = [check for _, check in estimator_checks_generator(estimator) if name_of(check) == name]
    assert checks
    for check in checks:
        check(estimator)


ARRAY_API = """
import descend, json, traceback
from sklearn.utils.estimator_checks import check_array_api_input as check

search = descend.Search(descend.Classifier(max_epochs=10), {"optimizer.lr": [0.01, 0.02]}, n_trials=2, cv=2)
failures = {}
quick = {"preset": "quick"}
for estimator in (descend.Classifier(**quick), descend.Regressor(**quick), search):
    name = type(estimator).__name__
    try:
        check(name, estimator, array_namespace="numpy", expect_only_array_outputs=False)
        if estimator is not search:
            check(
                name, estimator, array_namespace="numpy", expect_only_array_outputs=True, check_sample_weight=True
            )
        failures[name] = None
    except Exception:
        failures[name] = traceback.format_exc()
print(json.dumps(failures))
"""


@pytest.fixture(scope="module")
def array_api_failures():
    """The traceback of each estimator's check, or None: from one process in which SciPy has its array API."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ARRAY_API],
        env=os.environ | {"SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Classifier", "Regressor", "Search"])
def test_array_api_check(array_api_failures, name):
    assert array_api_failures[name] is None


def test_the_most_important_checks_are_included():
    names = {name_of(check) for _, check in estimator_checks_generator(Classifier())}
    assert SEPARATE in names or OLDER
    assert {
        "check_sample_weight_equivalence_on_dense_data",
        "check_fit_idempotent",
        "check_methods_subset_invariance",
        "check_estimators_pickle",
    } <= names
    assert len(names) > 50
