import uuid
from hashlib import blake2b

import numpy as np
import polars as pl
import pytest

from descend.data.identifiers import identifies_rows, ranks, string_role

N = 60
UNIQUE = {
    "uuids": [str(uuid.UUID(int=i**9)) for i in range(N)],
    "hashes": [blake2b(bytes([i])).hexdigest() for i in range(N)],
    "names": [f"Name{i} Surname{i}" for i in range(N)],
    "addresses": [f"name{i}@example.org" for i in range(N)],
    "links": [f"https://example.org/items/{i}" for i in range(N)],
    "codes": [f"A-{i:05d}" for i in range(N)],
}


@pytest.mark.parametrize("form", UNIQUE)
def test_different_strings_identify_the_rows(form):
    assert string_role(pl.Series(UNIQUE[form])) == "identifier"
    assert string_role(pl.Series([*UNIQUE[form], *[None] * 100])) == "identifier"
    assert string_role(pl.Series([*UNIQUE[form], *UNIQUE[form][:4]])) == "identifier"


def test_repeated_strings_are_categories():
    assert string_role(pl.Series(UNIQUE["names"] * 2)) == "categorical"
    assert string_role(pl.Series(["married for a long time", "never married at all"] * N)) == "categorical"
    assert string_role(pl.Series(UNIQUE["names"][:10])) == "categorical"


def test_different_sentences_are_text():
    assert string_role(pl.Series([f"line {i} is here" for i in range(N)])) == "text"
    assert string_role(pl.Series([f"two {i}" for i in range(N)])) == "identifier"
    half = [f"three words {i}" for i in range(N)] + ["one"] * 0
    assert string_role(pl.Series(half)) == "text"


def test_many_categories_in_few_rows_are_none():
    words = [f"c{i % 300}" for i in range(600)]
    assert string_role(pl.Series(words)) == "identifier"
    assert string_role(pl.Series(words), max_categories=300) == "categorical"
    assert string_role(pl.Series([f"the city {one}" for one in words])) == "text"


@pytest.mark.parametrize(
    "name",
    ["id", "ID", "customer_id", "PassengerId", "Unnamed: 0", "index", "row number", "key", "invoice_no"],
)
def test_different_integers_under_the_name_of_a_key_identify_the_rows(name):
    sparse = np.random.default_rng(1).choice(10**9, N, replace=False)
    assert identifies_rows(pl.Series(name, sparse))
    assert identifies_rows(pl.Series(name, sparse.astype(float)))
    assert not identifies_rows(pl.Series(name, [*sparse, sparse[0]]))
    assert not identifies_rows(pl.Series(name, sparse + 0.5))


@pytest.mark.parametrize(
    "name",
    [
        "width",
        "paid",
        "grid",
        "notes",
        "humidity",
        "turkey",
        "casino",
        "price_index",
        "atomic number",
        "heatIndex",
    ],
)
def test_other_names_contain_no_key(name):
    assert not identifies_rows(pl.Series(name, np.arange(N) ** 2))


def test_gaps_and_repetitions_are_no_counter():
    assert identifies_rows(pl.Series("n", [*range(30), None]))
    assert not identifies_rows(pl.Series("n", [*range(29), 30]))
    assert not identifies_rows(pl.Series("n", [*range(29), 28]))
    assert not identifies_rows(pl.Series("n", range(19)))


def test_ranks_need_two_shuffled_columns():
    rng = np.random.default_rng(0)
    a, b = (pl.Series(name, rng.permutation(30)) for name in "ab")
    assert ranks([a, b]) == {"a", "b"}
    assert ranks([a]) == set()
    assert ranks([a, pl.Series("n", range(30))]) == set()
    assert ranks([a, pl.Series("n", range(30)[::-1])]) == set()
