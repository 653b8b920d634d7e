"""Transfer learning: a network trained on the digits 0 to 4 helps with 5 to 9, of which only a few are labeled.

The first layers, which represent strokes, are kept; the last layer, which classified other digits, is initialized again.
The result is compared with the same network trained on the few rows only, and with convolutions frozen at their initial
weights. These images are small and easy, so that a few rows are almost sufficient, and transfer gains one or two points.

    python examples/transfer.py [LABELED]
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import descend

RECIPE = descend.Recipe(
    data={"task": "classification", "validation": 0.0, "test": 0.0, "scale": "none", "batch_size": 16},
    model={"name": "convnet", "channels": [16, 32], "norm": "batch", "dense": [32]},
    optimizer={"name": "adamw", "lr": 0.003},
)


def digits(classes: range) -> tuple[np.ndarray, np.ndarray]:
    """Return the images of some of the digits, in [0, 1], and their labels."""
    rows, labels = load_digits(return_X_y=True)
    selected = np.isin(labels, classes)
    return (rows[selected] / 16).reshape(-1, 1, 8, 8).astype(np.float32), labels[selected]


def main(labeled: int = 10, epochs: int = 60, seeds: int = 5) -> dict[str, float]:
    """Return the mean accuracy over seeds on the unlabeled digits 5 to 9, by initialization."""
    recipe = RECIPE.replace({"stop.max_epochs": epochs})
    images, labels = digits(range(5, 10))
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "first"
        descend.train(digits(range(5)), recipe, out=first)
        # Both halves have five classes, so that the last layer would fit: its replacement must be specified.
        pretrained = {"model.pretrained": str(first), "model.pretrained_head": "replace"}
        frozen = {"model.freeze": ["conv*", "norm*"]}
        starts = {
            "from scratch": {},
            "pretrained": pretrained,
            "pretrained, convolutions at a tenth of the learning rate": {
                **pretrained,
                "optimizer.groups": {"conv*": 0.1, "norm*": 0.1},
            },
            "pretrained, convolutions frozen": {**pretrained, **frozen},
            "from scratch, convolutions frozen": frozen,
        }
        accuracies = dict.fromkeys(starts, 0.0)
        for seed in range(seeds):
            order = np.random.default_rng(seed).permutation(len(images))
            few, rest = order[:labeled], order[labeled:]
            for name, changes in starts.items():
                run = descend.train((images[few], labels[few]), recipe.replace(changes), seed=seed)
                accuracies[name] += float((run.predict(images[rest]) == labels[rest]).mean()) / seeds
    return accuracies


if __name__ == "__main__":
    for name, accuracy in main(int(sys.argv[1]) if len(sys.argv) > 1 else 10).items():
        print(f"{accuracy:.3f}  {name}")
