"""Transfer learning: pretrained weights and frozen layers.

Tensors are matched by name. The last layer may differ, as with other classes, and then keeps its initial weights; any
other tensor that is missing or has another shape is an error. Frozen tensors keep their bits: parameters have no
gradient, and modules with running statistics, such as batch normalization, stay in evaluation mode.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from descend.errors import CheckpointError, UserError
from descend.nn.calibration import STATE_PREFIX
from descend.training.state import read_state

__all__ = ["Head", "Report", "digest_of", "freeze", "matching", "read_weights", "transfer"]

Head = Literal["auto", "keep", "replace"]

MAX_NAMES = 8
"""The maximum number of names in a message."""


@dataclass(frozen=True)
class Report:
    """How each tensor of the file and of the network was used.

    Args:
        matched: copied from the file.
        replaced: tensors of the last layer that keep their initial values.
        missing: in the network only.
        misshaped: in both, with different shapes: name, the file's shape, the network's shape.
        unused: in the file only.
    """

    matched: tuple[str, ...]
    replaced: tuple[str, ...]
    missing: tuple[str, ...]
    misshaped: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"{len(self.matched)} tensors matched"]
        if self.replaced:
            parts.append(f"{_listed(self.replaced)} keep their initial values")
        if self.missing:
            parts.append(f"missing from the file: {_listed(self.missing)}")
        if self.misshaped:
            shapes = [f"{name} (file {a}, network {b})" for name, a, b in self.misshaped]
            parts.append(f"different shapes: {_listed(shapes)}")
        if self.unused:
            parts.append(f"unused: {_listed(self.unused)}")
        return "; ".join(parts)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def _file_of(path: str | Path) -> Path:
    file = Path(path)
    return file / "weights.safetensors" if file.is_dir() else file


def digest_of(path: str | Path) -> str:
    """Return a digest of the file with the weights, which detects later changes.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        return blake2b(_file_of(path).read_bytes(), digest_size=16).hexdigest()
    except OSError as cause:
        raise UserError(f"cannot read the weights {path}: {cause.strerror or cause}") from cause


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read weights by name from a run folder, a checkpoint, an exported run, or any safetensors file.

    Args:
        path: the file, or a run folder with ``weights.safetensors``.

    Raises:
        UserError: there is no such file, or it is damaged.
    """
    file = _file_of(path)
    if not file.exists():
        what = (
            f"the folder {path} contains no weights.safetensors"
            if Path(path).is_dir()
            else f"no such file: {path}"
        )
        raise UserError(f"pretrained: {what}; specify a .safetensors file or the folder of a finished run")
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            header = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
    except (OSError, safetensors.SafetensorError, ValueError) as cause:
        raise UserError(f"pretrained: {file} is not a safetensors file, or is damaged ({cause})") from cause
    if "recipe" in header and "schema" in header:  # an exported run also contains its preprocessing
        return {
            name.removeprefix("model."): each for name, each in tensors.items() if name.startswith("model.")
        }
    if "descend" not in header:
        return tensors
    try:
        tree, _ = read_state(file)
    except CheckpointError as cause:
        raise UserError(f"pretrained: {cause}") from cause
    weights = tree["model"] if "optimizer" in tree else tree
    return {
        name: value
        for name, value in weights.items()
        if isinstance(value, Tensor) and not name.startswith(STATE_PREFIX)  # fitted to the other run's rows
    }


def transfer(model: nn.Module, weights: Mapping[str, Tensor], head: Head = "auto") -> Report:
    """Copy weights into a network by name, in place.

    The head is the last module with parameters of its own, in the order of ``model.modules()``: the output layer of
    descend's networks.

    Args:
        model: the initialized network.
        weights: by the names of ``model.state_dict()``, on any device and of any floating-point type.
        head: whether the head keeps its initial weights (is replaced). ``"auto"``: if a shape differs or a tensor is
            missing; ``"replace"``: always; ``"keep"``: never. Default ``"auto"``.

    Returns:
        How each tensor was used.

    Raises:
        UserError: a tensor outside a replaced head is missing or has another shape; nothing was changed.

    >>> old, new = (nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, k)) for k in (4, 5))
    >>> report = transfer(new, old.state_dict())
    >>> report.matched, report.replaced
    (('0.weight', '0.bias'), ('2.weight', '2.bias'))
    >>> torch.equal(new[0].weight, old[0].weight)
    True
    """
    own = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    of_head = _head(model)
    bad = {name for name in own if name not in weights or weights[name].shape != own[name].shape}
    replace = head == "replace" or (head == "auto" and any(name in bad for name in of_head))
    replaced = tuple(name for name in own if replace and name in of_head)
    kept = [name for name in own if name not in replaced]
    report = Report(
        matched=tuple(name for name in kept if name not in bad),
        replaced=replaced,
        missing=tuple(name for name in kept if name not in weights),
        misshaped=tuple(
            (name, tuple(weights[name].shape), tuple(own[name].shape))
            for name in kept
            if name in bad and name in weights
        ),
        unused=tuple(name for name in weights if name not in own),
    )
    if report.missing or report.misshaped:
        raise UserError(f"pretrained: the weights do not fit the network: {report}")
    if not report.matched:
        raise UserError(f"pretrained: no tensor of the network is in the file: {report}")
    with torch.no_grad():
        for name in report.matched:
            own[name].copy_(weights[name])
    return report


def _head(model: nn.Module) -> set[str]:
    """Return the names of the tensors of the last module that has parameters."""
    last = ""
    for name, module in model.named_modules():
        if next(module.parameters(recurse=False), None) is not None:
            last = name
    # A parametrized layer, such as one with weight normalization, has its tensors in submodules.
    last = last.partition(".parametrizations.")[0]
    return {name for name in model.state_dict() if name.startswith(f"{last}." if last else "")}


def matching(pattern: str, names: Sequence[str]) -> list[str]:
    """Return the names that a pattern matches, directly or through a module that contains them.

    ``*``, ``?`` and ``[...]`` have the meaning they have in file names; ``*`` also matches dots.

    Raises:
        UserError: the pattern matches no name; the message lists the modules.

    >>> matching("conv*", ["conv1.weight", "conv1.bias", "output.weight"])
    ['conv1.weight', 'conv1.bias']
    >>> matching("output", ["conv1.weight", "output.weight"])
    ['output.weight']
    """
    matched = [name for name in names if any(fnmatch.fnmatchcase(part, pattern) for part in _prefixes(name))]
    if not matched:
        modules = list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))
        raise UserError(f"no weight of the network matches '{pattern}'; its modules are {_listed(modules)}")
    return matched


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


def freeze(model: nn.Module, patterns: Sequence[str]) -> tuple[str, ...]:
    """Freeze parts of a network: their parameters have no gradient, and their running statistics do not change.

    Every parameter that a pattern matches, by its own name or that of a module that contains it, gets
    ``requires_grad = False``. A module whose own parameters and buffers are all matched stays in evaluation mode, even
    after ``model.train()``, so that a frozen batch normalization uses its running statistics without updating them. Layers
    without parameters and buffers, such as dropout, are not affected.

    Args:
        model: changed in place.
        patterns: as in :func:`matching`.

    Returns:
        The names of the frozen parameters and buffers.

    Raises:
        UserError: a pattern matches nothing, or nothing is left to train.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    >>> freeze(model, ["0.weight", "1"])
    ('0.weight', '1.weight', '1.bias', '1.running_mean', '1.running_var', '1.num_batches_tracked')
    >>> before = model[1].running_mean.clone()
    >>> _ = model.train()(torch.randn(8, 2)); torch.equal(model[1].running_mean, before)
    True
    """
    parameters = dict(model.named_parameters())
    names = [*parameters, *dict(model.named_buffers())]
    frozen = {name for pattern in patterns for name in matching(pattern, names)}
    if patterns and all(name in frozen or not p.requires_grad for name, p in parameters.items()):
        raise UserError(f"freeze: {', '.join(repr(each) for each in patterns)} leave nothing to train")
    for name, parameter in parameters.items():
        if name in frozen:
            parameter.requires_grad_(False)
    for prefix, module in model.named_modules():
        own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        frozen_module = all(f"{prefix}.{name}".removeprefix(".") in frozen for name, _ in own)
        if frozen_module and next(module.buffers(recurse=False), None) is not None:
            module.register_forward_pre_hook(_to_evaluation_mode)
    return tuple(name for name in names if name in frozen)


def _to_evaluation_mode(module: nn.Module, inputs: Any) -> None:
    """Return a frozen module to evaluation mode before its forward pass, in case ``model.train()`` was called."""
    module.training = False
