"""Run folders and a browser for the report's tests."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from descend.report import write


def _beside(name: str) -> ModuleType:
    """A module of this folder; tests are imported by path and so have no package to import it from."""
    full = f"report_tests_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None and spec.loader is not None
        sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules[full]


@pytest.fixture(scope="session")
def runs() -> ModuleType:
    """The generator of run folders."""
    return _beside("runs")


@pytest.fixture(scope="session")
def reported(runs: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The path of a named run's report, written once."""
    made: dict[str, Path] = {}

    def report(name: str) -> Path:
        if name not in made:
            made[name] = write(runs.save(runs.RUNS[name](), tmp_path_factory.mktemp(name) / name))
        return made[name]

    return report


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A running chromium; without one the test is skipped."""
    module = _beside("browser")
    program = module.find()
    if program is None:
        pytest.skip("no chromium on this machine, so the report was not tested in a browser")
    with module.running(program) as started:
        yield started
