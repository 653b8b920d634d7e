"""The format ``safetensors``: weights and fitted preprocessing as tensors, schema and recipe as strings."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors
import safetensors.torch
from torch import Tensor, nn

from descend._version import __version__
from descend.arguments import kind_of
from descend.constraints import remove_parametrizations
from descend.data.preprocessing import Postprocess, Preprocess
from descend.data.schema import Schema
from descend.errors import RunError, UserError
from descend.recipe import Recipe
from descend.recipe.build import build_model, build_output
from descend.recipe.calibration import restored_calibration
from descend.recipe.facts import facts_of
from descend.training.predictor import Predictor

if TYPE_CHECKING:
    from descend.export.trained_network import TrainedNetwork

__all__ = ["content", "read"]


def content(run: TrainedNetwork) -> bytes:
    """Return the content of the file: weights, fitted preprocessing and units as tensors, schema and recipe as strings.

    Raises:
        UserError: the state of the network contains more than tensors.
    """
    tensors: dict[str, Tensor] = {}
    # Constrained weights are stored as plain weights, not as the variables that parametrize them.
    network = (
        remove_parametrizations(copy.deepcopy(run.model), constraints_only=True)
        if run.recipe.constrain
        else run.model
    )
    for name, value in network.state_dict().items():
        if not isinstance(value, Tensor):
            raise UserError(
                f"safetensors stores only tensors, got {kind_of(value)} for '{name}' in the state of the network"
            )
        tensors[f"model.{name}"] = value
    if run.predictor.calibration is not None:
        tensors |= {f"calibration.{name}": each for name, each in run.predictor.calibration.named_buffers()}
    # buffers of these modules are not in their state_dict, because the schema contains them too
    parts = {"preprocess": run.preprocess, "postprocess": Postprocess(run.schema, run.predictor.form)}
    for part, module in parts.items():
        tensors |= {f"{part}.{name}": value for name, value in module.named_buffers() if value.numel()}
    # copies, because the format does not support shared memory (tied weights)
    separate = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    schema = dataclasses.replace(run.schema, reference=None)
    metadata = {
        "format": "pt",
        "descend": __version__,
        "schema": schema.to_json(),
        "recipe": run.recipe.to_toml(),
        "members": json.dumps(run.kept),
    }
    return safetensors.torch.save(separate, metadata=metadata)


def read(path: Path, model: nn.Module | None = None, *, allow_imports: bool = False) -> Predictor:
    """Return the predictor in a file.

    Args:
        path: the file.
        model: the module for the weights, if the recipe cannot build it. Default None.
        allow_imports: whether the recipe may import classes by their path, which runs their code. Default False.

    Raises:
        RunError: the file is damaged, is not an export of descend, or does not fit the module.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = [name for name in file.keys() if name.startswith("model.")]  # noqa: SIM118 - not a dict
            state = {name.removeprefix("model."): file.get_tensor(name) for name in names}
            fitted = {
                name.removeprefix("calibration."): file.get_tensor(name)
                for name in file.keys()  # noqa: SIM118 - not a dict
                if name.startswith("calibration.")
            }
    except (OSError, safetensors.SafetensorError) as cause:
        raise RunError(f"{path} is damaged or truncated ({cause})") from cause
    if not {"schema", "recipe"} <= set(metadata):
        raise RunError(f"{path} is a safetensors file, but not an export of descend")
    schema = Schema.from_json(metadata["schema"], f"{path}: schema")
    allowed = allow_imports or model is not None
    recipe = Recipe.loads(metadata["recipe"], source=f"{path}: recipe", allow_imports=allowed)
    facts, kept = facts_of(schema), [int(each) for each in re.findall(r"\d+", metadata.get("members", ""))]
    module = (
        remove_parametrizations(build_model(recipe, facts, seed=0, kept=kept), constraints_only=True)
        if model is None
        else model
    )
    try:
        module.load_state_dict(state)
    except RuntimeError as cause:
        raise RunError(f"the weights of {path} do not fit the network: {cause}") from cause
    calibration = restored_calibration(recipe, facts, fitted, str(path))
    output = build_output(recipe, facts)
    return Predictor(schema, Preprocess(schema), module.eval(), output, calibration=calibration)
