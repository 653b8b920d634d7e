"""Run folders as training leaves them, made without training: the files are what a report is written from.

The numbers come from simple models of how training goes (a loss that decays to a floor, a validation loss
that turns up late), on the names and shapes of real data sets.
"""

from __future__ import annotations

import base64
import json
import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import datasets

Files = dict[str, Any]

RECIPE = """\
# Resolved by descend; every "auto" was replaced by what it became.

[data]
scale = "standard"
sampling = "epoch"
batch_size = 32  # auto: 1,077 training rows give 34 steps an epoch
validation = 0.2

[model]
name = "mlp"
hidden = [64, 64]  # auto: twice the inputs, at least 64
activation = "relu"
norm = "batch"
dropout = 0.0

[loss]
name = "{loss}"

[init]
name = "kaiming_normal"  # auto: relu's partner

[optimizer]
name = "adam"
lr = 1e-3
betas = [0.9, 0.999]

[schedule]
name = "cosine"
final = 0.0

[stop]
patience = 10
max_epochs = 200

[data.columns]
"alcalinity of ash" = "numeric"
"""


def png(pixels: np.ndarray) -> str:
    """A grey picture (h, w) of 0..255 as the address of a PNG."""
    height, width = pixels.shape
    rows = b"".join(b"\0" + bytes(row) for row in pixels.astype(np.uint8))

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(data).decode()


def history(
    epochs: int, *, scores: Callable[[float], dict[str, float]], start: float, floor: float, validation: bool = True
) -> list[dict[str, Any]]:
    """Epochs of a training whose loss falls from ``start`` towards ``floor``; best is what validation likes best."""
    noise = np.random.default_rng(0)
    lines: list[dict[str, Any]] = []
    best = math.inf
    for epoch in range(1, epochs + 1):
        time = epoch / max(epochs, 12)
        train = floor / 3 + (start - floor / 3) * math.exp(-9 * time) * (1 + 0.03 * noise.standard_normal())
        held = floor + (start - floor) * math.exp(-8 * time) * (1 + 0.05 * noise.standard_normal()) + 0.12 * start * max(0, time - 0.7)
        watched = held if validation else train
        line: dict[str, Any] = {
            "epoch": epoch,
            "step": 34 * epoch,
            "seconds": round(0.021 * (1 + 0.1 * noise.random()) + (0.03 if epoch == 1 else 0), 5),
            "lr": 1e-3 * (1 + math.cos(math.pi * min(1, time))) / 2,
            "gradient_norm": 2.4 * math.exp(-4 * time) * (1 + 0.2 * noise.standard_normal()),
            "train": {"loss": train, **scores(train)},
        }
        if validation:
            line["validation"] = {"loss": held, **scores(held)}
        line["best"] = watched < best
        best = min(best, watched)
        lines.append(line)
    return lines


def confusion(supports: list[int], mistakes: float, seed: int = 0) -> list[list[int]]:
    """Counts in which neighbouring classes are confused most."""
    draw = np.random.default_rng(seed)
    size = len(supports)
    table = []
    for true, support in enumerate(supports):
        near = np.array([math.exp(-abs(true - other) / 1.5) if other != true else 0.0 for other in range(size)])
        share = mistakes * near / near.sum()
        share[true] = 1 - mistakes
        table.append([int(cell) for cell in draw.multinomial(support, share)])
    return table


def environment(name: str, rows: int, parameters: int, command: str) -> dict[str, Any]:
    return {
        "descend": "0.1.0",
        "python": "3.11.2",
        "torch": "2.13.0+cpu",
        "numpy": "2.4.6",
        "platform": "Linux-6.1-x86_64",
        "cpu": "AMD EPYC 9754",
        "cores": 2,
        "threads": 1,
        "threads_reason": "auto: 358 µs a step with 1 thread, 1,540 µs with 2",
        "device": "cpu",
        "precision": "float32",
        "seed": 0,
        "command": command,
        "data": {"reference": name, "name": name, "rows": rows},
        "started": "2026-11-22T19:33:05+00:00",
        "model": {
            "summary": "Sequential(\n  (linear1): Linear(in_features=13, out_features=64, bias=True)\n  (norm1): BatchNorm1d(64)\n"
            "  (act1): ReLU()\n  (output): Linear(in_features=64, out_features=3, bias=True)\n)",
            "parameters": parameters,
        },
    }  # fmt: skip


