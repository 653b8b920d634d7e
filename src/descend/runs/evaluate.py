"""Evaluation of a trained network: the metrics of a part of the data, and the details that a report shows."""

from __future__ import annotations

import base64
import functools
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from descend.data.batches import Batch
from descend.data.row_numbers import RowNumbers
from descend.data.schema import Schema
from descend.data.source import Source
from descend.data.target_units import TargetInverse
from descend.errors import MissingExtraError, require
from descend.metrics import Form, Metric
from descend.training.evaluation import measure, outputs_of
from descend.training.predictor import Predictor

__all__ = ["LazyMapping", "details", "measured", "units_of"]

WORST = 12
POINTS = 2000


class LazyMapping(Mapping[str, Any]):
    """A mapping that is computed on first access.

    >>> mapping = LazyMapping(lambda: {"rows": 3})
    >>> mapping["rows"], len(mapping)
    (3, 1)
    """

    def __init__(self, make: Callable[[], Mapping[str, Any]]) -> None:
        self._content = functools.cache(make)

    def __getitem__(self, key: str) -> Any:
        return self._content()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content())

    def __len__(self) -> int:
        return len(self._content())

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        """Copies, and what is sent to another process, are plain dicts."""
        return dict, (dict(self),)


def units_of(schema: Schema, device: torch.device) -> Callable[[Tensor], Tensor] | None:
    """Return the map from learned values of a regression to the units of the targets; None for classification."""
    if schema.classes:
        return None
    inverse = TargetInverse(schema.target_transforms).to(device) if schema.target_transforms else None
    scale = torch.tensor(schema.target_scale, dtype=torch.float64, device=device)
    mean = torch.tensor(schema.target_mean, dtype=torch.float64, device=device)

    def units(values: Tensor) -> Tensor:
        numbers = values.double() * scale + mean
        found: Tensor = numbers if inverse is None else inverse(numbers)
        return found

    return units


def measured(
    predictor: Predictor,
    batches: Iterable[Batch],
    losses: Mapping[str, Callable[..., Tensor]],
    metrics: Iterable[Metric],
) -> dict[str, Tensor]:
    """Return losses and metrics over rows, in original units, as tensors on the device; NaN where undefined."""
    schema = predictor.schema
    units = units_of(schema, next(predictor.model.parameters()).device)

    def predict(outputs: Tensor, form: Form) -> Tensor:
        finished = predictor.finished(outputs)
        if form == "values":
            return finished if units is None else units(finished)
        if form == "probabilities":
            found = schema.probabilities(finished.double(), predictor.form)
            return found[:, 1] if schema.task == "binary" else found
        if schema.task == "multi_label":
            return (finished > (0.0 if predictor.form == "logits" else 0.5)).long()
        if schema.task == "binary":
            return (finished.squeeze(1) > (0.0 if predictor.form == "logits" else 0.5)).long()
        return finished.argmax(1)

    return measure(
        predictor.network,
        batches,
        losses,
        metrics,
        predict,
        units,
        classes=len(schema.classes),
        precision=predictor.precision,
    )


