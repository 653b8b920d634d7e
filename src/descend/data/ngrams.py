"""Hashed word and character n-grams of texts.

A text becomes a set of n-grams, and an n-gram an index into a table of embeddings. The definition depends on Unicode
only, so that any program can repeat it:

1. **Normal form**: the first 10,000 characters of the text in Unicode form NFKC, in lower case.
2. **Words**: each maximal run of letters, marks, digits and ``_`` (Unicode categories L, M, N), and each maximal run
   of other characters that are not white space (punctuation, emoji). Each Chinese character and each kana is a word.
   A word counts by its first 64 characters.
3. **N-grams**: a word n-gram is n consecutive words, each preceded by a space (``" not good"``). A character n-gram
   is a substring of n characters of ``<word>`` (``"<no"``, ``"ot>"``); if ``<word>`` is shorter than the smallest n, it
   is an n-gram itself.
4. **Hash**: FNV-1a over code points, h ← ((h xor c) · 16777619) mod 2^32 from h = 2166136261, and then the finalizer
   of MurmurHash3. The index is 1 + (h mod buckets).
5. **Order**: all single words by their first occurrence, then all pairs of words, and so on; then the character n-grams
   of each word, shorter ones first. An index counts once, and the first ``length`` indices are kept.

>>> import polars as pl
>>> ngram_indices(pl.Series(["Not good", None]), NGrams(buckets=8192, length=3, words=(1, 2), characters=(3, 5))).tolist()
[[5802, 4672, 2277], [0, 0, 0]]

Source: Joulin et al. 2017 (Bag of tricks for efficient text classification); Bojanowski et al. 2017 (character n-grams).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import polars as pl

__all__ = ["LONGEST_TEXT", "LONGEST_WORD", "SINGLES", "NGrams", "ngram_counts", "ngram_indices"]

Array = np.ndarray[Any, Any]

LONGEST_TEXT = 10_000
"""Number of characters of a text that are read."""
LONGEST_WORD = 64
"""Number of characters by which a longer word counts."""

SINGLES = r"\x{3040}-\x{30ff}\x{3400}-\x{4dbf}\x{4e00}-\x{9fff}\x{f900}-\x{faff}\x{20000}-\x{3ffff}"
"""Characters that are words of their own, in the form of a regular expression: Chinese characters and kana."""
_WORD = rf"[{SINGLES}]|[\p{{L}}\p{{M}}\p{{N}}_--[{SINGLES}]]+|[^\p{{L}}\p{{M}}\p{{N}}_\s]+"
_BLOCK = 2**21  # characters hashed at a time, which bounds the memory of intermediate arrays
_OFFSET, _PRIME = 2166136261, 16777619


@dataclass(frozen=True)
class NGrams:
    """Which n-grams of a text are hashed, and to how many indices.

    Args:
        buckets: the number of different indices, 1 to ``buckets``; 0 stands for no n-gram.
        length: the largest number of n-grams of a text that are kept.
        words: the smallest and the largest number of words of a word n-gram; (0, 0) for none.
        characters: the smallest and the largest number of characters of a character n-gram; (0, 0) for none.
    """

    buckets: int
    length: int
    words: tuple[int, int]
    characters: tuple[int, int]

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid", "strict": True}

    def fault(self) -> str:
        """Return what is wrong with the settings, or an empty string."""
        if not (1 <= self.buckets < 2**24 and self.length >= 1):
            return "buckets must be between 1 and 2^24, and length at least 1"
        for low, high in (self.words, self.characters):
            if not (1 <= low <= high or low == high == 0):
                return f"a range of n-grams must be two increasing numbers from 1, or 0 and 0; got {low} and {high}"
        return "" if self.words[1] or self.characters[1] else "words and characters must not both be (0, 0)"


def ngram_indices(texts: pl.Series, ngrams: NGrams) -> Array:
    """Return the indices of each text's n-grams, padded with 0.

    Args:
        texts: strings; null for a missing text, whose row is 0.
        ngrams: which n-grams are hashed.

    Returns: int64 (n, length).
    """
    indices = np.zeros((len(texts), ngrams.length), dtype=np.int64)
    for start, rows, own in _blocks(texts, ngrams):
        first = np.searchsorted(rows, np.arange(rows[-1] + 1)) if len(rows) else rows
        place = np.arange(len(rows)) - first[rows]
        kept = place < ngrams.length
        indices[start + rows[kept], place[kept]] = own[kept]
    return indices


def ngram_counts(texts: pl.Series, ngrams: NGrams) -> Array:
    """Return the number of different indices of each text, int64 (n,), without the bound ``length``."""
    counts = np.zeros(len(texts), dtype=np.int64)
    for start, rows, _ in _blocks(texts, ngrams):
        own = np.bincount(rows)
        counts[start : start + len(own)] = own
    return counts


def _blocks(texts: pl.Series, ngrams: NGrams) -> Iterator[tuple[int, Array, Array]]:
    """Yield, for blocks of texts, the number of the first text, and the different indices in their order.

    The latter are two arrays: the number of the text within the block, which increases, and the index.
    """
    texts = texts.str.head(LONGEST_TEXT).fill_null("")
    lengths = texts.str.len_chars().to_numpy().astype(np.int64)
    block_of = np.cumsum(lengths) // _BLOCK
    starts = np.flatnonzero(np.diff(block_of, prepend=-1)).tolist()
    for start, stop in pairwise([*starts, len(texts)]):
        rows, indices = _hashed(texts[start:stop], ngrams)
        # An index counts once per text, at its first place.
        _, first = np.unique(rows * (ngrams.buckets + 1) + indices, return_index=True)
        first = first[np.lexsort((first, rows[first]))]
        yield start, rows[first], indices[first]


def _hashed(texts: pl.Series, ngrams: NGrams) -> tuple[Array, Array]:
    """Return the numbers of the texts and the indices of all their n-grams."""
    split = texts.str.normalize("NFKC").str.to_lowercase().str.extract_all(_WORD).to_list()
    rows = np.repeat(np.arange(len(split)), [len(words) for words in split])
    numbered: dict[str, int] = {}
    each = (numbered.setdefault(word[:LONGEST_WORD], len(numbered)) for words in split for word in words)
    codes = np.fromiter(each, dtype=np.int64, count=len(rows))
    vocabulary = list(numbered)
    found = [_word_ngrams(rows, codes, _Strings([f" {word}" for word in vocabulary]), ngrams.words)]
    if ngrams.characters[1]:
        counts, states = _character_ngrams(_Strings([f"<{word}>" for word in vocabulary]), ngrams.characters)
        _, first = np.unique(rows * len(vocabulary) + codes, return_index=True)
        first.sort()
        own = codes[first]
        at = _ranges((np.cumsum(counts) - counts)[own], counts[own])
        found.append((np.repeat(rows[first], counts[own]), states[at]))
    hashes = _finalized(np.concatenate([states for _, states in found]))
    return np.concatenate([own for own, _ in found]), 1 + (hashes % np.uint32(ngrams.buckets)).astype(
        np.int64
    )


class _Strings:
    """Strings as code points: those of string i are ``points[starts[i] : starts[i] + lengths[i]]``."""

    def __init__(self, strings: Sequence[str]) -> None:
        self.points = np.frombuffer("".join(strings).encode("utf-32-le"), dtype="<u4").astype(np.uint32)
        self.lengths = np.fromiter(map(len, strings), dtype=np.int64, count=len(strings))
        self.starts = np.cumsum(self.lengths) - self.lengths


def _word_ngrams(rows: Array, codes: Array, spaced: _Strings, sizes: tuple[int, int]) -> tuple[Array, Array]:
    """Return the texts and the hashes, not finalized, of the word n-grams: all of one word, then all of two, ..."""
    found = [(rows[:0], np.zeros(0, dtype=np.uint32))]
    own, states = (
        codes,
        _extended(
            np.full(len(spaced.lengths), _OFFSET, dtype=np.uint32),
            spaced.points,
            spaced.starts,
            spaced.lengths,
        ),
    )
    for size in range(1, sizes[1] + 1):
        if size > 1:
            # The n-gram at place i is the one of size - 1 at place i, and the word at place i + size - 1.
            last = codes[size - 1 :]
            pairs, own = np.unique(own[:-1] * len(spaced.lengths) + last, return_inverse=True)
            before, word = np.divmod(pairs, len(spaced.lengths))
            states = _extended(states[before], spaced.points, spaced.starts[word], spaced.lengths[word])
        if size >= max(1, sizes[0]):
            within = rows[: len(own)] == rows[size - 1 :]
            found.append((rows[: len(own)][within], states[own][within]))
    return np.concatenate([each for each, _ in found]), np.concatenate([each for _, each in found])


def _character_ngrams(words: _Strings, sizes: tuple[int, int]) -> tuple[Array, Array]:
    """Return the number of character n-grams of each word, and the hashes, not finalized, of those of all words."""
    counts_of, states_of = [], []
    for size in range(sizes[0], sizes[1] + 1):
        counts = np.maximum(words.lengths - size + 1, 1 if size == sizes[0] else 0)
        starts = _ranges(words.starts, counts)
        lengths = np.repeat(np.minimum(words.lengths, size), counts)
        states_of.append(
            _extended(np.full(len(starts), _OFFSET, dtype=np.uint32), words.points, starts, lengths)
        )
        counts_of.append(counts)
    word = np.concatenate([np.repeat(np.arange(len(counts)), counts) for counts in counts_of])
    return np.sum(counts_of, axis=0), np.concatenate(states_of)[np.argsort(word, kind="stable")]


def _ranges(starts: Array, counts: Array) -> Array:
    """Return start, start + 1, ..., start + count - 1 for each pair, in sequence.

    >>> _ranges(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    offsets = np.cumsum(counts) - counts
    ranges: Array = np.arange(counts.sum()) + np.repeat(starts - offsets, counts)
    return ranges


def _extended(states: Array, points: Array, starts: Array, lengths: Array) -> Array:
    """Return the hashes of strings that continue those of ``states`` by slices of code points."""
    states = states.copy()
    live = np.flatnonzero(lengths > 0)
    at = 0
    while len(live):
        states[live] = (states[live] ^ points[starts[live] + at]) * np.uint32(_PRIME)
        at += 1
        live = live[lengths[live] > at]
    return states


def _finalized(hashes: Array) -> Array:
    """Return the hashes after MurmurHash3's finalizer, which spreads differences over all bits."""
    hashes = (hashes ^ (hashes >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    hashes = (hashes ^ (hashes >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    finalized: Array = hashes ^ (hashes >> np.uint32(16))
    return finalized
