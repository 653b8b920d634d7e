"""Plotly's JavaScript, compressed so that a page contains it at 40 % of its size.

Plotly's bundle has 4.8 MB. Deflated and base64-encoded it takes 2 MB of the page; the browser decompresses it with
``DecompressionStream`` (available in all browsers since May 2023) within some tens of milliseconds.
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from functools import cache
from typing import Any

from descend.errors import require
from descend.report.document import csp_hash

__all__ = ["Bundle", "check", "plotly_bundle"]

# Level 5 takes about 0.2 s; level 9 takes half as long again and saves only another 1 %.
_LEVEL = 5


@dataclass(frozen=True)
class Bundle:
    """A compressed script with its hash.

    Args:
        compressed: base64 of the zlib stream (RFC 1950) of the script in UTF-8.
        csp_hash: the hash of the script, as in a content security policy.
    """

    compressed: str
    csp_hash: str


def check() -> None:
    """Raise an error if Plotly is not installed.

    Raises:
        MissingExtraError: Plotly is not installed.
    """
    _offline()


def _offline() -> Any:
    return require("plotly.offline", "gallery", "writing a page of the gallery")


@cache
def plotly_bundle() -> Bundle:
    """Return Plotly's bundle, compressed once per process."""
    script: str = _offline().get_plotlyjs()
    compressed = base64.b64encode(zlib.compress(script.encode(), _LEVEL)).decode()
    return Bundle(compressed, csp_hash(script))
