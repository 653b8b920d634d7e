"""What can be distilled: an ensemble whose predictions are probabilities or means, into one network of the recipe."""

from __future__ import annotations

from descend.errors import Problem, RecipeError
from descend.recipe.build_loss import link_of, network_outputs
from descend.recipe.facts import Facts
from descend.recipe.members import networks_per_run
from descend.recipe.recipe import Recipe

__all__ = ["check_distillation"]


def check_distillation(recipe: Recipe, facts: Facts) -> None:
    """Check that a resolved recipe with ``model.distill`` trains an ensemble that can be distilled.

    Raises:
        RecipeError: there is no ensemble, or its outputs are neither logits nor the means of the targets.
    """
    if not recipe.model.get("distill", False):
        return
    problems = []
    if networks_per_run(recipe) == 1 or (recipe.model["ensemble"] == 1 and not recipe.model["members"]):
        message = "one network is trained on the predictions of an ensemble, and this recipe trains none"
        hint = "add preset = good or ensemble = 5, or remove it"
        problems.append(Problem("model", "distill", message, hint))
    link = link_of(recipe, facts)
    wanted = ("logit", "logits") if facts.classification else ("identity",)
    if link not in wanted or (not facts.classification and network_outputs(recipe, facts) != facts.outputs):
        expected = "logits of classes" if facts.classification else "the means of the targets"
        message = f"the outputs of the ensemble must be {expected}; with the loss '{recipe.loss['name']}' they are not"
        problems.append(Problem("model", "distill", message, "remove it, or use the default loss"))
    if recipe.data.get("augment"):
        message = "rows that are augmented in each epoch have no prediction of the ensemble"
        problems.append(Problem("model", "distill", message, "remove it, or data.augment"))
    if problems:
        raise RecipeError(problems)
