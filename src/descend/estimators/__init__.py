"""Neural networks as scikit-learn estimators.

:class:`Classifier` and :class:`Regressor` train with the library's recipe, data reading and loop, and follow
scikit-learn's conventions to the letter: they pass its ``parametrize_with_checks`` without exemptions.

========================  ==========================================================================
:mod:`.network`           what both estimators share: parameters, ``fit``, ``partial_fit``, outputs
:mod:`.classifier`        :class:`Classifier`
:mod:`.regressor`         :class:`Regressor`
:mod:`.search`            :class:`Search`, over recipes by cross-validation
:mod:`.scores`            names of scores
:mod:`.asked`             constructor parameters as a recipe
:mod:`.checked`           X, y and weights as scikit-learn checks them
:mod:`.distinct`          rows as a weighted set, so that a weight and a repetition are the same thing
:mod:`.weighted_batches`  batches that draw rows in proportion to their weights
:mod:`.fitting`           a whole training
:mod:`.passes`            one more pass over new rows
========================  ==========================================================================

>>> from sklearn.datasets import load_iris
>>> from sklearn.model_selection import cross_val_score
>>> X, y = load_iris(return_X_y=True)
>>> scores = cross_val_score(Classifier(hidden=(32,), lr=0.01, random_state=0), X, y, cv=3)
>>> bool(scores.mean() > 0.9)
True
"""

from descend.estimators.classifier import Classifier
from descend.estimators.regressor import Regressor
from descend.estimators.search import Search

__all__ = ["Classifier", "Regressor", "Search"]
