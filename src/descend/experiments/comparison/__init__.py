"""Fair comparison of variants of a recipe.

Each variant is tuned on the same budget and run over the same seeds, and every difference is tested.

========================  ===============================================================================
:mod:`._compare`          the function :func:`compare`
:mod:`.variants`          the variants: all combinations of the varied values
:mod:`.validation`        checks of all arguments and variants, before any training
:mod:`.learning_rates`    the learning rates that every variant tries
:mod:`.trials`            the record of one run, and its cost to reach a target
:mod:`.outcome`           the outcome of one variant, and the choice of its learning rate
:mod:`.statistics`        confidence intervals, paired tests, Holm's correction
:mod:`.results`           the outcomes and tests of all variants
:mod:`.comparison`        :class:`Comparison`, the results with their report
:mod:`.folder`            the comparison folder, from which a stopped comparison resumes
:mod:`.formatting`        numbers as tables and report show them
:mod:`.summary`           the main findings in a few sentences
:mod:`.page`              the HTML report
:mod:`.charts`            figures of the report
========================  ===============================================================================
"""

from descend.experiments.comparison._compare import compare
from descend.experiments.comparison.comparison import Comparison
from descend.experiments.comparison.outcome import Conditions, Outcome

__all__ = ["Comparison", "Conditions", "Outcome", "compare"]
