"""Checks of the settings of the preset "best", which searches until a time is spent."""

from __future__ import annotations

from descend.errors import Problem, RecipeError
from descend.recipe.facts import Facts
from descend.recipe.recipe import Recipe
from descend.recipe.search_space import SEARCHED_KEYS

__all__ = ["check_time_budget"]

OWN_KEYS = ("minutes", "max_rounds", "searched_keys")


def check_time_budget(requested: Recipe, facts: Facts, *, in_memory: bool) -> None:
    """Check that the settings of the preset "best" are used with it only, and that it can be used with the data.

    Args:
        requested: the recipe before it was resolved.
        facts: about the data.
        in_memory: whether the training rows are in memory.

    Raises:
        RecipeError: with all problems.
    """
    model = requested.model
    if model.get("preset") != "best":
        problems = [
            Problem("model", key, "it belongs to the preset best", "add preset = best, or remove it")
            for key in OWN_KEYS
            if model.get(key) not in (None, (), [])
        ]
        if problems:
            raise RecipeError(problems)
        return
    unknown = [path for path in model.get("searched_keys", ()) if path not in SEARCHED_KEYS]
    problems = [
        Problem(
            "model",
            "searched_keys",
            f"'{path}' is not a key that is varied",
            f"known: {', '.join(SEARCHED_KEYS)}",
        )
        for path in unknown
    ]
    use = "use preset = quick"
    if len(facts.input_shape) != 1:
        shape = "×".join(map(str, facts.input_shape))
        message = f"the preset best searches networks for tables, and each row has the shape {shape}"
        problems.append(Problem("model", "preset", message, use))
    elif not in_memory:
        message = "the preset best trains many networks on rows in memory, and these rows are read from disk or a Dataset"
        problems.append(Problem("model", "preset", message, use))
    if not facts.validation_rows:
        message = "the preset best selects networks on the validation rows, and there are none"
        problems.append(Problem("model", "preset", message, f"set data.validation, or {use}"))
    if requested.init.get("restarts", 1) != 1:
        message = "the preset best trains each of its networks once"
        problems.append(Problem("init", "restarts", message, "remove init.restarts, or use preset = good"))
    if problems:
        raise RecipeError(problems)
