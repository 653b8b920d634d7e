"""Stochastic compositional optimization: a function of an expectation that can only be sampled.

The problem is

    min F(x) = f(g(x)),   g(x) = E_w g_w(x),

where a step has access to a sample g_w, not to g. The gradient is ∇g(x) ∇f(g(x)), and ∇g_w(x) ∇f(g_w(x)) is a biased estimate
of it unless f' is constant: plain SGD minimizes E f(g_w(x)), a different function. Both methods here keep a running average y
of the inner values and evaluate f' there.

The objective is written with the optimizer's ``average`` around the inner function:

    optimizer.step(lambda: f(optimizer.average(g(x))))

``average`` returns y, with the derivative of its argument, so that backward() computes ∇g_w(x) ∇f(y). There are no further
requirements for the closure. If it never calls ``average``, the inner function is the identity, which is known without noise,
and the methods are SGD.

There can be one average for each row: ``average(outputs, rows, total)`` keeps a y for each of ``total`` rows and updates those
with the indices ``rows``. An example is the dropout objective

    F(W) = 1/m Σ_i ℓ(y_i, E_SN[SN_W(x_i)]),

whose inner function is the output for row i averaged over sub-networks SN: it is ``loss(optimizer.average(model(x), rows, m),
y)`` with the model in training mode. (Ordinary dropout minimizes 1/m Σ_i E_SN ℓ(y_i, SN_W(x_i)), which by Jensen's inequality
is larger; the two differ if the sub-networks disagree.) In a recipe both methods do this: the outputs are averaged for each row,
over dropout masks and augmentations, with m·K numbers of state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from descend.cards import method
from descend.errors import UserError
from descend.optim.base import CheckedOptimizer, Params
from descend.optim.evaluation import Evaluations
from descend.optim.vector_step import Position, VectorStep, restore_dtypes
from descend.param_types import NonNegative, Portion, Positive

__all__ = ["ASCPG", "SCGD", "asc_pg", "scgd"]


@method(
    row="D15",
    reference="Wang, Fang and Liu 2017",
    formula="y <- (1 - b) y + b g_w(x), x <- x - a grad g_w(x) grad f(y); b_k = beta k^-beta_decay",
    note="It can minimize dropout's ideal objective, the loss of the mean prediction of all sub-networks. In a recipe the inner "
    "function is the network's raw output for each row; without dropout and augmentation there is nothing to average, and "
    "beta = 1 is SGD.",
)
@final
class SCGD(CheckedOptimizer):
    """Stochastic compositional gradient descent: SGD for a function of an expectation, F(x) = f(E g_w(x)).

    With β_k = beta k^(−beta_decay), the k-th inner value updates the running average, y ← (1 − β_k) y + β_k g_w(x), starting
    with y = g_w(x), and x moves along ∇g_w(x) ∇f(y). y lags behind g(x) by about α/β steps and keeps a fraction β of the noise,
    so both must decrease: with α_k ~ k^(−3/4) and β_k ~ k^(−1/2), a convex F converges to its minimum as O(k^(−1/4)), and with
    α_k ~ 1/k and β_k ~ k^(−2/3), a strongly convex one has E‖x_k − x*‖² = O(k^(−2/3)). For networks a constant β is suitable, as
    is a constant momentum.

    The module :mod:`descend.optim.compositional` describes how an inner function is specified. Constraints and proximal steps
    are hooks after the step, such as :func:`descend.regularization.l1_prox`. The state of the first parameter holds ``y``, with
    as many numbers as the inner function has values (times ``total`` with rows), and ``seen``, the number of updates of each.

    Args:
        params: parameters or groups.
        lr: α, the learning rate. Default 0.1.
        beta: weight of a new inner value in the average; with 1 only the latest counts, and the method is SGD. Default 0.5.
        beta_decay: exponent of k by which the weight decreases. Default 0, a constant weight.

    Raises:
        UserError: a setting is outside its domain.

    >>> x = torch.zeros(1, requires_grad=True)
    >>> optimizer = SCGD([x], lr=0.05, beta_decay=0.6)
    >>> rng = torch.Generator().manual_seed(0)
    >>> for _ in range(2000):
    ...     factor = 1 + torch.randn(1, generator=rng)  # with mean 1: g(x) = x, and F has its minimum at 3
    ...     _ = optimizer.step(lambda: (optimizer.average(factor * x) - 3).square().sum())
    ...     optimizer.zero_grad()
    >>> bool(abs(x - 3) < 0.3)  # SGD converges to 3 / (1 + 1)
    True
    """

    lr_is_step_size = True

    def __init__(
        self,
        params: Params,
        lr: Positive = 0.1,
        *,
        beta: Portion = 0.5,
        beta_decay: NonNegative = 0.0,
    ) -> None:
        super().__init__(params, locals())

    def average(self, value: Tensor, rows: Tensor | None = None, total: int | None = None) -> Tensor:
        """Update the running average y with ``value``, and return it with the derivative of ``value``.

        Call it once in a step around the inner function, or, with rows, once for each batch of the step.

        Args:
            value: sample of the inner function, with the same shape each time; with ``rows``, (b, ...).
            rows: indices of its rows, (b,), each below ``total``.
            total: total number of rows.

        Raises:
            UserError: the shape differs from the previous one, or ``rows`` is specified without ``total``.
        """
        memory, group = self.state[self.param_groups[0]["params"][0]], self.param_groups[0]
        weights = _decaying_weights(group["beta"], group["beta_decay"], value.dtype)
        return _with_derivative_of(value, _update_average(memory, value, rows, total, weights))

    def forget(self) -> None:
        """Reset the average, for example for other rows."""
        _reset(self.state[self.param_groups[0]["params"][0]])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; ``closure``, if given, is evaluated once, and its loss is returned.

        Raises:
            UserError: a gradient is sparse.
        """
        loss = None
        if closure is not None:
            parameters = [p for group in self.param_groups for p in group["params"]]
            loss = Evaluations(closure, parameters, "scgd").gradient().loss
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            gradients = [p.grad for p in moving if p.grad is not None]
            if any(gradient.is_sparse for gradient in gradients):
                raise UserError("scgd does not support sparse gradients; use sparse_adam instead")
            if moving:
                torch._foreach_add_(moving, gradients, alpha=-float(group["lr"]))
        return loss

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a state with the dtypes that it was saved with, where PyTorch would cast counts to the parameter's dtype."""
        super().load_state_dict(dict(state_dict))
        restore_dtypes(self, state_dict)


