"""A predictor as a single module of tensor operations, and its traced graph."""

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
from descend.interface import option
from descend.process import exclusive
from descend.training.predictor import Predictor

__all__ = ["Portable", "make_portable", "silenced", "trace"]

_EXAMPLE_ROWS = 3


class Portable(nn.Module):
    """Map raw rows from :meth:`descend.data.schema.Schema.matrix` to predictions.

    Classification returns ``(codes, probabilities)``: the index of the predicted label among the classes, int64 (n,), and
    (n, K). With several labels these are (n, L): whether each label holds, and the probability of it. Codes are computed
    from the raw outputs, which distinguish classes with equal rounded probabilities.
    Regression returns ``(values,)`` in the units of the targets, float64 (n, T).

    Args:
        predictor: the predictor, whose modules are not copied.
    """

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.preprocess, self.model = predictor.preprocess, predictor.model
        self.calibration = predictor.calibration or nn.Identity()
        logits = predictor.form == "logits"
        self.output = nn.Identity() if logits else predictor.output
        self.postprocess = Postprocess(predictor.schema, predictor.form)
        self.task = predictor.schema.task
        self.threshold = 0.0 if logits else 0.5

    def forward(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Return predictions for raw rows."""
        outputs = self.output(self.calibration(self.model(self.preprocess(rows))))
        result = self.postprocess(outputs)
        if self.task == "binary":
            return (outputs[:, 0] > self.threshold).to(torch.int64), result
        if self.task == "multi_label":
            return (outputs > self.threshold).to(torch.int64), result
        if self.task == "multiclass":
            return outputs.argmax(dim=1), result
        return (result,)


def make_portable(predictor: Predictor) -> Portable:
    """Return a copy of a predictor as one module: on the CPU, in evaluation mode, without parametrizations or gradients.

    Raises:
        UserError: the network cannot be copied.
    """
    try:
        return remove_parametrizations(copy.deepcopy(Portable(predictor)).cpu().eval()).requires_grad_(False)
    except Exception as cause:  # copying a user's module may raise anything
        raise UserError(
            f"the network ({type(predictor.model).__name__}) cannot be exported, because "
            f"copy.deepcopy failed: {_first_line(cause)}"
        ) from cause


def trace(predictor: Predictor, *, core: bool = False) -> torch.export.ExportedProgram:
    """Return the graph of a predictor, for any number of rows.

    Args:
        predictor: the predictor.
        core: whether to decompose the graph into PyTorch's core operations. Default False.

    Raises:
        UserError: the network cannot be traced as tensor operations.
    """
    module = make_portable(predictor)
    rows = torch.export.Dim("rows")
    try:
        with silenced(), torch.no_grad():
            example = (_example(predictor.schema),)
            program = torch.export.export(module, example, dynamic_shapes=({0: rows},), strict=False)
            program = program.run_decompositions() if core else program
    except Exception as cause:  # tracing runs the network's own code, which may raise anything
        raise UserError(
            f"the network ({type(predictor.model).__name__}) cannot be traced by torch.export: "
            f"{_first_line(cause)}\n"
            "Use only tensor operations in forward, without branches on the values of tensors (if, .item(), "
            ".numpy(); use torch.where) and without a fixed number of rows (use x.shape[0] or -1); or use "
            f"{option('--format safetensors', 'the format safetensors')}, which stores only the weights"
        ) from cause
    for node in program.graph.nodes:
        for private in ("stack_trace", "from_node", "nn_module_stack", "source_fn_stack"):
            node.meta.pop(private, None)  # paths of source files on this machine
    return program


def _example(schema: Schema) -> Tensor:
    if schema.kind == "table":
        return torch.zeros(_EXAMPLE_ROWS, schema.width, dtype=torch.float64)
    kind = torch.uint8 if schema.kind == "images" else torch.float32
    return torch.zeros(_EXAMPLE_ROWS, *schema.input_shape, dtype=kind)


def _first_line(cause: BaseException) -> str:
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0]}" if lines else type(cause).__name__


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Suppress what exporters print, log and warn; their errors are raised."""
    with exclusive():
        before = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            with (
                warnings.catch_warnings(),
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
            ):
                warnings.simplefilter("ignore")  # from PyTorch's tracer, about its own code
                yield
        finally:
            logging.disable(before)
