"""The objective: what one step of training minimises, as a closure for any ``torch.optim`` optimizer."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import torch
from torch import Tensor, nn

from descend.data.batches import Batch
from descend.linalg.products import Library
from descend.losses import Loss as KnownLoss
from descend.optim.rows import LOSS, buffers_kept
from descend.regularization import differentiable_inputs
from descend.rng import generator, key, seeder
from descend.training.added import graphed_penalty, penalty_alone
from descend.training.chain import Chain, derivative_of_loss
from descend.training.clipping import GradientSettings, clip_gradients
from descend.training.composition import Composition
from descend.training.slope import SlopeChain

__all__ = ["Loss", "Objective"]


class Loss(Protocol):
    """A loss: the (weighted) mean over rows, as a 0-dimensional tensor."""

    def __call__(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean loss of ``outputs`` (b, K) against ``targets``."""

    def per_sample(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of each row, (b,); asked for where rows have weights."""


class Objective:
    """The mean loss of a step's rows and its gradient.

    Called without arguments, as ``optimizer.step`` calls a closure, it computes

        F(w) = 1/n sum_i v_i loss(y_i, f(x_i; w)) + penalty(w)

    over the n rows i of the step with weights v, 1 where there are none. With weights whose mean over all rows
    is 1 this is an unbiased estimate of the weighted mean loss; dividing by the weights of the step's own rows
    would not be. It leaves dF/dw in ``.grad`` of the parameters, accumulated
    over the step's batches and clipped as asked, and returns F, detached. However often it is called
    within a step, it sees the same rows and the same random numbers: the generator is seeded from (seed,
    epoch, step) at each call; and running averages, as of batch norm, are updated once.

    Optimizers that ask for more than a gradient find it here (:class:`descend.optim.evaluation.RichClosure`):
    :meth:`value`, :meth:`differentiable`, :meth:`linearized`, :meth:`part`.

    Args:
        model: any module.
        loss: mean loss of outputs and targets.
        gradient: clipping.
        penalty: a differentiable function of the parameters, added to the loss. One that adds its own gradient to
            ``.grad`` returns a value without a graph.
        row_penalty: a differentiable function of a batch's inputs, outputs and targets, such as a penalty of the
            Jacobian, whose mean over rows is added to the loss. It sees inputs that outputs can be differentiated by.
        precision: "float32", or "bfloat16" for autocast.
        products: the library that multiplies large matrices.
        seed: of the run.
        device: where the model is.

    Attributes:
        gradients: what was computed so far, in gradients of one batch.
        several: whether any step took more than one gradient.
        norm: of the last gradient, before clipping, where it was wanted. One that is not finite counts at the step's first
            evaluation alone.
        composition: what stands between outputs and loss, where the optimizer is one for compositional objectives.

    A model that is a plain chain of layers is differentiated by :class:`descend.training.chain.Chain`, or with a penalty
    of its Jacobian by :class:`descend.training.slope.SlopeChain`, with the same result at less cost; any other by autograd,
    and so is a chain while there are hooks on it.

    >>> from descend.losses import MeanSquaredError
    >>> model = nn.Linear(2, 1)
    >>> objective = Objective(model, MeanSquaredError(), device=torch.device("cpu"))
    >>> batch = Batch(torch.ones(4, 2), torch.zeros(4, 1), None)
    >>> loss = torch.optim.SGD(model.parameters(), lr=0.1).step(objective.at([batch], epoch=0, step=0))
    >>> bool(objective() < loss)
    True
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        *,
        device: torch.device,
        gradient: GradientSettings | None = None,
        penalty: Callable[[], Tensor] | None = None,
        row_penalty: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
        precision: str = "float32",
        products: Library = "blas",
        seed: int = 0,
    ) -> None:
        self.model, self.loss, self.penalty, self.seed = model, loss, penalty, seed
        self.row_penalty, self.gradient = row_penalty, gradient or GradientSettings()
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self._clips = self.gradient.clips
        self.wants_norm = False
        self.norm: Tensor | None = None
        self._device, self._mixed = device, precision == "bfloat16"
        self._chain = None if self._mixed or row_penalty is not None else Chain.of(model, products)
        self._sloped = None if self._mixed else SlopeChain.of(model, row_penalty, products)
        self._seed_device = seeder(device)
        # Seeding takes a tenth of a small network's step; where nothing draws, it is left out.
        self._draws = (
            self._chain is None or self._chain.draws or not isinstance(loss, KnownLoss) or penalty is not None
        )
        self.composition: Composition | None = None
        self.gradients, self.several = 0.0, False
        self._share, self._whole = 1.0, self
        self._batches: Sequence[Batch] = ()
        self._place = (0, 0)
        self._fresh = True
        self._buffers = list(model.buffers())

    def at(self, batches: Sequence[Batch], epoch: int, step: int) -> Objective:
        """This objective on the rows and the random numbers of one step."""
        self._batches = batches
        self._place = (epoch, step)
        self._fresh = True
        return self

    def seed_step(self) -> None:
        """Put the random numbers of this step next in line."""
        self._seed_device(key(self.seed, "step", *self._place))

    def __call__(self) -> Tensor:
        """The mean loss, detached; its gradient is left in ``.grad``."""
        self._begin()
        if self._draws:
            self.seed_step()
        for parameter in self.parameters:
            parameter.grad = None
        with nullcontext() if self._fresh else self._buffers_kept():
            if len(self._batches) == 1:
                value = self._differentiated(self._batches[0])
            else:
                value = self._accumulated()
        again = not self._fresh
        self._counted(1.0)
        if self.penalty is not None:
            with torch.enable_grad():
                penalty = self.penalty()
                if penalty.requires_grad:
                    penalty.backward()
            value = value + penalty.detach()
        if self.wants_norm or self._clips:
            norm = clip_gradients(self.parameters, self.gradient, return_norm=self.wants_norm)
            if again and norm is not None and self.norm is not None:
                # A search tries places where there is no gradient, and does not take them.
                norm = torch.where(norm.isfinite(), norm, self.norm)
            self.norm = self.norm if norm is None else norm
        return value

    def differentiable(self) -> Tensor:
        """F on the same rows and random numbers as a call gives it, with its graph, to be differentiated twice.

        ``.grad`` is left as it is, and nothing is clipped.

        Raises:
            UserError: a penalty adds its own gradient to ``.grad``, and so has no graph.

        >>> from descend.losses import MeanSquaredError
        >>> model = nn.Linear(1, 1, bias=False)
        >>> objective = Objective(model, MeanSquaredError(), device=torch.device("cpu"))
        >>> loss = objective.at([Batch(torch.ones(4, 1), torch.zeros(4, 1), None)], epoch=0, step=0).differentiable()
        >>> (slope,) = torch.autograd.grad(loss, model.weight, create_graph=True)
        >>> torch.autograd.grad(slope.sum(), model.weight)
        (tensor([[2.]]),)
        """
        loss, _, added = self.linearized()
        return loss if added is None else loss + added

    def value(self) -> Tensor:
        """F alone, detached, on the same rows and random numbers as a call."""
        self._begin()
        # A penalty of the rows differentiates by the inputs, and needs a graph for that.
        with torch.set_grad_enabled(self.row_penalty is not None):
            chain = self._free_chain()
            loss = self._losses()[0] if chain is None else self._value_of_chain(chain)
            if self.penalty is not None:
                loss = loss + penalty_alone(self.penalty, self.parameters)
        self._counted(LOSS)
        return loss.detach()

    def linearized(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """The terms of F with their graphs: the mean loss, the outputs (n, ...) of all rows it is computed from, the penalty.

        Raises:
            UserError: as :meth:`differentiable`.
        """
        loss, outputs = self.mean_loss()
        with torch.enable_grad():
            added = None if self.penalty is None else graphed_penalty(self.penalty, self.parameters)
        return loss, outputs, added

    def mean_loss(self) -> tuple[Tensor, Tensor]:
        """F without what is added to it for all rows together, and the outputs (n, ...), with their graphs."""
        self._begin()
        with torch.enable_grad():
            found = self._losses()
        self._counted(1.0)
        return found

    def loss_of(self, outputs: Tensor) -> Tensor:
        """The mean loss that ``outputs`` (n, ...) of the step's rows would have, without penalties."""
        sizes = [len(batch.targets) for batch in self._batches]
        parts = [
            self._loss_of_rows(own, batch.targets, batch.weights) * (size / sum(sizes))
            for own, batch, size in zip(outputs.split(sizes), self._batches, sizes, strict=True)
        ]
        return torch.stack(parts).sum()

    def plain(self) -> Objective:
        """This objective by autograd in the mode that the model is in, not clipped, and without an average of outputs."""
        plain = copy.copy(self)
        plain.composition, plain._chain, plain._sloped = None, None, None
        plain._draws, plain._clips = True, False
        return plain

    def part(self, share: float, *, nested: bool = False) -> Objective:
        """The objective on a share of the step's rows, with the step's random numbers.

        Args:
            share: of each batch, above 0; one row at least.
            nested: whether the rows are the same at every step, and a larger share holds those of a smaller one; else they are
                drawn anew at each step.
        """
        part = copy.copy(self)
        # It leaves running averages alone: they are of whole steps.
        part._whole, part._share, part._fresh = self._whole, self._share * share, False
        part.composition = None
        where = (0, 0) if nested else self._place
        chosen = []
        for place, batch in enumerate(self._batches):
            rows = len(batch.targets)
            order = torch.randperm(rows, generator=generator(self.seed, f"part {place}", *where))
            kept = order[: max(1, math.ceil(share * rows))].to(batch.targets.device)
            chosen.append(batch.some(kept))
        part._batches = chosen
        return part

    def spend(self, gradients: float) -> None:
        """Count what an optimizer computed with a graph it was given, in gradients of the step's rows."""
        self._whole.gradients += gradients * self._share * len(self._batches)
        self._whole.several = True

    def _begin(self) -> None:
        if self.composition is not None:
            self.composition.begin(*self._place)

    def _counted(self, gradients: float) -> None:
        self._whole.gradients += gradients * self._share * len(self._batches)
        if not self._fresh:  # something of this step was evaluated before, or this is a part
            self._whole.several = True
        self._fresh = False

    def _losses(self) -> tuple[Tensor, Tensor]:
        """The mean loss of all batches and the outputs that it is computed from."""
        self.seed_step()
        with buffers_kept(self.model, keep=not self._fresh):
            found = [self._outputs(batch) for batch in self._batches]
        if len(self._batches) == 1:
            (inputs, outputs), (batch,) = found[0], self._batches
            return self._loss_on(inputs, outputs, batch), outputs
        sizes = [len(batch.targets) for batch in self._batches]
        outputs = torch.cat([each for _, each in found])
        parts = [
            self._loss_on(inputs, own, batch) * (size / sum(sizes))
            for (inputs, _), own, batch, size in zip(
                found, outputs.split(sizes), self._batches, sizes, strict=True
            )
        ]
        return torch.stack(parts).sum(), outputs

    @contextmanager
    def _buffers_kept(self) -> Iterator[None]:
        """As :func:`buffers_kept`, where no graph outlives the evaluation: the chain holds the buffers themselves."""
        held = [buffer.clone() for buffer in self._buffers]
        yield
        if held:
            torch._foreach_copy_(self._buffers, held)

    def _free_chain(self) -> Chain | None:
        """The chain, if the model is one and no hook waits to be called: an optimizer may watch layers at some steps."""
        return None if self._chain is None or self._chain.hooked else self._chain

    def _free_slope(self) -> SlopeChain | None:
        return None if self._sloped is None or self._sloped.hooked else self._sloped

    def _value_of_chain(self, chain: Chain) -> Tensor:
        if self._draws:
            self.seed_step()
        sizes = [len(batch.targets) for batch in self._batches]
        with nullcontext() if self._fresh else self._buffers_kept():
            parts = [
                self._loss_of_rows(chain.forward(batch.inputs)[0], batch.targets, batch.weights)
                * (size / sum(sizes))
                for batch, size in zip(self._batches, sizes, strict=True)
            ]
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum()

    def _accumulated(self) -> Tensor:
        """Batches contribute by their share of the step's rows, so that the step equals one large batch."""
        sizes = [len(batch.targets) for batch in self._batches]
        whole = sum(sizes)
        parts = [
            self._differentiated(batch, size / whole)
            for batch, size in zip(self._batches, sizes, strict=True)
        ]
        return torch.stack(parts).sum()

    def _differentiated(self, batch: Batch, share: float | Tensor | None = None) -> Tensor:
        """The mean loss of one batch, times its share of the step; its gradient is added to ``.grad``."""
        chain = self._free_chain() or self._free_slope()
        if chain is None:
            with torch.enable_grad():
                part = self._mean_loss(batch) if share is None else self._mean_loss(batch) * share
                part.backward()
            return part.detach()
        # The chain computes on detached tensors: nothing here is recorded by autograd.
        outputs, saved = chain.forward(batch.inputs)
        plain = batch.weights is None and self.composition is None
        value, derivative = derivative_of_loss(
            self.loss if plain else self._loss_of_rows, outputs, batch.targets, batch.weights
        )
        if share is not None:
            value, derivative = value * share, derivative * share
        if isinstance(chain, SlopeChain):
            added, gradients = chain.backward(derivative, outputs, saved, 1.0 if share is None else share)
            value = value + added
        else:
            gradients = chain.backward(derivative, saved)
        for parameter, gradient in zip(chain.parameters, gradients, strict=True):
            if parameter.grad is not None:
                parameter.grad.add_(gradient)
            else:
                parameter.grad = gradient if share is None else gradient.clone()
        return value

    def _loss_of_rows(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        if self.composition is not None:
            outputs = self.composition(outputs)
        if weights is None:
            return self.loss(outputs, targets)
        losses = self.loss.per_sample(outputs, targets)
        return torch.dot(losses, weights.to(losses.dtype)) / len(losses)

    def _mean_loss(self, batch: Batch) -> Tensor:
        inputs, outputs = self._outputs(batch)
        return self._loss_on(inputs, outputs, batch)

    def _outputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        inputs = batch.inputs if self.row_penalty is None else differentiable_inputs(batch.inputs)
        if self._mixed:
            with self.autocast():
                return inputs, self.model(inputs).float()
        return inputs, self.model(inputs)

    def _loss_on(self, inputs: Tensor, outputs: Tensor, batch: Batch) -> Tensor:
        mean = self._loss_of_rows(outputs, batch.targets, batch.weights)
        return mean if self.row_penalty is None else mean + self.row_penalty(inputs, outputs, batch.targets)

    def autocast(self) -> AbstractContextManager[object]:
        """The precision that the network runs in."""
        if not self._mixed:
            return nullcontext()
        return torch.autocast(self._device.type, dtype=torch.bfloat16)
