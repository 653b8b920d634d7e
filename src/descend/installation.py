"""Commands that install an extra or update descend: from a package index, or from the checkout that descend runs from."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path

__all__ = ["checkout", "install_command", "update_command"]

_SOURCE = Path(__file__).resolve().parents[2]


def install_command(extra: str, *, folder: Path | None = None) -> str:
    """Return the command that installs an extra of descend into this environment.

    Args:
        extra: the name of the extra.
        folder: the checkout that descend was installed from. Default None: that of this process, if there is one.

    >>> print(install_command("onnx", folder=Path("/home/ada/descend")))  # doctest: +ELLIPSIS
    cd /home/ada/descend && ...pip install -e '.[onnx]'
    """
    folder = checkout() if folder is None else folder
    if folder is None:
        return f"{_pip()} install 'descend[{extra}]'"
    constraints = "-c constraints.txt " if (folder / "constraints.txt").is_file() else ""
    return f"cd {shlex.quote(str(folder))} && {_pip()} install {constraints}-e '.[{extra}]'"


def update_command() -> str:
    """Return the command that updates descend in this environment."""
    folder = checkout()
    if folder is None:
        return f"{_pip()} install --upgrade descend"
    return f"git -C {shlex.quote(str(folder))} pull"


def _pip() -> str:
    """Return ``pip`` if a shell finds that of this environment, else the path of this Python with ``-m pip``."""
    found = shutil.which("pip")
    own = found is not None and Path(found).parent == Path(sys.executable).parent
    return "pip" if own else f"{shlex.quote(sys.executable)} -m pip"


def checkout() -> Path | None:
    """Return the folder with the sources of descend on this machine, or None.

    It is the folder around the package if that has a ``pyproject.toml`` of descend (an editable installation, or a
    checkout on the path of modules), or else the folder that was installed with ``pip install FOLDER``.
    """
    if _is_checkout(_SOURCE):
        return _SOURCE
    # Imported here, because these modules take longer to import than this package.
    from importlib import metadata
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    try:
        record = metadata.distribution("descend").read_text("direct_url.json")
        url = urlsplit(str(json.loads(record or "{}").get("url", "")))
    except (metadata.PackageNotFoundError, ValueError, AttributeError, OSError):
        return None
    if url.scheme != "file":
        return None
    folder = Path(url2pathname(url.path))
    return folder if _is_checkout(folder) else None


def _is_checkout(folder: Path) -> bool:
    try:
        return 'name = "descend"' in (folder / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return False
