"""Everything a user specifies about the data of a training, in one object."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypedDict, TypeVar, Unpack

from descend.arguments import COMMON, target_names
from descend.errors import UserError, did_you_mean

__all__ = ["DataOptions", "TrainingData", "accepts_data_options"]

P = ParamSpec("P")
R = TypeVar("R")


class DataOptions(TypedDict, total=False):
    """The keyword arguments of :class:`TrainingData`, which every function that takes ``data`` accepts too."""

    target: str | Sequence[str] | None
    validation: Any
    test: Any
    sample_weight: Any


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Data to train on, with everything that belongs to them.

    Functions that take ``data`` accept a ``TrainingData`` or its ``source`` with the other fields as keyword
    arguments: ``train(TrainingData(frame, target="price"))`` equals ``train(frame, target="price")``.

    Args:
        source: a bundled data set ("digits"), a file, a folder of images by class, "package.module:function",
            (X, y), a data frame, or a torch ``Dataset``.
        target: the column to predict, or several. Default None: the target that ``source`` itself defines, such as y of
            (X, y).
        validation: data that decide when to stop, instead of a part of ``source``; any form that ``source`` takes.
            Default None.
        test: data that are evaluated once, at the end, instead of a part of ``source``. Default None.
        sample_weight: one weight per row of ``source``, of shape (n,). Default None.

    >>> data = TrainingData("iris", target="target")
    >>> TrainingData.of(data) is data
    True
    """

    source: Any
    target: str | Sequence[str] | None = None
    validation: Any = None
    test: Any = None
    sample_weight: Any = None

    @classmethod
    def of(cls, data: Any, **options: Unpack[DataOptions]) -> TrainingData:
        """Return ``data`` as a ``TrainingData``; ``options`` are its fields.

        Raises:
            UserError: a field is specified twice, in ``data`` and in ``options``.
        """
        given = {name: value for name, value in options.items() if value is not None}
        if not isinstance(data, cls):
            return cls(data, **given)  # type: ignore[arg-type]  # the names and types are those of DataOptions
        if duplicates := [name for name in given if getattr(data, name) is not None]:
            raise UserError(
                f"{', '.join(duplicates)}: specified twice, in TrainingData and as a keyword argument"
            )
        return dataclasses.replace(data, **given) if given else data  # type: ignore[arg-type]  # likewise

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the target columns; empty if none is specified."""
        if self.target is None:
            return ()
        names = target_names("target", self.target)
        return (names,) if isinstance(names, str) else tuple(names)


def _checked(name: str, value: Any) -> Any:
    """Return an argument, checked if it has the same meaning in all functions."""
    check = COMMON.get(name)
    return value if check is None or (value is None and name != "seed") else check(name, value)


def accepts_data_options(function: Callable[P, R]) -> Callable[P, R]:
    """Let ``inspect.signature`` and ``help`` show the fields of :class:`DataOptions` instead of ``**data_options``.

    An unknown keyword raises a TypeError that suggests the most similar one.
    """
    own = inspect.signature(function)
    fields = inspect.signature(TrainingData).parameters
    shown = [each for each in own.parameters.values() if each.kind is not each.VAR_KEYWORD]
    shown += [
        fields[name].replace(kind=inspect.Parameter.KEYWORD_ONLY) for name in DataOptions.__annotations__
    ]
    names = [each.name for each in shown if each.kind is not each.POSITIONAL_ONLY]

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in names:
                hint = did_you_mean(name, names)
                if "recipe" in names and not hint.startswith("did"):
                    hint = (
                        "settings of training belong in the recipe, such as recipe={'optimizer.lr': 0.1}; "
                        + hint
                    )
                raise TypeError(f"{function.__name__}() got an unexpected keyword argument '{name}'; {hint}")
        for name, value in kwargs.items():
            kwargs[name] = _checked(name, value)
        return function(*args, **kwargs)

    checked.__signature__ = own.replace(parameters=shown)  # type: ignore[attr-defined]  # functions accept attributes
    return checked
