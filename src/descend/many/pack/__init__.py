"""Packs: K trainings as one program.

==================  ==================================================================================
:mod:`.stacking`    plain modules to one that runs them together, and back
:mod:`.layers`      the stacked layers
:mod:`.padding`     layers of different widths made equally wide
:mod:`.gradients`   gradients, without a tape where layers are known
:mod:`.losses`      losses of all members and their derivatives by the outputs
:mod:`.network`     what training asks of the networks as one
:mod:`.vmapped`     networks that no packed layers are known for, run together by ``torch.func``
:mod:`.template`    the module that is run for all of them
:mod:`.structure`   what modules of one structure share
:mod:`.updates`     optimizer steps with settings and rates that differ between members
:mod:`.batches`     rows of each member, side by side
:mod:`.noise`       dropout's draws, each member's own
:mod:`.flat`        stacked tensors in one piece of memory
:mod:`.rider`       a member: an ordinary training, and what its pack must know besides
:mod:`.training`    the training of a pack, for the ordinary loop
==================  ==================================================================================
"""

from descend.many.pack.member import PackMember
from descend.many.pack.stacking import CannotPack, Stack, stack
from descend.many.pack.training import PackTraining

__all__ = ["CannotPack", "PackMember", "PackTraining", "Stack", "stack"]
