"""Worker processes: trainings, or packs of them, distributed over the available cores.

A worker is a fork of this process, like the workers of PyTorch's ``DataLoader``, so every job is already in its memory.
It receives the number of a job, trains, and sends the state back; the parent then holds the training as if it had been
trained here. A worker does not use the thread pools of other libraries, which do not survive a fork.

States are sent through pipes in the format of :func:`descend.training.state.to_bytes`. Reading them executes no code.
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

from descend.process import exclusive
from descend.training.observers import Quiet, stopping_on_signals
from descend.training.state import from_bytes, to_bytes

__all__ = [
    "Job",
    "Kind",
    "OnMessage",
    "Outcome",
    "Send",
    "StopOnRequest",
    "Workers",
    "workers_unavailable_because",
]

Kind = Literal["trained", "diverged", "lost", "returned"]

Send = Callable[[Mapping[str, Any], Any], None]
"""(message, state): sends a message from a worker to its parent. With "wait" it returns once the parent has handled it."""

OnMessage = Callable[[int, Mapping[str, Any], Any], None]
"""(number of the job, message, state): handles a message in the parent."""

POLL_INTERVAL = 0.2
"""Seconds within which a request to stop is passed on to the workers."""

GRACE_PERIOD = 10.0
"""Seconds that a worker has to save its checkpoint after a request to stop, once its pipe is closed."""


def workers_unavailable_because() -> str:
    """Return the reason why no worker can be started from this process; empty if workers can be started."""
    if sys.platform != "linux":
        return "worker processes are forked, which is supported on Linux only"
    if multiprocessing.current_process().daemon:
        return "this process is itself a worker (a daemon), which cannot have children"
    # Autograd has a thread for each visible device and refuses to work in a fork of such a process.
    if torch.cuda.is_available():
        return "a process that may use CUDA cannot be forked"
    return ""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job that was given to a worker.

    Args:
        number: of the job.
        kind: "trained" (until it stopped, paused or was interrupted), "diverged", "lost" (the worker process ended), or
            "returned" (the worker raised an exception: the job has to be repeated in this process, where the exception
            can be seen).
        state: of the training, if it was trained or diverged.
        message: the cause of a failure.
    """

    number: int
    kind: Kind
    state: dict[str, Any] | None = None
    message: str = ""


class Job(Protocol):
    """What a worker can execute."""

    def work(self, until: int | None, workers: Workers, send: Send) -> tuple[Kind, Any, str]:
        """Train; called in the worker.

        Args:
            until: pause at the end of this epoch; None: train until it stops.
            workers: their ``stop_requested`` is set to request a stop after the current step.
            send: sends a message to the parent.

        Returns:
            Kind, state and message of the outcome.
        """


