"""Compositional objectives: a loss of an average that can only be sampled.

The problem is

    min F(x) = f(g(x)),   g(x) = E_w g_w(x),

where a step sees one sample g_w and not g. The gradient is ∇g(x) ∇f(g(x)), and ∇g_w(x) ∇f(g_w(x)) is no unbiased estimate
of it unless f' is constant: plain SGD minimises E f(g_w(x)), another function. Both methods here keep a running average y
of the inner values and take f' there.

An objective is written as it stands, with the optimizer's ``average`` around the inner function:

    optimizer.step(lambda: f(optimizer.average(g(x))))

``average`` returns y; its derivative is that of the value it was given, so that backward() finds ∇g_w(x) ∇f(y) by itself. Nothing
else is asked of the closure. Where it never calls ``average`` the inner function is the identity, which is known without
noise, and the methods are SGD.

The average may also be one of many, by rows: ``average(outputs, rows, total)`` keeps a y for each of ``total`` rows and takes in
those numbered ``rows``. So the lecture's objective of dropout,

    F(W) = 1/m Σ_i ℓ(y_i, E_SN[SN_W(x_i)]),

whose inner function is the output for row i averaged over sub-networks SN, is ``loss(optimizer.average(model(x), rows, m),
y)`` with the model in training mode. (Dropout as it is used minimises the larger 1/m Σ_i E_SN ℓ(y_i, SN_W(x_i)); by
Jensen's inequality the two differ where sub-networks disagree.) From a recipe this is what both methods do: outputs are
averaged for each row, over masks and augmentations, in m·K numbers of state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.optim import Optimizer

from descend.cards import method
from descend.errors import UserError
from descend.optim.base import Params
from descend.optim.building import build
from descend.optim.evaluation import Evaluations
from descend.optim.vector_step import Position, VectorStep, restore_dtypes
from descend.param_types import NonNegative, Portion, Positive

__all__ = ["ASCPG", "SCGD", "asc_pg", "scgd"]


@final
class SCGD(Optimizer):
    """y⁺ = (1 − β) y + β g_w(x), x⁺ = x − α ∇g_w(x) ∇f(y⁺); see :func:`scgd`.

    The state of the first parameter holds ``y``, as many numbers as the inner function has values (times ``total`` with
    rows), and ``seen``, how often each was taken in.
    """

    def __init__(self, params: Params, lr: float, beta: float, beta_decay: float) -> None:
        super().__init__(params, _checked(lr, beta, beta_decay))

    def average(self, value: Tensor, rows: Tensor | None = None, total: int | None = None) -> Tensor:
        """The running average y after taking in ``value``; its derivative is that of ``value``.

        Call it once a step around the inner function, or, with rows, once for each of a step's batches.

        Args:
            value: the inner function's sample, of the same shape each time; with ``rows``, (b, ...).
            rows: the numbers of the rows that it holds, (b,), each below ``total``.
            total: how many rows there are in all.

        Raises:
            UserError: the shape is another one than before, or ``rows`` come without their total.
        """
        memory, group = self.state[self.param_groups[0]["params"][0]], self.param_groups[0]
        taken_in = _taken_in(
            memory, value, rows, total, _shares(group["beta"], group["beta_decay"], value.dtype)
        )
        return _in_place_of(value, taken_in)

    def forget(self) -> None:
        """Begin the average anew, as for other rows."""
        _forget(self.state[self.param_groups[0]["params"][0]])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; ``closure``, if given, is evaluated once, and its loss returned.

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
                raise UserError("scgd does not take sparse gradients; use sparse_adam")
            if moving:
                torch._foreach_add_(moving, gradients, alpha=-float(group["lr"]))
        return loss

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a state as it was saved; counts stay whole numbers."""
        super().load_state_dict(dict(state_dict))
        restore_dtypes(self, state_dict)


