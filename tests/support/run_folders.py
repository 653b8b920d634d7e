"""Synthetic run folders, created without training.

The numbers come from simple models of training: a loss that decays to a floor, a validation loss that rises at the end,
and confusion between neighboring classes.
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

Files = dict[str, Any]

RECIPE = """\
# Resolved by descend; automatic settings are replaced by their values.

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


SUMMARY = """\
Sequential(
  (linear1): Linear(in_features=13, out_features=64, bias=True)
  (norm1): BatchNorm1d(64)
  (act1): ReLU()
  (output): Linear(in_features=64, out_features=3, bias=True)
)"""


def png(pixels: np.ndarray) -> str:
    """Encode a grayscale image (h, w) with values 0..255 as the data URL of a PNG."""
    height, width = pixels.shape
    rows = b"".join(b"\0" + bytes(row) for row in pixels.astype(np.uint8))

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return "data:image/png;base64," + base64.b64encode(data).decode()


def history(
    epochs: int,
    *,
    scores: Callable[[float], dict[str, float]],
    start: float,
    floor: float,
    validation: bool = True,
) -> list[dict[str, Any]]:
    """The history of a training whose loss falls from ``start`` towards ``floor``."""
    noise = np.random.default_rng(0)
    lines: list[dict[str, Any]] = []
    best = math.inf
    elapsed = 0.03
    for epoch in range(1, epochs + 1):
        elapsed += 0.021 * (1 + 0.1 * noise.random())
        time = epoch / max(epochs, 12)
        train = floor / 3 + (start - floor / 3) * math.exp(-9 * time) * (1 + 0.03 * noise.standard_normal())
        held_out = (
            floor
            + (start - floor) * math.exp(-8 * time) * (1 + 0.05 * noise.standard_normal())
            + 0.12 * start * max(0, time - 0.7)
        )
        monitored = held_out if validation else train
        line: dict[str, Any] = {
            "epoch": epoch,
            "step": 34 * epoch,
            "seconds": elapsed,
            "lr": 1e-3 * (1 + math.cos(math.pi * min(1, time))) / 2,
            "gradient_norm": 2.4 * math.exp(-4 * time) * (1 + 0.2 * noise.standard_normal()),
            "train": {"loss": train, **scores(train)},
        }
        if validation:
            line["validation"] = {"loss": held_out, **scores(held_out)}
        line["best"] = monitored < best
        best = min(best, monitored)
        lines.append(line)
    return lines


def confusion(supports: list[int], mistakes: float, seed: int = 0) -> list[list[int]]:
    """A confusion matrix in which neighboring classes are confused most."""
    rng = np.random.default_rng(seed)
    size = len(supports)
    table = []
    for true, support in enumerate(supports):
        proximity = np.array(
            [math.exp(-abs(true - other) / 1.5) if other != true else 0.0 for other in range(size)]
        )
        share = mistakes * proximity / proximity.sum()
        share[true] = 1 - mistakes
        table.append([int(cell) for cell in rng.multinomial(support, share)])
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
            "summary": SUMMARY,
            "parameters": parameters,
        },
    }


def classified(loss: float) -> dict[str, float]:
    right = 1 - min(0.9, 0.4 * loss)
    return {"accuracy": right, "balanced_accuracy": right - 0.004}


def regressed(loss: float) -> dict[str, float]:
    return {"r2": 1 - loss, "mae": 60 * math.sqrt(loss), "rmse": 77 * math.sqrt(loss)}


def metrics(
    task: str, lines: list[dict[str, Any]], test: dict[str, float], stopped: str = "patience"
) -> dict[str, Any]:
    best = max((line for line in lines if line["best"]), key=lambda line: line["epoch"])
    content = {
        "status": "finished",
        "task": task,
        "best_epoch": best["epoch"],
        "epochs": len(lines),
        "steps": lines[-1]["step"],
        "seconds": lines[-1]["seconds"],
        "stopped": stopped,
        "train": best["train"],
        "test": test,
    }
    return content | ({"validation": best["validation"]} if "validation" in best else {})


def column(name: str, kind: str, values: np.ndarray | None = None, **more: Any) -> dict[str, Any]:
    """A column of ``schema.json``, with the statistics of its values if given."""
    entry: dict[str, Any] = {
        "name": name,
        "kind": kind,
        "categories": [],
        "pooled": False,
        "missing": 0,
        "note": "",
        "indicator": False,
        "fill": 0.0,
        "mean": 0.0,
        "scale": 1.0,
        "low": None,
        "high": None,
    }
    if values is not None:
        entry |= {
            "fill": float(np.median(values)),
            "mean": float(values.mean()),
            "scale": float(values.std()),
        }
        entry |= {"low": float(values.min()), "high": float(values.max())}
    return entry | more


def schema(
    task: str, columns: list[dict[str, Any]], rows: tuple[int, int, int], **more: Any
) -> dict[str, Any]:
    """``schema.json`` of a table; ``more`` overrides entries."""
    used = [one for one in columns if one["kind"] in ("numeric", "boolean", "categorical", "date")]
    width = sum(len(one["categories"]) or 1 for one in used) + sum(one["indicator"] for one in used)
    content = {
        "version": 1,
        "kind": "table",
        "task": task,
        "why": "",
        "input_shape": [width],
        "outputs": 1,
        "target_names": ["class"],
        "columns": columns,
        "named": True,
        "missing": ["", "NA", "?"],
        "classes": [],
        "label_dtype": "",
        "target_mean": [],
        "target_scale": [],
        "scale": "standard",
        "clip": None,
        "shift": [],
        "spread": [],
        "fingerprint": "blake2b:5f1d7d84db00d2fce00b31a7fc73224f",
        "reference": None,
        "name": "",
        "rows": dict(zip(("train", "validation", "test"), rows, strict=True)),
    }
    return content | more


def classes_of(table: list[list[int]], names: list[Any]) -> dict[str, Any]:
    rows = sum(map(sum, table))
    right = sum(row[place] for place, row in enumerate(table))
    recalls = [row[place] / max(1, sum(row)) for place, row in enumerate(table)]
    scores = {"loss": 0.1, "accuracy": right / rows, "balanced_accuracy": sum(recalls) / len(recalls)}
    return {"part": "test", "rows": rows, "classes": names, "confusion": table, "worst": [], "scores": scores}


def save(files: Files, folder: Path) -> Path:
    """Write the files into a run folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if name.endswith(".jsonl"):
            text = "".join(json.dumps(line) + "\n" for line in content)
        else:
            text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(text, encoding="utf-8")
    return folder
