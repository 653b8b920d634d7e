"""The spelling of code and documents is American. ``python -m tests.support.spelling`` rewrites all files."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SUFFIXES = {".cff", ".css", ".html", ".js", ".md", ".py", ".toml"}
# The last two have names of earlier versions.
EXCEPT = (
    "benchmarks/results/",
    "tests/support/spelling.py",
    "tests/test_spelling.py",
    "src/descend/data/older_schemas.py",
    "tests/data/test_older_schemas.py",
)

_VERBS = (
    "binar|capital|categor|character|custom|discret|equal|factor|final|general|harmon|initial|item|linear|local|"
    "material|maxim|memor|minim|normal|organ|orthogonal|orthonormal|parametr|penal|prior|priorit|quant|random|"
    "raster|real|recogn|regular|serial|special|stabil|standard|summar|symmetr|synchron|token|util|vector|visual"
)
RULES = (
    (rf"({_VERBS})is(e|ed|es|ing|er|ers|ation|ations|able)(?![a-z])", r"\1iz\2"),
    (
        r"(optim)is(e|ed|es|ing|ation|ations)(?![a-z])",
        r"\1iz\2",
    ),  # not the misspelled name of a section in tests
    (r"(behavi|col|fav|flav|hon|neighb)our(?!ier)", r"\1or"),
    (r"(cent)red(?![a-z])", r"\1ered"),
    (r"(cent)re(s?)(?![a-z])", r"\1er\2"),
    (r"centring", "centering"),
    (r"(milli|centi|kilo)metre", r"\1meter"),
    (r"gre(y)", r"gra\1"),
    (r"(label|model|travel|signal|cancel)l(ed|ing)(?![a-z])", r"\1\2"),
    (r"artefact", "artifact"),
    (r"licence", "license"),
)


def american(text: str) -> str:
    """Return a text in American spelling; capitals stay.

    >>> american("Standardised colours of the neighbouring Centre, promised otherwise")
    'Standardized colors of the neighboring Center, promised otherwise'
    """
    for pattern, replacement in RULES:
        text = re.sub(pattern, lambda found: _in_case(found, replacement), text, flags=re.IGNORECASE)  # noqa: B023 - used at once
    return text


def _in_case(found: re.Match[str], replacement: str) -> str:
    new = found.expand(replacement)
    if found[0].isupper():
        return new.upper()
    return new[0].upper() + new[1:] if found[0][0].isupper() else new


def files() -> Iterator[Path]:
    """Yield the files of the repository with text."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        path = ROOT / name
        if path.suffix in SUFFIXES and not name.startswith(EXCEPT) and path.exists():
            yield path


def main() -> None:
    """Rewrite all files in American spelling."""
    for path in files():
        text = path.read_text(encoding="utf-8")
        if american(text) != text:
            path.write_text(american(text), encoding="utf-8")


if __name__ == "__main__":
    main()
