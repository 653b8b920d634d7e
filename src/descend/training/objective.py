"""The objective: what one step of training minimises, as a closure for any ``torch.optim`` optimizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import Tensor, nn

from descend.data.batches import Batch
from descend.errors import UserError
from descend.losses import Loss as KnownLoss
from descend.randomness import key, seeder
from descend.regularization import differentiable_inputs
from descend.training.chain import Chain, derivative_of_loss
from descend.training.products import Library
from descend.training.settings import GradientSettings

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
    epoch, step) at each call.

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

    A model that is a plain chain of layers is differentiated by :class:`descend.training.chain.Chain`, with the same
    result at less cost; any other by autograd.

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
        self.wants_norm = False
        self.norm: Tensor | None = None
        self._device, self._mixed = device, precision == "bfloat16"
        self._chain = None if self._mixed or row_penalty is not None else Chain.of(model, products)
        self._seed_device = seeder(device)
        # Seeding takes a tenth of a small network's step; where nothing draws, it is left out.
        self._draws = (
            self._chain is None or self._chain.draws or not isinstance(loss, KnownLoss) or penalty is not None
        )
        self._batches: Sequence[Batch] = ()
        self._place = (0, 0)

    def at(self, batches: Sequence[Batch], epoch: int, step: int) -> Objective:
        """This objective on the rows and the random numbers of one step."""
        self._batches = batches
        self._place = (epoch, step)
        return self

    def seed_step(self) -> None:
        """Put the random numbers of this step next in line."""
        self._seed_device(key(self.seed, "step", *self._place))

    def __call__(self) -> Tensor:
        """The mean loss, detached; its gradient is left in ``.grad``."""
        if self._draws:
            self.seed_step()
        for parameter in self.parameters:
            parameter.grad = None
        if len(self._batches) == 1:
            value = self._differentiated(self._batches[0])
        else:
            value = self._accumulated()
        if self.penalty is not None:
            with torch.enable_grad():
                penalty = self.penalty()
                if penalty.requires_grad:
                    penalty.backward()
            value = value + penalty.detach()
        self._finish()
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
        self.seed_step()
        whole = sum(len(batch.targets) for batch in self._batches)
        with torch.enable_grad():
            parts = [self._mean_loss(batch) * (len(batch.targets) / whole) for batch in self._batches]
            value = torch.stack(parts).sum()
            return value if self.penalty is None else value + self._graphed_penalty(self.penalty)

    def _graphed_penalty(self, penalty: Callable[[], Tensor]) -> Tensor:
        held = [parameter.grad for parameter in self.parameters]
        try:
            for parameter in self.parameters:
                parameter.grad = None
            value = penalty()
            if any(parameter.grad is not None for parameter in self.parameters):
                raise UserError(
                    "a penalty of this recipe adds its own gradient and has no second derivative; without "
                    "[regularize] orthogonality of the kinds so and dso there is one"
                )
        finally:
            for parameter, gradient in zip(self.parameters, held, strict=True):
                parameter.grad = gradient
        return value

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
        if self._chain is None:
            with torch.enable_grad():
                part = self._mean_loss(batch) if share is None else self._mean_loss(batch) * share
                part.backward()
            return part.detach()
        # The chain computes on detached tensors: nothing here is recorded by autograd.
        outputs, saved = self._chain.forward(batch.inputs)
        value, derivative = derivative_of_loss(
            self.loss if batch.weights is None else self._loss_of_rows, outputs, batch.targets, batch.weights
        )
        if share is not None:
            value, derivative = value * share, derivative * share
        gradients = self._chain.backward(derivative, saved)
        for parameter, gradient in zip(self._chain.parameters, gradients, strict=True):
            if parameter.grad is not None:
                parameter.grad.add_(gradient)
            else:
                parameter.grad = gradient if share is None else gradient.clone()
        return value

    def _loss_of_rows(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        if weights is None:
            return self.loss(outputs, targets)
        losses = self.loss.per_sample(outputs, targets)
        return torch.dot(losses, weights.to(losses.dtype)) / len(losses)

    def _mean_loss(self, batch: Batch) -> Tensor:
        inputs = batch.inputs if self.row_penalty is None else differentiable_inputs(batch.inputs)
        if self._mixed:
            with self.autocast():
                outputs = self.model(inputs).float()
        else:
            outputs = self.model(inputs)
        mean = self._loss_of_rows(outputs, batch.targets, batch.weights)
        return mean if self.row_penalty is None else mean + self.row_penalty(inputs, outputs, batch.targets)

    def autocast(self) -> AbstractContextManager[object]:
        """The precision that the network runs in."""
        if not self._mixed:
            return nullcontext()
        return torch.autocast(self._device.type, dtype=torch.bfloat16)

    def _finish(self) -> None:
        """Clip the gradient, and note its norm before clipping where that is wanted."""
        clip = self.gradient
        if clip.clip_norm is None and clip.clip_value is None and not self.wants_norm:
            return
        gradients = [_entries(p) for p in self.parameters if p.grad is not None]
        if clip.clip_norm is not None or self.wants_norm:
            self.norm = torch.nn.utils.get_total_norm(gradients)
        if clip.clip_norm is not None and self.norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, clip.clip_norm, self.norm)
        if clip.clip_value is not None:
            torch._foreach_clamp_min_(gradients, -clip.clip_value)
            torch._foreach_clamp_max_(gradients, clip.clip_value)


def _entries(parameter: Tensor) -> Tensor:
    """A gradient to read and to change; of a sparse one the entries that are there, each once."""
    gradient = parameter.grad
    assert gradient is not None
    if gradient.is_sparse:
        parameter.grad = gradient.coalesce()
        gradient = parameter.grad._values()
    return gradient
