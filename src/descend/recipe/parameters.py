"""The keys of a section of a recipe that is a frozen dataclass."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Mapping

from descend.param_types import Parameter

__all__ = ["of_settings"]


def of_settings(settings: type) -> dict[str, Parameter]:
    """Return the keys of a section that is a frozen dataclass."""
    return dict(_of_settings(settings))


@functools.lru_cache(maxsize=64)
def _of_settings(settings: type) -> Mapping[str, Parameter]:
    hints = typing.get_type_hints(settings, include_extras=True)
    return {
        field.name: Parameter(
            field.name,
            hints[field.name],
            field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default,
            settings.__name__,
        )
        for field in dataclasses.fields(settings)
    }
