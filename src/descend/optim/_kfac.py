"""K-FAC: natural gradient descent with a Kronecker-factored approximation of the Fisher matrix of each layer.

The natural gradient F⁻¹ g is the direction of steepest descent if distance is measured by the change of the predictions, so
it is invariant to scaling, shifting and linear mixing of the inputs. F has as many rows as there are weights. K-FAC
approximates its block of a weight matrix V (m, n) by A ⊗ G, with the second moments

    A = E [Σ a aᵀ] (n, n),    G = E [mean s sᵀ] (m, m)

of the layer's inputs a and of its output gradients s, a sum and a mean over the vectors that belong to one prediction (Martens
and Grosse 2015; for weights that are shared within a row, Grosse and Martens 2016, where the gradients at different places are
assumed to be uncorrelated). The inverse of A ⊗ G is the product of two small inverses. The gradients s are those of −log p of
targets sampled from the model's own distribution (:mod:`descend.losses.likelihoods`). With the targets of the data, the matrix
would be the empirical Fisher matrix, which vanishes as the fit improves.

The functions below are the method; :class:`KFAC` applies them to stacks of layers of equal shape
(:mod:`descend.optim.factors`), whose moments are recorded in forward passes (:mod:`descend.optim.moments`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from descend.cards import method
from descend.errors import UserError
from descend.linalg import inverse_root
from descend.linalg.products import Library, Product, best_library, is_large, product
from descend.linalg.vectors import bounded
from descend.losses.likelihoods import LIKELIHOODS, Likelihood
from descend.optim.base import CheckedOptimizer, Params
from descend.optim.factors import FactorStack, stacks_of
from descend.optim.layers import Layer, layers_of
from descend.optim.moments import MomentRecorder, Moments
from descend.optim.vector_step import restore_dtypes
from descend.param_types import Count, Fraction, NonNegative, Positive

__all__ = ["KFAC", "kfac"]


def update_moments(stack: FactorStack, recorded: Mapping[Layer, Moments], decay: float) -> None:
    """Running averages of the factors: A ← (1 − w) A + w Σ a aᵀ / predictions, and G likewise with Σ s sᵀ / vectors.

    The k-th estimate has the weight w = 1 − min(1 − 1/k, decay): the first is taken as it is, the next ones are averaged
    uniformly, and later the average decays exponentially. So it is a weighted mean of estimates, without an initial bias.
    """
    by_weight: dict[float, list[Layer]] = {}
    for layer in stack.layers:
        if layer in recorded:
            by_weight.setdefault(1.0 - min(1.0 - 1.0 / stack.count(layer), decay), []).append(layer)
    for weight, layers in by_weight.items():
        for place, part in stack.parts(layers):
            stack.input_moment[place].mul_(1.0 - weight)
            stack.gradient_moment[place].mul_(1.0 - weight)
            for layer in part:
                moments, (a, g) = recorded[layer], stack.moments(layer)
                # In place: temporaries of large factors would multiply the time.
                a.add_(moments.inputs, alpha=weight / moments.predictions)
                g.add_(moments.gradients, alpha=weight / moments.vectors)


def damped_inverses(a: Tensor, g: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """(A + π√λ I)⁻¹ and (G + √λ/π I)⁻¹, (k, n, n) and (k, m, m), with π² = (tr A/n)/(tr G/m). Synchronizes with the device."""
    mean_a, mean_g = (each.diagonal(dim1=-2, dim2=-1).mean(-1) for each in (a, g))
    # π is undefined for a layer without inputs or output gradients, such as one below weights that start at zero.
    ratio = mean_a / mean_g
    root = torch.where(torch.isinf(ratio), mean_a.sqrt() / mean_g.sqrt(), ratio.sqrt())
    pi = torch.where((mean_a > 0) & (mean_g > 0), root, 1.0)
    return inverse_root(a, 1, pi * damping**0.5), inverse_root(g, 1, damping**0.5 / pi)


def precondition(gradient: Tensor, a_inverse: Tensor, g_inverse: Tensor, large: Product | None) -> Tensor:
    """G⁻¹ D A⁻¹ for gradients D (k, m, n); ``large`` multiplies large matrices, x, w → x wᵀ."""
    if large is None or not is_large(gradient[0], a_inverse[0]):
        direction: Tensor = g_inverse @ (gradient @ a_inverse)
        return direction
    # x wᵀ is x w, since the inverses are symmetric.
    rows = [
        large(left, large(right, d, None), None)
        for left, d, right in zip(g_inverse, gradient, a_inverse, strict=True)
    ]
    return rows[0].unsqueeze(0) if len(rows) == 1 else torch.stack(rows)


def squared_change(gradient: Tensor, direction: Tensor, lrs: Sequence[float]) -> Tensor:
    """Σ t² d·D over matrices (k, m, n), (): the squared change of the predictions by steps of lengths t along d."""
    squares = [lr * lr for lr in lrs]
    if all(each == squares[0] for each in squares):
        return torch.dot(gradient.flatten(), direction.flatten()) * squares[0]
    products = torch.linalg.vecdot(gradient.flatten(1), direction.flatten(1))
    return torch.dot(products, products.new_tensor(squares))


def trust_scale(kl_clip: float | None, change: Tensor) -> Tensor:
    """ν = min(1, √(κ / Σ t² d·D)), (); 1 without κ."""
    return torch.ones_like(change) if kl_clip is None else (kl_clip / change).sqrt().clamp_max(1.0)


@method(
    row="D10",
    reference="Martens and Grosse 2015; convolutions: Grosse and Martens 2016; trust in the step: Ba et al. 2017",
    formula="V <- V - t (G + sqrt(l)/pi I)^-1 D (A + pi sqrt(l) I)^-1 with momentum, D = dF/dV, A = E a a^T, G = E s s^T",
    note="The output gradients s are those of targets sampled from the model's own distribution, so the loss must be a "
    "negative log-likelihood: mse, bce, cross_entropy, kl. Weights of norms and embeddings take Adam's step.",
)
@final
class KFAC(CheckedOptimizer):
    """K-FAC: gradients multiplied by the inverse of a Fisher matrix that is a Kronecker product for each layer.

    With a the inputs of a layer (with an appended 1 for the bias), s the gradients of −log p(y | z) with respect to its outputs
    for targets y sampled from the model, and D the gradient of its weights V (m, n), a step is

        V ← V − t v,    v ← μ v + ν (G + √λ/π I)⁻¹ D (A + π√λ I)⁻¹,    A = E Σ a aᵀ,    G = E mean s sᵀ,

    where π² = (tr A/n)/(tr G/m) splits the damping λ evenly, and ν = min(1, √(κ / Σ t² d·D)), over the directions d of all
    layers, limits the change of the predictions by a step to κ: t² dᵀ F d is, to second order, twice the Kullback-Leibler
    divergence from the previous predictions. A and G are running averages that start at the first estimate. Convolutions
    have one matrix for each group, with patches as inputs; for a layer that is called several times, or at several places of a
    row, A sums over the calls.

    Parameters that belong to no ``Linear`` or ``Conv2d`` layer of the model (weights and biases of norms, embeddings, weights
    computed from others) take a step of Adam with learning rate ``adam_lr_scale`` · t.

    When to use it: for wide or deep networks of such layers on batches of a hundred rows or more, if Adam needs many steps. In
    addition to the gradient, a step costs two products with square matrices for each layer, whatever the batch size. The state
    is 2 (n² + m²) + m n numbers for a matrix (m, n), and 2 for each other parameter.

    In a training loop of your own, use ``loss.backward()`` and ``step()``, or ``step(closure)``. The loss must be the mean of
    −log p over all predictions, and the model must be called itself (see the example). Sample weights affect the gradient only.
    The factors are estimated by one extra backward pass in the steps that update them, which leaves gradients, random state
    and buffers unchanged. The model is hooked only in the forward passes of these steps; passes in evaluation mode or with
    gradients disabled are ignored. The model must be on its device before the optimizer is constructed.

    The state of a layer's weight holds its factors, inverses and momentum (:class:`descend.optim.factors.FactorStack`), the
    state of other parameters Adam's ``average``, ``square`` and ``step``; the state of the first parameter holds ``steps``.
    Settings other than the learning rate apply to the step as a whole, and those of the first parameter group are used.

    Args:
        params: parameters or groups; each group may have its own learning rate.
        model: module whose layers the parameters belong to; it returns its outputs z as one tensor.
        likelihood: p(y | z): "categorical" for cross-entropy, "bernoulli" for binary cross-entropy on logits, "normal" for
            the mean squared error, or a :class:`descend.losses.likelihoods.Likelihood`. A recipe uses that of its loss.
        lr: t. Default 0.003, for early stopping on few rows; 0.01 to 0.1 if only the training loss matters.
        momentum: μ. Default 0.9.
        damping: λ, added to the curvature. Larger values are more cautious and closer to plain gradient descent; values below
            1e-2 require large batches and recent inverses. Default 0.1.
        factor_decay: decay of the running averages of the factors. Default 0.95.
        kl_clip: κ; None disables the scaling. Default 1e-3.
        factor_update_steps: number of steps between two estimates of the factors; at first also at 1, 2, 4, 8, …. Default 10.
        inv_update_steps: number of steps between two inversions; at first as for the factors. Default 100.
        adam_lr_scale: learning rate of Adam for other parameters, relative to t. Default 0.3.
        seed: seed of the sampled targets, which are a function of it and of the step. A recipe uses the run's. Default 0.
        products: library that multiplies large matrices. Default None: the faster one on this machine.

    Raises:
        UserError: a setting is outside its domain; there is no likelihood; none of the parameters belongs to a layer; in a
            step, a gradient is sparse, or there are gradients but no forward pass of the model was recorded.

    >>> model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))
    >>> optimizer = KFAC(model.parameters(), model, "normal", lr=0.1, damping=1e-3)
    >>> x = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0)) / 8
    >>> y = (6 * x[:, :1]).sin() + x[:, 1:]
    >>> for _ in range(100):
    ...     loss = nn.functional.mse_loss(model(x), y)
    ...     optimizer.zero_grad(); loss.backward(); optimizer.step()
    >>> bool(loss < 0.03 * y.var())
    True
    """

    supports_complex = False

    def __init__(
        self,
        params: Params,
        model: nn.Module,
        likelihood: str | Likelihood | None,
        lr: Positive = 3e-3,
        *,
        momentum: Fraction = 0.9,
        damping: Positive = 0.1,
        factor_decay: Fraction = 0.95,
        kl_clip: Positive | None = 1e-3,
        factor_update_steps: Count = 10,
        inv_update_steps: Count = 100,
        adam_lr_scale: NonNegative = 0.3,
        seed: int = 0,
        products: Library | None = None,
    ) -> None:
        self._recorder: MomentRecorder | None = None
        super().__init__(params, locals(), exclude=("model", "likelihood", "seed", "products"))
        if products is None:
            products = best_library(self.all_parameters[0].device.type)[0]
        self._context: dict[str, Any] = {
            "model": model, "likelihood": _likelihood(likelihood), "seed": seed, "products": products
        }  # fmt: skip
        self._start_recording()
        if not self._layers:
            raise UserError(
                "kfac: none of the parameters is the weight of a Linear or Conv2d layer of the model, and only these have "
                "Kronecker factors; shampoo and adam work with any parameters"
            )

    @property
    def all_parameters(self) -> list[Tensor]:
        """All parameters, in order."""
        return [p for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Args:
            closure: evaluated once, if given; then only forward passes within it are recorded. Its loss is returned.

        Raises:
            UserError: a gradient is sparse, or there are gradients but no forward pass in training mode was recorded.
        """
        recorder, settings = self._active(), self.param_groups[0]
        loss, discard = None, False
        if closure is not None:
            recorder.clear()
            loss, discard = self.evaluate(closure)
        gradients = [p.grad for p in self.all_parameters if p.grad is not None]
        if not gradients:
            return loss
        if any(gradient.is_sparse for gradient in gradients):
            raise UserError(
                "kfac moves every coordinate and does not support sparse gradients; use sparse_adam instead"
            )
        if not recorder.recorded and not any(map(self._estimated, self._layers)):
            raise UserError(
                "kfac estimates its factors in forward passes of its model in training mode, and none was recorded: call the "
                "model that was passed to kfac, after model.train() and with gradients enabled"
            )
        moments = recorder.take()
        new = any(not self._estimated(layer) for layer in moments)
        for stack in self._stacks:
            update_moments(stack, moments, settings["factor_decay"])
        if new or _is_update_step(recorder.step, settings["inv_update_steps"]):
            for stack in self._stacks:
                inverses = damped_inverses(stack.input_moment, stack.gradient_moment, settings["damping"])
                stack.input_inverse.copy_(inverses[0])
                stack.gradient_inverse.copy_(inverses[1])
        moving = [layer for layer in self._layers if layer.weight.grad is not None and self._estimated(layer)]
        self._update_momentum(moving)
        self._move({id(p) for layer in moving for p in layer.parameters})
        self._prepare(recorder.step + 1)
        if discard:
            self.zero_grad()
        return loss

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group; layers among its parameters get factors."""
        super().add_param_group(param_group)
        if self._recorder is not None:
            self._arrange()

    def state_dict(self) -> dict[str, Any]:
        """Return the state with contiguous copies: the tensors in use are views of stacks, which cannot be saved to files."""
        result = super().state_dict()
        result["state"] = {
            key: {
                name: each.clone(memory_format=torch.contiguous_format) if isinstance(each, Tensor) else each
                for name, each in own.items()
            }
            for key, own in result["state"].items()
        }
        return result

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy needs: the state, and the model, which is copied together with its parameters."""
        return {**super().__getstate__(), "_context": self._context}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a state; a copy observes its own model. Forward passes since the last step are not copied."""
        super().__setstate__(state)
        if "_context" in state:
            self._start_recording()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a state with the dtypes that it was saved with, where PyTorch would cast factors to the weights' dtype."""
        state = {
            key: {_OLD_NAMES.get(name, name): value for name, value in own.items()}
            for key, own in state_dict["state"].items()
        }
        state_dict = {**state_dict, "state": state}
        super().load_state_dict(state_dict)
        restore_dtypes(self, state_dict)
        self._arrange()

    def _start_recording(self) -> None:
        context = self._context
        self._large = product(context["products"])
        self._recorder = MomentRecorder(
            context["model"], context["likelihood"], seed=context["seed"], large=self._large
        )
        self._arrange()

    def _active(self) -> MomentRecorder:
        assert self._recorder is not None
        return self._recorder

    def _arrange(self) -> None:
        """Find the layers, and move existing state into stacks."""
        recorder, parameters = self._active(), self.all_parameters
        self._layers: list[Layer] = layers_of(recorder.model, parameters)
        self._stacks: list[FactorStack] = stacks_of(self._layers, self.state)
        self._stack_of = {layer: stack for stack in self._stacks for layer in stack.layers}
        recorder.clear()
        self._prepare(self.state[parameters[0]].get("steps", 0))

    def _estimated(self, layer: Layer) -> bool:
        return self._stack_of[layer].estimates(layer) > 0

    def _prepare(self, step: int) -> None:
        """Set the number of the next step, and the layers to record in its forward passes."""
        recorder, settings = self._active(), self.param_groups[0]
        self.state[self.all_parameters[0]]["steps"] = recorder.step = step
        unknown = [layer for layer in self._layers if not self._estimated(layer)]
        recorder.record(self._layers if _is_update_step(step, settings["factor_update_steps"]) else unknown)

    def _update_momentum(self, moving: list[Layer]) -> None:
        """V ← μ v + ν d for layers with gradients, with one ν for all of them."""
        settings, chosen = self.param_groups[0], set(moving)
        lrs: dict[int, float] = {}
        for group in self.param_groups:
            lrs |= dict.fromkeys(map(id, group["params"]), float(group["lr"]))
        directions: list[tuple[Tensor, Tensor]] = []
        changes: list[Tensor] = []
        for stack in self._stacks:
            layers = [layer for layer in stack.layers if layer in chosen]
            if not layers:
                continue
            stack_changes = []
            for place, part in stack.parts(layers):
                gradient = bounded(stack.gather(place, part))  # d·D must not overflow
                inverses = stack.input_inverse[place], stack.gradient_inverse[place]
                direction = precondition(gradient, *inverses, self._large)
                by_matrix = [lrs[id(layer.weight)] for layer in part for _ in range(layer.groups)]
                stack_changes.append(squared_change(gradient, direction, by_matrix))
                directions.append((stack.momentum[place], direction))
            changes.append(torch.stack(stack_changes).sum())
        if not changes:
            return
        # The layers of a model may be on several devices.
        change = torch.stack([each.to(changes[0].device) for each in changes]).sum()
        scale = trust_scale(settings["kl_clip"], change)
        for momentum, direction in directions:
            momentum.mul_(settings["momentum"]).addcmul_(direction, scale)

    def _move(self, in_layers: set[int]) -> None:
        """Move the weights of layers along their momenta, and other parameters with gradients by Adam."""
        scale = self.param_groups[0]["adam_lr_scale"]
        for group in self.param_groups:
            lr, moving = float(group["lr"]), [p for p in group["params"] if p.grad is not None]
            layers = [p for p in moving if id(p) in in_layers]
            others = [p for p in moving if id(p) not in in_layers]
            if layers:
                torch._foreach_add_(layers, [self.state[p]["momentum"] for p in layers], alpha=-lr)
            if others:
                self._adam_step(others, lr * scale)

    def _adam_step(self, parameters: list[Tensor], lr: float) -> None:
        """Take a step of Adam with PyTorch's default settings."""
        # On the CPU the fused kernel takes a tenth of the time for the many small parameters of norms.
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
            lr=lr,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )


kfac = KFAC

_OLD_NAMES = {
    "inputs": "input_moment",
    "slopes": "gradient_moment",
    "inputs_inverse": "input_inverse",
    "slopes_inverse": "gradient_inverse",
}
"""Names of state entries in older checkpoints, and their present names."""


def _is_update_step(step: int, interval: int) -> bool:
    """Whether a step updates the factors or inverses: every ``interval`` steps, and at first at 0, 1, 2, 4, 8, …."""
    return step % interval == 0 or (step < interval and step & (step - 1) == 0)


def _likelihood(likelihood: str | Likelihood | None) -> Likelihood:
    if isinstance(likelihood, Likelihood):
        return likelihood
    known = LIKELIHOODS.get(likelihood) if likelihood is not None else None
    if known is None:
        finding = "the loss is not a negative log-likelihood" if likelihood is None else f"got '{likelihood}'"
        raise UserError(
            f"kfac: needs a likelihood to sample targets from, one of {', '.join(LIKELIHOODS)}: {finding}; "
            "shampoo and adam work with any loss"
        )
    return known
