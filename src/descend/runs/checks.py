"""What can be asked of an objective: whether its derivatives are right, whether a trained network is at a minimum."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch

from descend.runs.build import augmented, part_batches
from descend.constraints import AugmentedLagrangian
from descend.data.batches import Batch, Order
from descend.errors import RecipeError, RunError, UserError
from descend.runs.plan import Plan, Planner, choose_device
from descend.rng import generator
from descend.recipe import Recipe
from descend.recipe.build import build_model
from descend.recipe.defaults import facts_of
from descend.recipe.terms import Keeper, build_constraints, build_lagrangian, build_penalty, build_row_penalty
from descend.runs.run import Run
from descend.training.derivatives import DerivativeCheck, check_derivatives
from descend.training.objective import Objective
from descend.training.optimality import Optimality, check_optimality

__all__ = ["check_gradients", "objective_of", "optimality_of"]


def objective_of(
    run: Run, data: Any = None, *, device: str | None = None, allow_imports: bool = False
) -> Objective:
    """The objective that a run's recipe minimises, in float64, on all of its training rows, as one smooth function.

    It is what training estimated step by step, without what is drawn: dropout is off, norms use their averages, rows
    are not augmented. The run is not touched: network and loss are copies.

    Args:
        run: a finished one.
        data: that it was trained on, in any form that training takes; None finds them by what the run noted.
        device: in place of the recipe's.
        allow_imports: whether data may come from a function named in the run.

    Raises:
        UserError: the run did not note where its data are.
        RunError: the data are others than the run's.
    """
    noted = run.environment.get("data", {}).get("reference")
    if data is None and noted is None:
        raise UserError("the run was trained on data that have no name; give them: --data DATA")
    seed = int(run.environment["seed"])
    planner = Planner(noted if data is None else data, device=device, allow_imports=allow_imports)
    planned = planner.plan(run.recipe, seed)
    found, own = planned.prepared.schema.fingerprint, run.schema.fingerprint
    if found != own:
        raise RunError(
            f"the data are not those that the run was trained on (fingerprint {found}, was {own}); "
            "give the same data: --data DATA"
        )
    where = choose_device(planned.recipe.engine["device"])
    model = copy.deepcopy(run.model).to(where, torch.float64).eval()
    loss: Any = copy.deepcopy(run.loss).to(where, torch.float64)
    held = build_constraints(planned.recipe, model, seed)
    objective = _objective(planned, model, loss, held, where)
    train = planned.prepared.train
    order = Order(len(train), len(train), sampling="in_order")
    (batches,) = part_batches(train, order, where).epoch(0)
    return objective.at([Batch(*(_double(each) for each in batch)) for batch in batches], 0, 0)


def optimality_of(
    run: Run, data: Any = None, *, tolerance: float = 1e-4, limit: int = 200, **arguments: Any
) -> Optimality:
    """The conditions of optimality at the weights that a run kept; under ``constrain.inequality`` and ``equality`` those of KKT.

    Multipliers are not those of training, which belong to its last epoch, but those that fit the kept weights best.

    Args:
        run: a finished one.
        data: as of :func:`objective_of`.
        tolerance: the gradient's norm up to which a point is stationary. Default 1e-4.
        limit: on products with the Hessian. Default 200.
        **arguments: ``device`` and ``allow_imports``, as of :func:`objective_of`.

    Raises:
        UserError: as of :func:`objective_of`; a condition cannot be computed in double precision; the run is an ensemble of
            networks, each of which was trained by itself.

    >>> import descend
    >>> run = descend.train("iris", {"model": "linear", "stop": {"max_epochs": 2}})
    >>> optimality_of(run).verdict
    'not stationary'
    """
    if run.recipe.model["ensemble"] > 1:
        raise UserError(
            f"this run is an ensemble of {run.recipe.model['ensemble']} networks, each trained by itself, and nothing has "
            "minimised the loss of their mean; check a run of one network: --set model.ensemble=1"
        )
    objective = objective_of(run, data, **arguments)
    held = _conditions(run.recipe, objective.model)
    return check_optimality(
        objective.differentiable,
        objective.parameters,
        tolerance=tolerance,
        limit=limit,
        subject=objective.model,
        conditions=() if held is None else held.conditions,
    )


def _conditions(recipe: Recipe, model: torch.nn.Module) -> AugmentedLagrangian | None:
    """The general conditions, as functions of a model in double precision."""
    try:
        return build_lagrangian(recipe, model)
    except RecipeError as cause:
        raise UserError(
            f"{cause}\nThe check is done in float64. A condition's own tensors must take the type of the weights: "
            "tensor.to(weight)"
        ) from cause


def check_gradients(
    data: Any,
    recipe: Any = None,
    *,
    rows: int = 32,
    tolerance: float = 1e-4,
    seed: int = 0,
    **arguments: Any,
) -> DerivativeCheck:
    """Whether the gradient of a recipe's objective is right: as training computes it, by autograd, and by differences.

    It is that of training's first step, the terms of ``[regularize]`` and ``[constrain]`` included. In float64, on its first
    rows, in training mode: dropout draws the same at every evaluation, norms use the batch. The weights are the initial ones,
    moved a little at random, since at some of them (an output layer of zeros) derivatives vanish, right or wrong.

    Args:
        data: as of :func:`descend.train`.
        recipe: likewise.
        rows: that are used, at most. Default 32.
        tolerance: the relative error up to which derivatives agree. Default 1e-4.
        seed: of weights, rows and directions.
        **arguments: ``target``, ``device`` and ``allow_imports``, as of :func:`descend.train`.

    Raises:
        UserError: data or recipe cannot be used; a condition cannot be computed in double precision.

    >>> check_gradients("iris", {"model": {"hidden": [4]}}).agrees
    True
    """
    planned = Planner(data, **arguments).plan(recipe, seed)
    device = choose_device(planned.recipe.engine["device"])
    model = build_model(planned.recipe, facts_of(planned.prepared.schema, str(device)), seed)
    model = model.to(device, torch.float64).train()
    draw = generator(seed, "moved")
    conditions = _conditions(planned.recipe, model)
    held: list[Keeper] = [*build_constraints(planned.recipe, model, seed)]
    held += [] if conditions is None else [conditions]
    with torch.no_grad():
        for p in model.parameters():
            noise = torch.randn(p.shape, generator=draw, dtype=torch.float64).to(device)
            p.add_(noise * (0.1 if p.dim() < 2 else 0.3 / p[0].numel() ** 0.5))
    run = Run(planned.recipe, {}, planned.prepared.schema, model)
    loss: Any = run.loss.to(device, torch.float64)
    objective = _objective(planned, model, loss, held, device)
    order = Order(len(planned.prepared.train), min(rows, len(planned.prepared.train)), seed=seed)
    batches = augmented(part_batches(planned.prepared.train, order, device), planned, device, loss)
    first = [Batch(*(_double(each) for each in batch)) for batch in next(batches.epoch(0))]
    return check_derivatives(objective.at(first, 0, 0), tolerance=tolerance, seed=seed)


def _objective(
    planned: Plan, model: torch.nn.Module, loss: Any, held: Sequence[Keeper], device: torch.device
) -> Objective:
    return Objective(
        model,
        loss,
        device=device,
        penalty=build_penalty(planned.recipe, model, held),
        row_penalty=build_row_penalty(planned.recipe, model, loss),
        seed=planned.seed,
    )


def _double(tensor: Any) -> Any:
    return tensor.double() if tensor is not None and tensor.is_floating_point() else tensor
