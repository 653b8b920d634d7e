"""Many networks as one program: variants of a recipe trained together, at the cost of about one run.

======================  ==============================================================================
:mod:`.train_many`      the function that everything else calls
:mod:`.member`          one variant: its plan, its run, how far it has come
:mod:`.loop_engine`     members one after another, here or in worker processes
:mod:`.workers`         those processes
======================  ==============================================================================
"""

from descend.many.train_many import Watcher, train_many

__all__ = ["Watcher", "train_many"]
