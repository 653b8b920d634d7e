"""Early stopping: the validation loss rises again while the training loss keeps falling.

A few digits, some of them with wrong labels, and a network that can memorize all of them.

Source: Sjöberg and Ljung, "Overtraining, regularization and searching for a minimum", 1995.
"""

from __future__ import annotations

from dataclasses import dataclass

from descend.gallery.datasets import digits
from descend.gallery.intervals import mean, ratio, repetitions
from descend.gallery.picture import Axis, Line, Panel, Picture, Points, numbers
from descend.gallery.training import evaluate, network, train_epoch
from descend.optim import adam
from descend.training.stopping import Stopping

__all__ = ["Measurement", "Run", "measure", "picture"]

PATIENCE = 10


@dataclass(frozen=True)
class Run:
    """Losses and test errors after each epoch, the epoch that early stopping keeps, and the epoch at which it stops."""

    train: list[float]
    validation: list[float]
    test: list[float]
    test_errors: list[float]
    kept: int
    stopped: int


@dataclass(frozen=True)
class Measurement:
    """One run per seed."""

    runs: list[Run]


def measure(
    seed: int = 0, *, seeds: int = 5, epochs: int = 60, train: int = 250, noise: float = 0.2, width: int = 128
) -> Measurement:
    """Train to the end and record where :class:`descend.training.stopping.Stopping` would have stopped.

    Args:
        seed: seed of all random numbers.
        seeds: number of networks.
        epochs: passes over the rows.
        train: number of training rows.
        noise: fraction of wrong labels among them.
        width: width of the hidden layer.
    """
    runs = []
    for each in repetitions(seed, seeds):
        data = digits(each, train=train, validation=400, noise=noise)
        model = network(each, hidden=(width,))
        optimizer = adam(model.parameters(), lr=2e-3, fused=True)
        watch = Stopping(max_epochs=epochs + 1, patience=PATIENCE)
        run = Run([], [], [], [], 0, 0)
        kept, stopped = 0, 0
        for epoch in range(1, epochs + 1):
            train_epoch(model, optimizer, data.train, seed=each, epoch=epoch, size=25)
            loss, _ = evaluate(model, data.validation)
            outside, errors = evaluate(model, data.test)
            run.train.append(evaluate(model, data.train)[0])
            run.validation.append(loss)
            run.test.append(outside)
            run.test_errors.append(errors)
            if not stopped and watch.observe(loss, seconds=0.0):
                kept, stopped = watch.best_epoch, epoch
        kept, stopped = (kept, stopped) if stopped else (watch.best_epoch, epochs)
        runs.append(Run(run.train, run.validation, run.test, run.test_errors, kept, stopped))
    return Measurement(runs)


def picture(result: Measurement) -> Picture:
    """Return panels of one run with the kept epoch, and of the mean curves of all runs."""
    one = result.runs[0]
    epochs = range(1, len(one.train) + 1)
    single = Panel(
        "One run",
        (
            Line(numbers(epochs), numbers(one.train), "training", "s1", dash="dash"),
            Line(numbers(epochs), numbers(one.validation), "validation", "s2"),
            Points((float(one.kept),), (one.validation[one.kept - 1],), f"kept: epoch {one.kept}", "ink", 10),
            Points(
                (float(one.stopped),),
                (one.validation[one.stopped - 1],),
                f"stopped: epoch {one.stopped}",
                "muted",
                10,
            ),
        ),
        Axis("epoch"),
        Axis("cross-entropy"),
        note=f"Early stopping ends training after {PATIENCE} epochs without a lower validation loss, and keeps the best epoch.",
    )
    gain = ratio(run.test[-1] / run.test[run.kept - 1] for run in result.runs)
    early = mean(100 * run.test_errors[run.kept - 1] for run in result.runs)
    late = mean(100 * run.test_errors[-1] for run in result.runs)
    fewer = mean(100 * (run.test_errors[-1] - run.test_errors[run.kept - 1]) for run in result.runs)
    kept = [run.kept for run in result.runs]
    return Picture(
        name="early_stopping",
        title="Early stopping",
        claim="Evaluate the validation error regularly and stop when it no longer improves, to avoid overfitting.",
        see="The training loss falls until the end. The validation loss has a minimum, and the loss on the test part, which "
        "was not used for the decision, has its minimum at about the same epoch.",
        number="final test loss over that of early stopping",
        value=gain,
        finding=f"Training until epoch {len(epochs)} raises the test loss to {gain} times that of the kept epoch "
        f"({min(kept)} to {max(kept)}). Test errors: {early} % at the kept epoch, {late} % at the end, a difference of "
        f"{fewer} points"
        + ("." if (fewer.low or 0.0) > 0 else ": early stopping gains little in error, but much in loss."),
        supported=(gain.low or gain.value) > 1.0,
        panels=(single, _all(result, epochs)),
    )


def _all(result: Measurement, epochs: range) -> Panel:
    lines = []
    for name, color in (("train", "s1"), ("validation", "s2"), ("test", "s3")):
        bands = [mean(getattr(run, name)[at] for run in result.runs) for at in range(len(epochs))]
        lines.append(
            Line(
                numbers(epochs),
                numbers(band.value for band in bands),
                "training" if name == "train" else name,
                color,
                "dash" if name == "train" else "solid",
                low=numbers(band.value if band.low is None else band.low for band in bands),
                high=numbers(band.value if band.high is None else band.high for band in bands),
            )
        )
    return Panel(
        "All runs",
        tuple(lines),
        Axis("epoch"),
        Axis("cross-entropy"),
        note=f"Means of {len(result.runs)} networks with 95 % intervals.",
    )
