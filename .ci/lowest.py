"""Print the dependencies of pyproject.toml, extras included, each at its lower bound: ``numpy>=1.26`` as ``numpy==1.26``.

For ``make test-lowest``. torch is left out: its old releases come with gigabytes of CUDA from the package index.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

EXCEPT = {"torch"}

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = (each for extra in project["optional-dependencies"].values() for each in extra)
for requirement in [*project["dependencies"], *extras]:
    name, bound, version = requirement.partition(">=")
    assert bound, f"{requirement}: has no lower bound"
    if name not in EXCEPT:
        print(f"{name}=={version}")
