"""Many networks as one program: variants of a recipe trained together, at the cost of about one run.

======================  ==============================================================================
:mod:`.train_many`      the function that everything else calls
:mod:`.train_members`   planned members, by the engine that suits them
:mod:`.restarts`        several draws of the initial weights: the best of them, or an ensemble
:mod:`.member`          one variant: its plan, its run, how far it has come
:mod:`.building`        from plans to networks and trainings
:mod:`.grouping`        who can ride with whom
:mod:`.choosing`        which engine, by a short measurement, within the memory there is
:mod:`.rungs`           who went on at each rung
:mod:`.packed_engine`   members as one program
:mod:`.loop_engine`     members one after another, here or in worker processes
:mod:`.workers`         those processes
:mod:`.evaluation`      loss and metrics of a pack on its validation rows
:mod:`.member_metrics`  the metrics of all of them at once
======================  ==============================================================================
"""

from descend.many._train_many import Watcher, train_many

__all__ = ["Watcher", "train_many"]
