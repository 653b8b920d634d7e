"""Pages of the gallery in a browser."""

import pytest

from descend.gallery import write_figure, write_index

pytestmark = [pytest.mark.browser, pytest.mark.slow]  # each test may be the first to need a measurement

NAMES = {"race": 4, "scaling": 7, "batch_norm": 5, "second_order": 3}
WIDEST = """Math.max(...[...document.querySelectorAll('.plot .main-svg')]
    .map(figure => figure.getBoundingClientRect().right))"""


@pytest.fixture(scope="module")
def folder(pictures, tmp_path_factory):
    path = tmp_path_factory.mktemp("gallery")
    for name in NAMES:
        write_figure(pictures(name), path)
    write_index(path)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_all_panels_are_drawn_without_network_requests(browser, folder, name):
    with browser.open(folder / f"{name}.html", width=360, phone=True, dark=True) as page:
        assert (
            page.value("document.querySelectorAll('.plot .cartesianlayer .subplot.xy').length") == NAMES[name]
        )
        assert page.value("document.getElementById('figures-failed').hidden")
        page.wait(f"{WIDEST} <= 360")
        assert page.value("document.documentElement.scrollWidth") <= 360
        page.view(1280)
        page.wait(f"{WIDEST} > 360 && {WIDEST} <= 1280")
        assert page.console() == []
        assert page.requests() == []


def test_colors_follow_the_readers_scheme(browser, folder):
    line = "document.querySelector('#plot-batch_norm-0 .js-line').style.stroke"
    with browser.open(folder / "batch_norm.html") as page:
        day = page.value(line)
        page.view(1280, dark=True)
        page.wait(f"{line} !== '{day}'")
        assert (day, page.value(line)) == ("rgb(199, 80, 0)", "rgb(242, 162, 92)")


def test_bar_labels_that_look_like_numbers_are_categories(browser, folder):
    with browser.open(folder / "second_order.html") as page:
        ticks = page.value(
            "[...document.querySelectorAll('#plot-second_order-2 .xtick text')].map(t => t.textContent)"
        )
        assert ticks == ["0.1", "0.01", "0.0001", "1e-06"]


def test_the_animation_plays(browser, folder):
    """Play shows shorter paths first, and ends with the complete ones."""
    length = "document.getElementById('plot-race-0').data.find(t => t.name === undefined && t.mode === 'lines').x.length"
    with browser.open(folder / "race.html") as page:
        complete = page.value(length)
        button = "document.querySelector('#plot-race-0 .updatemenu-button rect').getBoundingClientRect()"
        x, y = page.value(f"[{button}.x + 8, {button}.y + 8]")
        page.point(x, y)
        page.value(
            "{ const b = document.querySelector('#plot-race-0 .updatemenu-button');"
            " for (const kind of ['mousedown', 'mouseup', 'click']) b.dispatchEvent(new MouseEvent(kind, {bubbles: true})); }"
        )
        page.wait(f"{length} < {complete}")
        page.wait(f"{length} === {complete}", 30)
        assert page.console() == []


def test_the_index_shows_pictures_without_a_request(browser, folder):
    with browser.open(folder / "index.html", width=360, phone=True) as page:
        page.wait("[...document.images].every(image => image.complete && image.naturalWidth === 1600)")
        assert page.value("document.querySelectorAll('.shelf li').length") == len(NAMES)
        assert page.value("document.documentElement.scrollWidth") <= 360
        assert page.console() == []
        assert page.requests() == []
