"""Tests that settings in messages can be pasted: into a shell, into a recipe, or into Python."""

from __future__ import annotations

import ast
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import descend
from descend.cli import main
from descend.errors import UserError
from descend.interface import command_line, in_command_line, option, resume_advice, setting
from descend.recipe import Recipe
from descend.recipe.toml import parse_assignment

VALUES = st.one_of(
    st.booleans(),
    st.integers(-(10**6), 10**6),
    st.floats(-1e3, 1e3).map(lambda value: float(f"{value:.5g}")),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8),
    st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=4), max_size=3),
    st.dictionaries(
        st.text("abc -é", max_size=4),
        st.one_of(st.text("xyz '\"%-", max_size=4), st.integers(-9, 9)),
        max_size=3,
    ),
)
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)


@given(name=NAMES, value=VALUES)
def test_the_option_is_valid_in_a_shell_and_as_toml(name: str, value: Any) -> None:
    with command_line():
        text = setting(("data", "columns", name), value)
    flag, assignment = shlex.split(text)
    assert flag == "--set"
    assert parse_assignment(assignment) == (f"data.columns.{name}", value)


@given(name=NAMES, value=VALUES)
def test_the_entry_is_python(name: str, value: Any) -> None:
    entry = ast.literal_eval(setting(("data", "columns", name), value))
    assert entry == {f"data.columns.{name}": value}


@given(name=NAMES)
def test_the_entry_is_that_of_a_recipe(name: str) -> None:
    entry = ast.literal_eval(setting(("data", "columns", name), "ignore"))
    assert Recipe.of(entry).data["columns"] == {name: "ignore"}


def test_the_words_are_those_of_the_interface(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "\n".join(f"{at},{at % 7 if at else 'oops'},{at % 2}" for at in range(60))
    (tmp_path / "d.csv").write_text("a,b,y\n" + rows, encoding="utf-8")
    assert main(["train", str(tmp_path / "d.csv"), "--target", "y", "--out", str(tmp_path / "r")]) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert "--set data.columns.b=categorical" in shown
    assert "{" not in shown
    with pytest.raises(UserError) as raised:
        descend.train(tmp_path / "d.csv", target="y")
    assert "{'data.columns.b': 'categorical'}" in str(raised.value)
    assert "--" not in str(raised.value)


def test_the_interface_ends_with_the_program() -> None:
    assert not in_command_line()
    main(["--version"])
    main(["train", "nothing.csv"])
    assert not in_command_line()
    with pytest.raises(ZeroDivisionError), command_line():
        raise ZeroDivisionError
    assert option("--x", "x=") == "x="
    assert resume_advice(None) == ""


def test_a_missing_target_names_the_argument() -> None:
    frame = {"a": np.arange(30.0), "b": np.arange(30.0)}
    with pytest.raises(UserError, match="target=COLUMN"):
        descend.train(frame)
