"""The objective that one step of training minimizes, as a closure for any ``torch.optim`` optimizer."""

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
from descend.nn.dropout import Dropout
from descend.nn.masks import Masks
from descend.nn.members import members_of, per_member
from descend.optim.rows import LOSS, buffers_kept
from descend.regularization import differentiable_inputs
from descend.rng import generator, key, seeder
from descend.training.chain import Chain, loss_and_derivative
from descend.training.channels_last import channels_last, convolves
from descend.training.clipping import GradientSettings, clip_gradients
from descend.training.composition import Composition
from descend.training.jacobian_chain import JacobianChain
from descend.training.weight_penalty import penalty_value, penalty_with_graph

__all__ = ["Loss", "Objective"]

_NOTHING = nullcontext()


class Loss(Protocol):
    """A loss: the (weighted) mean over rows, as a 0-dimensional tensor."""

    def __call__(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the mean loss of ``outputs`` (b, K) for ``targets``."""

    def per_sample(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each row, (b,); called where rows have weights."""


class Objective:
    """The mean loss of a step's rows and its gradient.

    Called without arguments, as ``optimizer.step`` calls a closure, it computes

        F(w) = 1/n sum_i v_i loss(y_i, f(x_i; w)) + penalty(w)

    over the n rows i of the step with weights v, which are 1 by default. With weights whose mean over all rows
    is 1 this is an unbiased estimate of the weighted mean loss; dividing by the weights of the step's own rows
    would be biased. The loss of a row is the mean of the members' losses if a network returns a row of outputs for each
    member (:class:`descend.nn.MemberMean`). The call leaves dF/dw in ``.grad`` of the parameters, accumulated over the
    step's batches and clipped if specified, and returns F, detached. All calls within a step use the same rows and the same
    random numbers, since the generator is seeded from (seed, epoch, step) at each call; running averages, as in batch
    normalization, are updated once per step.

    Optimizers that need more than a gradient use :meth:`value`, :meth:`differentiable`, :meth:`linearized` and
    :meth:`part` (:class:`descend.optim.evaluation.RichClosure`).

    A model that is a plain chain of layers is differentiated by :class:`descend.training.chain.Chain`, or with a
    Jacobian penalty by :class:`descend.training.jacobian_chain.JacobianChain`, with the same result at less cost. Any
    other model, and a chain while it has hooks, is differentiated by autograd.

    Args:
        model: any module.
        loss: mean loss of outputs and targets.
        device: where the model is.
        gradient: how gradients are clipped. Default: not at all.
        penalty: a differentiable function of the parameters, added to the loss. One that adds its own gradient to
            ``.grad`` returns a value without a graph.
        row_penalty: a differentiable function of a batch's inputs, outputs and targets, such as a Jacobian penalty,
            whose mean over rows is added to the loss. Outputs can be differentiated with respect to the inputs it
            receives.
        precision: "float32", or "bfloat16" for autocast. Default "float32".
        products: the library that multiplies large matrices. Default "blas".
        seed: of the run. Default 0.

    Attributes:
        wants_norm: whether the next call computes the norm of the gradient even if nothing is clipped by it.
        norm: of the last gradient, before clipping, if it was computed. A norm that is not finite is ignored except at the
            first evaluation of a step.
        gradients: the cost so far, in gradients of one batch.
        several: whether any step computed more than one gradient.
        composition: the averages between outputs and loss, with an optimizer for compositional objectives.

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
        self._images = device.type == "cpu" and convolves(model)
        self._device, self._mixed = device, precision == "bfloat16"
        self._chain = None if self._mixed or row_penalty is not None else Chain.of(model, products)
        self._jacobian_chain = None if self._mixed else JacobianChain.of(model, row_penalty, products)
        self._seed_device = seeder(device)
        own_masks = device.type == "cpu" and any(isinstance(each, Dropout) for each in model.modules())
        self._masks = Masks(seed) if own_masks else None
        # Seeding takes a tenth of a small network's step, and is omitted where nothing uses random numbers.
        self._is_random = (
            self._chain is None
            or self._chain.is_random
            or not isinstance(loss, KnownLoss)
            or penalty is not None
        )
        self.composition: Composition | None = None
        self.gradients, self.several = 0.0, False
        self._share, self._root = 1.0, self
        self._batches: Sequence[Batch] = ()
        self._epoch_and_step = (0, 0)
        self._first_evaluation = True
        self._buffers = list(model.buffers())
        self._has_members = members_of(model) > 1

    def at(self, batches: Sequence[Batch], epoch: int, step: int) -> Objective:
        """Return this objective, set to the rows and the random numbers of one step."""
        self._batches = batches
        self._epoch_and_step = (epoch, step)
        self._first_evaluation = True
        return self

    def seed_step(self) -> None:
        """Seed the device's generator for this step."""
        self._seed_device(key(self.seed, "step", *self._epoch_and_step))

    def random_numbers(self, *, needed: bool = True) -> AbstractContextManager[object]:
        """Return a context with the random numbers of this step; PyTorch's generator is seeded if ``needed``."""
        if needed:
            self.seed_step()
        if self._masks is None:
            return _NOTHING
        self._masks.begin(*self._epoch_and_step)
        return self._masks

    def __call__(self) -> Tensor:
        """Return F, detached; its gradient is left in ``.grad``."""
        self._begin()
        for parameter in self.parameters:
            parameter.grad = None
        with self.random_numbers(needed=self._is_random), self._buffers_kept():
            if len(self._batches) == 1:
                value = self._backward(self._batches[0])
            else:
                value = self._accumulated()
        again = not self._first_evaluation
        self._count(1.0)
        if self.penalty is not None:
            with torch.enable_grad():
                penalty = self.penalty()
                if penalty.requires_grad:
                    penalty.backward()
            value = value + penalty.detach()
        if self.wants_norm or self._clips:
            norm = clip_gradients(self.parameters, self.gradient, return_norm=self.wants_norm)
            if again and norm is not None and self.norm is not None:
                # A line search may evaluate points without a finite gradient, which it then rejects.
                norm = torch.where(norm.isfinite(), norm, self.norm)
            self.norm = self.norm if norm is None else norm
        return value

    def differentiable(self) -> Tensor:
        """Return F with its graph, to be differentiated twice, on the same rows and random numbers as a call.

        ``.grad`` is left unchanged, and nothing is clipped.

        Raises:
            UserError: a penalty adds its own gradient to ``.grad``, and so has no graph.

        >>> from descend.losses import MeanSquaredError
        >>> model = nn.Linear(1, 1, bias=False)
        >>> objective = Objective(model, MeanSquaredError(), device=torch.device("cpu"))
        >>> loss = objective.at([Batch(torch.ones(4, 1), torch.zeros(4, 1), None)], epoch=0, step=0).differentiable()
        >>> (gradient,) = torch.autograd.grad(loss, model.weight, create_graph=True)
        >>> torch.autograd.grad(gradient.sum(), model.weight)
        (tensor([[2.]]),)
        """
        loss, _, added = self.linearized()
        return loss if added is None else loss + added

    def value(self) -> Tensor:
        """Return F without a gradient, detached, on the same rows and random numbers as a call."""
        self._begin()
        # A row penalty differentiates with respect to the inputs, which needs a graph.
        with torch.set_grad_enabled(self.row_penalty is not None):
            chain = self._usable_chain()
            loss = self._losses()[0] if chain is None else self._value_of_chain(chain)
            if self.penalty is not None:
                loss = loss + penalty_value(self.penalty, self.parameters)
        self._count(LOSS)
        return loss.detach()

    def linearized(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the mean loss, the outputs (n, ...) of all rows it is computed from, and the penalty, with their graphs.

        Raises:
            UserError: as in :meth:`differentiable`.
        """
        loss, outputs = self.mean_loss()
        with torch.enable_grad():
            added = None if self.penalty is None else penalty_with_graph(self.penalty, self.parameters)
        return loss, outputs, added

    def mean_loss(self) -> tuple[Tensor, Tensor]:
        """Return F without the penalty on the weights, and the outputs (n, ...), with their graphs."""
        self._begin()
        with torch.enable_grad():
            loss, outputs = self._losses()
        self._count(1.0)
        return loss, outputs

    def loss_of(self, outputs: Tensor) -> Tensor:
        """Return the mean loss for given ``outputs`` (n, ...) of the step's rows, without penalties."""
        sizes = [len(batch.targets) for batch in self._batches]
        per_row = len(outputs) // sum(sizes)
        parts = [
            self.loss_of_rows(own, batch.targets, batch.weights) * (size / sum(sizes))
            for own, batch, size in zip(
                outputs.split([per_row * size for size in sizes]), self._batches, sizes, strict=True
            )
        ]
        return torch.stack(parts).sum()

    def loss_of_rows(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """Return the weighted mean loss of the ``outputs`` of one batch, without penalties."""
        if self.composition is not None:
            outputs = self.composition(outputs)
        if self._has_members:
            targets = per_member(targets, outputs)
            weights = None if weights is None else per_member(weights, outputs)
        if weights is None:
            return self.loss(outputs, targets)
        losses = self.loss.per_sample(outputs, targets)
        return torch.dot(losses, weights.to(losses.dtype)) / len(losses)

    def plain(self) -> Objective:
        """Return this objective by autograd in the model's current mode, without clipping or averages of outputs."""
        plain = copy.copy(self)
        plain.composition, plain._chain, plain._jacobian_chain = None, None, None
        plain._is_random, plain._clips = True, False
        return plain

    def part(self, share: float, *, nested: bool = False) -> Objective:
        """Return the objective on a random fraction of the step's rows, with the step's random numbers.

        Args:
            share: the fraction of each batch, above 0; at least one row is used.
            nested: whether the sample is the same at every step, such that a larger share contains a smaller one; if False,
                rows are sampled again at each step. Default False.
        """
        part = copy.copy(self)
        # Not the first evaluation: running averages are updated by whole steps only.
        part._root, part._share, part._first_evaluation = self._root, self._share * share, False
        part.composition = None
        source = (0, 0) if nested else self._epoch_and_step
        chosen = []
        for index, batch in enumerate(self._batches):
            rows = len(batch.targets)
            order = torch.randperm(rows, generator=generator(self.seed, f"part {index}", *source))
            kept = order[: max(1, math.ceil(share * rows))].to(batch.targets.device)
            chosen.append(batch.some(kept))
        part._batches = chosen
        return part

    def spend(self, gradients: float) -> None:
        """Count what an optimizer computed from a graph, in gradients of the step's rows."""
        self._root.gradients += gradients * self._share * len(self._batches)
        self._root.several = True

    def _begin(self) -> None:
        if self.composition is not None:
            self.composition.begin(*self._epoch_and_step)

    def _count(self, gradients: float) -> None:
        self._root.gradients += gradients * self._share * len(self._batches)
        if not self._first_evaluation:  # this step was evaluated before, or this is a part
            self._root.several = True
        self._first_evaluation = False

    def _losses(self) -> tuple[Tensor, Tensor]:
        """Return the mean loss of all batches and the outputs that it is computed from."""
        with self.random_numbers(), buffers_kept(self.model, keep=not self._first_evaluation):
            passes = [self._outputs(batch) for batch in self._batches]
        if len(self._batches) == 1:
            (inputs, outputs), (batch,) = passes[0], self._batches
            return self._loss_on(inputs, outputs, batch), outputs
        sizes = [len(batch.targets) for batch in self._batches]
        outputs = torch.cat([each for _, each in passes])
        parts = [
            self._loss_on(inputs, own, batch) * (size / sum(sizes))
            for (inputs, _), own, batch, size in zip(
                passes, outputs.split([len(each) for _, each in passes]), self._batches, sizes, strict=True
            )
        ]
        return torch.stack(parts).sum(), outputs

    @contextmanager
    def _buffers_kept(self) -> Iterator[None]:
        """As :func:`buffers_kept`, but in place, since chains refer to the buffers and no graph outlives the evaluation."""
        before = [] if self._first_evaluation else [buffer.clone() for buffer in self._buffers]
        yield
        if before:
            torch._foreach_copy_(self._buffers, before)

    def _usable_chain(self) -> Chain | None:
        """Return the chain, if the model is one and has no hooks; an optimizer may register hooks at some steps."""
        return None if self._chain is None or self._chain.hooked else self._chain

    def _usable_jacobian_chain(self) -> JacobianChain | None:
        return None if self._jacobian_chain is None or self._jacobian_chain.hooked else self._jacobian_chain

    def _value_of_chain(self, chain: Chain) -> Tensor:
        sizes = [len(batch.targets) for batch in self._batches]
        with self.random_numbers(needed=self._is_random), self._buffers_kept():
            parts = [
                self.loss_of_rows(chain.forward(batch.inputs)[0], batch.targets, batch.weights)
                * (size / sum(sizes))
                for batch, size in zip(self._batches, sizes, strict=True)
            ]
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum()

    def _accumulated(self) -> Tensor:
        """Accumulate the gradients of batches, weighted by their share of the rows; the step equals one large batch."""
        sizes = [len(batch.targets) for batch in self._batches]
        rows = sum(sizes)
        parts = [self._backward(batch, size / rows) for batch, size in zip(self._batches, sizes, strict=True)]
        return torch.stack(parts).sum()

    def _backward(self, batch: Batch, share: float | Tensor | None = None) -> Tensor:
        """Return the mean loss of one batch, times its share of the step; its gradient is added to ``.grad``."""
        chain = self._usable_chain() or self._usable_jacobian_chain()
        if chain is None:
            with torch.enable_grad():
                part = self._mean_loss(batch) if share is None else self._mean_loss(batch) * share
                part.backward()
            return part.detach()
        # The chain computes on detached tensors, and autograd records nothing.
        outputs, saved = chain.forward(batch.inputs)
        plain = batch.weights is None and self.composition is None
        value, derivative = loss_and_derivative(
            self.loss if plain else self.loss_of_rows, outputs, batch.targets, batch.weights
        )
        if share is not None:
            value, derivative = value * share, derivative * share
        if isinstance(chain, JacobianChain):
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

    def _mean_loss(self, batch: Batch) -> Tensor:
        return self._loss_on(*self._outputs(batch), batch)

    def _outputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        inputs = channels_last(batch.inputs) if self._images else batch.inputs
        inputs = inputs if self.row_penalty is None else differentiable_inputs(inputs)
        if self._mixed:
            with self.autocast():
                return inputs, self.model(inputs).float()
        return inputs, self.model(inputs)

    def _loss_on(self, inputs: Tensor, outputs: Tensor, batch: Batch) -> Tensor:
        mean = self.loss_of_rows(outputs, batch.targets, batch.weights)
        return mean if self.row_penalty is None else mean + self.row_penalty(inputs, outputs, batch.targets)

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context that sets the precision of the network's forward pass."""
        if not self._mixed:
            return nullcontext()
        return torch.autocast(self._device.type, dtype=torch.bfloat16)
