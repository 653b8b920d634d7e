"""descend as its user gets it: progress bar, history and checkpoints ON.

The whole of ``descend.train`` is on the clock: reading the arrays, choosing the number of threads,
training, the final evaluation, writing the run folder. The validation accuracy is that of the weights it
keeps, the best epoch's. Costs that do not grow with the number of epochs drop out of the steady figure, as
everybody's do, and stay in the gross one.

The bar is drawn on a real pseudo-terminal: without a terminal it would draw nothing and cost nothing. What
was drawn, recorded and saved is counted after each fit and reported as evidence.

``descend`` lets ``engine.threads = "auto"`` choose, once per fit, as it does for its users; ``descend-fixed``
is told the number that the benchmark measured to be best, exactly as the index loop is. The difference of the
two is what the choice costs or gains.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from contenders.contract import LEARNING_RATE, Contender, Problem, Run, Timing
from instruments.pseudo_terminal import Terminal, pseudo_terminal

__all__ = ["DESCEND", "DESCEND_FIXED"]


def prepare(problem: Problem, seed: int, *, auto_threads: bool) -> Run:
    from rich.console import Console

    import descend
    from descend.training.progress import ProgressBar

    def run(epochs: int) -> Timing:
        recipe = recipe_for(problem, epochs, threads="auto" if auto_threads else torch.get_num_threads())
        with TemporaryDirectory() as folder, pseudo_terminal() as terminal:
            out = Path(folder) / "run"
            bar = ProgressBar(Console(stderr=True), "accuracy")
            start = time.perf_counter()
            trained = descend.train(
                (problem.x_train, problem.y_train),
                recipe,
                validation=(problem.x_validation, problem.y_validation),
                seed=seed,
                out=out,
                observers=[bar],
            )
            seconds = time.perf_counter() - start
            evidence = left_behind(out, epochs, terminal)
        return Timing(
            steps=trained.metrics["steps"],
            seconds=seconds,
            validation_accuracy=trained.metrics["validation"]["accuracy"],
            threads=trained.environment["threads"],
            evidence=evidence,
        )

    return run


def recipe_for(problem: Problem, epochs: int, threads: int | str) -> Any:
    """As everybody's: plain Adam at one rate to the last epoch, the inputs as they come."""
    import descend

    return descend.Recipe(
        data={"scale": "none", "batch_size": problem.batch_size},
        model={"name": "mlp", "hidden": list(problem.widths[1:-1]), "activation": "relu", "dropout": 0.0},
        loss={"name": "cross_entropy", "label_smoothing": 0.0},
        optimizer={"name": "adam", "lr": LEARNING_RATE},
        schedule={"name": "constant"},
        regularize={"weight_decay": 0.0},
        stop={"max_epochs": epochs, "patience": "none", "average": 0.0},
        engine={"device": "cpu", "threads": threads},
    )


def left_behind(out: Path, epochs: int, terminal: Terminal) -> str:
    """What shows that history, checkpoints and bar were on.

    Raises:
        RuntimeError: one of them was not.
    """
    lines = len((out / "history.jsonl").read_text(encoding="utf-8").splitlines())
    saved = [path.stat().st_size for path in (out / "checkpoints").iterdir()]
    drawn = terminal.bytes_drawn()
    evidence = (
        f"{lines} history lines, {len(saved)} checkpoint files of {sum(saved) / 1000:,.0f} kB, "
        f"{drawn:,} bytes of bar drawn"
    )
    if lines != epochs or not saved or not drawn:
        raise RuntimeError(f"history, checkpoints or bar were off: {evidence}")
    return evidence


_ON = "progress bar (drawn on a pseudo-terminal), history, checkpoints and run folder ON"

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
