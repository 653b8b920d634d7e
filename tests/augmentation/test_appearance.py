"""Blur, color, noise and occlusion, against scipy.ndimage and PIL."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from scipy import ndimage

from descend.augmentation import Background, Blur, Color, FeatureDropout, Noise, Occlude
from descend.augmentation.base import Layout
from descend.augmentation.blur import blurred
from descend.augmentation.color import gray
from descend.augmentation.occlusion import boxes
from descend.errors import UserError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


PIXELS = torch.rand(6, 3, 9, 12, generator=generator())


class TestBlur:
    @pytest.mark.parametrize("width", [0.0, 0.3, 0.5, 1.0, 1.7, 3.0, 6.0])
    def test_equals_scipy(self, width):
        result = blurred(PIXELS.double(), torch.full((6,), width, dtype=torch.float64), 6.0).numpy()
        expected = ndimage.gaussian_filter(
            PIXELS.double().numpy(), (0, 0, width, width), mode="reflect", truncate=4
        )
        np.testing.assert_allclose(result, expected, atol=1e-12)

    def test_each_image_has_its_own_width_up_to_the_largest(self):
        dot = torch.zeros(300, 1, 11, 11)
        dot[:, :, 5, 5] = 1
        result = Blur(largest=1.5)(dot, generator())
        torch.testing.assert_close(result.sum((1, 2, 3)), torch.ones(300), rtol=0, atol=1e-5)
        least = ndimage.gaussian_filter(dot[0, 0].numpy(), 1.5)[5, 5]
        peaks = result[:, 0, 5, 5]
        assert peaks.min() >= least - 1e-6
        assert peaks.min() < least * 1.1
        assert peaks.max() > 0.99


class TestColor:
    def one(self, name, factor):
        """Return the method with one factor fixed, and the others at 1."""
        method: Any = Color(
            **{each: float(each == name) for each in ("brightness", "contrast", "saturation")}
        )
        method._factor = lambda strength, inputs, generator: torch.full(
            (len(inputs), 1, 1, 1), factor if strength else 1.0
        )
        return method

    @pytest.mark.parametrize(
        ("name", "enhance"),
        [
            ("brightness", ImageEnhance.Brightness),
            ("contrast", ImageEnhance.Contrast),
            ("saturation", ImageEnhance.Color),
        ],
    )
    @pytest.mark.parametrize("factor", [0.4, 0.8, 1.0])
    def test_equals_pil_to_one_level(self, name, enhance, factor):
        levels = (PIXELS[0].numpy().transpose(1, 2, 0) * 200 + 20).astype(np.uint8)
        expected = np.asarray(enhance(Image.fromarray(levels)).enhance(factor), dtype=float)
        images = torch.from_numpy(levels).permute(2, 0, 1)[None].float() / 255
        result = self.one(name, factor)(images, generator())[0].permute(1, 2, 0).numpy() * 255
        np.testing.assert_allclose(
            result, expected, atol=1.51
        )  # PIL rounds gray and result to integer levels

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_combined_factors_equal_a_sequence(self, channels):
        images = torch.rand(5, channels, 6, 7, generator=generator(2))
        result = Color(brightness=0.5, contrast=0.4, saturation=0.9)(images, generator(3))
        seeded, expected = generator(3), images
        b, c, s = (
            (torch.rand(5, generator=seeded) * 2 * spread + 1 - spread).reshape(-1, 1, 1, 1)
            for spread in (0.5, 0.4, 0.9)
        )
        expected = b * expected
        mean = gray(expected).mean((1, 2, 3), keepdim=True)
        expected = mean + c * (expected - mean)
        if channels > 1:
            expected = gray(expected) + s * (expected - gray(expected))
        torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)

    def test_factors_are_uniform_in_their_ranges(self):
        ones = torch.ones(4000, 1, 1, 1)
        result = Color(brightness=0.3, contrast=0, saturation=0)(ones, generator()).flatten()
        assert result.min() >= 0.7
        assert result.max() <= 1.3
        assert abs(float(result.mean()) - 1) < 0.015
        assert abs(float(result.std()) - 0.6 / 12**0.5) < 0.01

    def test_strength_zero_is_the_identity(self):
        assert torch.equal(Color(brightness=0, contrast=0, saturation=0)(PIXELS, generator()), PIXELS)
        one = PIXELS[:, :1]
        assert torch.equal(Color(brightness=0, contrast=0)(one, generator()), one)  # gray has no saturation

    def test_means_are_kept(self):
        result = Color(brightness=0)(PIXELS, generator())
        torch.testing.assert_close(
            gray(result).mean((1, 2, 3)), gray(PIXELS).mean((1, 2, 3)), rtol=1e-5, atol=1e-6
        )


class TestBackground:
    def test_only_the_background_is_replaced_by_one_color(self):
        images = PIXELS.clone()
        images[..., :4] = 0.05
        images[..., 4:] = images[..., 4:].clamp_min(0.2)
        result = Background(probability=1.0)(images, generator())
        assert torch.equal(result[..., 4:], images[..., 4:])
        painted = result[..., :4]
        assert torch.equal(painted, painted[..., :1, :1].expand_as(painted))
        assert len(painted.unique()) == 6 * 3
        light = Background(ground="light", probability=1.0)(1 - images, generator())
        assert torch.equal(light[..., 4:], 1 - images[..., 4:])
        assert not torch.equal(light, 1 - images)

    def test_a_pixel_that_is_dark_in_one_channel_is_not_background(self):
        blue = torch.tensor([0.0, 0.0, 1.0]).reshape(1, 3, 1, 1)
        assert torch.equal(Background(probability=1.0)(blue, generator()), blue)
        assert torch.equal(Background(probability=0.0)(0 * blue, generator()), 0 * blue)


class TestNoise:
    def test_moments(self):
        noise = Noise(std=0.3)(torch.zeros(200, 1, 20, 20), generator())
        assert abs(float(noise.mean())) < 0.005
        assert abs(float(noise.std()) - 0.3) < 0.005
        assert torch.equal(Noise(std=0.0)(PIXELS, generator()), PIXELS)

    def test_only_numbers_of_a_table_get_noise(self):
        layout = Layout("rows", numbers=torch.tensor([True, False, True]))
        result = Noise(std=1.0).on(layout)(torch.zeros(50, 3), generator())
        assert (result[:, 1] == 0).all()
        assert (result[:, [0, 2]] != 0).all()


class TestFeatureDropout:
    def test_all_inputs_of_a_column_are_dropped_together(self):
        layout = Layout("rows", columns=torch.tensor([0, 1, 1, 1, 0]))
        kept = FeatureDropout(probability=0.4).on(layout)(torch.ones(5000, 5), generator())
        assert torch.equal(kept[:, 0], kept[:, 4])
        assert torch.equal(kept[:, 1], kept[:, 2])
        assert torch.equal(kept[:, 1], kept[:, 3])
        assert abs(float(kept[:, 0].mean()) - 0.6) < 0.03
        assert abs(float((kept[:, 0] * kept[:, 1]).mean()) - 0.36) < 0.03  # columns are independent

    def test_rows_of_any_shape(self):
        result = FeatureDropout(probability=0.5)(torch.ones(500, 3, 4), generator())
        assert set(result.unique().tolist()) == {0.0, 1.0}
        assert abs(float(result.mean()) - 0.5) < 0.05
        assert torch.equal(FeatureDropout(probability=0.0)(PIXELS, generator()), PIXELS)


class TestOcclude:
    def covered(self, **settings):
        ones = torch.ones(3000, 1, 20, 30)
        return (Occlude(fill="black", **settings)(ones, generator()) == 0)[:, 0]

    def test_rectangles_have_the_specified_area_and_random_positions(self):
        covered = self.covered(smallest=0.1, largest=0.2, ratio=1.5, probability=1.0)
        rows, columns = covered.any(2), covered.any(1)
        area = covered.flatten(1).sum(1)
        assert torch.equal(area, rows.sum(1) * columns.sum(1))  # full rectangles
        share = area / 600
        assert share.min() > 0.085  # sides are integer numbers of pixels
        assert share.max() < 0.22
        assert abs(float(share.float().mean()) - 0.15) < 0.01
        ratio = (columns.sum(1) / 30) / (rows.sum(1) / 20)
        assert ratio.min() > 1 / 1.75
        assert ratio.max() < 1.75
        for edge in (rows[:, 0], rows[:, -1], columns[:, 0], columns[:, -1]):
            assert 0.02 < edge.float().mean() < 0.2

    def test_frequency(self):
        assert abs(float(self.covered(probability=0.3).flatten(1).any(1).float().mean()) - 0.3) < 0.05
        assert not self.covered(probability=0.0).any()

    def test_fills(self):
        for fill in ("mean", "noise"):
            result = Occlude(fill=fill, smallest=0.25, largest=0.25, ratio=1.0, probability=1.0)(
                PIXELS, generator()
            )
            changed = (result != PIXELS).any(1, keepdim=True)
            assert changed.flatten(1).float().mean(1).tolist() == pytest.approx([0.25] * 6, abs=0.06)
            if fill == "mean":
                expected = PIXELS.mean((2, 3), keepdim=True).expand_as(result)
                assert torch.equal(result[changed.expand_as(result)], expected[changed.expand_as(result)])

    def test_smallest_must_not_be_above_largest(self):
        with pytest.raises(UserError, match=r"smallest must not be above largest, got 0\.5 and 0\.25"):
            Occlude(smallest=0.5)

    def test_boxes_are_slices(self):
        edges = [torch.tensor([1, 0]), torch.tensor([3, 9]), torch.tensor([2, -4]), torch.tensor([5, 100])]
        expected = torch.zeros(2, 1, 9, 12, dtype=torch.bool)
        expected[0, :, 1:3, 2:5] = True
        expected[1] = True
        assert torch.equal(boxes(PIXELS[:2], *edges), expected)
