"""Lower bound for eager loops: the same arithmetic without modules, autograd or an optimizer object.

This is not a practical way to train. The gradients of this one network are hand-written, and Adam is PyTorch's fused
kernel, called directly although it is private. All weights are views of one vector, and so are all gradients; a step
takes a few matrix products and a sum per layer, and one call for the update.

With z the logits, p = softmax(z), Y the one-hot targets and n the number of rows of the batch:
∂L/∂z = (p - Y) / n;  for each layer y = x Wᵀ + b:  ∂L/∂W = (∂L/∂y)ᵀ x,  ∂L/∂b = Σ ∂L/∂y,  ∂L/∂x = (∂L/∂y) W.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from contenders.interface import LEARNING_RATE, Contender, Problem, Run, Timing
from contenders.network import mlp

__all__ = ["FLOOR"]


def prepare(problem: Problem, seed: int) -> Run:
    inputs, targets = torch.from_numpy(problem.x_train), torch.from_numpy(problem.y_train)
    validation_inputs, validation_targets = (
        torch.from_numpy(problem.x_validation),
        torch.from_numpy(problem.y_validation),
    )
    identity = torch.eye(problem.widths[-1])

    @torch.inference_mode()
    def run(epochs: int) -> Timing:
        torch.manual_seed(seed)
        initial = [weight.detach() for weight in mlp(problem.widths).parameters()]
        vector, weights = _flat(initial)
        gradient, gradients = _flat([torch.zeros_like(weight) for weight in initial])
        mean, square, count = torch.zeros_like(vector), torch.zeros_like(vector), torch.zeros(())
        steps, history = 0, []
        start = time.perf_counter()
        for _ in range(epochs):
            losses = []
            order = torch.randperm(len(inputs))
            pieces = [inputs[order], targets[order], identity[targets[order]]]
            batches = [piece.split(problem.batch_size) for piece in pieces]
            for x, y, one_hot in zip(*batches, strict=True):
                losses.append(_loss_and_gradients(weights, gradients, x, y, one_hot))
                count += 1
                torch._fused_adam_(
                    [vector],
                    [gradient],
                    [mean],
                    [square],
                    [],
                    [count],
                    lr=LEARNING_RATE,
                    beta1=0.9,
                    beta2=0.999,
                    weight_decay=0.0,
                    eps=1e-8,
                    amsgrad=False,
                    maximize=False,
                )
            steps += len(losses)
            logits = _forward(weights, validation_inputs)[-1]
            validation_loss = F.cross_entropy(logits, validation_targets)
            accuracy = (logits.argmax(1) == validation_targets).float().mean()
            history.append(torch.stack([torch.stack(losses).mean(), validation_loss, accuracy]).tolist())
        return Timing(steps, time.perf_counter() - start, history[-1][-1])

    return run


def _flat(tensors: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return one vector with the values of all tensors, and views of it in their shapes."""
    vector = torch.cat([tensor.flatten() for tensor in tensors])
    pieces = vector.split([tensor.numel() for tensor in tensors])
    return vector, [piece.view_as(tensor) for piece, tensor in zip(pieces, tensors, strict=True)]


def _forward(weights: Sequence[Tensor], x: Tensor) -> list[Tensor]:
    """Return the input of each layer, and the logits."""
    values = [x]
    for layer in range(0, len(weights), 2):
        x = torch.addmm(weights[layer + 1], x, weights[layer].t())
        values.append(x.relu_() if layer + 2 < len(weights) else x)
    return values


def _loss_and_gradients(
    weights: Sequence[Tensor], gradients: Sequence[Tensor], x: Tensor, y: Tensor, one_hot: Tensor
) -> Tensor:
    """Return the mean loss of a batch and write its gradient into ``gradients``."""
    values = _forward(weights, x)
    log_p = values.pop().log_softmax(1)
    loss = F.nll_loss(log_p, y)
    delta = log_p.exp_().sub_(one_hot).mul_(1 / len(y))
    for layer in range(len(weights) - 2, -1, -2):
        layer_input = values.pop()
        torch.mm(delta.t(), layer_input, out=gradients[layer])
        torch.sum(delta, 0, out=gradients[layer + 1])
        if layer:
            delta = torch.ops.aten.threshold_backward(delta @ weights[layer], layer_input, 0)
    return loss


FLOOR = Contender(
    name="floor",
    on="hand-written gradients for this network, direct calls of Adam's fused kernel (a private function); no extras",
    packages=("torch",),
    variants={"": prepare},
    threads="best",
)
