"""Hashed n-grams agree with their definition in plain Python."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.texts import WHITE_SPACE, index_of, ngrams_of, words_of

from descend.data import ngrams as module
from descend.data.ngrams import LONGEST_TEXT, LONGEST_WORD, NGrams, ngram_counts, ngram_indices

SMALL = NGrams(buckets=97, length=12, words=(1, 2), characters=(3, 4))
SIZES = st.one_of(
    st.just((0, 0)), st.tuples(st.integers(1, 4), st.integers(0, 2)).map(lambda p: (p[0], p[0] + p[1]))
)

# Characters of scripts that are in Unicode for long: Python and the regular expressions know the same ones.
TEXTS = st.text(
    st.one_of(
        st.sampled_from("ab cB_1.,!?<> 'é\u0301ßİ" + WHITE_SPACE),
        st.sampled_from("学习機カなﬁ①Ⅳ٣हिदी😀👍🏽\u200d\ufeff\u00ad"),
        st.characters(max_codepoint=0x24F, exclude_categories=("Cs", "Cn")),
    ),
    max_size=40,
)


def expected(text: str | None, ngrams: NGrams) -> list[int]:
    """Return the indices of a text by definition, padded with 0."""
    indices = [index_of(one, ngrams.buckets) for one in ngrams_of(text or "", ngrams)]
    kept = list(dict.fromkeys(indices))[: ngrams.length]
    return kept + [0] * (ngrams.length - len(kept))


@given(st.lists(st.one_of(st.none(), TEXTS), max_size=6))
@example(["Not good, not GOOD!", None, "", "a", "it's 5 o'clock", "😀😀😀 ok", "ΟΔΟΣ ΣΑΣ"])
def test_indices_are_those_of_the_definition(texts: list[str | None]) -> None:
    found = ngram_indices(pl.Series(texts, dtype=pl.String), SMALL)
    assert found.tolist() == [expected(text, SMALL) for text in texts]


@given(TEXTS, SIZES, SIZES, st.integers(1, 2**22), st.integers(1, 50))
def test_for_any_ranges(
    text: str, words: tuple[int, int], characters: tuple[int, int], buckets: int, length: int
) -> None:
    ngrams = NGrams(buckets, length, words, characters)
    assert ngram_indices(pl.Series([text]), ngrams).tolist() == [expected(text, ngrams)]


@given(TEXTS)
def test_counts_are_those_of_different_indices(text: str) -> None:
    found = ngram_counts(pl.Series([text]), SMALL).item()
    assert found == len({index_of(one, SMALL.buckets) for one in ngrams_of(text, SMALL)})


def test_words() -> None:
    text = "It's 20€, e.g. naïve_1 ﬁ 学习abc 😀😀!"
    assert words_of(text) == [
        *("it", "'", "s", "20", "€,", "e", ".", "g", ".", "naïve_1", "fi", "学", "习", "abc", "😀😀!"),
    ]
    only_words = NGrams(2**22, 40, (1, 1), (0, 0))
    found = ngram_indices(pl.Series([text]), only_words)[0]
    different = dict.fromkeys(words_of(text))
    assert found[: len(different)].tolist() == [index_of(f" {word}", 2**22) for word in different]
    assert not found[len(different) :].any()


def test_ngrams_of_a_text() -> None:
    found = ngrams_of("no No", NGrams(10, 10, (1, 2), (3, 4)))
    assert found == [" no", " no", " no no", "<no", "no>", "<no>"]


def test_known_hashes() -> None:
    """FNV-1a of strings of ASCII characters, and MurmurHash3's fmix32."""
    strings = module._Strings(["", "a", "foobar"])
    offset = np.full(3, 2166136261, dtype=np.uint32)
    states = module._extended(offset, strings.points, strings.starts, strings.lengths)
    assert states.tolist() == [0x811C9DC5, 0xE40C292C, 0xBF9CF968]
    finalized = module._finalized(np.array([0, 1, 2**32 - 1], dtype=np.uint32))
    assert finalized.tolist() == [0, 1364076727, 2180083513]


def test_long_texts_and_words_are_cut() -> None:
    ngrams = NGrams(2**20, 2000, (1, 1), (0, 0))
    long = " ".join(f"w{i}" for i in range(5000))
    assert np.array_equal(*(ngram_indices(pl.Series([one]), ngrams) for one in (long, long[:LONGEST_TEXT])))
    word = "x" * 100
    assert np.array_equal(*(ngram_indices(pl.Series([one]), ngrams) for one in (word, word[:LONGEST_WORD])))
    assert not np.array_equal(
        *(ngram_indices(pl.Series([one]), ngrams) for one in (word, word[: LONGEST_WORD - 1]))
    )


def test_a_cell_of_a_megabyte() -> None:
    found = ngram_indices(pl.Series(["a" * 2**20, "b c " * 2**18]), SMALL)
    assert found.tolist() == [expected(text, SMALL) for text in ("a" * 2**20, "b c " * 2**18)]


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = pl.Series(["one two", None, "", "three " * 30, "four five six", None])
    whole = ngram_indices(texts, SMALL)
    counts = ngram_counts(texts, SMALL)
    for size in (1, 7, 50):
        monkeypatch.setattr(module, "_BLOCK", size)
        assert np.array_equal(ngram_indices(texts, SMALL), whole)
        assert np.array_equal(ngram_counts(texts, SMALL), counts)


@pytest.mark.parametrize(
    "ngrams",
    [
        NGrams(0, 1, (1, 1), (0, 0)), NGrams(2**24, 1, (1, 1), (0, 0)), NGrams(5, 0, (1, 1), (0, 0)),
        NGrams(5, 1, (2, 1), (0, 0)), NGrams(5, 1, (0, 1), (0, 0)), NGrams(5, 1, (0, 0), (0, 0)),
        NGrams(5, 1, (1, 1), (-1, 3)),
    ],
)  # fmt: skip
def test_faults(ngrams: NGrams) -> None:
    assert ngrams.fault()


def test_no_fault() -> None:
    assert not SMALL.fault()
    assert not NGrams(1, 1, (0, 0), (1, 1)).fault()
