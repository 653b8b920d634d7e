"""From a resolved recipe to what is added to the loss and to what weights are held to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from descend.constraints import CONDITIONS, CONSTRAINTS, AugmentedLagrangian, Held, constrain
from descend.errors import Problem, RecipeError, UserError, message_of
from descend.nn.whitening import Whitening
from descend.recipe.catalogue import find, import_object
from descend.recipe.recipe import Recipe
from descend.regularization import (
    JacobianPenalty,
    add_gradients,
    decayed_parameters,
    gradient_penalty,
    l1_penalty,
    l2_penalty,
    regular_weights,
)
from descend.rng import forked, seeder
from descend.rng import key as random_key

__all__ = [
    "Keeper",
    "build_constraints",
    "build_lagrangian",
    "build_penalty",
    "build_row_penalty",
    "build_settle",
    "check_batches",
    "check_needs",
]

RowPenalty = Callable[[Tensor, Tensor, Tensor], Tensor]
Settle = Callable[[Sequence[Tensor]], None]
Keeper = Held | AugmentedLagrangian
"""What holds weights to something: a set, or conditions."""


def build_constraints(recipe: Recipe, model: nn.Module, seed: int) -> list[Held]:
    """Impose the recipe's constraints on a model, in place, and return what holds them. Twice is as once.

    What a constraint draws (an orthogonal weight's basis is completed at random) follows from the seed.

    Raises:
        RecipeError: a pattern matches no weight, or a weight would be held by two constraints.
    """
    found: list[Held] = []
    holder: dict[str, str] = {}
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
                held = constrain(model, CONSTRAINTS[key](**settings), table["pattern"])
        except UserError as cause:
            problems.append(Problem("constrain", key, str(cause)))
            continue
        for place in held.places:
            if place.path in holder:
                message = f"'{place.path}' is held by {holder[place.path]} already"
                problems.append(Problem("constrain", key, message, "one constraint for each weight"))
            holder[place.path] = key
        found.append(held)
    if problems:
        raise RecipeError(problems)
    return found


def build_lagrangian(recipe: Recipe, model: nn.Module) -> AugmentedLagrangian | None:
    """What holds a model to the recipe's general conditions; None where there are none.

    Raises:
        RecipeError: a function does not give a finite number or vector that depends on the weights.
    """
    found, problems = [], []
    for key, constructor in CONDITIONS.items():
        value = recipe.constrain.get(key)
        if value is None:
            continue
        table = value if isinstance(value, Mapping) else {"function": value}
        settings = {name: each for name, each in table.items() if name != "function"}
        said = table["function"]
        for each in said if isinstance(said, (list, tuple)) else (said,):
            condition = constructor(import_object(each) if isinstance(each, str) else each, **settings)
            try:
                condition.checked(model)
            except Exception as cause:  # anyone's function may raise anything
                problems.append(Problem("constrain", key, message_of(cause)))
            found.append(condition)
    if problems:
        raise RecipeError(problems)
    return AugmentedLagrangian(model, found) if found else None


def build_penalty(
    recipe: Recipe, model: nn.Module, held: Sequence[Keeper] = ()
) -> Callable[[], Tensor] | None:
    """What is added to the loss, as a function of no arguments; None where nothing is."""
    regularize = recipe.regularize
    l1, l2 = float(regularize["l1"]), float(regularize["l2"])
    decay, _ = decayed_parameters(model)
    terms: list[Callable[[], Tensor | None]] = []
    if l2 and decay:
        terms.append(lambda: l2 * l2_penalty(decay))
    if l1 and decay:
        terms.append(lambda: l1 * l1_penalty(decay))
    strength = float(regularize["orthogonality_strength"])
    choice = regularize["orthogonality"]
    if choice != "none" and strength and regular_weights(model):
        table = choice if isinstance(choice, Mapping) else {"name": choice}
        of_weight = find("regularize", table["name"], "orthogonality")
        settings = {name: value for name, value in table.items() if name != "name"}

        def orthogonality() -> Tensor:
            weights = regular_weights(model)
            if table["name"] in ("so", "dso") and all(weight.is_leaf for weight in weights):
                return add_gradients(weights, strength, kind=table["name"], **settings)
            return strength * torch.stack([of_weight(weight, **settings) for weight in weights]).sum()

        terms.append(orthogonality)
    terms += [each.penalty for each in held if each.penalty() is not None]
    if not terms:
        return None

    def penalty() -> Tensor:
        return torch.stack([term for each in terms if (term := each()) is not None]).sum()

    return penalty


def build_row_penalty(recipe: Recipe, model: nn.Module, loss: Any) -> RowPenalty | None:
    """What is added to the loss of a batch, as a function of inputs, outputs and targets; None where nothing is.

    Raises:
        RecipeError: the network has a layer whose gradient cannot be differentiated once more.
    """
    regularize = recipe.regularize
    jacobian, projections = float(regularize["jacobian"]), regularize["jacobian_projections"]
    gradient = float(regularize["gradient_penalty"])
    if not jacobian and not gradient:
        return None
    for name, module in model.named_modules():
        if isinstance(module, Whitening) and not module.differentiable_twice:
            raise RecipeError(
                [
                    Problem(
                        "regularize",
                        "jacobian" if jacobian else "gradient_penalty",
                        f"it differentiates gradients, and the one of '{name}' is an approximation without derivative",
                        "use backward = 'exact' there",
                    )
                ]
            )

    of_outputs = JacobianPenalty(jacobian, projections)
    if not gradient:
        return of_outputs

    def penalty(inputs: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        found = gradient * gradient_penalty(loss.per_sample(outputs, targets), inputs)
        return of_outputs(inputs, outputs, targets) + found if jacobian else found

    return penalty


def build_settle(recipe: Recipe, model: nn.Module, held: Sequence[Keeper]) -> Settle | None:
    """What brings averaged weights back to where the last ones are: into constraints, and onto exact zeros.

    The average of weights that became zero is not zero for a long time; it takes the zeros of the last weights.
    It is a function of these, in the order of the model's trainable parameters, whose place the average takes.
    """
    sparse = {id(p) for p in decayed_parameters(model)[0]} if recipe.regularize["l1_prox"] else set()
    sparse -= {id(p) for each in held for p in each.fixed_in_size}
    if not held and not sparse:
        return None
    parameters = [p for p in model.parameters() if p.requires_grad]

    @torch.no_grad()
    def settle(last: Sequence[Tensor]) -> None:
        for parameter, own in zip(parameters, last, strict=True):
            if id(parameter) in sparse:
                parameter.masked_fill_(own == 0, 0.0)
        for each in held:
            each.project_()

    return settle


def check_batches(model: nn.Module, sizes: Sequence[int]) -> None:
    """Refuse batches of one row where a layer needs statistics over rows.

    Raises:
        RecipeError: naming the layer.
    """
    if 1 not in sizes:
        return
    of_rows = (nn.BatchNorm1d, Whitening)
    for name, module in model.named_modules():
        if isinstance(module, of_rows) and not (isinstance(module, Whitening) and module.of_images):
            message = f"'{name}' ({type(module).__name__}) has no statistics in a batch of one row"
            raise RecipeError(
                [
                    Problem(
                        "data", "batch_size", message, "2 or more; or a norm of single rows: 'layer', 'group'"
                    )
                ]
            )


def check_needs(recipe: Recipe, model: nn.Module, optimizer: Optimizer) -> None:
    """Refuse an optimizer that needs second derivatives where a part of the recipe has none.

    Raises:
        RecipeError: naming the part, and what to do.
    """
    needs: frozenset[str] = getattr(optimizer, "needs", frozenset())
    if not needs & {"graph", "outputs"}:
        return
    name = recipe.optimizer["name"]
    problems = []
    choice = recipe.regularize["orthogonality"]
    kind = choice["name"] if isinstance(choice, Mapping) else choice
    if kind in ("so", "dso") and float(recipe.regularize["orthogonality_strength"]):
        message = f"'{name}' differentiates twice, and '{kind}' gives a gradient alone"
        problems.append(
            Problem("regularize", "orthogonality", message, "'mc' or 'srip' there; bfgs or lbfgs here")
        )
    for where, module in model.named_modules():
        if isinstance(module, Whitening) and not module.differentiable_twice:
            message = f"'{name}' differentiates twice, and the gradient of '{where}' is an approximation without derivative"
            problems.append(
                Problem("optimizer", "name", message, "backward = 'exact' in the norm; bfgs or lbfgs here")
            )
    if problems:
        raise RecipeError(problems)
