"""Feature scaling: contours of least squares before and after standardization and whitening.

F(w) = ‖y − X w‖²/m has the Hessian 2 XᵀX/m. Its condition number κ measures how elongated F is, and gradient descent
with its optimal learning rate multiplies the error by (κ − 1)/(κ + 1). Normalization makes the diagonal equal; with
correlation r it leaves κ = (1 + |r|)/(1 − |r|). Whitening gives κ = 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from descend.data.decorrelation import whiten
from descend.data.scaling import standard
from descend.gallery.intervals import ratio, repetitions
from descend.gallery.paths import contours
from descend.gallery.picture import Axis, Bars, Panel, Picture, Points, numbers
from descend.rng import generator

__all__ = ["FORMS", "KINDS", "Measurement", "features", "measure", "picture", "whitened"]

FORMS = ("raw", "normalized", "whitened")
KINDS = ("independent", "dependent")


def features(seed: int, kind: str, rows: int) -> Tensor:
    """Return features with standard deviations 1 and 4 and correlation 0 or 0.95, (rows, 2)."""
    samples = torch.randn(rows, 2, generator=generator(seed, f"gallery/scaling/{kind}"), dtype=torch.float64)
    r = 0.95 if kind == "dependent" else 0.0
    second = r * samples[:, 0] + (1 - r * r) ** 0.5 * samples[:, 1]
    return torch.stack([samples[:, 0] + 0.5, 4.0 * second - 1.0], 1)


def whitened(rows: Tensor) -> Tensor:
    """Return the rows with mean 0 and covariance I, by :func:`descend.data.decorrelation.whiten`.

    Some texts divide by the singular values alone, which leaves columns of length 1 and variance 1/m.
    """
    offset, scale, matrix = whiten(rows.numpy(), ridge=0.0, standardize=False)
    return torch.from_numpy((rows.numpy() - offset) / scale @ matrix)


def scaled(rows: Tensor, form: str) -> Tensor:
    """Return the features in one of the ``FORMS``; normalized by :func:`descend.data.scaling.standard`."""
    if form == "raw":
        return rows
    if form == "whitened":
        return whitened(rows)
    offset, scale = standard(rows.numpy())
    return (rows - torch.from_numpy(offset)) / torch.from_numpy(scale)


@dataclass(frozen=True)
class Measurement:
    """By kind and form of the features, the geometry of least squares.

    Args:
        grams: Gram matrix XᵀX/m of the first data set.
        conditions: condition numbers.
        correlations: by kind, sample correlations.
    """

    grams: dict[tuple[str, str], Tensor]
    conditions: dict[tuple[str, str], list[float]]
    correlations: dict[str, list[float]]


def measure(seed: int = 0, *, seeds: int = 20, rows: int = 200) -> Measurement:
    """Compute condition numbers of least squares on random features.

    Args:
        seed: seed of all random numbers.
        seeds: number of data sets of each kind.
        rows: rows of each data set.
    """
    grams: dict[tuple[str, str], Tensor] = {}
    conditions: dict[tuple[str, str], list[float]] = {}
    correlations: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for kind in KINDS:
        for each in repetitions(seed, seeds):
            raw = features(each, kind, rows)
            correlations[kind].append(float(np.corrcoef(raw.numpy().T)[0, 1]))
            for form in FORMS:
                x = scaled(raw, form)
                gram = x.T @ x / rows
                grams.setdefault((kind, form), gram)
                conditions.setdefault((kind, form), []).append(float(torch.linalg.cond(gram)))
    return Measurement(grams, conditions, correlations)


def picture(result: Measurement) -> Picture:
    """Return six contour panels, and the condition numbers."""
    panels = [_contours(kind, form, result) for kind in KINDS for form in FORMS]
    kappa = {key: ratio(values) for key, values in result.conditions.items()}
    bars = Panel(
        "Condition number of least squares",
        tuple(
            Bars(
                FORMS,
                numbers(kappa[kind, form].value for form in FORMS),
                f"{kind} features",
                color,
                low=numbers(kappa[kind, form].low or kappa[kind, form].value for form in FORMS),
                high=numbers(kappa[kind, form].high or kappa[kind, form].value for form in FORMS),
            )
            for kind, color in (("independent", "s1"), ("dependent", "s2"))
        ),
        Axis(""),
        Axis("κ", log=True, ends=(0.8, 1000)),
        shape="wide",
        note="κ = 1: round contours, gradient descent converges in one step. Lines are 95 % intervals over data sets.",
    )
    independent, dependent = kappa["independent", "normalized"], kappa["dependent", "normalized"]
    white = max(kappa[kind, "whitened"].value for kind in KINDS)
    return Picture(
        name="scaling",
        title="Feature scaling and the contours of least squares",
        claim="Normalizing the features works well for least squares when they are nearly independent, and less "
        "well when they are "
        "highly dependent; whitening works well for both.",
        see="With round contours gradient descent moves straight to the minimum. Normalization makes the contours of the upper "
        "row round and leaves a diagonal valley in the lower row; whitening makes both round.",
        number="condition number of dependent features, normalized",
        value=dependent,
        finding=f"Independent features: κ = {kappa['independent', 'raw'].value:.1f} raw, {independent.value:.2f} normalized. "
        f"Dependent features: {kappa['dependent', 'raw'].value:.0f} raw, {dependent} normalized. Whitened: {white:.6f} for "
        "both.",
        supported=independent.value < 2.0 < dependent.value and white < 1.001,
        panels=(*panels, bars),
    )


def _contours(kind: str, form: str, result: Measurement) -> Panel:
    gram = result.grams[kind, form] / result.grams[kind, form].diagonal().mean()

    def objective(w: Tensor) -> Tensor:
        return torch.einsum("...i,ij,...j->...", w, gram, w)

    window = (-1.0, 1.0)
    return Panel(
        f"{kind[:1].upper()}{kind[1:]}, {form}",
        (
            contours(objective, window, window, squeeze=torch.sqrt, levels=10),
            Points((0.0,), (0.0,), color="ink", size=7),
        ),
        Axis("w₁ − w₁*", ends=window),
        Axis("w₂ − w₂*", ends=window),
        shape="tile",
        equal=True,
        note=f"κ = {result.conditions[kind, form][0]:.3g}",
    )