def details(
    predictor: Predictor,
    batches: Iterable[Batch],
    loss: Any,
    rows: np.ndarray[Any, Any],
    source: Source,
    part: str,
) -> dict[str, Any]:
    """Return the confusion matrix or predicted against true values, and the rows with the largest losses.

    Args:
        predictor: the trained network.
        batches: the rows of the part, in order.
        loss: a loss with ``per_sample``.
        rows: the row numbers of the part in the source.
        source: the source of the rows, to show them.
        part: the name of the part.
    """
    parts = [
        (outputs_of(predictor.network, b.inputs, precision=predictor.precision), b.targets) for b in batches
    ]
    outputs, targets = (torch.cat(each) for each in zip(*parts, strict=True))
    with torch.inference_mode():
        losses = loss.per_sample(outputs, targets).float().cpu().numpy()
    outputs, targets = outputs.cpu(), targets.cpu()
    schema = predictor.schema
    predicted = predictor.decode(outputs)
    found: dict[str, Any] = {"part": part, "rows": len(rows)}
    order = np.argsort(-losses, kind="stable")
    if schema.task == "multi_label":
        held, holds = (targets > 0.5).numpy(), predicted == schema.labels[1]
        found["labels"] = [
            {
                "name": name,
                "hits": int((held[:, at] & holds[:, at]).sum()),
                "false": int((~held[:, at] & holds[:, at]).sum()),
                "missed": int((held[:, at] & ~holds[:, at]).sum()),
                "rows": len(rows),
            }
            for at, name in enumerate(schema.target_names)
        ]
        worst = [place for place in order if (held[place] != holds[place]).any()][:WORST]
        true = [_named(schema.target_names, row) for row in held]
        predicted = np.array([_named(schema.target_names, row) for row in holds], dtype=object)
        confidence = None
    elif schema.classes:
        codes = targets.long().numpy()
        names = [_plain(label) for label in schema.labels]
        index = {name: place for place, name in enumerate(names)}
        guesses = np.array([index[_plain(label)] for label in predicted])
        confusion = np.zeros((len(names), len(names)), dtype=int)
        np.add.at(confusion, (codes, guesses), 1)
        found |= {"classes": names, "confusion": confusion.tolist()}
        confidence = predictor.schema.probabilities(predictor.finished(outputs), predictor.form).max(1).values
        worst = [place for place in order if codes[place] != guesses[place]][:WORST]
        true = [names[code] for code in codes]
    else:
        unit = units_of(schema, torch.device("cpu"))
        assert unit is not None
        true_values = unit(targets).numpy().reshape(len(rows), -1)
        shown = np.asarray(predicted, dtype=float).reshape(len(rows), -1)
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(POINTS, len(rows))).astype(int))
        found["scatter"] = {
            name: {"true": true_values[chosen, at].tolist(), "predicted": shown[chosen, at].tolist()}
            for at, name in enumerate(schema.target_names)
        }
        worst = list(order[:WORST])
        true = [_joined(values) for values in true_values]
        predicted = np.array([_joined(values) for values in shown], dtype=object)
        confidence = None
    found["worst"] = [
        {
            "row": (source.numbers or RowNumbers()).number(int(rows[place])),
            "true": true[place],
            "predicted": _plain(predicted[place]),
            "probability": None if confidence is None else float(confidence[place]),
            "loss": float(losses[place]) if math.isfinite(losses[place]) else None,
            **_shown(source, int(rows[place])),
        }
        for place in worst
    ]
    return found


def _named(names: Sequence[str], holds: np.ndarray[Any, Any]) -> str:
    """Return the names of the labels that hold in a row."""
    return ", ".join(name for name, value in zip(names, holds, strict=True) if value) or "none"


def _joined(values: np.ndarray[Any, Any]) -> Any:
    return float(values[0]) if len(values) == 1 else ", ".join(f"{value:.4g}" for value in values)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _shown(source: Source, row: int) -> Mapping[str, Any]:
    """A row as a reader knows it: its values, or its image."""
    shown: dict[str, Any] = {"values": None, "image": None}
    pixels = None
    if source.frame is not None:
        values = source.frame.row(row, named=True)
        if source.grid is not None:
            pixels = np.array([float(v) for v in values.values()]).reshape(source.grid)
            top = max(float(source.frame.to_numpy().max()), 1e-12)
            pixels = np.clip(255.0 * pixels / top, 0, 255).astype(np.uint8)
        else:
            shown["values"] = {name: _json_ready(value) for name, value in values.items()}
    elif source.stored is not None:
        values = source.stored.rows(row, row + 1).row(0, named=True)
        shown["values"] = {name: _json_ready(value) for name, value in values.items()}
    elif source.inputs is not None and source.kind == "images":
        pixels = np.asarray(source.inputs[row])
    if pixels is not None:
        shown["image"] = _png(pixels)
        if shown["image"] is None and source.frame is not None:
            shown["values"] = {
                name: _json_ready(value) for name, value in source.frame.row(row, named=True).items()
            }
    return shown


def _json_ready(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return str(value)


def _png(pixels: np.ndarray[Any, Any]) -> str | None:
    """Return an image (C, H, W) of bytes as a data URL; None without the extra ``images``."""
    try:
        image_module = require("PIL.Image", "images", "showing images")
    except MissingExtraError:
        return None
    array = pixels[0] if pixels.shape[0] == 1 else np.moveaxis(pixels[:3], 0, -1)
    image = image_module.fromarray(np.ascontiguousarray(array))
    if max(image.size) > 96:
        image.thumbnail((96, 96))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
