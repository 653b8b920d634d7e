"""A trained network with what stands before and behind it: raw rows in, predictions out."""

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
        schema: what the data are; encodes raw rows and decodes predictions.
        preprocess: raw numbers to the network's inputs.
        model: the network, with raw outputs.
        output: the output activation.
        precision: of the network's arithmetic.
    """

    schema: Schema
    preprocess: Preprocess
    model: nn.Module
    output: nn.Module
    precision: Literal["float32", "bfloat16"] = "float32"

    @property
    def form(self) -> Form:
        """What :meth:`finished` gives the schema to decode."""
        return (
            "logits" if getattr(self.output, "link", "identity") in ("logit", "identity") else "probabilities"
        )

    def finished(self, outputs: Tensor) -> Tensor:
        """Raw outputs, through the output activation unless the schema's decoding contains it."""
        return outputs if self.form == "logits" else self.output(outputs)

    def outputs(self, data: Any) -> Tensor:
        """Raw outputs (n, K) for new rows, on the CPU. See :meth:`descend.data.schema.Schema.matrix`."""
        device = next(self.model.parameters()).device
        inputs = self.preprocess(self.schema.matrix(data)).to(device)
        return outputs_of(self.model, inputs, precision=self.precision).cpu()

    def decode(self, outputs: Tensor) -> Array:
        """Labels, or numbers in the targets' units, from raw outputs."""
        return self.schema.decode(self.finished(outputs), self.form)

    def predict(self, data: Any) -> Array:
        """Predictions for new rows: labels of the type they came in, or numbers; (n,) or (n, T)."""
        return self.decode(self.outputs(data))

    def predict_proba(self, data: Any) -> Array:
        """Class probabilities (n, K) for new rows, in the order of ``schema.classes``."""
        found = self.schema.probabilities(self.finished(self.outputs(data)), self.form)
        return found.numpy()
