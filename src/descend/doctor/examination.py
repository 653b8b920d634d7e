"""Examination of a program of one's own before it trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from descend.arguments import kind_of
from descend.doctor.causes import CAUSES, CONSEQUENCES
from descend.doctor.findings import Finding, ranked
from descend.doctor.program import Program
from descend.doctor.rows import rows_of
from descend.errors import UserError

__all__ = ["examine"]


def examine(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    data: Any,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    batch_size: int | None = None,
) -> list[Finding]:
    """Find what is wrong with a network, a loss, data and an optimizer before they are trained.

    Copies are examined and trained for a few steps: the model, the optimizer, the data loader and all random generators stay
    as they were, to the bit.

    Args:
        model: the network.
        loss: maps the outputs of the network and targets to a tensor, such as ``nn.CrossEntropyLoss()``.
        data: a pair (inputs, targets) of tensors or arrays, a ``DataLoader``, a ``Dataset`` of pairs or an iterable of batches.
        optimizer: of the parameters of the model. Default None: causes that concern it are not looked for.
        batch_size: the number of rows of a step. Default None: that of the loader, else 32.

    Returns:
        Findings, most certain first; an empty list where nothing is wrong.

    Raises:
        UserError: an argument is not what it should be, or the loss cannot be computed.

    >>> model = nn.Sequential(nn.Linear(3, 4), nn.Softmax(1))
    >>> source = torch.Generator().manual_seed(0)
    >>> x, y = torch.randn(80, 3, generator=source), torch.randint(4, (80,), generator=source)
    >>> print(examine(model, nn.CrossEntropyLoss(), (x, y))[0].title)
    The loss expects raw outputs (logits) and gets probabilities.
    """
    if not isinstance(model, nn.Module):
        raise UserError(f"model: expected a torch.nn.Module, got {kind_of(model)}")
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
        raise UserError(f"optimizer: expected a torch.optim.Optimizer, got {kind_of(optimizer)}")
    if not callable(loss):
        raise UserError(f"loss: expected a function of outputs and targets, got {kind_of(loss)}")
    with torch.random.fork_rng(), torch.enable_grad():
        inputs, targets, size = rows_of(data)
        device = next(iter(model.parameters()), torch.zeros(())).device
        program = Program(
            model, loss, inputs.to(device), targets.to(device), optimizer, batch_size or size or 32
        )
        try:
            _ = program.observed
        except (RuntimeError, ValueError, TypeError, IndexError) as cause:
            raise UserError(
                f"the loss of the first {len(inputs)} rows cannot be computed: {cause}"
            ) from cause
        found = [each.before_training(program) for each in CAUSES]
    return ranked([each for each in found if each is not None], CONSEQUENCES)
