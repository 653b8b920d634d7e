"""Recipes in TOML: values round-trip, and invalid text is refused with a message."""

from __future__ import annotations

import tomllib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import recipe_strategies as strategies
from tests.support.examples import examples

from descend.errors import UserError
from descend.recipe.toml import dump, parse, parse_assignment, parse_value, path_of

plain = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False),
        strategies.names,
        st.dates(),
        st.datetimes(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(strategies.names, inner, max_size=3)
    ),
    max_leaves=6,
)
sections = st.dictionaries(
    st.text("az_", min_size=1, max_size=4), st.dictionaries(strategies.names, plain, max_size=4), max_size=3
)


class TestDump:
    @settings(deadline=None, max_examples=examples(80))
    @given(sections)
    def test_round_trip(self, content):
        assert tomllib.loads(dump(content, {})) == content

    @settings(deadline=None, max_examples=examples(40))
    @given(sections, st.data())
    def test_comments_change_nothing(self, content, data):
        paths = [f"{section}.{key}" for section, values in content.items() for key in values]
        printable = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=9)
        comments = {path: data.draw(printable) for path in paths}
        assert tomllib.loads(dump(content, comments)) == content

    def test_a_comment_is_joined_into_one_line(self):
        assert dump({"a": {"b": 1}}, {"a.b": "one\n c = 2\r\n three"}) == "[a]\nb = 1  # one c = 2 three\n"

    def test_values_that_toml_lacks(self):
        text = dump(
            {"a": {"nothing": None, "pair": (1, 2), "made": torch.nn.Mish, "inner": {"none": None}}}, {}
        )
        assert tomllib.loads(text)["a"] == {
            "nothing": "none",
            "pair": [1, 2],
            "made": "torch.nn.modules.activation:Mish",
            "inner": {"none": "none"},
        }

    @given(st.floats(allow_nan=False, allow_infinity=False))
    @settings(deadline=None)
    def test_numbers_round_trip_exactly(self, number):
        assert tomllib.loads(dump({"a": {"b": number}}, {}))["a"]["b"].hex() == number.hex()


class TestParse:
    @settings(deadline=None)
    @given(st.text())
    def test_any_text_is_toml_or_refused(self, text):
        try:
            found = parse(text)
        except UserError as refused:
            assert "TOML" in str(refused)
        else:
            assert found == tomllib.loads(text)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a = [" + "[" * 5000 + "]" * 5000 + "]", "nested too deeply"),
            ("a = " + "9" * 5000, "not valid TOML"),
            ("a = 2021-02-30", "not valid TOML"),
            ("[a]\n[a]", "not valid TOML"),
            ("a = 1\na = 2", "not valid TOML"),
        ],
    )
    def test_invalid_toml(self, text, message):
        with pytest.raises(UserError, match=message):
            parse(text)


class TestParseAssignment:
    @pytest.mark.parametrize(
        ("text", "path", "value"),
        [
            ("optimizer.lr=0.1", "optimizer.lr", 0.1),
            (" optimizer.lr = 1e-3 ", "optimizer.lr", 0.001),
            ("optimizer.name=sgd", "optimizer.name", "sgd"),
            ("optimizer.name='sgd'", "optimizer.name", "sgd"),
            ("optimizer.nesterov=true", "optimizer.nesterov", True),
            ("model.hidden=[64, 64]", "model.hidden", [64, 64]),
            ("model.activation={name='elu', alpha=2}", "model.activation", {"name": "elu", "alpha": 2}),
            ("model.activation.alpha=2.0", "model.activation.alpha", 2.0),
            ("model.name=mine.nets:Net", "model.name", "mine.nets:Net"),
            ("engine.device=cuda:1", "engine.device", "cuda:1"),
            ("data.split=a=b", "data.split", None),
            ('data.columns."a = b"=ignore', "data.columns.a = b", "ignore"),
            ("data.target='a = b'", "data.target", "a = b"),
        ],
    )
    def test_forms(self, text, path, value):
        if value is None:
            with pytest.raises(UserError, match="quote strings"):
                parse_assignment(text)
        else:
            assert parse_assignment(text) == (path, value)

    @pytest.mark.parametrize(
        "text", ["", "lr", "lr=1", "=1", ".lr=1", "optimizer.=1", "a..b=1", "optimizer.lr"]
    )
    def test_not_an_assignment(self, text):
        with pytest.raises(UserError, match=r"expected section\.key=value"):
            parse_assignment(text)

    @pytest.mark.parametrize(
        "text", ["a.b=", "a.b=two words", "a.b=1\nc = 2", "a.b=$x", "a.b=[1", "a.b=" + "9" * 5000]
    )
    def test_not_a_value(self, text):
        with pytest.raises(UserError) as caught:
            parse_assignment(text)
        assert len(str(caught.value)) < 200

    @settings(deadline=None)
    @given(st.text(), st.text())
    def test_any_text_is_an_assignment_or_refused(self, path, value):
        try:
            found, _ = parse_assignment(f"{path}={value}")
        except UserError:
            return
        assert "." in found

    @settings(deadline=None, max_examples=examples(60))
    @given(plain)
    def test_every_value_can_be_assigned(self, value):
        text = dump({"a": {"b": value}}, {}).removeprefix("[a]\n").rstrip("\n")
        assert parse_assignment(f"a.{text}") == ("a.b", value)


@pytest.mark.parametrize(
    ("value", "path"),
    [(torch.optim.NAdam, "torch.optim.nadam:NAdam"), (len, "builtins:len"), (3, 3), ("x", "x"), (None, None)],
)
def test_path_of(value, path):
    assert path_of(value) == path


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("", 'the value is empty; an empty string is ""'),
        ("[64, 64", "the value '[64, 64' does not end with ']'"),
        ('{name = "sgd"', "the value '{name = \"sgd\"' does not end with '}'"),
        ("[flip, noise]", 'the strings in the list \'[flip, noise]\' need quotes, as in ["flip", "noise"]'),
        (
            "a b",
            "the value 'a b' is neither TOML nor a bare word; quote strings that contain spaces or symbols",
        ),
    ],
)
def test_what_is_wrong_with_a_value(raw, message):
    with pytest.raises(UserError) as caught:
        parse_value(raw)
    assert str(caught.value) == message
