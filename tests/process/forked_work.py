"""A program that uses thread pools and then forks; each child does one piece of work and reports its outcome."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

import descend

EPOCH: dict[str, Any] = {"stop": {"max_epochs": 1}}


def digest(run: descend.Run) -> float:
    return float(sum(p.detach().double().abs().sum() for p in run.model.parameters()))


def outcome(work: Callable[[], Any]) -> str:
    try:
        return f"returned {work()}"
    except Exception as failure:
        return f"{type(failure).__name__}: {failure}"


def prepared() -> dict[str, Callable[[], Any]]:
    """Return pieces of work by name, once the thread pools are in use."""
    warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forks of processes with threads
    rng = np.random.default_rng(0)
    X = rng.uniform(0, 8, (300, 4))
    y = np.arange(300) % 2
    records = [{"a": float(row[0]), "t": "uv"[k % 2]} for k, row in enumerate(X)]

    # The pools of polars and of OpenMP are in use before the fork.
    pl.DataFrame({"x": X[:, 0], "y": X[:, 1]}).select(pl.col("x") + 1, pl.col("y") * 2)
    (torch.randn(2000, 500) @ torch.randn(500, 500)).tanh().sum()
    run = descend.train("iris", EPOCH, seed=0)
    mixed = descend.train((records, y), EPOCH, seed=0)
    folder = Path(tempfile.mkdtemp())
    pl.DataFrame({"a": X[:, 0], "y": y}).write_csv(folder / "table.csv")
    saved = run.save(folder / "run")
    # On one thread, as in a child, since the last bits depend on it.
    torch.set_num_threads(1)
    expected = run.predict(X).tolist()
    trained = digest(descend.train((X, y), EPOCH, seed=3))
    torch.set_num_threads(2)

    return {
        "predict": lambda: run.predict(X).tolist() == expected,
        "load": lambda: descend.load(saved).predict(X).tolist() == expected,
        "estimator": lambda: len(descend.Classifier(max_epochs=1, random_state=0).fit(X, y).predict(X)),
        "train": lambda: digest(descend.train((X, y), EPOCH, seed=3)) == trained,
        "bundled": lambda: descend.train("iris", EPOCH, out=folder / "iris").metrics["status"],
        "many": lambda: len(descend.train_many([EPOCH, EPOCH], "iris", engine="loop", workers=2)),
        "strings": lambda: len(mixed.predict(records)),
        "file": lambda: len(descend.train(folder / "table.csv", EPOCH, target="y").history),
        "threads": lambda: len(descend.train("iris", {**EPOCH, "engine": {"threads": 2}}).history),
    }


def child(work: Callable[[], Any], results: SimpleQueue[str]) -> None:
    signal.alarm(60)  # ends a child that waits forever
    results.put(outcome(work))


def main() -> None:
    """Print the outcome of each piece of work in a child."""
    found = {}
    context = multiprocessing.get_context("fork")
    pieces = prepared()
    for name, work in pieces.items():
        results = context.SimpleQueue()
        process = context.Process(target=child, args=(work, results))
        process.start()
        process.join()
        found[name] = results.get() if process.exitcode == 0 else f"exit status {process.exitcode}"
    with ThreadPoolExecutor(1) as pool:  # the parent works on
        found["parent"] = pool.submit(outcome, pieces["strings"]).result()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
