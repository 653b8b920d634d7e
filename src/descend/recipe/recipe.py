"""The recipe: an immutable, validated record of what was asked of training.

A recipe holds what its author said and nothing else; defaults stay with their constructors until
:mod:`descend.recipe.resolve` fills them in for given data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from descend.constraints import CONDITIONS
from descend.errors import Problem, RecipeError, UserError
from descend.optim.renamed import with_current_names
from descend.recipe.catalogue import CHOICES
from descend.recipe.sections import SECTIONS
from descend.recipe.toml import dump, parse, parse_assignment
from descend.recipe.validate import validated

__all__ = ["Recipe"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to train and how, a section per design choice; every key may be left to its default.

    A section is a mapping; where it chooses a method, a bare name stands for ``{"name": ...}``. Names
    are those of the catalogue (``descend methods``), import paths, or, in Python, classes themselves.

    Args:
        data: source columns, split, scaling, batches (:class:`descend.data.settings.DataSettings`).
        model: the network: ``name`` and its constructor's arguments.
        loss: what is minimised.
        init: how weights start.
        optimizer: the direction of a step.
        schedule: the size of a step over time.
        gradient: accumulation and clipping.
        regularize: weight decay and penalties.
        constrain: sets that weights stay in.
        stop: when to stop and what to keep.
        checkpoint: how often to save.
        engine: device, precision, threads.

    Raises:
        RecipeError: with every problem found, each with section, key, what was expected and the nearest
            valid name.

    >>> recipe = Recipe(optimizer={"name": "sgd", "lr": 0.1}, model={"hidden": [64, 64]})
    >>> recipe.replace({"optimizer.lr": 0.2}).get("optimizer.lr")
    0.2
    >>> Recipe(optimizer={"name": "adm"})
    Traceback (most recent call last):
        ...
    descend.errors.RecipeError: The recipe has a problem:
      [optimizer] name: no such optimizer 'adm'; did you mean 'adam'?
    """

    data: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    loss: Mapping[str, Any] = field(default_factory=dict)
    init: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    schedule: Mapping[str, Any] = field(default_factory=dict)
    gradient: Mapping[str, Any] = field(default_factory=dict)
    regularize: Mapping[str, Any] = field(default_factory=dict)
    constrain: Mapping[str, Any] = field(default_factory=dict)
    stop: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: Mapping[str, Any] = field(default_factory=dict)
    engine: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        for section, values in validated(given).items():
            object.__setattr__(self, section, MappingProxyType(values))

    @classmethod
    def of(cls, sections: Mapping[str, Any], *, source: str = "", allow_imports: bool = True) -> Recipe:
        """A recipe from a mapping of sections, such as a parsed file.

        Args:
            sections: section name to its keys.
            source: what messages call the place the sections come from.
            allow_imports: whether names may be import paths; importing runs code.
        """
        return cls._checked(validated(dict(sections), source=source, allow_imports=allow_imports))

    @classmethod
    def _checked(cls, sections: Mapping[str, Mapping[str, Any]]) -> Recipe:
        """A recipe from sections whose values have been checked already."""
        made = object.__new__(cls)
        for section in SECTIONS:
            object.__setattr__(made, section, MappingProxyType(dict(sections.get(section, {}))))
        return made

    @classmethod
    def loads(cls, text: str, *, source: str = "recipe", allow_imports: bool = True) -> Recipe:
        """A recipe from TOML text.

        >>> Recipe.loads('[optimizer]\\nname = "sgd"').get("optimizer.name")
        'sgd'
        """
        try:
            sections = parse(text)
        except UserError as cause:
            raise UserError(f"{source}: {cause}") from cause
        if isinstance(sections.get("optimizer"), Mapping):  # the recipe of an older run
            sections["optimizer"] = with_current_names(sections["optimizer"])
        return cls.of(sections, source=source, allow_imports=allow_imports)

    @classmethod
    def load(cls, path: str | Path, *, allow_imports: bool = False) -> Recipe:
        """A recipe from a TOML file. Import paths in it are refused unless ``allow_imports``."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise UserError(f"no such recipe file: {path}") from None
        except (OSError, UnicodeDecodeError) as cause:
            raise UserError(f"cannot read the recipe {path}: {cause}") from cause
        return cls.loads(text, source=str(path), allow_imports=allow_imports)

    def with_assignments(self, assignments: list[str]) -> Recipe:
        """This recipe with command-line assignments, ``section.key=value``, applied.

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
                problems.append(Problem("--set", text if len(text) <= 60 else text[:57] + "...", str(cause)))
        if problems:
            raise RecipeError(problems)
        return self.replace(changes, source="--set")

    def replace(self, changes: Mapping[str, Any], *, source: str = "") -> Recipe:
        """A new recipe with ``{"section.key": value}`` changed; the name of a section may stand alone.

        Where the name of a method changes, arguments of the old one that the new one does not take must be
        removed by the caller; they are reported like any unknown key.
        """
        sections: dict[str, dict[str, Any]] = {}
        problems: list[Problem] = []
        for path, value in changes.items():
            section, dot, key = path.partition(".")
            if section in SECTIONS:
                sections.setdefault(section, dict(getattr(self, section)))
            if not dot and isinstance(value, Mapping):
                sections.setdefault(section, {}).update(value)
            elif not dot:
                sections.setdefault(section, {})["name"] = value
            elif "." in key:
                outer, _, inner = key.partition(".")
                before = sections.setdefault(section, {}).get(outer, {})
                if (section, outer) in CHOICES and isinstance(before, str):
                    before = {"name": before}
                elif section == "constrain" and (isinstance(before, (str, list, tuple)) or callable(before)):
                    before = {"function" if outer in CONDITIONS else "pattern": before}
                if isinstance(before, Mapping):
                    sections[section][outer] = {**before, inner: value}
                else:
                    problems.append(Problem(section, key, f"{outer} is no table of keys", source=source))
            elif not key or not section:
                problems.append(Problem(section, key, "expected section.key", source=source))
            else:
                sections.setdefault(section, {})[key] = value
        if problems:
            raise RecipeError(problems)
        # The others have been checked when this recipe was made.
        return Recipe._checked({**dict(self.items()), **validated(sections, source=source)})

    def get(self, path: str, default: Any = None) -> Any:
        """The value said at ``section.key``, or ``default`` where the recipe says nothing."""
        section, _, key = path.partition(".")
        return getattr(self, section).get(key, default)

    def items(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Sections and what is said in them, in the order of the lecture."""
        for section in SECTIONS:
            yield section, getattr(self, section)

    def specified(self) -> dict[str, Any]:
        """Everything said, as ``{"section.key": value}``.

        >>> Recipe(optimizer="sgd").specified()
        {'optimizer.name': 'sgd'}
        """
        return {
            f"{section}.{key}": value for section, values in self.items() for key, value in values.items()
        }

    def to_toml(self, comments: Mapping[str, str] | None = None) -> str:
        """TOML text; ``comments`` maps ``section.key`` to a remark behind its line.

        >>> print(Recipe(optimizer={"name": "sgd", "lr": 0.1}).to_toml({"optimizer.lr": "as asked"}))
        [optimizer]
        name = "sgd"
        lr = 0.1  # as asked
        <BLANKLINE>
        """
        return dump({name: values for name, values in self.items() if values}, comments or {})

    def __hash__(self) -> int:
        return hash(self.to_toml())

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, ({name: dict(values) for name, values in self.items()},))


def _rebuild(sections: dict[str, dict[str, Any]]) -> Recipe:
    return Recipe(**sections)
