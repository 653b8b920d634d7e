"""Microseconds of norms and of penalised steps, against torch's own, published ways and the plain step.

    python benchmarks/tricks_speed.py [--reps 40] [--threads 1] [--out benchmarks/results/tricks-speed]

Every comparison has a reference. All its contenders run in turns A B C, A B C, … in one process, after some turns that
do not count; ratios are taken turn by turn, contender over reference, so that a busy moment hits both.

- *norms*: forward and backward of a layer with 256 channels, descend's against torch.nn's.
- *whitening*: the same, against the straightforward way: a loop over groups, ``torch.linalg.eigh`` or Newton's iteration
  as printed, differentiated by autograd.
- *steps*: a whole step (784-512-512-10, batch 64, fused AdamW) as descend runs it, plain and with a penalty; also the
  plain step by autograd, which penalties of the slope need in place of the chain.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from descend.data.batches import Batch
from descend.losses import CrossEntropy
from descend.nn import NORMS, mlp
from descend.optim.lean import lean_step
from descend.recipe import Recipe
from descend.recipe.defaults import Facts
from descend.recipe.penalties import build_penalty, build_row_penalty
from descend.recipe.resolve import resolve
from descend.training.objective import Objective
from instruments import machine
from instruments.quartiles import Quartiles
from instruments.session import Session, write
from instruments.table import markdown, plain
from instruments.threads import threads

CHANNELS = 256
WARM_UP = 5
VECTORS, IMAGES = (256, CHANNELS), (32, CHANNELS, 8, 8)
Turn = Callable[[], object]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--reps", type=int, default=40, help="turns of each contender; default 40")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; default 1")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "tricks-speed", help="file stem"
    )
    options = parser.parse_args(arguments)

    load_before = machine.load_average()
    header = ["comparison", "contender", "µs", "÷ reference"]
    rows: list[list[str]] = []
    found: dict[str, dict[str, object]] = {}
    with threads(options.threads):
        for comparison, (reference, contenders) in comparisons().items():
            seconds = take_turns(contenders, options.reps)
            for name, sample in seconds.items():
                cost = Quartiles.of([second * 1e6 for second in sample])
                ratio = Quartiles.of([a / b for a, b in zip(sample, seconds[reference], strict=True)])
                rows.append([comparison, name, cost.text(), "1" if name == reference else ratio.text(2)])
                found[f"{comparison}: {name}"] = {"microseconds": asdict(cost), "ratio": asdict(ratio)}
    session = Session.now(
        ["descend", "torch"],
        repetitions=options.reps,
        threads=options.threads,
        load_before=load_before,
        load_after=machine.load_average(),
    )
    print(plain(header, rows), "", session.line(), sep="\n")
    text = "\n\n".join(
        [
            "# Norms and penalties",
            "Medians, quartiles in brackets.",
            markdown(header, rows),
            f"- {session.line()}",
        ]
    )
    write(options.out, session, {"comparisons": found}, text)
    return 0


def take_turns(contenders: Mapping[str, Turn], repetitions: int) -> dict[str, list[float]]:
    """Wall seconds of each contender, turn by turn."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for repetition in range(-WARM_UP, repetitions):
        for name, turn in contenders.items():
            start = time.perf_counter()
            turn()
            if repetition >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def comparisons() -> dict[str, tuple[str, dict[str, Turn]]]:
    """Title -> the name of the reference, and contenders by name."""
    made: dict[str, tuple[str, dict[str, Turn]]] = {}
    of_torch: dict[str, dict[int, Callable[[], nn.Module]]] = {
        "batch": {1: lambda: nn.BatchNorm1d(CHANNELS), 2: lambda: nn.BatchNorm2d(CHANNELS)},
        "layer": {1: lambda: nn.LayerNorm(CHANNELS)},
        "group": {2: lambda: nn.GroupNorm(32, CHANNELS)},
        "instance": {2: lambda: nn.InstanceNorm2d(CHANNELS, affine=True)},
    }
    for name, kinds in of_torch.items():
        for dims, theirs in kinds.items():
            shape = VECTORS if dims == 1 else IMAGES
            made[f"{name}, {shape}"] = (
                "torch",
                {
                    "torch": passes(theirs(), shape),
                    "descend": passes(NORMS[name](CHANNELS, dims=dims), shape),
                },
            )
    for shape in (VECTORS, IMAGES):
        dims = 1 if len(shape) == 2 else 2
        for name in ("decorrelated", "iterative"):
            for size in (16, 64, 256):
                groups = CHANNELS // size
                layer = NORMS[name](CHANNELS, dims=dims, groups=groups)
                made[f"{name}, {shape}, groups of {size}"] = (
                    "straightforward",
                    {
                        "straightforward": passes(Straightforward(groups, newton=name == "iterative"), shape),
                        "descend": passes(layer, shape),
                    },
                )
    made["step, 784-512-512-10"] = (
        "plain",
        {
            "plain": step({}),
            "plain, by autograd": step({}, autograd=True),
            "so": step({"orthogonality": "so"}),
            "dso": step({"orthogonality": "dso"}),
            "so, exact": step({"orthogonality": {"name": "so", "probes": "exact"}}),
            "srip": step({"orthogonality": "srip"}),
            "jacobian, 1 projection": step({"jacobian": 0.01}),
            "gradient_penalty": step({"gradient_penalty": 0.01}),
        },
    )
    return made


