"""Sequential quadratic programming with an exact penalty, for small deterministic problems with constraints."""

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
"""The fraction of the predicted decrease that a step must achieve."""
MIN_STEP = 1e-12
"""The smallest step length of the line search."""
STEERING = 0.9
"""The fraction of the possible decrease of the linearized violation that a step must achieve."""
MAX_PENALTY = 1e10
"""The largest penalty factor ρ."""


@dataclass(frozen=True)
class Solution:
    """The result of :func:`minimize`, which leaves the parameters at the solution.

    Args:
        loss: F at the solution.
        multipliers: λ of each condition, (m,) float64.
        kkt: the KKT residuals.
        iterations: the number of steps; each solves one or several quadratic programs.
        evaluations: the number of evaluations of F and the conditions.
        converged: whether the KKT residual is within the tolerance.
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
    """Minimize F(w) subject to conditions, by sequential quadratic programming with an exact penalty.

    The penalty function is

        φ(w) = F(w) + ρ (Σ max(c, 0) + Σ |h|),   c ≤ 0 and h = 0 the conditions.

    For ρ above the largest multiplier a strict local solution is a local minimum of φ itself. Each step d solves the
    quadratic program of φ's linearized terms with a BFGS matrix B of the Lagrangian (with Powell's damping, so that B stays
    positive definite),

        min_d  g·d + d·B d / 2 + ρ (Σ max(c + ∇c·d, 0) + Σ |h + ∇h·d|),

    which has a solution for any constraints; its dual is a quadratic program with box constraints, whose solution is the new
    λ. ρ is raised until the step achieves most of the possible decrease of the linearized violation. A backtracking line
    search halves the step until φ decreases sufficiently. It first tries a second-order correction for the curvature of the
    constraints, without which full steps near a solution may be rejected (Maratos 1978). Trial points that are not finite are
    rejected.

    The method is dense, in float64: a step takes O(n³ + n² m) time and O(n²) memory, which suits up to a few hundred
    parameters. Weights should be float64; with float32 the final residual is 1e-6 to 1e-4.

    Args:
        loss: F of the subject, with its graph; deterministic.
        subject: a model, a tensor, or several tensors; changed in place.
        conditions: such as ``inequality(function)``.
        tolerance: the KKT residual to stop at. Default 1e-7.
        max_iterations: the maximum number of steps. Default 200.

    Raises:
        UserError: F or a condition is not finite at the initial point, or has no graph.

    Source: Fletcher 1987, section 14.4; Nocedal and Wright 2006, section 18; Curtis, Mitchell and Overton 2017.

    >>> from descend.constraints import inequality
    >>> w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    >>> solution = minimize(lambda w: -w.sum(), w, [inequality(lambda w: w.square().sum() - 2)])
    >>> solution.converged, [round(each, 6) for each in w.tolist()], round(solution.multipliers[0].item(), 6)
    (True, [1.0, 1.0], 0.5)
    """
    for condition in conditions:
        condition.validate(subject)
    problem = _Problem(loss, subject, conditions)
    x = problem.position()
    try:
        return _solve(problem, x, tolerance, max_iterations)
    except BaseException:
        problem.put(problem.accepted)
        raise


@dataclass(frozen=True)
class _Point:
    """F, the constraints and their derivatives at a point."""

    x: Tensor
    loss: Tensor
    gradient: Tensor
    values: Tensor
    jacobian: Tensor


@final
class _Problem:
    """F and all conditions as functions of one float64 vector of parameters."""

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
        """Return F and the constraints (m,) at a trial point."""
        self.put(x)
        with torch.no_grad():
            loss, values = self._evaluate()
        return loss.double(), values.double()

    def at(self, x: Tensor) -> _Point:
        """Return F, the constraints and their derivatives at an accepted point."""
        self.put(x)
        self.accepted = x
        with torch.enable_grad():
            loss, values = self._evaluate()
            rows = [self._gradient(each) for each in (loss, *values)]
        jacobian = torch.stack(rows[1:]) if rows[1:] else x.new_zeros(0, len(x))
        return _Point(x, loss.detach().double(), rows[0], values.detach().double(), jacobian)

    def violation(self, values: Tensor) -> Tensor:
        """Return Σ max(c, 0) + Σ |h|."""
        return torch.where(self.equal, values.abs(), values.clamp(min=0)).sum()

    def _evaluate(self) -> tuple[Tensor, Tensor]:
        self.evaluations += 1
        with evaluating(self.subject):
            loss = self._loss(self.subject)
            values = [condition.values(self.subject) for condition in self.conditions]
        if not isinstance(loss, Tensor) or loss.dim():
            raise UserError("minimize: the loss must return a scalar, a 0-dimensional tensor with its graph")
        return loss, torch.cat(values) if values else loss.new_zeros(0)

    def _gradient(self, value: Tensor) -> Tensor:
        if not value.requires_grad:
            return torch.zeros_like(self.accepted)
        gradients = torch.autograd.grad(
            value, self.parameters, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return flat(list(gradients)).double()


def _solve(problem: _Problem, x: Tensor, tolerance: float, max_iterations: int) -> Solution:
    point = problem.at(x)
    if not (point.loss.isfinite() and point.gradient.isfinite().all()):
        raise UserError("minimize: the loss or its gradient is not finite at the initial point")
    matrix, rho, scaled = torch.eye(len(x)).to(x), 1.0, False
    multipliers = torch.zeros_like(point.values)
    iterations = 0
    for iterations in range(max_iterations + 1):
        step, multipliers, rho = _steering_step(problem, point, matrix, rho)
        if _kkt(problem, point, multipliers).residual <= tolerance or iterations == max_iterations:
            break
        accepted = _line_search(problem, point, step, matrix, rho)
        if accepted is None:  # the decrease is below the rounding error
            break
        new = problem.at(accepted)
        if not (new.gradient.isfinite().all() and new.jacobian.isfinite().all()):
            problem.accepted = point.x
            break
        displacement = new.x - point.x
        change = new.gradient - point.gradient + (new.jacobian - point.jacobian).T @ multipliers
        if not scaled and torch.dot(displacement, change) > 0:
            matrix = matrix * (torch.dot(change, change) / torch.dot(displacement, change))
            scaled = True
        matrix = _bfgs_update(matrix, displacement, change)
        point = new
    problem.put(point.x)
    kkt = _kkt(problem, point, multipliers)
    return Solution(
        float(point.loss),
        list(multipliers.split(problem.sizes)) if problem.sizes else [],
        kkt,
        iterations,
        problem.evaluations,
        kkt.residual <= tolerance,
    )


def _kkt(problem: _Problem, point: _Point, multipliers: Tensor) -> KKT:
    inequality = ~problem.equal
    violations = torch.where(problem.equal, point.values.abs(), point.values.clamp(min=0))
    complementarity = (multipliers * point.values)[inequality].abs()
    return KKT(
        float(torch.linalg.vector_norm(point.gradient + point.jacobian.T @ multipliers)),
        float(violations.max()) if len(violations) else 0.0,
        float(complementarity.max()) if len(complementarity) else 0.0,
        float((-multipliers[inequality]).clamp(min=0).max()) if len(complementarity) else 0.0,
    )


def _steering_step(
    problem: _Problem, point: _Point, matrix: Tensor, rho: float
) -> tuple[Tensor, Tensor, float]:
    """Return the step, the multipliers and ρ, raised until the step reduces the linearized violation sufficiently.

    The step must achieve nine tenths of the decrease of the linearized violation at the largest ρ (steering).
    """
    step, multipliers = _program(problem, point, point.values, matrix, rho)

    def remaining(step: Tensor) -> Tensor:
        return problem.violation(point.values + point.jacobian @ step)

    start = problem.violation(point.values)
    if remaining(step) <= 1e-10 * (1.0 + point.values.abs().sum()):
        return step, multipliers, rho
    least = remaining(_program(problem, point, point.values, matrix, MAX_PENALTY)[0])
    while start - remaining(step) < STEERING * (start - least) - 1e-10 and rho < MAX_PENALTY:
        rho *= 10
        step, multipliers = _program(problem, point, point.values, matrix, rho)
    return step, multipliers, rho


def _program(
    problem: _Problem, point: _Point, values: Tensor, matrix: Tensor, rho: float
) -> tuple[Tensor, Tensor]:
    """Solve min_d g·d + d·B d/2 + ρ violation(values + J d) by its dual: min_λ λ·Q λ/2 + q·λ in a box, d = −B⁻¹(g + Jᵀλ)."""
    factor = torch.linalg.cholesky(matrix)
    both = torch.cholesky_solve(torch.cat([point.gradient[:, None], point.jacobian.T], 1), factor)
    newton, of_constraints = both[:, 0], both[:, 1:]  # B⁻¹ g and B⁻¹ Jᵀ
    high = torch.full_like(values, rho)
    low = torch.where(problem.equal, -high, torch.zeros_like(high))
    multipliers = solve_box_qp(point.jacobian @ of_constraints, point.jacobian @ newton - values, low, high)
    return -(newton + of_constraints @ multipliers), multipliers


def solve_box_qp(matrix: Tensor, linear: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Minimize z·Q z/2 + q·z over low ≤ z ≤ high, for a positive semidefinite Q, by an active-set method.

    >>> solve_box_qp(torch.eye(2), torch.tensor([-3.0, -0.5]), torch.zeros(2), torch.ones(2))
    tensor([1.0000, 0.5000])
    """
    count = len(linear)
    if not count:
        return linear.clone()
    # Dependent constraints make Q singular; the ridge is so small that it changes a solution only by rounding.
    ridge = torch.finfo(matrix.dtype).eps * (1.0 + matrix.diagonal().sum())
    matrix = matrix + ridge * torch.eye(count).to(matrix)
    z = torch.zeros_like(linear).clamp(low, high)
    fixed = (z <= low) | (z >= high)
    tiny = 1e-13 * (1.0 + linear.abs().max())
    for _ in range(100 * (count + 1)):
        gradient = matrix @ z + linear
        free = (~fixed).nonzero().flatten()
        move = torch.zeros_like(z)
        if len(free):
            move[free] = torch.linalg.solve(matrix[free][:, free], -gradient[free])
        if move.abs().max() <= 1e-14 * (1.0 + z.abs().max()):
            infeasibility = torch.where(
                fixed & (z <= low), -gradient, torch.where(fixed & (z >= high), gradient, -torch.inf)
            )
            worst = int(infeasibility.argmax())
            if infeasibility[worst] <= tiny:
                break
            fixed[worst] = False
            continue
        step_to_bound = torch.where(
            move > 0, (high - z) / move, torch.where(move < 0, (low - z) / move, torch.inf)
        )
        step_to_bound[fixed] = torch.inf
        blocking = int(step_to_bound.argmin())
        fraction = float(step_to_bound[blocking])
        z = z + min(1.0, fraction) * move
        if fraction < 1.0:
            z[blocking] = high[blocking] if move[blocking] > 0 else low[blocking]
            fixed[blocking] = True
    return z


