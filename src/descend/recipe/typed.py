"""The typed sections of a recipe by name; :mod:`descend.recipe` exports all of them.

>>> from descend.recipe.typed import SGD
>>> SGD(lr=0.1, momentum=0.9)
SGD(lr=0.1, momentum=0.9)
"""

from descend.recipe.specs import spec_class, spec_names

__all__ = spec_names()


def __getattr__(name: str) -> type:
    try:
        return spec_class(name)
    except KeyError:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'") from None
