"""Sample runs of every kind that reports must handle, with names and shapes of real data sets."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from sklearn import datasets
from tests.support.run_folders import (
    RECIPE,
    Files,
    classes_of,
    classified,
    column,
    confusion,
    environment,
    history,
    metrics,
    png,
    regressed,
    schema,
)


def wine() -> Files:
    """A small table with three classes, a categorical column and missing values."""
    data = datasets.load_wine()
    names = ["barolo", "grignolino", "barbera"]
    lines = history(43, scores=classified, start=1.2, floor=0.08)
    evaluation = classes_of(confusion([15, 18, 12], 0.06), names)
    columns = [
        column(name.replace("_", " "), "numeric", data.data[:, place])
        for place, name in enumerate(data.feature_names)
    ]
    columns[2] |= {"missing": 7, "indicator": True}
    regions = ["Asti", "Alba", "Cuneo", "Torino", "Novara", "Biella", "Vercelli", "Verbania"]
    columns.append(column("region", "categorical", categories=regions, missing=3, indicator=True))
    columns.append(column("bottled", "date", np.array([14245.0, 15001.0, 17890.0])))
    columns.append(column("cellar", "constant", note="one value only: left out"))
    evaluation["worst"] = [
        {
            "row": int(row),
            "true": names[true],
            "predicted": names[predicted],
            "probability": 0.99 - 0.07 * rank,
            "loss": 4.6 - 0.5 * rank,
            "values": {one["name"]: float(value) for one, value in zip(columns, data.data[row], strict=False)}
            | {"region": "Alba"},
            "image": None,
        }
        for rank, (row, true, predicted) in enumerate(
            [(83, 1, 0), (61, 1, 2), (121, 1, 0), (134, 2, 1), (95, 1, 1), (21, 0, 0)]
        )
    ]
    return {
        "recipe.toml": RECIPE.format(loss="cross_entropy"),
        "schema.json": schema(
            "multiclass",
            columns,
            (106, 27, 45),
            outputs=3,
            target_names=["cultivar"],
            classes=names,
            label_dtype="<U10",
            why="the target has 3 distinct strings",
        ),
        "history.jsonl": lines,
        "metrics.json": metrics("multiclass", lines, evaluation.pop("scores")),
        "evaluation.json": evaluation,
        "environment.json": environment("wine", 178, 5443, "descend train wine --seed 0 --out runs/wine"),
    }


def digits() -> Files:
    """Images of ten classes, with thumbnails of the worst mistakes."""
    data = datasets.load_digits()
    lines = history(58, scores=classified, start=2.3, floor=0.07)
    table = confusion([45, 46, 44, 46, 45, 46, 45, 45, 43, 45], 0.03)
    evaluation = classes_of(table, list(range(10)))
    evaluation["worst"] = [
        {
            "row": row,
            "true": int(data.target[row]),
            "predicted": (int(data.target[row]) + 5) % 10,
            "probability": 0.97 - 0.04 * rank,
            "loss": 5.2 - 0.3 * rank,
            "values": None,
            "image": png(data.images[row] * 255 / 16),
        }
        for rank, row in enumerate(range(1553, 1565))
    ]
    return {
        "recipe.toml": RECIPE.format(loss="cross_entropy"),
        "schema.json": schema(
            "multiclass",
            [],
            (1077, 270, 450),
            kind="images",
            input_shape=[1, 8, 8],
            outputs=10,
            classes=list(range(10)),
            label_dtype="int64",
            shift=[4.9],
            spread=[6.0],
        ),
        "history.jsonl": lines,
        "metrics.json": metrics("multiclass", lines, evaluation.pop("scores")),
        "evaluation.json": evaluation,
        "environment.json": environment("digits", 1797, 9098, "descend train digits --seed 0"),
    }


def diabetes() -> Files:
    """A table with one numeric target."""
    data = datasets.load_diabetes(scaled=False)
    lines = history(71, scores=regressed, start=1.0, floor=0.52)
    true = data.target[:111]
    predicted = 152 + 0.5 * (true - 152) + 42 * np.random.default_rng(1).standard_normal(111)
    errors = predicted - true
    test = {
        "loss": 0.55,
        "r2": float(1 - (errors**2).sum() / ((true - true.mean()) ** 2).sum()),
        "mae": float(np.abs(errors).mean()),
        "rmse": float(np.sqrt((errors**2).mean())),
    }
    columns = [column(name, "numeric", data.data[:, place]) for place, name in enumerate(data.feature_names)]
    worst = np.argsort(-np.abs(errors))[:12]
    return {
        "recipe.toml": RECIPE.format(loss="mse"),
        "schema.json": schema(
            "regression",
            columns,
            (265, 66, 111),
            target_names=["progression"],
            target_mean=[152.1],
            target_scale=[77.0],
            why="the target has 214 distinct numbers",
        ),
        "history.jsonl": lines,
        "metrics.json": metrics("regression", lines, test),
        "evaluation.json": {
            "part": "test",
            "rows": 111,
            "scatter": {"progression": {"true": true.tolist(), "predicted": predicted.tolist()}},
            "worst": [
                {
                    "row": int(row),
                    "true": float(true[row]),
                    "predicted": float(predicted[row]),
                    "probability": None,
                    "loss": float(errors[row] ** 2 / 5900),
                    "values": dict(zip(data.feature_names, map(float, data.data[row]), strict=True)),
                    "image": None,
                }
                for row in worst
            ],
        },
        "environment.json": environment(
            "diabetes", 442, 5057, "descend train diabetes --seed 0 --set model.hidden=[64,64]"
        ),
    }


def linnerud(targets: int = 3) -> Files:
    """Several numeric targets."""
    files = diabetes()
    rng = np.random.default_rng(2)
    names = ["Weight", "Waist", "Pulse", *(f"Target {place}" for place in range(4, targets + 1))][:targets]
    scatter = {}
    for place, name in enumerate(names):
        true = 10.0 ** (place % 4) * (5 + rng.standard_normal(200))
        scatter[name] = {
            "true": true.tolist(),
            "predicted": (true + 10.0 ** (place % 4) * rng.standard_normal(200) * 0.4).tolist(),
        }
    files["schema.json"] |= {"task": "multi_regression", "target_names": names, "outputs": targets}
    files["schema.json"] |= {"target_mean": [5.0] * targets, "target_scale": [1.0] * targets}
    files["metrics.json"] |= {"task": "multi_regression"}
    files["evaluation.json"] |= {"rows": 200, "scatter": scatter}
    for row in files["evaluation.json"]["worst"]:
        row["true"], row["predicted"] = [162.1, 36.5, 61.0], [189.0, 35.2, 54.3]
    files["environment.json"]["data"] = {"reference": "linnerud.csv", "name": "linnerud.csv", "rows": 442}
    return files


def without_validation() -> Files:
    """No validation part: all rows except the test rows were used for training."""
    files = wine()
    lines = history(20, scores=classified, start=1.2, floor=0.08, validation=False)
    for line in lines:
        line["best"] = line is lines[-1]
    files["history.jsonl"] = lines
    files["metrics.json"] = metrics("multiclass", lines, files["metrics.json"]["test"], "max_epochs")
    files["schema.json"]["rows"] = {"train": 133, "validation": 0, "test": 45}
    return files


def one_epoch() -> Files:
    """The shortest possible training."""
    files = wine()
    lines = history(1, scores=classified, start=1.2, floor=0.08)
    files["history.jsonl"] = lines
    files["metrics.json"] = metrics("multiclass", lines, files["metrics.json"]["test"], "max_epochs")
    return files


def failed() -> Files:
    """Training diverged in its fourth epoch: no evaluation, and a NaN in the last line."""
    files = wine()
    lines = history(4, scores=classified, start=1.2, floor=0.08)
    lines[-1]["train"]["loss"] = lines[-1]["gradient_norm"] = math.nan
    files["history.jsonl"] = lines
    files["metrics.json"] = {
        "status": "failed",
        "task": "multiclass",
        "epochs": 4,
        "steps": 131,
        "seconds": 0.4,
        "stopped": "diverged",
        "message": "The output of linear1 became NaN at step 131, rows 12, 77 and 104.\n"
        "Lower the learning rate: --set optimizer.lr=1e-4",
    }
    del files["evaluation.json"]
    return files


HOSTILE = '</script><script>document.title="owned"</script><img src=x onerror=alert(1)>"\'&<!--${x}%{x}<b>'
"""A name that attempts every kind of injection."""


def hostile() -> Files:
    """Every string of the data attempts an injection."""
    files = wine()
    described, evaluation = files["schema.json"], files["evaluation.json"]
    for one in described["columns"]:
        one |= {"name": HOSTILE + one["name"], "note": HOSTILE}
    described["columns"][13]["categories"] = [HOSTILE + str(place) for place in range(9)]
    described |= {"target_names": [HOSTILE], "fingerprint": HOSTILE, "why": HOSTILE}
    described["classes"] = evaluation["classes"] = [HOSTILE + "1", HOSTILE + "2", "--validation"]
    for row in evaluation["worst"]:
        row |= {
            "true": HOSTILE,
            "predicted": HOSTILE,
            "values": {HOSTILE: HOSTILE},
            "image": f"javascript:{HOSTILE}",
        }
    files["environment.json"] |= {
        HOSTILE: HOSTILE,
        "command": HOSTILE,
        "data": {"reference": HOSTILE, "name": HOSTILE, "rows": 178},
    }
    files["environment.json"]["model"]["summary"] = HOSTILE
    files["recipe.toml"] += f"# {HOSTILE}\nkey = '''{HOSTILE}'''\n"
    return files


def hostile_targets() -> Files:
    """The same for regression, where the names of targets are headings of figures."""
    files = diabetes()
    pair = files["evaluation.json"]["scatter"].pop("progression")
    files["evaluation.json"]["scatter"] = {HOSTILE: pair, HOSTILE + "2": pair}
    return files


def large() -> Files:
    """100 classes with long names, 5,000 epochs, 300 columns."""
    files = wine()
    names = [
        f"Passeriformes/Corvidae/species with a very long name number {place:03d}" for place in range(100)
    ]
    lines = history(5000, scores=classified, start=4.6, floor=0.4)
    lines[2500]["train"]["loss"] = 77.0
    evaluation = classes_of(confusion([50] * 100, 0.15), names)
    rng = np.random.default_rng(3)
    columns = [
        column(
            f"measurement_{place}_of_the_left_wing_in_millimeters_at_rest",
            "numeric",
            rng.standard_normal(50),
        )
        for place in range(300)
    ]
    evaluation["worst"] = [
        {
            "row": row,
            "true": names[row],
            "predicted": names[row + 1],
            "probability": 0.9,
            "loss": 3.1,
            "values": {one["name"]: float(rng.standard_normal()) for one in columns},
            "image": None,
        }
        for row in range(12)
    ]
    files["schema.json"] = schema(
        "multiclass", columns, (15000, 3000, 5000), outputs=100, classes=names, label_dtype="<U80"
    )
    files["history.jsonl"] = lines
    files["metrics.json"] = metrics("multiclass", lines, evaluation.pop("scores"))
    files["evaluation.json"] = evaluation
    name = "a_rather_long_file_name_without_any_spaces_of_birds_of_the_western_palearctic_2026.parquet"
    command = f"descend train {name} --target species --seed 0"
    files["environment.json"] = environment(name, 23000, 1_250_000, command)
    return files


RUNS: dict[str, Callable[[], Files]] = {
    "wine": wine,
    "digits": digits,
    "diabetes": diabetes,
    "linnerud": linnerud,
    "many_targets": lambda: linnerud(9),
    "without_validation": without_validation,
    "one_epoch": one_epoch,
    "failed": failed,
    "hostile": hostile,
    "hostile_targets": hostile_targets,
    "large": large,
}
