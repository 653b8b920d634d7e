"""Optimizer steps of a pack: PyTorch's formulas, with settings and learning rates that differ between members.

With g the gradient at x and t the learning rate, all elementwise:

============ =====================================================================================
SGD          v ← μ v + (1 − τ) g (v ← g at first);  x ← x − t v,  or x − t (g + μ v) with Nesterov
Adagrad      s ← s + g²;  x ← x − t/(1 + (k−1) η) g / (√s + ε)
RMSprop      s ← α s + (1 − α) g²;  d ← g / (√s + ε);  v ← μ v + d;  x ← x − t v
Adam, AdamW  m ← β₁ m + (1 − β₁) g;  s ← β₂ s + (1 − β₂) g²;  x ← x − t (m/(1 − β₁ᵏ)) / (√(s/(1 − β₂ᵏ)) + ε)
Adamax       m ← β₁ m + (1 − β₁) g;  u ← max(β₂ u, abs(g) + ε);  x ← x − t/(1 − β₁ᵏ) m / u
============ =====================================================================================

Each update is a function of gradient and state that returns a direction d; the step is x ← (1 − t λ) x − t d with λ the
decoupled weight decay. AdamW applies its decay after the gradient is computed, as in PyTorch; decay that is not part of
the optimizer (:func:`descend.regularization.weight_decay`) is applied first, and the gradient is computed at the decayed
weights.

Optimizers that use more than a direction have a rule of their own (:mod:`descend.many.pack.rules`).

If all members share the values of all settings, these are numbers and the whole pack is updated as one vector. Settings
that differ are tensors (K,), and each stacked tensor is updated separately.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adafactor, Adagrad, Adam, Adamax, AdamW, Optimizer, RMSprop

from descend.many.pack.flat_buffer import FlatBuffer, per_member
from descend.many.pack.rules import RULES, Step

__all__ = ["PackedOptimizer", "optimizer_cannot_be_packed_because", "optimizer_signature"]

Setting = float | Tensor
State = dict[str, Tensor]
Direction = Callable[[Tensor, Tensor, State, Mapping[str, Setting], Setting], None]
"""(d, g, state, settings, k): writes the direction to d; k is the 1-based step."""


def _power(base: Setting, exponent: Setting) -> Setting:
    if isinstance(base, Tensor):
        return base.pow(exponent)
    return torch.pow(base, exponent) if isinstance(exponent, Tensor) else float(base**exponent)


def _root(value: Setting) -> Setting:
    return value.sqrt() if isinstance(value, Tensor) else value**0.5


def _lerp(state: Tensor, target: Tensor, weight: Setting) -> None:
    if isinstance(weight, Tensor):
        state.lerp_(target, weight.expand_as(state))
    else:
        state.lerp_(target, weight)


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
        # PyTorch's AdamW kernel with lr = -1 and weight decay -1: the weight is multiplied by 0, and the result is the
        # direction.
        count = torch.full((), float(k), device=d.device)
        torch._fused_adamw_(
            [d], [g], [mean], [square], [], [count],
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
"""Class -> its direction, settings that may differ between members, flags that may not."""


def optimizer_cannot_be_packed_because(optimizer: Optimizer) -> str:
    """Return the reason why an optimizer has no packed form; empty if it has one."""
    if type(optimizer) is Adafactor:
        return "adafactor averages over rows and columns of each weight, which the padding of a pack would change"
    if type(optimizer) not in _KINDS and type(optimizer) not in RULES:
        return f"the optimizer {type(optimizer).__name__} has no packed form"
    if any(group.get(flag) for group in optimizer.param_groups for flag in ("amsgrad", "maximize")):
        return "amsgrad and maximize have no packed form"
    if optimizer.defaults.get("weight_decay"):
        return "a weight decay that is not that of the recipe has no packed form"
    if any(isinstance(group["lr"], Tensor) for group in optimizer.param_groups):
        return "a learning rate that is a tensor has no packed form"
    if len({float(group["lr"]) for group in optimizer.param_groups}) > 1:
        return "learning rates that differ between layers have no packed form"
    return ""


def optimizer_signature(optimizer: Optimizer) -> tuple[Any, ...]:
    """Return what two optimizers must share in order to be packed together."""
    if type(optimizer) in RULES:
        return (type(optimizer),)
    _, _, flags = _KINDS[type(optimizer)]
    group = optimizer.param_groups[0]
    return (type(optimizer), *(group[flag] for flag in flags))


class PackedOptimizer:
    """K optimizers of one class, run as one.

    Args:
        optimizers: one for each member; only their settings are used.
        weights: the weights of the pack.
        decayed: for each stacked tensor, whether weight decay applies to it.
        decays: λ of each member, decoupled: x ← (1 − t λ) x before the step.
    """

    def __init__(
        self,
        optimizers: Sequence[Optimizer],
        weights: FlatBuffer,
        decayed: Sequence[bool],
        decays: Sequence[float],
    ) -> None:
        self._kind = type(optimizers[0])
        self._rule = RULES.get(self._kind)
        self._direct, varying, flags = _KINDS.get(self._kind, (_sgd, (), ()))
        if self._rule is not None:
            varying = self._rule.settings
        groups = [optimizer.param_groups[0] for optimizer in optimizers]
        self.settings: dict[str, list[float]] = {}
        for name in varying:
            if name == "betas":
                for place in (0, 1):
                    self.settings[f"beta{place + 1}"] = [float(group["betas"][place]) for group in groups]
            else:
                self.settings[name] = [
                    float(group[name]) if self._rule is None else self._rule.value(name, group)
                    for group in groups
                ]
        # A setting that differed at first remains a tensor: other kernels round differently, and the bits of the
        # remaining members must not change when one leaves.
        self._differ = {name for name, values in self.settings.items() if len(set(values)) > 1}
        self._flags = {flag: bool(groups[0][flag]) for flag in flags}
        self.decays = list(decays)
        self._decayed = list(decayed)
        self.counts = [0] * len(groups)
        self.state = {name: weights.zeros_like() for name in self._names()}
        self.numbers: dict[str, Tensor] = {}
        if self._rule is not None:
            self.state |= {name: FlatBuffer(weights.views) for name in self._rule.copies}
            initial = [self._rule.numbers(group) for group in groups]
            self.numbers = {
                name: torch.tensor([float(own[name]) for own in initial], dtype=torch.float64)
                for name in initial[0]
            }
            if "mu_product" in self.numbers:
                self.numbers["mu_product"] = self.numbers["mu_product"].float()
            self.numbers = {name: value.to(weights.vector.device) for name, value in self.numbers.items()}
        if self._kind is Adagrad:
            start = torch.tensor(self.settings["initial_accumulator_value"], dtype=weights.vector.dtype)
            for view in self.state["sum"].views:
                view.add_(per_member(start.to(view.device), view))
        self._gather(weights)

    def _names(self) -> list[str]:
        if self._rule is not None:
            return list(self._rule.state)
        if self._kind is SGD:
            return ["velocity"] if any(self.settings["momentum"]) else []
        if self._kind is Adagrad:
            return ["sum"]
        if self._kind is RMSprop:
            own = ["square", *(["mean"] if self._flags["centered"] else [])]
            return own + (["velocity"] if any(self.settings["momentum"]) else [])
        return ["mean", "largest" if self._kind is Adamax else "square"]

    def _gather(self, weights: FlatBuffer) -> None:
        """Build the tensors of settings that differ, and the pieces that are updated together."""
        self._weights = weights
        if self._rule is not None:
            self._rule_settings = {
                name: torch.tensor(values, dtype=torch.float64, device=weights.vector.device)
                for name, values in self.settings.items()
            }
        self._directions, self._lr = weights.zeros_like(), weights.zeros_like()
        self._lr_source: Tensor | None = None
        vector = weights.vector
        settings: dict[str, Setting] = {
            name: torch.tensor(values, dtype=vector.dtype, device=vector.device)
            if name in self._differ
            else values[0]
            for name, values in self.settings.items()
        } | self._flags
        self._counts_differ = len(set(self.counts)) > 1  # constant, since all counts grow together
        separate = any(isinstance(value, Tensor) for value in settings.values()) or self._counts_differ
        whole = [
            (self._directions.vector, {name: flat.vector for name, flat in self.state.items()}, settings)
        ]
        self._pieces = (
            [
                (
                    view,
                    {name: flat.views[place] for name, flat in self.state.items()},
                    {n: per_member(v, view) if isinstance(v, Tensor) else v for n, v in settings.items()},
                )
                for place, view in enumerate(self._directions.views)
            ]
            if separate
            else whole
        )
        self._separate = separate
        self._decay = (
            torch.tensor(self.decays, dtype=vector.dtype, device=vector.device) if any(self.decays) else None
        )

    def _step_of(self, gradients: FlatBuffer, lr: Tensor) -> Step:
        """Return what the rule of an optimizer works on."""
        like: dict[str, Any] = {"dtype": torch.float64, "device": lr.device}
        return Step(
            self._weights.views,
            gradients.views,
            {name: flat.views for name, flat in self.state.items()},
            self.numbers,
            self._rule_settings,
            torch.tensor(self.counts, **like),
            lr.double(),
            torch.tensor(self.decays, **like),
            self._decayed,
        )

    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """Context in which the pack has the weights that the optimizers evaluate; on exit they are restored to the bit."""
        if self._rule is None or self._rule.average is None:
            yield
            return
        own = self._weights.vector.clone()
        lr = torch.zeros(len(self.counts), device=own.device)
        self._rule.average(self._step_of(self._weights, lr))
        try:
            yield
        finally:
            self._weights.vector.copy_(own)

    @torch.no_grad()
    def begin_step(self, lr: Tensor) -> None:
        """Apply weight decay that is not part of the optimizer; call this before the gradient is computed."""
        own = self._kind is AdamW if self._rule is None else self._rule.own_decay
        if not own:
            self._apply_decay(lr)

    def _apply_decay(self, lr: Tensor) -> None:
        if self._decay is not None:
            factors = 1.0 - lr * self._decay
            for weight, decays in zip(self._weights.views, self._decayed, strict=True):
                if decays:
                    weight.mul_(per_member(factors, weight))

    @torch.no_grad()
    def step(self, gradients: FlatBuffer, lr: Tensor) -> None:
        """Update the weights with the gradients computed after :meth:`begin_step`.

        Args:
            gradients: of the pack.
            lr: learning rate t of each member, (K,); the same object as at the previous step if nothing changed.
        """
        self.counts = [count + 1 for count in self.counts]
        if self._rule is not None:
            self._rule.step(self._step_of(gradients, lr))
            return
        count: Setting = self.counts[0]
        if self._counts_differ:
            count = torch.tensor(self.counts, dtype=lr.dtype, device=lr.device)
        of_pieces = gradients.views if self._separate else [gradients.vector]
        for (direction, state, settings), gradient in zip(self._pieces, of_pieces, strict=True):
            own = per_member(count, direction) if isinstance(count, Tensor) else count
            self._direct(direction, gradient, state, settings, own)
        if self._kind is AdamW:
            self._apply_decay(lr)
        self._weights.vector.addcmul_(self._directions.vector, self._expanded_lr(lr), value=-1.0)

    def _expanded_lr(self, lr: Tensor) -> Tensor:
        """Return the learning rate of each entry of the pack's vector; it is cached while ``lr`` is the same object."""
        if lr is not self._lr_source:
            for view in self._lr.views:
                view.copy_(per_member(lr, view).expand_as(view))
            self._lr_source = lr
        return self._lr.vector

    def select(self, places: list[int], weights: FlatBuffer) -> None:
        """Keep only the members at these places, whose weights are given."""
        index = torch.tensor(places, device=weights.vector.device)
        self.settings = {name: [values[p] for p in places] for name, values in self.settings.items()}
        self.decays = [self.decays[place] for place in places]
        self.counts = [self.counts[place] for place in places]
        self.state = {name: flat.select(index) for name, flat in self.state.items()}
        self.numbers = {name: values.index_select(0, index) for name, values in self.numbers.items()}
        self._gather(weights)

    def state_dict(self) -> dict[str, Any]:
        """Return step counts, and the state of each stacked tensor."""
        return {
            "counts": list(self.counts),
            "state": {n: list(f.views) for n, f in self.state.items()},
            "numbers": dict(self.numbers),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the result of :meth:`state_dict`."""
        self.counts = [int(count) for count in state["counts"]]
        for name, flat in self.state.items():
            torch._foreach_copy_(flat.views, [t.to(flat.vector.device) for t in state["state"][name]])
        for name, values in state.get("numbers", {}).items():
            self.numbers[name] = values.to(self._weights.vector.device)
        self._gather(self._weights)
