"""Keras 3 with the torch backend: ``compile``, then ``fit`` without output."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

from contenders.interface import LEARNING_RATE, Contender, Problem, Run, Timing

__all__ = ["KERAS"]


def prepare(problem: Problem, seed: int) -> Run:
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    if keras.backend.backend() != "torch":
        raise RuntimeError(
            f"Keras is already imported with the backend {keras.backend.backend()!r}; expected 'torch'"
        )
    *hidden, outputs = problem.widths[1:]
    # Keras stores images as (n, H, W, C).
    x_train, x_validation = (
        np.ascontiguousarray(np.moveaxis(array, 1, -1)) if problem.channels else array
        for array in (problem.x_train, problem.x_validation)
    )

    def run(epochs: int) -> Timing:
        keras.utils.set_random_seed(seed)
        model = keras.Sequential(
            [
                *_first_layers(keras, problem),
                *(keras.layers.Dense(units, activation="relu") for units in hidden),
                keras.layers.Dense(outputs),
            ]
        )
        model.compile(
            optimizer=keras.optimizers.Adam(LEARNING_RATE),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        start = time.perf_counter()
        history = model.fit(
            x_train,
            problem.y_train,
            batch_size=problem.batch_size,
            epochs=epochs,
            shuffle=True,
            validation_data=(x_validation, problem.y_validation),
            validation_batch_size=len(x_validation),
            verbose=0,
        )
        seconds = time.perf_counter() - start
        steps = int(np.asarray(model.optimizer.iterations.value.cpu()))
        return Timing(steps, seconds, float(history.history["val_accuracy"][-1]))

    return run


def _first_layers(keras: Any, problem: Problem) -> list[Any]:
    """Return the layers in front of the dense ones."""
    if not problem.channels:
        return [keras.Input((problem.widths[0],))]
    _, channels, height, width = problem.x_train.shape
    layers = [keras.Input((height, width, channels))]
    for units in problem.channels:
        layers += [
            keras.layers.Conv2D(units, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(),
        ]
    return [*layers, keras.layers.Flatten()]


KERAS = Contender(
    name="keras",
    on="torch backend, fit(verbose=0), jit_compile left at its default (off on torch); its accuracy metric "
    "also runs on the training batches; Glorot initialization",
    packages=("torch", "keras"),
    variants={"": prepare},
    sizes=("small", "large", "images"),
)
