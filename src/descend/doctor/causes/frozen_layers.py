"""Layers that do not train and were never trained."""

from __future__ import annotations

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.causes.wording import listed
from descend.doctor.findings import Finding
from descend.doctor.loop_record import LoopRecord

__all__ = ["FrozenLayers"]


@method(row="I3", reference="PyTorch's documentation of Tensor.requires_grad", formula="w_k = w_0, random")
class FrozenLayers(Cause):
    """Weights with ``requires_grad=False`` have the values of a random initialization.

    Layers of a trained network are frozen on purpose; a layer that was never trained is rarely meant to be.
    """

    title = "Some layers are frozen although their weights are random: they were never trained."
    advice = "Set requires_grad_(True) on these layers before the optimizer is made."

    @classmethod
    def in_loop(cls, loop: LoopRecord) -> Finding | None:
        """Look for frozen weights that have the distribution of a random initialization."""
        if not loop.random_frozen:
            return None
        return cls.found(
            0.85, f"frozen, with the distribution of PyTorch's initialization: {listed(loop.random_frozen)}"
        )