def passes(layer: nn.Module, shape: tuple[int, ...]) -> Turn:
    """Forward and backward of a layer in training mode."""
    x, direction = torch.randn(shape, requires_grad=True), torch.randn(shape)

    def turn() -> None:
        x.grad = None
        layer.zero_grad()
        layer(x).backward(direction)

    return turn


class Straightforward(nn.Module):
    """Whitening as one writes it down: a group at a time, differentiated by autograd."""

    def __init__(self, groups: int, *, newton: bool) -> None:
        super().__init__()
        self.groups, self.newton = groups, newton
        self.weight, self.bias = nn.Parameter(torch.ones(CHANNELS)), nn.Parameter(torch.zeros(CHANNELS))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.permute(0, 2, 3, 1).reshape(-1, CHANNELS) if x.dim() == 4 else x
        y = (
            torch.cat([self.whitened(part) for part in flat.chunk(self.groups, 1)], 1) * self.weight
            + self.bias
        )
        if x.dim() == 4:
            y = y.view(x.shape[0], *x.shape[2:], CHANNELS).permute(0, 3, 1, 2)
        return y

    def whitened(self, part: Tensor) -> Tensor:
        centred = part - part.mean(0)
        eye = torch.eye(part.shape[1])
        covariance = centred.T @ centred / len(part) + (1e-5 if self.newton else 1e-3) * eye
        if not self.newton:
            values, vectors = torch.linalg.eigh(covariance)
            return centred @ (vectors @ torch.diag(values.rsqrt()) @ vectors.T)
        trace = covariance.trace()
        normed, root = covariance / trace, eye
        for _ in range(5):
            root = 1.5 * root - 0.5 * (root @ root @ root @ normed)
        return centred @ (root / trace.sqrt())


def step(regularize: dict[str, object], *, autograd: bool = False) -> Turn:
    """A step as ``descend train`` does it."""
    facts = Facts("tensor", 60_000, "multiclass", (784,), 10, 1000)
    recipe = resolve(Recipe(regularize=regularize), facts).recipe
    torch.manual_seed(0)
    model, loss = mlp((784,), 10, hidden=(512, 512)).train(), CrossEntropy()
    batch = Batch(torch.randn(64, 784), torch.arange(64) % 10, None)
    loss.trust(batch.targets)
    row_penalty = build_row_penalty(recipe, model, loss)
    if autograd:

        def row_penalty(inputs, outputs, targets):
            return outputs.new_zeros(())

    objective = Objective(
        model,
        loss,
        device=torch.device("cpu"),
        penalty=build_penalty(recipe, model),
        row_penalty=row_penalty,
    )
    stepping = lean_step(torch.optim.AdamW(model.parameters(), fused=True))
    return lambda: stepping(objective.at([batch], 0, 0))


if __name__ == "__main__":
    sys.exit(main())
