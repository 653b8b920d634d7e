"""Second moments of layer inputs and of output gradients for sampled targets, recorded during forward passes.

In a recorded forward pass, hooks save the input of each layer. When the model returns its outputs z, targets are sampled from
p(y | z), the gradient of their −log p is propagated back to the layers immediately, and the graph is retained, so whatever the
user computes from z afterwards, such as a loss and its gradient, is unaffected. The gradients of the weights and the random
state of the model are not changed.
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

from descend.arguments import kind_of
from descend.errors import UserError
from descend.linalg.products import Product, is_large
from descend.linalg.vectors import bounded
from descend.losses.likelihoods import Likelihood
from descend.optim.layers import Layer
from descend.rng import generator

__all__ = ["MomentRecorder", "Moments"]


@final
@dataclass
class Moments:
    """Sums over the vectors that were recorded for one layer.

    Args:
        inputs: Σ a aᵀ, (g, n, n).
        gradients: Σ s sᵀ, (g, m, m), with s the gradient of −log p of one prediction: of a sum over predictions, not of a mean.
        predictions: number of predictions of the model.
        vectors: number of vectors a; larger than ``predictions`` if a weight is used several times within a row.
    """

    inputs: Tensor
    gradients: Tensor
    predictions: int
    vectors: int

    def add(self, other: Moments) -> None:
        """Add the sums of ``other`` in place."""
        self.inputs += other.inputs
        self.gradients += other.gradients
        self.predictions += other.predictions
        self.vectors += other.vectors


@final
class MomentRecorder:
    """Records the moments of layers of a model in forward passes in training mode with gradients enabled.

    The model has hooks only while there are layers to record; they are removed together with this object.

    Args:
        model: module that returns its outputs as one tensor.
        likelihood: distribution of the targets given the outputs.
        seed: seed of the sampled targets.
        large: function that multiplies large matrices; None for torch's own product.

    Attributes:
        step: number of the optimizer step that the forward passes belong to. The sampled targets are a function of the seed,
            the step and the number of the pass within the step.

    >>> from descend.losses.likelihoods import Normal
    >>> from descend.optim.layers import layers_of
    >>> model = nn.Linear(2, 1)
    >>> recorder = MomentRecorder(model, Normal(), seed=0)
    >>> layers = layers_of(model, None)
    >>> recorder.record(layers)
    >>> outputs = model(torch.ones(4, 2))
    >>> recorder.take()[layers[0]].inputs
    tensor([[[4., 4., 4.],
             [4., 4., 4.],
             [4., 4., 4.]]])
    """

    def __init__(
        self, model: nn.Module, likelihood: Likelihood, *, seed: int = 0, large: Product | None = None
    ) -> None:
        self.model, self.likelihood, self.seed, self.step = model, likelihood, seed, 0
        self.recorded = False
        self._large = large
        self._layers: dict[int, Layer] = {}
        self._handles: list[RemovableHandle] = []
        self._calls: list[tuple[Layer, nn.Module, Tensor, GradientEdge]] = []
        self._recording = False
        self._passes = 0
        self._moments: dict[Layer, Moments] = {}
        finalizer = weakref.finalize(self, _remove, self._handles)
        finalizer.atexit = False

    def record(self, layers: Iterable[Layer]) -> None:
        """Record these layers, and no others, in the following forward passes."""
        by_module = {id(module): layer for layer in layers for module in layer.modules}
        if by_module.keys() == self._layers.keys():
            self._layers = by_module
            return
        _remove(self._handles)
        self._layers = by_module
        if not by_module:
            return
        hooks = _Hooks(self)
        self._handles.append(self.model.register_forward_pre_hook(hooks.before_model))
        modules = [module for layer in by_module.values() for module in layer.modules]
        self._handles += [
            module.register_forward_hook(hooks.after_layer, with_kwargs=True)
            for module in dict.fromkeys(modules)
        ]
        self._handles.append(self.model.register_forward_hook(hooks.after_model))

    def take(self) -> dict[Layer, Moments]:
        """Return the moments recorded since the last call, and clear them."""
        moments = self._moments
        self.clear()
        return moments

    def clear(self) -> None:
        """Discard the moments recorded since the last :meth:`take`."""
        self._moments, self._passes, self._calls, self._recording = {}, 0, [], False

    def before_model(self, module: nn.Module) -> None:
        """Start recording if this is a forward pass of the model in training mode with gradients enabled."""
        self._calls = []
        self._recording = module is self.model and module.training and torch.is_grad_enabled()

    def after_layer(self, module: nn.Module, inputs: Tensor, output: Any) -> None:
        """Save the input of a layer, and the position of its output in the graph, which in-place changes do not affect."""
        layer = self._layers.get(id(module))
        if self._recording and layer is not None and isinstance(output, Tensor) and output.requires_grad:
            self._calls.append((layer, module, inputs.detach(), get_gradient_edge(output)))

    def after_model(self, module: nn.Module, outputs: Any) -> None:
        """Sample targets given the outputs and accumulate the moments of all saved layers.

        Raises:
            UserError: the outputs are not one tensor.
        """
        if not self._recording or module is not self.model:
            return
        calls, self._calls, self._recording, self.recorded = self._calls, [], False, True
        if not isinstance(outputs, Tensor):
            raise UserError(
                "kfac samples targets given the model's outputs, which must be one tensor; "
                f"the model returned {kind_of(outputs)}; shampoo and adam work with any model"
            )
        if calls and outputs.requires_grad:
            self._accumulate(calls, outputs)
        self._passes += 1

    def _accumulate(
        self, calls: Sequence[tuple[Layer, nn.Module, Tensor, GradientEdge]], outputs: Tensor
    ) -> None:
        device = outputs.device
        # The moments are computed in full precision even if autocast runs the model in low precision.
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            z = outputs.detach()
            z = z.to(torch.promote_types(z.dtype, torch.float32))
            rng = generator(self.seed, "sampled targets", self.step, self._passes, device=device)
            gradient = self.likelihood.gradient(z, self.likelihood.sample(z, rng)).to(outputs.dtype)
            predictions = self.likelihood.predictions(z)
            gradients: Sequence[Tensor | None] = torch.autograd.grad(
                outputs, [edge for *_, edge in calls], gradient, retain_graph=True, allow_unused=True
            )
            called: set[Layer] = set()
            for (layer, module, inputs, _), each in zip(calls, gradients, strict=True):
                if each is None:  # the outputs do not depend on this call
                    continue
                dtype = torch.promote_types(layer.weight.dtype, torch.float32)
                a, s = layer.inputs(module, inputs).to(dtype), layer.output_gradients(module, each).to(dtype)
                if a.shape[1] == 0:  # a batch without rows
                    continue
                # Further calls of a layer in the same pass belong to the same predictions.
                own = 0 if layer in called else predictions
                called.add(layer)
                moments = Moments(self._moment(a), self._moment(s), own, a.shape[1])
                if layer in self._moments:
                    self._moments[layer].add(moments)
                else:
                    self._moments[layer] = moments

    def _moment(self, vectors: Tensor) -> Tensor:
        """Compute Σ v vᵀ over N vectors, (g, N, n) to (g, n, n); vectors whose squares would overflow are scaled down."""
        vectors = bounded(vectors)
        if self._large is not None and len(vectors) == 1:
            columns = vectors[0].t()
            if is_large(columns, columns):
                return self._large(columns, columns, None).unsqueeze(0)
        return vectors.mT @ vectors


class _Hooks:
    """Module hooks that reference their recorder weakly. In a copied or unpickled model they do nothing."""

    def __init__(self, recorder: MomentRecorder | None = None) -> None:
        self._recorder = None if recorder is None else weakref.ref(recorder)

    def __reduce__(self) -> tuple[type[_Hooks], tuple[()]]:
        return _Hooks, ()

    def _alive(self) -> MomentRecorder | None:
        return None if self._recorder is None else self._recorder()

    def before_model(self, module: nn.Module, args: Any) -> None:
        """Forward pre-hook of the model."""
        if (recorder := self._alive()) is not None:
            recorder.before_model(module)

    def after_layer(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        """Forward hook of a layer."""
        if (recorder := self._alive()) is not None:
            recorder.after_layer(module, args[0] if args else kwargs["input"], output)

    def after_model(self, module: nn.Module, args: Any, output: Any) -> None:
        """Forward hook of the model."""
        if (recorder := self._alive()) is not None:
            recorder.after_model(module, output)


def _remove(handles: list[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()
    handles.clear()
