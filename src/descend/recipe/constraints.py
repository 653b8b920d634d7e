"""Build the constraints of a recipe: sets that weights stay in, and general conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from descend.constraints import CONDITIONS, CONSTRAINTS, AugmentedLagrangian, ConstrainedWeights, constrain
from descend.errors import Problem, RecipeError, UserError, message_of
from descend.recipe.catalogue import import_object
from descend.recipe.recipe import Recipe
from descend.regularization import decayed_parameters
from descend.rng import forked, seeder
from descend.rng import key as random_key

__all__ = ["ActiveConstraint", "build_average_projection", "build_constraints", "build_lagrangian"]

AverageProjection = Callable[[Sequence[Tensor]], None]

ActiveConstraint = ConstrainedWeights | AugmentedLagrangian
"""A constraint that is imposed on a model: weights in a set, or general conditions."""


def build_constraints(recipe: Recipe, model: nn.Module, seed: int) -> list[ConstrainedWeights]:
    """Impose the recipe's constraints on a model, in place, and return them. The operation is idempotent.

    Random numbers that a constraint needs (an orthogonal weight's basis is completed at random) follow from the seed.

    Raises:
        RecipeError: a pattern matches no weight, or two constraints apply to one weight.
    """
    constraints: list[ConstrainedWeights] = []
    constraint_of: dict[str, str] = {}
    problems: list[Problem] = []
    for key, value in recipe.constrain.items():
        if value is None or key in CONDITIONS:
            continue
        table = value if isinstance(value, Mapping) else {"pattern": value}
        settings = {name: each for name, each in table.items() if name != "pattern"}
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        try:
            with forked(device):
                seeder(device)(random_key(seed, "constraints"))
                constrained = constrain(model, CONSTRAINTS[key](**settings), table["pattern"])
        except UserError as cause:
            problems.append(Problem("constrain", key, str(cause)))
            continue
        for weight in constrained.weights:
            if weight.path in constraint_of:
                message = f"'{weight.path}' is already constrained by {constraint_of[weight.path]}"
                problems.append(Problem("constrain", key, message, "use one constraint per weight"))
            constraint_of[weight.path] = key
        constraints.append(constrained)
    if problems:
        raise RecipeError(problems)
    return constraints


def build_lagrangian(recipe: Recipe, model: nn.Module) -> AugmentedLagrangian | None:
    """Return the augmented Lagrangian of the recipe's general conditions on a model; None where there are none.

    Raises:
        RecipeError: a function does not return a finite number or vector that depends on the weights.
    """
    conditions, problems = [], []
    for key, constructor in CONDITIONS.items():
        value = recipe.constrain.get(key)
        if value is None:
            continue
        table = value if isinstance(value, Mapping) else {"function": value}
        settings = {name: each for name, each in table.items() if name != "function"}
        functions = table["function"]
        for each in functions if isinstance(functions, (list, tuple)) else (functions,):
            condition = constructor(import_object(each) if isinstance(each, str) else each, **settings)
            try:
                condition.validate(model)
            except Exception as cause:  # anyone's function may raise anything
                problems.append(Problem("constrain", key, message_of(cause)))
            conditions.append(condition)
    if problems:
        raise RecipeError(problems)
    return AugmentedLagrangian(model, conditions) if conditions else None


def build_average_projection(
    recipe: Recipe, model: nn.Module, constraints: Sequence[ActiveConstraint]
) -> AverageProjection | None:
    """Return the function that moves averaged weights into the constraints and onto exact zeros; None where not needed.

    The average of a weight that became zero is nonzero for a long time; it takes the zeros of the last weights. The
    function is called with the last weights, in the order of the model's trainable parameters, while the parameters
    contain the averages.
    """
    sparse = {id(p) for p in decayed_parameters(model)[0]} if recipe.regularize["l1_prox"] else set()
    sparse -= {id(p) for each in constraints for p in each.fixed_norm_weights}
    if not constraints and not sparse:
        return None
    parameters = [p for p in model.parameters() if p.requires_grad]

    @torch.no_grad()
    def project(last: Sequence[Tensor]) -> None:
        for parameter, own in zip(parameters, last, strict=True):
            if id(parameter) in sparse:
                parameter.masked_fill_(own == 0, 0.0)
        for each in constraints:
            each.project_()

    return project
