"""Watching the layers of a model while it runs: second moments of their inputs, and of the slopes of sampled targets.

In a forward pass that is watched, hooks note what goes into each layer. When the model returns its outputs z, targets are
drawn from p(y | z), the slope of their −log p is led back to the layers at once, and the graph is kept: what the user
computes with z afterwards, a loss and its gradient, is as if nobody had watched. Neither the weights' gradients nor the
random numbers that the model draws are touched.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.utils.hooks import RemovableHandle

from descend.errors import UserError
from descend.linalg.products import Product, is_large
from descend.losses.likelihoods import Likelihood
from descend.optim.layers import Layer
from descend.rng import generator

__all__ = ["Moments", "Watch"]


@final
@dataclass
class Moments:
    """Sums over what was seen of a layer.

    Args:
        inputs: Σ a aᵀ, (g, n, n).
        slopes: Σ s sᵀ, (g, m, m), with s the slope of one prediction's −log p: of a sum over predictions, not of a mean.
        predictions: how many the model made.
        vectors: how many vectors a there were; more than predictions where a weight is shared within a row.
    """

    inputs: Tensor
    slopes: Tensor
    predictions: int
    vectors: int

    def add(self, other: Moments) -> None:
        """Join what was seen elsewhere."""
        self.inputs += other.inputs
        self.slopes += other.slopes
        self.predictions += other.predictions
        self.vectors += other.vectors


@final
class Watch:
    """Watches layers of a model, in forward passes in training mode with gradients enabled.

    Hooks are on the model only while there are layers to watch, and go with this object.

    Args:
        model: returns its outputs as one tensor.
        likelihood: of targets given these.
        seed: of the targets that are drawn.
        large: multiplies large matrices; None for torch's own product.

    Attributes:
        step: which step the forward passes belong to. The targets drawn are a function of the seed, the step and the
            number of the pass within it alone.

    >>> from descend.losses.likelihoods import Normal
    >>> from descend.optim.layers import layers_of
    >>> model = nn.Linear(2, 1)
    >>> watch = Watch(model, Normal(), seed=0)
    >>> layers = layers_of(model, None)
    >>> watch.look(layers)
    >>> outputs = model(torch.ones(4, 2))
    >>> watch.take()[layers[0]].inputs
    tensor([[[4., 4., 4.],
             [4., 4., 4.],
             [4., 4., 4.]]])
    """

    def __init__(
        self, model: nn.Module, likelihood: Likelihood, *, seed: int = 0, large: Product | None = None
    ) -> None:
        self.model, self.likelihood, self.seed, self.step = model, likelihood, seed, 0
        self.seen = False
        self._large = large
        self._watched: dict[int, Layer] = {}
        self._handles: list[RemovableHandle] = []
        self._uses: list[tuple[Layer, nn.Module, Tensor, GradientEdge]] = []
        self._open = False
        self._passes = 0
        self._moments: dict[Layer, Moments] = {}
        finalizer = weakref.finalize(self, _remove, self._handles)
        finalizer.atexit = False

    def look(self, layers: Iterable[Layer]) -> None:
        """Watch these from now on, and no others."""
        wanted = {id(module): layer for layer in layers for module in layer.modules}
        if wanted.keys() == self._watched.keys():
            self._watched = wanted
            return
        _remove(self._handles)
        self._watched = wanted
        if not wanted:
            return
        hook = _Hook(self)
        self._handles.append(self.model.register_forward_pre_hook(hook.opened))
        modules = [module for layer in wanted.values() for module in layer.modules]
        self._handles += [
            module.register_forward_hook(hook.passed, with_kwargs=True) for module in dict.fromkeys(modules)
        ]
        self._handles.append(self.model.register_forward_hook(hook.closed))

    def take(self) -> dict[Layer, Moments]:
        """What was seen since the last time; it is forgotten here."""
        found = self._moments
        self.forget()
        return found

    def forget(self) -> None:
        """Forget what was seen since :meth:`take`."""
        self._moments, self._passes, self._uses, self._open = {}, 0, [], False

    def opened(self, module: nn.Module) -> None:
        """A forward pass of the model begins."""
        self._uses = []
        self._open = module is self.model and module.training and torch.is_grad_enabled()

    def passed(self, module: nn.Module, inputs: Tensor, output: Any) -> None:
        """A layer was called. What it returned is known by its place in the graph, wherever it is changed in place later."""
        layer = self._watched.get(id(module))
        if self._open and layer is not None and isinstance(output, Tensor) and output.requires_grad:
            self._uses.append((layer, module, inputs.detach(), get_gradient_edge(output)))

    def closed(self, module: nn.Module, outputs: Any) -> None:
        """The model returned its outputs.

        Raises:
            UserError: they are not one tensor.
        """
        if not self._open or module is not self.model:
            return
        uses, self._uses, self._open, self.seen = self._uses, [], False, True
        if not isinstance(outputs, Tensor):
            raise UserError(
                "kfac draws targets given the model's outputs, which must be one tensor; "
                f"the model returned a {type(outputs).__name__}; shampoo and adam take any model"
            )
        if uses and outputs.requires_grad:
            self._learn(uses, outputs)
        self._passes += 1

    def _learn(self, uses: Sequence[tuple[Layer, nn.Module, Tensor, GradientEdge]], outputs: Tensor) -> None:
        device = outputs.device
        # Where the model runs in low precision by autocast, moments do not.
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            z = outputs.detach()
            z = z.to(torch.promote_types(z.dtype, torch.float32))
            draw = generator(self.seed, "sampled targets", self.step, self._passes, device=device)
            slope = self.likelihood.gradient(z, self.likelihood.sample(z, draw)).to(outputs.dtype)
            predictions = self.likelihood.predictions(z)
            slopes: Sequence[Tensor | None] = torch.autograd.grad(
                outputs, [edge for *_, edge in uses], slope, retain_graph=True, allow_unused=True
            )
            called: set[Layer] = set()
            for (layer, module, inputs, _), each in zip(uses, slopes, strict=True):
                if each is None:  # what the layer gave did not reach the outputs
                    continue
                kind = torch.promote_types(layer.weight.dtype, torch.float32)
                a, s = layer.inputs(module, inputs).to(kind), layer.slopes(module, each).to(kind)
                # A further call in the same pass is of the same predictions.
                own = 0 if layer in called else predictions
                called.add(layer)
                moments = Moments(self._moment(a), self._moment(s), own, a.shape[1])
                if layer in self._moments:
                    self._moments[layer].add(moments)
                else:
                    self._moments[layer] = moments

    def _moment(self, vectors: Tensor) -> Tensor:
        """Σ v vᵀ over N vectors, (g, N, n) to (g, n, n)."""
        if self._large is not None and len(vectors) == 1:
            columns = vectors[0].t()
            if is_large(columns, columns):
                return self._large(columns, columns, None).unsqueeze(0)
        return vectors.mT @ vectors


class _Hook:
    """The hooks of a watch, which they do not keep alive. In a copy of the model, or a saved one, they do nothing."""

    def __init__(self, watch: Watch | None = None) -> None:
        self._watch = None if watch is None else weakref.ref(watch)

    def __reduce__(self) -> tuple[type[_Hook], tuple[()]]:
        return _Hook, ()

    def _found(self) -> Watch | None:
        return None if self._watch is None else self._watch()

    def opened(self, module: nn.Module, args: Any) -> None:
        """Before the model's forward pass."""
        if (watch := self._found()) is not None:
            watch.opened(module)

    def passed(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """After a layer's."""
        if (watch := self._found()) is not None:
            watch.passed(module, args[0] if args else kwargs["input"], output)

    def closed(self, module: nn.Module, args: Any, output: Any) -> None:
        """After the model's."""
        if (watch := self._found()) is not None:
            watch.closed(module, output)


def _remove(handles: list[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()
    handles.clear()
