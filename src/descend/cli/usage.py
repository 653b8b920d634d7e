"""Messages on options and commands that do not exist, are missing or have values that cannot be used."""

from __future__ import annotations

import re
from typing import Any

from descend.errors import closest

__all__ = ["usage_message"]

_WORDS = {
    "Value error, ": "",
    "Input should be a valid integer, unable to parse string as an integer": "expected an integer",
    "Input should be a valid number, unable to parse string as a number": "expected a number",
    "Choose from: ": "One of: ",
}
"""Words of the libraries that parse options, and those of descend."""


def usage_message(error: Any) -> str:
    """Return the message of an error in the options of a command, without the full stop at its end.

    Args:
        error: an exception with ``format_message``, and ``option_name`` if it is about an unknown option.
    """
    name = getattr(error, "option_name", None)
    command = getattr(getattr(error, "ctx", None), "command", None)
    if name is not None and command is not None:
        return f"No such option: {name}{_near(str(name).lstrip('-'), command.params)}"
    message = re.sub(r"\s+", " ", error.format_message())
    for words, own in _WORDS.items():
        message = message.replace(words, own)
    extra = re.fullmatch(r"Got unexpected extra arguments?(?:\(s\))? \((\S+)\)\.?", message.strip())
    options = {option for each in getattr(command, "params", []) for option in each.opts}
    if extra is not None and "--target" in options:
        return f"Unexpected argument: {extra[1]}. Did you mean --target {extra[1]}?"
    return message.rstrip(". ")


def _near(name: str, parameters: list[Any]) -> str:
    """Return the most similar option, or the key of the recipe that has the name; empty if there is none."""
    options = [option.lstrip("-") for each in parameters for option in each.opts if option.startswith("--")]
    close = closest(name, options)
    if close is not None:
        return f". Did you mean --{close}?"
    if not {"set", "recipe"} <= set(options):
        return ""
    from descend.recipe.sections import SECTIONS, any_parameters

    key = name.replace("-", "_")
    owned = {
        each: f"{section}.{each}"
        for section in reversed(list(SECTIONS))
        for each in any_parameters(SECTIONS[section])
    }
    close = closest(key, owned)
    if close is not None:
        return f". Did you mean --set {owned[close]}=VALUE?"
    return ". Settings of the recipe are set by --set SECTION.KEY=VALUE"
