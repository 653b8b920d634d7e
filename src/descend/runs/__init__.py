"""A run: planned from data and a recipe, built, trained, evaluated, and written to a folder.

====================  ============================================================================
:mod:`.plan`          data read and prepared, recipe resolved, folder checked
:mod:`.monitored`     whether what a recipe monitors is there and defined
:mod:`.build`         the parts of a training, built from a plan
:mod:`.session`       a run in progress: trained in one or several stages
:mod:`.resume`        which changes of a recipe a resumed run takes, and where it continues
:mod:`.recorded_data` the data of a run as its folder records them, and how others differ
:mod:`.finish`        the best weights, evaluated on every part of the data and written
:mod:`.evaluate`      the metrics of a part, and the details that a report shows
:mod:`.run`           the result as an object
:mod:`.description`   the result in ten lines of text
:mod:`.folder`        the files of a run folder
:mod:`.environment`   versions, processor, command
:mod:`.checks`        derivatives and optimality of a run's objective
====================  ============================================================================

>>> from descend.runs import Session, plan_run
>>> session = Session(plan_run("iris", {"stop": {"max_epochs": 2}}, seed=0))
>>> session.advance(until=1), session.advance()
('', 'max_epochs')
>>> session.finish().metrics["epochs"]
2
"""

from descend.runs.checks import check_gradients, objective_of, optimality_of
from descend.runs.plan import Parts, Plan, Planner, choose_device, plan_run
from descend.runs.run import Run, load
from descend.runs.session import Session

__all__ = [
    "Parts",
    "Plan",
    "Planner",
    "Run",
    "Session",
    "check_gradients",
    "choose_device",
    "load",
    "objective_of",
    "optimality_of",
    "plan_run",
]
