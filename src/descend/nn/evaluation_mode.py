"""Evaluation mode of a module for some time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["in_evaluation_mode"]


@contextmanager
def in_evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Context with a module in evaluation mode; on exit each of its modules has its own mode again.

    >>> model = nn.Sequential(nn.Dropout(), nn.Dropout().eval()).train()
    >>> _ = model[1].eval()
    >>> with in_evaluation_mode(model):
    ...     model[0].training
    False
    >>> [part.training for part in model]
    [True, False]
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
