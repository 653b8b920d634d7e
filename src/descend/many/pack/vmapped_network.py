"""Networks that no packed layers are known for, run together by ``torch.func``.

One plain module, the template, is run for all members at once: ``torch.vmap`` over stacked parameters and buffers
(K, …) and the members' rows, ``functional_call`` to put them in. Autograd differentiates through both. Layers that
draw do not draw here: the noise of dropout comes in from outside, each member's own.
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
from descend.many.pack.flat_buffer import FlatBuffer
from descend.many.pack.layers import PackedDropout
from descend.many.pack.losses import PackedLoss
from descend.many.pack.dropout_noise import DropoutNoise
from descend.many.pack.stacking import DROPOUTS, CannotPack
from descend.many.pack.structure import structure_of
from descend.many.pack.template import Arithmetic, Template, first_line, template_of, tensors_of
from descend.rng import forked, key, seeder

__all__ = ["VmappedNetwork", "cannot_vmap_because", "vmap_models"]

TRIAL_ROWS = 4
"""Rows that a network is tried on before it cannot_be_packed_because."""


class VmappedNetwork:
    """Networks of one structure, run by one of them; see :func:`vmap_models`.

    Args:
        template: the module and its names.
        trained: stacked trained parameters, (K, …) each; copied into one piece of memory.
        held: the other stacked tensors, changed by training where the module changes its own.
        dropouts: rates, shapes and noise of the layers that draw, in the order of execution.
        arithmetic: autocast, for mixed precision.
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
        """All tensors of the state."""
        return [*self.weights.views, *self._held]

    @property
    def widths(self) -> list[list[int] | None]:
        """None: no member is padded."""
        return [None for _ in self.dropouts]

    def flags(self, chosen: Callable[[Tensor], bool], model: nn.Module) -> list[bool]:
        """Whether each trained tensor is chosen."""
        named = dict(model.named_parameters())
        return [chosen(named[name]) for name in self._template.trained]

    def prepare(self, gradients: Sequence[Tensor], loss: PackedLoss) -> None:
        """Nothing to get ready: autograd makes its gradients anew at each step."""

    def train(self) -> None:
        """Training mode."""
        self._template.module.train()

    def differentiate(
        self, batch: Batch, loss: PackedLoss, gradients: FlatBuffer, share: float | None, *, first: bool
    ) -> Tensor:
        """Losses, and gradients where they belong."""
        with torch.enable_grad():
            outputs = self._run(self._leaves, batch.inputs)
        plain = outputs.detach()
        values, derivative = loss(plain.float() if self._arithmetic else plain, batch.targets, batch.weights)
        if share is not None:
            values, derivative = values * share, derivative * share
        found = torch.autograd.grad(outputs, self._leaves, derivative.to(outputs.dtype))
        if first:
            torch._foreach_copy_(gradients.views, found)
        else:
            torch._foreach_add_(gradients.views, found)
        return values

    def outputs(self, inputs: Tensor) -> Tensor:
        """Raw outputs in evaluation mode."""
        module = self._template.module
        training = module.training
        module.eval()
        try:
            with torch.inference_mode():
                members = len(self.weights.views[0])
                found = self._run(self.weights.views, inputs.expand(members, *inputs.shape[1:]))
                return found.float() if self._arithmetic else found
        finally:
            module.train(training)

    def state(self, member: int, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        """A member's state dict."""
        t = self._template
        named = dict(zip([*t.trained, *t.held], tensors, strict=True))
        return {name: named[own][member].detach().clone() for name, own in t.state.items()}

    def select(self, places: list[int]) -> VmappedNetwork:
        """The networks of some members; the tensors are copied."""
        index = torch.tensor(places, device=self.weights.vector.device)
        dropouts = []
        for dropout in self.dropouts:
            made = PackedDropout([dropout.rates[place] for place in places], dropout.features)
            made.shape, made.dtype = dropout.shape, dropout.dtype
            dropouts.append(made)
        return VmappedNetwork(
            self._template,
            [view.index_select(0, index) for view in self.weights.views],
            [t.index_select(0, index) for t in self._held],
            dropouts,
            self._arithmetic,
        )

    def _run(self, trained: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """Outputs (K, B, C) of inputs (K, B, …); buffers that the module changes are changed in place."""
        t = self._template
        held = dict(zip(t.held, self._held, strict=True))
        noise = {
            f"{name}.noise": dropout.noise
            for name, dropout in zip(t.drops, self.dropouts, strict=True)
            if dropout.noise is not None and t.module.training
        }

        def alone(
            parameters: dict[str, Tensor], buffers: dict[str, Tensor], drawn: dict[str, Tensor], x: Tensor
        ) -> tuple[Tensor, dict[str, Tensor]]:
            given = {**parameters, **buffers, **drawn}
            y = functional_call(t.module, given, (x,))
            # A module may change a buffer in place, or put another tensor there: then ``given`` holds that one.
            return y, {name: given[name] for name, own in buffers.items() if given[name] is not own}

        named = dict(zip(t.trained, trained, strict=True))
        with _known_to_vmap(), nullcontext() if self._arithmetic is None else self._arithmetic():
            outputs, replaced = torch.vmap(alone)(named, held, noise, inputs)
        for name, value in replaced.items():
            held[name].copy_(value.detach())
        found: Tensor = outputs
        return found


@contextmanager
def _known_to_vmap() -> Iterator[None]:
    """Attention by its plain formula inside: its fused forms have no batched one and would run member by member."""
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
        models: K plain modules on one device, alike but for their values and for rates of dropout.
        sample: a few rows (n, …), at least 3, that show what is called, in which order, and on which shapes.
        arithmetic: autocast, for mixed precision.

    Raises:
        CannotPack: the structures differ, or a member would not draw or train as it does alone.

    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.inner, self.outer = nn.Linear(3, 3), nn.Linear(3, 2)
    ...
    ...     def forward(self, x):
    ...         return self.outer(x + self.inner(x).relu())
    >>> models = [Net() for _ in range(5)]
    >>> together = vmap_models(models, torch.ones(4, 3))
    >>> y = together.outputs(torch.ones(1, 7, 3))
    >>> y.shape, torch.allclose(y[2], models[2](torch.ones(7, 3)), atol=1e-6)
    (torch.Size([5, 7, 2]), True)
    """
    first = structure_of(models[0])
    if any(structure_of(model) != first for model in models[1:]):
        raise CannotPack("the networks differ in more than their weights and rates of dropout")
    template, dropouts = template_of(models, sample, arithmetic)
    of_models = [tensors_of(model) for model in models]

    def stacked(wanted: Sequence[str]) -> list[Tensor]:
        return [torch.stack([own[name].detach() for own in of_models]) for name in wanted]

    trained = stacked(template.trained)
    if not trained or len({t.dtype for t in trained}) > 1:
        raise CannotPack("the weights are of several types" if trained else "the network has no weights")
    return VmappedNetwork(template, trained, stacked(template.held), dropouts, arithmetic)


def cannot_vmap_because(model: nn.Module, sample: Tensor, arithmetic: Arithmetic | None = None) -> str:
    """Why a model cannot ride by ``torch.vmap``; empty where it can. It is tried, on networks_per_run.

    The model and a copy with other weights make one step's passes together and alone, with the same draws (on the CPU;
    elsewhere without dropout): outputs in training and in evaluation, gradients and buffers must agree. Model and
    random state are left as they are.

    Args:
        model: any module.
        sample: a few rows (n, …), at least 3; the first ones are used.
        arithmetic: autocast, for mixed precision.

    >>> cannot_vmap_because(nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2)), torch.ones(4, 3))
    ''
    >>> cannot_vmap_because(nn.Sequential(nn.Linear(3, 4), nn.AlphaDropout(0.5), nn.Linear(4, 2)), torch.ones(4, 3))
    'it draws random numbers other than by dropout'
    """
    rows = sample[:TRIAL_ROWS]
    try:
        with forked(rows.device):
            pair = [copy.deepcopy(model).train(), copy.deepcopy(model).train()]
            with torch.no_grad():
                for parameter in pair[1].parameters():
                    parameter.mul_(0.9)
            network = vmap_models(pair, rows, arithmetic)
            if rows.device.type != "cpu":  # a fused dropout there, whose draws nothing else can make
                for module in (module for each in pair for module in each.modules()):
                    if type(module) in DROPOUTS:
                        vars(module)["p"] = 0.0
                network = vmap_models(pair, rows, arithmetic)
            _compare(network, pair, rows, arithmetic)
    except CannotPack as cause:
        return str(cause)
    except Exception as cause:  # torch.func raises what it likes
        return f"torch.vmap cannot run it: {first_line(cause)}"
    return ""


def _compare(
    network: VmappedNetwork, models: Sequence[nn.Module], rows: Tensor, arithmetic: Arithmetic | None
) -> None:
    """Passes together and alone.

    Raises:
        CannotPack: they differ.
    """
    both = torch.stack([rows, rows])
    noise = DropoutNoise(network.dropouts, [0, 1], network.widths, rows.device)
    noise.sample([Batch(both, both, None)], 0, 0)
    noise.use(0)
    network.train()
    with torch.enable_grad():
        together = network._run(network._leaves, both)
        cotangent = torch.linspace(-1.0, 1.0, together[0].numel(), device=rows.device).view(together[0].shape)
        cotangent = cotangent.to(together.dtype)
        gradients = torch.autograd.grad(
            together, network._leaves, cotangent.expand_as(together), allow_unused=True
        )
    if any(g is None for g in gradients):
        raise CannotPack("some weights take no part in its outputs")
    evaluated = network.outputs(both)
    for member, model in enumerate(models):
        seeder(rows.device)(key(member, "step", 0, 0))
        with torch.enable_grad(), nullcontext() if arithmetic is None else arithmetic():
            y = model(rows)
        named = dict(model.named_parameters())
        alone = torch.autograd.grad(y, [named[name] for name in network._template.trained], cotangent)
        own = tensors_of(model)
        held = [own[name] for name in network._template.held]
        with torch.no_grad(), nullcontext() if arithmetic is None else arithmetic():
            plain = model.eval()(rows)
        compared = [
            ([together[member]], [y]),
            ([g[member] for g in gradients], alone),
            ([t[member] for t in network._held], held),
            ([evaluated[member]], [plain]),
        ]
        if not all(_agree(mine, theirs, loosely=arithmetic is not None) for mine, theirs in compared):
            raise CannotPack("torch.vmap does not compute what it computes alone")


def _agree(mine: Sequence[Tensor], theirs: Sequence[Tensor], *, loosely: bool) -> bool:
    """Equal up to rounding, in the norm of all together: a single gradient may be 0 but for rounding."""
    if not mine:
        return True
    a, b = (torch.cat([t.detach().double().flatten() for t in each]) for each in (mine, theirs))
    return bool((a - b).norm() <= (0.05 if loosely else 1e-3) * b.norm() + 1e-6)
