"""The format ``pt2``: a program of ``torch.export`` with the schema."""

from __future__ import annotations

import dataclasses
import io
from typing import TYPE_CHECKING

import torch

from descend.export.portable import silenced, trace

if TYPE_CHECKING:
    from descend.export.trained_network import TrainedNetwork

__all__ = ["SCHEMA_FILE", "content"]

SCHEMA_FILE = "schema.json"


def content(run: TrainedNetwork) -> bytes:
    """Return the content of the file: graph, weights and ``schema.json`` without the path of the training data.

    Raises:
        UserError: the network cannot be traced.
    """
    program = trace(run.predictor, core=True)
    schema = dataclasses.replace(run.schema, reference=None)
    buffer = io.BytesIO()
    with silenced():
        torch.export.save(program, buffer, extra_files={SCHEMA_FILE: schema.to_json()})
    return buffer.getvalue()
