"""Hypothesis strategies: valid recipes over the whole catalogue, facts about data, and arbitrary values."""

from __future__ import annotations

import collections.abc
import datetime
import inspect
import types
import typing
from typing import Any, Literal

import annotated_types
import numpy as np
import torch
from hypothesis import strategies as st

from descend.constraints import CONDITIONS, CONSTRAINTS
from descend.param_types import Parameter
from descend.recipe.catalogue import CATALOGUE, CHOICES
from descend.recipe.facts import Facts
from descend.recipe.sections import SECTIONS, section_parameters

TASKS = ("regression", "multi_regression", "binary", "multiclass")

METRICS: tuple[Any, ...] = (
    "loss",
    "accuracy",
    "top_3",
    "math:sqrt",
    {"function": "math:sqrt", "better": "lower", "takes": "values", "name": "mine"},
)
"""Metrics, as ``stop.monitor`` and ``stop.metrics`` take them."""

names = st.text(st.characters(codec="utf-8"), max_size=8)
"""Any string that a file can contain."""


def valid(annotation: Any) -> st.SearchStrategy[Any]:
    """Values in the domain that a constructor states."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(valid, arguments))
    if annotation is type(None):
        return st.none()
    if origin is collections.abc.Callable:
        return st.nothing()  # a function of one's own is not part of a recipe in TOML
    if origin is typing.Annotated:
        return _bounded(arguments[0], arguments[1:])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(valid(arguments[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(valid, arguments))
    if origin is collections.abc.Mapping and arguments[1] is Any:
        return st.nothing()  # settings of a function of one's own
    if origin is collections.abc.Mapping:
        return st.dictionaries(valid(arguments[0]), valid(arguments[1]), max_size=3)
    simple = {
        bool: st.booleans(),
        str: names,
        int: st.integers(-(2**40), 2**40),
        float: st.floats(-1e30, 1e30),
    }
    return simple[annotation]


def _bounded(base: type, marks: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    low = next((m.gt if isinstance(m, annotated_types.Gt) else m.ge for m in marks
                if isinstance(m, (annotated_types.Gt, annotated_types.Ge))), None)  # fmt: skip
    high = next((m.lt if isinstance(m, annotated_types.Lt) else m.le for m in marks
                 if isinstance(m, (annotated_types.Lt, annotated_types.Le))), None)  # fmt: skip
    if base is int:
        return st.integers(low, high if high is not None else low + 2**40)
    return st.floats(
        low,
        high if high is not None else 1e30,  # PyTorch keeps some settings in float32
        exclude_min=any(isinstance(m, annotated_types.Gt) for m in marks),
        exclude_max=any(isinstance(m, annotated_types.Lt) for m in marks),
        allow_nan=False,
        allow_infinity=False,
    )


@st.composite
def choice(draw: st.DrawFn, section: str, key: str) -> Any:
    """A name of a family, with or without settings."""
    family = CHOICES[section, key]
    name = draw(st.sampled_from(sorted(family)))
    parameters = inspect.signature(family[name]).parameters.values()
    settings = [
        each.name for each in parameters
        if each.default is not each.empty and each.kind is not each.POSITIONAL_ONLY
    ]  # fmt: skip
    if not settings or draw(st.booleans()):
        return name
    function = family[name].__init__ if inspect.isclass(family[name]) else family[name]
    hints = typing.get_type_hints(function, include_extras=True)
    return {"name": name} | {each: draw(valid(hints[each])) for each in settings if draw(st.booleans())}


@st.composite
def constrained(draw: st.DrawFn, name: str) -> Any:
    """A pattern, several, or a table with the settings of a constraint; of a condition import paths of functions."""
    key, known = ("function", "math:sqrt") if name in CONDITIONS else ("pattern", "linear*")
    pattern = draw(st.sampled_from([known, "math:exp" if name in CONDITIONS else "*", (known, known)]))
    hints = typing.get_type_hints({**CONDITIONS, **CONSTRAINTS}[name], include_extras=True)
    hints = {each: hint for each, hint in hints.items() if each not in ("return", "function")}
    table = {key: pattern} | {key: draw(valid(hint)) for key, hint in hints.items() if draw(st.booleans())}
    return draw(st.sampled_from([None, pattern, table]))


def value_of(section: str, parameter: Parameter) -> st.SearchStrategy[Any]:
    """A valid value of a key."""
    if (section, parameter.name) == ("data", "augment"):
        one = choice(section, parameter.name)
        return st.one_of(one, st.lists(one, max_size=3).map(tuple))
    if section == "constrain":
        return constrained(parameter.name)
    if (section, parameter.name) == ("model", "members"):
        return st.just(())  # changes of any keys, which are recipes of their own
    if (section, parameter.name) in (("stop", "monitor"), ("stop", "metrics")):
        one = st.sampled_from(METRICS)
        return one if parameter.name == "monitor" else st.lists(one, max_size=3).map(tuple)
    if (section, parameter.name) in CHOICES:
        return choice(section, parameter.name) if parameter.name != "output" else st.just("auto")
    return valid(parameter.annotation)


@st.composite
def valid_sections(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    """The sections of a valid recipe: any names, any keys of theirs, any values in their domains."""
    found: dict[str, dict[str, Any]] = {}
    for name, section in SECTIONS.items():
        if not draw(st.booleans()):
            continue
        values: dict[str, Any] = {}
        method = draw(st.sampled_from(sorted(CATALOGUE[name]))) if section.named else None
        if method and draw(st.booleans()):
            values["name"] = method
        parameters = section_parameters(section, method)
        assert parameters is not None
        for key in (
            draw(st.lists(st.sampled_from(sorted(parameters)), unique=True, max_size=4)) if parameters else []
        ):
            values[key] = draw(value_of(name, parameters[key]))
        found[name] = values
    optimizer = found.get("optimizer", {})
    for key in ("cost", "positions"):  # their types cannot express the valid forms
        found.get("loss", {}).pop(key, None)
    if isinstance(
        found.get("loss", {}).get("level"), tuple
    ):  # quantile refuses none, and one that occurs twice
        found["loss"]["level"] = tuple(dict.fromkeys(found["loss"]["level"])) or 0.5
    if {"gamma1", "gamma2"} & set(optimizer):  # trish refuses a first that is not above the second
        second = optimizer.get("gamma2", 0.5)
        optimizer |= {"gamma1": max(optimizer.get("gamma1", 4.0), 2 * second), "gamma2": second}
    if optimizer.get("nesterov"):  # sgd refuses it without momentum
        optimizer |= {"name": "sgd", "momentum": 0.5, "dampening": 0.0}
        for key in set(optimizer) - {"name", "lr", "groups", "momentum", "dampening", "nesterov", "fused"}:
            del optimizer[key]
    return found


@st.composite
def facts(draw: st.DrawFn) -> Facts:
    """Facts that data could have."""
    task = draw(st.sampled_from(TASKS))
    kind = draw(st.sampled_from(["table", "images", "tensor", "dataset"]))
    shape = (draw(st.integers(1, 3)), 8, 8) if kind == "images" else (draw(st.integers(1, 9)),)
    outputs = {"regression": 1, "binary": 1}.get(task) or draw(st.integers(2, 12))
    rows, validation = draw(st.integers(1, 10**7)), draw(st.sampled_from([0, 10]))
    return Facts(kind, rows, task, shape, outputs, validation)


class Anything:
    """A class that is unrelated to recipes."""


keys = st.one_of(st.text(max_size=4), st.sampled_from(["name", "x"]), st.integers())
nonsense = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=6),
        st.binary(max_size=3),
        st.sampled_from(
            ["auto", "none", "adam", "relu", "a.b", "no_such_module:Net", "torch.nn.Linear", "math.pi", "torch:"]
        ),
        st.sampled_from([10**400, datetime.date(2026, 1, 2), 1j, object(), Anything, Anything(), np.float32(2.5),
                         np.int64(3), np.zeros(2), torch.tensor(1.5), torch.zeros(2), frozenset([1]), lambda: 1]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=2).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
    ),
    max_leaves=5,
)  # fmt: skip
"""Values that a recipe does not accept, and some that it accepts."""

section_names = st.one_of(st.sampled_from(sorted(SECTIONS)), st.text(max_size=6))
keys = st.one_of(
    st.sampled_from(
        sorted(
            {"name"}
            | {
                key
                for name, section in SECTIONS.items()
                for method in [None, *CATALOGUE.get(name, {})]
                for key in section_parameters(section, method) or {}
            }
        )
    ),
    st.text(max_size=6),
)
