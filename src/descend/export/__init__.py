"""Export of a trained network as one file for use elsewhere: raw rows in, predictions out.

===============  ================================  =======================================================
format           written for                       inputs and outputs
===============  ================================  =======================================================
``pt2``          PyTorch, by ``torch.export``      a matrix of raw numbers; class codes and probabilities,
                                                   or values
``onnx``         ONNX Runtime, without PyTorch     a named tensor for each column, with string tensors for
                                                   categories; ``label`` and ``probabilities``, or values
``safetensors``  any language                      weights, fitted preprocessing and the schema; the
                                                   reader implements the computation
===============  ================================  =======================================================

Imputation, one-hot encoding, scaling, the output activation and the units of the targets are included, and the
predictions are those of ``run.predict``. The arithmetic is float32, also if training used bfloat16.

Files of the formats pt2 and onnx contain a description of their inputs and outputs as JSON, with an example, which is
read without descend: ``description.json`` in the archive, and ``description`` in the metadata of the model (see
docs/exported-files.md).

**pt2.** The program takes the raw numbers of the used columns, float64 (n, C): categories as codes, dates as
days since 1970-01-01, NaN for missing, -1 for a category that did not occur in training. Images are uint8
(n, channels, height, width), tensors float32 (n, ...). It returns ``(codes, probabilities)`` of shapes (n,) and
(n, K), or ``(values,)`` of shape (n, T). ``schema.json`` in the archive contains the columns and classes. A text
column is at the end of the row, as the indices of its n-grams (:mod:`descend.data.ngrams`), padded with 0, or NaN and
zeros if it is missing. Two lines read the file and accept rows in any form, as ``run.predict`` does:

    model = descend.export.load_exported("model.pt2")
    model.predict({"age": [37, None], "city": ["Ulm", "Bonn"]})

:func:`load_exported` executes nothing from the file: it reads JSON and plain tensors, and interprets the graph
operation by operation, with PyTorch's core operations only. ``torch.export.load`` reads the same file, but
unpickles and evaluates parts of it: use it only on files that you trust.

**onnx.** Inputs are tensors of shape (n,), named like the columns. Categories are string tensors, "" for missing; texts
are refused, since no operator hashes parts of strings. All others are float64, with booleans as 1 and 0, dates as days
since 1970-01-01, NaN for missing. Strings
that did not occur in training, and strings for missing values, are treated as by ``run.predict``; up to one space is
removed at each end. If columns have no names, or are the pixels of an image, there is one input ``rows`` with all
columns, float64 (n, C); images and tensors are an input ``rows`` too, as for pt2. Outputs are ``label`` (n,) in the
dtype of the labels (string, int64, float64 or bool) and ``probabilities`` (n, K); for regression ``value``, or an
output named like each target, float64 (n,). An output with the name of an input is called ``predicted_...``.

    session = onnxruntime.InferenceSession("model.onnx")
    rows = {"age": np.array([37.0, np.nan]), "city": np.array(["Ulm", "Bonn"])}
    label, probabilities = session.run(None, rows)

**safetensors.** Tensors ``model.*`` (the state of the network), ``preprocess.*`` (imputation, scaling, categories),
``calibration.*`` (of probabilities, such as the factor of the logits, where there is one) and ``postprocess.*`` (the
units of the targets); strings ``schema`` (JSON), ``recipe`` (TOML) and ``descend`` (the
version). :func:`load_exported` reads it if the recipe can build the network. To load it into a custom module:

    with safetensors.safe_open("model.safetensors", "pt") as file:
        schema = Schema.from_json(file.metadata()["schema"])
        state = {name[6:]: file.get_tensor(name) for name in file.keys() if name.startswith("model.")}
    module.load_state_dict(state)
    outputs = module(Preprocess(schema)(schema.matrix(rows)))
    labels = schema.decode(outputs)

>>> import descend, tempfile
>>> run = descend.train("iris", {"stop": {"max_epochs": 2}})
>>> path = run.export("pt2", Path(tempfile.mkdtemp()) / "iris.pt2")
>>> rows = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]
>>> bool((load_exported(path).predict(rows) == run.predict(rows)).all())
True
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from descend.errors import UserError, did_you_mean
from descend.files import write_atomically

if TYPE_CHECKING:
    from torch import nn

    from descend.export.exported_model import ExportedModel
    from descend.export.trained_network import TrainedNetwork

__all__ = ["FORMATS", "export", "load_exported"]

FORMATS = ("pt2", "onnx", "safetensors")
"""Names of the formats, which are also their file name extensions and the modules that write them."""


def export(run: TrainedNetwork, format: str, path: str | Path | None = None) -> Path:
    """Write a run's network, with preprocessing and output conversion, as one file.

    Args:
        run: the run to export.
        format: ``pt2``, ``onnx`` or ``safetensors``; see the formats above.
        path: the file, or a folder for it. Default None: ``model.<format>`` in the run folder. An existing file is
            replaced once the new one is complete.

    Returns:
        The path of the file.

    Raises:
        UserError: unknown format; neither a run folder nor a path; a network that cannot be traced.
        MissingExtraError: a package that the format requires is not installed.
        RunError: the file cannot be written.
    """
    if format not in FORMATS:
        suffix = Path(format).suffix.removeprefix(".")
        call = (
            f"did you mean ('{suffix}', '{format}')?" if suffix in FORMATS else did_you_mean(format, FORMATS)
        )
        raise UserError(f"unknown export format '{format}'; {call}")
    file = _target_file(run, format, path)
    write_atomically(file, importlib.import_module(f"descend.export.{format}").content(run))
    return file


def _target_file(run: TrainedNetwork, format: str, path: str | Path | None) -> Path:
    if path is None and run.path is None:
        raise UserError(f"the run was not saved; pass a path: run.export('{format}', 'model.{format}')")
    file = Path(run.path if path is None else path)  # type: ignore[arg-type]  # at least one is not None, as checked above
    if file.is_dir():
        file = file / f"model.{format}"
    if not file.parent.is_dir():
        raise UserError(f"no such folder: {file.parent}")
    return file


def load_exported(
    path: str | Path, *, model: nn.Module | None = None, allow_imports: bool = False
) -> ExportedModel:
    """Return the model in a ``pt2`` or ``safetensors`` file, which predicts like the run.

    Args:
        path: the file.
        model: the module for the weights of a ``safetensors`` file, if its recipe cannot build it. Default None.
        allow_imports: whether the recipe of a ``safetensors`` file may import classes by their path, which
            runs their code. Nothing else in either format is executed. Default False.

    Returns:
        An object with ``predict``, ``predict_proba`` and ``schema``.

    Raises:
        RunError: the file is missing, damaged, not an export of descend, or from a newer version.
    """
    from descend.export.exported_model import load

    return load(Path(path), model, allow_imports=allow_imports)
