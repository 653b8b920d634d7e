"""Contenders of ``training_speed.py``, in the order in which they run. Importing this imports none of their libraries."""

from __future__ import annotations

from contenders.dataloader_loop import DATALOADER, DATALOADER_NO_ITEM
from contenders.descend_train import DESCEND, DESCEND_FIXED
from contenders.floor import FLOOR
from contenders.image_loop import IMAGE_LOOP, IMAGE_LOOP_CHANNELS_LAST, IMAGE_LOOP_POOL_FIRST
from contenders.index_loop import INDEX_LOOP
from contenders.interface import Contender, Problem, Run, Timing
from contenders.keras_fit import KERAS
from contenders.lightning_trainer import LIGHTNING, LIGHTNING_LOGGED
from contenders.sklearn_mlp import SKLEARN
from contenders.skorch_net import SKORCH

__all__ = ["CONTENDERS", "Contender", "Problem", "Run", "Timing"]

CONTENDERS = {
    contender.name: contender
    for contender in [
        DESCEND,
        DESCEND_FIXED,
        INDEX_LOOP,
        IMAGE_LOOP,
        IMAGE_LOOP_CHANNELS_LAST,
        IMAGE_LOOP_POOL_FIRST,
        FLOOR,
        DATALOADER,
        DATALOADER_NO_ITEM,
        LIGHTNING,
        LIGHTNING_LOGGED,
        SKORCH,
        KERAS,
        SKLEARN,
    ]
}
