"""Every figure becomes a picture that both renderers can render."""

import dataclasses
import math
import struct

import pytest
from tests.support import small_figures as small

from descend.errors import MissingExtraError, UserError
from descend.gallery import measure, png
from descend.gallery.catalogue import FIGURES, entry
from descend.gallery.figures import scaling
from descend.gallery.intervals import exact
from descend.gallery.page import render_page
from descend.gallery.palette import SERIES, light, style
from descend.gallery.picture import Axis, Bars, Cells, Contours, Line, Panel, Picture, Points, numbers

pytestmark = pytest.mark.slow  # each test may be the first to need a measurement

every = pytest.mark.parametrize("name", FIGURES)


def test_all_have_small_sizes():
    assert set(small.SIZES) == set(FIGURES)


def test_the_catalogue_has_every_figure():
    names = (
        "polynomial activations gd_vs_sgd schedules momentum adaptive race learning_rate depth initialization restarts "
        "early_stopping scaling whitening batch_norm normalization_zoo dropout random_vs_grid augmentation second_order"
    )
    assert set(names.split()) <= set(FIGURES)


@every
def test_pictures_state_claim_finding_and_verdict(pictures, name):
    picture = pictures(name)
    assert picture.name == name
    assert isinstance(picture.supported, bool)
    assert len(picture.claim) > 40
    assert len(picture.see) > 40
    assert math.isfinite(picture.value.value)
    if picture.value.low is not None:
        assert picture.value.low <= picture.value.value <= picture.value.high
    assert any(letter.isdigit() for letter in picture.finding)
    assert picture.verdict == f"Supports the claim: {'yes' if picture.supported else 'no'}."
    assert "lecture" not in " ".join(
        (picture.title, picture.claim, picture.see, picture.finding, picture.number)
    )


@every
def test_panels_hold_plain_finite_numbers(pictures, name):
    for panel in pictures(name).panels:
        assert panel.title
        assert panel.marks
        for mark in panel.marks:
            for field in dataclasses.fields(mark):
                value = getattr(mark, field.name)
                rows = value if field.name == "z" else [value] if isinstance(value, tuple) else []
                for row in rows:
                    assert all(
                        each is None or isinstance(each, (str, tuple)) or math.isfinite(each) for each in row
                    )
            if isinstance(mark, Line | Points):
                assert len(mark.x) == len(mark.y) > 0
                assert any(each is not None for each in mark.y), (panel.title, mark.name)
            for axis, values in ((panel.x, getattr(mark, "x", ())), (panel.y, getattr(mark, "y", ()))):
                if axis.log:
                    assert all(value is None or value > 0 for value in values), (panel.title, axis.title)


@every
def test_pages_are_one_file_without_addresses(pictures, name):
    text = render_page(pictures(name), 0)
    assert text.startswith("<!DOCTYPE html>")
    body = text[: text.index('<script type="text/plain"')]  # before the packed library
    assert "http" not in body.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert "default-src 'none'" in text
    assert f"descend gallery {name}" in text


@every
def test_pngs_have_the_stated_size(pictures, name):
    picture = pictures(name)
    content = png.render_png(picture)
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == png.image_size(picture)
    assert png.image_size(picture)[0] == 1600
    assert len(content) > 20_000  # an empty white image of this size has about 8,000 bytes


@pytest.mark.slow
def test_both_renderers_support_every_mark_and_escape_text():
    xs, ys = (0.0, 1.0, 2.0), (1.0, 10.0, None)
    rows = ((0.0, 1.0), (None, 0.5))
    marks = (
        Contours((0.0, 1.0), (0.0, 1.0), rows),
        Cells(rows, text=(("<b>", ""), ("", "x")), gray=True),
        Line(xs, ys, "<i>line</i> $a_b$", low=(0.5, 5.0, None), high=(2.0, 20.0, None), dots=True),
        Points(xs, ys, "points", "s2"),
    )
    bars = Bars(("<a>", "b"), (1.0, None), "bars", low=(0.5, None), high=(2.0, None))
    strange = Picture(
        "none",
        "</title><script>alert(1)</script>",
        "claim",
        "see",
        "number",
        exact(1.0),
        "<img src=x>",
        False,
        (
            Panel("<u>", marks, Axis("x"), Axis("y", log=True), moving=True, note="<s>"),
            Panel("$x^$", (bars,), Axis(""), Axis("y"), shape="tile"),
        ),
    )
    text = render_page(strange, 3)
    assert "<img" not in text
    assert "<script>alert" not in text
    assert "<i>line" not in text
    assert "--seed 3" in text
    assert len(png.render_png(strange)) > 10_000


def test_numbers_depend_on_the_seed_only():
    first, repeated, other = (scaling.measure(seed, seeds=2) for seed in (0, 0, 1))
    assert first.conditions == repeated.conditions
    assert first.conditions != other.conditions


def test_colors_are_those_of_the_report_and_distinct():
    known = light()
    assert (known["s1"], known["s2"]) == (known["training"], known["validation"])
    assert len(set(SERIES.values())) == len(SERIES)
    for name, (day, night) in SERIES.items():
        assert f"--{name}: {day};" in style()
        assert f"--{name}: {night};" in style()


def test_numbers_drop_values_that_cannot_be_drawn():
    assert numbers([1.0, math.nan, -math.inf, -1.0], above=0.0) == (1.0, None, None, None)


def test_unknown_names_are_refused_with_a_suggestion():
    with pytest.raises(UserError, match="unknown figure 'momentun'; did you mean 'momentum'"):
        entry("momentun")
    with pytest.raises(UserError, match="one of: activations"):
        measure("zzz")


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*'\S*\[gallery\]'"):
        png.check()


def test_measuring_keeps_the_threads_and_the_random_state(measurements):
    import torch

    state, threads = torch.get_rng_state(), torch.get_num_threads()
    picture = measure("normalization_zoo", 5)
    FIGURES["dropout"].measure(1, seeds=2, epochs=1, train=50, width=8)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert picture.seconds > 0
