"""``descend.train`` with its defaults: progress bar, history and checkpoints on.

The entire call of ``descend.train`` is timed: reading the arrays, choosing the number of threads, training, the final
evaluation and writing the run folder. The validation accuracy is that of the weights it keeps, those of the best
epoch. As for all contenders, costs that do not grow with the number of epochs are part of the gross cost only.

The progress bar is drawn on a pseudo-terminal, since without a terminal it is disabled and costs nothing. The output,
the history and the checkpoints are counted after each fit and reported as evidence.

``descend`` chooses the number of threads once per fit (``engine.threads = "auto"``), as it does by default.
``descend-fixed`` uses the number of threads that is fastest in a measurement, like the index loop. The difference
between the two is the effect of the automatic choice.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from contenders.interface import LEARNING_RATE, Contender, Problem, Run, Timing
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
            evidence = count_output(out, epochs, terminal)
        return Timing(
            steps=trained.metrics["steps"],
            seconds=seconds,
            validation_accuracy=trained.metrics["validation"]["accuracy"],
            threads=trained.environment["threads"],
            evidence=evidence,
        )

    return run


def recipe_for(problem: Problem, epochs: int, threads: int | str) -> Any:
    """Return the common recipe: Adam at a constant learning rate up to the last epoch, unscaled inputs."""
    import descend

    data: dict[str, Any] = {"scale": "none", "batch_size": problem.batch_size}
    model: dict[str, Any] = {"name": "mlp", "hidden": list(problem.widths[1:-1])}
    if problem.channels:
        data["augment"] = []
        model = {"name": "convnet", "channels": list(problem.channels), "dense": list(problem.widths[1:-1])}
    model |= {"activation": "relu", "dropout": 0.0}
    return descend.Recipe(
        data=data,
        model=model,
        loss={"name": "cross_entropy", "label_smoothing": 0.0},
        optimizer={"name": "adam", "lr": LEARNING_RATE},
        schedule={"name": "constant"},
        regularize={"weight_decay": 0.0},
        stop={"max_epochs": epochs, "patience": "none", "average": 0.0},
        engine={"device": "cpu", "threads": threads},
    )


def count_output(out: Path, epochs: int, terminal: Terminal) -> str:
    """Return evidence that history, checkpoints and progress bar were on.

    Raises:
        RuntimeError: one of them was off.
    """
    lines = len((out / "history.jsonl").read_text(encoding="utf-8").splitlines())
    saved = [path.stat().st_size for path in (out / "checkpoints").iterdir()]
    written = terminal.bytes_written()
    evidence = (
        f"{lines} history lines, {len(saved)} checkpoint files of {sum(saved) / 1000:,.0f} kB, "
        f"{written:,} bytes of progress bar"
    )
    if lines != epochs or not saved or not written:
        raise RuntimeError(f"expected history, checkpoints and progress bar; got {evidence}")
    return evidence


_ON = "progress bar (on a pseudo-terminal), history, checkpoints and run folder ON"

DESCEND = Contender(
    name="descend",
    on=f"{_ON}; automatic number of threads",
    packages=("torch", "descend"),
    variants={"": partial(prepare, auto_threads=True)},
    threads="own",
    sizes=("small", "large", "images"),
)
DESCEND_FIXED = Contender(
    name="descend-fixed",
    on=f"{_ON}; fastest number of threads in a measurement",
    packages=("torch", "descend"),
    variants={"": partial(prepare, auto_threads=False)},
    threads="best",
    sizes=("small", "large", "images"),
    extra=True,
)