class Workers:
    """Executes jobs in worker processes, each on one thread.

    Args:
        jobs: by number. They do not change in this process: the results are in the outcomes.
        until: as for :meth:`Job.work`.
        count: maximum number of processes.
    """

    def __init__(self, jobs: Mapping[int, Job], until: int | None, count: int) -> None:
        self.stop_requested = False
        self._jobs, self._until, self._count = jobs, until, count
        self._busy: dict[Connection, _Worker] = {}
        self._idle: list[_Worker] = []

    def run(self, on_message: OnMessage, on_outcome: Callable[[Outcome], None]) -> None:
        """Execute all jobs; on Ctrl-C or SIGTERM stop the running ones after their current step, and start no more.

        Args:
            on_message: called with each message of a worker.
            on_outcome: called with each outcome.
        """
        waiting = deque(self._jobs)
        try:
            # A child that is forked while another thread computes may inherit a lock of PyTorch that is never released.
            with exclusive(), stopping_on_signals(self):
                while waiting or self._busy:
                    if self.stop_requested:
                        waiting.clear()
                        for worker in self._busy.values():
                            worker.request_stop()
                    while waiting and len(self._busy) < self._count and self._assign(waiting[0]):
                        waiting.popleft()
                    if waiting and not self._count:
                        for number in waiting:
                            on_outcome(Outcome(number, "returned", None, "the system cannot start a process"))
                        break
                    for pipe in wait(list(self._busy), timeout=POLL_INTERVAL):
                        assert isinstance(pipe, Connection)
                        self._receive(self._busy[pipe], on_message, on_outcome)
        finally:
            workers = [*self._busy.values(), *self._idle]
            for worker in workers:
                worker.release()
            for worker in workers:
                worker.join()

    def _assign(self, number: int) -> bool:
        """Assign a job to an idle or new worker; if the system cannot start one, return False and lower the maximum."""
        try:
            worker = self._idle.pop() if self._idle else self._start()
        except OSError:
            self._count = len(self._busy)
            return False
        worker.number = number
        self._busy[worker.pipe] = worker
        with suppress(OSError):  # its process has ended: receiving from it returns the cause
            worker.pipe.send_bytes(to_bytes(None, {"number": number}))
        return True

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("fork")
        parent_end, child_end = context.Pipe()
        inherited = [parent_end, *self._busy, *(worker.pipe for worker in self._idle)]
        process = context.Process(target=self._serve, args=(child_end, inherited), name="descend-worker")
        with warnings.catch_warnings():
            # It warns of threads that a fork leaves behind; a worker has one thread and uses no others.
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                process.start()
            except OSError:
                parent_end.close()
                raise
            finally:
                child_end.close()
        return _Worker(process, parent_end)

    def _receive(self, worker: _Worker, on_message: OnMessage, on_outcome: Callable[[Outcome], None]) -> None:
        try:
            state, message = from_bytes(worker.pipe.recv_bytes())
        except (EOFError, OSError):
            del self._busy[worker.pipe]
            on_outcome(Outcome(worker.number, "lost", None, worker.exit_message()))
            return
        if "outcome" not in message:
            on_message(worker.number, message, state)
            if message.get("wait"):
                with suppress(OSError):  # its process has ended: receiving from it returns the cause
                    worker.pipe.send_bytes(to_bytes(None))
            return
        outcome = Outcome(worker.number, message["outcome"], state, message["message"])
        self._idle.append(self._busy.pop(worker.pipe))
        worker.number = -1
        on_outcome(outcome)

    def _serve(self, pipe: Connection, inherited: list[Connection]) -> None:
        """Run the loop of a worker: receive the number of a job, send its outcome."""
        # Ctrl-C reaches all processes of a terminal; the parent requests its workers to stop by SIGTERM instead.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        # A closed pipe is noticed only when no process holds its other end.
        for connection in inherited:
            connection.close()
        torch.set_num_threads(1)
        try:
            while True:
                number = from_bytes(pipe.recv_bytes())[1]["number"]
                pipe.send_bytes(self._execute(self._jobs[number], pipe))
        except (EOFError, OSError):
            return  # no more jobs, or the parent has ended

    def _execute(self, job: Job, pipe: Connection) -> bytes:
        def send(message: Mapping[str, Any], state: Any) -> None:
            pipe.send_bytes(to_bytes(state, dict(message)))
            if message.get("wait"):
                pipe.recv_bytes()

        try:
            kind, state, message = job.work(self._until, self, send)
        except Exception as cause:
            kind, state, message = "returned", None, repr(cause)
        return to_bytes(state, {"outcome": kind, "message": message})


class _Worker:
    """A worker process as its parent sees it; ``number`` is that of its current job, or -1."""

    def __init__(self, process: BaseProcess, pipe: Connection) -> None:
        self.process, self.pipe, self.number = process, pipe, -1
        self._stop_requested = False

    def request_stop(self) -> None:
        """Request it to stop after its current step."""
        if not self._stop_requested:
            self._stop_requested = True
            self.process.terminate()

    def exit_message(self) -> str:
        """Wait for the end of the process, and return how it ended."""
        self.pipe.close()
        self.process.join()
        code = self.process.exitcode or 0
        if code >= 0:
            return f"the worker process {self.process.pid} ended with exit status {code}"
        remedy = (
            "; the system does this when memory runs out: use fewer workers"
            if -code == signal.SIGKILL
            else ""
        )
        return f"the worker process {self.process.pid} was ended by signal {-code} ({signal.Signals(-code).name}){remedy}"

    def release(self) -> None:
        """Give it no more jobs, and request it to stop its current one."""
        self.pipe.close()
        if self.number >= 0:
            self.request_stop()

    def join(self) -> None:
        """Wait for the end of a released process; it is killed if it does not save its checkpoint within the grace period."""
        self.process.join(GRACE_PERIOD)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class StopOnRequest(Quiet):
    """Observer in a worker that passes on a request to stop made before the first step."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def started(self, training: Any) -> None:
        """Pass on the request."""
        training.stop_requested = training.stop_requested or self._workers.stop_requested
