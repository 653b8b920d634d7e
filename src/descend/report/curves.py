"""Learning curves: quantities of the training by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from descend.report.figures import (
    COUNT_TICKS,
    SHARE_TICKS,
    Figure,
    Spec,
    Values,
    axis_spec,
    hover_format,
    layout_spec,
    rounded,
)
from descend.report.formatting import SHARES, amount, duration, metric, score

__all__ = ["Curve", "Line", "downsample", "learning_curves"]

# Training is dashed and validation solid, so that they differ without colour too. With more epochs than this, lines are
# thin and solid: a noisy line oscillates within a pixel, where dashes would be unreadable.
_MANY_EPOCHS = 400


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


@dataclass(frozen=True)
class Line:
    """One line of a curve.

    Args:
        name: its name in the legend.
        colour: the CSS variable of its colour.
        values: a value for each epoch.
    """

    name: str
    colour: str
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
        share: whether the values are shares, shown as percentages.
        may_be_log: whether the vertical axis may be logarithmic. A score such as R² is not: it has no natural zero, and
            its differences near 1 are what matters.
    """

    key: str
    title: str
    lines: Sequence[Line]
    unit: str = ""
    shape: str = "third"
    share: bool = False
    may_be_log: bool = True

    def figure(self, epochs: Sequence[float], best: int | None) -> Figure | None:
        """Return the figure, with epoch ``best`` marked; None if nothing was recorded.

        The vertical axis is logarithmic, and labelled as such, if all values are positive, the largest is more than thirty
        times the smallest, and the quantity may be plotted so.
        """
        lines = [line for line in self.lines if any(value is not None for value in line.values)]
        if not lines:
            return None
        data: list[Spec] = [self._trace(line, epochs) for line in lines]
        dots = [self._dot(line, epochs, best) for line in lines if line.name == "validation"]
        data += [dot for dot in dots if dot is not None]
        layout = layout_spec(
            _epochs_axis(epochs),
            self._values_axis([value for line in lines for value in line.values if value is not None]),
            hovermode="x unified",
            shapes=[_vertical_line(best)] if best is not None and best in epochs else [],
        )
        label = self._label(lines, epochs, best)
        legend = [(f"line {line.name}", line.name) for line in lines] if self.shape == "half" else []
        legend += [("dot", f"kept weights: epoch {best:,}")] if len(data) > len(lines) else []
        return Figure(self.key, self.title, label, data, layout, legend, shape=self.shape)

    def _trace(self, line: Line, epochs: Sequence[float]) -> Spec:
        x, y = downsample(epochs, line.values, 800 if self.shape == "half" else 400)
        many = len(epochs) > _MANY_EPOCHS
        dash = "dash" if line.name == "training" and not many else "solid"
        return {
            "type": "scatter",
            "mode": "lines+markers" if len(epochs) <= 12 else "lines",
            "name": line.name,
            "x": x,
            "y": rounded(y),
            "line": {"color": line.colour, "width": 1 if many else 2, "dash": dash},
            "hovertemplate": "%{y:.4~%}" if self.share else f"%{{y:{hover_format(line.values)}}}",
        }

    @staticmethod
    def _dot(line: Line, epochs: Sequence[float], best: int | None) -> Spec | None:
        value = line.at(epochs, best)
        if value is None:
            return None
        return {
            "type": "scatter",
            "mode": "markers",
            "name": f"kept weights: epoch {best:,}",
            "x": [best],
            "y": rounded([value]),
            "marker": {"color": line.colour, "size": 10, "line": {"color": "--surface", "width": 2}},
            "hoverinfo": "skip",
        }

    def _values_axis(self, values: Sequence[float]) -> Spec:
        low, high = min(values), max(values)
        if low > 0 and high > 30 * low and not self.share and self.may_be_log:
            axis = axis_spec(f"{self.unit} (log scale)".strip(), type="log", nticks=6, tickformat=".3~g")
            # Ticks at 1, 2 and 5; over few decades Plotly would otherwise label every digit.
            return axis | {"dtick": "D2"} if high < 300 * low else axis
        axis = axis_spec(
            self.unit, nticks=6, rangemode="tozero" if low >= 0 and self.shape == "third" else "normal"
        )
        if self.share:
            axis["tickformat"] = SHARE_TICKS
        if low == high:
            # Plotly would show a constant 0.001 on an axis from -1 to 1.
            axis["range"] = sorted([0.0, 2 * low]) if low else [-1, 1]
        return axis

    def _label(self, lines: Sequence[Line], epochs: Sequence[float], best: int | None) -> str:
        def shown(value: float | None) -> str:
            return score("accuracy", value) if self.share else amount(value)

        parts = []
        for line in lines:
            known = [
                (epoch, value) for epoch, value in zip(epochs, line.values, strict=True) if value is not None
            ]
            (start, first), (end, last) = known[0], known[-1]
            part = (
                f"{line.name} from {shown(first)} at epoch {start:,.0f} to {shown(last)} at epoch {end:,.0f}"
            )
            kept = line.at(epochs, best) if line.name == "validation" else None
            parts.append(
                part + (f", {shown(kept)} at epoch {best:,}, which was kept" if kept is not None else "")
            )
        return f"{self.title} by epoch: " + "; ".join(parts) + "."


def _epochs_axis(epochs: Sequence[float]) -> Spec:
    length = epochs[-1] - epochs[0]
    margin = 0.02 * length or 1.0
    axis = axis_spec(
        "epoch", range=[epochs[0] - margin, epochs[-1] + margin], tickformat=COUNT_TICKS, nticks=7
    )
    return axis | {"tickmode": "linear", "tick0": epochs[0], "dtick": 1} if length < 6 else axis


def _vertical_line(epoch: int) -> Spec:
    ends = {"x0": epoch, "x1": epoch, "y0": 0, "y1": 1}
    return {
        "type": "line",
        "xref": "x",
        "yref": "paper",
        **ends,
        "line": {"color": "--axis", "width": 1, "dash": "dot"},
    }


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
    both = [("training", "--training"), ("validation", "--validation")]
    curves = [
        Curve("loss", "Loss", [Line(*line, loss[i]) for i, line in enumerate(both)], loss_name, "half"),
        Curve(
            "metric",
            name[:1].upper() + name[1:],
            [Line(*line, scores[i]) for i, line in enumerate(both)],
            name,
            "half",
            share=main in SHARES,
            may_be_log=_is_error(main),
        ),
        Curve("rate", "Learning rate", [Line("learning rate", "--neutral", lr)]),
        Curve("gradient", "Gradient norm", [Line("norm", "--neutral", gradient)]),
        Curve("time", "Time per epoch", [Line("seconds", "--neutral", seconds)], "seconds"),
        Curve("violation", "Constraint violation", [Line("violation", "--neutral", violation)]),
        Curve("kkt", "KKT residual", [Line("residual", "--neutral", residual)]),
    ]
    figures = [figure for curve in curves if (figure := curve.figure(epochs, best)) is not None]
    total = duration(sum(value or 0.0 for value in seconds))
    return [replace(figure, note=f"Total: {total}") if figure.key == "time" else figure for figure in figures]


def _is_error(name: str) -> bool:
    """Return whether a metric is known, and lower values of it are better; importing the metrics would import PyTorch."""
    return name in _ERRORS or name.startswith("pinball")


_ERRORS = frozenset({"loss", "objective", "mae", "rmse", "mse", "median_ae", "mape", "brier", "log_loss"})
