"""Print the dependencies of pyproject.toml at their lower bounds: ``numpy>=1.26`` as ``numpy==1.26``.

For ``make test-lowest``. Extras are included, and the libraries that tests take data from. torch is left out, as its old
releases come with gigabytes of CUDA from the package index; the tools that run the tests are, too.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

EXCEPT = {"torch", "hypothesis", "mypy", "pytest", "pytest-timeout", "pytest-xdist"}

content = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
project = content["project"]
extras = [each for extra in project["optional-dependencies"].values() for each in extra]
for requirement in [*project["dependencies"], *extras, *content["dependency-groups"]["test"]]:
    name, bound, version = requirement.partition(">=")
    assert bound, f"{requirement}: has no lower bound"
    if name not in EXCEPT:
        print(f"{name}=={version}")
