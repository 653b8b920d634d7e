"""Importing the library and training with it leave the global state of the process as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from descend.process import undisturbed


def test_nothing_global_is_changed() -> None:
    program = Path(__file__).with_name("global_state.py")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("KMP_", "_RJEM"))
    }
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    changes: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    assert len(changes) == 17
    assert {name: found for name, found in changes.items() if found} == {}


def test_what_a_library_sets_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KMP_INIT_AT_FORK", raising=False)
    monkeypatch.setenv("KMP_DUPLICATE_LIB_OK", "mine")

    @undisturbed
    def import_library() -> None:
        os.environ["KMP_INIT_AT_FORK"] = "FALSE"
        os.environ.setdefault("KMP_DUPLICATE_LIB_OK", "True")
        os.environ["OTHER"] = "kept"
        warnings.filterwarnings("default", "of a library")
        warnings.filterwarnings("ignore", "of a library about itself")
        raise KeyError

    monkeypatch.setenv("OTHER", "")
    before = list(warnings.filters)
    with pytest.raises(KeyError):
        import_library()
    assert "KMP_INIT_AT_FORK" not in os.environ
    assert (os.environ["KMP_DUPLICATE_LIB_OK"], os.environ["OTHER"]) == ("mine", "kept")
    added = [each for each in warnings.filters if each not in before]
    assert [each[0] for each in added] == ["ignore"]
