"""Columns of text: which n-grams represent a text, and how many, fitted on the training rows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from descend.data.columns import Column
from descend.data.messages import listed
from descend.data.ngrams import NGrams, ngram_counts
from descend.data.settings import DataSettings
from descend.data.source import Array
from descend.errors import Problem, RecipeError

if TYPE_CHECKING:
    import polars as pl

    from descend.data.encoding import StoredColumns

__all__ = ["fit_texts"]

_FEWEST_BUCKETS, _MOST_BUCKETS = 2**13, 2**16
_BUCKETS_PER_ROW = 4


def fit_texts(
    columns: Sequence[Column], parsed: pl.DataFrame | StoredColumns, rows: Array, settings: DataSettings
) -> list[Column]:
    """Fit the n-grams of text columns on the training rows, and return the fitted columns.

    Args:
        columns: all columns, with their kinds and missing-value indicators.
        parsed: their values.
        rows: the numbers of the training rows.
        settings: the ``[data]`` section.

    Raises:
        RecipeError: the ranges of n-grams are not valid.
    """
    fitted = []
    for column in columns:
        if column.kind == "text":
            values = parsed[column.name]
            seen = values.gather(rows) if len(rows) < len(values) else values
            column = _fitted(column, seen, settings)
        fitted.append(column)
    return fitted


def _fitted(column: Column, seen: pl.Series, settings: DataSettings) -> Column:
    if seen.n_unique() == 1:
        shown = listed(seen.head(1).to_list())
        return dataclasses.replace(
            column, kind="constant", note=f"always {shown} in the training rows; not used"
        )
    ngrams = _ngrams(settings, len(seen))
    counts = ngram_counts(seen, ngrams)
    most = int(counts.max())
    if most == 0:
        return dataclasses.replace(
            column, kind="constant", note="no text has a word in the training rows; not used"
        )
    note = f"its words and parts of words share {ngrams.buckets:,} learned embeddings"
    longer = int((counts > ngrams.length).sum())
    if longer:
        note += (
            f"; {longer} of {len(seen)} training rows have more than {ngrams.length} n-grams (data.text_length), "
            "of which the first are used"
        )
    return dataclasses.replace(
        column, text=dataclasses.replace(ngrams, length=min(most, ngrams.length)), note=note
    )


def _ngrams(settings: DataSettings, rows: int) -> NGrams:
    chosen = 2 ** math.ceil(math.log2(max(1, _BUCKETS_PER_ROW * rows)))
    buckets = min(max(chosen, _FEWEST_BUCKETS), _MOST_BUCKETS)
    if settings.text_buckets != "auto":
        buckets = settings.text_buckets
    problems = []
    for key in ("text_words", "text_characters"):
        low, high = getattr(settings, key)
        if not (1 <= low <= high or low == high == 0):
            message = f"expected the smallest and the largest size of n-grams, or [0, 0] for none, got [{low}, {high}]"
            problems.append(Problem("data", key, message))
    if not problems and not settings.text_words[1] and not settings.text_characters[1]:
        message = "[0, 0] for text_words and text_characters leaves no n-grams"
        problems.append(Problem("data", "text_words", message, "such as [1, 2]"))
    if problems:
        raise RecipeError(problems)
    return NGrams(buckets, settings.text_length, settings.text_words, settings.text_characters)
