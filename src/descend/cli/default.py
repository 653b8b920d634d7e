"""The default recipe as commented TOML: every key with its type, default and choices."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from descend.param_types import MISSING, Parameter, check, describe
from descend.recipe.catalogue import CATALOGUE, CHOICES, find
from descend.recipe.docstrings import about_arguments
from descend.recipe.parameters import of_settings
from descend.recipe.sections import SECTIONS, Section, constructor_parameters
from descend.recipe.toml import dump

__all__ = ["default_recipe"]

NONE = ', or "none"'

_HEAD = """\
# Every key of a recipe, with its default and its allowed values. Keys that are left out or "auto" are chosen
# for the data: descend recipe --explain DATA prints the choices with their reasons.
# A section with a name also takes the keys of the named method, which are shown here as comments.
"""


def default_recipe(*, explain: bool = False) -> str:
    """Return the default recipe as TOML. It is a valid recipe, equivalent to an empty one.

    Args:
        explain: whether to explain each key in a comment above it. Default False.

    >>> print(default_recipe().splitlines()[-1])
    workers = 0  # an integer >= 0
    """
    return _HEAD + "".join(line for section in SECTIONS.values() for line in _section(section, explain))


def _section(section: Section, explain: bool) -> Iterator[str]:
    yield f"\n[{section.name}]  # {section.about}\n"
    family = CATALOGUE.get(section.name, {})
    if family:
        yield f'name = "auto"  # one of: {", ".join(family)}; or an import path\n'
    own = of_settings(section.settings) if section.settings else {}
    yield from _keys(section.name, own, about_arguments(section.settings) if explain else {}, "")
    for name in family:
        constructor = find(section.name, name)
        parameters = constructor_parameters(section, name) or {}
        about = about_arguments(constructor) if explain else {}
        if parameters:
            yield f'\n# name = "{name}"\n'
        yield from _keys(section.name, parameters, about, "# ")


def _keys(
    section: str, parameters: Mapping[str, Parameter], about: Mapping[str, str], mark: str
) -> Iterator[str]:
    for key, parameter in parameters.items():
        if key in about:
            yield from (f"{mark}# {line}\n" for line in textwrap.wrap(about[key], 96))
        default: Any = parameter.default if parameter.default is not MISSING else "required"
        remark = _choices(section, key) or describe(parameter.annotation)
        line = dump({section: {key: default}}, {f"{section}.{key}": remark}).splitlines()[1]
        if (
            default is None and check(parameter, "none")[0] is not None
        ):  # None can be specified only by leaving the key out
            line = f"# {key} =   # {remark.removesuffix(NONE)}; leave out for none"
        yield f"{mark}{line}\n"


def _choices(section: str, key: str) -> str:
    family = CHOICES.get((section, key))
    return f"one of: {', '.join(family)}; or an import path" if family else ""
