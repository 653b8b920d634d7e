"""``python -m descend`` is the command ``descend``."""

from __future__ import annotations

import sys

from descend.cli import main

if __name__ == "__main__":
    sys.argv[0] = "descend"  # a run records the command that made it
    sys.exit(main())
