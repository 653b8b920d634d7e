"""Names in schemas of earlier versions, so that run folders written by them can be read."""

from __future__ import annotations

from typing import Any

__all__ = ["with_current_names"]


def with_current_names(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a schema with the current names of all fields.

    >>> with_current_names({"rotation": {"size": 1, "centre": [0.5]}})
    {'rotation': {'size': 1, 'center': [0.5]}}
    """
    rotation = content.get("rotation")
    if not isinstance(rotation, dict):
        return content
    return content | {
        "rotation": {"center" if key == "centre" else key: own for key, own in rotation.items()}
    }
