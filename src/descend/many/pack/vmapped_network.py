"""Networks without stacked layers, run together by ``torch.func``.

One plain module, the template, is run for all members at once: ``torch.vmap`` maps over stacked parameters and buffers
(K, …) and the members' rows, and ``functional_call`` passes them to the module. Autograd differentiates through both.
Dropout layers sample nothing here: each member's noise is passed in.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from descend.data.batches import Batch
from descend.many.pack.dropout_noise import DropoutNoise
from descend.many.pack.flat_buffer import FlatBuffer
from descend.many.pack.kinds import DROPOUTS, CannotPack
from descend.many.pack.layers import PackedDropout
from descend.many.pack.losses import PackedLoss
from descend.many.pack.structure import structure_of
from descend.many.pack.template import Arithmetic, Template, first_line, template_of, tensors_of
from descend.nn.masks import Masks
from descend.rng import forked, key, seeder

__all__ = ["VmappedNetwork", "cannot_vmap_because", "vmap_models"]

TRIAL_ROWS = 4
"""Rows of the trial run of a network before it is packed."""


class VmappedNetwork:
    """Networks of one structure, run by one template; see :func:`vmap_models`.

    Args:
        template: the module and the names of its tensors.
        trained: stacked trained parameters, (K, …) each; copied to one flat buffer.
        held: the other stacked tensors; updated in training if the module updates its buffers.
        dropouts: rates, shapes and noise of the dropout layers, in the order of execution.
        arithmetic: context of the forward pass, e.g. autocast for mixed precision.
    """

    def __init__(
        self,
        template: Template,
        trained: Sequence[Tensor],
        held: Sequence[Tensor],
        dropouts: Sequence[PackedDropout],
        arithmetic: Arithmetic | None = None,
    ) -> None:
        self._template, self._arithmetic = template, arithmetic
        self.weights = FlatBuffer(trained)
        self._held = list(held)
        self.dropouts = list(dropouts)
        self._leaves = [view.detach().requires_grad_() for view in self.weights.views]

    @property
    def tensors(self) -> list[Tensor]:
        """Stacked tensors of the state."""
        return [*self.weights.views, *self._held]

    @property
    def widths(self) -> list[list[int] | None]:
        """None for each dropout layer: no member is padded."""
        return [None for _ in self.dropouts]

    def flags(self, chosen: Callable[[Tensor], bool], model: nn.Module) -> list[bool]:
        """Return for each trained tensor whether its parameter is chosen."""
        named = dict(model.named_parameters())
        return [chosen(named[name]) for name in self._template.trained]

    def prepare(self, gradients: Sequence[Tensor], loss: PackedLoss) -> None:
        """Do nothing: autograd allocates its gradients at each step."""

    def train(self) -> None:
        """Set training mode."""
        self._template.module.train()

    def differentiate(
        self, batch: Batch, loss: PackedLoss, gradients: FlatBuffer, share: float | None, *, first: bool
    ) -> Tensor:
        """Return losses, and write their gradients to the buffer."""
        with torch.enable_grad():
            outputs = self._run(self._leaves, batch.inputs)
        plain = outputs.detach()
        targets, weights = batch.targets, batch.weights
        if (rows := plain.shape[1]) != targets.shape[
            1
        ]:  # each row has outputs of several members, as in MemberMean
            repeats = rows // targets.shape[1]
            targets = targets.repeat_interleave(repeats, 1)
            weights = None if weights is None else weights.repeat_interleave(repeats, 1)
        values, derivative = loss(plain.float() if self._arithmetic else plain, targets, weights)
        if share is not None:
            values, derivative = values * share, derivative * share
        computed = torch.autograd.grad(outputs, self._leaves, derivative.to(outputs.dtype))
        if first:
            torch._foreach_copy_(gradients.views, computed)
        else:
            torch._foreach_add_(gradients.views, computed)
        return values

    def outputs(self, inputs: Tensor) -> Tensor:
        """Return raw outputs in evaluation mode."""
        module = self._template.module
        training = module.training
        module.eval()
        try:
            with torch.inference_mode():
                members = len(self.weights.views[0])
                outputs = self._run(self.weights.views, inputs.expand(members, *inputs.shape[1:]))
                return outputs.float() if self._arithmetic else outputs
        finally:
            module.train(training)

    def state(self, member: int, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return a member's state dict."""
        t = self._template
        named = dict(zip([*t.trained, *t.held], tensors, strict=True))
        return {name: named[own][member].detach().clone() for name, own in t.state.items()}

    def select(self, places: list[int]) -> VmappedNetwork:
        """Return the networks of the members at these places; tensors are copied."""
        index = torch.tensor(places, device=self.weights.vector.device)
        dropouts = [dropout.select(places) for dropout in self.dropouts]
        return VmappedNetwork(
            self._template,
            [view.index_select(0, index) for view in self.weights.views],
            [t.index_select(0, index) for t in self._held],
            dropouts,
            self._arithmetic,
        )

    def _run(self, trained: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """Return outputs (K, B, C) of inputs (K, B, …); buffers that the module updates are updated in place."""
        t = self._template
        held = dict(zip(t.held, self._held, strict=True))
        noise = {
            f"{name}.noise": dropout.noise
            for name, dropout in zip(t.drops, self.dropouts, strict=True)
            if dropout.noise is not None and t.module.training
        }

        def run_one(
            parameters: dict[str, Tensor], buffers: dict[str, Tensor], noise: dict[str, Tensor], x: Tensor
        ) -> tuple[Tensor, dict[str, Tensor]]:
            tensors = {**parameters, **buffers, **noise}
            y = functional_call(t.module, tensors, (x,))
            # A module may update a buffer in place, or replace it: then ``tensors`` holds the new tensor.
            return y, {name: tensors[name] for name, own in buffers.items() if tensors[name] is not own}

        named = dict(zip(t.trained, trained, strict=True))
        with _plain_attention(), nullcontext() if self._arithmetic is None else self._arithmetic():
            outputs, replaced = torch.vmap(run_one)(named, held, noise, inputs)
        for name, value in replaced.items():
            held[name].copy_(value.detach())
        result: Tensor = outputs
        return result


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Compute attention by its plain formula: the fused kernels have no batching rule and would run member by member."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def vmap_models(
    models: Sequence[nn.Module], sample: Tensor, arithmetic: Arithmetic | None = None
) -> VmappedNetwork:
    """Stack the tensors of models of one structure, to be run by ``torch.vmap``; the models keep their own.

    Args:
        models: K plain modules on one device, equal except for their values and dropout rates.
        sample: a few rows (n, …), at least 3, for a trial run that observes the dropout layers.
        arithmetic: context of the forward pass, e.g. autocast for mixed precision.

    Raises:
        CannotPack: the structures differ, or a member would not be trained as in its solo run.

    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.inner, self.outer = nn.Linear(3, 3), nn.Linear(3, 2)
    ...
    ...     def forward(self, x):
    ...         return self.outer(x + self.inner(x).relu())
    >>> models = [Net() for _ in range(5)]
    >>> network = vmap_models(models, torch.ones(4, 3))
    >>> y = network.outputs(torch.ones(1, 7, 3))
    >>> y.shape, torch.allclose(y[2], models[2](torch.ones(7, 3)), atol=1e-6)
    (torch.Size([5, 7, 2]), True)
    """
    first = structure_of(models[0])
    if any(structure_of(model) != first for model in models[1:]):
        raise CannotPack("the networks differ in more than their weights and dropout rates")
    template, dropouts = template_of(models, sample, arithmetic)
    of_models = [tensors_of(model) for model in models]

    def stacked(names: Sequence[str]) -> list[Tensor]:
        return [torch.stack([own[name].detach() for own in of_models]) for name in names]

    trained = stacked(template.trained)
    if not trained or len({t.dtype for t in trained}) > 1:
        raise CannotPack("the weights have different dtypes" if trained else "the network has no weights")
    return VmappedNetwork(template, trained, stacked(template.held), dropouts, arithmetic)


