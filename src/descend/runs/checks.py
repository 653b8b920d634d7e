"""Checks of an objective: whether its derivatives are correct, and whether a trained network is at a minimum."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch

from descend.constraints import AugmentedLagrangian
from descend.data.batches import Batch, Order
from descend.errors import RecipeError, RunError, UserError
from descend.interface import option
from descend.nn.ensemble import Ensemble
from descend.nn.members import MemberMean
from descend.recipe import Recipe
from descend.recipe.build import build_model
from descend.recipe.constraints import ActiveConstraint, build_constraints, build_lagrangian
from descend.recipe.facts import facts_of
from descend.recipe.penalties import build_penalty, build_row_penalty
from descend.rng import generator
from descend.runs.build import augmented, part_batches
from descend.runs.plan import Plan, Planner, choose_device
from descend.runs.run import Run
from descend.training.derivatives import DerivativeCheck, check_derivatives
from descend.training.objective import Objective
from descend.training.optimality import Optimality, check_optimality

__all__ = ["check_gradients", "objective_of", "optimality_of"]


def objective_of(
    run: Run, data: Any = None, *, device: str | None = None, allow_imports: bool = False
) -> Objective:
    """Return the objective that a run's recipe minimizes, in float64, on all of its training rows.

    It is the function that training estimates step by step, without its random parts: dropout is off, norms use their
    running averages, and rows are not augmented. The run is not changed: network and loss are copies.

    Args:
        run: a finished run.
        data: the data of the run, in any form that training takes. Default None: the data that the run recorded.
        device: the device, instead of the recipe's.
        allow_imports: whether the data may come from a function that the run recorded. Default False.

    Raises:
        UserError: the run did not record where its data are.
        RunError: the data differ from those of the run.
    """
    reference = run.environment.get("data", {}).get("reference")
    if data is None and reference is None:
        raise UserError(
            f"the run did not record where its data are; specify them: {option('--data DATA', 'data=...')}"
        )
    seed = int(run.environment["seed"])
    planner = Planner(reference if data is None else data, device=device, allow_imports=allow_imports)
    planned = planner.plan(run.recipe, seed)
    found, own = planned.prepared.schema.fingerprint, run.schema.fingerprint
    if found != own:
        raise RunError(
            f"the data differ from those the run was trained on (fingerprint {found}, was {own}); "
            f"specify the same data: {option('--data DATA', 'data=...')}"
        )
    where = choose_device(planned.recipe.engine["device"])
    model = copy.deepcopy(run.model).to(where, torch.float64).eval()
    for module in model.modules():
        if isinstance(module, MemberMean):  # its members are trained on their own losses
            module.train()
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
    """Check the optimality conditions at the weights of a run; with general constraints, the KKT conditions.

    The multipliers are those that fit the kept weights best. The multipliers of training belong to its last epoch.

    Args:
        run: a finished run.
        data: as in :func:`objective_of`.
        tolerance: the norm of the gradient up to which a point counts as stationary. Default 1e-4.
        limit: the maximum number of products with the Hessian. Default 200.
        **arguments: ``device`` and ``allow_imports``, as in :func:`objective_of`.

    Raises:
        UserError: as in :func:`objective_of`; a constraint cannot be computed in double precision; the run is an ensemble
            of networks that were trained independently.

    >>> import descend
    >>> run = descend.train("iris", {"model": "linear", "stop": {"max_epochs": 2}})
    >>> optimality_of(run).verdict
    'not stationary'
    """
    if isinstance(run.model, Ensemble):
        raise UserError(
            f"this run is an ensemble of {len(run.model.members)} independently trained networks, and the loss of "
            "their mean was not minimized; check a run of one network (model.ensemble = 1)"
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
    """The general constraints as functions of a model in double precision."""
    try:
        return build_lagrangian(recipe, model)
    except RecipeError as cause:
        raise UserError(
            f"{cause}\nThe check uses float64. A constraint must convert its own tensors to the type of the weights: "
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
    """Compare the gradient of a recipe's objective as computed in training, by autograd, and by finite differences.

    The objective is that of the first training step, with the terms of ``[regularize]`` and ``[constrain]``, in float64 and
    in training mode: dropout uses the same mask at every evaluation, and norms use the batch. The weights are the initial
    ones with random noise added, because at some initial weights (an output layer of zeros) derivatives vanish whether
    they are correct or not.

    Args:
        data: as in :func:`descend.train`.
        recipe: as in :func:`descend.train`.
        rows: the maximum number of rows. Default 32.
        tolerance: the relative error up to which derivatives agree. Default 1e-4.
        seed: the seed of weights, rows and directions. Default 0.
        **arguments: ``target``, ``device`` and ``allow_imports``, as in :func:`descend.train`.

    Raises:
        UserError: data or recipe cannot be used; a constraint cannot be computed in double precision.

    >>> check_gradients("iris", {"model": {"hidden": [4]}}).agrees
    True
    """
    planned = Planner(data, **arguments).plan(recipe, seed)
    device = choose_device(planned.recipe.engine["device"])
    model = build_model(
        planned.recipe, facts_of(planned.prepared.schema, str(device)), seed, planned.prepared.train
    )
    model = model.to(device, torch.float64).train()
    source = generator(seed, "moved")
    conditions = _conditions(planned.recipe, model)
    held: list[ActiveConstraint] = [*build_constraints(planned.recipe, model, seed)]
    held += [] if conditions is None else [conditions]
    with torch.no_grad():
        for p in model.parameters():
            noise = torch.randn(p.shape, generator=source, dtype=torch.float64).to(device)
            p.add_(noise * (0.1 if p.dim() < 2 else 0.3 / p[0].numel() ** 0.5))
    run = Run(planned.recipe, {}, planned.prepared.schema, model)
    loss: Any = run.loss.to(device, torch.float64)
    objective = _objective(planned, model, loss, held, device)
    order = Order(len(planned.prepared.train), min(rows, len(planned.prepared.train)), seed=seed)
    batches = augmented(part_batches(planned.prepared.train, order, device), planned, device, loss)
    first = [Batch(*(_double(each) for each in batch)) for batch in next(batches.epoch(0))]
    return check_derivatives(objective.at(first, 0, 0), tolerance=tolerance, seed=seed)


def _objective(
    planned: Plan, model: torch.nn.Module, loss: Any, held: Sequence[ActiveConstraint], device: torch.device
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
