"""The report in a real browser: what is drawn, what is said in the console, what is asked of the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support import sample_runs
from tests.support.chromium import Browser, Page

from descend.report.formatting import short

pytestmark = pytest.mark.browser
Report = Callable[[str], Path]

PLOTS = {
    "wine": 6,
    "digits": 6,
    "diabetes": 7,
    "many_targets": 11,
    "one_epoch": 6,
    "failed": 5,
    "hostile": 6,
    "hostile_targets": 7,
    "large": 6,
}
LINE = "document.querySelector('#plot-loss .scatterlayer .js-line').style.stroke"
CELL = "document.querySelector('#plot-confusion .heatmap-label text').style.fill"
DRAWN = "document.querySelectorAll('.plot .cartesianlayer .subplot.xy')"
WIDEST = """Math.max(...[...document.querySelectorAll('.plot .main-svg')]
    .filter(figure => figure.checkVisibility()).map(figure => figure.getBoundingClientRect().right))"""


@pytest.fixture(scope="module", params=PLOTS)
def page(request: pytest.FixtureRequest, browser: Browser, reported: Report) -> Iterator[tuple[str, Page]]:
    """Each report as a phone in dark mode first loads it."""
    with browser.open(reported(request.param), width=360, phone=True, dark=True) as opened:
        yield request.param, opened


@pytest.fixture(scope="module")
def wine(browser: Browser, reported: Report) -> Iterator[Page]:
    """One report on a wide screen."""
    with browser.open(reported("wine")) as opened:
        yield opened


def assert_quiet(page: Page) -> None:
    """Nothing was said in the console and nothing asked of the network, since the page was opened."""
    assert page.console() == []
    assert page.requests() == []


def test_every_figure_is_drawn(page: tuple[str, Page]) -> None:
    name, opened = page
    folded = 3 if name == "many_targets" else 0
    assert opened.value(f"{DRAWN}.length") == PLOTS[name]
    assert opened.value("document.querySelectorAll('.plot').length") == PLOTS[name] + folded
    assert opened.value("document.getElementById('figures-failed').hidden")
    assert_quiet(opened)


def test_a_phone_scrolls_down_only(page: tuple[str, Page]) -> None:
    _, opened = page
    opened.view(360, phone=True, dark=True)
    opened.wait(f"{WIDEST} <= 360")
    assert opened.value("innerWidth") == 360
    assert opened.value("document.documentElement.scrollWidth") <= 360
    assert_quiet(opened)


def test_turned_and_on_a_wide_screen_it_fits_too(page: tuple[str, Page]) -> None:
    _, opened = page
    for width in (780, 1280):
        opened.view(width)
        opened.wait(f"{WIDEST} > 360 && {WIDEST} <= {width}")
        assert opened.value("document.documentElement.scrollWidth") <= width
    assert_quiet(opened)


@pytest.mark.parametrize("page", ["many_targets"], indirect=True)
def test_what_opens_is_drawn_to_fit(page: tuple[str, Page]) -> None:
    _, opened = page
    for width in (1280, 360, 780):
        opened.view(width)
        opened.value("document.querySelector('#results details').open = true")
        opened.wait(f"{DRAWN}.length === 14 && {WIDEST} <= {width}")
        opened.value("document.querySelector('#results details').open = false")
    assert_quiet(opened)


def test_what_the_page_says(wine: Page) -> None:
    words = wine.value("document.querySelector('main').innerText")
    for wanted in (
        "Multiclass classification",
        "93.3\N{NO-BREAK SPACE}%",
        "grignolino",
        "kept: epoch 30",
        "Copy",
    ):
        assert wanted in words
    assert wine.value("document.title") == "wine \N{MIDDLE DOT} descend"
    assert (
        wine.value("document.getElementById('recipe-text').textContent") == sample_runs.wine()["recipe.toml"]
    )
    assert wine.value("document.querySelector('#plot-confusion').textContent").count("grignolino") == 2


def test_the_learning_curves_are_those_of_the_history(wine: Page) -> None:
    drawn = wine.value("document.getElementById('plot-loss')._fullData.map(x => [x.name, x.y])")
    history = sample_runs.wine()["history.jsonl"]
    assert [name for name, _ in drawn] == ["training", "validation", "kept: epoch 30"]
    assert drawn[0][1] == pytest.approx([line["train"]["loss"] for line in history], rel=1e-4)
    assert drawn[1][1] == pytest.approx([line["validation"]["loss"] for line in history], rel=1e-4)


def test_figures_follow_the_colour_scheme_at_once(wine: Page) -> None:
    back = "getComputedStyle(document.documentElement).backgroundColor"
    wine.view(dark=False)
    light = [wine.value(seen) for seen in (LINE, CELL, back)]
    wine.view(dark=True)
    wine.wait(f"{LINE} !== '{light[0]}'")
    assert all(
        one != other
        for one, other in zip(light, [wine.value(seen) for seen in (LINE, CELL, back)], strict=True)
    )
    wine.view(dark=False)
    wine.wait(f"{LINE} === '{light[0]}'")
    assert [wine.value(seen) for seen in (LINE, CELL, back)] == light
    assert_quiet(wine)


def test_paper_is_light_and_the_screen_stays_dark(wine: Page, tmp_path: Path) -> None:
    wine.view(dark=True)
    wine.wait(f"{LINE} === 'rgb(98, 176, 240)'")  # --training of the dark scheme
    wine.value(f"window.seen = []; addEventListener('beforeprint', () => window.seen.push({LINE}))")
    assert wine.print(tmp_path / "wine.pdf").read_bytes().startswith(b"%PDF")
    assert wine.value("window.seen") == ["rgb(11, 107, 184)"]  # --training of the light scheme
    assert wine.value(LINE) == "rgb(98, 176, 240)"
    assert_quiet(wine)


def test_the_keyboard_reaches_the_report(wine: Page) -> None:
    wine.call("Page.bringToFront")
    wine.press("Tab", 9)
    assert wine.value("document.activeElement.className") == "skip"
    assert wine.value("document.activeElement.getBoundingClientRect().left") >= 0
    wine.press("Tab", 9)
    assert wine.value("document.activeElement.hash") == "#learning"


def test_a_key_copies_the_command(wine: Page) -> None:
    wine.call("Page.bringToFront")
    wine.call("Emulation.setFocusEmulationEnabled", enabled=True)
    wine.browser.call(
        "Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"]
    )
    wine.value("document.querySelector('[data-copy=command-text]').focus()")
    wine.press("Enter", 13, "\r")
    wine.wait("document.getElementById('copy-status').textContent")
    assert wine.value("document.activeElement.textContent") == "Copied"
    assert wine.value("navigator.clipboard.readText()") == "descend train wine --seed 0 --out runs/wine"
    assert_quiet(wine)


def test_without_a_clipboard_the_text_is_selected(wine: Page) -> None:
    wine.value("navigator.clipboard.writeText = () => Promise.reject(new Error('no'))")
    wine.value("document.querySelector('[data-copy=recipe-text]').click()")
    wine.wait("document.getElementById('copy-status').textContent.startsWith('Selected')")
    assert wine.value("getSelection().toString().trim()") == sample_runs.wine()["recipe.toml"].strip()


def test_words_that_want_to_be_markup_stay_words(page: tuple[str, Page]) -> None:
    name, opened = page
    assert (
        opened.value("document.querySelectorAll('script').length") == 4
    )  # data, library packed and not, ours
    assert opened.value("document.title") != "owned"
    if "hostile" in name:
        assert opened.value("document.querySelectorAll('main img, main b').length") == 0
        assert sample_runs.HOSTILE in opened.value("document.querySelector('main').textContent")


@pytest.mark.parametrize("page", ["hostile"], indirect=True)
def test_hostile_names_show_as_they_are_in_figures(page: tuple[str, Page]) -> None:
    _, opened = page
    opened.view(1280)
    opened.wait(f"{WIDEST} > 600")
    ticks = opened.value(
        "[...document.querySelectorAll('#plot-confusion .ytick text')].map(x => x.textContent)"
    )
    names = [sample_runs.HOSTILE + "1", sample_runs.HOSTILE + "2", "--validation"]
    assert sorted(ticks) == sorted(short(name) for name in names)
    opened.value("document.querySelector('#plot-confusion').scrollIntoView({block: 'center'})")
    cell = opened.value(
        "(() => { const r = document.querySelector('#plot-confusion .heatmap-label').getBoundingClientRect();"
        " return [r.x + r.width / 2, r.y + r.height / 2]; })()"
    )
    opened.point(*cell)
    opened.wait("document.querySelector('#plot-confusion .hoverlayer').textContent")
    hover = opened.value("document.querySelector('#plot-confusion .hoverlayer').textContent")
    assert short(names[0]) in hover
    assert "14 rows, 93.3% of the class" in hover
    assert_quiet(opened)


def test_the_policy_stops_what_slipped_in(browser: Browser, reported: Report, tmp_path: Path) -> None:
    planted = (
        "<script>window.owned = 1</script><img src='https://example.org/x.png' onerror='window.owned = 2'>"
    )
    spoiled = tmp_path / "spoiled.html"
    text = reported("one_epoch").read_text(encoding="utf-8")
    spoiled.write_text(text.replace("<h2", planted + "<h2", 1), encoding="utf-8")
    with browser.open(spoiled) as page:
        assert page.value("typeof window.owned") == "undefined"
        assert len([line for line in page.console() if "Content Security Policy" in line]) >= 2


def test_a_library_that_cannot_be_unpacked_is_told(
    browser: Browser, reported: Report, tmp_path: Path
) -> None:
    spoiled = tmp_path / "spoiled.html"
    text = reported("one_epoch").read_text(encoding="utf-8")
    place = text.index('id="library">') + len('id="library">')
    spoiled.write_text(text[:place] + "AAAA" + text[place:], encoding="utf-8")
    with browser.open(spoiled) as page:
        assert not page.value("document.getElementById('figures-failed').hidden")
        assert page.console() == []


def test_these_tests_see_what_they_are_meant_to_see(browser: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!DOCTYPE html><title>x</title><meta name=viewport content='width=device-width'>"
        "<div style='width:500px'>wide</div><p id=undrawn>"
        "<script>console.warn('warned'); fetch('http://127.0.0.1:9/x').catch(() => 0); throw Error('thrown')"
        "</script>",
        encoding="utf-8",
    )
    with browser.open(bad, width=360, phone=True) as page:
        assert page.value("document.documentElement.scrollWidth") == 508
        said = " ".join(page.console())
        assert "warned" in said
        assert "thrown" in said
        assert page.requests() == ["http://127.0.0.1:9/x"]
