"""Many networks as one program: variants of a recipe trained together, at the cost of about one run.

======================  ==============================================================================
:mod:`.train_many`      the function that everything else calls
:mod:`.train_members`   planned members, by the engine that suits them
:mod:`.restarts`        several draws of the initial weights: the best of them, or an ensemble
:mod:`.member`          one variant: its plan, its run, how far it has come
:mod:`.loop_engine`     members one after another
======================  ==============================================================================
"""

from descend.many.train_many import Watcher, train_many

__all__ = ["Watcher", "train_many"]
