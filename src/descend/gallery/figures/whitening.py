"""Principal axes and whitening: one point cloud, decorrelated, and with variance 1 in every direction.

X = U S Vᵀ of the centered rows: X V = U S is decorrelated, √m U is white. U alone has columns of length 1 and so
variance 1/m, hence the factor √m.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from descend.data.decorrelation import pca
from descend.gallery.figures.scaling import whitened
from descend.gallery.intervals import exact, format_number
from descend.gallery.picture import Axis, Panel, Picture, Points, numbers
from descend.rng import generator

__all__ = ["Measurement", "measure", "picture"]


@dataclass(frozen=True)
class Measurement:
    """The three point clouds, (rows, 2) each."""

    clouds: dict[str, Tensor]

    def covariance(self, name: str) -> Tensor:
        """Return the covariance matrix, normalized by the number of rows, (2, 2)."""
        return torch.cov(self.clouds[name].T, correction=0)

    @property
    def off(self) -> float:
        """Largest entry of |covariance − I| of the white cloud."""
        return float((self.covariance("whitened") - torch.eye(2)).abs().max())


def measure(seed: int = 0, *, rows: int = 600) -> Measurement:
    """Rotate and whiten a correlated point cloud.

    Args:
        seed: seed of the cloud.
        rows: number of points.
    """
    samples = torch.randn(rows, 2, generator=generator(seed, "gallery/whitening"), dtype=torch.float64)
    mix = torch.tensor([[2.4, 1.1], [0.4, 0.9]], dtype=torch.float64)
    original = samples @ mix + torch.tensor([2.0, 1.0], dtype=torch.float64)
    offset, scale, axes = pca(original.numpy(), standardize=False)
    turned = torch.from_numpy((original.numpy() - offset) / scale @ axes)
    return Measurement({"original": original, "decorrelated": turned, "whitened": whitened(original)})


_COLORS = {"original": "s2", "decorrelated": "s3", "whitened": "s1"}


def picture(result: Measurement) -> Picture:
    """Return panels of the clouds at one scale."""
    window = (-8.5, 8.5)
    panels = []
    for name, cloud in result.clouds.items():
        (a, b), (_, d) = result.covariance(name).tolist()
        panels.append(
            Panel(
                f"{name[:1].upper()}{name[1:]}",
                (
                    Points(
                        numbers(cloud[:, 0]),
                        numbers(cloud[:, 1]),
                        color=_COLORS[name],
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
    rows = len(result.clouds["whitened"])
    unscaled = float(result.covariance("whitened")[0, 0]) / rows
    return Picture(
        name="whitening",
        title="Decorrelation and whitening of a point cloud",
        claim="PCA aligns the principal directions with the coordinates; whitening also divides the coordinates by the singular "
        "values.",
        see="Decorrelated, the cloud lies along the axes and the covariance is 0. Whitened, it has the same variance in every "
        "direction, and its covariance is the identity.",
        number="largest entry of |covariance − I| after whitening",
        value=exact(result.off),
        finding="After whitening the covariance differs from the identity by at most "
        f"{format_number(result.off)}. Divided by the "
        f"singular values without the factor √m, the variance would be {unscaled:.5f}, which is 1/{rows}.",
        supported=result.off < 1e-9,
        panels=tuple(panels),
    )


def _clean(value: float) -> str:
    return f"{0.0 if abs(value) < 5e-4 else value:.3g}"
