"""Parameters that the optimizer does not hold."""

from __future__ import annotations

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.causes.wording import listed
from descend.doctor.findings import Finding
from descend.doctor.loop_record import LoopRecord
from descend.doctor.program import Program

__all__ = ["ParametersNotHeld"]


@method(row="I3", reference="PyTorch's documentation of torch.optim", formula="w_k = w_0 for all k")
class ParametersNotHeld(Cause):
    """The optimizer does not hold some parameters that receive gradients, so they never change.

    This happens where a layer is replaced or added after the optimizer was made, where a network is converted in a way
    that creates new parameters, or where layers are in a plain list and the optimizer was given another network.
    """

    title = "The optimizer does not hold some parameters that receive gradients, so they never change."
    advice = "Create the optimizer after the network is complete: optimizer = SGD(model.parameters(), ...)."

    @classmethod
    def in_loop(cls, loop: LoopRecord) -> Finding | None:
        """Compare the parameters with gradients with those that the optimizer holds."""
        received = {name for step in loop.steps for name, norm in step.gradients.items() if norm > 0}
        missing = [name for name in loop.trainable if name not in loop.held and name in received]
        if not missing:
            return None
        share = f"{len(missing)} of {len(loop.trainable)} trainable parameters"
        return cls.found(0.97, f"{share} receive gradients and are not in the optimizer: {listed(missing)}")

    @classmethod
    def before_training(cls, program: Program) -> Finding | None:
        """Compare the parameters with gradients with those that the optimizer holds."""
        if program.optimizer is None:
            return None
        held = {id(p) for group in program.optimizer.param_groups for p in group["params"]}
        missing = [
            name
            for name, p in program.model.named_parameters()
            if p.requires_grad and id(p) not in held and name in program.gradients
        ]
        if not missing:
            return None
        share = f"{len(missing)} of {len(program.names)} trainable parameters"
        return cls.found(0.97, f"{share} receive gradients and are not in the optimizer: {listed(missing)}")
