"""Labels of axes: they fit next to each other and have the space they need."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import assume, given
from hypothesis import strategies as st

from descend.report.axis_labels import Labels, horizontal_labels, text_width, unique, vertical_labels
from descend.report.marks import Axis
from descend.report.scales import Scale


def ends_of(labels: Labels, scale: Scale, width: float) -> list[tuple[float, float]]:
    """The horizontal ends of the labels in pixels."""
    places = [(scale.at(tick.value) or 0.0) * width / 100 for tick in labels.ticks]
    widths = [text_width(tick.label) for tick in labels.ticks]
    return [(at - size / 2, at + size / 2) for at, size in zip(places, widths, strict=True)]


@given(st.floats(-1e9, 1e9), st.floats(1e-3, 1e9), st.sampled_from([250.0, 400.0]), st.booleans())
def test_labels_below_an_axis_do_not_overlap(low: float, length: float, width: float, log: bool) -> None:
    if log:
        low, length = math.exp(low / 1e8), 10.0 ** min(length, 6) * math.exp(low / 1e8)
    assume(length > 1e-9 * abs(low))
    scale = Scale(low, low + length, log)
    labels = horizontal_labels(Axis(log=log), scale, width, 18)
    assert len(labels.ticks) >= 2
    ends = ends_of(labels, scale, width)
    if len(ends) > 3:
        assert all(end < start for (_, end), (start, _) in pairwise(ends))
    assert min(start for start, _ in ends) >= -labels.before - 1e-9
    assert max(end for _, end in ends) <= width + labels.after + 1e-9


@given(st.lists(st.text("abcdefg_", max_size=40), min_size=1, max_size=120), st.sampled_from([220.0, 400.0]))
def test_names_below_an_axis_fit_or_are_slanted(names: list[str], width: float) -> None:
    scale = Scale(-0.5, len(names) - 0.5)
    labels = horizontal_labels(Axis(names=names), scale, width, 12)
    shown = [tick.label for tick in labels.ticks]
    assert len(set(shown)) == len(shown)
    if labels.slanted:
        places = [(scale.at(tick.value) or 0.0) * width / 100 for tick in labels.ticks]
        assert all(other - one >= 15 - 1e-9 for one, other in pairwise(places))
        assert labels.space > 0.7 * max(map(text_width, shown))
    else:
        assert len(shown) == len(names)
        assert all(end < start for (_, end), (start, _) in pairwise(ends_of(labels, scale, width)))


@given(st.floats(-1e9, 1e9), st.floats(1e-3, 1e9), st.sampled_from([120.0, 330.0]))
def test_labels_left_of_an_axis(low: float, length: float, height: float) -> None:
    assume(length > 1e-9 * abs(low))
    labels = vertical_labels(Axis(), Scale(low, low + length), height, 18)
    assert 3 <= len(labels.ticks) <= max(8, height / 24)
    assert labels.space == max(text_width(tick.label) for tick in labels.ticks)


def test_names_that_are_shortened_to_the_same_text_have_different_labels() -> None:
    names = ["the_first_part_" + middle + "_and_the_last_part" for middle in ("one", "two")]
    labels = vertical_labels(Axis(names=names), Scale(1.5, -0.5), 300, 18)
    assert [tick.label for tick in labels.ticks] == ["the_first…last_part", "the_first…last_part (2)"] or (
        len({tick.label for tick in labels.ticks}) == 2
    )


@given(st.lists(st.sampled_from(["a", "a (2)", "b", "a (3)"]), max_size=12))
def test_numbered_labels_are_distinct_and_single_ones_unchanged(labels: list[str]) -> None:
    shown = unique(labels)
    assert len(set(shown)) == len(shown) == len(labels)
    assert all(one.startswith(other) for one, other in zip(shown, labels, strict=True))
    assert all(one == other for one, other in zip(shown, labels, strict=True) if labels.count(other) == 1)
