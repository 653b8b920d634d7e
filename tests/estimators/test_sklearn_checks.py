"""All estimator checks of scikit-learn on both estimators with default settings, without exemptions."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from descend import Classifier, Regressor

# scikit-learn skips it if SciPy was imported without SCIPY_ARRAY_API, so it runs in a separate process.
SEPARATE = "check_array_api_input"


def name_of(check: object) -> str:
    while hasattr(check, "func"):
        check = check.func
    return check.__name__


@parametrize_with_checks([Classifier(), Regressor()])
@pytest.mark.filterwarnings(
    "ignore:invalid value encountered in cast:RuntimeWarning"
)  # from scikit-learn, on infinite targets
def test_check(estimator, check):
    if name_of(check) == SEPARATE:
        return  # see test_array_api_check
    check(estimator)


@pytest.mark.parametrize("name", ["Classifier", "Regressor"])
def test_array_api_check(name):
    code = (
        "import descend; from sklearn.utils.estimator_checks import check_array_api_input as check; "
        f"estimator = descend.{name}(); "
        f"check('{name}', estimator, array_namespace='numpy', expect_only_array_outputs=False); "
        f"check('{name}', estimator, array_namespace='numpy', expect_only_array_outputs=True, "
        "check_sample_weight=True)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=os.environ | {"SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_most_important_checks_are_included():
    names = {name_of(check) for _, check in estimator_checks_generator(Classifier())}
    assert {
        "check_sample_weight_equivalence_on_dense_data",
        "check_fit_idempotent",
        "check_methods_subset_invariance",
        "check_estimators_pickle",
        SEPARATE,
    } <= names
    assert len(names) > 50
