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
:mod:`.observers`        history file, progress bar, TensorBoard, stopping on signals
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

Each name is imported from its module; the package itself exports nothing.
"""

from __future__ import annotations

__all__: list[str] = []
