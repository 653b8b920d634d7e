"""State files are exact, and damaged ones are rejected."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

from descend.errors import CheckpointError
from descend.training.state import clone, decode, encode, read_state, to_bytes

tensors = npst.arrays(
    st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_]),
    npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
).map(lambda array: torch.from_numpy(np.array(array)))
leaves = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(max_size=5) | tensors
)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=4) | st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=12,
)


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return (
            isinstance(b, torch.Tensor)
            and a.dtype == b.dtype
            and a.shape == b.shape
            and a.numpy().tobytes() == b.numpy().tobytes()
        )
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    return type(a) is type(b) and a == b


@settings(deadline=None, max_examples=examples(60))
@given(trees)
def test_a_tree_is_read_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, tree: object) -> None:
    path = tmp_path_factory.mktemp("state") / "state.safetensors"
    path.write_bytes(to_bytes({"tree": tree}, {"step": 3}))
    back, meta = read_state(path)
    assert same(back["tree"], tree)
    assert meta == {"step": 3}
    assert same(decode(*encode(tree)), tree)
    assert to_bytes(back, meta) == path.read_bytes()  # equal states yield equal files


def test_optimizer_states_are_restored() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    for optimizer in (
        torch.optim.Adam([weight], amsgrad=True),
        torch.optim.LBFGS([weight]),
        torch.optim.Rprop([weight]),
    ):
        weight.grad = torch.arange(3.0)
        optimizer.step(lambda: weight.sum().detach())
        state = optimizer.state_dict()
        assert same(decode(*encode(state)), state)


def test_unsupported_values_are_rejected() -> None:
    with pytest.raises(CheckpointError, match=r"state at 'a\.b' is a object"):
        encode({"a": {"b": object()}})


@settings(deadline=None, max_examples=examples(80))
@given(st.data())
def test_any_damage_is_detected(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = bytearray(to_bytes({"w": torch.arange(6.0), "step": 3}))
    path = tmp_path_factory.mktemp("state") / "state.safetensors"
    if data.draw(st.booleans(), label="cut short"):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        back, _ = read_state(path)
    except CheckpointError:
        return
    # A changed space in the padding of the header has no effect.
    assert same(back, {"w": torch.arange(6.0), "step": 3})


def test_a_file_of_a_newer_version_is_rejected(tmp_path: Path) -> None:
    content = to_bytes({"step": 1})
    newer = content.replace(b'\\\\\\"format\\\\\\": 1', b'\\\\\\"format\\\\\\": 9')
    assert newer != content
    (tmp_path / "state").write_bytes(newer)
    with pytest.raises(CheckpointError, match="newer version"):
        read_state(tmp_path / "state")


def test_another_safetensors_file_is_rejected(tmp_path: Path) -> None:
    import safetensors.torch

    safetensors.torch.save_file({"w": torch.ones(1)}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="not a checkpoint of descend"):
        read_state(tmp_path / "w.safetensors")


def test_a_clone_shares_no_memory() -> None:
    tree: dict[str, Any] = {"w": torch.ones(2), "l": [torch.zeros(1)]}
    copy = clone(tree)
    tree["w"].add_(1)
    tree["l"][0].add_(1)
    assert copy["w"].tolist() == [1, 1]
    assert copy["l"][0].item() == 0
    assert json.dumps(encode(copy)[1])


def test_a_single_number_with_any_stride_is_stored(tmp_path: Path) -> None:
    number = torch.as_strided(torch.arange(10.0), (1,), (7,), 3)
    assert number.stride() == (7,)
    path = tmp_path / "state"
    path.write_bytes(to_bytes({"number": number}))
    assert read_state(path)[0]["number"].tolist() == [3.0]
