"""Training of many variants of a recipe together, at the cost of about one run.

:func:`train_many` plans the members, groups those that can be packed, chooses an engine for each group and trains them.

=======================  ===================================================================================
:mod:`._train_many`      :func:`train_many`, which everything else calls
:mod:`.execution`        training of planned members
:mod:`.restarts`         several random initializations: the best network, or an ensemble of the best
:mod:`.budget`           the preset best: rounds of networks until a time is spent
:mod:`.distillation`     one network trained on the predictions of an ensemble
:mod:`.validation_outputs`  outputs and losses of networks on the validation rows
:mod:`.planned_member`   a member: its plan, its run and its training
:mod:`.watchers`         callbacks for the epochs and ends of members
:mod:`.building`         from plans to networks and trainings
:mod:`.grouping`         which members can be packed together
:mod:`.engine_choice`    choice of an engine by a short measurement, within the available memory
:mod:`.rung_decisions`   which members continued at each rung
:mod:`.engine`           the interface of an engine
:mod:`.packed_engine`    members trained as one program
:mod:`.parallel_packs`   packs trained at the same time, in one worker process each
:mod:`.loop_engine`      members trained one after another, in this process or in worker processes
:mod:`.workers`          the worker processes
:mod:`.pack_evaluation`  loss and metrics of a pack on its validation rows
:mod:`.member_metrics`   metrics of many members at once
:mod:`.pack`             packs: K trainings as one program, independent of recipes and runs
=======================  ===================================================================================
"""

from descend.many._train_many import train_many
from descend.many.engine_choice import EngineChoice
from descend.many.execution import Survivors
from descend.many.loop_engine import WorkerChoice
from descend.many.watchers import Watcher

__all__ = ["EngineChoice", "Survivors", "Watcher", "WorkerChoice", "train_many"]
