"""Code and documents have one spelling."""

from __future__ import annotations

import re

from tests.support.spelling import ROOT, american, files

SUSPECT = re.compile("is[eai]|our|centr|metre|grey|ll|artefact|licence", re.IGNORECASE)
"""A part of every word that the rules change, for speed."""


def test_the_spelling_is_american() -> None:
    words = {
        path: set(re.findall(r"[A-Za-z]+", path.read_text(encoding="utf-8")))
        for path in files()
        if path.name != "CHANGELOG.md"
    }
    suspects = filter(SUSPECT.search, set().union(*words.values()))
    british = {word for word in suspects if american(word) != word}
    found = {str(path.relative_to(ROOT)): own & british for path, own in words.items() if own & british}
    assert not found, "run: python -m tests.support.spelling"


def test_words_that_stay() -> None:
    words = "promise otherwise aria-labelledby four hours optimism organism optimiser realistic emphasis cancellation"
    assert american(words) == words
