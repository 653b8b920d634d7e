"""The recipe: an immutable, validated record of the specified settings of a training.

A recipe holds the settings that its author specified and nothing else; defaults stay with their constructors until
:mod:`descend.recipe.resolve` fills them in for given data.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from descend.arguments import kind_of
from descend.errors import Problem, RecipeError, UserError, closest_file, did_you_mean, unparsed_option
from descend.recipe.nesting import NOTHING, merged, nested
from descend.recipe.renamed import with_current_names
from descend.recipe.sections import SECTIONS
from descend.recipe.toml import dump, parse, parse_assignment
from descend.recipe.validate import section_of, validated

if TYPE_CHECKING:
    from descend.recipe.typed import (
        Checkpoint,
        Constrain,
        Data,
        Engine,
        Gradient,
        InitSpec,
        LossSpec,
        ModelSpec,
        OptimizerSpec,
        Regularize,
        ScheduleSpec,
        Stop,
    )

__all__ = ["Recipe"]

_Init = TypeVar("_Init", bound=Callable[..., None])

_OTHER_FORMATS = (".yaml", ".yml", ".json")


def _near(path: Path) -> str:
    """Return the TOML file with the most similar name as a question; empty if there is none."""
    close = closest_file(path.name, [file.name for file in path.parent.glob("*.toml")])
    return "" if close is None else f"; did you mean '{path.parent / close}'?"


def _whole_key(assignment: str) -> str:
    """Return the assignment with the part of its key that was left out, as a question; empty if there is none."""
    name, _, value = assignment.partition("=")
    if name in SECTIONS:
        return f"; did you mean '{name}.name={value}'?" if SECTIONS[name].named else ""
    owner = section_of(name)
    return "" if owner is None else f"; did you mean '{owner}.{assignment}'?"


def _remedy(name: str) -> str:
    """Return how to specify what was passed as a section but is none."""
    if name.partition(".")[0] in SECTIONS:
        return "for keys in the form 'section.key': Recipe.of({...})"
    owner = section_of(name)
    return did_you_mean(name, SECTIONS) if owner is None else f"did you mean {owner}={{{name!r}: ...}}?"


def _with_sections_by_name(init: _Init) -> _Init:
    """Return the constructor with messages that name the remedy if it is called in another way."""

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **sections: Any) -> None:
        if args:
            raise TypeError(
                "Recipe takes its sections by name: Recipe(optimizer={'lr': 0.1}); for a dictionary of sections: "
                "Recipe.of({'optimizer': {'lr': 0.1}})"
            )
        for name in sections:
            if name not in SECTIONS:
                raise TypeError(f"Recipe has no section {name!r}; {_remedy(name)}")
        init(self, **sections)

    return cast(_Init, checked)  # type checkers see the signature of the constructor


@dataclass(frozen=True, init=False, repr=False)
class Recipe:
    """What to train and how, a section per design choice; every key may be left to its default.

    A section is given in typed form, such as ``Adam(lr=1e-3)`` or ``Stop(patience=5)`` (:mod:`descend.recipe`), or as a
    mapping, such as ``{"name": "adam", "lr": 1e-3}``; where it chooses a method, a bare name stands for
    ``{"name": ...}``. Names are those of the catalogue (``descend methods``), import paths, or, in Python, classes
    themselves. All forms give equal recipes.

    Args:
        data: target and other columns, split, scaling, batches (:class:`descend.data.settings.DataSettings`).
        model: the network: ``name`` and its constructor's arguments.
        loss: what is minimized.
        init: how the weights are initialized.
        optimizer: the direction of a step.
        schedule: the learning rate as a function of the step.
        gradient: accumulation and clipping.
        regularize: weight decay and penalties.
        constrain: sets that the weights stay in.
        stop: when to stop and which weights to keep.
        checkpoint: how often to save.
        engine: device, precision, threads.

    Raises:
        RecipeError: lists every problem, each with its section and key, what was expected, and the nearest valid name.

    >>> recipe = Recipe(optimizer={"name": "sgd", "lr": 0.1}, model={"hidden": [64, 64]})
    >>> recipe.replace({"optimizer.lr": 0.2}).get("optimizer.lr")
    0.2
    >>> Recipe(optimizer={"name": "adm"})
    Traceback (most recent call last):
        ...
    descend.errors.RecipeError: The recipe has a problem:
      [optimizer] name: no such optimizer 'adm'; did you mean 'adam'?
    """

    data: Mapping[str, Any]
    model: Mapping[str, Any]
    loss: Mapping[str, Any]
    init: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    schedule: Mapping[str, Any]
    gradient: Mapping[str, Any]
    regularize: Mapping[str, Any]
    constrain: Mapping[str, Any]
    stop: Mapping[str, Any]
    checkpoint: Mapping[str, Any]
    engine: Mapping[str, Any]

    @_with_sections_by_name
    def __init__(
        self,
        *,
        data: Data | Mapping[str, Any] = NOTHING,
        model: ModelSpec | Mapping[str, Any] | str | Callable[..., Any] = NOTHING,
        loss: LossSpec | Mapping[str, Any] | str | Callable[..., Any] = NOTHING,
        init: InitSpec | Mapping[str, Any] | str | Callable[..., Any] = NOTHING,
        optimizer: OptimizerSpec | Mapping[str, Any] | str | Callable[..., Any] = NOTHING,
        schedule: ScheduleSpec | Mapping[str, Any] | str | Callable[..., Any] = NOTHING,
        gradient: Gradient | Mapping[str, Any] = NOTHING,
        regularize: Regularize | Mapping[str, Any] = NOTHING,
        constrain: Constrain | Mapping[str, Any] = NOTHING,
        stop: Stop | Mapping[str, Any] = NOTHING,
        checkpoint: Checkpoint | Mapping[str, Any] = NOTHING,
        engine: Engine | Mapping[str, Any] = NOTHING,
    ) -> None:
        sections: dict[str, Any] = {
            "data": data,
            "model": model,
            "loss": loss,
            "init": init,
            "optimizer": optimizer,
            "schedule": schedule,
            "gradient": gradient,
            "regularize": regularize,
            "constrain": constrain,
            "stop": stop,
            "checkpoint": checkpoint,
            "engine": engine,
        }
        for section, values in validated(sections).items():
            object.__setattr__(self, section, MappingProxyType(values))

    @classmethod
    def of(cls, sections: Mapping[str, Any], *, source: str = "", allow_imports: bool = True) -> Recipe:
        """Return a recipe made from a mapping of sections, such as a parsed file.

        Args:
            sections: section name to its keys, or ``"section.key"`` to a value, or both.
            source: the name of the place that the sections come from, for messages.
            allow_imports: whether names may be import paths; importing runs their code.

        >>> Recipe.of({"optimizer": "sgd", "optimizer.lr": 0.1, "data.columns.sex": "categorical"})
        Recipe(data={'columns': {'sex': 'categorical'}}, optimizer={'name': 'sgd', 'lr': 0.1})
        """
        return cls._checked(
            validated(nested(sections, source=source), source=source, allow_imports=allow_imports)
        )

    @classmethod
    def _checked(cls, sections: Mapping[str, Mapping[str, Any]]) -> Recipe:
        """Return a recipe made from sections whose values have been checked already."""
        recipe = object.__new__(cls)
        for section in SECTIONS:
            object.__setattr__(recipe, section, MappingProxyType(dict(sections.get(section, {}))))
        return recipe

    @classmethod
    def loads(cls, text: str, *, source: str = "recipe", allow_imports: bool = True) -> Recipe:
        """Parse a recipe in TOML.

        >>> Recipe.loads('[optimizer]\\nname = "sgd"').get("optimizer.name")
        'sgd'
        """
        try:
            sections = parse(text)
        except UserError as cause:
            hint = (
                "; a recipe is in TOML, not in YAML or JSON" if Path(source).suffix in _OTHER_FORMATS else ""
            )
            raise UserError(f"{source}: {cause}{hint}") from cause
        sections = with_current_names(sections)  # it may be the recipe of an older run
        return cls.of(sections, source=source, allow_imports=allow_imports)

    @classmethod
    def load(cls, path: str | Path, *, allow_imports: bool = False) -> Recipe:
        """Load a recipe from a TOML file. Import paths in it are refused unless ``allow_imports``."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise UserError(f"no such recipe file: {path}{_near(Path(path))}") from None
        except IsADirectoryError:
            raise UserError(f"{path} is a folder; expected a recipe file in TOML") from None
        except UnicodeDecodeError as cause:
            raise UserError(
                f"{path} is not UTF-8 text (byte {cause.start}); expected a recipe file in TOML"
            ) from cause
        except (OSError, ValueError) as cause:
            raise UserError(
                f"cannot read the recipe {path}: {getattr(cause, 'strerror', None) or cause}"
            ) from cause
        return cls.loads(text, source=str(path), allow_imports=allow_imports)

    def with_assignments(self, assignments: list[str]) -> Recipe:
        """Return this recipe with command-line assignments, ``section.key=value``, applied.

        >>> Recipe().with_assignments(["optimizer.name=sgd", "model.hidden=[64, 64]"]).get("model.hidden")
        (64, 64)
        """
        problems: list[Problem] = []
        changes: dict[str, Any] = {}
        for text in assignments:
            try:
                path, value = parse_assignment(text)
                changes[path] = value
            except UserError as cause:
                problems.append(unparsed_option("--set", text, str(cause) + _whole_key(text)))
        if problems:
            raise RecipeError(problems)
        return self.replace(changes, source="--set")

    def replace(self, changes: Mapping[str, Any] = NOTHING, *, source: str = "", **sections: Any) -> Recipe:
        """Return a new recipe with changed values, ``{"section.key": value}`` or ``{"section": values}``.

        A section's values are merged into those that are there; a bare name changes the section's method. Settings of
        the old method that the new one does not take must be removed by the caller: they are reported like any
        unknown key.

        Args:
            changes: the changed values.
            source: the name of the place that they come from, for messages.
            **sections: sections by name, as the constructor takes them: ``replace(optimizer={"lr": 0.1})``.

        Raises:
            RecipeError: a key does not exist, has two different values, or a value does not fit.
        """
        if not isinstance(changes, Mapping):
            raise TypeError(
                f"replace expects a mapping such as {{'optimizer.lr': 0.1}}, got {kind_of(changes)}; from a recipe, pass "
                "recipe.specified()"
            )
        for name in sections:
            if name not in SECTIONS:
                raise TypeError(f"Recipe has no section {name!r}; {did_you_mean(name, SECTIONS)}")
        if repeated := [name for name in sections if name in changes]:
            raise TypeError(f"replace: the section {repeated[0]!r} is specified twice")
        changed = merged(dict(self.items()), {**changes, **sections}, source)
        # The other sections were checked when this recipe was made.
        return Recipe._checked({**dict(self.items()), **validated(changed, source=source)})

    def get(self, path: str, default: Any = None) -> Any:
        """Return the value specified at ``section.key``, or ``default`` where there is none."""
        section, _, key = path.partition(".")
        return getattr(self, section).get(key, default)

    def items(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield the name of each section and its specified values."""
        for section in SECTIONS:
            yield section, getattr(self, section)

    def specified(self) -> dict[str, Any]:
        """Return every specified value, as ``{"section.key": value}``.

        >>> Recipe(optimizer="sgd").specified()
        {'optimizer.name': 'sgd'}
        """
        return {
            f"{section}.{key}": value for section, values in self.items() for key, value in values.items()
        }

    def to_toml(self, comments: Mapping[str, str] | None = None) -> str:
        """Return the recipe in TOML; ``comments`` maps ``section.key`` to a comment at the end of its line.

        >>> print(Recipe(optimizer={"name": "sgd", "lr": 0.1}).to_toml({"optimizer.lr": "tuned"}))
        [optimizer]
        name = "sgd"
        lr = 0.1  # tuned
        <BLANKLINE>
        """
        return dump({name: values for name, values in self.items() if values}, comments or {})

    def __repr__(self) -> str:
        given = (f"{name}={dict(values)!r}" for name, values in self.items() if values)
        return f"Recipe({', '.join(given)})"

    def __hash__(self) -> int:
        return hash(self.to_toml())

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, ({name: dict(values) for name, values in self.items()},))


def _rebuild(sections: dict[str, dict[str, Any]]) -> Recipe:
    return Recipe(**sections)
