"""Microseconds of normalization layers and of training steps with penalties.

    python benchmarks/norms_and_penalties.py [--reps 40] [--threads 1] [--out benchmarks/results]

The contenders of a comparison are interleaved (A B C, A B C, …) in one process, after a few repetitions of warm-up.
Ratios to the reference of the comparison are taken within a repetition, so that a busy moment affects both.

- *norms*: forward and backward pass of a layer with 256 channels, descend's against that of torch.nn.
- *whitening*: the same, against a naive implementation: a loop over groups with ``torch.linalg.eigh`` or Newton's
  iteration, differentiated by autograd.
- *steps*: a training step (784-512-512-10, batch 64, fused AdamW) of descend without and with a penalty, and without a
  penalty but with autograd, which gradient penalties require.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict

import torch
from torch import Tensor, nn

from descend.data.batches import Batch
from descend.losses import CrossEntropy
from descend.nn import NORMS, mlp
from descend.optim.lean import lean_step
from descend.recipe import Recipe
from descend.recipe.facts import Facts
from descend.recipe.penalties import build_penalty, build_row_penalty
from descend.recipe.resolve import resolve
from descend.training.objective import Objective
from instruments import machine
from instruments.interleaved import interleaved, timed
from instruments.quartiles import Quartiles
from instruments.results import add_out_option, report_table
from instruments.session import Session
from instruments.threads import threads

CHANNELS = 256
WARM_UP = 5
VECTORS, IMAGES = (256, CHANNELS), (32, CHANNELS, 8, 8)
Timer = Callable[[int], float]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--reps", type=int, default=40, help="repetitions; default 40")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; default 1")
    add_out_option(parser)
    options = parser.parse_args(arguments)

    load_before = machine.load_average()
    rows: list[list[str]] = []
    results: dict[str, dict[str, object]] = {}
    with threads(options.threads):
        for comparison, (reference, contenders) in comparisons().items():
            seconds = interleaved(contenders, options.reps, warm_up=WARM_UP)
            for name, sample in seconds.items():
                cost = Quartiles.of([second * 1e6 for second in sample])
                ratio = Quartiles.of_ratios(sample, seconds[reference])
                rows.append([comparison, name, cost.text(), "1" if name == reference else ratio.text(2)])
                results[f"{comparison}: {name}"] = {"microseconds": asdict(cost), "ratio": asdict(ratio)}
    session = Session.now(
        ["descend", "torch"],
        repetitions=options.reps,
        threads=options.threads,
        load_before=load_before,
        load_after=machine.load_average(),
    )
    report_table(
        options.out,
        "norms_and_penalties",
        session,
        {"comparisons": results},
        title="Norms and penalties",
        explanation="Medians, quartiles in brackets.",
        header=["comparison", "contender", "µs", "÷ reference"],
        rows=rows,
    )
    return 0


def comparisons() -> dict[str, tuple[str, dict[str, Timer]]]:
    """Return the name of the reference and the timers of each comparison, by title."""
    result: dict[str, tuple[str, dict[str, Timer]]] = {}
    torch_norms: dict[str, dict[int, Callable[[], nn.Module]]] = {
        "batch": {1: lambda: nn.BatchNorm1d(CHANNELS), 2: lambda: nn.BatchNorm2d(CHANNELS)},
        "layer": {1: lambda: nn.LayerNorm(CHANNELS)},
        "group": {2: lambda: nn.GroupNorm(32, CHANNELS)},
        "instance": {2: lambda: nn.InstanceNorm2d(CHANNELS, affine=True)},
    }
    for name, kinds in torch_norms.items():
        for dims, torch_norm in kinds.items():
            shape = VECTORS if dims == 1 else IMAGES
            result[f"{name}, {shape}"] = (
                "torch",
                {
                    "torch": passes(torch_norm(), shape),
                    "descend": passes(NORMS[name](CHANNELS, dims=dims), shape),
                },
            )
    for shape in (VECTORS, IMAGES):
        dims = 1 if len(shape) == 2 else 2
        for name in ("decorrelated", "iterative"):
            for size in (16, 64, 256):
                groups = CHANNELS // size
                layer = NORMS[name](CHANNELS, dims=dims, groups=groups)
                result[f"{name}, {shape}, groups of {size}"] = (
                    "naive",
                    {
                        "naive": passes(NaiveWhitening(groups, newton=name == "iterative"), shape),
                        "descend": passes(layer, shape),
                    },
                )
    result["step, 784-512-512-10"] = (
        "plain",
        {
            "plain": step({}),
            "plain, with autograd": step({}, autograd=True),
            "so": step({"orthogonality": "so"}),
            "dso": step({"orthogonality": "dso"}),
            "so, exact": step({"orthogonality": {"name": "so", "probes": "exact"}}),
            "srip": step({"orthogonality": "srip"}),
            "jacobian, 1 projection": step({"jacobian": 0.01}),
            "gradient_penalty": step({"gradient_penalty": 0.01}),
        },
    )
    return result


def passes(layer: nn.Module, shape: tuple[int, ...]) -> Timer:
    """Return a timer of the forward and backward pass of a layer in training mode."""
    x, direction = torch.randn(shape, requires_grad=True), torch.randn(shape)

    def run() -> None:
        x.grad = None
        layer.zero_grad()
        layer(x).backward(direction)

    return lambda _: timed(run)


class NaiveWhitening(nn.Module):
    """Whitening as a loop over groups of channels, differentiated by autograd."""

    def __init__(self, groups: int, *, newton: bool) -> None:
        super().__init__()
        self.groups, self.newton = groups, newton
        self.weight, self.bias = nn.Parameter(torch.ones(CHANNELS)), nn.Parameter(torch.zeros(CHANNELS))

    def forward(self, x: Tensor) -> Tensor:
        """Whiten (n, C) or (n, C, H, W) and apply weight and bias."""
        flat = x.permute(0, 2, 3, 1).reshape(-1, CHANNELS) if x.dim() == 4 else x
        whitened = torch.cat([self.whiten(group) for group in flat.chunk(self.groups, 1)], 1)
        y = whitened * self.weight + self.bias
        if x.dim() == 4:
            y = y.view(x.shape[0], *x.shape[2:], CHANNELS).permute(0, 3, 1, 2)
        return y

    def whiten(self, group: Tensor) -> Tensor:
        """Return (n, c) with zero mean and identity covariance."""
        centered = group - group.mean(0)
        eye = torch.eye(group.shape[1])
        covariance = centered.T @ centered / len(group) + (1e-5 if self.newton else 1e-3) * eye
        if not self.newton:
            values, vectors = torch.linalg.eigh(covariance)
            return centered @ (vectors @ torch.diag(values.rsqrt()) @ vectors.T)
        trace = covariance.trace()
        normed, root = covariance / trace, eye
        for _ in range(5):
            root = 1.5 * root - 0.5 * (root @ root @ root @ normed)
        return centered @ (root / trace.sqrt())


def step(regularize: dict[str, object], *, autograd: bool = False) -> Timer:
    """Return a timer of a training step of ``descend train``."""
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
    optimizer_step = lean_step(torch.optim.AdamW(model.parameters(), fused=True))
    return lambda _: timed(lambda: optimizer_step(objective.at([batch], 0, 0)))


if __name__ == "__main__":
    sys.exit(main())
