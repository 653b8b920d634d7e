"""Labels of an axis: the ticks whose labels fit into a width, and the space that they occupy.

A figure is drawn once for all widths, so it contains the labels for a narrow and for a wide place, of which the page
shows one set. Widths of text are estimates from above, those of wide fonts.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from descend.report.formatting import short
from descend.report.marks import Axis
from descend.report.scales import Scale
from descend.report.ticks import Tick, linear_ticks, log_ticks

__all__ = ["FONT", "Labels", "horizontal_labels", "text_width", "unique", "vertical_labels"]

FONT = 12
"""Size of the font of labels in pixels."""

LINE = 15
"""Height of a line of text in pixels."""

_GAP = 12
"""Distance of two labels next to each other in pixels."""

_NARROW_LETTERS = frozenset("iljtfrI.,:;'|!()[] \N{NO-BREAK SPACE}")


@dataclass(frozen=True)
class Labels:
    """The labels of an axis at one width.

    Args:
        ticks: the ticks.
        slanted: whether the labels are rotated by 45 degrees.
        space: what they occupy next to the axis, in pixels: height below a horizontal one, width left of a vertical one.
        before: what they occupy before the beginning of a horizontal axis.
        after: what they occupy after its end.
    """

    ticks: Sequence[Tick]
    slanted: bool = False
    space: float = 0
    before: float = 0
    after: float = 0


def text_width(text: str, size: float = FONT) -> float:
    """Return about the width of a text in pixels; of its longest line, if it has several.

    >>> text_width("0.001") < text_width("0.0001"), text_width("\N{CJK UNIFIED IDEOGRAPH-4E2D}")
    (True, 12.0)
    """
    return max((sum(map(_letter_width, line)) * size for line in text.split("\n")), default=0.0)


def _letter_width(letter: str) -> float:
    if unicodedata.east_asian_width(letter) in "WF":
        return 1.0
    if unicodedata.combining(letter):
        return 0.0
    if letter in _NARROW_LETTERS:
        return 0.4
    return 0.95 if letter in "mwMW%@—…<>=+−×±~#" else 0.76 if letter.isupper() else 0.64


def horizontal_labels(axis: Axis, scale: Scale, width: float, longest: int) -> Labels:
    """Return the labels of a horizontal axis.

    Args:
        axis: the axis.
        scale: its scale.
        width: its length in pixels.
        longest: maximum number of characters of a name.
    """
    if axis.names:
        return _names_below(axis.names, scale, width, longest)
    ticks = axis.ticks if axis.ticks is not None else _fitting(axis, scale, width)
    placed = [(width * (scale.at(tick.value) or 0.0) / 100, text_width(tick.label) / 2) for tick in ticks]
    return Labels(
        ticks,
        space=LINE * max((1 + tick.label.count("\n") for tick in ticks), default=0),
        before=max((half - place for place, half in placed), default=0.0),
        after=max((place + half - width for place, half in placed), default=0.0),
    )


def _fitting(axis: Axis, scale: Scale, width: float) -> Sequence[Tick]:
    """As many ticks as fit: at most eight, at least two."""
    ticks: Sequence[Tick] = []
    for most in range(8, 1, -1):
        ticks = _computed(axis, scale, most, least=2)
        places = [width * (scale.at(tick.value) or 0.0) / 100 for tick in ticks]
        ends = [(at - text_width(tick.label) / 2, at + text_width(tick.label) / 2)
                for at, tick in zip(places, ticks, strict=True)]  # fmt: skip
        if all(end + _GAP <= start for (_, end), (start, _) in pairwise(ends)):
            break
    return ticks


def _computed(axis: Axis, scale: Scale, most: int, least: int) -> list[Tick]:
    low, high = sorted((scale.low, scale.high))
    return (log_ticks if axis.log else linear_ticks)(low, high, most, axis.style, least)


def _names_below(names: Sequence[str], scale: Scale, width: float, longest: int) -> Labels:
    shown = _shortened(names, longest)
    slot = width / len(names)
    widest = max(map(text_width, shown))
    if widest + 4 <= slot:
        return Labels(_every(shown, 1), space=LINE)
    ticks = _every(shown, _distance(slot))
    half = 0.71
    before = max(
        half * text_width(tick.label) - width * (scale.at(tick.value) or 0.0) / 100 for tick in ticks
    )
    return Labels(ticks, slanted=True, space=half * widest + LINE, before=before)


def _distance(slot: float) -> int:
    """Each how many-th name is shown if there are ``slot`` pixels for a name."""
    return next(
        every for every in (1, 2, 5, 10, 20, 50, 100, 200, 500) if every * slot >= LINE or every == 500
    )


def vertical_labels(axis: Axis, scale: Scale, height: float, longest: int) -> Labels:
    """Return the labels of a vertical axis.

    Args:
        axis: the axis.
        scale: its scale.
        height: its length in pixels.
        longest: maximum number of characters of a name.
    """
    if axis.above:
        return Labels(_every([short(name, 48) for name in axis.names], 1))
    if axis.names:
        ticks: Sequence[Tick] = _every(_shortened(axis.names, longest), _distance(height / len(axis.names)))
    elif axis.ticks is not None:
        ticks = axis.ticks
    else:
        ticks = _computed(axis, scale, max(4, min(8, int(height / 24))), least=3)
    return Labels(ticks, space=max((text_width(tick.label) for tick in ticks), default=0.0))


def _every(names: Sequence[str], every: int) -> list[Tick]:
    return [Tick(float(place), names[place]) for place in range(0, len(names), every)]


def _shortened(names: Sequence[str], longest: int) -> list[str]:
    return unique([short(name, longest) for name in names])


def unique(labels: Sequence[str]) -> list[str]:
    """Number repeated labels.

    >>> unique(["a", "a", "a (2)"])
    ['a', 'a (3)', 'a (2)']
    """
    taken = set(labels)
    seen: set[str] = set()
    result: list[str] = []
    for label in labels:
        shown, number = label, 1
        while shown in seen or (shown != label and shown in taken):
            number += 1
            shown = f"{label} ({number})"
        seen.add(shown)
        result.append(shown)
    return result
