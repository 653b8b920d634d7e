"""Networks as users write them, for images of 8 × 8 pixels or any rows."""

from __future__ import annotations

import math

import torch
from torch import nn

from descend.nn import Residual


class ResidualMlp(nn.Module):
    def __init__(self, inputs, outputs, width=16):
        super().__init__()
        self.first = nn.Linear(math.prod(inputs), width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU()) for _ in range(2)
        )
        self.last = nn.Linear(width, outputs)

    def forward(self, x):
        h = self.first(x.flatten(1))
        for block in self.blocks:
            h = h + block(h)
        return self.last(h)


class NormAndDropout(nn.Module):
    def __init__(self, inputs, outputs, early=0.2, late=0.4):
        super().__init__()
        # Deliberately not in the order of execution.
        self.late, self.early = nn.Dropout(late), nn.Dropout(early)
        self.first = nn.Linear(math.prod(inputs), 16)
        self.norm = nn.BatchNorm1d(16)
        self.last = nn.Linear(16, outputs)

    def forward(self, x):
        h = torch.relu(self.norm(self.first(self.early(x.flatten(1)))))
        return self.last(self.late(h))


class InstanceNormed(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.shape = (inputs[0], *inputs[1:]) if len(inputs) == 3 else (1, 8, 8)
        self.first = nn.Conv2d(self.shape[0], 4, 3, padding=1)
        self.norm = nn.InstanceNorm2d(4, affine=True)
        self.drop = nn.Dropout2d(0.2)
        self.skip = Residual(nn.Conv2d(4, 4, 3, padding=1))
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.last = nn.Linear(16, outputs)

    def forward(self, x):
        h = self.drop(torch.relu(self.norm(self.first(x.view(len(x), *self.shape)))))
        return self.last(self.pool(self.skip(h)).flatten(1))


class Attention(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.embed = nn.Linear(8, 8)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.drop = nn.Dropout(0.1)
        self.last = nn.Linear(8, outputs)

    def forward(self, x):
        rows = self.embed(x.reshape(len(x), -1, 8))
        mixed, _ = self.attend(rows, rows, rows, need_weights=False)
        return self.last(self.drop(self.norm(rows + mixed).mean(1)))


class Recurrent(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.cell = nn.GRU(8, 8, batch_first=True)
        self.last = nn.Linear(8, outputs)

    def forward(self, x):
        return self.last(self.cell(x.reshape(len(x), -1, 8))[0][:, -1])


class Averaging(nn.Module):
    """A network with a moving average whose buffer is replaced at each step, and with a shared weight."""

    seen: torch.Tensor

    def __init__(self, inputs, outputs):
        super().__init__()
        self.first = nn.Linear(math.prod(inputs), 12)
        self.inner = nn.Linear(12, 12)
        self.again = nn.Linear(12, 12)
        self.again.weight = self.inner.weight
        self.last = nn.Linear(12, outputs)
        self.register_buffer("seen", torch.zeros(12))

    def forward(self, x):
        h = torch.tanh(self.first(x.flatten(1)))
        if self.training:
            self.seen = 0.9 * self.seen + 0.1 * h.detach().mean(0)
        return self.last(self.again(self.inner(h - self.seen)))


class HalfFrozen(nn.Module):
    """A network whose first layer is frozen."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.first = nn.Linear(math.prod(inputs), 16).requires_grad_(False)
        self.last = nn.Linear(16, outputs)

    def forward(self, x):
        return self.last(torch.relu(self.first(x.flatten(1))))
