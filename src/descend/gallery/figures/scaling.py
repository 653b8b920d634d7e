"""Why scaling matters: the contours of least squares before and after normalising and whitening.

F(w) = ‖y − X w‖²/m has the Hessian 2 XᵀX/m. Its condition number κ is how elongated F is, and the best rate of
gradient descent multiplies the error by (κ − 1)/(κ + 1). Normalising makes the diagonal equal; with correlation
r it leaves κ = (1 + |r|)/(1 − |r|). Whitening leaves κ = 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from descend.data.decorrelation import whiten
from descend.data.scaling import standard
from descend.gallery.paths import contours
from descend.gallery.picture import Axis, Bars, Panel, Picture, Points, numbers
from descend.gallery.spread import ratio, repetitions
from descend.rng import generator

__all__ = ["FORMS", "KINDS", "Measured", "features", "measure", "picture", "whitened"]

FORMS = ("raw", "normalised", "whitened")
KINDS = ("independent", "dependent")


def features(seed: int, kind: str, rows: int) -> Tensor:
    """(rows, 2) features of standard deviations 1 and 4, with correlation 0 or 0.95."""
    draws = torch.randn(rows, 2, generator=generator(seed, f"gallery/scaling/{kind}"), dtype=torch.float64)
    r = 0.95 if kind == "dependent" else 0.0
    second = r * draws[:, 0] + (1 - r * r) ** 0.5 * draws[:, 1]
    return torch.stack([draws[:, 0] + 0.5, 4.0 * second - 1.0], 1)


def whitened(rows: Tensor) -> Tensor:
    """Rows with mean 0 and covariance I, by :func:`descend.data.decorrelation.whiten`.

    The lecture divides by the singular values alone, which leaves columns of length 1, so of variance 1/m.
    """
    shift, spread, matrix = whiten(rows.numpy(), ridge=0.0, standardize=False)
    return torch.from_numpy((rows.numpy() - shift) / spread @ matrix)


def scaled(rows: Tensor, form: str) -> Tensor:
    """The features in one of the ``FORMS``; normalised by :func:`descend.data.scaling.standard`."""
    if form == "raw":
        return rows
    if form == "whitened":
        return whitened(rows)
    shift, spread = standard(rows.numpy())
    return (rows - torch.from_numpy(shift)) / torch.from_numpy(spread)


@dataclass(frozen=True)
class Measured:
    """By kind and form: the Gram matrix XᵀX/m of the first data, condition numbers and sample correlations."""

    grams: dict[tuple[str, str], Tensor]
    conditions: dict[tuple[str, str], list[float]]
    correlations: dict[str, list[float]]


def measure(seed: int = 0, *, seeds: int = 20, rows: int = 200) -> Measured:
    """Condition numbers of least squares on random features.

    Args:
        seed: of all.
        seeds: how many data sets of each kind.
        rows: in each.
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
    return Measured(grams, conditions, correlations)


def picture(found: Measured) -> Picture:
    """Six contours, and the condition numbers."""
    panels = [_contours(kind, form, found) for kind in KINDS for form in FORMS]
    kappa = {key: ratio(values) for key, values in found.conditions.items()}
    bars = Panel(
        "Condition number of least squares",
        tuple(
            Bars(
                FORMS,
                numbers(kappa[kind, form].value for form in FORMS),
                f"{kind} features",
                colour,
                low=numbers(kappa[kind, form].low or kappa[kind, form].value for form in FORMS),
                high=numbers(kappa[kind, form].high or kappa[kind, form].value for form in FORMS),
            )
            for kind, colour in (("independent", "s1"), ("dependent", "s2"))
        ),
        Axis(""),
        Axis("κ", log=True, ends=(0.8, 1000)),
        shape="wide",
        note="1 is round: gradient descent arrives in one step. Lines are 95 % intervals over data sets.",
    )
    independent, dependent = kappa["independent", "normalised"], kappa["dependent", "normalised"]
    white = max(kappa[kind, "whitened"].value for kind in KINDS)
    return Picture(
        name="scaling",
        title="Scaling makes the landscape round",
        claim="Normalising the features works well for least squares when they are about independent, not so well when "
        "they are highly dependent; whitening works well for both.",
        see="Round contours let gradient descent walk straight. Normalising rounds the upper row, and leaves the lower "
        "one a diagonal valley; whitening rounds both.",
        number="condition number, dependent features, normalised",
        value=dependent,
        finding=f"Independent features: κ = {kappa['independent', 'raw'].value:.1f} raw, {independent.value:.2f} normalised. "
        f"Dependent ones: {kappa['dependent', 'raw'].value:.0f} raw, {dependent} normalised. Whitened: {white:.6f} for "
        "both.",
        supported=independent.value < 2.0 < dependent.value and white < 1.001,
        panels=(*panels, bars),
    )


def _contours(kind: str, form: str, found: Measured) -> Panel:
    gram = found.grams[kind, form] / found.grams[kind, form].diagonal().mean()

    def objective(w: Tensor) -> Tensor:
        return torch.einsum("...i,ij,...j->...", w, gram, w)

    window = (-1.0, 1.0)
    return Panel(
        f"{kind[:1].upper()}{kind[1:]}, {form}",
        (
            contours(objective, window, window, squeeze=torch.sqrt, levels=10),
            Points((0.0,), (0.0,), colour="ink", size=7),
        ),
        Axis("w₁ − w₁*", ends=window),
        Axis("w₂ − w₂*", ends=window),
        shape="tile",
        equal=True,
        note=f"κ = {found.conditions[kind, form][0]:.3g}",
    )
