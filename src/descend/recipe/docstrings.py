"""Descriptions of methods and their arguments, read from docstrings."""

from __future__ import annotations

import inspect
import re

__all__ = ["about_arguments", "about_method", "plain", "shapes_of", "summary_of"]

_SECTION = re.compile(r"(Args|Returns|Raises|Source|Example|Examples|Yields|Notes?|References?):\s*\S*.*\Z")
_DEFAULT = re.compile(r"\s*Default (\([^)]*\)|\"[^\"]*\"|\S+?)\.(?=\s|\Z)")
_ARGUMENT = re.compile(r"([*\w]+(?:, [*\w]+)*):\s*(.*)\Z")


def summary_of(subject: object) -> str:
    """Return the first paragraph of a docstring on one line; empty where there is none.

    >>> summary_of(summary_of)
    'Return the first paragraph of a docstring on one line; empty where there is none.'
    """
    return plain(" ".join((inspect.getdoc(subject) or "").split("\n\n", 1)[0].split()))


def about_arguments(subject: object) -> dict[str, str]:
    """Return the arguments in the ``Args:`` section of a docstring, each with its description on one line.

    Sentences about defaults are left out: the defaults are in the signature.

    >>> def f(a, b):
    ...     '''Something.
    ...
    ...     Args:
    ...         a: the first
    ...             of two.
    ...         b: the second. Default 1.5.
    ...     '''
    >>> about_arguments(f)
    {'a': 'the first of two.', 'b': 'the second.'}
    """
    descriptions: dict[str, str] = {}
    names: list[str] = []
    inside, indent = False, 0
    for line in (inspect.getdoc(subject) or "").splitlines():
        if line.strip() == "Args:":
            inside, indent = True, 0
            continue
        if not inside or not line.strip():
            continue
        depth = len(line) - len(line.lstrip())
        if depth == 0:
            break
        indent = indent or depth
        start = _ARGUMENT.match(line.strip()) if depth == indent else None
        if start:
            names = start[1].split(", ")
            descriptions |= dict.fromkeys(names, start[2])
        else:
            descriptions |= {name: f"{descriptions[name]} {line.strip()}".strip() for name in names}
    return {name: plain(_DEFAULT.sub("", text)) for name, text in descriptions.items()}


def about_method(subject: object) -> str:
    """Return a docstring without its arguments, exceptions and examples.

    >>> about_method(about_method).splitlines()
    ['Return a docstring without its arguments, exceptions and examples.']
    """
    kept: list[str] = []
    skipping = False
    for line in (inspect.getdoc(subject) or "").splitlines():
        if line.startswith(">>>"):
            break
        if _SECTION.match(line):
            skipping = not line.startswith(("Source:", "Note"))
        elif line.strip() and not line.startswith(" "):
            skipping = False
        if not skipping:
            kept.append(plain(line) if not line.startswith(" ") else plain(line.rstrip()))
    return "\n".join(kept).strip()


def shapes_of(subject: object) -> str:
    """Return the text after ``Shapes:`` in a docstring, on one line; empty where there is none.

    >>> def f():
    ...     '''Something.
    ...
    ...     Shapes: (n, 1) → (n,)
    ...     in float.
    ...
    ...     Args:
    ...     '''
    >>> shapes_of(f)
    '(n, 1) → (n,) in float.'
    """
    _, _, shapes = (inspect.getdoc(subject) or "").partition("Shapes: ")
    return plain(" ".join(shapes.split("\n\n", 1)[0].split()))


def plain(text: str) -> str:
    """Remove the markup of reStructuredText from a text.

    >>> print(plain("see :class:`~descend.nn.Maxout` and ``k``"))
    see Maxout and 'k'
    """
    text = re.sub(r":[\w:]+:`~?(?:[\w.]*\.)?(\w+)`", r"\1", text)
    return re.sub(r"``(.+?)``", lambda code: code[1] if code[1][0] in "\"'{" else f"'{code[1]}'", text)
