import dataclasses

import pytest
from pydantic import TypeAdapter, ValidationError

from descend.data.settings import MISSING, DataSettings

ADAPTER = TypeAdapter(DataSettings)


def test_an_empty_section_gives_the_defaults():
    assert ADAPTER.validate_python({}) == DataSettings()
    assert DataSettings().missing == MISSING


def test_values_of_a_toml_file_are_accepted():
    result = ADAPTER.validate_python(
        {
            "target": ["a", "b"], "task": "multi_regression", "clip": 4, "batch_size": 32, "validation": 0,
            "columns": {"zip": "categorical"}, "missing": ["-"], "separator": "\t", "image_size": 64, "class_weights": "balanced",
        }
    )  # fmt: skip
    assert result.target == ("a", "b")
    assert result.missing == ("-",)
    assert result.clip == 4.0
    assert result.columns == {"zip": "categorical"}
    assert ADAPTER.validate_python({"clip": "none"}).clip == "none"


@pytest.mark.parametrize(
    "wrong",
    [
        {"validation": 1.0}, {"test": -0.1}, {"clip": 0}, {"clip": "off"}, {"batch_size": 0}, {"task": "guess"},
        {"columns": {"a": "color"}}, {"sampling": "epochs"}, {"max_categories": 0}, {"image_size": 0},
        {"class_weights": True}, {"separator": "::"},
    ],
)  # fmt: skip
def test_values_outside_their_domain_are_refused(wrong):
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(wrong)


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DataSettings().task = "binary"
