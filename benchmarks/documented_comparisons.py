"""The comparisons whose results docs/compare.md shows.

    python benchmarks/documented_comparisons.py                 both comparisons; writes the results and the page
    python benchmarks/documented_comparisons.py --out /tmp/results --seeds 2

The two comparisons are those of the page: three sizes of the network, and three optimizers, on digits. Each result is
written with date, commit and machine. ``tests/test_documents.py`` checks that the tables of the page are those of the
newest result, and that the sentences below them follow from it (:func:`sentences`).
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import descend
from instruments import machine
from instruments.results import add_out_option, write_results
from instruments.session import Session
from instruments.text import markdown_table

COMPARISONS: Mapping[str, tuple[dict[str, list[Any]], dict[str, Any]]] = {
    "sizes": ({"model.hidden": [[16], [64, 64], [256, 256]]}, {"stop": {"max_epochs": 30}}),
    "optimizers": ({"optimizer.name": ["sgd", "adam", "rmsprop"]}, {"stop": {"max_epochs": 30}}),
}


def measured(name: str, seeds: int) -> dict[str, Any]:
    """Run one of the comparisons; return its results as plain values."""
    vary, recipe = COMPARISONS[name]
    comparison = descend.compare("digits", vary, recipe=recipe | {"engine": {"threads": 1}}, seeds=seeds)
    result: dict[str, Any] = comparison.to_dict()
    return result


def variant_table(result: Mapping[str, Any]) -> str:
    """Return the table of the variants, as the page shows it."""
    head = ["variant", "learning rate", "test accuracy", "95 % interval", "steps to target", "good rates"]
    rows = []
    for each in result["variants"]:
        low, high = each["interval"]
        steps = each["steps_to_target"]
        rows.append(
            [
                each["name"],
                f"{each['lr']:.2g}",
                f"{100 * each['mean']:.2f} %",
                f"{100 * low:.2f}–{100 * high:.2f} %",
                "not reached" if steps is None else f"{steps:,.0f}",
                f"{round(each['good_rates'] * len(each['rates']))} of {len(each['rates'])}",
            ]
        )
    return str(markdown_table(head, rows))


def test_table(result: Mapping[str, Any]) -> str:
    """Return the table of the tests, the largest difference first."""
    tests = sorted(result["tests"], key=lambda test: test["adjusted"])
    rows = [
        [
            f"{test['first']} − {test['second']}",
            f"{100 * test['difference']:+.2f} %".replace("-", "−"),
            f"{test['p']:.2g}",
            f"{test['adjusted']:.2g}",
        ]
        for test in tests
    ]
    return str(markdown_table(["difference", "mean", "p", "p (Holm)"], rows))


def sentences(result: Mapping[str, Any]) -> list[str]:
    """Return what follows from the tests: which pairs differ significantly at 5 %, after Holm's correction."""
    significant = [test for test in result["tests"] if test["adjusted"] < 0.05]
    if not significant:
        return ["No difference is significant."]
    higher = [
        (t["first"], t["second"]) if t["difference"] > 0 else (t["second"], t["first"]) for t in significant
    ]
    return [f"{better} is significantly better than {worse}." for better, worse in sorted(higher)]


def commit() -> str:
    """Return the short hash of the current commit, with a plus sign if files have been changed."""
    root = Path(__file__).parents[1]

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=True
        ).stdout

    changed = git("status", "--porcelain", "--untracked-files=no", "src").strip()
    return git("rev-parse", "--short", "HEAD").strip() + ("+" if changed else "")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--seeds", type=int, default=5, help="final runs of each variant; default 5")
    add_out_option(parser)
    options = parser.parse_args(arguments)
    session = Session.now(["descend", "torch", "numpy"], threads=1, load_before=machine.load_average())
    results = {name: measured(name, options.seeds) for name in COMPARISONS}
    page = "\n\n".join(
        part
        for name, result in results.items()
        for part in (f"## {name}", variant_table(result), test_table(result), " ".join(sentences(result)))
    )
    print(page)
    write_results(options.out, "documented_comparisons", session, {"commit": commit(), **results}, page)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
