"""Early stopping: the validation loss falls, and rises again while the training loss goes on falling.

Few digits, a part of their labels wrong, a network that can learn them all by heart.

Source: Sjöberg and Ljung, "Overtraining, regularization and searching for a minimum", 1995.
"""

from __future__ import annotations

from dataclasses import dataclass

from descend.gallery.fitting import measured, network, train_epoch
from descend.gallery.picture import Axis, Line, Panel, Picture, Points, numbers
from descend.gallery.samples import digits
from descend.gallery.spread import mean, ratio, repetitions
from descend.optim import adam
from descend.training.stopping import Stopping

__all__ = ["Measured", "Run", "measure", "picture"]

PATIENCE = 10


@dataclass(frozen=True)
class Run:
    """Losses and shares of errors after each epoch, and the epochs that early stopping keeps and stops at."""

    train: list[float]
    validation: list[float]
    test: list[float]
    test_errors: list[float]
    kept: int
    stopped: int


@dataclass(frozen=True)
class Measured:
    """A run for each seed."""

    runs: list[Run]


def measure(
    seed: int = 0, *, seeds: int = 5, epochs: int = 60, train: int = 250, noise: float = 0.2, width: int = 128
) -> Measured:
    """Train to the end and note where :class:`descend.training.stopping.Stopping` would have stopped.

    Args:
        seed: of all.
        seeds: how many networks.
        epochs: passes over the rows.
        train: training rows.
        noise: the share of wrong labels among them.
        width: of the hidden layer.
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
            loss, _ = measured(model, data.validation)
            outside, errors = measured(model, data.test)
            run.train.append(measured(model, data.train)[0])
            run.validation.append(loss)
            run.test.append(outside)
            run.test_errors.append(errors)
            if not stopped and watch.observe(loss, seconds=0.0):
                kept, stopped = watch.best_epoch, epoch
        kept, stopped = (kept, stopped) if stopped else (watch.best_epoch, epochs)
        runs.append(Run(run.train, run.validation, run.test, run.test_errors, kept, stopped))
    return Measured(runs)


def picture(found: Measured) -> Picture:
    """One run's curves with the kept epoch, and the mean curves of all."""
    one = found.runs[0]
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
        note=f"Early stopping ends after {PATIENCE} epochs without a better validation loss, and keeps the best.",
    )
    gain = ratio(run.test[-1] / run.test[run.kept - 1] for run in found.runs)
    early = mean(100 * run.test_errors[run.kept - 1] for run in found.runs)
    late = mean(100 * run.test_errors[-1] for run in found.runs)
    fewer = mean(100 * (run.test_errors[-1] - run.test_errors[run.kept - 1]) for run in found.runs)
    kept = [run.kept for run in found.runs]
    return Picture(
        name="early_stopping",
        title="Early stopping",
        claim="Check the validation error now and then and stop when it does not improve, lest the model become too "
        "perfect for the training data.",
        see="The training loss falls to the end. The validation loss has a minimum, and the test part, which nobody looked "
        "at for the decision, has it at about the same epoch.",
        number="test loss at the end over that of early stopping",
        value=gain,
        finding=f"Training on to epoch {len(epochs)} makes the test loss {gain} times that of the kept epoch "
        f"({min(kept)} to {max(kept)}). Test errors: {early} % kept, {late} % at the end, "
        f"a difference of {fewer} points"
        + ("." if (fewer.low or 0.0) > 0 else ": in errors early stopping gains little here, in loss much."),
        supported=(gain.low or gain.value) > 1.0,
        panels=(single, _all(found, epochs)),
    )


def _all(found: Measured, epochs: range) -> Panel:
    lines = []
    for name, colour in (("train", "s1"), ("validation", "s2"), ("test", "s3")):
        bands = [mean(getattr(run, name)[at] for run in found.runs) for at in range(len(epochs))]
        lines.append(
            Line(
                numbers(epochs),
                numbers(band.value for band in bands),
                "training" if name == "train" else name,
                colour,
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
        note=f"Means of {len(found.runs)} networks with 95 % intervals.",
    )
