"""What a process shares among its threads, its forks and other processes.

=====================  ========================================================================
:mod:`.exclusive`      one thread at a time uses global state: random generators, warning filters
:mod:`.forks`          work in a forked process, where the threads of libraries do not exist
:mod:`.locks`          one process at a time trains into a folder
:mod:`.memory`         requests for more memory than there is, in words
:mod:`.surroundings`   what imports of libraries change: environment, warning filters
=====================  ========================================================================
"""

from __future__ import annotations

from descend.process._exclusive import exclusive
from descend.process.forks import in_fork, is_fork
from descend.process.locks import check_unlocked, locked, locks_out
from descend.process.surroundings import undisturbed

__all__ = ["check_unlocked", "exclusive", "in_fork", "is_fork", "locked", "locks_out", "undisturbed"]
