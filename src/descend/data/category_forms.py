"""Forms of one category: ``True`` is written ``True``, ``TRUE`` or ``true``, and 1 is written ``1`` or ``1.0``.

A value has another form in a JSON record than in a CSV file, and in a single row than in a column with gaps. All forms
of a value are one category, in training, in prediction and in exported models.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

__all__ = ["aliases", "key"]

_FORMS = {"true": ("true", "True", "TRUE"), "false": ("false", "False", "FALSE")}
_WORDS = {form: word for word, forms in _FORMS.items() for form in forms}
_NUMBERS = {"true": "1", "false": "0"}
_INTEGER = re.compile(r"(-?(?:0|[1-9][0-9]*))(?:\.0)?")


def key(category: str) -> str:
    """Return what all forms of a category have in common.

    >>> key("True"), key("1.0"), key("01"), key("blue")
    ('true', '1', '01', 'blue')
    """
    if category in _WORDS:
        return _WORDS[category]
    match = _INTEGER.fullmatch(category)
    if match is None:
        return category
    return "0" if match[1] == "-0" else match[1]


def aliases(categories: Sequence[str]) -> dict[str, str]:
    """Return other forms of categories, and the category that each one means.

    A boolean also means 1 or 0, and vice versa, unless there is a category for each.

    >>> aliases(["True", "x"])
    {'true': 'True', 'TRUE': 'True', '1': 'True', '1.0': 'True'}
    """
    own = {key(category): category for category in categories}
    found = {form: category for word, category in own.items() for form in _forms(word)}
    for word, number in _NUMBERS.items():
        for one, other in ((word, number), (number, word)):
            if one in own and other not in own:
                found.update(dict.fromkeys(_forms(other), own[one]))
    return {form: category for form, category in found.items() if form not in categories}


def _forms(word: str) -> Iterable[str]:
    if word in _FORMS:
        return _FORMS[word]
    if word == "0":
        return ("0", "0.0", "-0", "-0.0")
    return (word, f"{word}.0") if _INTEGER.fullmatch(word) else (word,)
