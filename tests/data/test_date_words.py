"""Notations of dates other than ISO 8601, against the calendar of Python's ``datetime``."""

import datetime as dt

import numpy as np
import polars as pl
import pytest

from descend.data import prepare, read
from descend.data.columns import infer
from descend.data.date_words import MONTHS, rewritten
from descend.data.schema import Schema
from descend.data.settings import DataSettings

DATES = [dt.datetime(2020, 12, 28, 14, 5) + dt.timedelta(days=11 * at) for at in range(40)]
EPOCH = dt.datetime(1970, 1, 1)
GERMAN = [
    "Januar",
    "Februar",
    "März",
    "April",
    "Mai",
    "Juni",
    "Juli",
    "August",
    "September",
    "Oktober",
    "November",
    "Dezember",
]
FRENCH = [
    "janvier",
    "février",
    "mars",
    "avril",
    "mai",
    "juin",
    "juillet",
    "août",
    "septembre",
    "octobre",
    "novembre",
    "décembre",
]
SPANISH = [
    "enero",
    "febrero",
    "marzo",
    "abril",
    "mayo",
    "junio",
    "julio",
    "agosto",
    "septiembre",
    "octubre",
    "noviembre",
    "diciembre",
]


def schema_of(cells, **settings):
    data = {"a": cells, "z": np.arange(len(cells)) ** 2, "y": np.arange(len(cells)) * 1.5}
    return Schema.from_json(prepare(read(data, target="y"), DataSettings(**settings)).schema.to_json())


def monday(one):
    return one.replace(hour=0, minute=0) - dt.timedelta(days=one.weekday())


