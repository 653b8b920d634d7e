"""Learning curves: quantities of the training by epoch."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from descend.report import marks
from descend.report.figures import score_axis, score_texts
from descend.report.formatting import duration, metric, score
from descend.report.marks import Axis, Columns, Figure, Mark, Points, Rule, Values

__all__ = ["Curve", "Series", "downsample", "evenly_spaced", "learning_curves"]

# Training is dashed and validation solid, so that they differ without color too. With more epochs than this, lines are
# thin and solid: a noisy line oscillates within a pixel, where dashes would be unreadable.
_MANY_EPOCHS = 400

_DESCRIBED = {"half": 200, "third": 100}
"""Number of epochs whose values are shown when the reader points at them, by the shape of the figure."""


def downsample(x: Sequence[float], y: Values, limit: int = 1200) -> tuple[list[float], list[float | None]]:
    """Reduce a curve to about ``limit`` points without changing its outline.

    The curve is divided into ``limit / 2`` segments of equal length; the minimum and the maximum of each are kept, so no
    spike is lost. The first and the last point are kept as well.

    Args:
        x: abscissas, ascending.
        y: values; None where there is none.
        limit: maximum number of points, in addition to the two ends.

    >>> x, y = downsample(range(5000), [0.0] * 2500 + [9.0] + [0.0] * 2499, 100)
    >>> len(x) <= 102, max(y), x[0], x[-1]
    (True, 9.0, 0, 4999)
    """
    if len(x) <= limit:
        return list(x), list(y)
    kept = {0, len(x) - 1}
    segments = limit // 2
    for segment in range(segments):
        start, end = segment * len(x) // segments, (segment + 1) * len(x) // segments
        known = [(value, row) for row, value in enumerate(y[start:end], start) if value is not None]
        kept |= {min(known)[1], max(known)[1]} if known else {start}
    return [x[row] for row in sorted(kept)], [y[row] for row in sorted(kept)]


def evenly_spaced(n: int, limit: int) -> list[int]:
    """Return up to ``limit`` of the indices 0 to n-1 at equal distances, with the first and the last.

    >>> evenly_spaced(4, 10), evenly_spaced(10, 4)
    ([0, 1, 2, 3], [0, 3, 6, 9])
    """
    if n <= limit:
        return list(range(n))
    return [round(place * (n - 1) / (limit - 1)) for place in range(limit)]


@dataclass(frozen=True)
class Series:
    """One line of a curve.

    Args:
        name: its name in the legend.
        color: its color.
        values: a value for each epoch.
    """

    name: str
    color: str
    values: Values

    def at(self, epochs: Sequence[float], epoch: int | None) -> float | None:
        """Return the value at an epoch; None if there is none."""
        return self.values[epochs.index(epoch)] if epoch is not None and epoch in epochs else None


@dataclass(frozen=True)
class Curve:
    """A quantity to plot against the epoch.

    Args:
        key: the figure's id.
        title: its heading.
        lines: the lines; one named "validation" gets a dot at the kept epoch.
        unit: title of the vertical axis.
        shape: shape of the figure.
        metric: name of the metric, if the values are those of one; shares are shown as percentages.
        may_be_log: whether the vertical axis may be logarithmic. A score such as R² is not: it has no natural zero, and
            its differences near 1 are what matters.
    """

    key: str
    title: str
    lines: Sequence[Series]
    unit: str = ""
    shape: Literal["half", "third"] = "third"
    metric: str = ""
    may_be_log: bool = True

    def figure(self, epochs: Sequence[float], best: int | None) -> Figure | None:
        """Return the figure, with epoch ``best`` marked; None if nothing was recorded.

        The vertical axis is logarithmic, and labeled as such, if all values are positive, the largest is more than thirty
        times the smallest, and the quantity may be plotted so.
        """
        lines = [line for line in self.lines if any(value is not None for value in line.values)]
        if not lines:
            return None
        best = best if best in epochs else None
        drawn: list[Mark] = [] if best is None else [Rule(best, "axis")]
        drawn += [self._drawn(line, epochs) for line in lines]
        kept = [(line, line.at(epochs, best)) for line in lines if line.name == "validation"]
        dots = [
            Points([best], [value], line.color, 11, look="kept") for line, value in kept if value is not None
        ]
        legend = [(f"line {line.name}", line.name) for line in lines] if self.shape == "half" else []
        legend += [("dot", f"kept weights: epoch {best:,}")] if dots else []
        return Figure(
            self.key,
            self.title,
            self._label(lines, epochs, best),
            [*drawn, *dots],
            _epochs_axis(epochs),
            score_axis(
                self.metric,
                self.unit,
                [value for line in lines for value in line.values if value is not None],
                may_be_log=self.may_be_log,
                zero=self.shape == "third",
            ),
            legend,
            shape=self.shape,
            columns=self._columns(lines, epochs, best),
        )

    def _drawn(self, line: Series, epochs: Sequence[float]) -> marks.Line:
        many = len(epochs) > _MANY_EPOCHS
        x, y = downsample(epochs, line.values, 800 if self.shape == "half" else 400)
        dash: marks.Dash = "dash" if line.name == "training" and not many else "solid"
        return marks.Line(x, y, line.color, 1 if many else 2, dash, dots=len(epochs) <= 12)

    def _columns(self, lines: Sequence[Series], epochs: Sequence[float], best: int | None) -> Columns:
        """The values of the lines at up to some hundred epochs, among them the kept one."""
        rows = evenly_spaced(len(epochs), _DESCRIBED[self.shape])
        if best is not None:
            place = bisect_left(rows, epochs.index(best))
            rows[min(place, len(rows) - 1)] = epochs.index(best)
        written = [score_texts(self.metric, [line.values[row] for row in rows]) for line in lines]
        texts = []
        for place, row in enumerate(rows):
            head = f"epoch {epochs[row]:,.0f}" + (", kept" if epochs[row] == best else "")
            values = [f"{line.name} {column[place]}" for line, column in zip(lines, written, strict=True)]
            texts.append("\n".join([head, *values]))
        return Columns([epochs[row] for row in rows], texts)

    def _label(self, lines: Sequence[Series], epochs: Sequence[float], best: int | None) -> str:
        parts = []
        for line in lines:
            rows = [row for row, value in enumerate(line.values) if value is not None]
            first, last = (score(self.metric, line.values[row]) for row in (rows[0], rows[-1]))
            start, end = (f"{epochs[row]:,.0f}" for row in (rows[0], rows[-1]))
            part = f"{line.name} from {first} at epoch {start} to {last} at epoch {end}"
            kept = line.at(epochs, best) if line.name == "validation" else None
            if kept is not None:
                part += f", {score(self.metric, kept)} at epoch {best:,}, which was kept"
            parts.append(part)
        return f"{self.title} by epoch: " + "; ".join(parts) + "."


def _epochs_axis(epochs: Sequence[float]) -> Axis:
    margin = 0.02 * (epochs[-1] - epochs[0]) or 1.0
    return Axis("epoch", (epochs[0] - margin, epochs[-1] + margin), "count", grid=False)


def learning_curves(
    epochs: Sequence[float],
    best: int | None,
    *,
    loss: tuple[Values, Values],
    loss_name: str,
    main: str,
    scores: tuple[Values, Values],
    lr: Values,
    gradient: Values,
    seconds: Values,
    violation: Values = (),
    residual: Values = (),
) -> list[Figure]:
    """Return the recorded curves: loss, metric, learning rate, gradient norm, time per epoch, and two of constraints.

    Args:
        epochs: the numbers of the epochs.
        best: the epoch whose weights were kept, or None.
        loss: the training loss and the validation loss of each epoch.
        loss_name: name of the loss.
        main: name of the main metric.
        scores: this metric on the training and the validation rows.
        lr: the learning rate.
        gradient: the Euclidean norm of the gradient.
        seconds: the duration of each epoch.
        violation: the violation of general constraints.
        residual: the residual of the KKT conditions, with the gradient of the last step of the epoch.
    """
    if not epochs:
        return []
    name = metric(main)
    both = [("training", "training"), ("validation", "validation")]
    curves = [
        Curve("loss", "Loss", [Series(*line, loss[i]) for i, line in enumerate(both)], loss_name, "half"),
        Curve(
            "metric",
            name[:1].upper() + name[1:],
            [Series(*line, scores[i]) for i, line in enumerate(both)],
            name,
            "half",
            metric=main,
            may_be_log=_is_error(main),
        ),
        Curve("rate", "Learning rate", [Series("learning rate", "neutral", lr)]),
        Curve("gradient", "Gradient norm", [Series("norm", "neutral", gradient)]),
        Curve("time", "Time per epoch", [Series("seconds", "neutral", seconds)], "seconds"),
        Curve("violation", "Constraint violation", [Series("violation", "neutral", violation)]),
        Curve("kkt", "KKT residual", [Series("residual", "neutral", residual)]),
    ]
    figures = [figure for curve in curves if (figure := curve.figure(epochs, best)) is not None]
    total = duration(sum(value or 0.0 for value in seconds))
    return [replace(figure, note=f"Total: {total}") if figure.key == "time" else figure for figure in figures]


def _is_error(name: str) -> bool:
    """Return whether a metric is known, and lower values of it are better; importing the metrics would import PyTorch."""
    return name in _ERRORS or name.startswith("pinball")


_ERRORS = frozenset({"loss", "objective", "mae", "rmse", "mse", "median_ae", "mape", "brier", "log_loss"})
