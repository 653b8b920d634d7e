"""Every optimizer of the catalogue with nothing said but its name: score, seconds, gradients, memory.

    python benchmarks/optimizer_defaults.py [--seeds 3] [--only adam,kfac] [--out benchmarks/results/optimizer-defaults]

What ``descend train digits --set optimizer.name=NAME`` gives, and likewise diabetes: the score on the test rows, the mean over
seeds; the seconds of training and the gradients of a batch (or of all rows, where steps are on all rows), medians. *State* is
what the optimizer keeps from step to step, in numbers for each weight of the digits network.
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
from instruments.session import Session, write
from instruments.table import markdown, plain

DATA = {"digits": "accuracy", "diabetes": "r2"}
NEVER = {"sparse_adam": "needs sparse gradients"}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument(
        "--only", default=",".join(OPTIMIZERS), help="optimizers, joined by commas; default all"
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each; default 3")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "optimizer-defaults")
    options = parser.parse_args(arguments)

    load_before = machine.load_average()
    found: dict[str, Any] = {}
    header = ["optimizer", "rows a step"]
    for data, metric in DATA.items():
        header += [f"{data}, {metric}", "seconds", "gradients"]
    header.append("state")
    rows = []
    for name in options.only.split(","):
        if name in NEVER:
            continue
        print(name, file=sys.stderr)
        row = [name, "all" if name in WHOLE_DATA else "batches"]
        found[name] = {data: [trained(name, data, seed) for seed in range(options.seeds)] for data in DATA}
        for data, metric in DATA.items():
            runs = found[name][data]
            row += [
                f"{statistics.mean(run[metric] for run in runs):.3f}",
                f"{statistics.median(run['seconds'] for run in runs):.1f}",
                f"{statistics.median(run['gradients'] for run in runs):.0f}",
            ]
        row.append(f"{found[name]['digits'][0]['state']:.2f}")
        rows.append(row)
    session = Session.now(
        ["descend", "torch"],
        seeds=options.seeds,
        load_before=load_before,
        load_after=machine.load_average(),
    )
    print(plain(header, rows), "", session.line(), sep="\n")
    text = "\n\n".join(
        [
            "# Optimizers by their defaults",
            "Means of scores over seeds, medians of the rest.",
            markdown(header, rows),
            f"- {session.line()}",
        ]
    )
    write(options.out, session, {"optimizers": found}, text)
    return 0


def trained(name: str, data: str, seed: int) -> dict[str, float]:
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
        "state": 0.0 if state is None else numbers(state["optimizer"]["state"]) / weights,
    }


def numbers(state: Any) -> int:
    """How many numbers a state holds."""
    if isinstance(state, torch.Tensor):
        return state.numel()
    if isinstance(state, dict):
        return sum(map(numbers, state.values()))
    if isinstance(state, list | tuple):
        return sum(map(numbers, state))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
