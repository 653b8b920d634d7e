"""K-FAC: the natural gradient, with the Fisher matrix of each layer as a Kronecker product of two small matrices.

The natural gradient F⁻¹ g is the steepest descent where distance is measured by how much the predictions change, so it does not
depend on how inputs are scaled, shifted or mixed. F has as many rows as there are weights. K-FAC takes it layer by layer as
A ⊗ G, of the inputs' second moments A and those of the slopes G (:mod:`descend.optim.factors`), whose inverse is the product
of two small inverses. Slopes are of targets drawn from the model's own distribution (:mod:`descend.losses.likelihoods`): with the
data's own targets the matrix would be another one, which vanishes as the fit gets better.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.adam import adam

from descend.cards import method
from descend.errors import UserError
from descend.linalg.products import Library, best_library, product
from descend.losses.likelihoods import LIKELIHOODS, Likelihood
from descend.optim.base import Params
from descend.optim.building import build
from descend.optim.factors import Factors, stacks_of
from descend.optim.layers import Layer, layers_of
from descend.optim.vector_step import restore_dtypes
from descend.optim.watching import Watch
from descend.param_types import Count, Fraction, Positive

__all__ = ["KFAC", "kfac"]


@final
class KFAC(Optimizer):
    """K-FAC in any loop: ``loss.backward()`` and ``step()``, or ``step(closure)``; see :func:`kfac`.

    The model is watched by hooks in the forward passes before a step that learns factors, and in no others. They count in
    training mode and with gradients enabled alone. The loss must be a mean over predictions, as the likelihood's. The model must
    be on its device before the optimizer is made.

    The state of a layer's weight holds its factors, inverses and momentum (:class:`descend.optim.factors.Factors`), that of
    other parameters ``average`` and ``square`` of Adam and its ``step``; that of the first parameter holds ``steps``.

    Settings other than the rate belong to the step as a whole: those of the first group count.
    """

    def __init__(
        self,
        params: Params,
        model: nn.Module,
        likelihood: str | Likelihood | None,
        lr: float = 3e-3,
        momentum: float = 0.9,
        damping: float = 0.1,
        decay: float = 0.95,
        kl_clip: float = 1e-3,
        factors_every: int = 10,
        inverses_every: int = 100,
        others: float = 0.3,
        seed: int = 0,
        products: Library | None = None,
    ) -> None:
        for name, value, domain, fits in (
            ("lr", lr, "0 or more", lr >= 0),
            ("momentum", momentum, "0 or more and below 1", 0 <= momentum < 1),
            ("damping", damping, "above 0", damping > 0),
            ("decay", decay, "0 or more and below 1", 0 <= decay < 1),
            ("kl_clip", kl_clip, "above 0", kl_clip > 0),
            ("factors_every", factors_every, "1 or more", factors_every >= 1),
            ("inverses_every", inverses_every, "1 or more", inverses_every >= 1),
            ("others", others, "0 or more", others >= 0),
        ):
            if not fits:
                raise ValueError(f"{name} must be {domain}; found {value}")
        settings = {
            "lr": lr,
            "momentum": momentum,
            "damping": damping,
            "decay": decay,
            "kl_clip": kl_clip,
            "factors_every": factors_every,
            "inverses_every": inverses_every,
            "others": others,
        }
        self._watch: Watch | None = None
        super().__init__(params, settings)
        if products is None:
            products = best_library(self.everything[0].device.type)[0]
        self._large = product(products)
        self._watch = Watch(model, _known(likelihood), seed=seed, large=self._large)
        self._arrange()
        if not self._layers:
            raise ValueError(
                "none of these parameters is the weight of a Linear or Conv2d layer of the model, and only those have "
                "Kronecker factors; shampoo and adam take any parameters"
            )

    @property
    def everything(self) -> list[Tensor]:
        """All parameters, in order."""
        return [p for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Args:
            closure: evaluated once, if given; only what the model does within it is learned from then. Its loss is returned.

        Raises:
            UserError: a gradient is sparse, or there are gradients and no forward pass of the model was seen in training mode.
        """
        watch, settings, loss = self._seen(), self.param_groups[0], None
        if closure is not None:
            watch.forget()
            with torch.enable_grad():
                loss = closure()
        gradients = [p.grad for p in self.everything if p.grad is not None]
        if not gradients:
            return loss
        if any(gradient.is_sparse for gradient in gradients):
            raise UserError(
                "kfac moves every coordinate, and does not take sparse gradients; use sparse_adam"
            )
        if not watch.seen and not any(map(self._estimated, self._layers)):
            raise UserError(
                "kfac learns from forward passes of its model in training mode, and has seen none: call the model that it was "
                "given itself, after model.train() and with gradients enabled"
            )
        seen = watch.take()
        first = any(not self._estimated(layer) for layer in seen)
        for stack in self._stacks:
            stack.learn(seen, settings["decay"])
        if first or _due(watch.step, settings["inverses_every"]):
            for stack in self._stacks:
                stack.invert(settings["damping"])
        moving = [layer for layer in self._layers if layer.weight.grad is not None and self._estimated(layer)]
        self._push(moving)
        self._move({id(p) for layer in moving for p in layer.parameters})
        self._advance(watch.step + 1)
        return loss

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters; layers among them get their factors."""
        super().add_param_group(param_group)
        if self._watch is not None:
            self._arrange()

    def state_dict(self) -> dict[str, Any]:
        """The state with tensors of its own: those at work are parts of stacks, whose strides files do not take."""
        found = super().state_dict()
        found["state"] = {
            key: {
                name: each.clone(memory_format=torch.contiguous_format) if isinstance(each, Tensor) else each
                for name, each in own.items()
            }
            for key, own in found["state"].items()
        }
        return found

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a state as it was saved: factors keep their precision, where PyTorch would cast to the weights' type."""
        super().load_state_dict(dict(state_dict))
        restore_dtypes(self, state_dict)
        self._arrange()

    def _seen(self) -> Watch:
        assert self._watch is not None
        return self._watch

    def _arrange(self) -> None:
        """Find the layers, and bring the state that there is into stacks."""
        watch, everything = self._seen(), self.everything
        self._layers: list[Layer] = layers_of(watch.model, everything)
        self._stacks: list[Factors] = stacks_of(self._layers, self.state, self._large)
        self._of_layer = {layer: stack for stack in self._stacks for layer in stack.layers}
        watch.forget()
        self._advance(self.state[everything[0]].get("steps", 0))

    def _estimated(self, layer: Layer) -> bool:
        return self._of_layer[layer].estimates(layer) > 0

    def _advance(self, step: int) -> None:
        """Get ready for a step: note its number, and watch what is to be learned in its forward passes."""
        watch, settings = self._seen(), self.param_groups[0]
        self.state[self.everything[0]]["steps"] = watch.step = step
        unknown = [layer for layer in self._layers if not self._estimated(layer)]
        watch.look(self._layers if _due(step, settings["factors_every"]) else unknown)

    def _push(self, moving: list[Layer]) -> None:
        """Bring the directions of layers into their momenta, shortened as the trust in them says."""
        settings, chosen = self.param_groups[0], set(moving)
        parts = [(stack, [layer for layer in stack.layers if layer in chosen]) for stack in self._stacks]
        parts = [(stack, layers) for stack, layers in parts if layers]
        if not parts:
            return
        by_id: dict[int, float] = {}
        for group in self.param_groups:
            by_id |= dict.fromkeys(map(id, group["params"]), float(group["lr"]))
        rates = {layer: by_id[id(layer.weight)] for layer in moving}
        lengths = [stack.direct(layers, rates) for stack, layers in parts]
        # A network may lie on several devices.
        length = torch.stack([each.to(lengths[0].device) for each in lengths]).sum()
        share = (settings["kl_clip"] / length).sqrt().clamp_max(1.0)
        for stack, layers in parts:
            stack.push(layers, settings["momentum"], share)

    def _move(self, in_layers: set[int]) -> None:
        """Move what has a gradient: weights of layers by their momenta, the rest by Adam."""
        others = self.param_groups[0]["others"]
        for group in self.param_groups:
            rate, given = float(group["lr"]), [p for p in group["params"] if p.grad is not None]
            own = [p for p in given if id(p) in in_layers]
            rest = [p for p in given if id(p) not in in_layers]
            if own:
                torch._foreach_add_(own, [self.state[p]["momentum"] for p in own], alpha=-rate)
            if rest:
                self._adapt(rest, rate * others)

    def _adapt(self, parameters: list[Tensor], rate: float) -> None:
        """A step of Adam with PyTorch's default settings."""
        if any(p.grad is not None and p.grad.is_sparse for p in parameters):
            raise UserError(
                "kfac moves every coordinate, and does not take sparse gradients; use sparse_adam"
            )
        # For the many small ones of norms, one kernel on the CPU takes a tenth of the time of one for each operation.
        fused = all(p.device.type == "cpu" and p.dtype in (torch.float32, torch.float64) for p in parameters)
        states = [self.state[p] for p in parameters]
        for state, p in zip(states, parameters, strict=True):
            if "average" not in state:
                state["step"] = torch.zeros(())
                state["average"], state["square"] = torch.zeros_like(p), torch.zeros_like(p)
        adam(
            parameters,
            [p.grad for p in parameters if p.grad is not None],
            [state["average"] for state in states],
            [state["square"] for state in states],
            [],
            [state["step"] for state in states],
            foreach=not fused,
            fused=fused,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )


