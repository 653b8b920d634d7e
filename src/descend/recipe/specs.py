"""Typed sections of a recipe: one class for each section, and one for each method that a section can choose.

``Recipe(optimizer=Adam(lr=1e-3), stop=Stop(patience=5))`` equals
``Recipe(optimizer={"name": "adam", "lr": 1e-3}, stop={"patience": 5})``. The classes are derived from the catalogue
and from the dataclasses of the sections when they are first used, so nothing is declared twice. Their static types,
for editors and type checkers, are in the generated stub ``typed.pyi`` (:mod:`descend.recipe.stubs`).
"""

from __future__ import annotations

import functools
import inspect
import textwrap
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

from descend.param_types import MISSING, Parameter
from descend.recipe.catalogue import CATALOGUE, CHOICES
from descend.recipe.docstrings import about_arguments, summary_of
from descend.recipe.sections import (
    SECTIONS,
    any_parameters,
    choice_parameters,
    section_parameters,
)

__all__ = [
    "FAMILIES",
    "Family",
    "Spec",
    "SpecType",
    "base_names",
    "misplaced_spec",
    "plain_values",
    "spec_class",
    "spec_names",
    "spec_types",
]


@dataclass(frozen=True)
class Family:
    """The methods that one key of a section chooses from.

    Args:
        section: the section of the recipe.
        key: the key whose value is a name of the family; ``"name"`` where the section itself chooses.
        base: the name of the family in class names, such as ``Optimizer``.
        suffix: what the class names of its methods end with, so that they are unique and clear among all families.
    """

    section: str
    key: str
    base: str
    suffix: str = ""

    @property
    def methods(self) -> Mapping[str, Callable[..., Any]]:
        """Names and constructors."""
        return CATALOGUE[self.section] if self.key == "name" else CHOICES[self.section, self.key]

    def class_name(self, method: str) -> str:
        """The class of a method.

        >>> FAMILIES[0].class_name("mlp"), FAMILIES[1].class_name("cross_entropy")
        ('MLP', 'CrossEntropyLoss')
        """
        return "".join(_SPELLING.get(word, word.capitalize()) for word in method.split("_")) + self.suffix


FAMILIES = (
    Family("model", "name", "Model"),
    Family("loss", "name", "Loss", "Loss"),
    Family("init", "name", "Init", "Init"),
    Family("optimizer", "name", "Optimizer"),
    Family("schedule", "name", "Schedule"),
    Family("data", "scale", "Scale", "Scale"),
    Family("data", "target_scale", "TargetScale", "TargetScale"),
    Family("data", "categories", "CategoryEncoding", "Categories"),
    Family("data", "augment", "Augmentation"),
    Family("model", "activation", "Activation"),
    Family("model", "norm", "Norm", "Norm"),
    Family("model", "output", "Output", "Output"),
    Family("model", "calibration", "Calibration", "Calibration"),
    Family("model", "number_embedding", "NumberEmbedding", "Embedding"),
    Family("model", "category_embedding", "CategoryEmbedding", "Categories"),
    Family("regularize", "orthogonality", "Orthogonality", "Penalty"),
)

# fmt: off
_SPELLING = {
    word.lower(): word
    for word in (
        "ASC", "AdamW", "BCE", "BFGS", "CG", "ConvNet", "DSO", "ELU", "GD", "GELU", "KFAC", "KL", "L1", "LBFGS", "MC",
        "MLP", "MSE", "MinMax", "NAdam", "OneHot", "PCA", "PG",
        "RAdam", "RMSprop", "RNN", "ReLU", "ResNet", "SCGD", "SELU", "SGD", "SO", "SOAP", "SQN", "SRIP",
        "STRON", "SiLU", "TabM", "TRish", "ZCA",
    )
}
# fmt: on
"""Parts of names that are not written with one capital."""


