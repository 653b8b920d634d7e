"""A fair comparison: every variant tuned on the same budget, run over the same seeds, tested against the others.

======================  ==============================================================================
:mod:`.compare`         the function that does it
:mod:`.variants`        the combinations of what is varied
:mod:`.rates`           the learning rates that are tried
:mod:`.trials`          what is kept of a run, and when it reached a target
:mod:`.folder`          what is on the disk, so that one that was stopped goes on
:mod:`.statistics`      intervals, paired tests, Holm's correction
:mod:`.results`         what was found
:mod:`.words`           the findings in words
:mod:`.page`            the report, one HTML file
:mod:`.charts`          its figures
======================  ==============================================================================
"""

from descend.experiments.comparison._compare import compare
from descend.experiments.comparison.results import Comparison, Outcome

__all__ = ["Comparison", "Outcome", "compare"]
