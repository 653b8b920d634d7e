"""Search in children that kill themselves after a number of trials of each method.

Run as a program: ``python -m tests.experiments.search.kill_search FOLDER``; prints a JSON object: method -> exit status.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from tests.support.forks import exit_status

from descend.experiments.search import search
from descend.experiments.search.journal import Journal

SPACE = {"optimizer.lr": {"log_uniform": [1e-3, 1e-1]}, "model.hidden": [[8], [16]]}
RECIPE = {"stop": {"max_epochs": 4, "patience": "none"}, "engine": {"threads": 1}}
ARGUMENTS = {"space": SPACE, "trials": 9, "engine": "loop"}
KILLED = {
    "random": (4, ARGUMENTS),
    "tpe": (9, ARGUMENTS | {"trials": 14, "batch": 4}),
    "halving": (7, ARGUMENTS),
}
"""After how many trials each method's search is killed, and its arguments."""


def killed(folder: Path, method: str) -> None:
    after, arguments = KILLED[method]
    add = Journal.add

    def last(self, trial) -> None:
        add(self, trial)
        if len(self.trials) == after:
            os.kill(os.getpid(), signal.SIGKILL)

    Journal.add = last  # type: ignore[method-assign]  # for this process
    search("iris", RECIPE, out=folder / method, method=method, **arguments)


def main(folder: Path) -> None:
    print(
        json.dumps({method: exit_status(lambda method=method: killed(folder, method)) for method in KILLED})
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
