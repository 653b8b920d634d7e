"""The definition of n-grams in plain Python, and messages to learn from."""

from __future__ import annotations

import random
import unicodedata

from descend.data.ngrams import NGrams

__all__ = ["WHITE_SPACE", "hashed", "index_of", "messages", "ngrams_of", "words_of"]

WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
)
_SINGLES = ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))


def words_of(text: str) -> list[str]:
    """Return the words of a text, by one loop over its characters."""
    words: list[str] = []
    before = "space"
    for c in unicodedata.normalize("NFKC", text[:10_000]).lower():
        if any(low <= ord(c) <= high for low, high in _SINGLES):
            kind = "single"
        elif c in WHITE_SPACE:
            kind = "space"
        else:
            kind = "letter" if c == "_" or unicodedata.category(c)[0] in "LMN" else "other"
        if kind != "space":
            if kind == before and kind != "single":
                words[-1] += c
            else:
                words.append(c)
        before = kind
    return [word[:64] for word in words]


def ngrams_of(text: str, ngrams: NGrams) -> list[str]:
    """Return the n-grams of a text, in their order, with repetitions."""
    words, found = words_of(text), []
    for size in range(max(1, ngrams.words[0]), ngrams.words[1] + 1):
        for at in range(len(words) - size + 1):
            found.append("".join(" " + word for word in words[at : at + size]))
    low, high = ngrams.characters
    for word in dict.fromkeys(words if high else ()):
        marked = f"<{word}>"
        if len(marked) < low:
            found.append(marked)
        for size in range(low, high + 1):
            found += [marked[at : at + size] for at in range(len(marked) - size + 1)]
    return found


def hashed(ngram: str) -> int:
    """Return the hash of an n-gram: FNV-1a over code points, then MurmurHash3's finalizer."""
    h = 2166136261
    for c in ngram:
        h = (h ^ ord(c)) * 16777619 % 2**32
    h = (h ^ h >> 16) * 0x85EBCA6B % 2**32
    h = (h ^ h >> 13) * 0xC2B2AE35 % 2**32
    return h ^ h >> 16


def index_of(ngram: str, buckets: int) -> int:
    """Return the index of an n-gram."""
    return 1 + hashed(ngram) % buckets


_SPAM = (
    "win a free {} now",
    "claim your {} prize today",
    "urgent: call {} to get cash",
    "cheap {} offer ends soon",
)
_HAM = (
    "are you coming to {} tonight",
    "I will be late for {}",
    "can you pick up {} please",
    "see you at {} then",
)
_THINGS = (
    "phone",
    "holiday",
    "voucher",
    "ringtone",
    "dinner",
    "cinema",
    "school",
    "home",
    "work",
    "milk",
    "bread",
    "meeting",
    "concert",
)
_FILL = (
    "ok",
    "so",
    "well",
    "hey",
    "hello",
    "please",
    "maybe",
    "later",
    "soon",
    "now",
    "today",
    "really",
    "just",
    "also",
)


def messages(rows: int, seed: int = 0, noise: float = 0.0) -> tuple[list[str], list[str]]:
    """Return short messages and their labels, "spam" or "ham".

    Args:
        rows: how many.
        seed: of the random choices.
        noise: share of wrong labels.
    """
    rng = random.Random(seed)
    texts, labels = [], []
    for _ in range(rows):
        spam = rng.random() < 0.4
        phrase = rng.choice(_SPAM if spam else _HAM).format(rng.choice(_THINGS))
        parts = [*rng.choices(_FILL, k=rng.randint(0, 4)), phrase, *rng.choices(_FILL, k=rng.randint(0, 4))]
        texts.append(" ".join(parts) + "!" * rng.randint(0, 2))
        labels.append("spam" if spam != (rng.random() < noise) else "ham")
    return texts, labels
