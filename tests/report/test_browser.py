"""Reports in a real browser: rendering, console messages and network requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support import run_folders, sample_runs
from tests.support.chromium import Browser, Page

from descend.report import write
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
LINE = "getComputedStyle(document.querySelector('#plot-loss .line')).stroke"
CELL = "getComputedStyle(document.querySelector('#plot-confusion .counts text')).fill"
DRAWN = "[...document.querySelectorAll('.plot > svg[role=img]')].filter(chart => chart.checkVisibility())"
WIDEST = f"Math.max(...{DRAWN}.map(chart => chart.getBoundingClientRect().right))"
OUTSIDE = f"""{DRAWN}.flatMap(chart => {{
    const box = chart.parentNode.getBoundingClientRect();
    return [...chart.querySelectorAll('text')].filter(text => {{
        const place = text.getBoundingClientRect();
        return place.width && (place.left < box.left - 1 || place.right > box.right + 1
            || place.top < box.top - 1 || place.bottom > box.bottom + 1);
    }}).map(text => chart.parentNode.id + ' ' + text.textContent);
}})"""
"""The texts of figures that are cut off."""


@pytest.fixture(scope="module", params=PLOTS)
def page(request: pytest.FixtureRequest, browser: Browser, reported: Report) -> Iterator[tuple[str, Page]]:
    """Each report as loaded by a phone in dark mode."""
    with browser.open(reported(request.param), width=360, phone=True, dark=True) as opened:
        yield request.param, opened


@pytest.fixture(scope="module")
def wine(browser: Browser, reported: Report) -> Iterator[Page]:
    """One report on a wide screen."""
    with browser.open(reported("wine")) as opened:
        yield opened


def assert_no_messages(page: Page) -> None:
    """Since the page was opened, there was no console message and no network request."""
    assert page.console() == []
    assert page.requests() == []


@pytest.mark.slow
def test_every_figure_is_drawn(page: tuple[str, Page]) -> None:
    name, opened = page
    folded = 3 if name == "many_targets" else 0
    assert opened.value(f"{DRAWN}.length") == PLOTS[name]
    assert opened.value("document.querySelectorAll('.plot').length") == PLOTS[name] + folded
    assert_no_messages(opened)


def test_a_phone_scrolls_only_vertically(page: tuple[str, Page]) -> None:
    _, opened = page
    opened.view(360, phone=True, dark=True)
    opened.wait(f"{WIDEST} <= 360")
    assert opened.value("innerWidth") == 360
    assert opened.value("document.documentElement.scrollWidth") <= 360
    assert_no_messages(opened)


def test_it_fits_other_screen_widths(page: tuple[str, Page]) -> None:
    _, opened = page
    for width in (780, 1280):
        opened.view(width)
        opened.wait(f"{WIDEST} > 360 && {WIDEST} <= {width}")
        assert opened.value("document.documentElement.scrollWidth") <= width
    assert_no_messages(opened)


@pytest.mark.parametrize("page", ["many_targets"], indirect=True)
def test_figures_in_opened_sections_fit(page: tuple[str, Page]) -> None:
    _, opened = page
    for width in (1280, 360, 780):
        opened.view(width)
        opened.value("document.querySelector('#results details').open = true")
        opened.wait(f"{DRAWN}.length === 14 && {WIDEST} <= {width}")
        opened.value("document.querySelector('#results details').open = false")
    assert_no_messages(opened)


def test_text_of_the_page(wine: Page) -> None:
    text = wine.value("document.querySelector('main').innerText")
    for expected in (
        "Multiclass classification",
        "93.3\N{NO-BREAK SPACE}%",
        "grignolino",
        "kept weights: epoch 30",
        "Copy",
    ):
        assert expected in text
    assert wine.value("document.title") == "wine \N{MIDDLE DOT} descend"
    assert (
        wine.value("document.getElementById('recipe-text').textContent") == sample_runs.wine()["recipe.toml"]
    )
    assert (
        wine.value("document.querySelector('#plot-confusion').textContent").count("grignolino")
        == 4  # two axes, two sets of labels
    )


def test_learning_curves_equal_the_history(wine: Page) -> None:
    tips = wine.value("[...document.querySelectorAll('#plot-loss .columns rect')].map(x => x.dataset.tip)")
    history = sample_runs.wine()["history.jsonl"]
    assert len(tips) == len(history)
    for tip, line in zip(tips, history, strict=True):
        head, training, validation = tip.split("\n")
        assert head.removesuffix(", kept") == f"epoch {line['epoch']}"
        assert float(training.removeprefix("training ")) == pytest.approx(line["train"]["loss"], rel=1e-4)
        assert float(validation.removeprefix("validation ")) == pytest.approx(
            line["validation"]["loss"], rel=1e-4
        )


def test_no_text_of_a_figure_is_cut(page: tuple[str, Page]) -> None:
    _, opened = page
    for width in (360, 390, 1280):
        opened.view(width, phone=width < 500)
        opened.wait(f"innerWidth === {width}")
        assert opened.value(OUTSIDE) == []


def test_figures_need_no_script(browser: Browser, reported: Report) -> None:
    with browser.open(reported("wine")) as opened:
        opened.call("Emulation.setScriptExecutionDisabled", value=True)
        opened.load(reported("wine"))
        assert opened.value("typeof document.querySelector('.chart circle title')") == "object"
        assert opened.value("document.querySelectorAll('.tip').length") == 0
        assert opened.value(f"{DRAWN}.length") == PLOTS["wine"]
        assert opened.value("document.querySelectorAll('#plot-loss .columns title').length") == 43


def test_pointing_at_a_curve_shows_its_values(browser: Browser, reported: Report) -> None:
    with browser.open(reported("wine")) as opened:
        opened.value("document.querySelector('#plot-loss').scrollIntoView({block: 'center'})")
        opened.wait("document.querySelector('.tip')")
        at = opened.value(
            "(() => { const r = document.querySelectorAll('#plot-loss .columns rect')[9].getBoundingClientRect();"
            " return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        opened.point(*at)
        opened.wait("!document.querySelector('.tip').hidden")
        assert opened.value("document.querySelector('.tip').textContent").startswith("epoch 10\ntraining ")
        assert opened.value("document.querySelectorAll('#plot-loss .crosshair').length") == 1
        opened.press("Escape", 27)
        opened.wait("document.querySelector('.tip').hidden")
        assert_no_messages(opened)


def test_figures_follow_the_color_scheme(wine: Page) -> None:
    back = "getComputedStyle(document.documentElement).backgroundColor"
    wine.view(dark=False)
    light = [wine.value(expression) for expression in (LINE, CELL, back)]
    wine.view(dark=True)
    wine.wait(f"{LINE} !== '{light[0]}'")
    assert all(
        one != other
        for one, other in zip(
            light, [wine.value(expression) for expression in (LINE, CELL, back)], strict=True
        )
    )
    wine.view(dark=False)
    wine.wait(f"{LINE} === '{light[0]}'")
    assert [wine.value(expression) for expression in (LINE, CELL, back)] == light
    assert_no_messages(wine)


def test_print_is_light_while_the_screen_is_dark(wine: Page, tmp_path: Path) -> None:
    wine.view(dark=True)
    wine.wait(f"{LINE} === 'rgb(98, 176, 240)'")  # --training of the dark scheme
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    wine.call("Emulation.setEmulatedMedia", media="print", features=dark)
    assert wine.value(LINE) == "rgb(11, 107, 184)"  # --training of the light scheme
    assert wine.print(tmp_path / "wine.pdf").read_bytes().startswith(b"%PDF")
    wine.call("Emulation.setEmulatedMedia", media="", features=dark)
    assert wine.value(LINE) == "rgb(98, 176, 240)"
    assert_no_messages(wine)


def test_keyboard_navigation(wine: Page) -> None:
    wine.call("Page.bringToFront")
    wine.press("Tab", 9)
    assert wine.value("document.activeElement.className") == "skip"
    assert wine.value("document.activeElement.getBoundingClientRect().left") >= 0
    wine.press("Tab", 9)
    assert wine.value("document.activeElement.hash") == "#learning"


def test_the_command_can_be_copied_by_keyboard(wine: Page) -> None:
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
    assert_no_messages(wine)


def test_without_a_clipboard_the_text_is_selected(wine: Page) -> None:
    wine.value("navigator.clipboard.writeText = () => Promise.reject(new Error('no'))")
    wine.value("document.querySelector('[data-copy=recipe-text]').click()")
    wine.wait("document.getElementById('copy-status').textContent.startsWith('Selected')")
    assert wine.value("getSelection().toString().trim()") == sample_runs.wine()["recipe.toml"].strip()


def test_text_that_looks_like_markup_stays_text(page: tuple[str, Page]) -> None:
    name, opened = page
    assert opened.value("document.querySelectorAll('script').length") == 1
    assert opened.value("document.title") != "owned"
    if "hostile" in name:
        assert opened.value("document.querySelectorAll('main img, main b').length") == 0
        assert sample_runs.HOSTILE in opened.value("document.querySelector('main').textContent")


@pytest.mark.parametrize("page", ["hostile"], indirect=True)
def test_figures_show_hostile_names_verbatim(page: tuple[str, Page]) -> None:
    _, opened = page
    opened.view(1280)
    opened.wait(f"{WIDEST} > 600")
    ticks = ticks_of(opened, "confusion", "y")
    names = [sample_runs.HOSTILE + "1", sample_runs.HOSTILE + "2", "--validation"]
    assert sorted(ticks) == sorted(short(name) for name in names)
    tip = opened.value("document.querySelector('#plot-confusion .cells rect[data-tip]').dataset.tip")
    assert names[0] in tip or names[1] in tip or names[2] in tip
    assert "of the class" in tip
    assert_no_messages(opened)


def test_the_security_policy_blocks_injected_scripts(
    browser: Browser, reported: Report, tmp_path: Path
) -> None:
    injected = (
        "<script>window.owned = 1</script><img src='https://example.org/x.png' onerror='window.owned = 2'>"
    )
    modified = tmp_path / "modified.html"
    text = reported("one_epoch").read_text(encoding="utf-8")
    modified.write_text(text.replace("<h2", injected + "<h2", 1), encoding="utf-8")
    with browser.open(modified) as page:
        assert page.value("typeof window.owned") == "undefined"
        assert len([line for line in page.console() if "Content Security Policy" in line]) >= 2


def test_the_checks_detect_problems(browser: Browser, tmp_path: Path) -> None:
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
        messages = " ".join(page.console())
        assert "warned" in messages
        assert "thrown" in messages
        assert page.requests() == ["http://127.0.0.1:9/x"]


def ticks_of(page: Page, key: str, axis: str) -> list[str]:
    """The tick labels of an axis of a figure, in order."""
    ticks: list[str] = page.value(
        f"[...document.querySelectorAll('#plot-{key} g.{axis} text')].filter(x => x.getClientRects().length)"
        ".map(x => x.textContent)"
    )
    return ticks


def test_tick_labels_differ_in_small_ranges_and_have_no_prefixes_of_units(
    browser: Browser, tmp_path: Path
) -> None:
    files = sample_runs.wine()
    for row, line in enumerate(files["history.jsonl"]):
        line["validation"]["accuracy"] = 0.9881 + 0.0001 * (row % 13)
        line["train"]["accuracy"] = 0.9899
        line["lr"] = 1e-4 * min(row + 1, 5)
        line["gradient_norm"] = 1e9 + row
    with browser.open(write(run_folders.save(files, tmp_path / "run"))) as page:
        for key in ("loss", "metric", "rate", "gradient", "time"):
            for axis in "xy":
                ticks = ticks_of(page, key, axis)
                assert len(ticks) >= 3, (key, axis)
                assert len(set(ticks)) == len(ticks), (key, ticks)
        assert all(tick.endswith("%") for tick in ticks_of(page, "metric", "y"))
        assert "0.0002" in ticks_of(page, "rate", "y")


@pytest.mark.parametrize("start", [1990.0, 1.7e9])
def test_years_and_times_on_the_axes_of_a_target(browser: Browser, tmp_path: Path, start: float) -> None:
    files = sample_runs.diabetes()
    true = [start + year for year in range(30)]
    predicted = [value + (-1) ** row for row, value in enumerate(true)]
    name = next(iter(files["evaluation.json"]["scatter"]))
    files["evaluation.json"]["scatter"] = {name: {"true": true, "predicted": predicted}}
    with browser.open(write(run_folders.save(files, tmp_path / "run"))) as page:
        assert page.value("document.querySelectorAll('#plot-target-0 circle').length") == len(true)
        for axis in "xy":
            ticks = ticks_of(page, "target-0", axis)
            assert len(ticks) >= 3
            assert len(set(ticks)) == len(ticks)
            if start == 1990.0:
                assert "2000" in ticks
        ticks = ticks_of(page, "errors", "y")
        assert len(set(ticks)) == len(ticks)


def test_a_table_wider_than_a_phone_says_that_it_scrolls(page: tuple[str, Page]) -> None:
    _, opened = page
    opened.view(390, phone=True)
    opened.wait("innerWidth === 390")
    marked = """[...document.querySelectorAll('.scroll')].filter(box => box.checkVisibility()).every(
        box => (box.scrollWidth > box.clientWidth + 1) === box.nextElementSibling.checkVisibility())"""
    opened.wait(marked)
    assert opened.value("document.documentElement.scrollWidth") <= 390
    assert_no_messages(opened)


def test_the_cue_of_a_wide_table_is_shown_on_a_phone_only(wine: Page) -> None:
    cue = "document.querySelector('#data .scroll + .cue').checkVisibility()"
    wine.view(390, phone=True)
    wine.wait(cue)
    wine.view(2000)
    wine.wait(f"!{cue}")