class Spec:
    """The specified settings of a section or method: a frozen mapping from key to value.

    What is not specified is left to the rules of the default recipe and to the constructors. The values are checked
    when a recipe is made of it, together with the rest of the recipe, so that all problems are reported at once. A spec
    equals the mapping of the same keys and can be used wherever a recipe takes a mapping.
    """

    __slots__ = ("_values",)

    _section: ClassVar[str] = ""
    _key: ClassVar[str | None] = None
    _method: ClassVar[str | None] = None
    _values: dict[str, Any]

    def __init__(self, *positional: Any, **settings: Any) -> None:
        cls = type(self)
        if positional:
            first = next(iter(inspect.signature(cls).parameters), "")
            example = f"{cls.__name__}({first}=...)" if first else f"{cls.__name__}()"
            raise TypeError(
                f"{cls.__name__} describes a part of a recipe and takes keyword arguments only, such as {example}"
            )
        named = {} if cls._method is None else {"name": cls._method}
        object.__setattr__(self, "_values", {**named, **settings})

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def keys(self) -> KeysView[str]:
        """The specified keys; a method's include ``name``."""
        return self._values.keys()

    def values(self) -> ValuesView[Any]:
        """The specified values."""
        return self._values.values()

    def items(self) -> ItemsView[str, Any]:
        """The specified keys and values."""
        return self._values.items()

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or ``default`` where it is not specified."""
        return self._values.get(key, default)

    def __eq__(self, other: object) -> bool:
        return dict(self) == dict(other) if isinstance(other, Mapping) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as of any mapping whose values may be lists

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} cannot be changed; make a new one")

    def __repr__(self) -> str:
        given = (f"{key}={value!r}" for key, value in self.items() if key != "name" or self._method is None)
        return f"{type(self).__name__}({', '.join(given)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self).__name__, dict(self._values))


# At run time a spec is a mapping. Type checkers do not see this, so that they reject a spec in another section.
Mapping.register(Spec)


def _restored(class_name: str, values: dict[str, Any]) -> Spec:
    spec = spec_class(class_name)()
    object.__setattr__(spec, "_values", values)
    return spec


def misplaced_spec(value: Any, section: str) -> str | None:
    """Return what is wrong with a spec, or a class of specs, that is given for a section and describes something else.

    >>> misplaced_spec(spec_class("Stop")(patience=5), "optimizer")
    'expected settings of [optimizer], got Stop, which belongs to [stop]'
    >>> misplaced_spec(spec_class("ReLU"), "model")
    'expected settings of [model], got ReLU, which belongs to the key activation of [model]'
    """
    given = value if isinstance(value, type) else type(value)
    if not issubclass(given, Spec) or (given._section == section and given._key is None):
        return None
    place = f"[{given._section}]" if given._key is None else f"the key {given._key} of [{given._section}]"
    return f"expected settings of [{section}], got {given.__name__}, which belongs to {place}"


def plain_values(value: Any) -> Any:
    """Return a value in which each spec, or class of specs, is replaced by the dict of its settings.

    A spec of a key that has no settings is replaced by its name.

    >>> plain_values([spec_class("Flip"), spec_class("MLP")(activation=spec_class("ReLU")())])
    ['flip', {'name': 'mlp', 'activation': 'relu'}]
    """
    if isinstance(value, type) and issubclass(value, Spec):
        value = value()
    if isinstance(value, Spec) and value._key is not None and set(value) == {"name"}:
        return value["name"]
    if isinstance(value, (Spec, dict)):
        return {key: plain_values(each) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(plain_values(each) for each in value)
    return value


@dataclass(frozen=True)
class SpecType:
    """One typed class: what it describes and which keys it takes.

    Args:
        name: the class's name.
        section: the section that it is, or that it is used in.
        family: the family of the method; None for a whole section.
        method: the method's name in the catalogue; None for a whole section.
    """

    name: str
    section: str
    family: Family | None = None
    method: str | None = None

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The keys with their types and defaults; a class for a whole section takes those of every method of it."""
        if self.family is None:
            return any_parameters(SECTIONS[self.section])
        assert self.method is not None
        section_keys = section_parameters(SECTIONS[self.section]) or {}
        if self.family.key == "name":
            keys = section_parameters(SECTIONS[self.section], self.method) or {}
            # The method's own keys come first.
            return dict(sorted(keys.items(), key=lambda item: item[0] in section_keys))
        return choice_parameters(self.family.methods[self.method]) or {}

    @property
    def arguments(self) -> dict[str, Parameter]:
        """The keyword arguments of the class: the keys, and ``name`` of a section that chooses a method."""
        chooses = self.family is None and SECTIONS[self.section].named
        name = {"name": Parameter("name", str, "auto", self.name)} if chooses else {}
        return {**name, **self.parameters}

    @property
    def doc(self) -> str:
        """The documentation: a summary and the arguments, from the docstrings of what the class describes."""
        section = SECTIONS[self.section]
        subject = section.settings if self.family is None else self.family.methods[str(self.method)]
        if self.family is None:
            summary = f"The section [{self.section}]: {section.about}."
        else:
            summary = summary_of(subject)
        section_keys = self.family is None or self.family.key == "name"
        about = about_arguments(section.settings) if section.settings and section_keys else {}
        if self.family is None:
            for constructor in CATALOGUE.get(self.section, {}).values():
                about = about_arguments(constructor) | about
        else:
            about |= about_arguments(subject)
        lines = ["\n".join(textwrap.wrap(summary, 100))]
        documented = [(key, about[key]) for key in self.parameters if about.get(key)]
        if documented:
            lines += ["", "Args:"]
        for key, text in documented:
            lines += textwrap.wrap(
                f"{key}: {text}", 100, initial_indent="    ", subsequent_indent="        ",
                break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
        return "\n".join(lines)


@functools.cache
def spec_types() -> Mapping[str, SpecType]:
    """Every typed class by its name: the sections, and the methods of each family.

    ``none``, where a family has it, is written as the string.
    """
    types = [SpecType(name.capitalize(), name) for name in SECTIONS]
    types += [
        SpecType(family.class_name(method), family.section, family, method)
        for family in FAMILIES
        for method in family.methods
        if method != "none"
    ]
    return {each.name: each for each in types}


@functools.cache
def base_names() -> Mapping[str, str]:
    """Return the abstract classes, one for each family, with their documentation."""
    return {
        f"{family.base}Spec": f"What may be given for {family.section}.{family.key} in typed form."
        if family.key != "name"
        else f"What may be given for the section [{family.section}] in typed form."
        for family in FAMILIES
    }


def spec_names() -> list[str]:
    """Return the names of all typed classes, the abstract ones included."""
    return sorted([*spec_types(), *base_names()])


@functools.cache
def spec_class(name: str) -> type[Spec]:
    """The typed class of a name.

    Raises:
        KeyError: there is none.

    >>> spec_class("Adam")(lr=0.1), dict(spec_class("Adam")(lr=0.1))
    (Adam(lr=0.1), {'name': 'adam', 'lr': 0.1})
    """
    if name in base_names():
        return type(name, (Spec,), {"__slots__": (), "__module__": _HOME, "__doc__": base_names()[name]})
    described = spec_types()[name]
    family = described.family
    if family is None:
        family = next(
            (each for each in FAMILIES if (each.section, each.key) == (described.section, "name")), None
        )
    base = Spec if family is None else spec_class(f"{family.base}Spec")
    signature = inspect.Signature(
        [
            inspect.Parameter(
                key,
                inspect.Parameter.KEYWORD_ONLY,
                default=parameter.default if parameter.default is not MISSING else inspect.Parameter.empty,
                annotation=parameter.annotation,
            )
            for key, parameter in described.arguments.items()
        ]
    )
    return type(
        name,
        (base,),
        {
            "__slots__": (),
            "__module__": _HOME,
            "__doc__": described.doc,
            "__signature__": signature,
            "_section": described.section,
            "_key": None
            if described.family is None or described.family.key == "name"
            else described.family.key,
            "_method": described.method,
        },
    )


_HOME = "descend.recipe.typed"
