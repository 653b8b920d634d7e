"""Build the penalties of a recipe: terms that are added to the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from descend.errors import Problem, RecipeError
from descend.nn import TextEmbedding
from descend.nn.members import members_of
from descend.nn.whitening import Whitening
from descend.recipe.catalogue import find
from descend.recipe.constraints import ActiveConstraint
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

__all__ = ["build_penalty", "build_row_penalty"]

RowPenalty = Callable[[Tensor, Tensor, Tensor], Tensor]


def build_penalty(
    recipe: Recipe, model: nn.Module, constraints: Sequence[ActiveConstraint] = ()
) -> Callable[[], Tensor] | None:
    """Return the penalty on the weights as a function of no arguments; None where there is none."""
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
        weight_penalty = find("regularize", table["name"], "orthogonality")
        settings = {name: value for name, value in table.items() if name != "name"}

        def orthogonality() -> Tensor:
            weights = regular_weights(model)
            if table["name"] in ("so", "dso") and all(weight.is_leaf for weight in weights):
                return add_gradients(weights, strength, kind=table["name"], **settings)
            return strength * torch.stack([weight_penalty(weight, **settings) for weight in weights]).sum()

        terms.append(orthogonality)
    terms += [each.penalty for each in constraints if each.penalty() is not None]
    if not terms:
        return None

    def penalty() -> Tensor:
        return torch.stack([term for each in terms if (term := each()) is not None]).sum()

    return penalty


def build_row_penalty(recipe: Recipe, model: nn.Module, loss: Any) -> RowPenalty | None:
    """Return the penalty on a batch as a function of inputs, outputs and targets; None where there is none.

    Raises:
        RecipeError: the gradient of a layer of the network cannot be differentiated again, or the network trains several
            members on each row.
    """
    regularize = recipe.regularize
    jacobian, projections = float(regularize["jacobian"]), regularize["jacobian_projections"]
    gradient = float(regularize["gradient_penalty"])
    if not jacobian and not gradient:
        return None
    if members_of(model) > 1:
        key = "jacobian" if jacobian else "gradient_penalty"
        message = f"it differentiates one loss for each row, and '{recipe.model['name']}' trains several members on each"
        raise RecipeError(
            [Problem("regularize", key, message, "use weight_decay or dropout, or another model")]
        )
    for name, module in model.named_modules():
        if isinstance(module, TextEmbedding) and not module.numbers:
            key = "jacobian" if jacobian else "gradient_penalty"
            message = "it differentiates with respect to numbers, and all inputs are texts"
            raise RecipeError([Problem("regularize", key, message, "use weight_decay or dropout")])
        if isinstance(module, Whitening) and not module.twice_differentiable:
            raise RecipeError(
                [
                    Problem(
                        "regularize",
                        "jacobian" if jacobian else "gradient_penalty",
                        f"it differentiates gradients, and that of '{name}' is an approximation without a derivative",
                        "use backward = 'exact' there",
                    )
                ]
            )

    jacobian_penalty = JacobianPenalty(jacobian, projections)
    if not gradient:
        return jacobian_penalty

    def penalty(inputs: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        term = gradient * gradient_penalty(loss.per_sample(outputs, targets), inputs)
        return jacobian_penalty(inputs, outputs, targets) + term if jacobian else term

    return penalty
