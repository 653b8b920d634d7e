"""Reading a ``pt2`` file executes nothing from it, and errors state what is wrong."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import nn

import descend
from descend.errors import RunError
from descend.export import load_exported
from descend.export.archive import _operation

QUICK = {"stop": {"max_epochs": 1}, "engine": {"threads": 1}}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return descend.train("iris", QUICK).export("pt2", tmp_path_factory.mktemp("small"))


def rewritten(path: Path, into: Path, change: Any) -> Path:
    """Return the archive with changed files: ``change(name, content)`` returns the new content."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(into / path.name, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return into / path.name


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.slow
def test_reading_a_pt2_file_never_unpickles(small: Path, tmp_path: Path) -> None:
    bomb = tmp_path / "executed"
    held = io.BytesIO()
    torch.save({"it": Bomb(bomb)}, held)

    def pickled(name: str, content: bytes) -> bytes:
        return held.getvalue() if name.endswith("sample_inputs/model.pt") else content

    path = rewritten(small, tmp_path, pickled)
    assert load_exported(path).predict("iris").shape == (150,)
    assert not bomb.exists()
    with pytest.raises(Exception):  # noqa: B017 - negative control: PyTorch's reader runs it
        torch.export.load(path)
    assert bomb.exists()


def test_pickled_weights_are_refused(small: Path, tmp_path: Path) -> None:
    bomb = tmp_path / "executed"

    def pickled(name: str, content: bytes) -> bytes:
        if name.endswith("weights_config.json"):
            return content.replace(b'"use_pickle": false', b'"use_pickle": true')
        return pickle.dumps(Bomb(bomb)) if "/weights/weight_" in name else content

    with pytest.raises(RunError, match="pickled tensors"):
        load_exported(rewritten(small, tmp_path, pickled))
    assert not bomb.exists()


@pytest.mark.parametrize(
    "target",
    [
        "torch.hub.load",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.relu_.default",
        "_operator.call",
        "os",
    ],
)
def test_other_operations_are_refused(target: str, small: Path, tmp_path: Path) -> None:
    def replaced(name: str, content: bytes) -> bytes:
        return content.replace(b"torch.ops.aten.addmm.default", target.encode())

    with pytest.raises(RunError, match=f"the operation {target}"):
        load_exported(rewritten(small, tmp_path, replaced))
    assert _operation("torch.ops.aten.relu.default") is torch.ops.aten.relu.default


@pytest.mark.slow
def test_unsupported_operations_are_refused_with_advice(tmp_path: Path) -> None:
    class Uncommon(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.logcumsumexp(super().forward(x), dim=1)

    run = descend.train("iris", QUICK, model=Uncommon(4, 3))
    path = run.export("pt2", tmp_path)
    with pytest.raises(RunError, match=r"logcumsumexp.* If you trust the file, use torch.export.load"):
        load_exported(path)
    codes, _ = torch.export.load(path).module()(run.schema.matrix([[5.1, 3.5, 1.4, 0.2]]))
    assert run.schema.labels[codes.numpy()].tolist() == run.predict([[5.1, 3.5, 1.4, 0.2]]).tolist()


def test_damaged_and_foreign_files_are_refused(small: Path, tmp_path: Path) -> None:
    content = small.read_bytes()
    other = tmp_path / "model.pt2"
    for cut in (0, 10, 1000, len(content) // 2, len(content) - 10):
        other.write_bytes(content[:cut])
        with pytest.raises(RunError):
            load_exported(other)
    with pytest.raises(RunError, match="No such file"):
        load_exported(tmp_path / "absent.pt2")

    def newer(name: str, held: bytes) -> bytes:
        if not name.endswith("models/model.json"):
            return held
        return json.dumps(json.loads(held) | {"schema_version": {"major": 99, "minor": 0}}).encode()

    with pytest.raises(RunError, match="got version 99 of the format"):
        load_exported(rewritten(small, tmp_path, newer))
    for name in ("models/model.json", "weights/weight_2", "constants/model_constants_config.json"):
        with pytest.raises(RunError, match="damaged"):
            load_exported(
                rewritten(small, tmp_path, lambda each, held, n=name: held[:30] if n in each else held)
            )
    onnx.save(onnx.ModelProto(ir_version=10), tmp_path / "it.onnx")
    with pytest.raises(RunError, match="onnxruntime"):
        load_exported(tmp_path / "it.onnx")
