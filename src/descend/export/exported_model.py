"""An exported model, read back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from descend.data.reader import read
from descend.data.schema import Schema
from descend.errors import RunError, UserError

__all__ = ["Exported", "load"]

Array = np.ndarray[Any, Any]
_ROWS_AT_ONCE = 8192
_ZIP = b"PK\x03\x04"


@dataclass(frozen=True)
class Exported:
    """A model from a file: raw rows in, predictions out.

    Args:
        schema: what the data are; encodes raw rows and names classes.
        program: raw numbers, as ``schema.matrix`` gives them, to (codes, probabilities) or (values,).
    """

    schema: Schema
    program: Callable[[Tensor], Sequence[Tensor]]

    def predict(self, data: Any) -> Array:
        """Predictions for new rows, as :meth:`descend.runs.run.Run.predict` gives them; (n,) or (n, T)."""
        found = self._outputs(data)[0].numpy()
        if self.schema.classes:
            labels: Array = self.schema.labels[found]
            return labels
        return found[:, 0] if self.schema.task == "regression" else found

    def predict_proba(self, data: Any) -> Array:
        """Class probabilities (n, K) for new rows, in the order of ``schema.classes``."""
        if not self.schema.classes:
            raise UserError("a regression has no class probabilities")
        return self._outputs(data)[1].numpy()

    def _outputs(self, data: Any) -> list[Tensor]:
        rows = self.schema.matrix(read(data, schema=self.schema, predicting=True))
        with torch.inference_mode():
            pieces = [self.program(piece) for piece in torch.split(rows, _ROWS_AT_ONCE)]
        return [torch.cat(parts) for parts in zip(*pieces, strict=True)]


def load(path: Path, model: nn.Module | None = None, *, allow_imports: bool = False) -> Exported:
    """See :func:`descend.export.load_exported`; the format is told by the content."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as cause:
        raise RunError(f"cannot read {path}: {cause.strerror}") from cause
    if start.startswith(_ZIP):
        from descend.export.archive import Archive

        archive = Archive(path)
        return Exported(archive.schema, archive.program)
    if start[8:9] == b"{":
        from descend.export.portable import portable
        from descend.export.safetensors import read as read_weights

        predictor = read_weights(path, model, allow_imports=allow_imports)
        return Exported(predictor.schema, portable(predictor))
    advice = "; onnxruntime.InferenceSession runs it" if path.suffix == ".onnx" else ""
    raise RunError(f"{path} is neither a pt2 nor a safetensors file{advice}")
