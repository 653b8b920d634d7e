"""A predictor as one module of tensor operations, and that module traced."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from descend.constraints import remove_parametrizations
from descend.data.preprocessing import Postprocess
from descend.data.schema import Schema
from descend.errors import UserError
from descend.training.predictor import Predictor

__all__ = ["Portable", "portable", "quiet", "traced"]

_EXAMPLE_ROWS = 3


class Portable(nn.Module):
    """Raw rows, as :meth:`descend.data.schema.Schema.matrix` gives them, to predictions.

    Classification gives ``(codes, probabilities)``: int64 (n,), the place of the predicted label among the
    classes, and (n, K). Codes come from the raw outputs, where two classes differ that share a rounded
    probability. Regression gives ``(values,)``: float64 (n, T) in the targets' units.

    Args:
        predictor: whose modules are used as they are.
    """

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.preprocess, self.model = predictor.preprocess, predictor.model
        logits = predictor.form == "logits"
        self.output = nn.Identity() if logits else predictor.output
        self.postprocess = Postprocess(predictor.schema, predictor.form)
        self.task = predictor.schema.task
        self.threshold = 0.0 if logits else 0.5

    def forward(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Predictions for raw rows."""
        outputs = self.output(self.model(self.preprocess(rows)))
        found = self.postprocess(outputs)
        if self.task == "binary":
            return (outputs[:, 0] > self.threshold).to(torch.int64), found
        if self.task == "multiclass":
            return outputs.argmax(dim=1), found
        return (found,)


def portable(predictor: Predictor) -> Portable:
    """A copy of a predictor as one module: on the CPU, in evaluation mode, with plain weights without gradients.

    Raises:
        UserError: the network cannot be copied.
    """
    try:
        return remove_parametrizations(copy.deepcopy(Portable(predictor)).cpu().eval()).requires_grad_(False)
    except Exception as cause:  # whatever a foreign module's own copying raises
        raise UserError(
            f"the network ({type(predictor.model).__name__}) cannot be exported, because it cannot be copied "
            f"(copy.deepcopy): {_first_line(cause)}"
        ) from cause


def traced(predictor: Predictor, *, core: bool = False) -> torch.export.ExportedProgram:
    """The graph of a predictor, for any number of rows.

    Args:
        predictor: what is traced.
        core: whether the graph holds PyTorch's core operations only, into which others are taken apart.

    Raises:
        UserError: the network is more than tensor operations.
    """
    module = portable(predictor)
    rows = torch.export.Dim("rows")
    try:
        with quiet(), torch.no_grad():
            example = (_example(predictor.schema),)
            program = torch.export.export(module, example, dynamic_shapes=({0: rows},), strict=False)
            program = program.run_decompositions() if core else program
    except Exception as cause:  # tracing runs the network's own code, which may raise anything
        raise UserError(
            f"the network ({type(predictor.model).__name__}) cannot be traced by torch.export: "
            f"{_first_line(cause)}\n"
            "What helps: a forward of tensor operations alone, without decisions by the values of tensors "
            "(if, .item(), .numpy(); use torch.where) and without a fixed number of rows (use x.shape[0] or "
            "-1); or --format safetensors, which stores the weights alone"
        ) from cause
    for node in program.graph.nodes:
        for private in ("stack_trace", "from_node", "nn_module_stack", "source_fn_stack"):
            node.meta.pop(private, None)  # where the source code lies on this machine
    return program


def _example(schema: Schema) -> Tensor:
    if schema.kind == "table":
        return torch.zeros(_EXAMPLE_ROWS, len(schema.used), dtype=torch.float64)
    kind = torch.uint8 if schema.kind == "images" else torch.float32
    return torch.zeros(_EXAMPLE_ROWS, *schema.input_shape, dtype=kind)


def _first_line(cause: BaseException) -> str:
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0]}" if lines else type(cause).__name__


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back what exporters print, log and warn of; their errors are raised."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")  # of PyTorch's tracer, about itself
            yield
    finally:
        logging.disable(before)
