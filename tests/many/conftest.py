"""Makes the small trainings beside the tests importable."""

from __future__ import annotations

import sys
from pathlib import Path

# Tests are imported by path, so the modules beside them are found only if told where.
sys.path.insert(0, str(Path(__file__).parent))
