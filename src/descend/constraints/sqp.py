"""Small deterministic problems with constraints: sequential quadratic programming on an exact penalty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from descend.constraints.conditions import KKT, Condition, Subject, evaluating, parameters_of
from descend.errors import UserError
from descend.linalg import flat, views

__all__ = ["Solution", "minimize"]

ARMIJO = 1e-4
"""The share of the predicted decrease that a step must bring."""
SHORTEST = 1e-12
"""The shortest step that is tried."""
STEERED = 0.9
"""The share of the possible decrease of the violation that a step must promise."""
HIGHEST = 1e10
"""Limit of the penalty's factor."""


@dataclass(frozen=True)
class Solution:
    """What :func:`minimize` found; the parameters are there.

    Args:
        loss: F.
        multipliers: λ of each condition, (m,) float64.
        kkt: how far from a solution.
        iterations: of quadratic programs solved and steps taken.
        evaluations: of F and the conditions.
        converged: whether the residual is within the tolerance.
    """

    loss: float
    multipliers: list[Tensor]
    kkt: KKT
    iterations: int
    evaluations: int
    converged: bool


def minimize(
    loss: Callable[[Any], Tensor],
    subject: Subject,
    conditions: Sequence[Condition],
    *,
    tolerance: float = 1e-7,
    max_iterations: int = 200,
) -> Solution:
    """Minimise F(w) subject to conditions, by quasi-Newton steps on an exact penalty.

    The penalty function is

        φ(w) = F(w) + ρ (Σ max(c, 0) + Σ |h|),   c ≤ 0 and h = 0 the conditions.

    For ρ above the largest multiplier a strict local solution is a local minimum of φ itself. Each step d solves the
    quadratic program of φ's linearised terms with a BFGS matrix B of the Lagrangian (damped as by Powell, so that B stays
    positive definite),

        min_d  g·d + d·B d / 2 + ρ (Σ max(c + ∇c·d, 0) + Σ |h + ∇h·d|),

    which has a solution whatever the constraints are; its dual is a quadratic program in a box, whose solution is the new
    λ. ρ is raised until the step promises most of what can be done for feasibility. The step is halved until φ falls
    enough, after one correction for the curvature of the constraints, without which full steps near a solution can be
    refused (Maratos 1978). Trial points that are not finite are refused.

    All of it is dense, in float64: time n³ + n² m and memory n² a step, for some hundreds of parameters. Weights should be
    float64: float32 ones end at a residual of 1e-6 to 1e-4.

    Args:
        loss: F of the subject, with its graph; deterministic.
        subject: a model, a tensor, or several; moved in place.
        conditions: such as ``inequality(function)``.
        tolerance: the KKT residual to stop at. Default 1e-7.
        max_iterations: default 200.

    Raises:
        UserError: F or a condition is not finite at the start, or has no graph.

    Source: Fletcher 1987, section 14.4; Nocedal and Wright 2006, section 18; Curtis, Mitchell and Overton 2017.

    >>> from descend.constraints import inequality
    >>> w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    >>> found = minimize(lambda w: -w.sum(), w, [inequality(lambda w: w.square().sum() - 2)])
    >>> found.converged, [round(each, 6) for each in w.tolist()], round(found.multipliers[0].item(), 6)
    (True, [1.0, 1.0], 0.5)
    """
    for condition in conditions:
        condition.checked(subject)
    problem = _Problem(loss, subject, conditions)
    x = problem.position()
    try:
        return _solve(problem, x, tolerance, max_iterations)
    except BaseException:
        problem.put(problem.accepted)
        raise


@dataclass(frozen=True)
class _Point:
    """F, constraints and their derivatives at a point."""

    x: Tensor
    loss: Tensor
    gradient: Tensor
    values: Tensor
    jacobian: Tensor