def _due(step: int, every: int) -> bool:
    """Whether something is to be done at a step: every so many, and at first at 0, 1, 2, 4, 8, …, when little is known."""
    return step % every == 0 or (step < every and step & (step - 1) == 0)


def _known(likelihood: str | Likelihood | None) -> Likelihood:
    if isinstance(likelihood, Likelihood):
        return likelihood
    found = LIKELIHOODS.get(likelihood) if likelihood is not None else None
    if found is None:
        said = "the loss is the negative logarithm of none" if likelihood is None else f"found '{likelihood}'"
        raise ValueError(
            f"it draws targets from the model's own distribution, and so needs a likelihood, one of {', '.join(LIKELIHOODS)}: "
            f"{said}; shampoo and adam take any loss"
        )
    return found


@method(
    row="D10",
    reference="Martens and Grosse 2015; convolutions: Grosse and Martens 2016; trust in the step: Ba et al. 2017",
    formula="V <- V - t (G + sqrt(l)/pi I)^-1 D (A + pi sqrt(l) I)^-1 with momentum, D = dF/dV, A = E a a^T, G = E s s^T",
    note="Slopes s are those of targets drawn from the model's own distribution, so it needs a loss that is the logarithm of "
    "one: mse, bce, cross_entropy, kl. Norms' gains and embeddings take Adam's step.",
)
def kfac(
    params: Params,
    model: nn.Module,
    likelihood: str | Likelihood | None,
    seed: int = 0,
    products: Library | None = None,
    *,
    lr: Positive = 3e-3,
    momentum: Fraction = 0.9,
    damping: Positive = 0.1,
    decay: Fraction = 0.95,
    kl_clip: Positive = 1e-3,
    factors_every: Count = 10,
    inverses_every: Count = 100,
    others: Positive = 0.3,
) -> Optimizer:
    """K-FAC: gradients multiplied by the inverse of a Fisher matrix that is a Kronecker product for each layer.

    With a a layer's inputs (with a 1 for the bias), s the slopes of −log p(y | z) by its outputs for targets y drawn from the
    model, and D the gradient of its weights V (m, n),

        V ← V − t v,    v ← μ v + ν (G + √λ/π I)⁻¹ D (A + π√λ I)⁻¹,    A = E Σ a aᵀ,    G = E mean s sᵀ,

    where π² = (tr A/n)/(tr G/m) splits the damping λ evenly, and ν = min(1, √(κ / Σ t² d·D)) over all layers' directions d keeps
    a step from changing the predictions by more than κ: t² dᵀ F d is twice the Kullback-Leibler divergence from those before it,
    to second order. A and G are averages over steps, started at the first estimate. Convolutions have a matrix for each group,
    with patches as inputs; a layer that is called several times, or on several places of a row, sums over them in A.

    What belongs to no ``Linear`` or ``Conv2d`` layer of the model (gains and shifts of norms, embeddings, weights computed from
    others) takes a step of Adam with the rate ``others`` · t.

    When to use it: for wide or deep networks of such layers on batches of a hundred rows or more, where a step of Adam leaves
    much to be done. A step costs two products of square matrices for each layer beside the gradient, whatever the batch, and
    its state is 2 (n² + m²) + m n numbers for a matrix (m, n), and 2 for each other parameter.

    In a loop of your own the loss must be the mean of −log p over all predictions, and the model is called as usual (the
    example). Weights of rows enter the gradient alone. Factors are learned by one extra backward pass at the steps that are
    due, which leaves gradients, random numbers and buffers as they are.

    Args:
        params: parameters or groups of them; a group's rate is its own.
        model: whose layers these are the weights of; it returns its outputs z as one tensor.
        likelihood: p(y | z): "categorical" for cross-entropy, "bernoulli" for binary cross-entropy on logits, "normal" for
            the mean squared error, or a :class:`descend.losses.likelihoods.Likelihood`. A recipe takes that of its loss.
        seed: of the targets that are drawn, which are a function of it and of the step. A recipe gives the run's. Default 0.
        products: the library that multiplies large matrices. Default None: the faster one here.
        lr: t. Default 0.003, for early stopping on few rows; 0.01 to 0.1 where training is all that counts.
        momentum: μ. Default 0.9.
        damping: λ, added to the curvature. Larger is more cautious, and nearer to plain gradients; less than 1e-2 asks for
            large batches and fresh inverses. Default 0.1.
        decay: what the average of factors keeps at an estimate, once there are enough. Default 0.95.
        kl_clip: κ. Infinity takes steps as they are. Default 1e-3.
        factors_every: steps between estimates; at first also at 1, 2, 4, 8, …. Default 10.
        inverses_every: steps between inversions; at first likewise. Default 100.
        others: the rate of Adam for other parameters, in units of t. Default 0.3.

    Raises:
        UserError: a setting outside its domain; no likelihood; none of the parameters belongs to a layer; when stepping, a sparse
            gradient, or gradients without a forward pass of the model.

    >>> model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))
    >>> optimizer = kfac(model.parameters(), model, "normal", lr=0.1, damping=1e-3)
    >>> x = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0)) / 8
    >>> y = (6 * x[:, :1]).sin() + x[:, 1:]
    >>> for _ in range(100):
    ...     loss = nn.functional.mse_loss(model(x), y)
    ...     optimizer.zero_grad(); loss.backward(); optimizer.step()
    >>> bool(loss < 0.03 * y.var())
    True
    """
    return build(
        KFAC,
        params,
        {
            "model": model,
            "likelihood": likelihood,
            "seed": seed,
            "products": products,
            "lr": lr,
            "momentum": momentum,
            "damping": damping,
            "decay": decay,
            "kl_clip": kl_clip,
            "factors_every": factors_every,
            "inverses_every": inverses_every,
            "others": others,
        },
    )