def classified(loss: float) -> dict[str, float]:
    right = 1 - min(0.9, 0.4 * loss)
    return {"accuracy": right, "balanced_accuracy": right - 0.004}


def regressed(loss: float) -> dict[str, float]:
    return {"r2": 1 - loss, "mae": 60 * math.sqrt(loss), "rmse": 77 * math.sqrt(loss)}


def metrics(task: str, lines: list[dict[str, Any]], test: dict[str, float], stopped: str = "patience") -> dict[str, Any]:
    best = max((line for line in lines if line["best"]), key=lambda line: line["epoch"])
    made = {
        "status": "finished",
        "task": task,
        "best_epoch": best["epoch"],
        "epochs": len(lines),
        "steps": lines[-1]["step"],
        "seconds": sum(line["seconds"] for line in lines) + 0.2,
        "stopped": stopped,
        "train": best["train"],
        "test": test,
    }
    return made | ({"validation": best["validation"]} if "validation" in best else {})


def numeric_column(name: str, values: np.ndarray, missing: int = 0) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "numeric",
        "categories": [],
        "missing": missing,
        "note": "",
        "mean": float(values.mean()),
        "scale": float(values.std()),
        "fill": float(np.median(values)),
    }


def classes_of(table: list[list[int]], names: list[Any]) -> dict[str, Any]:
    rows = sum(map(sum, table))
    right = sum(row[place] for place, row in enumerate(table))
    recalls = [row[place] / max(1, sum(row)) for place, row in enumerate(table)]
    scores = {"loss": 0.1, "accuracy": right / rows, "balanced_accuracy": sum(recalls) / len(recalls)}
    return {"part": "test", "rows": rows, "classes": names, "confusion": table, "worst": [], "scores": scores}


def wine() -> Files:
    """A small table of three classes, with a categorical column and missing values."""
    data = datasets.load_wine()
    names = ["barolo", "grignolino", "barbera"]
    lines = history(43, scores=classified, start=1.2, floor=0.08)
    evaluation = classes_of(confusion([15, 18, 12], 0.06), names)
    columns = [numeric_column(name.replace("_", " "), data.data[:, place]) for place, name in enumerate(data.feature_names)]
    columns[2] |= {"missing": 7, "note": "missing is also an input"}
    columns.append({"name": "region", "kind": "categorical", "categories": ["Asti", "Alba", "Cuneo", "Torino", "Novara", "Biella", "Vercelli", "Verbania"], "missing": 3, "note": "", "fill": "all-zero code"})  # fmt: skip
    columns.append({"name": "year", "kind": "constant", "categories": [], "missing": 0, "note": "constant; left out", "fill": None})  # fmt: skip
    evaluation["worst"] = [
        {
            "row": int(row),
            "true": names[true],
            "predicted": names[predicted],
            "probability": 0.99 - 0.07 * rank,
            "loss": 4.6 - 0.5 * rank,
            "values": {column["name"]: float(value) for column, value in zip(columns, data.data[row], strict=False)} | {"region": "Alba"},
            "image": None,
        }
        for rank, (row, true, predicted) in enumerate([(83, 1, 0), (61, 1, 2), (121, 1, 0), (134, 2, 1), (95, 1, 1), (21, 0, 0)])
    ]  # fmt: skip
    return {
        "recipe.toml": RECIPE.format(loss="cross_entropy"),
        "schema.json": {
            "version": 1,
            "kind": "table",
            "task": "multiclass",
            "columns": columns,
            "target_names": ["cultivar"],
            "rows": {"train": 106, "validation": 27, "test": 45},
            "fingerprint": "blake2b:5f1d7d84db00d2fce00b31a7fc73224f",
        },
        "history.jsonl": lines,
        "metrics.json": metrics("multiclass", lines, evaluation.pop("scores")),
        "evaluation.json": evaluation,
        "environment.json": environment("wine", 178, 5443, "descend train wine --seed 0 --out runs/wine"),
    }