def first(one, months=1):
    return one.replace(month=(one.month - 1) // months * months + 1, day=1, hour=0, minute=0)


def midnight(one):
    return one.replace(hour=0, minute=0)


def same(one):
    return one


NOTATIONS = {
    "2021-W05": (lambda one: one.strftime("%G-W%V"), monday),
    "2021W05": (lambda one: one.strftime("%GW%V"), monday),
    "2021-W05-3": (lambda one: one.strftime("%G-W%V-%u"), midnight),
    "W5 2021": (lambda one: f"W{one.isocalendar().week} {one.isocalendar().year}", monday),
    "KW 05/2021": (lambda one: one.strftime("KW %V/%G"), monday),
    "2021 week 5": (lambda one: f"{one.isocalendar().year} week {one.isocalendar().week}", monday),
    "2021Q3": (lambda one: f"{one.year}Q{(one.month + 2) // 3}", lambda one: first(one, 3)),
    "Q3 2021": (lambda one: f"Q{(one.month + 2) // 3} {one.year}", lambda one: first(one, 3)),
    "Q3/21": (lambda one: f"Q{(one.month + 2) // 3}/{one:%y}", lambda one: first(one, 3)),
    "3Q21": (lambda one: f"{(one.month + 2) // 3}Q{one:%y}", lambda one: first(one, 3)),
    "01/2021": (lambda one: one.strftime("%m/%Y"), first),
    "1-2021": (lambda one: f"{one.month}-{one.year}", first),
    "Jan-21": (lambda one: one.strftime("%b-%y"), first),
    "2021 01 31": (lambda one: one.strftime("%Y %m %d"), midnight),
    "31 01 2021": (lambda one: one.strftime("%d %m %Y"), midnight),
    "2021:01:31 14:05": (lambda one: one.strftime("%Y:%m:%d %H:%M"), same),
    "2021. 1. 31.": (lambda one: f"{one.year}. {one.month}. {one.day}.", midnight),
    "31.1.2021.": (lambda one: f"{one.day}.{one.month}.{one.year}.", midnight),
    "2021年1月31日": (lambda one: f"{one.year}年{one.month}月{one.day}日", midnight),
    "2021年1月31日 14時05分": (lambda one: f"{one.year}年{one.month}月{one.day}日 {one:%H時%M分}", same),
    "2021년 1월 31일": (lambda one: f"{one.year}년 {one.month}월 {one.day}일", midnight),
    "31. Januar 2021, 14:05 Uhr": (
        lambda one: f"{one.day}. {GERMAN[one.month - 1]} {one.year}, {one:%H:%M} Uhr",
        same,
    ),
    "31 janv. 2021": (lambda one: f"{one.day} {FRENCH[one.month - 1]} {one.year}", midnight),
    "31 de enero de 2021": (lambda one: f"{one.day} de {SPANISH[one.month - 1]} de {one.year}", midnight),
    "Mo, 31.01.2021": (lambda one: f"{['Mo', 'Di', 'Mi', 'Do', 'Fr', 'Sa', 'So'][one.weekday()]}, {one:%d.%m.%Y}", midnight),
    "31/01/2021 14h05": (lambda one: one.strftime("%d/%m/%Y %Hh%M"), same),
    "2021-01-31 14": (lambda one: one.strftime("%Y-%m-%d %H"), lambda one: one.replace(minute=0)),
    "2021-01-31-14-05": (lambda one: one.strftime("%Y-%m-%d-%H-%M"), same),
    "20210131_140500": (lambda one: one.strftime("%Y%m%d_%H%M%S"), same),
    "20210131-1405": (lambda one: one.strftime("%Y%m%d-%H%M"), same),
    "'2021-01-31": (lambda one: one.strftime("'%Y-%m-%d"), midnight),
}  # fmt: skip


@pytest.mark.parametrize("name", NOTATIONS)
def test_a_notation_is_read_alone_and_in_a_column(name):
    written, meant = NOTATIONS[name]
    cells = [written(one) for one in DATES]
    expected = [(meant(one) - EPOCH) / dt.timedelta(days=1) for one in DATES]
    schema = schema_of(cells)
    assert schema.columns[0].kind == "date"
    in_column = schema.matrix({"a": cells, "z": [0] * len(cells)})[:, 0].tolist()
    assert in_column == pytest.approx(expected, abs=1e-9)
    for at in (0, 7, 39):
        assert schema.matrix({"a": cells[at], "z": 0})[:, 0].tolist() == [in_column[at]]


@pytest.mark.parametrize(
    ("cell", "hour"),
    [("EST", 19), ("EDT", 18), ("PST", 22), ("CET", 13), ("CEST", 12), ("MESZ", 12), ("JST", 5), ("AEDT", 3)],
)
def test_abbreviations_of_time_zones_are_offsets(cell, hour):
    cells = [f"{one:%Y-%m-%d} 14:00 {cell}" for one in DATES]
    schema = schema_of(cells)
    assert schema.columns[0].zone == "own"
    (days,) = schema.matrix({"a": cells[3], "z": 0})[:, 0].tolist()
    assert days * 24 % 24 == pytest.approx(hour)


@pytest.mark.parametrize(
    "cells",
    [["mar", "may", "set", "out"], ["may 1", "may 2"], ["5 2 2021", "a b"], ["2021Q1", "2021Q2", "2021Q3"],
     ["H1", "H2"], ["1/3000", "2/3000"], ["2 m", "3 m"]],
)  # fmt: skip
def test_other_words_stay_categories(cells):
    frame = pl.DataFrame({"a": cells * 20, "z": [at**2 for at in range(20 * len(cells))]})
    assert infer(frame, DataSettings())[0][0].kind == "categorical"


def test_a_week_that_does_not_exist_is_shown():
    cells = [one.strftime("%G-W%V") for one in DATES]
    schema = schema_of(cells)
    with pytest.raises(Exception, match="row 0 holds '2021-W53'"):
        schema.matrix({"a": "2021-W53", "z": 0})


def test_every_name_is_read_as_its_month():
    names = list(MONTHS)
    days = rewritten(pl.Series([f"1 de {name} de 2021" for name in names])).to_list()
    assert days == [f"1 {name} 2021" for name in names]
    schema = schema_of([f"{one.day}. {GERMAN[one.month - 1]} {one.year}" for one in DATES])
    found = schema.matrix({"a": [f"1. {name} 2021" for name in names], "z": [0] * len(names)})[:, 0]
    expected = [(dt.datetime(2021, number, 1) - EPOCH).days for number in MONTHS.values()]
    assert found.tolist() == expected