@method(
    row="D15",
    reference="Wang, Liu and Fang 2017",
    formula="x+ = prox(x - a grad g_w(x) grad f(y)), z = (1 - 1/b) x + x+/b, y <- (1 - b) y + b g_w(z)",
    note="The proximal step is [regularize] l1_prox, or a projection of [constrain]: hooks after the step. With mini-batches the "
    "average of a row is updated when the row is in the batch, while the extrapolation is that of the last step; with "
    'sampling = "full" it is the method of the paper.',
)
@final
class ASCPG(VectorStep):
    """Accelerated stochastic compositional proximal gradient method, for F(x) = f(E g_w(x)) + R(x).

    SCGD's average y lags behind as x moves. Here it is updated with inner values at an extrapolated point
    z = x + (1/β − 1)(x − x⁻), for which the lag vanishes if g is affine, and is of second order in the step if g is smooth.
    With α_k ~ 1/k and β_k ~ k^(−4/5), a strongly convex F has E‖x_k − x*‖² = O(k^(−4/5)), where SCGD has O(k^(−2/3)). The cost
    is one additional evaluation of the loss in each step.

    A hook after the step, such as soft thresholding (:func:`descend.regularization.l1_prox`) or a projection, is the proximal
    map of R: x⁺ is the value of the parameters at the start of the next step. k counts steps. The state of the first parameter
    holds ``y`` and ``seen``, as for :class:`SCGD`; ``previous``, the last x (n,); and ``steps``.

    For mini-batches with one average for each row, use a beta of about 0.3 or more: with a smaller one the extrapolation is far,
    along the steps of other rows.

    Args:
        params: parameters or groups.
        lr: α, the learning rate. Default 0.1.
        beta: weight of a new inner value in the average; with 1 the method is proximal SGD. Default 0.5.
        beta_decay: exponent of k by which the weight decreases. Default 0, a constant weight.

    Raises:
        UserError: a setting is outside its domain; ``step`` has no closure.

    >>> x = torch.ones(1, requires_grad=True)
    >>> optimizer = ASCPG([x], lr=0.25, beta=0.25)
    >>> for _ in range(3):
    ...     _ = optimizer.step(lambda: optimizer.average(2 * x).square().sum() / 4)
    >>> x.item()  # without noise and with an affine g it is gradient descent on x², whatever beta is
    0.125
    """

    catalogue_name = "asc_pg"  # it cannot be derived from the name of the class
    lr_is_step_size = True
    _updates_average = False

    def __init__(
        self,
        params: Params,
        lr: Positive = 0.1,
        *,
        beta: Portion = 0.5,
        beta_decay: NonNegative = 0.0,
    ) -> None:
        super().__init__(params, locals())

    def average(self, value: Tensor, rows: Tensor | None = None, total: int | None = None) -> Tensor:
        """Return the running average y with the derivative of ``value``; y is updated at extrapolated points.

        Arguments and errors are those of :meth:`SCGD.average`. Only while ``step`` evaluates its closure is y updated.
        """
        memory, beta = self.memory, self._beta()
        if self._updates_average or "y" not in memory:
            return _with_derivative_of(
                value,
                _update_average(
                    memory, value, rows, total, lambda seen: torch.full_like(seen, beta, dtype=value.dtype)
                ),
            )
        return _with_derivative_of(value, _current_average(memory, value, rows, total))

    def forget(self) -> None:
        """Reset the average, for example for other rows."""
        _reset(self.memory)

    def advance(self, objective: Evaluations, position: Position) -> Any:
        """Evaluate the loss at the extrapolated point to update y, and the gradient at x with this y.

        In the first step, and if the closure has no inner function, the former is omitted.
        """
        memory, start = self.memory, position.start
        previous = memory.get("previous")
        if "y" in memory and previous is not None and len(previous) == len(start):
            # In this form, β = 1 yields x itself, bit for bit.
            position.put(start + (1.0 / self._beta() - 1.0) * (start - previous))
            with self._updating_average():
                objective.value()
            position.back()
            gradient = objective.gradient()
        else:
            with self._updating_average():
                gradient = objective.gradient()
        if "y" in memory:
            memory["previous"] = start
            memory["steps"] = memory.get("steps", 0) + 1
        if not gradient.empty:
            position.move(-self.times_lr(gradient.vector))
        return gradient.loss

    @contextmanager
    def _updating_average(self) -> Iterator[None]:
        """Within this context, :meth:`average` updates y."""
        self._updates_average = True
        try:
            yield
        finally:
            self._updates_average = False

    def _beta(self) -> float:
        """Return β of the current step: 1 in the first one, then β_k for k = 2, 3, …."""
        group = self.param_groups[0]
        steps: int = self.memory.get("steps", 0)
        return float(group["beta"]) * (steps + 1) ** -float(group["beta_decay"]) if steps else 1.0


