"""The format ``pt2``: a program of ``torch.export`` with the schema."""

from __future__ import annotations

import dataclasses
import io
from typing import TYPE_CHECKING

import torch

from descend.export.description import matrix_description
from descend.export.portable import silenced, trace

if TYPE_CHECKING:
    from descend.export.trained_network import TrainedNetwork

__all__ = ["DESCRIPTION_FILE", "SCHEMA_FILE", "content"]

SCHEMA_FILE = "schema.json"
DESCRIPTION_FILE = "description.json"


def content(run: TrainedNetwork) -> bytes:
    """Return the content of the file: graph, weights, ``schema.json`` without the path of the training data, and
    ``description.json`` (:mod:`descend.export.description`).

    Raises:
        UserError: the network cannot be traced.
    """
    program = trace(run.predictor, core=True)
    schema = dataclasses.replace(run.schema, reference=None)
    extra = {SCHEMA_FILE: schema.to_json(), DESCRIPTION_FILE: matrix_description(run.predictor)}
    buffer = io.BytesIO()
    with silenced():
        torch.export.save(program, buffer, extra_files=extra)
    return buffer.getvalue()
