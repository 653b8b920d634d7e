"""Accuracy of default settings on a column of text, compared with linear models of scikit-learn.

    python benchmarks/text_columns.py [--rows 1000 4000] [--seeds 3] [--out benchmarks/results]

Each row is one sentence of the documentation strings of installed packages, and its label the package. Sentences that
contain the name of a package are left out. For each number of rows and each seed, all contenders get the same rows, and
the same 2,000 other sentences as test rows. descend holds out 15 % of its rows to decide when to stop; scikit-learn's
models use all rows, with the strength C of their penalty chosen by cross-validation.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import random
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from instruments import machine
from instruments.quartiles import Quartiles
from instruments.results import add_out_option, report_table
from instruments.session import Session

PACKAGES = ("torch", "scipy", "sklearn", "numpy", "polars", "plotly")
TEST_ROWS = 2000
MOST_PER_PACKAGE = 2500

Rows = list[tuple[str, str]]
"""Sentences and their packages."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 4000], help="training rows")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions; default 3")
    add_out_option(parser)
    options = parser.parse_args(arguments)
    load_before = machine.load_average()
    every = sentences()
    results: dict[str, dict[str, list[float]]] = {}
    for count in options.rows:
        for seed in range(options.seeds):
            chosen = random.Random(seed).sample(every, count + TEST_ROWS)
            train, test = chosen[:count], chosen[count:]
            for name, contender in CONTENDERS.items():
                started = time.process_time()
                accuracy = contender(train, test, seed)
                own = results.setdefault(f"{name}, {count:,} rows", {"accuracy": [], "cpu_seconds": []})
                own["accuracy"].append(accuracy)
                own["cpu_seconds"].append(time.process_time() - started)
                print(f"{name}, {count:,} rows, seed {seed}: {accuracy:.4f}", flush=True)
    session = Session.now(
        ("descend", "torch", "sklearn"),
        rows=len(every),
        repetitions=options.seeds,
        load_before=load_before,
        load_after=machine.load_average(),
    )
    report_table(
        options.out,
        "text_columns",
        session,
        {"contenders": results},
        title="Text columns",
        explanation=f"Accuracy on {TEST_ROWS:,} sentences, {len(PACKAGES)} classes; medians, quartiles in brackets.",
        header=["contender", "accuracy", "CPU seconds"],
        rows=[
            [name, Quartiles.of(own["accuracy"]).text(3), Quartiles.of(own["cpu_seconds"]).text(1)]
            for name, own in results.items()
        ],
    )
    return 0


def sentences() -> Rows:
    """Return different sentences of the packages' documentation strings, at most as many of each package."""
    found: Rows = []
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        own: dict[str, None] = {}
        for path in sorted(Path(spec.origin).parent.rglob("*.py")):
            own.update(dict.fromkeys(_sentences_of(path)))
        texts = random.Random(0).sample(sorted(own), min(len(own), MOST_PER_PACKAGE))
        found += [(text, package) for text in texts]
    return found


def _sentences_of(path: Path) -> list[str]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return []
    documented = (ast.FunctionDef, ast.ClassDef, ast.Module)
    strings = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, documented)]
    parts = [" ".join(part.split()) for text in strings for part in re.split(r"(?<=[.!?])\s+|\n\s*\n", text)]
    named = re.compile("|".join(PACKAGES), re.IGNORECASE)
    return [part for part in parts if 30 < len(part) < 400 and part.count(" ") > 3 and not named.search(part)]


def descend_default(train: Rows, test: Rows, seed: int) -> float:
    """Return the accuracy of ``descend.train`` with default settings."""
    import descend

    texts, labels = zip(*train, strict=True)
    table = {"sentence": list(texts), "package": list(labels)}
    run = descend.train(table, {"data": {"test": 0.0}}, target="package", seed=seed)
    predicted = run.predict({"sentence": [text for text, _ in test]})
    return sum(one == label for one, (_, label) in zip(predicted, test, strict=True)) / len(test)


def hashed_words(train: Rows, test: Rows, seed: int) -> float:
    """Return the accuracy of a logistic regression on hashed words and pairs of words."""
    from sklearn.feature_extraction.text import HashingVectorizer

    return _logistic_regression(HashingVectorizer(n_features=2**16, ngram_range=(1, 2)), train, test)


def hashed_words_and_characters(train: Rows, test: Rows, seed: int) -> float:
    """Return the accuracy of a logistic regression on hashed words, pairs of words, and parts of words."""
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.pipeline import make_union

    words = HashingVectorizer(n_features=2**16, ngram_range=(1, 2))
    parts = HashingVectorizer(n_features=2**16, analyzer="char_wb", ngram_range=(3, 4))
    return _logistic_regression(make_union(words, parts), train, test)


def _logistic_regression(vectorizer: object, train: Rows, test: Rows) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline

    pipeline = make_pipeline(vectorizer, LogisticRegression(max_iter=500))
    search = GridSearchCV(pipeline, {"logisticregression__C": [1.0, 10.0, 100.0]}, cv=3)
    search.fit(*map(list, zip(*train, strict=True)))
    return float(search.score(*map(list, zip(*test, strict=True))))


CONTENDERS: dict[str, Callable[[Rows, Rows, int], float]] = {
    "descend, default settings": descend_default,
    "logistic regression, words": hashed_words,
    "logistic regression, words and characters": hashed_words_and_characters,
}


if __name__ == "__main__":
    sys.exit(main())
