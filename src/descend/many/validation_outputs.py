"""The raw outputs of networks on the validation rows, and the loss of any outputs there."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from descend.data.preparation import Part
from descend.runs.build import evaluation_batches, monitored_losses
from descend.runs.run import Run
from descend.training.evaluation import outputs_of

__all__ = ["ValidationOutputs"]


class ValidationOutputs:
    """Outputs of networks on the validation rows, by which an ensemble is selected.

    The loss is the one that training monitors where that is the loss or the objective, else the loss.

    Args:
        run: of one of the networks, which determines loss and precision.
        part: the validation rows.
        device: of the networks.
    """

    def __init__(self, run: Run, part: Part, device: torch.device) -> None:
        losses = monitored_losses(run, part, device)
        self._loss = losses["objective" if run.selection.monitor == "objective" else "loss"]
        self._precision = run.predictor.precision
        self._batches = list(evaluation_batches(part, device)())
        self._targets = torch.cat([each.targets for each in self._batches])
        given = [each.weights for each in self._batches if each.weights is not None]
        self._weights = torch.cat(given) if given else None

    def of(self, network: nn.Module) -> Tensor:
        """Return the raw outputs (n, K) of a network on the rows."""
        return torch.cat(
            [outputs_of(network, each.inputs, precision=self._precision) for each in self._batches]
        )

    def loss(self, outputs: Tensor) -> Tensor:
        """Return the loss of raw outputs (n, K) on the rows."""
        return self._loss(outputs, self._targets, self._weights)
