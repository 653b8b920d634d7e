"""Code and documents have one spelling."""

from __future__ import annotations

import re

from tests.support.spelling import ROOT, american, files


def test_the_spelling_is_american() -> None:
    words = {
        path: set(re.findall(r"[A-Za-z]+", path.read_text(encoding="utf-8")))
        for path in files()
        if path.name != "CHANGELOG.md"
    }
    british = {word for word in set().union(*words.values()) if american(word) != word}
    found = {str(path.relative_to(ROOT)): own & british for path, own in words.items() if own & british}
    assert not found, "run: python -m tests.support.spelling"


def test_words_that_stay() -> None:
    words = "promise otherwise aria-labelledby four hours optimism organism optimiser realistic emphasis cancellation"
    assert american(words) == words