def cannot_vmap_because(model: nn.Module, sample: Tensor, arithmetic: Arithmetic | None = None) -> str:
    """Return the reason why ``torch.vmap`` cannot run a model; empty if it can, as a trial on copies shows.

    The model and a copy with other weights make the passes of one step, packed and solo, with the same dropout noise (on
    the CPU; elsewhere without dropout). Outputs in training and evaluation mode, gradients and buffers must agree. Model
    and random state are not changed.

    Args:
        model: any module.
        sample: a few rows (n, …), at least 3; the first ones are used.
        arithmetic: context of the forward pass, e.g. autocast for mixed precision.

    >>> cannot_vmap_because(nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2)), torch.ones(4, 3))
    ''
    >>> cannot_vmap_because(nn.Sequential(nn.Linear(3, 4), nn.AlphaDropout(0.5), nn.Linear(4, 2)), torch.ones(4, 3))
    'it uses random numbers outside of dropout layers'
    """
    rows = sample[:TRIAL_ROWS]
    try:
        with forked(rows.device):
            pair = [copy.deepcopy(model).train(), copy.deepcopy(model).train()]
            with torch.no_grad():
                for parameter in pair[1].parameters():
                    parameter.mul_(0.9)
            network = vmap_models(pair, rows, arithmetic)
            if rows.device.type != "cpu":  # dropout is fused there, and its samples cannot be reproduced
                for module in (module for each in pair for module in each.modules()):
                    if type(module) in DROPOUTS:
                        vars(module)["p"] = 0.0
                network = vmap_models(pair, rows, arithmetic)
            _compare(network, pair, rows, arithmetic)
    except CannotPack as cause:
        return str(cause)
    except Exception as cause:  # torch.func may raise anything
        return f"torch.vmap cannot run it: {first_line(cause)}"
    return ""


