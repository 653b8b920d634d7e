"""Parameters of constructors: how they are read, described and checked."""

from __future__ import annotations

import inspect
import math
import tomllib
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import torch
from annotated_types import Ge, Le
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import recipe_strategies as strategies
from tests.support.examples import examples

from descend.param_types import (
    MISSING,
    Count,
    Fraction,
    Natural,
    NonNegative,
    Parameter,
    Positive,
    Probability,
    Share,
    check,
    describe,
    of_constructor,
)
from descend.recipe.parameters import of_settings
from descend.recipe.toml import dump


def parameter(annotation: Any) -> Parameter:
    return Parameter("key", annotation, None, "owner")


def fault(annotation: Any, value: Any) -> str | None:
    return check(parameter(annotation), value)[1]


class TestCheck:
    @pytest.mark.parametrize(
        ("annotation", "value", "taken"),
        [
            (Positive, 1, 1.0),
            (Positive, 5e-324, 5e-324),
            (NonNegative, 0, 0.0),
            (Fraction, 0.999, 0.999),
            (Count, 1, 1),
            (Count, 10**30, 10**30),
            (Natural, 0, 0),
            (bool, True, True),
            (str, "", ""),
            (tuple[Count, ...], [3, 4], (3, 4)),
            (tuple[Count, ...], (), ()),
            (tuple[Fraction, Fraction], [0, 0.5], (0.0, 0.5)),
            (Literal["a", "b"], "b", "b"),
            (Count | Literal["auto"], "auto", "auto"),
            (Positive | None, "none", None),
            (Positive | None, None, None),
            (str | None, "none", None),
            (Positive | Literal["none"], "none", "none"),
            (Literal["none", "some"] | None, "none", "none"),
            (Mapping[str, Literal["x"]], {"a": "x"}, {"a": "x"}),
            (str | Callable[..., Any], "relu", "relu"),
            (Any, object, object),
            (Any, None, None),
            (Any, (1, "a", {"b": np.float32(0.5)}), [1, "a", {"b": 0.5}]),
            (Positive, np.float64(0.5), 0.5),
            (Positive, np.float32(0.5), 0.5),
            (Count, np.int64(3), 3),
            (Positive, torch.tensor(0.5), 0.5),
        ],
    )
    def test_accepted(self, annotation, value, taken):
        found, problem = check(parameter(annotation), value)
        assert problem is None
        assert (found, type(found)) == (taken, type(taken))

    def test_a_function_where_one_is_allowed(self):
        assert check(parameter(str | Callable[..., Any]), torch.nn.Mish) == (torch.nn.Mish, None)
        assert "got a function or class" in fault(str, torch.nn.Mish)

    @pytest.mark.parametrize(
        "annotation", [Positive, Count, Natural, Fraction, Share, Probability, float, int]
    )
    def test_a_bool_is_not_a_number(self, annotation):
        assert fault(annotation, True).endswith("got true")
        assert fault(annotation, False).endswith("got false")

    @pytest.mark.parametrize("annotation", [Count, Natural, int, Count | Literal["auto"]])
    def test_a_float_is_not_an_integer(self, annotation):
        assert fault(annotation, 2.0).endswith("got 2.0")
        several = tuple[annotation, ...]  # type: ignore[valid-type]  # made at run time
        assert fault(several, [1, 2.0]).endswith("got [1, 2.0]")

    @pytest.mark.parametrize("value", [1, 0, "true", None])
    def test_only_bools_are_bools(self, value):
        assert fault(bool, value).startswith("expected true or false")

    @pytest.mark.parametrize(
        "annotation", [Positive, NonNegative, float, Positive | None, float | str, Count]
    )
    @pytest.mark.parametrize(
        "value", [math.nan, math.inf, -math.inf, 1e400, np.float32("nan"), torch.tensor(math.inf)]
    )
    def test_numbers_are_finite(self, annotation, value):
        assert fault(annotation, value)

    @pytest.mark.parametrize(
        "value", [object(), torch.float64, {1, 2}, np.zeros(2), torch.zeros(2), 1j, b"x", "\ud800"]
    )
    def test_what_toml_cannot_hold(self, value):
        assert fault(Any, value).startswith("expected a number, a string, a list, a table or a class, got ")
        assert fault(Positive, value)

    def test_nested_values_are_checked(self):
        assert fault(Any, {"a": [math.nan]})
        assert fault(tuple[Fraction, Fraction], [math.nan, 0.9])
        assert fault(dict[str, Any], {"alpha": math.inf})
        assert fault(str | dict[str, Any] | Callable[..., Any], {"alpha": [math.nan]})

    @pytest.mark.parametrize(
        ("annotation", "inside", "outside"),
        [
            (Positive, 1e-300, 0),
            (NonNegative, 0, -1e-300),
            (Fraction, 0, 1),
            (Fraction, 1 - 2**-53, -1e-9),
            (Probability, 1, 1 + 2**-52),
            (Share, 1e-300, 0),
            (Share, 1 - 2**-53, 1),
            (Count, 1, 0),
            (Natural, 0, -1),
            (Annotated[int, Ge(1), Le(4)], 4, 5),
        ],
    )
    def test_bounds_of_domains(self, annotation, inside, outside):
        assert fault(annotation, inside) is None
        assert fault(annotation, outside).startswith(f"expected {describe(annotation)}, got")

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            ("x", "the string 'x'"),
            ("\ud800", "the string '\\ud800'"),
            ((1, 2), "[1, 2]"),
            (None, "None"),
            (-1, "-1"),
            (math.nan, "nan (numbers must be finite)"),
            ([9] * 99, "[" + "9, " * 18 + "9,..."),
            pytest.param(10**6000, "an integer too large to show", id="digits"),
        ],
    )
    def test_the_value_is_shown_and_can_be_printed(self, value, shown):
        message = fault(Positive, value)
        assert message == f"expected a number above 0, got {shown}"
        message.encode()

    def test_recursive_lists(self):
        endless: list[Any] = []
        endless.append(endless)
        assert fault(tuple[Count, ...], endless)

    @settings(deadline=None, max_examples=examples(150))
    @given(
        st.sampled_from(
            [Positive, Count, bool, str, Count | None, tuple[Count, ...], tuple[Fraction, Fraction], Any,
             Mapping[str, Literal["a"]], str | dict[str, Any] | Callable[..., Any], float | torch.Tensor]
        ),
        strategies.nonsense,
    )  # fmt: skip
    def test_any_value_is_accepted_or_refused_with_a_message(self, annotation, value):
        taken, problem = check(parameter(annotation), value)
        if problem is None and not callable(taken):
            again, still = check(parameter(annotation), taken)
            assert still is None
            assert again == taken
            assert tomllib.loads(dump({"a": {"b": taken}}, {}))
        elif problem is not None:
            assert problem.startswith("expected ")
            problem.encode()

    @pytest.mark.parametrize("path", ["torch.optim.NAdam", "torch.optim.LBFGS", "torch.nn.CrossEntropyLoss",
                                      "torch.optim.lr_scheduler.LambdaLR", "torch.nn.Transformer"])  # fmt: skip
    def test_any_type_of_a_constructor_is_handled(self, path):
        module, _, name = path.rpartition(".")
        subject = getattr(__import__(module, fromlist=[name]), name)
        for each in of_constructor(subject, []).values():
            for value in (1, 0.5, "x", "none", [1, 2], {"a": 1}, None, True, len):
                check(each, value)
            describe(each.annotation)

    def test_a_default_is_a_valid_value(self):
        lr = of_constructor(torch.optim.NAdam, ["params"])["lr"]
        assert check(lr, 0.1) == (0.1, None)
        assert "got true" in check(lr, True)[1]