def digits() -> Files:
    """Pictures of ten classes, with thumbnails of the worst."""
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
        "schema.json": {
            "version": 1,
            "kind": "images",
            "task": "multiclass",
            "columns": [],
            "input_shape": [1, 8, 8],
            "rows": {"train": 1077, "validation": 270, "test": 450},
            "fingerprint": "blake2b:aa51b7a0c5b94d0e8f5c3ad9b0f3e7c1",
        },
        "history.jsonl": lines,
        "metrics.json": metrics("multiclass", lines, evaluation.pop("scores")),
        "evaluation.json": evaluation,
        "environment.json": environment("digits", 1797, 9098, "descend train digits --seed 0"),
    }


def diabetes() -> Files:
    """A table and one number to predict."""
    data = datasets.load_diabetes(scaled=False)
    lines = history(71, scores=regressed, start=1.0, floor=0.52)
    true = data.target[:111]
    guess = 152 + 0.5 * (true - 152) + 42 * np.random.default_rng(1).standard_normal(111)
    errors = guess - true
    test = {
        "loss": 0.55,
        "r2": float(1 - (errors**2).sum() / ((true - true.mean()) ** 2).sum()),
        "mae": float(np.abs(errors).mean()),
        "rmse": float(np.sqrt((errors**2).mean())),
    }
    columns = [numeric_column(name, data.data[:, place]) for place, name in enumerate(data.feature_names)]
    worst = np.argsort(-np.abs(errors))[:12]
    return {
        "recipe.toml": RECIPE.format(loss="mse"),
        "schema.json": {
            "version": 1,
            "kind": "table",
            "task": "regression",
            "columns": columns,
            "target_names": ["progression"],
            "rows": {"train": 265, "validation": 66, "test": 111},
            "fingerprint": "blake2b:0c4f2b6ad1e94f3e9a6f0c7d5b8a9e21",
        },
        "history.jsonl": lines,
        "metrics.json": metrics("regression", lines, test),
        "evaluation.json": {
            "part": "test",
            "rows": 111,
            "scatter": {"progression": {"true": true.tolist(), "predicted": guess.tolist()}},
            "worst": [
                {
                    "row": int(row),
                    "true": float(true[row]),
                    "predicted": float(guess[row]),
                    "probability": None,
                    "loss": float(errors[row] ** 2 / 5900),
                    "values": dict(zip(data.feature_names, map(float, data.data[row]), strict=True)),
                    "image": None,
                }
                for row in worst
            ],
        },
        "environment.json": environment("diabetes", 442, 5057, "descend train diabetes --seed 0 --set model.hidden=[64,64]"),
    }  # fmt: skip


def linnerud(targets: int = 3) -> Files:
    """Several numbers to predict at once."""
    made = diabetes()
    draw = np.random.default_rng(2)
    names = ["Weight", "Waist", "Pulse", *(f"Target {place}" for place in range(4, targets + 1))][:targets]
    scatter = {}
    for place, name in enumerate(names):
        true = 10.0 ** (place % 4) * (5 + draw.standard_normal(200))
        scatter[name] = {"true": true.tolist(), "predicted": (true + 10.0 ** (place % 4) * draw.standard_normal(200) * 0.4).tolist()}
    made["schema.json"] |= {"task": "multi_regression", "target_names": names}
    made["metrics.json"] |= {"task": "multi_regression"}
    made["evaluation.json"] |= {"rows": 200, "scatter": scatter}
    for row in made["evaluation.json"]["worst"]:
        row["true"], row["predicted"] = [162.1, 36.5, 61.0], [189.0, 35.2, 54.3]
    made["environment.json"]["data"] = {"reference": "linnerud.csv", "name": "linnerud.csv", "rows": 442}
    return made


def without_validation() -> Files:
    """Every row outside the test part was trained on."""
    made = wine()
    lines = history(20, scores=classified, start=1.2, floor=0.08, validation=False)
    for line in lines:
        line["best"] = line is lines[-1]
    made["history.jsonl"] = lines
    made["metrics.json"] = metrics("multiclass", lines, made["metrics.json"]["test"], "max_epochs")
    made["schema.json"]["rows"] = {"train": 133, "validation": 0, "test": 45}
    return made


def one_epoch() -> Files:
    """The shortest training there is."""
    made = wine()
    lines = history(1, scores=classified, start=1.2, floor=0.08)
    made["history.jsonl"] = lines
    made["metrics.json"] = metrics("multiclass", lines, made["metrics.json"]["test"], "max_epochs")
    return made


