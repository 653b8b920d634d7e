from __future__ import annotations

import base64
import zlib

from plotly.offline import get_plotlyjs

from descend.gallery.bundle import plotly_bundle


def test_the_compressed_library_is_plotlys() -> None:
    assert zlib.decompress(base64.b64decode(plotly_bundle().compressed)).decode() == get_plotlyjs()


def test_compression_saves_more_than_half() -> None:
    assert len(plotly_bundle().compressed) < 0.45 * len(get_plotlyjs().encode())


def test_base64_needs_no_escaping_inside_a_script() -> None:
    assert not set(plotly_bundle().compressed) & set("<>&\"'\r\n")
