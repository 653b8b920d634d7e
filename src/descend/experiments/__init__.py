"""Experiments made of many trainings: cross-validation, comparison of variants and hyperparameter search.

========================  =========================================================================
:mod:`.cross_validation`  k-fold cross-validation with out-of-fold predictions
:mod:`.comparison`        variants of a recipe, tuned and tested under equal conditions
:mod:`.search`            hyperparameter search: random, quasi-random, grid, TPE, successive halving
:mod:`.settings`          description of changed settings when an experiment is resumed
========================  =========================================================================
"""

__all__: list[str] = []
