"""Labels and categories that differ only in capitals or blanks, which are often one value written in two ways."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

__all__ = ["similar_spellings", "spelling_note"]

_SHOWN = 3  # groups of spellings in a note


def similar_spellings(names: Iterable[object]) -> list[list[str]]:
    """Return the groups of strings that are equal without capitals, blanks and variants of the same character.

    >>> similar_spellings(["no", "yes", " no", "Yes", "maybe", 1])
    [['no', ' no'], ['yes', 'Yes']]
    """
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        if isinstance(name, str):
            groups.setdefault(_folded(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _folded(name: str) -> str:
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())


def spelling_note(what: str, names: Iterable[object]) -> tuple[str, ...]:
    """Return a note for the user on names that differ only in their spelling, or nothing.

    Args:
        what: what the names are, as the subject of the note.
        names: the names.

    >>> spelling_note("classes", ["yes", "Yes"])
    ("the classes 'yes' and 'Yes' differ only in capitals or blanks; if they mean the same, correct the data",)
    """
    groups = similar_spellings(names)
    if not groups:
        return ()
    shown = "; ".join(_joined(group) for group in groups[:_SHOWN])
    more = f"; and {len(groups) - _SHOWN} more" if len(groups) > _SHOWN else ""
    return (
        f"the {what} {shown}{more} differ only in capitals or blanks; if they mean the same, correct the data",
    )


def _joined(group: list[str]) -> str:
    shown = [repr(name) for name in group[:5]] + (["..."] if len(group) > 5 else [])
    return f"{', '.join(shown[:-1])} and {shown[-1]}"
