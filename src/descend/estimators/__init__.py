"""Neural networks as scikit-learn estimators.

:class:`Classifier` and :class:`Regressor` train with the library's recipe, data reading and loop, and follow
scikit-learn's conventions: they pass its ``parametrize_with_checks`` without exemptions.

========================  ==========================================================================
:mod:`.network`           base class of both estimators: parameters, ``fit``, ``partial_fit``, outputs
:mod:`.classifier`        :class:`Classifier`
:mod:`.regressor`         :class:`Regressor`
:mod:`.search`            :class:`Search`, cross-validated search over recipes
:mod:`.scores`            names of scores
:mod:`.parameters`        constructor parameters as sections of a recipe
:mod:`.problems`          messages in the words of these parameters
:mod:`.validation`        validation of X, y and weights by scikit-learn
:mod:`.weighted_set`      rows as a weighted set, so that weights and repetitions are equivalent
:mod:`.weighted_batches`  batches that sample rows in proportion to their weights
:mod:`.fitting`           a complete training
:mod:`.partial_fit`       one pass over new rows
========================  ==========================================================================

>>> from sklearn.datasets import load_iris
>>> from sklearn.model_selection import cross_val_score
>>> X, y = load_iris(return_X_y=True)
>>> scores = cross_val_score(Classifier(hidden=(32,), lr=0.01, random_state=1), X, y, cv=3)
>>> bool(scores.mean() > 0.9)
True
"""

from descend.estimators.classifier import Classifier
from descend.estimators.regressor import Regressor
from descend.estimators.search import Search

__all__ = ["Classifier", "Regressor", "Search"]
