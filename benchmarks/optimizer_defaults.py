"""Score, seconds, gradients and memory of every optimizer of the catalogue with its default settings.

    python benchmarks/optimizer_defaults.py [--seeds 3] [--only adam,kfac] [--out benchmarks/results]

The results are those of ``descend train digits --set optimizer.name=NAME``, and the same for diabetes: the test score
(mean over seeds), the seconds of training and the number of gradients (medians). Gradients are of a batch, or of all
rows where steps use all rows. *state* is the size of the optimizer state, in numbers per weight of the digits network.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import descend
import descend.training.checkpoint
from descend.optim import OPTIMIZERS, WHOLE_DATA
from instruments import machine
from instruments.results import add_out_option, report_table
from instruments.session import Session

DATA = {"digits": "accuracy", "diabetes": "r2"}
EXCLUDED = {"sparse_adam": "requires sparse gradients"}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument(
        "--only", default=",".join(OPTIMIZERS), help="comma-separated optimizers; default all"
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs per optimizer; default 3")
    add_out_option(parser)
    options = parser.parse_args(arguments)

    load_before = machine.load_average()
    results: dict[str, Any] = {}
    header = ["optimizer", "rows per step"]
    for data, metric in DATA.items():
        header += [f"{data}, {metric}", "seconds", "gradients"]
    header.append("state")
    rows = []
    for name in options.only.split(","):
        if name in EXCLUDED:
            continue
        print(name, file=sys.stderr)
        row = [name, "all" if name in WHOLE_DATA else "batches"]
        results[name] = {data: [train(name, data, seed) for seed in range(options.seeds)] for data in DATA}
        for data, metric in DATA.items():
            runs = results[name][data]
            row += [
                f"{statistics.mean(run[metric] for run in runs):.3f}",
                f"{statistics.median(run['seconds'] for run in runs):.1f}",
                f"{statistics.median(run['gradients'] for run in runs):.0f}",
            ]
        row.append(f"{results[name]['digits'][0]['state']:.2f}")
        rows.append(row)
    session = Session.now(
        ["descend", "torch"],
        seeds=options.seeds,
        load_before=load_before,
        load_after=machine.load_average(),
    )
    report_table(
        options.out,
        "optimizer_defaults",
        session,
        {"optimizers": results},
        title="Optimizers with default settings",
        explanation="Scores are means over seeds; seconds and gradients are medians.",
        header=header,
        rows=rows,
    )
    return 0


def train(name: str, data: str, seed: int) -> dict[str, float]:
    """Train with an optimizer and return score, seconds, epochs, gradients and the size of the state."""
    with tempfile.TemporaryDirectory() as folder:
        run = descend.train(data, {"optimizer": {"name": name}}, seed=seed, out=Path(folder) / "run")
        state = descend.training.checkpoint.load_checkpoint(Path(folder) / "run" / "checkpoints")
    weights = sum(p.numel() for p in run.model.parameters())
    last = run.history[-1]
    return {
        DATA[data]: run.metrics["test"][DATA[data]],
        "seconds": run.metrics["seconds"],
        "epochs": run.metrics["epochs"],
        "gradients": last.get("gradients", last["step"]),
        "state": 0.0 if state is None else count_numbers(state["optimizer"]["state"]) / weights,
    }


def count_numbers(state: Any) -> int:
    """Return how many numbers a state contains."""
    if isinstance(state, torch.Tensor):
        return state.numel()
    if isinstance(state, dict):
        return sum(map(count_numbers, state.values()))
    if isinstance(state, list | tuple):
        return sum(map(count_numbers, state))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
