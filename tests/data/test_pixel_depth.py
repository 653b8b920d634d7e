import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from descend.data.image_arrays import as_images
from descend.data.pixel_depth import LevelRange, eight_bits, is_deep, white_level
from descend.errors import DataError


def ranges(*levels):
    return [LevelRange.of(f"{at}.tif", np.asarray(one)) for at, one in enumerate(levels)]


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=5))
def test_white_is_the_largest_number_of_the_smallest_bit_depth(highest):
    white = white_level(ranges(*([0, high] for high in highest)))
    assert white >= max(255, *highest)
    assert white == 255 or (white - 1) / 2 < max(highest)
    assert int(white) & (int(white) + 1) == 0


@given(arrays("uint16", 12), st.sampled_from([255.0, 1023.0, 65535.0]))
def test_levels_keep_their_order_and_their_ends(levels, white):
    found = eight_bits(levels, white)
    expected = [min(255, round(255 * int(level) / int(white) + 1e-9)) for level in levels]
    assert found.tolist() == expected
    assert (np.diff(found[np.argsort(levels, kind="stable")].astype(int)) >= 0).all()


def test_floating_point_levels():
    assert white_level(ranges(np.float32([[0, 0.4]]), np.float32([[1.0]]))) == 1.0
    assert white_level(ranges(np.float32([[0.0, 255.0]]))) == 255.0
    assert white_level(ranges(np.float32([[0.5, 7.5]])), 10.0) == 10.0


def test_black_images_do_not_matter():
    assert white_level(ranges(np.float32([[0.0]]), np.uint16([[0, 300]]))) == 511.0


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([[-1, 3]], r"0\.tif: gray levels from -1 to 3; levels below 0"),
        ([[0.0, np.nan]], "NaN or infinite"),
        ([[0.0, np.inf]], "NaN or infinite"),
        ([[0.25, 7.5]], r"do not tell which level is white; specify it .*data\.image_white"),
    ],
)
def test_levels_that_decide_nothing_are_refused(levels, message):
    with pytest.raises(DataError, match=message):
        white_level(ranges(levels))


def test_different_kinds_of_images_are_refused():
    with pytest.raises(DataError, match="one level of white does not fit both"):
        white_level(ranges(np.float32([[0.5]]), np.uint16([[700]])))
    assert white_level(ranges(np.uint16([[40_000]])), mixed=True) == 65535
    assert white_level(ranges(np.uint16([[200]])), mixed=True) == 255
    with pytest.raises(
        DataError, match=r"some images have 8 bits per pixel, and others such as '0\.tif' have more"
    ):
        white_level(ranges(np.uint16([[700]])), mixed=True)
    assert white_level(ranges(np.uint16([[700]])), 1023, mixed=True) == 1023


@pytest.mark.parametrize(
    ("mode", "deep"), [("I", True), ("I;16B", True), ("F", True), ("L", False), ("1", False)]
)
def test_deep_modes(mode, deep):
    assert is_deep(mode) == deep


def test_arrays_have_the_levels_of_the_training_images():
    shape = (1, 1, 2)
    eight = np.array([[[[0, 255]]]], dtype=np.uint8)
    deep = np.array([[[[0, 1023]]]], dtype=np.uint16)
    assert np.array_equal(as_images(eight, shape, 1023.0), eight)
    assert np.array_equal(as_images(deep, shape, 1023.0), eight)
    assert np.array_equal(as_images(deep.astype(np.float32), shape, 1023.0), eight)
    with pytest.raises(DataError, match="negative levels or NaN"):
        as_images(-deep.astype(float), shape, 1023.0)
    with pytest.raises(DataError, match="integers from 0 to 255"):
        as_images(deep, shape)
