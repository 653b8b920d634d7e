"""An exported model treats all forms of a category, and the white space around it, as the run does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import descend
from descend.export.onnx import _SPACE

QUICK = {"stop": {"max_epochs": 3}, "engine": {"threads": 1}}
WHITE = ["", " ", "  ", "\t", "\n", "\r\n", "\x0b", "\x0c", "\x85", "\u00a0", "\u1680", "\u2003", "\u2028", "\u202f",
         "\u205f", "\u3000"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("pooled", [False, True])
def test_white_space_and_forms_have_the_same_codes(tmp_path: Path, pooled: bool) -> None:
    words = ["Bern", "New  York", "a.b|c", "True", "1", "x\ny", "NA"]
    rng = np.random.default_rng(0)
    code, x = rng.integers(0, len(words), 300), rng.normal(size=300)
    data = {"c": [words[at] for at in code], "x": x, "y": code * 2.0 + x}
    settings = {"columns": {"c": "categorical"}, "max_categories": 4 if pooled else 64}
    run = descend.train(data, {**QUICK, "data": settings}, target="y")
    session = onnxruntime.InferenceSession(run.export("onnx", tmp_path))
    forms = [*words, "true", "TRUE", "1.0", "bern", "New York", "aXb|c", "x", "unknown", "", "NA", "?"]
    cells = [before + form + after for form in forms for before in WHITE for after in WHITE[::3]]
    for some in (cells, forms, cells[:1], []):
        fed = {"c": np.array(some, dtype=object), "x": np.zeros(len(some))}
        (values,) = session.run(None, fed)
        if some:
            np.testing.assert_allclose(values, run.predict({"c": some, "x": 0.0}), rtol=1e-5)
        assert len(values) == len(some)


def test_the_pattern_of_white_space_is_what_unicode_says() -> None:
    listed = {chr(int(part, 16)) for part in ("85", "A0", "1680", "2028", "2029", "202F", "205F", "3000")}
    listed |= set("\t\n\x0b\f\r ") | {chr(one) for one in range(0x2000, 0x200B)}
    # str.isspace also counts the separators of ASCII, which Unicode does not call white space.
    unicode = {chr(one) for one in range(0x110000) if chr(one).isspace()} - set("\x1c\x1d\x1e\x1f")
    assert listed == unicode
    assert all(f"\\x{{{part}}}" in _SPACE for part in ("85", "A0", "1680", "2000", "200A", "3000"))
