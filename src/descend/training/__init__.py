"""Training: the objective, the loop, and the settings, checks and files around them.

=======================  ===================================================================
:mod:`.loop`             the training loop, and the training of one network
:mod:`.objective`        the loss of a step's rows and its gradient, as a closure
:mod:`.chain`            backpropagation through plain chains of layers without autograd
:mod:`.jacobian_chain`   the same for a loss with a Jacobian penalty
:mod:`.weight_penalty`   values and gradients of penalties on the weights
:mod:`.composition`      averages of outputs, for compositional objectives
:mod:`.clipping`         gradient clipping
:mod:`.stopping`         early stopping
:mod:`.averaging`        moving averages of weights
:mod:`.records`          the records of a history
:mod:`.state`            the state of training as one tree, and as one file
:mod:`.checkpoint`       checkpoints, complete or absent, written while training continues
:mod:`.observers`        history file, TensorBoard, stopping on signals
:mod:`.notification`     observers as users write them: some methods, or a function
:mod:`.progress`         progress bar
:mod:`.evaluation`       loss and metrics on rows that are not trained on
:mod:`.predictor`        preprocessing, network and labels as one function
:mod:`.transfer`         pretrained weights and frozen layers
:mod:`.arithmetic`       threads, denormals and random state of a training
:mod:`.threads`          the number of CPU threads
:mod:`.denormals`        flushing of denormal numbers to zero
:mod:`.timing`           timing of repeated calls
:mod:`.diagnosis`        the origin of a NaN or an infinity
:mod:`.derivatives`      gradient checking
:mod:`.optimality`       first- and second-order optimality conditions
=======================  ===================================================================

A training loop with descend's objective and stopping rule:

>>> import torch
>>> from descend.data.batches import MemoryBatches, Order
>>> from descend.losses import MeanSquaredError
>>> from descend.schedules import constant
>>> x = torch.linspace(-1, 1, 64)[:, None]
>>> model = torch.nn.Linear(1, 1)
>>> training = Training(
...     model=model,
...     objective=Objective(model, MeanSquaredError(), device=torch.device("cpu")),
...     optimizer=torch.optim.Adam(model.parameters(), lr=0.1),
...     schedule=constant(4, 200),
...     batches=MemoryBatches(x, 3 * x + 1, None, Order(64, 16)),
...     stopping=Stopping(max_epochs=50),
... )
>>> fit(training)
'max_epochs'
>>> [round(value, 1) for value in (model.weight.item(), model.bias.item())]
[3.0, 1.0]
"""

from __future__ import annotations

from descend.training.averaging import WeightAverage
from descend.training.clipping import clip_gradients
from descend.training.derivatives import DerivativeCheck, check_derivatives
from descend.training.loop import NotFinite, Observer, Trainable, Training, fit
from descend.training.objective import Objective
from descend.training.observers import HistoryFile, Quiet, TensorBoard
from descend.training.optimality import Optimality, check_optimality
from descend.training.stopping import Stopping

__all__ = [
    "DerivativeCheck",
    "HistoryFile",
    "NotFinite",
    "Objective",
    "Observer",
    "Optimality",
    "Quiet",
    "Stopping",
    "TensorBoard",
    "Trainable",
    "Training",
    "WeightAverage",
    "check_derivatives",
    "check_optimality",
    "clip_gradients",
    "fit",
]
