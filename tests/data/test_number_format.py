import math
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from descend.data.number_format import (
    different_units,
    find_decimal,
    has_codes,
    integers,
    parse,
    written_otherwise,
)
from descend.errors import DataError


def column(*cells, name="x"):
    return pl.Series(name, cells, dtype=pl.String)


def grouped(digits, sizes):
    """Return digits in groups: the last of the first size, all others of the second."""
    groups = [digits[-sizes[0] :]]
    rest = digits[: -sizes[0]]
    while rest:
        groups.insert(0, rest[-sizes[1] :])
        rest = rest[: -sizes[1]]
    return groups


@st.composite
def written_numbers(draw):
    """A number as text in some format, with the value that decimal arithmetic gives it."""
    mark = draw(st.sampled_from(["point", "comma"]))
    separators = [",", "", " ", "\u00a0", "\u202f", "'", "’"]
    separator = draw(st.sampled_from(separators)).replace(",", "," if mark == "point" else ".")
    lakhs = draw(st.booleans()) and mark == "point" and separator == ","
    unit = draw(st.sampled_from(["", "$", "€", "%", "CHF", "kr"]))
    texts, values = [], []
    for _ in range(draw(st.integers(1, 6))):
        integer = str(draw(st.integers(0, 10**12)))
        decimals = draw(st.text("0123456789", max_size=6))
        negative = draw(st.sampled_from(["", "-", "−", "()", "trailing"]))
        body = separator.join(grouped(integer, (3, 2 if lakhs else 3))) if separator else integer
        if decimals:
            body += {"point": ".", "comma": ","}[mark] + decimals
        body = draw(st.sampled_from([f"{unit}{body}", f"{body} {unit}", f"{body}{unit}"])).strip()
        texts.append({"()": f"({body})", "trailing": f"{body}-", "": body}.get(negative, f"{negative}{body}"))
        values.append(float(Decimal(f"{'-' if negative else ''}{integer}.{decimals or 0}")))
    return mark, texts, values


@given(written_numbers())
def test_numbers_in_any_format_have_their_true_values(case):
    mark, texts, values = case
    numbers, invalid, _ = parse(column(*texts), mark)
    assert not invalid.any()
    assert numbers.to_list() == values


@given(written_numbers())
def test_the_decimal_mark_is_found_or_the_cells_are_shown(case):
    _, texts, values = case
    cells = column(*texts)
    try:
        found = find_decimal([cells], prior=None)
    except DataError as refusal:
        assert "data.decimal" in str(refusal)
        assert "'x'" in str(refusal)
        return
    for one in ("point", "comma") if found is None else (found,):  # both readings agree if no cell has a mark
        assert parse(cells, one)[0].to_list() == values


@pytest.mark.parametrize(
    ("cells", "mark"),
    [
        (["1.250", "1.234,56"], "comma"),
        (["1,250", "1,234.56"], "point"),
        (["1.234.567", "12"], "comma"),
        (["1,234,567"], "point"),
        (["0.125", "1.250"], "point"),
        (["0,125", "1,250"], "comma"),
        (["1250", "1.250"], "point"),  # 1250 has no separator of thousands
        (["12", "1 234"], None),
        (["12:30", "x"], None),
        (["31.12.2021"], None),
    ],
)
def test_the_decimal_mark_of_a_column(cells, mark):
    assert find_decimal([column(*cells)]) == mark


def test_other_columns_decide_what_a_column_leaves_open():
    amounts, prices = column("1.250", "950", name="amount"), column("3,10", name="price")
    assert find_decimal([amounts, prices]) == "comma"
    assert find_decimal([amounts, column("3.10", name="price")]) == "point"


@pytest.mark.parametrize(
    ("cells", "prior"),
    [(["1.250", "950"], "point"), (["1.250", "950"], None), (["1,250"], None), (["1.250"], None)],
)
def test_cells_that_may_be_thousands_or_decimals_are_refused(cells, prior):
    with pytest.raises(
        DataError, match=r"f\.csv: column 'x' \('1[.,]250'.* no cell decides it.*data\.decimal"
    ):
        find_decimal([column(*cells)], prior=prior, where="f.csv")


def test_a_prior_decides_only_what_is_plausible():
    assert find_decimal([column("1,250", "950")], prior="point") == "point"
    assert find_decimal([column("1.250", "2.375")], prior="point") == "point"


def test_contradictions_are_refused_with_the_cells():
    with pytest.raises(
        DataError, match=r"column 'a' \('1,5'\) has decimal commas, but column 'b' \('2\.5'\)"
    ):
        find_decimal([column("1,5", name="a"), column("2.5", name="b")])
    with pytest.raises(DataError, match=r"column 'x' contains numbers with decimal points \('2\.5'\)"):
        find_decimal([column("1,5", "2.5")])