def _line_search(problem: _Problem, point: _Point, step: Tensor, matrix: Tensor, rho: float) -> Tensor | None:
    """Return the next point: the full step, the corrected one, or the longest halved one that reduces φ sufficiently."""
    start = point.loss + rho * problem.violation(point.values)
    predicted = torch.dot(point.gradient, step) + rho * (
        problem.violation(point.values + point.jacobian @ step) - problem.violation(point.values)
    )

    def decreases(x: Tensor, length: float) -> tuple[bool, Tensor]:
        loss, values = problem.values(x)
        return bool(loss + rho * problem.violation(values) <= start + ARMIJO * length * predicted), values

    length = 1.0
    while length > MIN_STEP:
        sufficient, values = decreases(point.x + length * step, length)
        if sufficient:
            return point.x + length * step
        if length == 1.0 and values.isfinite().all():
            corrected, _ = _program(problem, point, values - point.jacobian @ step, matrix, rho)
            if decreases(point.x + corrected, 1.0)[0]:
                return point.x + corrected
        length /= 2
    return None


def _bfgs_update(matrix: Tensor, displacement: Tensor, change: Tensor) -> Tensor:
    """Update B by BFGS with Powell's damping: the curvature along the step is at least a fifth of that of B."""
    product = matrix @ displacement
    curvature, previous = torch.dot(displacement, change), torch.dot(displacement, product)
    if not previous > 0:
        return matrix
    if curvature < 0.2 * previous:
        theta = 0.8 * previous / (previous - curvature)
        change = theta * change + (1 - theta) * product
        curvature = torch.dot(displacement, change)
    updated = matrix - torch.outer(product, product) / previous + torch.outer(change, change) / curvature
    _, failed = torch.linalg.cholesky_ex(updated)
    return matrix if failed else updated  # rounding may destroy definiteness
