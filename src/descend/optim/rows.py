"""The objective of a model on a batch, for optimizers that need more than a gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import final

import torch
from torch import Tensor, nn

from descend.errors import UserError
from descend.rng import forked, generator

__all__ = ["LOSS", "Rows", "buffers_kept"]

LOSS = 1 / 3
"""Cost of a loss in units of a gradient: a forward pass, where a gradient costs about three."""


@final
class Rows:
    """The mean loss of a model on some rows, in every form that the optimizers of descend use.

    All evaluations use the same rows and the same random numbers, starting from the random state at construction. Running
    averages, such as those of batch norm, are updated by the first evaluation only.

    Args:
        model: any module.
        loss: function that computes the mean loss of outputs and targets, with a graph.
        inputs: (b, ...).
        targets: (b, ...).
        seed: seed of random parts, which are a function of it and of their number. Default 0.

    >>> from descend.optim import gd
    >>> model = nn.Linear(1, 1)
    >>> x = torch.linspace(-1, 1, 8)[:, None]
    >>> rows = Rows(model, nn.functional.mse_loss, x, 3 * x + 1)
    >>> before = gd(model.parameters()).step(rows)
    >>> bool(rows.value() < before)
    True
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        inputs: Tensor,
        targets: Tensor,
        *,
        seed: int = 0,
    ) -> None:
        if len(inputs) != len(targets):
            raise UserError(
                f"expected one target for each row, got {len(inputs)} rows and {len(targets)} targets"
            )
        self.model, self.loss, self.inputs, self.targets = model, loss, inputs, targets
        self.seed, self._samples = seed, 0
        self.gradients = 0.0
        self._whole, self._share = self, 1.0
        self._random = torch.get_rng_state()
        self._on_device = torch.cuda.get_rng_state(inputs.device) if inputs.is_cuda else None
        self._fresh = True

    def __call__(self) -> Tensor:
        """Return the detached loss, and store its gradient in ``.grad``."""
        for parameter in self.model.parameters():
            parameter.grad = None
        value = self.differentiable()
        if value.requires_grad:  # not if all parameters are frozen
            value.backward()
        return value.detach()

    def value(self) -> Tensor:
        """Return the detached loss, without a gradient."""
        self.spend(LOSS)
        with torch.no_grad():
            return self._losses()[0]

    def differentiable(self) -> Tensor:
        """Return the loss with its graph."""
        self.spend(1.0)
        with torch.enable_grad():
            return self._losses()[0]

    def linearized(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return loss and outputs with their graphs, and None, as the loss has no further terms."""
        self.spend(1.0)
        with torch.enable_grad():
            loss, outputs = self._losses()
        return loss, outputs, None

    def at_sample(self, number: int) -> None:
        """Set the number of the next random sample.

        Optimizers count their samples, so that each step has a new one even if each step is given a new object.
        """
        self._samples = number

    def part(self, share: float, *, nested: bool = False) -> Rows:
        """Return the objective on a fraction of the rows: the next random sample, or the first ones.

        The global generator is not used, so that a sample does not change other random numbers.
        """
        count = max(1, math.ceil(share * len(self.inputs)))
        if nested:
            order = torch.arange(len(self.inputs))
        else:
            rng = generator(self.seed, "part", step=self._samples)
            order = torch.randperm(len(self.inputs), generator=rng)
            self._samples += 1
        chosen = order[:count].to(self.inputs.device)
        part = Rows(self.model, self.loss, self.inputs[chosen], self.targets[chosen], seed=self.seed)
        # Its cost counts towards the whole, and it does not update running averages.
        part._whole, part._share, part._fresh = self._whole, self._share * share, False
        return part

    def spend(self, gradients: float) -> None:
        """Add the cost of a computation to ``gradients``, in units of a gradient of all rows."""
        self._whole.gradients += gradients * self._share

    def _losses(self) -> tuple[Tensor, Tensor]:
        # Only the first evaluation advances the generator, so that the next part or batch uses other random numbers.
        with nullcontext() if self._fresh else forked(self.inputs.device):
            torch.set_rng_state(self._random)
            if self._on_device is not None:
                torch.cuda.set_rng_state(self._on_device, self.inputs.device)
            with buffers_kept(self.model, keep=not self._fresh):
                outputs = self.model(self.inputs)
        self._fresh = False
        return self.loss(outputs, self.targets), outputs


@contextmanager
def buffers_kept(model: nn.Module, *, keep: bool = True) -> Iterator[None]:
    """Evaluate a model without changing its buffers, such as the running averages of norms."""
    # The buffers are replaced by copies rather than restored in place, since a graph may have saved them.
    originals = [
        (module, name, buffer) for module in model.modules() for name, buffer in module._buffers.items()
    ]
    if not keep or not originals:
        yield
        return
    try:
        for module, name, buffer in originals:
            module._buffers[name] = None if buffer is None else buffer.clone()
        yield
    finally:
        for module, name, buffer in originals:
            module._buffers[name] = buffer