def test_percentages_are_not_mixed_with_other_numbers_but_currencies_may_be_missing():
    numbers, invalid, unit = parse(column("12 %", "0.5"))
    assert invalid.any()
    assert different_units(column("12 %", "0.5"), "point") == ["", "%"]
    numbers, invalid, unit = parse(column("$1,185", "3.10"))
    assert (numbers.to_list(), invalid.any(), unit) == ([1185.0, 3.1], False, "$")
    assert parse(column("€5"), "point", "$")[1].to_list() == [True]
    assert parse(column("5"), "point", "%")[1].to_list() == [True]


@pytest.mark.parametrize(
    "cell", ["1,23", "1.2.3", "(3", "3)", "--3", "$3 €", "12 34", "1,234 567", "", "a", "1e", "0 123"]
)
def test_other_strings_are_not_numbers(cell):
    numbers, invalid, _ = parse(column(cell, "2.5"))
    assert invalid.to_list() == [True, False]
    assert numbers.to_list() == [None, 2.5]


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["point", "comma"]))
def test_numbers_as_python_and_spreadsheets_write_them_are_exact(value, mark):
    text = repr(value).replace(".", "." if mark == "point" else ",")
    (number,) = parse(column(text), mark)[0].to_list()
    assert number == value
    assert math.copysign(1, number) == math.copysign(1, value)


def test_integers_of_any_format_stay_integers():
    assert integers(column("1.234", "9.007.199.254.740.993"), "comma").to_list() == [1234, 2**53 + 1]
    assert integers(column(str(2**100))).to_list() == [2**100]
    assert integers(column("1.5")) is None
    assert integers(column("1.0")) is None


def test_codes_are_digits_with_leading_zeros():
    assert has_codes(column("01001", "20095"))
    assert has_codes(column("01.11", "10.20"))
    assert not has_codes(column("0.5", "0", "00x"))
    assert not has_codes(column("-007"))


def test_numbers_with_the_other_mark_are_noticed():
    assert written_otherwise(column("1,5", "2,25"), "point")
    assert not written_otherwise(column("1,500"), "point")
    assert not written_otherwise(column("a", "b"), "point")


@pytest.mark.parametrize(
    ("cell", "mark", "number"),
    [
        ("78,-", "comma", 78),
        ("78,-", "point", 78),
        ("32.–", "point", 32),
        ("32.--", "point", 32),
        ("1.250,- €", "comma", 1250),
        ("-78,-", "comma", -78),
        ("78-", "point", -78),
        ("78.5-", "point", -78.5),
    ],
)
def test_a_dash_in_place_of_cents_is_no_sign(cell, mark, number):
    assert parse(column(cell), mark)[0].to_list() == [number]


@pytest.mark.parametrize("zero", [0x660, 0x6F0, 0x966, 0xFF10])
def test_digits_of_other_scripts(zero):
    translated = str.maketrans({str(digit): chr(zero + digit) for digit in range(10)})
    numbers = [0, 7, 1234567890, -35]
    cells = column(*(str(number).translate(translated) for number in numbers))
    assert parse(cells)[0].to_list() == numbers
    assert integers(cells).to_list() == numbers
    assert parse(column("١٬٢٣٤٫٥"))[0].to_list() == [1234.5]


def test_phone_numbers_are_codes():
    assert has_codes(column("+4930123", "004930", "0301"))
    assert not has_codes(column("+4930", "+41"))


THOUSANDS = ["1.250", "2.375", "8.001", "3.553", "4.910"]


@pytest.mark.parametrize(
    ("cells", "other", "refused"),
    [
        ([*THOUSANDS, "950"], "0.5", True),
        ([*THOUSANDS, "950"], "2,5", False),
        ([one.replace(".", ",") for one in [*THOUSANDS, "950"]], "2,5", True),
        ([one.replace(".", ",") for one in [*THOUSANDS, "950"]], "0.5", False),
        ([*THOUSANDS, "1250"], "0.5", False),
        (THOUSANDS, "0.5", False),
        ([*THOUSANDS[:4], "2"], "0.5", False),
        ([*THOUSANDS, "1.25", "2"], "0.5", False),
    ],
)
def test_thousands_next_to_decimals_with_the_same_mark_are_refused(cells, other, refused):
    columns = [column(*cells, name="a"), column(other, name="b")]
    mark = "comma" if "," in other else "point"
    if not refused:
        assert find_decimal(columns) == mark
        return
    message = (
        rf"'a' \('1.250', '2.375', .*looks like separators of thousands, but column 'b' \('{other}'\) has decimal {mark}s; "
        rf"if 1.250 is 1.25: {{'data.decimal': '{mark}'}}; if it is 1250, write"
    )
    with pytest.raises(DataError, match=message):
        find_decimal(columns)
