"""The public names of the package with their signatures, as text.

``python -m tests.support.public_api`` writes them to ``docs/public_api.txt``.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "docs" / "public_api.txt"

MODULES = [
    "descend",
    "descend.recipe",
    "descend.optim",
    "descend.schedules",
    "descend.nn",
    "descend.nn.init",
    "descend.losses",
    "descend.losses.likelihoods",
    "descend.metrics",
    "descend.regularization",
    "descend.constraints",
    "descend.augmentation",
    "descend.linalg",
    "descend.data",
    "descend.training",
    "descend.runs",
    "descend.export",
    "descend.many",
    "descend.experiments.comparison",
    "descend.experiments.cross_validation",
    "descend.experiments.search",
    "descend.doctor",
    "descend.estimators",
    "descend.report",
    "descend.gallery",
    "descend.cli",
    "descend.errors",
    "descend.rng",
]
"""The modules whose ``__all__`` is public."""

HEAD = """\
# The public names of descend. Everything else is internal and may change without notice.
# Written by `make api`; a test fails while this file and the code differ.
"""


def signature(subject: Any) -> str:
    """The signature without addresses of objects, which differ from process to process."""
    try:
        text = str(inspect.signature(subject))
    except (TypeError, ValueError):
        return "(...)"
    text = re.sub(r" at 0x[0-9a-f]+", "", text)
    return re.sub(r"<(?:function|class) ['\w.]*?(\w+)'?>", r"\1", text)


def members(subject: type) -> Iterator[str]:
    """A line for each public method, property and class attribute that a class defines itself."""
    for name, value in sorted(vars(subject).items()):
        if name.startswith("_"):
            continue
        if isinstance(value, property) or type(value).__name__ == "cached_property":
            yield f"    .{name}"
        elif isinstance(value, (classmethod, staticmethod)):
            yield f"    .{name}{signature(value.__func__)}"
        elif inspect.isfunction(value) and _defined_by(subject, value):
            yield f"    .{name}{signature(value)}"


def _defined_by(subject: type, function: Any) -> bool:
    """Whether a class defines a function itself: PyTorch wraps an inherited ``step`` in each optimizer class it creates."""
    return inspect.unwrap(function).__qualname__.startswith(f"{subject.__qualname__}.")


def lines(module_name: str) -> Iterator[str]:
    """A line for each public name of a module, and for each public member of its classes."""
    module = importlib.import_module(module_name)
    yield f"\n[{module_name}]"
    for name in sorted(module.__all__):
        value = getattr(module, name)
        if inspect.isclass(value):
            yield f"class {name}{signature(value)}"
            if value.__module__.startswith("descend"):
                yield from members(value)
        elif callable(value):
            yield f"{name}{signature(value)}"
        else:
            yield f"{name}: {type(value).__name__}"


def text() -> str:
    """The content of the file."""
    return HEAD + "\n".join(line for module in MODULES for line in lines(module)) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
