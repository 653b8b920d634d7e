"""Worker processes: trainings, or packs of them, one after another, on as many cores as there are.

A worker is a fork of this process, as those of PyTorch's ``DataLoader`` are, and finds every job in its
memory. It is told a number, works, and sends the state back. Whoever waits for it then holds the training as if it
had been trained here. A worker leaves the thread pools of other libraries, which do not survive a fork, alone.

What goes through the pipes is a state as :func:`descend.training.state.to_bytes` writes it. Reading it executes
nothing.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal, Protocol

import torch

from descend.training.observers import Quiet, stopping_on_signals
from descend.training.state import from_bytes, to_bytes

__all__ = ["OnMessage", "Job", "Kind", "Outcome", "StopOnRequest", "Send", "Workers", "workers_unavailable_because"]

Kind = Literal["trained", "diverged", "lost", "returned"]

Send = Callable[[Mapping[str, Any], Any], None]
"""(what it is, a state): sends word from a worker to its parent. With "wait" it returns when the parent has taken it up."""

OnMessage = Callable[[int, Mapping[str, Any], Any], None]
"""(number of the job, what it is, a state): the word as it arrives."""

POLL_INTERVAL = 0.2
"""Seconds within which a request to stop is passed on."""

GRACE_PERIOD = 10.0
"""Seconds that a worker has to save its checkpoint when it is asked to stop and nobody listens any more."""


def workers_unavailable_because() -> str:
    """Why no worker can be started here; empty where it can."""
    if sys.platform != "linux":
        return "worker processes are forked, on Linux alone"
    if multiprocessing.current_process().daemon:
        return "this process is a worker itself, and may have none"
    # Autograd keeps a thread for each device that it sees and refuses to work in a fork of such a process.
    if torch.cuda.is_available():
        return "a process that may use CUDA is not forked"
    return ""


@dataclass(frozen=True)
class Outcome:
    """What came of a job that was given to a worker.

    Args:
        number: the job's.
        kind: "trained" (to its end, to the pause, or interrupted), "diverged", "lost" (the worker died), "returned"
            (it has to be done here: something went wrong that is best seen where it is).
        state: of the training, where it was trained or diverged.
        message: what went wrong.
    """

    number: int
    kind: Kind
    state: dict[str, Any] | None = None
    message: str = ""


class Job(Protocol):
    """What a worker can do."""

    def work(self, until: int | None, workers: Workers, tell: Send) -> tuple[Kind, Any, str]:
        """Train; called in the worker.

        Args:
            until: the end of which epoch to pause at; None: to the end.
            workers: whose ``stop_requested`` says whether to stop after the next step.
            tell: sends word to the parent meanwhile.

        Returns:
            Kind, state and message of the outcome.
        """


class Workers:
    """Does several jobs in worker processes, each on one thread.

    Args:
        jobs: by number. They are left as they are: what was trained is in the outcomes.
        until: as for :meth:`Job.work`.
        count: of processes, at most.
    """

    def __init__(self, jobs: Mapping[int, Job], until: int | None, count: int) -> None:
        self.stop_requested = False
        self._jobs, self._until, self._count = jobs, until, count
        self._busy: dict[Connection, _Worker] = {}
        self._idle: list[_Worker] = []

    def run(self, heard: OnMessage, done: Callable[[Outcome], None]) -> None:
        """Do all; on Ctrl-C and SIGTERM stop those in work after their step, and begin no more.

        Args:
            heard: called with each word that a worker sends meanwhile.
            done: called with each outcome.
        """
        waiting = deque(self._jobs)
        try:
            with stopping_on_signals(self):
                while waiting or self._busy:
                    if self.stop_requested:
                        waiting.clear()
                        for worker in self._busy.values():
                            worker.request_stop()
                    while waiting and len(self._busy) < self._count and self._give(waiting[0]):
                        waiting.popleft()
                    if waiting and not self._count:
                        for number in waiting:
                            done(Outcome(number, "returned", None, "the system starts no process"))
                        break
                    for pipe in wait(list(self._busy), timeout=POLL_INTERVAL):
                        assert isinstance(pipe, Connection)
                        self._listen(self._busy[pipe], heard, done)
        finally:
            workers = [*self._busy.values(), *self._idle]
            for worker in workers:
                worker.release()
            for worker in workers:
                worker.end()

    def _give(self, number: int) -> bool:
        """Let an idle or a new worker train; False, and fewer workers from now on, where the system starts none."""
        try:
            worker = self._idle.pop() if self._idle else self._start()
        except OSError:
            self._count = len(self._busy)
            return False
        worker.number = number
        self._busy[worker.pipe] = worker
        with suppress(OSError):  # it is dead: listening to it tells how
            worker.pipe.send_bytes(to_bytes(None, {"number": number}))
        return True

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        inherited = [ours, *self._busy, *(worker.pipe for worker in self._idle)]
        process = context.Process(target=self._serve, args=(theirs, inherited), name="descend-worker")
        with warnings.catch_warnings():
            # Of threads that a fork leaves behind; a worker has one thread and uses nobody else's.
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                process.start()
            except OSError:
                ours.close()
                raise
            finally:
                theirs.close()
        return _Worker(process, ours)

    def _listen(self, worker: _Worker, heard: OnMessage, done: Callable[[Outcome], None]) -> None:
        try:
            state, said = from_bytes(worker.pipe.recv_bytes())
        except (EOFError, OSError):
            del self._busy[worker.pipe]
            done(Outcome(worker.number, "lost", None, worker.exit_message()))
            return
        if "outcome" not in said:
            heard(worker.number, said, state)
            if said.get("wait"):
                with suppress(OSError):  # it is dead: listening to it tells how
                    worker.pipe.send_bytes(to_bytes(None))
            return
        outcome = Outcome(worker.number, said["outcome"], state, said["message"])
        self._idle.append(self._busy.pop(worker.pipe))
        worker.number = -1
        done(outcome)

    def _serve(self, pipe: Connection, inherited: list[Connection]) -> None:
        """The life of a worker: a number comes in, the state of what it trained goes out."""
        # Ctrl-C reaches all processes of a terminal. The parent asks its workers to stop, by SIGTERM.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        # As long as one process holds the other end of a pipe, nobody sees that it is closed.
        for each in inherited:
            each.close()
        torch.set_num_threads(1)
        try:
            while True:
                number = from_bytes(pipe.recv_bytes())[1]["number"]
                pipe.send_bytes(self._done(self._jobs[number], pipe))
        except (EOFError, OSError):
            return  # no more work, or no more parent

    def _done(self, job: Job, pipe: Connection) -> bytes:
        def tell(said: Mapping[str, Any], state: Any) -> None:
            pipe.send_bytes(to_bytes(state, dict(said)))
            if said.get("wait"):
                pipe.recv_bytes()

        try:
            kind, state, message = job.work(self._until, self, tell)
        except Exception as cause:
            kind, state, message = "returned", None, repr(cause)
        return to_bytes(state, {"outcome": kind, "message": message})


class _Worker:
    """A worker process as its parent sees it; ``number`` is that of the training it does, -1 of none."""

    def __init__(self, process: BaseProcess, pipe: Connection) -> None:
        self.process, self.pipe, self.number = process, pipe, -1
        self._asked = False

    def request_stop(self) -> None:
        """Let it stop after its step."""
        if not self._asked:
            self._asked = True
            self.process.terminate()

    def exit_message(self) -> str:
        """What it died of."""
        self.pipe.close()
        self.process.join()
        code = self.process.exitcode or 0
        of = f"by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"with exit status {code}"
        advice = (
            "; the system does so when memory runs out: use fewer workers" if -code == signal.SIGKILL else ""
        )
        return f"the worker process {self.process.pid} was ended {of}{advice}"

    def release(self) -> None:
        """Give it no more work, and stop what it does."""
        self.pipe.close()
        if self.number >= 0:
            self.request_stop()

    def end(self) -> None:
        """Wait until it, let go, is gone. One that still trains saves its checkpoint first, if it does so soon."""
        self.process.join(GRACE_PERIOD)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class StopOnRequest(Quiet):
    """In a worker: passes on a request to stop that came before the first step."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def started(self, training: Any) -> None:
        """Take up the request."""
        training.stop_requested = training.stop_requested or self._workers.stop_requested
