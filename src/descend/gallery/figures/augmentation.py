"""Data augmentation: the sheet of pictures, and what it buys on digits that moved.

Each method of :mod:`descend.augmentation` on the same scans; then a network trained on few scans with and without
shifts of a pixel, tested on scans as they are and on shifted ones: what to generate is what to be robust to.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from descend.augmentation import AUGMENTATIONS, Mixing, Translate
from descend.gallery.fitting import loss_of, measured, network, shuffled
from descend.gallery.picture import Axis, Bars, Cells, Panel, Picture, numbers
from descend.gallery.samples import Digits, digits, pixels
from descend.gallery.spread import Estimate, mean, ratio, repetitions
from descend.optim import adam
from descend.rng import generator

__all__ = ["SHOWN", "Measured", "measure", "picture", "sheet"]

SHOWN = tuple(name for name in AUGMENTATIONS if name != "feature_dropout")
"""The methods for pictures."""

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
"""Settings that can be seen; the others are the methods' own."""

COPIES = 5


@dataclass(frozen=True)
class Measured:
    """By method the strip of pictures, (32, COPIES · 32); and shares of errors.

    Args:
        original: the strip as it was.
        strips: the strips as each method leaves them.
        plain: (seeds, 2), trained without: errors on scans as they are, and on shifted ones.
        augmented: (seeds, 2), trained with shifts of a pixel.
    """

    original: Tensor
    strips: dict[str, Tensor]
    plain: Tensor
    augmented: Tensor


def sheet(seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The same scans, enlarged to 32 × 32, before and after each method."""
    small = pixels(seed)[:COPIES].reshape(-1, 1, 8, 8)
    large = nn.functional.interpolate(small, scale_factor=4, mode="bicubic", align_corners=False).clamp(0, 1)
    strips = {}
    for name in SHOWN:
        change = AUGMENTATIONS[name](**_STRONG.get(name, {}))
        draw = generator(seed, f"gallery/augmentation/{name}")
        changed = change(large, draw).inputs if isinstance(change, Mixing) else change(large, draw)
        strips[name] = _strip(changed)
    return _strip(large), strips


def _strip(pictures: Tensor) -> Tensor:
    return torch.cat(list(pictures[:, 0]), dim=1).clamp(0, 1)


def measure(
    seed: int = 0, *, seeds: int = 4, epochs: int = 150, train: int = 200, width: int = 128
) -> Measured:
    """Make the sheet, and train with and without shifts.

    Args:
        seed: of all.
        seeds: how many networks of each kind.
        epochs: passes over the rows.
        train: training rows.
        width: of the hidden layer.
    """
    original, strips = sheet(seed)
    plain, augmented = [], []
    for each in repetitions(seed, seeds):
        data = digits(each, train=train)
        plain.append(_errors(each, data, epochs, width, pixels=0))
        augmented.append(_errors(each, data, epochs, width, pixels=1))
    return Measured(original, strips, torch.tensor(plain), torch.tensor(augmented))


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
    return [measured(model, (rows, labels))[1], measured(model, (shifted, labels))[1]]


def _moved(rows: Tensor, pixels: int, draw: torch.Generator) -> Tensor:
    return Translate(pixels=pixels)(rows.reshape(-1, 1, 8, 8), draw).flatten(1)


def picture(found: Measured) -> Picture:
    """The sheet, and the errors."""
    panels = [_shown("as they are", found.original)]
    panels += [_shown(name, strip) for name, strip in found.strips.items()]
    places = ("scans as they are", "scans shifted by up to a pixel")
    bars = []
    for name, errors, colour in (
        ("trained without", found.plain, "s2"),
        ("trained with shifts", found.augmented, "s1"),
    ):
        ends = [mean((100 * errors[:, at]).tolist()) for at in range(2)]
        bars.append(
            Bars(
                places,
                numbers(end.value for end in ends),
                name,
                colour,
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
            note=f"Means of {len(found.plain)} networks with 95 % intervals.",
        )
    )
    gain = ratio((found.plain[:, 1] / found.augmented[:, 1].clamp(min=1e-3)).tolist())
    means = [
        mean((100 * errors[:, at]).tolist()) for errors in (found.plain, found.augmented) for at in range(2)
    ]
    cost = mean((100 * (found.augmented[:, 0] - found.plain[:, 0])).tolist())
    costs = (cost.low or 0.0) > 0.0
    return Picture(
        name="augmentation",
        title="More data from the data",
        claim="More relevant data always help; generate it based on what you want to be robust to: translation, rotation, "
        "noise, deformation, flipping, blurring, occlusion and so on.",
        see="Each strip is the first one after a method of the catalogue, a draw for each scan. Below, a network that saw "
        "shifted scans while training errs less on shifted scans.",
        number="errors on shifted scans, trained without over with shifts",
        value=gain,
        finding=f"On shifted scans {_said(means[1])} % are wrong when trained without shifts and {_said(means[3])} % with "
        f"them, {gain} times fewer. On scans as they are {_said(means[0])} % are wrong without and {_said(means[2])} % with"
        + (
            ": being robust to what does not occur has a price, so more data do not always help."
            if costs
            else "."
        ),
        supported=(gain.low or gain.value) > 1.0 and not costs,
        panels=tuple(panels),
    )


def _said(found: Estimate) -> str:
    return f"{found.value:.1f}"


def _shown(name: str, strip: Tensor) -> Panel:
    return Panel(
        name[:1].upper() + name[1:],
        (Cells(tuple(numbers(row) for row in strip), grey=True),),
        Axis("", ticks=False),
        Axis("", ticks=False),
        shape="strip",
    )