@final
class ASCPG(VectorStep):
    """SCGD whose average is fed with values at extrapolated points, and that leaves room for a proximal step; see :func:`asc_pg`.

    The state of the first parameter holds ``y`` and ``seen`` as of :class:`SCGD`, ``previous``, the last x (n,), and ``steps``.
    """

    catalogue_name = "asc_pg"  # its capitals do not tell its words

    def __init__(self, params: Params, lr: float, beta: float, beta_decay: float) -> None:
        super().__init__(params, _checked(lr, beta, beta_decay))
        self._takes_in = False

    def average(self, value: Tensor, rows: Tensor | None = None, total: int | None = None) -> Tensor:
        """The running average y, whose derivative is that of ``value``; what it takes in are values at extrapolated points.

        Arguments and errors are those of :meth:`SCGD.average`. Only while ``step`` evaluates its closure is anything taken in.
        """
        memory, share = self.memory, self._share()
        if self._takes_in or "y" not in memory:
            return _in_place_of(
                value,
                _taken_in(
                    memory, value, rows, total, lambda seen: torch.full_like(seen, share, dtype=value.dtype)
                ),
            )
        return _in_place_of(value, _looked_up(memory, value, rows, total))

    def forget(self) -> None:
        """Begin the average anew, as for other rows."""
        _forget(self.memory)

    def advance(self, asked: Evaluations, position: Position) -> Any:
        """One evaluation of the loss at the extrapolated point for y, and of the gradient at x with it.

        In the first step, and where the closure has no inner function, the former is left out.
        """
        memory, start = self.memory, position.start
        previous = memory.get("previous")
        if "y" in memory and previous is not None and len(previous) == len(start):
            # Written so that β = 1 gives x itself, to the bit.
            position.put(start + (1.0 / self._share() - 1.0) * (start - previous))
            with self._taking_in():
                asked.value()
            position.back()
            gradient = asked.gradient()
        else:
            with self._taking_in():
                gradient = asked.gradient()
        if "y" in memory:
            memory["previous"] = start
            memory["steps"] = memory.get("steps", 0) + 1
        if not gradient.empty:
            position.move(-self.times_lr(gradient.vector))
        return gradient.loss

    @contextmanager
    def _taking_in(self) -> Iterator[None]:
        """Within, :meth:`average` takes in what it is given."""
        self._takes_in = True
        try:
            yield
        finally:
            self._takes_in = False

    def _share(self) -> float:
        """β of this step: 1 of the first, after it that of k = 2, 3, …."""
        group = self.param_groups[0]
        taken: int = self.memory.get("steps", 0)
        return float(group["beta"]) * (taken + 1) ** -float(group["beta_decay"]) if taken else 1.0


