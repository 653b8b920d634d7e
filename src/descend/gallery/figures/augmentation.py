"""Data augmentation: a sheet of augmented pictures, and the effect on shifted digits.

Each method of :mod:`descend.augmentation` is applied to the same scans. Then a network is trained on a few scans with
and without random shifts of one pixel, and tested on the original and on shifted scans.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from descend.augmentation import AUGMENTATIONS, Mixing, Translate
from descend.gallery.datasets import Digits, digits, pixels
from descend.gallery.intervals import Estimate, mean, ratio, repetitions
from descend.gallery.picture import Axis, Bars, Cells, Panel, Picture, numbers
from descend.gallery.training import evaluate, loss_of, network, shuffled
from descend.optim import adam
from descend.rng import generator

__all__ = ["SHOWN", "Measurement", "measure", "picture", "sheet"]

SHOWN = tuple(name for name in AUGMENTATIONS if name != "feature_dropout")
"""Augmentation methods for pictures."""

_STRONG: dict[str, dict[str, float]] = {
    "flip": {"horizontal": 0.8},
    "translate": {"pixels": 8},
    "rotate": {"degrees": 35.0},
    "deform": {"pixels": 1.5},
    "color": {"brightness": 0.4, "contrast": 0.6},
    "noise": {"std": 0.2},
    "blur": {"largest": 3.0},
    "background": {"probability": 1.0},
    "occlude": {"probability": 1.0},
    "mixup": {"alpha": 1.0},
}
"""Settings with a visible effect; methods without an entry use their defaults."""

COPIES = 5


@dataclass(frozen=True)
class Measurement:
    """The sheet of pictures, and test errors.

    Args:
        original: the strip before augmentation, (32, COPIES · 32).
        strips: the strip after each method.
        plain: test errors of networks trained without shifts, on original and on shifted scans, (seeds, 2).
        augmented: test errors of networks trained with shifts of one pixel, (seeds, 2).
    """

    original: Tensor
    strips: dict[str, Tensor]
    plain: Tensor
    augmented: Tensor


def sheet(seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the same scans, enlarged to 32 × 32, before and after each method."""
    small = pixels(seed)[:COPIES].reshape(-1, 1, 8, 8)
    large = nn.functional.interpolate(small, scale_factor=4, mode="bicubic", align_corners=False).clamp(0, 1)
    strips = {}
    for name in SHOWN:
        change = AUGMENTATIONS[name](**_STRONG.get(name, {}))
        rng = generator(seed, f"gallery/augmentation/{name}")
        changed = change(large, rng).inputs if isinstance(change, Mixing) else change(large, rng)
        strips[name] = _strip(changed)
    return _strip(large), strips


def _strip(pictures: Tensor) -> Tensor:
    return torch.cat(list(pictures[:, 0]), dim=1).clamp(0, 1)


def measure(
    seed: int = 0, *, seeds: int = 4, epochs: int = 150, train: int = 200, width: int = 128
) -> Measurement:
    """Apply each method to the sheet, and train with and without shifts.

    Args:
        seed: seed of all random numbers.
        seeds: number of networks of each kind.
        epochs: passes over the rows.
        train: number of training rows.
        width: width of the hidden layer.
    """
    original, strips = sheet(seed)
    plain, augmented = [], []
    for each in repetitions(seed, seeds):
        data = digits(each, train=train)
        plain.append(_errors(each, data, epochs, width, pixels=0))
        augmented.append(_errors(each, data, epochs, width, pixels=1))
    return Measurement(original, strips, torch.tensor(plain), torch.tensor(augmented))


def _errors(seed: int, data: Digits, epochs: int, width: int, *, pixels: int) -> list[float]:
    model = network(seed, hidden=(width,))
    optimizer = adam(model.parameters(), lr=2e-3, fused=True)
    rows, labels = data.train
    for epoch in range(epochs):
        for step, chosen in enumerate(shuffled(seed, len(rows), epoch, 25)):
            optimizer.zero_grad(set_to_none=True)
            moved = _moved(rows[chosen], pixels, generator(seed, "gallery/augmentation/step", epoch, step))
            loss_of(model, (moved, labels[chosen])).backward()
            optimizer.step()
    rows, labels = data.test
    shifted = _moved(rows, 1, generator(seed, "gallery/augmentation/test"))
    return [evaluate(model, (rows, labels))[1], evaluate(model, (shifted, labels))[1]]


def _moved(rows: Tensor, pixels: int, rng: torch.Generator) -> Tensor:
    return Translate(pixels=pixels)(rows.reshape(-1, 1, 8, 8), rng).flatten(1)


def picture(result: Measurement) -> Picture:
    """Return panels of the sheet and of the test errors."""
    panels = [_shown("original", result.original)]
    panels += [_shown(name, strip) for name, strip in result.strips.items()]
    places = ("original scans", "scans shifted by up to one pixel")
    bars = []
    for name, errors, color in (
        ("trained without shifts", result.plain, "s2"),
        ("trained with shifts", result.augmented, "s1"),
    ):
        ends = [mean((100 * errors[:, at]).tolist()) for at in range(2)]
        bars.append(
            Bars(
                places,
                numbers(end.value for end in ends),
                name,
                color,
                low=numbers(end.value if end.low is None else end.low for end in ends),
                high=numbers(end.value if end.high is None else end.high for end in ends),
            )
        )
    panels.append(
        Panel(
            "Test errors",
            tuple(bars),
            Axis(""),
            Axis("% wrong"),
            shape="wide",
            note=f"Means of {len(result.plain)} networks with 95 % intervals.",
        )
    )
    gain = ratio((result.plain[:, 1] / result.augmented[:, 1].clamp(min=1e-3)).tolist())
    means = [
        mean((100 * errors[:, at]).tolist()) for errors in (result.plain, result.augmented) for at in range(2)
    ]
    cost = mean((100 * (result.augmented[:, 0] - result.plain[:, 0])).tolist())
    costs = (cost.low or 0.0) > 0.0
    return Picture(
        name="augmentation",
        title="Data augmentation",
        claim="More relevant data always help; generate them according to the desired invariances: translation, rotation, "
        "noise, deformation, flipping, blurring, occlusion and so on.",
        see="Each strip shows the first one after a method of the catalogue, with a random transformation for each scan. Below, "
        "a network trained on shifted scans makes fewer errors on shifted scans.",
        number="ratio of errors on shifted scans, trained without shifts over with shifts",
        value=gain,
        finding=f"On shifted scans the error is {_one_decimal(means[1])} % when trained without shifts and "
        f"{_one_decimal(means[3])} % "
        f"with them, lower by a factor of {gain}. On the original scans the error is {_one_decimal(means[0])} % without and "
        f"{_one_decimal(means[2])} % with shifts"
        + (
            ": robustness to changes that do not occur has a price, so more data do not always help."
            if costs
            else "."
        ),
        supported=(gain.low or gain.value) > 1.0 and not costs,
        panels=tuple(panels),
    )


def _one_decimal(estimate: Estimate) -> str:
    return f"{estimate.value:.1f}"


def _shown(name: str, strip: Tensor) -> Panel:
    return Panel(
        name[:1].upper() + name[1:],
        (Cells(tuple(numbers(row) for row in strip), gray=True),),
        Axis("", ticks=False),
        Axis("", ticks=False),
        shape="strip",
    )
