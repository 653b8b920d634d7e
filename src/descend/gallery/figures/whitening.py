"""Principal axes and whitening: one cloud three times, as it is, turned, and with variance 1 in every direction.

X = U S Vᵀ of the centred rows: X V = U S is decorrelated, √m U is white. The lecture's ``Xrot / (S + eps)`` gives
U, whose columns have length 1 and so variance 1/m; the factor √m is ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from descend.data.decorrelation import pca
from descend.gallery.figures.scaling import whitened
from descend.gallery.picture import Axis, Panel, Picture, Points, numbers
from descend.gallery.spread import exact, words
from descend.rng import generator

__all__ = ["Measured", "measure", "picture"]


@dataclass(frozen=True)
class Measured:
    """The three clouds, (rows, 2) each."""

    clouds: dict[str, Tensor]

    def covariance(self, name: str) -> Tensor:
        """(2, 2), about the mean, divided by the number of rows."""
        return torch.cov(self.clouds[name].T, correction=0)

    @property
    def off(self) -> float:
        """The largest entry of |covariance − I| of the white cloud."""
        return float((self.covariance("whitened") - torch.eye(2)).abs().max())


def measure(seed: int = 0, *, rows: int = 600) -> Measured:
    """Turn and whiten a slanted cloud.

    Args:
        seed: the cloud.
        rows: its points.
    """
    draws = torch.randn(rows, 2, generator=generator(seed, "gallery/whitening"), dtype=torch.float64)
    mix = torch.tensor([[2.4, 1.1], [0.4, 0.9]], dtype=torch.float64)
    original = draws @ mix + torch.tensor([2.0, 1.0], dtype=torch.float64)
    shift, spread, axes = pca(original.numpy(), standardize=False)
    turned = torch.from_numpy((original.numpy() - shift) / spread @ axes)
    return Measured({"original": original, "decorrelated": turned, "whitened": whitened(original)})


_COLOURS = {"original": "s2", "decorrelated": "s3", "whitened": "s1"}


def picture(found: Measured) -> Picture:
    """The clouds side by side, on one scale."""
    window = (-8.5, 8.5)
    panels = []
    for name, cloud in found.clouds.items():
        (a, b), (_, d) = found.covariance(name).tolist()
        panels.append(
            Panel(
                f"{name[:1].upper()}{name[1:]}",
                (
                    Points(
                        numbers(cloud[:, 0]),
                        numbers(cloud[:, 1]),
                        colour=_COLOURS[name],
                        size=4,
                        opacity=0.55,
                    ),
                ),
                Axis("first", ends=window),
                Axis("second", ends=window),
                shape="tile",
                equal=True,
                note=f"Variances {_clean(a)} and {_clean(d)}, covariance {_clean(b)}.",
            )
        )
    rows = len(found.clouds["whitened"])
    lecture = float(found.covariance("whitened")[0, 0]) / rows
    return Picture(
        name="whitening",
        title="Turning and whitening a cloud",
        claim="PCA aligns the principal directions with the coordinates; whitening also divides the coordinates by the "
        "singular values.",
        see="Turned, the cloud lies along the axes and the covariance is 0. Whitened, it is as wide in every direction, "
        "and its covariance is the identity.",
        number="largest entry of |covariance − I| after whitening",
        value=exact(found.off),
        finding=f"After whitening the covariance differs from the identity by at most {words(found.off)}. Divided by the "
        f"singular values alone, as the lecture prints it, the variance would be {lecture:.5f}, which is 1/{rows}.",
        supported=found.off < 1e-9,
        panels=tuple(panels),
    )


def _clean(value: float) -> str:
    return f"{0.0 if abs(value) < 5e-4 else value:.3g}"
