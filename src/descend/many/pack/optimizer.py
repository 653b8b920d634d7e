"""Optimizer steps of a pack: PyTorch's formulas, with settings and rates that differ between members.

With g the gradient at x and t the rate, all element by element:

============ =====================================================================================
SGD          v ← μ v + (1 − τ) g (v ← g at first);  x ← x − t v,  or x − t (g + μ v) with Nesterov
Adagrad      s ← s + g²;  x ← x − t/(1 + (k−1) η) g / (√s + ε)
RMSprop      s ← α s + (1 − α) g²;  d ← g / (√s + ε);  v ← μ v + d;  x ← x − t v
Adam, AdamW  m ← β₁ m + (1 − β₁) g;  s ← β₂ s + (1 − β₂) g²;  x ← x − t (m/(1 − β₁ᵏ)) / (√(s/(1 − β₂ᵏ)) + ε)
Adamax       m ← β₁ m + (1 − β₁) g;  u ← max(β₂ u, abs(g) + ε);  x ← x − t/(1 − β₁ᵏ) m / u
============ =====================================================================================

Each update is a function from gradient and state to a direction d; the step is x ← (1 − t λ) x − t d with λ the
decoupled weight decay. AdamW decays behind the gradient, as PyTorch does; decay that is not the optimizer's own
(:func:`descend.regularization.weight_decay`) comes first, and the gradient is that at the decayed weights.

Settings that all members share are numbers and the whole pack is one vector; settings that differ are tensors (K,) and
each stacked tensor is handled by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, Adamax, AdamW, Optimizer, RMSprop

from descend.many.pack.flat_buffer import FlatBuffer, per_member

__all__ = ["PackedOptimizer", "optimizer_cannot_be_packed_because", "optimizer_signature"]

Setting = float | Tensor
State = dict[str, Tensor]
Direction = Callable[[Tensor, Tensor, State, Mapping[str, Setting], Setting], None]
"""(d, g, state, settings, k): writes the direction to d; k counts steps from 1."""


def _power(base: Setting, exponent: Setting) -> Setting:
    if isinstance(base, Tensor):
        return base.pow(exponent)
    return torch.pow(base, exponent) if isinstance(exponent, Tensor) else float(base**exponent)


def _root(value: Setting) -> Setting:
    return value.sqrt() if isinstance(value, Tensor) else value**0.5


def _lerp(state: Tensor, towards: Tensor, weight: Setting) -> None:
    if isinstance(weight, Tensor):
        state.lerp_(towards, weight.expand_as(state))
    else:
        state.lerp_(towards, weight)


def _sgd(d: Tensor, g: Tensor, state: State, s: Mapping[str, Setting], k: Setting) -> None:
    if "velocity" not in state:
        d.copy_(g)
        return
    v, mu = state["velocity"], s["momentum"]
    if isinstance(k, Tensor):
        first = k == 1
        share = torch.where(first, 1.0, 1.0 - s["dampening"])
        v.mul_(torch.where(first, 0.0, mu)).add_(g * share)
    elif k == 1:
        v.copy_(g)
    else:
        v.mul_(mu).add_(g, alpha=1.0 - float(s["dampening"]))
    if s["nesterov"]:
        torch.mul(v, mu, out=d)
        d.add_(g)
    else:
        d.copy_(v)


def _adagrad(d: Tensor, g: Tensor, state: State, s: Mapping[str, Setting], k: Setting) -> None:
    state["sum"].addcmul_(g, g)
    torch.sqrt(state["sum"], out=d)
    d.add_(s["eps"])
    torch.div(g, d, out=d)
    d.div_(1.0 + (k - 1) * s["lr_decay"])


def _rmsprop(d: Tensor, g: Tensor, state: State, s: Mapping[str, Setting], k: Setting) -> None:
    square, alpha = state["square"], s["alpha"]
    square.mul_(alpha)
    if isinstance(alpha, Tensor):
        square.add_(g * g * (1.0 - alpha))
    else:
        square.addcmul_(g, g, value=1.0 - alpha)
    if s["centered"]:
        mean = state["mean"]
        _lerp(mean, g, 1.0 - alpha)
        torch.addcmul(square, mean, mean, value=-1.0, out=d)
        d.sqrt_()
    else:
        torch.sqrt(square, out=d)
    d.add_(s["eps"])
    torch.div(g, d, out=d)
    if "velocity" in state:
        state["velocity"].mul_(s["momentum"]).add_(d)
        d.copy_(state["velocity"])


def _adam(d: Tensor, g: Tensor, state: State, s: Mapping[str, Setting], k: Setting) -> None:
    mean, square = state["mean"], state["square"]
    beta1, beta2 = s["beta1"], s["beta2"]
    eps = s["eps"]
    if not (
        isinstance(beta1, Tensor)
        or isinstance(beta2, Tensor)
        or isinstance(eps, Tensor)
        or isinstance(k, Tensor)
    ):
        # PyTorch's own kernel of AdamW, at a rate of -1: a decay of -1 makes 0 of a weight, and the step is the direction.
        counted = torch.full((), float(k), device=d.device)
        torch._fused_adamw_(
            [d], [g], [mean], [square], [], [counted],
            lr=-1.0, beta1=beta1, beta2=beta2, weight_decay=-1.0, eps=eps, amsgrad=False, maximize=False,
        )  # fmt: skip
        return
    _lerp(mean, g, 1.0 - beta1)
    square.mul_(beta2).add_(g * g * (1.0 - beta2))
    torch.sqrt(square, out=d)
    d.div_(_root(1.0 - _power(beta2, k))).add_(eps)
    torch.div(mean, d, out=d)
    d.div_(1.0 - _power(beta1, k))


def _adamax(d: Tensor, g: Tensor, state: State, s: Mapping[str, Setting], k: Setting) -> None:
    mean, largest = state["mean"], state["largest"]
    _lerp(mean, g, 1.0 - s["beta1"])
    largest.mul_(s["beta2"])
    torch.maximum(largest, g.abs().add_(s["eps"]), out=largest)
    torch.div(mean, largest, out=d)
    d.div_(1.0 - _power(s["beta1"], k))


_KINDS: dict[type[Optimizer], tuple[Direction, tuple[str, ...], tuple[str, ...]]] = {
    SGD: (_sgd, ("momentum", "dampening"), ("nesterov",)),
    Adagrad: (_adagrad, ("lr_decay", "eps", "initial_accumulator_value"), ()),
    RMSprop: (_rmsprop, ("alpha", "eps", "momentum"), ("centered",)),
    Adam: (_adam, ("betas", "eps"), ()),
    AdamW: (_adam, ("betas", "eps"), ()),
    Adamax: (_adamax, ("betas", "eps"), ()),
}
"""Class -> its direction, the settings that may differ between members, the flags that may not."""


def optimizer_cannot_be_packed_because(optimizer: Optimizer) -> str:
    """Why an optimizer has no packed form; empty where it has one."""
    if type(optimizer) not in _KINDS:
        return f"the optimizer {type(optimizer).__name__} has no packed form"
    if any(group.get(flag) for group in optimizer.param_groups for flag in ("amsgrad", "maximize")):
        return "amsgrad and maximize have no packed form"
    if any(isinstance(group["lr"], Tensor) for group in optimizer.param_groups):
        return "a rate that is a tensor has no packed form"
    if len({float(group["lr"]) for group in optimizer.param_groups}) > 1:
        return "rates that differ between layers have no packed form"
    return ""


def optimizer_signature(optimizer: Optimizer) -> tuple[Any, ...]:
    """What two optimizers must share in order to step as one."""
    _, _, flags = _KINDS[type(optimizer)]
    group = optimizer.param_groups[0]
    return (type(optimizer), *(group[flag] for flag in flags))


class PackedOptimizer:
    """K optimizers of one class as one.

    Args:
        optimizers: one for each member; their settings are read, they themselves are not used.
        weights: of the pack.
        decayed: for each stacked tensor, whether weight decay applies to it.
        decays: λ of each member, decoupled: x ← (1 − t λ) x before the step.
    """

    def __init__(
        self, optimizers: Sequence[Optimizer], weights: FlatBuffer, decayed: Sequence[bool], decays: Sequence[float]
    ) -> None:
        self._direct, varying, flags = _KINDS[type(optimizers[0])]
        groups = [optimizer.param_groups[0] for optimizer in optimizers]
        self.settings: dict[str, list[float]] = {}
        for name in varying:
            if name == "betas":
                for place in (0, 1):
                    self.settings[f"beta{place + 1}"] = [float(group["betas"][place]) for group in groups]
            else:
                self.settings[name] = [float(group[name]) for group in groups]
        # What differed once stays a tensor: other kernels round differently, and none of the members that go on shall
        # notice that one has left.
        self._differ = {name for name, values in self.settings.items() if len(set(values)) > 1}
        self._flags = {flag: bool(groups[0][flag]) for flag in flags}
        self._kind = type(optimizers[0])
        self.decays = list(decays)
        self._decayed = list(decayed)
        self.counts = [0] * len(groups)
        self.state = {name: weights.zeros_like() for name in self._names()}
        if self._kind is Adagrad:
            start = torch.tensor(self.settings["initial_accumulator_value"], dtype=weights.vector.dtype)
            for view in self.state["sum"].views:
                view.add_(per_member(start.to(view.device), view))
        self._gather(weights)

    def _names(self) -> list[str]:
        if self._kind is SGD:
            return ["velocity"] if any(self.settings["momentum"]) else []
        if self._kind is Adagrad:
            return ["sum"]
        if self._kind is RMSprop:
            own = ["square", *(["mean"] if self._flags["centered"] else [])]
            return own + (["velocity"] if any(self.settings["momentum"]) else [])
        return ["mean", "largest" if self._kind is Adamax else "square"]

    def _gather(self, weights: FlatBuffer) -> None:
        """Tensors of the settings that differ, and the pieces that are updated together."""
        self._weights, self._directions, self._rates = weights, weights.zeros_like(), weights.zeros_like()
        self._spread_from: Tensor | None = None
        vector = weights.vector
        given: dict[str, Setting] = {
            name: torch.tensor(values, dtype=vector.dtype, device=vector.device)
            if name in self._differ
            else values[0]
            for name, values in self.settings.items()
        } | self._flags
        self._counts_differ = len(set(self.counts)) > 1  # they grow together
        apart = any(isinstance(value, Tensor) for value in given.values()) or self._counts_differ
        whole = [(self._directions.vector, {name: flat.vector for name, flat in self.state.items()}, given)]
        self._pieces = (
            [
                (
                    view,
                    {name: flat.views[place] for name, flat in self.state.items()},
                    {n: per_member(v, view) if isinstance(v, Tensor) else v for n, v in given.items()},
                )
                for place, view in enumerate(self._directions.views)
            ]
            if apart
            else whole
        )
        self._apart = apart
        self._decay = (
            torch.tensor(self.decays, dtype=vector.dtype, device=vector.device) if any(self.decays) else None
        )

    @torch.no_grad()
    def begin_step(self, rates: Tensor) -> None:
        """What comes before the gradient: weight decay that is not the optimizer's own."""
        if self._kind is not AdamW:
            self._shrink(rates)

    def _shrink(self, rates: Tensor) -> None:
        if self._decay is not None:
            factors = 1.0 - rates * self._decay
            for weight, decays in zip(self._weights.views, self._decayed, strict=True):
                if decays:
                    weight.mul_(per_member(factors, weight))

    @torch.no_grad()
    def step(self, gradients: FlatBuffer, rates: Tensor) -> None:
        """Update the weights, with the gradients that were taken after :meth:`begin_step`.

        Args:
            gradients: of the pack.
            rates: t of each member, (K,); the same tensor as at the step before where they have not changed.
        """
        self.counts = [count + 1 for count in self.counts]
        count: Setting = self.counts[0]
        if self._counts_differ:
            count = torch.tensor(self.counts, dtype=rates.dtype, device=rates.device)
        given = gradients.views if self._apart else [gradients.vector]
        for (direction, state, settings), gradient in zip(self._pieces, given, strict=True):
            own = per_member(count, direction) if isinstance(count, Tensor) else count
            self._direct(direction, gradient, state, settings, own)
        if self._kind is AdamW:
            self._shrink(rates)
        self._weights.vector.addcmul_(self._directions.vector, self._spread(rates), value=-1.0)

    def _spread(self, rates: Tensor) -> Tensor:
        """The rates, one for each number in the pack's vector; kept while they do not change."""
        if rates is not self._spread_from:
            for view in self._rates.views:
                view.copy_(per_member(rates, view).expand_as(view))
            self._spread_from = rates
        return self._rates.vector

    def select(self, places: list[int], weights: FlatBuffer) -> None:
        """Go on with some of the members, whose weights these are."""
        index = torch.tensor(places, device=weights.vector.device)
        self.settings = {name: [values[p] for p in places] for name, values in self.settings.items()}
        self.decays = [self.decays[place] for place in places]
        self.counts = [self.counts[place] for place in places]
        self.state = {name: flat.select(index) for name, flat in self.state.items()}
        self._gather(weights)

    def state_dict(self) -> dict[str, Any]:
        """Counts of steps, and the state of each stacked tensor."""
        return {"counts": list(self.counts), "state": {n: list(f.views) for n, f in self.state.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        self.counts = [int(count) for count in state["counts"]]
        for name, flat in self.state.items():
            torch._foreach_copy_(flat.views, [t.to(flat.vector.device) for t in state["state"][name]])
        self._gather(self._weights)