scgd = SCGD
asc_pg = ASCPG


class _WithDerivativeOf(torch.autograd.Function):
    """The value of one tensor with the derivative of another."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, shown: Tensor) -> Tensor:
        return shown.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def _with_derivative_of(value: Tensor, shown: Tensor) -> Tensor:
    result: Tensor = _WithDerivativeOf.apply(value, shown)
    return result


def _reset(memory: dict[str, Any]) -> None:
    for name in ("y", "seen", "previous", "steps"):
        memory.pop(name, None)


def _decaying_weights(beta: float, decay: float, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Return the function that computes β_k from k − 1, the number of previous values."""

    def weights(seen: Tensor) -> Tensor:
        return beta * (seen + 1).to(dtype) ** -decay

    return weights


def _update_average(
    memory: dict[str, Any],
    value: Tensor,
    rows: Tensor | None,
    total: int | None,
    weights: Callable[[Tensor], Tensor],
) -> Tensor:
    """Y ← (1 − β) y + β value, in place, with β = 1 for the first value; return y for the rows of the value."""
    new = value.detach()
    if "y" not in memory:
        shape = _shape(new, rows, total)
        memory["y"] = new.new_zeros(shape)
        counts = () if rows is None else shape[:1]
        memory["seen"] = torch.zeros(counts, dtype=torch.int64, device=new.device)
    before = _current_average(memory, value, rows, total)
    seen = memory["seen"] if rows is None else memory["seen"][rows]
    # The weights are computed in the dtype of the values; for an integer plus 1.0, PyTorch would use single precision.
    weight = torch.where(seen == 0, torch.ones_like(seen, dtype=new.dtype), weights(seen))
    after = torch.lerp(before, new, weight.reshape(weight.shape + (1,) * (new.dim() - weight.dim())))
    if rows is None:
        memory["y"].copy_(after)
        memory["seen"].add_(1)
        return after
    # A row that occurs twice keeps its last value. All its occurrences write that value, so their order does not matter.
    order = torch.argsort(rows, stable=True)
    ordered = rows[order]
    last = order[torch.searchsorted(ordered, ordered, right=True) - 1]
    memory["y"].index_copy_(0, ordered, after[last])
    memory["seen"].index_copy_(0, ordered, seen[last] + 1)
    return after


def _current_average(
    memory: Mapping[str, Any], value: Tensor, rows: Tensor | None, total: int | None
) -> Tensor:
    """Return y for the rows of a value.

    Raises:
        UserError: the shapes differ.
    """
    y: Tensor = memory["y"]
    expected = memory["seen"].dim() == 0, tuple(y.shape)
    if expected != (rows is None, _shape(value, rows, total)):
        raise UserError(
            f"average: inner values of shape {tuple(value.shape)}{'' if rows is None else f' with rows of {total}'} do not fit "
            f"the average of shape {tuple(y.shape)}; pass the same shape, and always or never rows, in each step"
        )
    return y if rows is None else y[rows]


def _shape(value: Tensor, rows: Tensor | None, total: int | None) -> tuple[int, ...]:
    """Return the shape of the average."""
    if rows is None:
        return tuple(value.shape)
    if total is None:
        raise UserError("average: rows need their total number: average(value, rows, total)")
    if len(rows) != len(value):
        raise UserError(
            f"average: expected one index for each row, got {len(value)} rows and {len(rows)} indices"
        )
    return (total, *value.shape[1:])