class _InPlaceOf(torch.autograd.Function):
    """One tensor's value with another one's derivative."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, shown: Tensor) -> Tensor:
        return shown.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        return slope, None


def _in_place_of(value: Tensor, shown: Tensor) -> Tensor:
    found: Tensor = _InPlaceOf.apply(value, shown)
    return found


def _forget(memory: dict[str, Any]) -> None:
    for name in ("y", "seen", "previous", "steps"):
        memory.pop(name, None)


def _shares(beta: float, decay: float, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """β of the k-th value by how many came before it; the first is taken whole."""

    def shares(seen: Tensor) -> Tensor:
        return beta * (seen + 1).to(dtype) ** -decay

    return shares


def _taken_in(
    memory: dict[str, Any],
    value: Tensor,
    rows: Tensor | None,
    total: int | None,
    share: Callable[[Tensor], Tensor],
) -> Tensor:
    """Take a value into the average, in place, and give the average where the value belongs."""
    new = value.detach()
    if "y" not in memory:
        shape = _shape(new, rows, total)
        memory["y"] = new.new_zeros(shape)
        counts = () if rows is None else shape[:1]
        memory["seen"] = torch.zeros(counts, dtype=torch.int64, device=new.device)
    before = _looked_up(memory, value, rows, total)
    seen = memory["seen"] if rows is None else memory["seen"][rows]
    # Shares are computed in the values' precision: PyTorch would take single precision for a count plus 1.0.
    weight = torch.where(seen == 0, torch.ones_like(seen, dtype=new.dtype), share(seen))
    after = torch.lerp(before, new, weight.reshape(weight.shape + (1,) * (new.dim() - weight.dim())))
    if rows is None:
        memory["y"].copy_(after)
        memory["seen"].add_(1)
        return after
    # A row that was drawn twice keeps its last value. All its places write that one, so that their order does not matter.
    order = torch.argsort(rows, stable=True)
    ordered = rows[order]
    last = order[torch.searchsorted(ordered, ordered, right=True) - 1]
    memory["y"].index_copy_(0, ordered, after[last])
    memory["seen"].index_copy_(0, ordered, seen[last] + 1)
    return after


def _looked_up(memory: Mapping[str, Any], value: Tensor, rows: Tensor | None, total: int | None) -> Tensor:
    """The average where a value belongs.

    Raises:
        UserError: it belongs nowhere.
    """
    y: Tensor = memory["y"]
    known = memory["seen"].dim() == 0, tuple(y.shape)
    if known != (rows is None, _shape(value, rows, total)):
        raise UserError(
            f"average: inner values of shape {tuple(value.shape)}{'' if rows is None else f', rows of {total},'} do not fit the "
            f"average of shape {tuple(y.shape)} that began with others; give the same shape, and rows or none, at each step"
        )
    return y if rows is None else y[rows]


def _shape(value: Tensor, rows: Tensor | None, total: int | None) -> tuple[int, ...]:
    """Of the average."""
    if rows is None:
        return tuple(value.shape)
    if total is None:
        raise UserError("average: rows are numbered among a total; give average(value, rows, total)")
    if len(rows) != len(value):
        raise UserError(
            f"average: a number for each row is needed; found {len(value)} rows, {len(rows)} numbers"
        )
    return (total, *value.shape[1:])


def _checked(lr: float, beta: float, beta_decay: float) -> dict[str, Any]:
    if not lr >= 0:
        raise ValueError(f"lr must be 0 or more; found {lr}")
    if not 0 < beta <= 1:
        raise ValueError(f"beta must be above 0 and at most 1; found {beta}")
    if not beta_decay >= 0:
        raise ValueError(f"beta_decay must be 0 or more; found {beta_decay}")
    return {"lr": lr, "beta": beta, "beta_decay": beta_decay}


@method(
    row="D15",
    reference="Wang, Fang and Liu 2017",
    formula="y <- (1 - b) y + b g_w(x), x <- x - a grad g_w(x) grad f(y); b_k = beta k^-beta_decay",
    note="The lecture names it for dropout's objective, the loss of the mean prediction of all sub-networks. From a recipe "
    "the inner function is the network's raw output for each row; without dropout and augmentation there is nothing to "
    "average, and beta = 1 is SGD.",
)
def scgd(
    params: Params, *, lr: Positive = 0.1, beta: Portion = 0.5, beta_decay: NonNegative = 0.0
) -> Optimizer:
    """Stochastic compositional gradient descent: SGD for a loss of an average, F(x) = f(E g_w(x)).

    With β_k = beta k^(−beta_decay) the k-th inner value is taken into the running average y (the first one whole), and x
    moves along ∇g_w(x) ∇f(y). y lags behind g(x) by about α/β steps and is left with a share β of the noise, so that both
    must fall: with α_k ~ k^(−3/4), β_k ~ k^(−1/2) a convex F comes within O(k^(−1/4)) of its minimum, and with α_k ~ 1/k,
    β_k ~ k^(−2/3) a strongly convex one has E‖x_k − x*‖² = O(k^(−2/3)). For networks a constant β serves as a constant
    momentum does.

    How an inner function is given: :mod:`descend.optim.compositional`. Constraints and proximal steps are hooks after the step,
    as :func:`descend.regularization.l1_prox`. Memory: the numbers of y and a count, with rows for each row.

    Args:
        params: parameters or groups.
        lr: α, the rate. Default 0.1.
        beta: the share of a new inner value in the average; 1 keeps the newest alone, and the method is SGD. Default 0.5.
        beta_decay: the power of k by which the share falls. Default 0, a constant share.

    Raises:
        UserError: a setting outside its domain.

    >>> x = torch.zeros(1, requires_grad=True)
    >>> optimizer = scgd([x], lr=0.05, beta_decay=0.6)
    >>> draw = torch.Generator().manual_seed(0)
    >>> for _ in range(2000):
    ...     factor = 1 + torch.randn(1, generator=draw)  # of mean 1: g(x) = x, and F is least at 3
    ...     _ = optimizer.step(lambda: (optimizer.average(factor * x) - 3).square().sum())
    ...     optimizer.zero_grad()
    >>> bool(abs(x - 3) < 0.3)  # SGD would go to 3 / (1 + 1)
    True
    """
    return build(SCGD, params, {"lr": lr, "beta": beta, "beta_decay": beta_decay})


@method(
    row="D15",
    reference="Wang, Liu and Fang 2017",
    formula="x+ = prox(x - a grad g_w(x) grad f(y)), z = (1 - 1/b) x + x+/b, y <- (1 - b) y + b g_w(z)",
    note="The proximal step is [regularize] l1_prox, or a projection of [constrain]: what stands after the step. With "
    "batches a row's average is fed when the row is seen, while the extrapolation is that of the last step; with "
    'sampling = "full" it is the paper\'s method.',
)
def asc_pg(
    params: Params, *, lr: Positive = 0.1, beta: Portion = 0.5, beta_decay: NonNegative = 0.0
) -> Optimizer:
    """Accelerated stochastic compositional proximal gradient, for F(x) = f(E g_w(x)) + R(x).

    SCGD's average y lags behind as x moves. Here it is fed with inner values at a point beyond x, z = x + (1/β − 1)(x −
    x⁻), chosen so that for an affine g the lag is none and for a smooth one of second order in the step. With α_k ~ 1/k,
    β_k ~ k^(−4/5) a strongly convex F has E‖x_k − x*‖² = O(k^(−4/5)), where SCGD has O(k^(−2/3)). The price is one more
    evaluation of the loss a step.

    What follows the step as a hook, a soft threshold (:func:`descend.regularization.l1_prox`) or a projection, is its
    proximal map of R: x⁺ is where the next step finds the parameters. k counts steps. Memory: the numbers of y, a count,
    and one per parameter.

    On batches with rows keep beta at about 0.3 or more: a small one extrapolates far, along the steps of other rows.

    Args:
        params: parameters or groups.
        lr: α, the rate. Default 0.1.
        beta: the share of a new inner value in the average; with 1 the method is proximal SGD. Default 0.5.
        beta_decay: the power of k by which the share falls. Default 0, a constant share.

    Raises:
        UserError: a setting outside its domain; ``step`` without a closure.

    >>> x = torch.ones(1, requires_grad=True)
    >>> optimizer = asc_pg([x], lr=0.25, beta=0.25)
    >>> for _ in range(3):
    ...     _ = optimizer.step(lambda: optimizer.average(2 * x).square().sum() / 4)
    >>> x.item()  # without noise and with an affine g it is gradient descent on x², whatever beta is
    0.125
    """
    return build(ASCPG, params, {"lr": lr, "beta": beta, "beta_decay": beta_decay})
