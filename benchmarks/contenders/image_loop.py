"""Hand-written loops for images: as in tutorials, in channels-last order, and with max pooling before ReLU as well.

The data are tensors in memory, rows are selected by index, Adam is fused, and nothing is read from the device within an
epoch. The validation rows are evaluated in one batch.
"""

from __future__ import annotations

import time
from functools import partial

import torch
import torch.nn.functional as F

from contenders.interface import LEARNING_RATE, Contender, Problem, Run, Timing
from contenders.network import convnet

__all__ = ["IMAGE_LOOP", "IMAGE_LOOP_CHANNELS_LAST", "IMAGE_LOOP_POOL_FIRST"]


def prepare(problem: Problem, seed: int, *, channels_last: bool, pool_first: bool) -> Run:
    order = torch.channels_last if channels_last else torch.contiguous_format
    inputs, validation_inputs = (
        torch.from_numpy(array).to(memory_format=order) for array in (problem.x_train, problem.x_validation)
    )
    targets, validation_targets = torch.from_numpy(problem.y_train), torch.from_numpy(problem.y_validation)

    def run(epochs: int) -> Timing:
        torch.manual_seed(seed)
        model = convnet(problem.channels, problem.widths, pool_first=pool_first).to(memory_format=order)
        optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
        steps, accuracy = 0, 0.0
        start = time.perf_counter()
        for _ in range(epochs):
            losses = []
            for rows in torch.randperm(len(inputs)).split(problem.batch_size):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(inputs[rows]), targets[rows])
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
            steps += len(losses)
            with torch.inference_mode():
                logits = model(validation_inputs)
                validation_loss = F.cross_entropy(logits, validation_targets)
                share = (logits.argmax(1) == validation_targets).float().mean()
                *_, accuracy = torch.stack([torch.stack(losses).mean(), validation_loss, share]).tolist()
        return Timing(steps, time.perf_counter() - start, accuracy)

    return run


def _contender(name: str, how: str, *, channels_last: bool, pool_first: bool) -> Contender:
    return Contender(
        name=name,
        on=f"{how}; rows selected by index in memory, fused Adam, losses kept as tensors; no extras",
        packages=("torch",),
        variants={"": partial(prepare, channels_last=channels_last, pool_first=pool_first)},
        threads="best",
        sizes=("images",),
    )


IMAGE_LOOP = _contender("image-loop", "PyTorch's default order", channels_last=False, pool_first=False)
IMAGE_LOOP_CHANNELS_LAST = _contender(
    "image-loop-channels-last", "channels-last order", channels_last=True, pool_first=False
)
IMAGE_LOOP_POOL_FIRST = _contender(
    "image-loop-pool-first",
    "channels-last order, max pooling before ReLU",
    channels_last=True,
    pool_first=True,
)
