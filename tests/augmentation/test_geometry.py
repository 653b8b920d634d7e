"""Geometric augmentations against torch.roll, torch.rot90, slicing and scipy.ndimage."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional

from descend.augmentation import Crop, Deform, Flip, Rotate, Translate
from descend.augmentation.elastic import displaced
from descend.augmentation.geometry import cropped, rotated, shifted


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


PIXELS = torch.rand(6, 3, 9, 12, generator=generator())
SQUARE = torch.rand(5, 2, 8, 8, generator=generator(1))


class TestFlip:
    def test_each_side(self):
        assert torch.equal(Flip(horizontal=1.0)(PIXELS, generator()), PIXELS.flip(3))
        assert torch.equal(Flip(horizontal=0.0, vertical=1.0)(PIXELS, generator()), PIXELS.flip(2))
        assert torch.equal(Flip(horizontal=1.0, vertical=1.0)(PIXELS, generator()), PIXELS.flip(2, 3))
        assert torch.equal(Flip(horizontal=0.0)(PIXELS, generator()), PIXELS)

    def test_frequency_and_independence_of_images(self):
        many = PIXELS[:1].expand(4000, -1, -1, -1)
        flipped = (Flip(horizontal=0.3)(many, generator()) == many.flip(3)).flatten(1).all(1)
        assert abs(flipped.float().mean() - 0.3) < 5 * math.sqrt(0.21 / 4000)


class TestTranslate:
    @pytest.mark.parametrize(
        ("down", "right"), [(0, 0), (2, 0), (0, -3), (-1, 4), (8, 11), (9, 0), (0, -12), (50, 50)]
    )
    def test_is_a_roll_with_black_outside(self, down, right):
        reference = torch.roll(PIXELS, (down, right), (2, 3))
        rows, columns = torch.arange(9)[:, None], torch.arange(12)
        inside = (rows - down >= 0) & (rows - down < 9) & (columns - right >= 0) & (columns - right < 12)
        reference = torch.where(inside, reference, 0.0)
        result = shifted(PIXELS, torch.full((6,), down), torch.full((6,), right), 50)
        assert torch.equal(result, reference)

    def test_every_shift_is_equally_likely(self):
        dot = torch.zeros(5000, 1, 7, 7)
        dot[:, :, 3, 3] = 1
        counts = Translate(pixels=1)(dot, generator()).sum((0, 1))
        assert counts.sum() == 5000
        assert counts[2:5, 2:5].sum() == 5000
        expected = 5000 / 9
        assert (
            counts[2:5, 2:5] - expected
        ).square().sum() / expected < 30  # chi-square with 8 degrees: 1e-3 at 26

    def test_strength_zero_is_the_identity(self):
        assert torch.equal(Translate(pixels=0)(PIXELS, generator()), PIXELS)


class TestRotate:
    @pytest.mark.parametrize("quarters", [0, 1, 2, 3])
    def test_quarter_rotations_equal_rot90(self, quarters):
        result = rotated(SQUARE, torch.full((5,), 90.0 * quarters))
        torch.testing.assert_close(result, torch.rot90(SQUARE, quarters, (2, 3)), rtol=0, atol=2e-6)

    def test_half_rotation_of_a_rectangular_image(self):
        torch.testing.assert_close(
            rotated(PIXELS, torch.full((6,), 180.0)), PIXELS.flip(2, 3), rtol=0, atol=2e-6
        )

    @pytest.mark.parametrize("degrees", [-77.0, -10.0, 5.0, 33.0, 120.0])
    def test_any_angle_equals_scipy(self, degrees):
        result = rotated(PIXELS.double(), torch.full((6,), degrees, dtype=torch.float64))
        for image, reference in zip(
            PIXELS.numpy().reshape(-1, 9, 12), result.numpy().reshape(-1, 9, 12), strict=True
        ):
            turned = ndimage.rotate(
                image.astype(np.float64),
                degrees,
                reshape=False,
                order=1,
                mode="grid-constant",
                prefilter=False,
            )
            np.testing.assert_allclose(reference, turned, atol=1e-10)

    def test_each_image_has_its_own_angle_within_the_range(self):
        ramp = torch.arange(9.0)[:, None].expand(9, 9) / 8
        result = Rotate(degrees=30.0)(ramp.expand(500, 1, 9, 9), generator())[:, 0]
        # The slope of the ramp along rows is the sine of the angle, and along columns its cosine.
        across, down = result[:, 4, 5] - result[:, 4, 3], result[:, 5, 4] - result[:, 3, 4]
        angle = torch.atan2(across, down).abs().rad2deg()
        assert angle.max() <= 30.01
        assert angle.max() > 29
        assert abs(angle.mean() - 15) < 2

    def test_strength_zero_is_the_identity(self):
        torch.testing.assert_close(Rotate(degrees=0.0)(PIXELS, generator()), PIXELS, rtol=0, atol=1e-5)


class TestCrop:
    def test_a_full_window_is_the_identity(self):
        result = Crop(smallest=1.0, ratio=1.0)(PIXELS, generator())
        torch.testing.assert_close(result, PIXELS, rtol=0, atol=1e-5)

    @pytest.mark.parametrize(("down", "right"), [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
    def test_a_quarter_is_the_enlarged_slice(self, down, right):
        half = torch.full((5,), 0.5)
        result = cropped(SQUARE, half, half, torch.full((5,), down), torch.full((5,), right))
        top, left = int(4 * down), int(4 * right)
        reference = functional.interpolate(
            SQUARE[:, :, top : top + 4, left : left + 4], scale_factor=2, mode="bilinear", align_corners=False
        )
        # At the edge of the window the slice has no neighbors.
        torch.testing.assert_close(result[..., 1:-1, 1:-1], reference[..., 1:-1, 1:-1], rtol=0, atol=1e-5)

    def test_areas_and_ratios_are_within_their_ranges(self):
        rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
        ramps = torch.stack([rows, columns]).expand(2000, 2, 16, 16)
        result = Crop(smallest=0.3, ratio=2.0)(ramps, generator())
        tall = (result[:, 0, 8, 0] - result[:, 0, 7, 0]).double()  # the inverse of the enlargement
        wide = (result[:, 1, 0, 8] - result[:, 1, 0, 7]).double()
        area, ratio = tall * wide, wide / tall
        # A side longer than that of the image is clamped.
        free = (tall < 0.999) & (wide < 0.999)
        assert area.min() > 0.3 / 2
        assert (area[free] > 0.299).all()
        assert area.max() <= 1.001
        assert ratio.max() < 2.01
        assert ratio.min() > 1 / 2.01
        assert area.min() < 0.32
        assert result.min() >= 0
        assert result.max() <= 15


class TestDeform:
    def test_strength_zero_is_the_identity(self):
        torch.testing.assert_close(Deform(pixels=0.0)(PIXELS, generator()), PIXELS, rtol=0, atol=1e-5)

    def test_displacement_equals_scipy(self):
        field = torch.randn(2, 6, 9, 12, generator=generator(3), dtype=torch.float64)
        result = displaced(PIXELS.double(), *field).numpy()
        rows, columns = np.mgrid[:9, :12]
        for at in range(6):
            places = np.stack([rows + field[0, at].numpy(), columns + field[1, at].numpy()])
            for channel in range(3):
                reference = ndimage.map_coordinates(
                    PIXELS[at, channel].double().numpy(), places, order=1, mode="grid-constant"
                )
                np.testing.assert_allclose(result[at, channel], reference, atol=1e-10)

    @pytest.mark.parametrize("smoothness", [0.5, 2.0, 6.0])
    def test_the_root_mean_square_is_as_specified_at_every_pixel(self, smoothness):
        method = Deform(pixels=1.5, smoothness=smoothness)
        field = method.field(torch.zeros(4000, 1, 6, 9), generator())
        rms = field.square().mean(1).sqrt()
        assert (rms - 1.5).abs().max() < 0.15  # 4000 samples: a standard deviation of about 0.017 each
        assert abs(float(rms.mean()) - 1.5) < 0.03

    def test_the_field_is_noise_smoothed_like_scipy(self):
        method = Deform(pixels=1.0, smoothness=2.0)
        noise = torch.rand((2, 3, 10, 8), generator=generator(5), dtype=torch.float64) * 2 - 1
        field = method.field(torch.zeros(3, 1, 10, 8, dtype=torch.float64), generator(5)).numpy()
        smooth = ndimage.gaussian_filter(noise.numpy(), (0, 0, 2.0, 2.0), mode="reflect")
        ratio = field / smooth  # the same at each pixel for any sample
        np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:1, :1], ratio.shape), rtol=1e-8)

    def test_smoothness_correlates_neighbors(self):
        def roughness(smoothness):
            field = Deform(smoothness=smoothness).field(torch.zeros(200, 1, 16, 16), generator())
            return float(field.diff(dim=-1).square().mean())

        assert roughness(4.0) < roughness(2.0) / 2 < roughness(0.5) / 8
