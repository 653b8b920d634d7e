"""A trained network with its preprocessing and its output: raw rows in, predictions out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from descend.data.preprocessing import Preprocess
from descend.data.schema import Form, Schema
from descend.training.evaluation import outputs_of

__all__ = ["Predictor"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Predictor:
    """Preprocessing, network, output activation and labels as one function.

    Args:
        schema: the description of the data, which encodes raw rows and decodes predictions.
        preprocess: the map from raw numbers to the network's inputs.
        model: the network, with raw outputs.
        output: the output activation.
        precision: the precision of the network's arithmetic. Default "float32".
        calibration: a map from raw outputs to raw outputs, applied after the network, or None (the default).
    """

    schema: Schema
    preprocess: Preprocess
    model: nn.Module
    output: nn.Module
    precision: Literal["float32", "bfloat16"] = "float32"
    calibration: nn.Module | None = None

    @property
    def network(self) -> nn.Module:
        """The network with its calibration, as one module with raw outputs."""
        return self.model if self.calibration is None else nn.Sequential(self.model, self.calibration)

    @property
    def form(self) -> Form:
        """What :meth:`finished` returns: logits, probabilities, or the values of a regression."""
        link = getattr(self.output, "link", "identity")
        if link in ("logit", "identity"):
            return "logits"
        return "probabilities" if self.schema.classes else "values"

    def finished(self, outputs: Tensor) -> Tensor:
        """Apply the output activation, unless the schema's decoding includes it."""
        return outputs if self.form == "logits" else self.output(outputs)

    def outputs(self, data: Any) -> Tensor:
        """Return the raw outputs (n, K) for new rows, on the CPU. See :meth:`descend.data.schema.Schema.matrix`."""
        device = next(self.model.parameters()).device
        inputs = self.preprocess(self.schema.matrix(data)).to(device)
        return outputs_of(self.network, inputs, precision=self.precision).cpu()

    def decode(self, outputs: Tensor) -> Array:
        """Return labels, or numbers in the targets' units, from raw outputs."""
        return self.schema.decode(self.finished(outputs), self.form)

    def predict(self, data: Any) -> Array:
        """Predict new rows: labels in the type of the training labels, or numbers; (n,) or (n, T)."""
        return self.decode(self.outputs(data))

    def predict_proba(self, data: Any) -> Array:
        """Return probabilities for new rows: (n, K) in the order of ``schema.classes``, or (n, L) that labels hold."""
        found = self.schema.probabilities(self.finished(self.outputs(data)), self.form)
        return found.numpy()
