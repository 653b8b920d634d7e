"""The format ``pt2``: a program of ``torch.export`` with the schema beside it."""

from __future__ import annotations

import dataclasses
import io
from typing import TYPE_CHECKING

import torch

from descend.export.portable import quiet, traced

if TYPE_CHECKING:
    from descend.export.trained_network import TrainedNetwork

__all__ = ["SCHEMA_FILE", "content"]

SCHEMA_FILE = "schema.json"


def content(run: TrainedNetwork) -> bytes:
    """The file: graph, weights and ``schema.json``, from which the path of the training data is left out.

    Raises:
        UserError: the network cannot be traced.
    """
    program = traced(run.predictor, core=True)
    schema = dataclasses.replace(run.schema, reference=None)
    held = io.BytesIO()
    with quiet():
        torch.export.save(program, held, extra_files={SCHEMA_FILE: schema.to_json()})
    return held.getvalue()
