"""Parameters that no gradient reaches."""

from __future__ import annotations

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.causes.wording import listed
from descend.doctor.findings import Finding
from descend.doctor.loop_record import LoopRecord
from descend.doctor.program import Program

__all__ = ["DetachedGraph"]


@method(row="I3", reference="PyTorch's documentation of Tensor.detach", formula="dL/dw does not exist")
class DetachedGraph(Cause):
    """No gradient reaches some parameters that the optimizer holds: they are cut off from the loss.

    ``detach``, ``.data``, ``torch.no_grad()``, a conversion to NumPy or ``torch.tensor(x)`` within the forward pass ends the
    graph; layers before that point are not trained. Layers that the forward pass does not call are not trained either.
    """

    title = "No gradient reaches some parameters: the graph is cut, or their layers are not used."
    advice = "Remove detach(), .data, no_grad() and conversions to NumPy between these layers and the loss."

    @classmethod
    def in_loop(cls, loop: LoopRecord) -> Finding | None:
        """Compare the parameters that the optimizer holds with those that ever had a gradient."""
        if len(loop.steps) < 2:
            return None
        reached = {name for step in loop.steps for name in step.gradients}
        cut = [name for name in loop.trainable if name in loop.held and name not in reached]
        if not cut:
            return None
        return cls.found(
            0.97 if reached else 0.9,
            f"in {len(loop.steps)} recorded steps, {len(cut)} of {len(loop.trainable)} parameters never had a "
            f"gradient: {listed(cut)}",
        )

    @classmethod
    def before_training(cls, program: Program) -> Finding | None:
        """Look for parameters without a gradient."""
        cut = [name for name in program.names if name not in program.gradients]
        if not cut:
            return None
        return cls.found(
            0.95, f"{len(cut)} of {len(program.names)} parameters have no gradient: {listed(cut)}"
        )
