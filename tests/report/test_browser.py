"""The report in a real browser: what is drawn, what is said in the console, what is asked of the network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import sample_runs
from chromium import Browser, Page

pytestmark = pytest.mark.browser
Report = Callable[[str], Path]

PLOTS = {"digits": 6, "diabetes": 7, "linnerud": 8, "many_targets": 14, "failed": 5, "hostile_targets": 7}


def quiet(page: Page) -> bool:
    return page.console() == [] and page.requests() == []


@pytest.mark.parametrize("name", sample_runs.RUNS)
def test_every_figure_is_drawn_and_nothing_is_said(name: str, browser: Browser, reported: Report) -> None:
    page = browser.open(reported(name))
    places = page.value("document.querySelectorAll('.plot').length")
    assert places == PLOTS.get(name, 6)
    assert page.value("document.querySelectorAll('.plot .main-svg .plot').length") >= places
    assert page.value("document.getElementById('undrawn').hidden")
    assert page.console() == []
    assert page.requests() == []


@pytest.mark.parametrize("name", sample_runs.RUNS)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_phone_scrolls_down_only(name: str, dark: bool, browser: Browser, reported: Report) -> None:
    page = browser.open(reported(name), width=360, height=780, phone=True, dark=dark)
    assert page.value("innerWidth") == 360
    assert page.value("document.documentElement.scrollWidth") <= 360
    inside = "Math.max(...[...document.querySelectorAll('.plot .main-svg')].map(x => x.getBoundingClientRect().right))"
    assert page.value(inside) <= 360
    assert quiet(page)


def test_what_the_page_says(browser: Browser, reported: Report) -> None:
    page = browser.open(reported("wine"))
    words = page.value("document.querySelector('main').innerText")
    for wanted in (
        "Multiclass classification",
        "93.3\N{NO-BREAK SPACE}%",
        "grignolino",
        "kept: epoch 30",
        "Copy",
    ):
        assert wanted in words
    assert page.value("document.title") == "wine \N{MIDDLE DOT} descend"
    assert (
        page.value("document.getElementById('recipe-text').textContent") == sample_runs.wine()["recipe.toml"]
    )
    assert page.value("document.querySelector('#plot-confusion').textContent").count("grignolino") == 2


def test_the_learning_curve_is_where_the_numbers_are(browser: Browser, reported: Report) -> None:
    page = browser.open(reported("wine"))
    drawn = page.value("document.getElementById('plot-loss')._fullData.map(x => [x.name, x.y.length])")
    assert drawn == [["training", 43], ["validation", 43], ["kept: epoch 30", 1]]


def test_figures_follow_the_colour_scheme_at_once(browser: Browser, reported: Report) -> None:
    page = browser.open(reported("wine"))
    line = "document.querySelector('#plot-loss .scatterlayer .js-line').style.stroke"
    cell = "document.querySelector('#plot-confusion .heatmaplayer .heatmap-label text').style.fill"
    light = (
        page.value(line),
        page.value(cell),
        page.value("getComputedStyle(document.body.parentElement).backgroundColor"),
    )
    page.scheme(dark=True)
    page.wait(f"{line} !== '{light[0]}'")
    dark = (
        page.value(line),
        page.value(cell),
        page.value("getComputedStyle(document.body.parentElement).backgroundColor"),
    )
    assert all(one != other for one, other in zip(light, dark, strict=True))
    page.scheme(dark=False)
    page.wait(f"{line} === '{light[0]}'")
    assert quiet(page)


def test_paper_is_light_and_the_screen_stays_dark(browser: Browser, reported: Report, tmp_path: Path) -> None:
    page = browser.open(reported("wine"), dark=True)
    line = "document.querySelector('#plot-loss .scatterlayer .js-line').style.stroke"
    dark = page.value(line)
    page.value("window.seen = []; addEventListener('beforeprint', () => window.seen.push(" + line + "))")
    assert page.print(tmp_path / "wine.pdf").read_bytes().startswith(b"%PDF")
    assert page.value("window.seen") == ["rgb(11, 107, 184)"]  # --training of the light scheme
    assert page.value(line) == dark
    assert quiet(page)


def test_the_keyboard_reaches_the_report_and_copies_the_command(browser: Browser, reported: Report) -> None:
    page = browser.open(reported("wine"))
    browser.call("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    page.press("Tab", 9)
    assert page.value("document.activeElement.className") == "skip"
    assert page.value("document.activeElement.getBoundingClientRect().left") >= 0
    page.value("document.querySelector('[data-copy=command-text]').focus()")
    page.press("Enter", 13)
    page.wait("document.getElementById('said').textContent")
    assert page.value("document.activeElement.textContent") == "Copied"
    assert page.value("navigator.clipboard.readText()") == "descend train wine --seed 0 --out runs/wine"
    assert quiet(page)


def test_without_a_clipboard_the_text_is_selected(browser: Browser, reported: Report) -> None:
    page = browser.open(reported("wine"))
    page.value("navigator.clipboard.writeText = () => Promise.reject(new Error('no'))")
    page.value("document.querySelector('[data-copy=recipe-text]').click()")
    page.wait("document.getElementById('said').textContent")
    assert page.value("getSelection().toString().trim()") == sample_runs.wine()["recipe.toml"].strip()


@pytest.mark.parametrize("name", ["hostile", "hostile_targets"])
def test_words_that_want_to_be_markup_stay_words(name: str, browser: Browser, reported: Report) -> None:
    page = browser.open(reported(name))
    assert page.value("document.title") == (
        f"{sample_runs.HOSTILE} \N{MIDDLE DOT} descend"
        if name == "hostile"
        else "diabetes \N{MIDDLE DOT} descend"
    )
    assert page.value("document.querySelectorAll('img').length") == 0
    assert (
        page.value("document.querySelectorAll('script').length") == 4
    )  # data, library twice, the page's own
    assert page.value("document.querySelectorAll('main b').length") == 0
    assert sample_runs.HOSTILE in page.value("document.querySelector('main').textContent")
    assert quiet(page)


def test_hostile_names_show_as_they_are_in_figures(browser: Browser, reported: Report) -> None:
    page = browser.open(reported("hostile"))
    ticks = page.value(
        "[...document.querySelectorAll('#plot-confusion .ytick text')].map(x => x.textContent)"
    )
    assert [tick[:9] for tick in ticks] == ["</script>"] * 2 + ["--validat"]
    page.value("Plotly.Fx.hover('plot-confusion', [{curveNumber: 0, pointNumber: [0, 0]}])")
    hover = page.value("document.querySelector('#plot-confusion .hoverlayer').textContent")
    assert "</script>" in hover
    assert "14 rows, 93.3% of the class" in hover
    assert quiet(page)


def test_the_policy_stops_a_script_that_slipped_in(
    browser: Browser, reported: Report, tmp_path: Path
) -> None:
    text = reported("wine").read_text(encoding="utf-8")
    spoiled = tmp_path / "spoiled.html"
    spoiled.write_text(
        text.replace("<h2", "<script>window.owned = 1</script><img src='https://example.org/x.png'><h2", 1),
        encoding="utf-8",
    )
    page = browser.open(spoiled)
    assert page.value("typeof window.owned") == "undefined"
    assert len([line for line in page.console() if "Content Security Policy" in line]) == 2


def test_a_browser_that_cannot_inflate_says_so(browser: Browser, reported: Report, tmp_path: Path) -> None:
    text = reported("wine").read_text(encoding="utf-8")
    spoiled = tmp_path / "spoiled.html"
    place = text.index('id="library">') + len('id="library">')
    spoiled.write_text(text[:place] + "AAAA" + text[place:], encoding="utf-8")
    page = browser.open(spoiled)
    assert not page.value("document.getElementById('undrawn').hidden")
    assert page.console() == []


def test_the_browser_test_sees_what_it_is_meant_to_see(browser: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!DOCTYPE html><title>x</title><meta name=viewport content='width=device-width'>"
        "<div style='width:500px'>wide</div><p id=undrawn>"
        "<script>console.warn('warned'); fetch('http://127.0.0.1:9/x').catch(() => 0); throw new Error('thrown')</script>",
        encoding="utf-8",
    )
    page = browser.open(bad, width=360, phone=True)
    assert page.value("document.documentElement.scrollWidth") == 508
    said = " ".join(page.console())
    assert "warned" in said
    assert "thrown" in said
    assert page.requests() == ["http://127.0.0.1:9/x"]