def _compare(
    network: VmappedNetwork, models: Sequence[nn.Module], rows: Tensor, arithmetic: Arithmetic | None
) -> None:
    """Compare packed and solo passes.

    Raises:
        CannotPack: the results differ.
    """
    both = torch.stack([rows, rows])
    noise = DropoutNoise(network.dropouts, [0, 1], network.widths, rows.device)
    noise.sample([Batch(both, both, None)], 0, 0)
    noise.use(0)
    network.train()
    with torch.enable_grad():
        packed = network._run(network._leaves, both)
        cotangent = torch.linspace(-1.0, 1.0, packed[0].numel(), device=rows.device).view(packed[0].shape)
        cotangent = cotangent.to(packed.dtype)
        gradients = torch.autograd.grad(
            packed, network._leaves, cotangent.expand_as(packed), allow_unused=True
        )
    if any(g is None for g in gradients):
        raise CannotPack("some weights do not affect its outputs")
    evaluated = network.outputs(both)
    for member, model in enumerate(models):
        seeder(rows.device)(key(member, "step", 0, 0))
        masks = Masks(member)
        masks.begin(0, 0)
        with torch.enable_grad(), masks, nullcontext() if arithmetic is None else arithmetic():
            y = model(rows)
        named = dict(model.named_parameters())
        solo_gradients = torch.autograd.grad(
            y, [named[name] for name in network._template.trained], cotangent
        )
        own = tensors_of(model)
        held = [own[name] for name in network._template.held]
        with torch.no_grad(), nullcontext() if arithmetic is None else arithmetic():
            solo_evaluated = model.eval()(rows)
        compared = [
            ([packed[member]], [y]),
            ([g[member] for g in gradients], solo_gradients),
            ([t[member] for t in network._held], held),
            ([evaluated[member]], [solo_evaluated]),
        ]
        if not all(_agree(a, b, low_precision=arithmetic is not None) for a, b in compared):
            raise CannotPack("the results under torch.vmap differ from those of a solo run")


def _agree(packed: Sequence[Tensor], solo: Sequence[Tensor], *, low_precision: bool) -> bool:
    """Return whether tensors agree up to rounding, in their joint norm: a single gradient may be 0 up to rounding."""
    if not packed:
        return True
    a, b = (torch.cat([t.detach().double().flatten() for t in each]) for each in (packed, solo))
    return bool((a - b).norm() <= (0.05 if low_precision else 1e-3) * b.norm() + 1e-6)
