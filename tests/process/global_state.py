"""A program that compares the global state of the process before and after calls of the library, and prints changes."""

from __future__ import annotations

import csv
import json
import locale
import logging
import os
import random
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch


def state() -> dict[str, str]:
    """Everything global that a call could change, as text."""
    loggers = [logging.getLogger(name) for name in (None, "descend", "torch", "optuna", "py.warnings")]
    signals = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGPIPE", "SIGALRM")]
    found: dict[str, Any] = {
        "csv": csv.field_size_limit(),
        # A library's own filters that ignore its warnings remain.
        "filters": [each for each in warnings.filters if each[0] != "ignore"],
        "showwarning": warnings.showwarning,
        "environment": sorted(os.environ.items()),
        "folder": Path.cwd(),
        "path": sys.path,
        "default type": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "backends": (
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.deterministic,
            torch.backends.mkldnn.enabled,
            torch.backends.mha.get_fastpath_enabled(),
            torch.get_float32_matmul_precision(),
        ),
        "modes": (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
        ),
        "denormals": float(torch.tensor(1e-39) * 1.0),
        "numpy": (np.geterr(), np.geterrcall(), np.get_printoptions()),
        "signals": [signal.getsignal(number) for number in signals],
        "masked signals": signal.pthread_sigmask(signal.SIG_BLOCK, []),
        "locale": locale.setlocale(locale.LC_ALL),
        "python": random.getstate(),
        "numpy's generator": np.random.get_state(),  # noqa: NPY002 - the global generator
        "torch's generator": torch.get_rng_state().tolist(),
        "logging": [(one.level, one.handlers, one.disabled) for one in loggers[:-2]],
        "disabled logging": logging.root.manager.disable,
        "hooks": (sys.excepthook, sys.unraisablehook, sys.displayhook, sys.gettrace(), sys.getprofile()),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "interpreter": (sys.getrecursionlimit(), sys.getswitchinterval()),
    }
    return {name: repr(value) for name, value in found.items()}


def changes(action: Callable[[], object]) -> list[str]:
    """Return the names of what an action changed."""
    before = state()
    try:
        action()
    except Exception as failure:
        if "descend" not in type(failure).__module__:
            raise
    after = state()
    return [f"{name}: {before[name]} became {after[name]}" for name in before if before[name] != after[name]]


def observer(training: Any, record: Any) -> None:
    """Fail in the first epoch."""
    raise ValueError("no")


def main() -> None:
    """Print the changes of each action as JSON."""
    os.chdir(tempfile.mkdtemp())
    random.seed(1)
    np.random.seed(2)  # noqa: NPY002 - the global generator
    torch.manual_seed(3)
    recipe: dict[str, Any] = {"stop": {"max_epochs": 2}, "model": {"dropout": 0.1}}
    x, y = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 2
    Path("t.csv").write_text("a,b,y\n" + "".join(f'{k % 7},"u{k % 2}\nv",{k % 3}\n' for k in range(60)))
    torch.set_num_threads(1)

    def library() -> Any:
        import descend

        return descend

    vary = {"optimizer.name": ["sgd", "adam"]}
    actions: dict[str, Callable[[], object]] = {
        "import": library,
        "train": lambda: library().train("iris", recipe, out="run"),
        "table": lambda: library().train("t.csv", recipe, target="y"),
        "load": lambda: library().load("run").predict(x),
        "report": lambda: library().load("run").report(),
        "diverged": lambda: library().train("iris", {"optimizer": {"name": "sgd", "lr": 1e30}}),
        "refused": lambda: library().train("iris", {"nonsense": 1}),
        "import path": lambda: library().train("iris", {"loss": {"name": "nowhere:Loss"}}),
        "observer": lambda: library().train("iris", recipe, observers=[observer]),
        "many": lambda: library().train_many([recipe] * 3, "iris"),
        "workers": lambda: library().train_many([recipe] * 2, "iris", engine="loop", workers=2),
        "compare": lambda: library().compare("iris", vary, recipe=recipe, seeds=2, tune=1),
        "search": lambda: library().search("iris", recipe, trials=2),
        "folds": lambda: library().cross_validate("iris", recipe, folds=2),
        "classifier": lambda: library().Classifier(max_epochs=1, random_state=0).fit(x, y).predict(x),
        "pieces": lambda: (
            library().Classifier(max_epochs=1, random_state=0).partial_fit(x, y, classes=[0, 1])
        ),
        "restarts": lambda: library().train("iris", {**recipe, "init": {"restarts": 2}}),
    }
    print(json.dumps({name: changes(action) for name, action in actions.items()}))


if __name__ == "__main__":
    main()
