"""Packs: K trainings run as one program.

A pack knows networks, optimizers and trainings, but nothing of recipes, plans or run folders.

=======================  ===================================================================================
:mod:`.training`         the training of a pack, run by the ordinary loop
:mod:`.member`           a member of a pack: a training and the settings that the pack needs
:mod:`.network`          the interface between the training and the networks, and the stacked networks
:mod:`.stacking`         K modules to one stack, and back
:mod:`.layers`           the stacked layers
:mod:`.padding`          padding of layers of different widths
:mod:`.gradients`        gradients of a stack, without autograd where the layers are known
:mod:`.vmapped_network`  networks that cannot be stacked, run together by ``torch.vmap``
:mod:`.template`         the module that ``torch.vmap`` runs for all members
:mod:`.structure`        the structure of a module: what modules must share to be run by one template
:mod:`.losses`           losses of all members, and their derivatives by the outputs
:mod:`.optimizer`        optimizer steps with settings and learning rates that differ between members
:mod:`.batches`          the batches of all members
:mod:`.dropout_noise`    dropout noise, sampled for each member as in its solo run
:mod:`.flat_buffer`      stacked tensors in one contiguous vector
=======================  ===================================================================================
"""

from descend.many.pack.kinds import CannotPack
from descend.many.pack.member import PackMember
from descend.many.pack.stacking import Stack, stack
from descend.many.pack.training import PackTraining

__all__ = ["CannotPack", "PackMember", "PackTraining", "Stack", "stack"]
