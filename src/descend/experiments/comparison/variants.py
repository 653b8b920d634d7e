"""What is varied: every combination of the values of some keys of a recipe."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from descend.errors import Problem, RecipeError, UserError
from descend.recipe import Recipe
from descend.recipe.sections import SECTIONS, section_parameters
from descend.recipe.toml import parse_value, path_of

__all__ = ["Variant", "parse_variation", "parse_variations", "variants_of"]

_OPENING, _CLOSING = "[{", "]}"


@dataclass(frozen=True)
class Variant:
    """One combination.

    Args:
        name: short and its own among the variants.
        settings: what is varied, ``{"section.key": value}``.
        recipe: with these settings.
    """

    name: str
    settings: Mapping[str, Any]
    recipe: Recipe

    @property
    def says_rate(self) -> bool:
        """Whether the learning rate is said, so that there is nothing to tune."""
        return bool(self.recipe.get("optimizer.lr", "auto") != "auto")

    @property
    def has_rate(self) -> bool:
        """Whether its optimizer takes a learning rate."""
        name = self.recipe.get("optimizer.name", "auto")
        known = section_parameters(SECTIONS["optimizer"], name)
        return name == "auto" or known is None or "lr" in known

    def at(self, rate: float | None) -> Recipe:
        """Its recipe at a learning rate; None leaves the rate as it is."""
        return self.recipe if rate is None else self.recipe.replace({"optimizer.lr": rate})


def variants_of(recipe: Recipe, vary: Mapping[str, Iterable[Any]]) -> list[Variant]:
    """Every combination of values, the first key's changing slowest.

    Args:
        recipe: what all have in common.
        vary: for each ``"section.key"`` (or section) the values it takes.

    Raises:
        UserError: there is nothing to compare.
        RecipeError: a key or a value cannot be used; all such problems at once.

    >>> [variant.name for variant in variants_of(Recipe(), {"optimizer.name": ["sgd", "adam"], "model.dropout": [0, 0.5]})]
    ['sgd, dropout=0', 'sgd, dropout=0.5', 'adam, dropout=0', 'adam, dropout=0.5']
    """
    listed = {path: _values(path, values) for path, values in vary.items()}
    combined = [dict(zip(listed, values, strict=True)) for values in itertools.product(*listed.values())]
    if len(combined) < 2:
        raise UserError(
            "a comparison needs at least two variants: give a key two values, such as "
            '--vary optimizer.name=sgd,adam (vary={"optimizer.name": ["sgd", "adam"]})'
        )
    problems: dict[str, Problem] = {}
    found: list[Variant] = []
    for settings in combined:
        try:
            changed = recipe.replace(settings, source="--vary")
        except RecipeError as cause:
            problems |= {str(problem): problem for problem in cause.problems}
            continue
        found.append(Variant(_name(settings), settings, changed))
    if problems:
        raise RecipeError(list(problems.values()))
    return found


def _values(path: str, values: Iterable[Any]) -> list[Any]:
    if isinstance(values, (str, Mapping)) or not isinstance(values, Iterable):
        raise UserError(f"vary: '{path}' needs a list of values; found {values!r}")
    listed = list(values)
    if not listed:
        raise UserError(f"vary: '{path}' has no values")
    shown = [repr(path_of(value)) for value in listed]
    twice = next((text for text in shown if shown.count(text) > 1), None)
    if twice is not None:
        raise UserError(f"vary: '{path}' has the value {twice} twice; a variant is compared with others only")
    return listed


def _name(settings: Mapping[str, Any]) -> str:
    return ", ".join(_words(path, value) for path, value in settings.items())


def _words(path: str, value: Any) -> str:
    """A name speaks for itself; a number needs its key."""
    shown = path_of(value)
    if isinstance(shown, str):
        return shown.rpartition(":")[2]
    if isinstance(shown, Mapping):
        inner = dict(shown)
        name = str(path_of(inner.pop("name", path.rpartition(".")[2])))
        return name + (f"({', '.join(_words(key, one) for key, one in inner.items())})" if inner else "")
    text = str(shown).lower() if isinstance(shown, bool) else str(shown)
    return f"{path.rpartition('.')[2]}={text}"


def parse_variation(text: str) -> tuple[str, list[Any]]:
    """``section.key=a,b,c`` as the key and its values. A value is TOML; a bare word is a text.

    Raises:
        UserError: there is no ``=``, a value is missing or is not TOML.

    >>> parse_variation("optimizer.name=sgd,adam")
    ('optimizer.name', ['sgd', 'adam'])
    >>> parse_variation("model.hidden=[64, 64],[256]")
    ('model.hidden', [[64, 64], [256]])
    >>> parse_variation('optimizer={name="sgd", momentum=0.9},adam')
    ('optimizer', [{'name': 'sgd', 'momentum': 0.9}, 'adam'])
    """
    path, equals, raw = (part.strip() for part in text.partition("="))
    if not equals or not all(path.split(".")):
        raise UserError("expected section.key=value,value, such as optimizer.name=sgd,adam")
    pieces = _pieces(raw)
    if not all(pieces):
        raise UserError("a value between the commas is missing")
    return path, [parse_value(piece) for piece in pieces]


def parse_variations(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Several of them; values of a key that is named again are added to it.

    Raises:
        RecipeError: all texts that cannot be read.
    """
    found: dict[str, list[Any]] = {}
    problems: list[Problem] = []
    for text in texts:
        try:
            path, values = parse_variation(text)
        except UserError as cause:
            problems.append(Problem("--vary", text if len(text) <= 60 else text[:57] + "...", str(cause)))
            continue
        found.setdefault(path, []).extend(values)
    if problems:
        raise RecipeError(problems)
    return found


def _pieces(text: str) -> list[str]:
    """The text cut at commas that stand in no list, table or quoted text."""
    pieces, depth, quote, begin = [], 0, "", 0
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote and (quote == "'" or text[place - 1] != "\\") else quote
        elif letter in "\"'":
            quote = letter
        elif letter in _OPENING + _CLOSING:
            depth += 1 if letter in _OPENING else -1
        elif letter == "," and depth == 0:
            pieces.append(text[begin:place].strip())
            begin = place + 1
    return [*pieces, text[begin:].strip()]
