"""The recipes of the networks of an ensemble: the recipe itself, or with the keys in which a member differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from descend.errors import Problem, RecipeError
from descend.recipe.facts import Facts
from descend.recipe.recipe import Recipe
from descend.recipe.resolve import Resolved, resolve
from descend.recipe.sections import SECTIONS, section_parameters

__all__ = [
    "expected_networks",
    "member_recipe",
    "network_recipe",
    "networks_per_run",
    "resolve_members",
    "selection_of",
    "single_recipe",
]

VARIED = ("model", "loss", "init", "optimizer", "schedule", "gradient", "regularize")
"""Sections in which the members of an ensemble may differ."""

SHARED = frozenset(
    {"model.output", "model.preset", "model.calibration", "model.ensemble", "model.members", "model.ensemble_selection",
     "model.ensemble_shrinkage", "model.pretrained", "model.minutes", "model.max_rounds", "model.searched_keys",
     "model.distill", "loss.name", "init.restarts", "init.sample_index"}
)  # fmt: skip
"""Keys of these sections that belong to the ensemble: the meaning of its outputs, and how it is made."""

_ONE = {
    "init.restarts": 1, "model.ensemble": 1, "model.members": (), "model.ensemble_selection": "best",
    "model.ensemble_shrinkage": 0.0,
    "model.preset": "quick", "model.calibration": "none", "model.distill": False,
}  # fmt: skip


def networks_per_run(recipe: Recipe) -> int:
    """Return the number of networks that a resolved recipe trains for one run."""
    restarts, members = int(recipe.init["restarts"]), len(recipe.model.get("members", ()))
    return restarts * members if members else max(restarts, int(recipe.model["ensemble"]))


def expected_networks(recipe: Recipe) -> int | None:
    """Return :func:`networks_per_run`; None for the preset best, which trains networks until a time is spent."""
    return None if recipe.model.get("preset") == "best" else networks_per_run(recipe)


def selection_of(recipe: Recipe) -> str:
    """Return how a resolved recipe selects the networks of an ensemble, "best" or "greedy"."""
    return str(recipe.model.get("ensemble_selection", "best"))


def network_recipe(recipe: Recipe, number: int) -> Recipe:
    """Return the recipe of one of the networks that a resolved recipe trains for a run.

    Args:
        recipe: the resolved recipe.
        number: of the network. Those of the first random sample of initial weights come first.
    """
    members = recipe.model.get("members", ())
    own = member_recipe(recipe, members[number % len(members)] if members else {})
    return own.replace({"init.sample_index": number // max(1, len(members))})


def member_recipe(recipe: Recipe, table: Mapping[str, Any]) -> Recipe:
    """Return the recipe of one network that differs from a resolved recipe in the keys of a table."""
    return _with(recipe, table).replace(_ONE)


def single_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe of one network, without members, that an ensemble is distilled into."""
    return member_recipe(recipe, {}).replace({"model.calibration": recipe.model["calibration"]})


def resolve_members(resolved: Resolved, requested: Recipe, facts: Facts) -> Resolved:
    """Complete each member of a resolved recipe: what it leaves open follows from what it specifies.

    Args:
        resolved: the resolved recipe.
        requested: the recipe before.
        facts: about the data.

    Returns:
        The recipe with the complete differences of each member.

    Raises:
        RecipeError: a member has a key that belongs to the ensemble, or does not fit the data.
    """
    members = resolved.recipe.model.get("members", ())
    if not members:
        return resolved
    if (
        requested.model.get("preset") in ("good", "best")
        and requested.model.get("members", "auto") == "auto"
        and requested.model.get("name", "auto") != "auto"
    ):
        raise RecipeError(
            [
                Problem(
                    "model",
                    "preset",
                    f"the preset {requested.model['preset']} chooses the networks, and model.name is '{requested.model['name']}'",
                    "remove one of them, or list the networks as model.members",
                )
            ]
        )
    complete = []
    for number, table in enumerate(members):
        problems = [
            Problem(
                "model", "members", f"member {number} sets {path}, which is the same for all members", hint
            )
            for path, hint in _refused(table)
        ]
        if problems:
            raise RecipeError(problems)
        try:
            own = resolve(_with(requested.replace(_ONE), table), facts).recipe
        except RecipeError as cause:
            raise RecipeError(
                [
                    Problem(
                        "model",
                        "members",
                        f"member {number}: [{each.section}] {each.key or ''}: {each.message}",
                        each.hint,
                    )
                    for each in cause.problems
                ]
            ) from cause
        complete.append(_differences(resolved.recipe, own))
    recipe = resolved.recipe.replace({"model.members": tuple(complete)})
    return Resolved(recipe, resolved.reasons)


def _refused(table: Mapping[str, Any]) -> list[tuple[str, str]]:
    varied = f'members may differ in keys of {", ".join(VARIED)}, such as "optimizer.lr"'
    return [
        (path, varied if path.partition(".")[0] not in VARIED else "set it in the recipe itself")
        for path in table
        if path.partition(".")[0] not in VARIED or path in SHARED or "." not in path
    ]


def _with(recipe: Recipe, table: Mapping[str, Any]) -> Recipe:
    """Return a recipe with other values; of a section whose method changes, without the keys that the new one lacks."""
    sections = {name: dict(values) for name, values in recipe.items()}
    for path, name in table.items():
        section, _, key = path.partition(".")
        if key == "name" and name != sections.get(section, {}).get("name"):
            known = section_parameters(SECTIONS[section], name)
            if known is not None:
                sections[section] = {
                    each: value for each, value in sections[section].items() if each in known
                }
    return Recipe.of(sections).replace(table)


def _differences(base: Recipe, other: Recipe) -> dict[str, Any]:
    """Return the keys of a resolved recipe whose values differ from those of another; all of a section of another method."""
    return {
        f"{section}.{key}": value
        for section in VARIED
        for key, value in getattr(other, section).items()
        if f"{section}.{key}" not in SHARED
        and (
            getattr(base, section).get("name") != getattr(other, section).get("name")
            or getattr(base, section).get(key) != value
        )
    }
