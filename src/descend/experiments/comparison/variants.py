"""The variants of a comparison: all combinations of the values of some keys of a recipe."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from descend.arguments import kind_of
from descend.errors import Problem, RecipeError, UserError, unparsed_option
from descend.interface import option
from descend.recipe import Recipe
from descend.recipe.sections import SECTIONS, section_parameters
from descend.recipe.toml import parse_value, path_of

__all__ = ["Variant", "parse_variation", "parse_variations", "variants_of"]

_OPENING, _CLOSING = "[{", "]}"


@dataclass(frozen=True)
class Variant:
    """One combination of the varied values.

    Args:
        name: a short name, unique among the variants.
        settings: the varied values, ``{"section.key": value}``.
        recipe: the recipe with these settings.
    """

    name: str
    settings: Mapping[str, Any]
    recipe: Recipe

    @property
    def sets_lr(self) -> bool:
        """Whether the recipe sets the learning rate, so that there is nothing to tune."""
        return bool(self.recipe.get("optimizer.lr", "auto") != "auto")

    @property
    def accepts_lr(self) -> bool:
        """Whether its optimizer has a learning rate."""
        name = self.recipe.get("optimizer.name", "auto")
        parameters = section_parameters(SECTIONS["optimizer"], name)
        return name == "auto" or parameters is None or "lr" in parameters

    def with_lr(self, lr: float | None) -> Recipe:
        """Return the recipe with a learning rate; None leaves it unchanged."""
        return self.recipe if lr is None else self.recipe.replace({"optimizer.lr": lr})


def variants_of(recipe: Recipe, vary: Mapping[str, Iterable[Any]]) -> list[Variant]:
    """Return a variant for each combination of values; those of the first key change slowest.

    Args:
        recipe: the settings that all variants share.
        vary: for each ``"section.key"`` (or section), its values.

    Raises:
        UserError: there are fewer than two variants.
        RecipeError: a key or a value is invalid; all such problems at once.

    >>> [variant.name for variant in variants_of(Recipe(), {"optimizer.name": ["sgd", "adam"], "model.dropout": [0, 0.5]})]
    ['sgd, dropout=0', 'sgd, dropout=0.5', 'adam, dropout=0', 'adam, dropout=0.5']
    """
    if not isinstance(vary, Mapping):
        raise UserError(
            "vary: expected a mapping of keys to their values, such as {'optimizer.name': ['sgd', 'adam']}, got "
            + kind_of(vary)
        )
    values_of = {path: _values(path, values) for path, values in vary.items()}
    combinations = [
        dict(zip(values_of, values, strict=True)) for values in itertools.product(*values_of.values())
    ]
    if len(combinations) < 2:
        raise UserError(
            "a comparison needs at least two variants: specify at least two values of a key, such as "
            + option("--vary optimizer.name=sgd,adam", 'vary={"optimizer.name": ["sgd", "adam"]}')
        )
    problems: dict[str, Problem] = {}
    variants: list[Variant] = []
    for settings in combinations:
        try:
            changed = recipe.replace(settings, source=option("--vary", "vary"))
        except RecipeError as error:
            problems |= {str(problem): problem for problem in error.problems}
            continue
        variants.append(Variant(_name(settings), settings, changed))
    if problems:
        raise RecipeError(list(problems.values()))
    return variants


def _values(path: str, values: Iterable[Any]) -> list[Any]:
    if isinstance(values, (str, Mapping)) or not isinstance(values, Iterable):
        raise UserError(f"vary: '{path}': expected a list of values, got {values!r}")
    listed = list(values)
    if not listed:
        raise UserError(f"vary: '{path}' has no values; specify at least one")
    texts = [repr(path_of(value)) for value in listed]
    repeated = next((text for text in texts if texts.count(text) > 1), None)
    if repeated is not None:
        raise UserError(f"vary: '{path}' has the value {repeated} more than once; remove the duplicate")
    return listed


def _name(settings: Mapping[str, Any]) -> str:
    return ", ".join(_label(path, value) for path, value in settings.items())


def _label(path: str, value: Any) -> str:
    """The value alone if it is a name, otherwise with its key."""
    shown = path_of(value)
    if isinstance(shown, str):
        return shown.rpartition(":")[2]
    if isinstance(shown, Mapping):
        inner = dict(shown)
        name = str(path_of(inner.pop("name", path.rpartition(".")[2])))
        return name + (f"({', '.join(_label(key, one) for key, one in inner.items())})" if inner else "")
    text = str(shown).lower() if isinstance(shown, bool) else str(shown)
    return f"{path.rpartition('.')[2]}={text}"


def parse_variation(text: str) -> tuple[str, list[Any]]:
    """Parse ``section.key=a,b,c`` into the key and its values. Values are TOML; a bare word is a string.

    Raises:
        UserError: there is no ``=``, or a value is missing or not TOML.

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
        raise UserError("a value between two commas is missing")
    return path, [parse_value(piece) for piece in pieces]


def parse_variations(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Parse several ``section.key=a,b,c``; the values of a repeated key are combined.

    Raises:
        RecipeError: some cannot be parsed; all at once.
    """
    variations: dict[str, list[Any]] = {}
    problems: list[Problem] = []
    for text in texts:
        try:
            path, values = parse_variation(text)
        except UserError as error:
            problems.append(unparsed_option("--vary", text, str(error)))
            continue
        variations.setdefault(path, []).extend(values)
    if problems:
        raise RecipeError(problems)
    return variations


def _pieces(text: str) -> list[str]:
    """Split at commas that are outside of lists, tables and quoted strings."""
    pieces, depth, quote, start = [], 0, "", 0
    for index, character in enumerate(text):
        if quote:
            quote = "" if character == quote and (quote == "'" or text[index - 1] != "\\") else quote
        elif character in "\"'":
            quote = character
        elif character in _OPENING + _CLOSING:
            depth += 1 if character in _OPENING else -1
        elif character == "," and depth == 0:
            pieces.append(text[start:index].strip())
            start = index + 1
    return [*pieces, text[start:].strip()]