@final
class _Problem:
    """F and all conditions as functions of one float64 vector."""

    def __init__(
        self, loss: Callable[[Any], Tensor], subject: Subject, conditions: Sequence[Condition]
    ) -> None:
        self.subject, self.conditions, self._loss = subject, conditions, loss
        self.parameters = parameters_of(subject)
        self.evaluations = 0
        self.accepted = self.position()
        with torch.no_grad(), evaluating(subject):
            self.sizes = [len(condition.values(subject)) for condition in conditions]
        kinds = [
            c.kind == "equality" for c, size in zip(conditions, self.sizes, strict=True) for _ in range(size)
        ]
        self.equal = torch.tensor(kinds, dtype=torch.bool, device=self.accepted.device)

    def position(self) -> Tensor:
        return flat([p.detach() for p in self.parameters]).double()

    @torch.no_grad()
    def put(self, x: Tensor) -> None:
        targets = [p.detach() for p in self.parameters]
        torch._foreach_copy_(targets, views(x, targets))

    def values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """F and the constraints (m,) at a trial point."""
        self.put(x)
        with torch.no_grad():
            loss, values = self._evaluated()
        return loss.double(), values.double()

    def at(self, x: Tensor) -> _Point:
        """With derivatives."""
        self.put(x)
        self.accepted = x
        with torch.enable_grad():
            loss, values = self._evaluated()
            rows = [self._slope(each) for each in (loss, *values)]
        jacobian = torch.stack(rows[1:]) if rows[1:] else x.new_zeros(0, len(x))
        return _Point(x, loss.detach().double(), rows[0], values.detach().double(), jacobian)

    def violation(self, values: Tensor) -> Tensor:
        """Σ max(c, 0) + Σ |h|."""
        return torch.where(self.equal, values.abs(), values.clamp(min=0)).sum()

    def _evaluated(self) -> tuple[Tensor, Tensor]:
        self.evaluations += 1
        with evaluating(self.subject):
            loss = self._loss(self.subject)
            found = [condition.values(self.subject) for condition in self.conditions]
        if not isinstance(loss, Tensor) or loss.dim():
            raise UserError(
                "minimize: the loss must return one number, a 0-dimensional tensor with its graph"
            )
        return loss, torch.cat(found) if found else loss.new_zeros(0)

    def _slope(self, value: Tensor) -> Tensor:
        if not value.requires_grad:
            return torch.zeros_like(self.accepted)
        slopes = torch.autograd.grad(
            value, self.parameters, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return flat(list(slopes)).double()


def _solve(problem: _Problem, x: Tensor, tolerance: float, limit: int) -> Solution:
    point = problem.at(x)
    if not (point.loss.isfinite() and point.gradient.isfinite().all()):
        raise UserError("minimize: the loss or its gradient is not finite at the start")
    matrix, rho, scaled = torch.eye(len(x)).to(x), 1.0, False
    multipliers = torch.zeros_like(point.values)
    iterations = 0
    for iterations in range(limit + 1):
        step, multipliers, rho = _steered(problem, point, matrix, rho)
        if _kkt(problem, point, multipliers).residual <= tolerance or iterations == limit:
            break
        found = _searched(problem, point, step, matrix, rho)
        if found is None:  # rounding hides every decrease
            break
        new = problem.at(found)
        if not (new.gradient.isfinite().all() and new.jacobian.isfinite().all()):
            problem.accepted = point.x
            break
        moved = new.x - point.x
        change = new.gradient - point.gradient + (new.jacobian - point.jacobian).T @ multipliers
        if not scaled and torch.dot(moved, change) > 0:
            matrix, scaled = matrix * (torch.dot(change, change) / torch.dot(moved, change)), True
        matrix = _updated(matrix, moved, change)
        point = new
    problem.put(point.x)
    residual = _kkt(problem, point, multipliers)
    return Solution(
        float(point.loss),
        list(multipliers.split(problem.sizes)) if problem.sizes else [],
        residual,
        iterations,
        problem.evaluations,
        residual.residual <= tolerance,
    )


def _kkt(problem: _Problem, point: _Point, multipliers: Tensor) -> KKT:
    unequal = ~problem.equal
    violated = torch.where(problem.equal, point.values.abs(), point.values.clamp(min=0))
    slack = (multipliers * point.values)[unequal].abs()
    return KKT(
        float(torch.linalg.vector_norm(point.gradient + point.jacobian.T @ multipliers)),
        float(violated.max()) if len(violated) else 0.0,
        float(slack.max()) if len(slack) else 0.0,
        float((-multipliers[unequal]).clamp(min=0).max()) if len(slack) else 0.0,
    )


def _steered(problem: _Problem, point: _Point, matrix: Tensor, rho: float) -> tuple[Tensor, Tensor, float]:
    """Step and multipliers of the quadratic program, with ρ raised until the step does what it can for feasibility.

    Of the decrease of the linearised violation that the highest ρ would bring, nine tenths are asked for.
    """
    step, multipliers = _program(problem, point, point.values, matrix, rho)

    def left(step: Tensor) -> Tensor:
        return problem.violation(point.values + point.jacobian @ step)

    start = problem.violation(point.values)
    if left(step) <= 1e-10 * (1.0 + point.values.abs().sum()):
        return step, multipliers, rho
    least = left(_program(problem, point, point.values, matrix, HIGHEST)[0])
    while start - left(step) < STEERED * (start - least) - 1e-10 and rho < HIGHEST:
        rho *= 10
        step, multipliers = _program(problem, point, point.values, matrix, rho)
    return step, multipliers, rho


def _program(
    problem: _Problem, point: _Point, values: Tensor, matrix: Tensor, rho: float
) -> tuple[Tensor, Tensor]:
    """min_d g·d + d·B d/2 + ρ violation(values + J d), by its dual: min_λ λ·Q λ/2 + q·λ in a box, d = −B⁻¹(g + Jᵀλ)."""
    factor = torch.linalg.cholesky(matrix)
    both = torch.cholesky_solve(torch.cat([point.gradient[:, None], point.jacobian.T], 1), factor)
    down, across = both[:, 0], both[:, 1:]
    high = torch.full_like(values, rho)
    low = torch.where(problem.equal, -high, torch.zeros_like(high))
    multipliers = in_box(point.jacobian @ across, point.jacobian @ down - values, low, high)
    return -(down + across @ multipliers), multipliers


def in_box(matrix: Tensor, linear: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The least z·Q z/2 + q·z over low ≤ z ≤ high, for Q positive semidefinite, by an active set.

    >>> in_box(torch.eye(2), torch.tensor([-3.0, -0.5]), torch.zeros(2), torch.ones(2))
    tensor([1.0000, 0.5000])
    """
    count = len(linear)
    if not count:
        return linear.clone()
    # Dependent constraints make Q singular; so little is added that a solution moves by rounding.
    ridge = torch.finfo(matrix.dtype).eps * (1.0 + matrix.diagonal().sum())
    matrix = matrix + ridge * torch.eye(count).to(matrix)
    z = torch.zeros_like(linear).clamp(low, high)
    fixed = (z <= low) | (z >= high)
    tiny = 1e-13 * (1.0 + linear.abs().max())
    for _ in range(100 * (count + 1)):
        slope = matrix @ z + linear
        free = (~fixed).nonzero().flatten()
        move = torch.zeros_like(z)
        if len(free):
            move[free] = torch.linalg.solve(matrix[free][:, free], -slope[free])
        if move.abs().max() <= 1e-14 * (1.0 + z.abs().max()):
            wrong = torch.where(
                fixed & (z <= low), -slope, torch.where(fixed & (z >= high), slope, -torch.inf)
            )
            worst = int(wrong.argmax())
            if wrong[worst] <= tiny:
                break
            fixed[worst] = False
            continue
        room = torch.where(move > 0, (high - z) / move, torch.where(move < 0, (low - z) / move, torch.inf))
        room[fixed] = torch.inf
        blocking = int(room.argmin())
        share = float(room[blocking])
        z = z + min(1.0, share) * move
        if share < 1.0:
            z[blocking] = high[blocking] if move[blocking] > 0 else low[blocking]
            fixed[blocking] = True
    return z


def _searched(problem: _Problem, point: _Point, step: Tensor, matrix: Tensor, rho: float) -> Tensor | None:
    """The next point: the full step, the corrected one, or the longest of the halved ones that lowers φ enough."""
    start = point.loss + rho * problem.violation(point.values)
    promised = torch.dot(point.gradient, step) + rho * (
        problem.violation(point.values + point.jacobian @ step) - problem.violation(point.values)
    )

    def lowers(x: Tensor, share: float) -> tuple[bool, Tensor]:
        loss, values = problem.values(x)
        return bool(loss + rho * problem.violation(values) <= start + ARMIJO * share * promised), values

    share = 1.0
    while share > SHORTEST:
        enough, values = lowers(point.x + share * step, share)
        if enough:
            return point.x + share * step
        if share == 1.0 and values.isfinite().all():
            corrected, _ = _program(problem, point, values - point.jacobian @ step, matrix, rho)
            if lowers(point.x + corrected, 1.0)[0]:
                return point.x + corrected
        share /= 2
    return None


def _updated(matrix: Tensor, moved: Tensor, change: Tensor) -> Tensor:
    """BFGS with Powell's damping: curvature along the step of at least a fifth of what B says."""
    along = matrix @ moved
    curved, known = torch.dot(moved, change), torch.dot(moved, along)
    if not known > 0:
        return matrix
    if curved < 0.2 * known:
        theta = 0.8 * known / (known - curved)
        change = theta * change + (1 - theta) * along
        curved = torch.dot(moved, change)
    updated = matrix - torch.outer(along, along) / known + torch.outer(change, change) / curved
    _, failed = torch.linalg.cholesky_ex(updated)
    return matrix if failed else updated  # rounding may take definiteness away
