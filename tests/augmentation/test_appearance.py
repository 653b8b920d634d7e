"""What pixels become, against scipy.ndimage and PIL, and what is covered."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from scipy import ndimage

from descend.augmentation import Background, Blur, Color, FeatureDropout, Noise, Occlude
from descend.augmentation.base import Layout
from descend.augmentation.blur import blurred
from descend.augmentation.color import grey
from descend.augmentation.occlusion import boxes
from descend.errors import UserError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


PICTURES = torch.rand(6, 3, 9, 12, generator=generator())


class TestBlur:
    @pytest.mark.parametrize("width", [0.0, 0.3, 0.5, 1.0, 1.7, 3.0, 6.0])
    def test_is_scipy_s(self, width):
        found = blurred(PICTURES.double(), torch.full((6,), width, dtype=torch.float64), 6.0).numpy()
        wanted = ndimage.gaussian_filter(
            PICTURES.double().numpy(), (0, 0, width, width), mode="reflect", truncate=4
        )
        np.testing.assert_allclose(found, wanted, atol=1e-12)

    def test_each_picture_has_its_own_width_up_to_the_largest(self):
        dot = torch.zeros(300, 1, 11, 11)
        dot[:, :, 5, 5] = 1
        found = Blur(largest=1.5)(dot, generator())
        torch.testing.assert_close(found.sum((1, 2, 3)), torch.ones(300), rtol=0, atol=1e-5)
        least = ndimage.gaussian_filter(dot[0, 0].numpy(), 1.5)[5, 5]
        peaks = found[:, 0, 5, 5]
        assert peaks.min() >= least - 1e-6
        assert peaks.min() < least * 1.1
        assert peaks.max() > 0.99


class TestColor:
    def one(self, name, factor):
        """The method with one factor at a value, and the others at 1."""
        made = Color(**{each: float(each == name) for each in ("brightness", "contrast", "saturation")})
        made._factor = lambda spread, inputs, draw: torch.full(
            (len(inputs), 1, 1, 1), factor if spread else 1.0
        )
        return made

    @pytest.mark.parametrize(
        ("name", "enhance"),
        [
            ("brightness", ImageEnhance.Brightness),
            ("contrast", ImageEnhance.Contrast),
            ("saturation", ImageEnhance.Color),
        ],
    )
    @pytest.mark.parametrize("factor", [0.4, 0.8, 1.0])
    def test_is_pil_s_to_a_level(self, name, enhance, factor):
        levels = (PICTURES[0].numpy().transpose(1, 2, 0) * 200 + 20).astype(np.uint8)
        wanted = np.asarray(enhance(Image.fromarray(levels)).enhance(factor), dtype=float)
        pictures = torch.from_numpy(levels).permute(2, 0, 1)[None].float() / 255
        found = self.one(name, factor)(pictures, generator())[0].permute(1, 2, 0).numpy() * 255
        np.testing.assert_allclose(found, wanted, atol=1.51)  # PIL rounds grey and result to whole levels

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_together_they_are_one_after_another(self, channels):
        pictures = torch.rand(5, channels, 6, 7, generator=generator(2))
        found = Color(brightness=0.5, contrast=0.4, saturation=0.9)(pictures, generator(3))
        draw, wanted = generator(3), pictures
        b, c, s = (
            (torch.rand(5, generator=draw) * 2 * spread + 1 - spread).reshape(-1, 1, 1, 1)
            for spread in (0.5, 0.4, 0.9)
        )
        wanted = b * wanted
        mean = grey(wanted).mean((1, 2, 3), keepdim=True)
        wanted = mean + c * (wanted - mean)
        if channels > 1:
            wanted = grey(wanted) + s * (wanted - grey(wanted))
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)

    def test_factors_are_uniform_in_their_ranges(self):
        ones = torch.ones(4000, 1, 1, 1)
        found = Color(brightness=0.3, contrast=0, saturation=0)(ones, generator()).flatten()
        assert found.min() >= 0.7
        assert found.max() <= 1.3
        assert abs(float(found.mean()) - 1) < 0.015
        assert abs(float(found.std()) - 0.6 / 12**0.5) < 0.01

    def test_nothing_at_all(self):
        assert torch.equal(Color(brightness=0, contrast=0, saturation=0)(PICTURES, generator()), PICTURES)
        one = PICTURES[:, :1]
        assert torch.equal(Color(brightness=0, contrast=0)(one, generator()), one)  # grey has no saturation

    def test_means_are_kept(self):
        found = Color(brightness=0)(PICTURES, generator())
        torch.testing.assert_close(
            grey(found).mean((1, 2, 3)), grey(PICTURES).mean((1, 2, 3)), rtol=1e-5, atol=1e-6
        )


class TestBackground:
    def test_only_the_ground_is_painted_in_one_colour(self):
        pictures = PICTURES.clone()
        pictures[..., :4] = 0.05
        pictures[..., 4:] = pictures[..., 4:].clamp_min(0.2)
        found = Background(probability=1.0)(pictures, generator())
        assert torch.equal(found[..., 4:], pictures[..., 4:])
        painted = found[..., :4]
        assert torch.equal(painted, painted[..., :1, :1].expand_as(painted))
        assert len(painted.unique()) == 6 * 3
        light = Background(ground="light", probability=1.0)(1 - pictures, generator())
        assert torch.equal(light[..., 4:], 1 - pictures[..., 4:])
        assert not torch.equal(light, 1 - pictures)

    def test_a_pixel_that_is_dark_in_one_channel_only_is_no_ground(self):
        blue = torch.tensor([0.0, 0.0, 1.0]).reshape(1, 3, 1, 1)
        assert torch.equal(Background(probability=1.0)(blue, generator()), blue)
        assert torch.equal(Background(probability=0.0)(0 * blue, generator()), 0 * blue)


class TestNoise:
    def test_moments(self):
        noise = Noise(std=0.3)(torch.zeros(200, 1, 20, 20), generator())
        assert abs(float(noise.mean())) < 0.005
        assert abs(float(noise.std()) - 0.3) < 0.005
        assert torch.equal(Noise(std=0.0)(PICTURES, generator()), PICTURES)

    def test_of_a_table_only_the_numbers(self):
        layout = Layout("rows", numbers=torch.tensor([True, False, True]))
        found = Noise(std=1.0).on(layout)(torch.zeros(50, 3), generator())
        assert (found[:, 1] == 0).all()
        assert (found[:, [0, 2]] != 0).all()


class TestFeatureDropout:
    def test_all_inputs_of_a_column_go_together(self):
        layout = Layout("rows", columns=torch.tensor([0, 1, 1, 1, 0]))
        kept = FeatureDropout(probability=0.4).on(layout)(torch.ones(5000, 5), generator())
        assert torch.equal(kept[:, 0], kept[:, 4])
        assert torch.equal(kept[:, 1], kept[:, 2])
        assert torch.equal(kept[:, 1], kept[:, 3])
        assert abs(float(kept[:, 0].mean()) - 0.6) < 0.03
        assert abs(float((kept[:, 0] * kept[:, 1]).mean()) - 0.36) < 0.03  # columns are independent

    def test_rows_of_any_shape(self):
        found = FeatureDropout(probability=0.5)(torch.ones(500, 3, 4), generator())
        assert set(found.unique().tolist()) == {0.0, 1.0}
        assert abs(float(found.mean()) - 0.5) < 0.05
        assert torch.equal(FeatureDropout(probability=0.0)(PICTURES, generator()), PICTURES)


class TestOcclude:
    def covered(self, **settings):
        ones = torch.ones(3000, 1, 20, 30)
        return (Occlude(fill="black", **settings)(ones, generator()) == 0)[:, 0]

    def test_a_rectangle_of_the_area_said_anywhere(self):
        covered = self.covered(smallest=0.1, largest=0.2, ratio=1.5, probability=1.0)
        rows, columns = covered.any(2), covered.any(1)
        area = covered.flatten(1).sum(1)
        assert torch.equal(area, rows.sum(1) * columns.sum(1))  # full rectangles
        share = area / 600
        assert share.min() > 0.085  # sides are whole pixels
        assert share.max() < 0.22
        assert abs(float(share.float().mean()) - 0.15) < 0.01
        ratio = (columns.sum(1) / 30) / (rows.sum(1) / 20)
        assert ratio.min() > 1 / 1.75
        assert ratio.max() < 1.75
        for edge in (rows[:, 0], rows[:, -1], columns[:, 0], columns[:, -1]):
            assert 0.02 < edge.float().mean() < 0.2

    def test_as_often_as_said(self):
        assert abs(float(self.covered(probability=0.3).flatten(1).any(1).float().mean()) - 0.3) < 0.05
        assert not self.covered(probability=0.0).any()

    def test_fills(self):
        for fill in ("mean", "noise"):
            found = Occlude(fill=fill, smallest=0.25, largest=0.25, ratio=1.0, probability=1.0)(
                PICTURES, generator()
            )
            changed = (found != PICTURES).any(1, keepdim=True)
            assert changed.flatten(1).float().mean(1).tolist() == pytest.approx([0.25] * 6, abs=0.06)
            if fill == "mean":
                wanted = PICTURES.mean((2, 3), keepdim=True).expand_as(found)
                assert torch.equal(found[changed.expand_as(found)], wanted[changed.expand_as(found)])

    def test_the_least_may_not_be_above_the_largest(self):
        with pytest.raises(UserError, match=r"smallest must not be above largest; found 0\.5 and 0\.25"):
            Occlude(smallest=0.5)

    def test_boxes_are_slices(self):
        edges = [torch.tensor([1, 0]), torch.tensor([3, 9]), torch.tensor([2, -4]), torch.tensor([5, 100])]
        wanted = torch.zeros(2, 1, 9, 12, dtype=torch.bool)
        wanted[0, :, 1:3, 2:5] = True
        wanted[1] = True
        assert torch.equal(boxes(PICTURES[:2], *edges), wanted)
