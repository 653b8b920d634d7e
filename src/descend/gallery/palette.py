"""Colors of the gallery: those of the report, and eight distinguishable ones for series (after Okabe and Ito).

The colors of the report are read from its style sheet, so that the PNG files and the pages agree.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

__all__ = ["SERIES", "light", "style"]

SERIES: dict[str, tuple[str, str]] = {
    "s1": ("#0b6bb8", "#62b0f0"),
    "s2": ("#c75000", "#f2a25c"),
    "s3": ("#0a7f5a", "#4fc79b"),
    "s4": ("#a33a78", "#e58cc0"),
    "s5": ("#6a5acd", "#a99cf5"),
    "s6": ("#8a6d00", "#d9bd4a"),
    "s7": ("#2a8c99", "#6fd0dc"),
    "s8": ("#6b7280", "#a3acb5"),
}
"""Color on a light and on a dark page. ``s1`` and ``s2`` are the blue and orange of the report."""

_SOFT = "2e"  # opacity of a band, in hexadecimal


@cache
def light() -> dict[str, str]:
    """Return every color by name, as on a light page; those of the report come from the first block of its style sheet."""
    sheet = (files("descend.report") / "page.css").read_text(encoding="utf-8")
    block = sheet[sheet.index(":root {") : sheet.index("}")]
    report = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
    return report | {name: pair[0] for name, pair in SERIES.items()}


@cache
def style() -> str:
    """Return the CSS that the gallery adds to the style sheet of the report."""
    shades = ["", ""]
    for name, pair in SERIES.items():
        for at in (0, 1):
            shades[at] += f"--{name}: {pair[at]}; --{name}-soft: {pair[at]}{_SOFT}; "
    marks = "".join(
        f".line.{name} {{ color: var(--{name}); }}\n.dot.{name}, .swatch.{name} {{ background: var(--{name}); }}\n"
        for name in SERIES
    )
    extra = (files("descend.gallery") / "gallery.css").read_text(encoding="utf-8")
    dark = f"@media (prefers-color-scheme: dark) {{ :root:not(.printing) {{ {shades[1]}}} }}\n"
    return f":root {{ {shades[0]}}}\n{dark}{marks}{extra}"
