"""descend as its user gets it: progress bar, history and checkpoints ON.

The whole of ``descend.train`` is on the clock: reading and splitting the arrays, choosing the number of
threads, training, the final evaluation, writing the run folder and its report. Costs that do not grow with the
number of epochs drop out of the steady figure, as everybody's do, and stay in the gross one.

The bar is drawn on a real pseudo-terminal: without a terminal it would draw nothing and cost nothing. What was
drawn, recorded and saved is counted after each fit and reported as evidence.

``descend`` lets ``engine.threads = "auto"`` choose, once per fit, as it does for its users. ``descend-fixed`` is
told the number that the benchmark measured to be best, exactly as the index loop is; the difference of the two is
what the choice costs or gains.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from contenders.contract import LEARNING_RATE, Contender, Problem, Run, Timing
from instruments.pseudo_terminal import pseudo_terminal

__all__ = ["DESCEND", "DESCEND_FIXED"]


def prepare(problem: Problem, seed: int, *, auto_threads: bool) -> Run:
    import descend

    train = getattr(descend, "train", None)
    if train is None:
        raise NotImplementedError("descend.train does not exist yet")

    def run(epochs: int) -> Timing:
        recipe = recipe_for(problem, epochs, threads="auto" if auto_threads else torch.get_num_threads())
        with TemporaryDirectory() as folder, pseudo_terminal() as terminal:
            out = Path(folder) / "run"
            start = time.perf_counter()
            trained = train(
                (problem.x_train, problem.y_train),
                recipe,
                validation=(problem.x_validation, problem.y_validation),
                seed=seed,
                out=out,
            )
            seconds = training_seconds(trained, time.perf_counter() - start)
            evidence = f"{_left_behind(out)}, bar drew {_amount(terminal.bytes_drawn())}"
        return Timing(
            steps=steps_done(trained, epochs * problem.steps_per_epoch),
            seconds=seconds,
            validation_accuracy=float(trained.metrics["validation"]["accuracy"]),
            threads=threads_used(trained),
            evidence=evidence,
        )

    return run


# What depends on descend's own interface, each in one place.


def recipe_for(problem: Problem, epochs: int, threads: int | str) -> Any:
    """The same network, data and optimizer as everybody's: the inputs come scaled, Adam is plain, no early stop."""
    import descend

    return descend.Recipe(
        data={"scale": "none", "batch_size": problem.batch_size, "test": 0.0},
        model={"name": "mlp", "hidden": list(problem.widths[1:-1]), "activation": "relu"},
        loss={"name": "cross_entropy"},
        optimizer={"name": "adam", "lr": LEARNING_RATE},
        schedule={"name": "constant"},
        regularize={"weight_decay": 0.0},
        stop={"max_epochs": epochs, "patience": "none"},
        engine={"device": "cpu", "threads": threads},
    )


def training_seconds(trained: Any, call_seconds: float) -> float:
    """The time that counts: the whole call, which is the strictest reading.

    Every contender is charged for its fit call. ``trained.seconds`` (training alone) may be reported beside it but
    not in its place, unless the others are charged in the same way.
    """
    return call_seconds


def steps_done(trained: Any, expected: int) -> int:
    """Optimizer steps by the run's own count; the expected number as long as the run does not tell."""
    return int(getattr(trained, "steps", expected))


def threads_used(trained: Any) -> int:
    """The threads that the run chose for itself; those of PyTorch now, as long as the run does not tell."""
    return int(getattr(trained, "threads", torch.get_num_threads()))


def _left_behind(out: Path) -> str:
    """History lines and checkpoint bytes in the run folder: proof that they were on."""
    history = out / "history.jsonl"
    lines = len(history.read_text(encoding="utf-8").splitlines()) if history.exists() else 0
    kept = [path.stat().st_size for path in (out / "checkpoints").rglob("*") if path.is_file()]
    return f"{lines} history lines, {len(kept)} checkpoint files ({_amount(sum(kept))})"


def _amount(count: int) -> str:
    return f"{count / 1000:.1f} kB"


_ON = "progress bar (drawn on a pseudo-terminal), history, checkpoints, run folder and report ON"

DESCEND = Contender(
    name="descend",
    on=f"{_ON}; threads chosen by itself",
    packages=("torch", "descend"),
    variants={"": partial(prepare, auto_threads=True)},
    threads="own",
)
DESCEND_FIXED = Contender(
    name="descend-fixed",
    on=f"{_ON}; threads told, as measured best",
    packages=("torch", "descend"),
    variants={"": partial(prepare, auto_threads=False)},
    threads="best",
    extra=True,
)
