"""Many networks as one program: variants of a recipe trained together, at the cost of about one run.

======================  ==============================================================================
:mod:`.train_many`      the function that everything else calls
:mod:`.member`          one variant: its plan, its run, how far it has come
:mod:`.building`        from plans to networks and trainings
:mod:`.grouping`        who can ride with whom
:mod:`.choosing`        which engine, by a short measurement, within the memory there is
:mod:`.packed_engine`   members as one program
:mod:`.loop_engine`     members one after another
:mod:`.evaluation`      loss and metrics of a pack on its validation rows
======================  ==============================================================================
"""

from descend.many.train_many import Watcher, train_many

__all__ = ["Watcher", "train_many"]
