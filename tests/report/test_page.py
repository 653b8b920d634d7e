from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest
from tests.support import sample_runs

VOID = {"br", "col", "img", "link", "meta", "wbr"}
Report = Callable[[str], Path]


class Outline(HTMLParser):
    """Collects the elements of a page, each with the names of its ancestors, and structural errors."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self._open: list[str] = []
        self.errors: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        if len(names) != len(set(names)):
            self.errors.append(f"{tag} has a repeated attribute: {names}")
        self.elements.append((tag, dict(attrs), tuple(self._open)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), tuple(self._open)))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.errors.append(f"</{tag}> at {self.getpos()}")

    def close(self) -> None:
        super().close()
        self.errors += [f"{tag} is not closed" for tag in self._open]


def outline(page: Path) -> Outline:
    parsed = Outline()
    parsed.feed(page.read_text(encoding="utf-8"))
    parsed.close()
    return parsed


@pytest.fixture(params=sample_runs.RUNS)
def page(request: pytest.FixtureRequest, reported: Report) -> Outline:
    return outline(reported(request.param))


def test_every_element_is_closed(page: Outline) -> None:
    assert page.errors == []


def test_ids_are_unique_and_references_have_targets(page: Outline) -> None:
    ids = Counter(attrs["id"] for _, attrs, _ in page.elements if "id" in attrs)
    assert [key for key, times in ids.items() if times > 1] == []
    references = {attrs["aria-labelledby"] for _, attrs, _ in page.elements if "aria-labelledby" in attrs}
    references |= {(attrs["href"] or "")[1:] for tag, attrs, _ in page.elements if tag == "a"}
    references |= {attrs["data-copy"] for _, attrs, _ in page.elements if "data-copy" in attrs}
    assert references <= set(ids)


def test_headings_are_in_order(page: Outline) -> None:
    levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_tables_have_captions_and_headings_with_scope(page: Outline) -> None:
    tags = Counter(tag for tag, _, _ in page.elements)
    assert tags["caption"] == tags["table"] == tags["thead"]
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs, _ in page.elements if tag == "th")


def test_images_and_figures_have_descriptions(page: Outline) -> None:
    assert all(attrs.get("alt") for tag, attrs, _ in page.elements if tag == "img")
    plots = [attrs for _, attrs, _ in page.elements if attrs.get("class") == "chart"]
    assert len(plots) == sum(attrs.get("class") == "plot" for _, attrs, _ in page.elements)
    assert all(attrs["role"] == "img" and len(attrs["aria-label"] or "") > 20 for attrs in plots)


def test_scrolling_regions_are_focusable_and_named(page: Outline) -> None:
    scrolling = [
        attrs for tag, attrs, _ in page.elements if tag == "pre" or "scroll" in (attrs.get("class") or "")
    ]
    assert scrolling
    assert all(
        attrs["tabindex"] == "0" and attrs["role"] == "region" and attrs["aria-label"] for attrs in scrolling
    )


def test_nothing_is_loaded_from_the_network(page: Outline) -> None:
    for tag, attrs, _ in page.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            assert (attrs.get(name) or "#").startswith(("#", "data:image/")), (tag, name)


def test_only_the_pages_own_script_runs(page: Outline) -> None:
    kinds = [attrs.get("type") for tag, attrs, _ in page.elements if tag == "script"]
    assert kinds == [None]
    assert not [name for _, attrs, _ in page.elements for name in attrs if name.startswith("on")]


def test_a_page_without_figures_does_not_contain_the_library(tmp_path: Path) -> None:
    from descend.report import write

    (tmp_path / "metrics.json").write_text('{"status": "failed", "task": "binary"}', encoding="utf-8")
    assert write(tmp_path).stat().st_size < 30_000


# Contrast as defined by WCAG 2.2: (L1 + 0.05) / (L2 + 0.05) of the relative luminances.


def luminance(color: str) -> float:
    channels = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def schemes() -> dict[str, dict[str, str]]:
    style = (files("descend.report") / "page.css").read_text(encoding="utf-8")
    light, dark = (
        dict(re.findall(r"(--[a-z-]+): (#[0-9a-f]{6});", block))
        for block in re.findall(r":root[^{]*\{(.*?)\}", style, re.DOTALL)[:2]
    )
    return {"light": light, "dark": {**light, **dark}}


def test_contrast_of_black_and_white_is_21() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_dark_mode_changes_every_color() -> None:
    light, dark = schemes()["light"], schemes()["dark"]
    assert [name for name in light if light[name] == dark[name]] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("front", "back", "least"),
    [
        *((text, back, 4.5) for text in ("ink", "muted", "link", "alarm") for back in ("page", "surface")),
        ("ink", "alarm-back", 4.5),
        ("alarm", "alarm-back", 4.5),
        *((f"toml-{part}", "surface", 4.5) for part in ("table", "string", "value")),
        *(("ink", cell, 4.5) for cell in ("right-low", "right-high", "wrong-low", "wrong-high")),
        *((line, "surface", 3.0) for line in ("training", "validation", "neutral", "test")),
    ],
)
def test_contrast(scheme: str, front: str, back: str, least: float) -> None:
    colors = schemes()[scheme]
    assert contrast(colors[f"--{front}"], colors[f"--{back}"]) >= least