def failed() -> Files:
    """Training diverged in its fourth epoch: no evaluation, and a NaN in the last line."""
    made = wine()
    lines = history(4, scores=classified, start=1.2, floor=0.08)
    lines[-1]["train"]["loss"] = lines[-1]["gradient_norm"] = math.nan
    made["history.jsonl"] = lines
    made["metrics.json"] = {
        "status": "failed",
        "task": "multiclass",
        "epochs": 4,
        "steps": 131,
        "seconds": 0.4,
        "stopped": "diverged",
        "message": "The output of linear1 became NaN at step 131, rows 12, 77 and 104.\nLower the learning rate: --set optimizer.lr=1e-4",
    }  # fmt: skip
    del made["evaluation.json"]
    return made


HOSTILE = '</script><script>document.title="owned"</script><img src=x onerror=alert(1)>"\'&<!--${x}%{x}<b>'
"""A name that tries every way out of where it is put."""


def hostile() -> Files:
    """Every string of the data wants to be markup."""
    made = wine()
    schema, evaluation = made["schema.json"], made["evaluation.json"]
    for column in schema["columns"]:
        column |= {"name": HOSTILE + column["name"], "note": HOSTILE, "fill": HOSTILE}
    schema["columns"][-2]["categories"] = [HOSTILE + str(place) for place in range(9)]
    schema |= {"target_names": [HOSTILE], "fingerprint": HOSTILE}
    evaluation["classes"] = [HOSTILE + "1", HOSTILE + "2", "--validation"]
    for row in evaluation["worst"]:
        row |= {"true": HOSTILE, "predicted": HOSTILE, "values": {HOSTILE: HOSTILE}, "image": f"javascript:{HOSTILE}"}
    made["environment.json"] |= {HOSTILE: HOSTILE, "command": HOSTILE, "data": {"reference": HOSTILE, "name": HOSTILE, "rows": 178}}
    made["environment.json"]["model"]["summary"] = HOSTILE
    made["recipe.toml"] += f"# {HOSTILE}\nkey = '''{HOSTILE}'''\n"
    return made


def hostile_targets() -> Files:
    """The same for regression, where a target's name heads a figure."""
    made = diabetes()
    pair = made["evaluation.json"]["scatter"].pop("progression")
    made["evaluation.json"]["scatter"] = {HOSTILE: pair, HOSTILE + "2": pair}
    return made


def large() -> Files:
    """100 classes with long names, 5,000 epochs, 300 columns."""
    made = wine()
    names = [f"Passeriformes/Corvidae/species with a very long name indeed number {place:03d}" for place in range(100)]
    lines = history(5000, scores=classified, start=4.6, floor=0.4)
    lines[2500]["train"]["loss"] = 77.0
    evaluation = classes_of(confusion([50] * 100, 0.15), names)
    draw = np.random.default_rng(3)
    columns = [numeric_column(f"measurement_{place}_of_the_left_wing_in_millimetres_at_rest", draw.standard_normal(50)) for place in range(300)]
    evaluation["worst"] = [
        {
            "row": row,
            "true": names[row],
            "predicted": names[row + 1],
            "probability": 0.9,
            "loss": 3.1,
            "values": {column["name"]: float(draw.standard_normal()) for column in columns},
            "image": None,
        }
        for row in range(12)
    ]
    made["schema.json"] |= {"columns": columns, "rows": {"train": 15000, "validation": 3000, "test": 5000}}
    made["history.jsonl"] = lines
    made["metrics.json"] = metrics("multiclass", lines, evaluation.pop("scores"))
    made["evaluation.json"] = evaluation
    made["environment.json"] = environment("a_rather_long_file_name_without_any_spaces_of_birds_of_the_western_palearctic_2026.parquet", 23000, 1_250_000, "descend train a_rather_long_file_name_without_any_spaces_of_birds_of_the_western_palearctic_2026.parquet --target species --seed 0")  # fmt: skip
    return made


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


def save(files: Files, folder: Path) -> Path:
    """Write a run folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if name.endswith(".jsonl"):
            text = "".join(json.dumps(line) + "\n" for line in content)
        else:
            text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(text, encoding="utf-8")
    return folder
