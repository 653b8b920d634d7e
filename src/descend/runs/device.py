"""The device on which the arithmetic of a run takes place."""

from __future__ import annotations

import torch

from descend.errors import Problem, RecipeError
from descend.process import is_fork
from descend.process.forks import REMEDY

__all__ = ["choose_device"]


def choose_device(name: str) -> torch.device:
    """Return the device with a name; "auto" is CUDA if available, else the CPU.

    Raises:
        RecipeError: the device is not available.
    """
    if is_fork() and name.partition(":")[0] in ("auto", "cuda") and torch.cuda._is_in_bad_fork():
        message = "this process is a fork of one that has used CUDA, in which CUDA cannot be used"
        raise RecipeError([Problem("engine", "device", message, f"use cpu, or {REMEDY}")])
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError):
        known = ", ".join(_available_devices())
        hint = f"available on this machine: {known}"
        if name.partition(":")[0] in ("cuda", "gpu") and torch.version.cuda is None:
            hint += " (this installation of PyTorch is without CUDA)"
        raise RecipeError(
            [Problem("engine", "device", f"the device '{name}' is not available", hint)]
        ) from None
    return device


def _available_devices() -> list[str]:
    """Return the names of the devices that PyTorch can use here."""
    cuda = (
        [f"cuda:{number}" for number in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    return ["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]