class TestDescribe:
    @pytest.mark.parametrize(
        ("annotation", "description"),
        [
            (Positive, "a number above 0"),
            (Share, "a number above 0 and below 1"),
            (Probability, "a number >= 0 and <= 1"),
            (bool, "true or false"),
            (bool | None, 'true or false, or "none"'),
            (str, "a string"),
            (Literal["a"], '"a"'),
            (Literal["a", "b", "c"], '"a", "b" or "c"'),
            (Count | Literal["auto"] | None, 'an integer >= 1, "auto", or "none"'),
            (tuple[Count, ...], "a list of integers >= 1"),
            (tuple[Fraction, Fraction], "a list of 2: a number >= 0 and below 1, a number >= 0 and below 1"),
            (Mapping[str, str], "a table"),
            (list[typing.Optional[int]], None),  # noqa: UP045 - an old form, as in others' code
            (Callable[..., Any], "a function"),
        ],
    )
    def test_description(self, annotation, description):
        assert description is None or describe(annotation) == description
        assert describe(annotation)


class TestOfConstructor:
    def test_context_and_self_are_not_keys(self):
        class Net:
            def __init__(self, inputs: int, outputs: int, *, width: Count = 3, deep=False):
                pass

        found = of_constructor(Net, ["inputs", "outputs"])
        assert found == {
            "width": Parameter("width", Count, 3, "Net"),
            "deep": Parameter("deep", Any, False, "Net"),
        }

    def test_parameters_without_a_default(self):
        def made(params, lr: Positive, *more): ...

        assert of_constructor(made, ["params"]) == {"lr": Parameter("lr", Positive, MISSING, "made")}

    def test_any_keyword_means_unknown_keys(self):
        assert of_constructor(lambda params, **rest: None, ["params"]) is None

    def test_constructors_without_a_signature(self):
        assert of_constructor(dict, []) is None

    def test_annotations_that_cannot_be_resolved(self):
        # A name that cannot be resolved is what is tested.
        def made(*, width: "NoSuchType" = 3): ...  # type: ignore[name-defined]  # noqa: F821, UP037

        assert of_constructor(made, [])["width"].annotation is Any


def test_of_settings():
    @dataclass(frozen=True, kw_only=True)
    class Settings:
        width: int = 3
        names: dict[str, str] = field(default_factory=dict)

    assert of_settings(Settings) == {
        "width": Parameter("width", int, 3, "Settings"),
        "names": Parameter("names", dict[str, str], {}, "Settings"),
    }


def test_missing_is_the_default_of_inspect():
    assert MISSING is inspect.Parameter.empty


def test_an_invalid_value_of_a_table_is_named_with_its_key():
    kinds = Parameter("columns", Mapping[str, Literal["numeric", "date"] | Mapping[str, str]], {}, "data")
    assert check(kinds, {"a": "date", "b": {"kind": "date"}}) == ({"a": "date", "b": {"kind": "date"}}, None)
    assert check(kinds, {"a": "date", "b": "dat"})[1] == (
        "expected \"numeric\" or \"date\", or a table, got the string 'dat', for the key 'b'"
    )
    assert check(kinds, 5)[1] == "expected a table, got 5"
