"""An exported model read from a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from descend.data.schema import Schema
from descend.data.sources import read
from descend.errors import RunError, UserError

__all__ = ["ExportedModel", "load"]

Array = np.ndarray[Any, Any]
_ROWS_AT_ONCE = 8192
_ZIP = b"PK\x03\x04"


@dataclass(frozen=True)
class ExportedModel:
    """A model read from a file: raw rows in, predictions out.

    Args:
        schema: columns and classes of the data.
        program: maps raw numbers from ``schema.matrix`` to (codes, probabilities) or (values,).
    """

    schema: Schema
    program: Callable[[Tensor], Sequence[Tensor]]

    def predict(self, data: Any) -> Array:
        """Return predictions for new rows, as :meth:`descend.Run.predict`; (n,) or (n, T)."""
        outputs = self._outputs(data)[0].numpy()
        if self.schema.classes:
            labels: Array = self.schema.labels[outputs]
            return labels
        return outputs[:, 0] if self.schema.task == "regression" else outputs

    def predict_proba(self, data: Any) -> Array:
        """Return probabilities for new rows: (n, K) in the order of ``schema.classes``, or (n, L) that labels hold."""
        if not self.schema.classes:
            raise UserError("predict_proba requires a classification, got a regression")
        return self._outputs(data)[1].numpy()

    def _outputs(self, data: Any) -> list[Tensor]:
        rows = self.schema.matrix(read(data, schema=self.schema, predicting=True))
        with torch.inference_mode():
            pieces = [self.program(piece) for piece in torch.split(rows, _ROWS_AT_ONCE)]
        return [torch.cat(parts) for parts in zip(*pieces, strict=True)]


def load(path: Path, model: nn.Module | None = None, *, allow_imports: bool = False) -> ExportedModel:
    """See :func:`descend.export.load_exported`; the format is detected from the content."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as cause:
        raise RunError(f"cannot read {path}: {cause.strerror}") from cause
    if start.startswith(_ZIP):
        from descend.export.archive import Archive

        archive = Archive(path)
        return ExportedModel(archive.schema, archive.program)
    if start[8:9] == b"{":
        from descend.export.portable import make_portable
        from descend.export.safetensors import read as read_weights

        predictor = read_weights(path, model, allow_imports=allow_imports)
        return ExportedModel(predictor.schema, make_portable(predictor))
    advice = "; use onnxruntime.InferenceSession for ONNX files" if path.suffix == ".onnx" else ""
    raise RunError(f"{path} is neither a pt2 nor a safetensors file{advice}")
