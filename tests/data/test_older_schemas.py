"""Schemas of earlier versions are read."""

from __future__ import annotations

import numpy as np

from descend.data.preparation import prepare
from descend.data.schema import Schema
from descend.data.settings import DataSettings
from descend.data.sources import read


def test_the_former_name_of_the_center_of_a_rotation() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 2))
    schema = prepare(read((rows, np.arange(40) % 2)), DataSettings(scale="zca")).schema
    text = schema.to_json()
    assert '"center"' in text
    assert Schema.from_json(text.replace('"center"', '"centre"')) == schema
    plain = prepare(read((rows, np.arange(40) % 2))).schema
    assert Schema.from_json(plain.to_json()) == plain
