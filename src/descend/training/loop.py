"""The training loop.

:func:`fit` is the loop: the complete order of events of a training, in one function. What it trains is a
:class:`Trainable`: one network (:class:`Training`) or many networks as one. Each step passes its objective to the optimizer as
a closure, as ``torch.optim`` defines it, so that methods which evaluate the objective several times per step need no other
interface. No step waits for the device: losses stay on it until the epoch ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from descend.constraints import AugmentedLagrangian
from descend.data.batches import Batch, Batches
from descend.errors import TrainingError, UserError
from descend.optim.lean import Step, lean_step
from descend.schedules import Schedule
from descend.training.averaging import Average
from descend.training.objective import Objective
from descend.training.records import Record, epoch_loss, not_finite, read_values, record_of, undefined_as_none
from descend.training.scheduled import Scheduled
from descend.training.state import clone
from descend.training.stopping import Stopping

__all__ = ["RULES", "STOPPED", "NotFinite", "Observer", "Trainable", "Training", "checked_reason", "fit"]


def fit(training: Trainable, *, until: int | None = None) -> str:
    """Train until the stopping rule or a request to stop ends training; return the reason.

    Args:
        training: one network or many, at the start or at any later point.
        until: pause at the end of this epoch; continuing later yields the same bits as an uninterrupted run.

    Returns:
        "max_epochs", "patience", "max_seconds", "target", "gradient_tolerance", the reason of an observer that requested
        a stop, "interrupted" (within an epoch; continuing later yields the same bits), or "" after a pause.

    Raises:
        NotFinite: a loss or a weight became NaN or infinite, or a metric infinite, which is checked at the end of each
            epoch. A metric that is NaN is undefined on its rows and is recorded as None.
    """
    t, clock = training, time.perf_counter
    started = clock() - t.seconds
    step_observers = [observer.stepped for observer in t.observers]
    for observer in t.observers:
        observer.started(t)
    while not t.stopped and (until is None or t.epoch < until):
        steps, advance = t.batches.steps_per_epoch, t.stepper()
        for batches in t.batches.epoch(t.epoch, start=t.step_in_epoch):
            t.losses.append(advance(batches))
            t.step += 1
            t.step_in_epoch += 1
            t.seconds = clock() - started
            for stepped in step_observers:
                stepped(t)
            if t.stop_requested:
                break
        if t.step_in_epoch < steps:
            t.stopped = "interrupted"
            break
        record = t.close_epoch(lambda: clock() - started)
        for observer in t.observers:
            observer.epoch_ended(t, record)
        if not t.stopped:
            t.stopped = "interrupted" if t.stop_requested else t.stop_reason
    for observer in t.observers:
        observer.finished(t)
    return t.stopped


RULES = ("max_epochs", "patience", "max_seconds", "target", "gradient_tolerance")
"""The reasons of a stopping rule to end training."""

STOPPED = "stopped"
"""The reason with which a training is finished that was stopped before its end."""

OTHER_REASONS = (
    STOPPED,
    "interrupted",
    "diverged",
    "dropped",
    "lost",
    "finished",
    "failed",
    "minutes",
    "max_rounds",
)


def checked_reason(reason: str) -> str:
    """Return the reason of a request to stop.

    Raises:
        UserError: it is empty, or one of those that training itself records.
    """
    if not isinstance(reason, str) or not reason.strip():
        raise UserError(f"request_stop: expected a reason as a string, got {reason!r}")
    if reason in (*RULES, *OTHER_REASONS):
        raise UserError(
            f"request_stop: the reason {reason!r} is one that training itself records; choose another word"
        )
    return reason


class NotFinite(TrainingError):
    """A loss, a weight or a metric is NaN or infinite. Callers catch it to roll back and to explain it."""


class Trainable(Protocol):
    """What :func:`fit` trains: one network (:class:`Training`), or many as one."""

    observers: Sequence[Observer]
    epoch: int
    step_in_epoch: int
    step: int
    seconds: float
    losses: list[Tensor]
    history: list[Record]
    stop_requested: bool
    stop_reason: str
    stopped: str

    @property
    def batches(self) -> Batches:
        """The training rows, step by step. They may differ in the next epoch."""

    def stepper(self) -> Callable[[Sequence[Batch]], Tensor]:
        """Return a function that takes one step on its batches and returns the loss, which stays on the device."""

    def close_epoch(self, seconds: Callable[[], float]) -> Record:
        """Measure the epoch, decide whether to stop, and start the next; ``seconds`` returns the training time so far."""

    def check_finite(self) -> None:
        """Raise :class:`NotFinite` if a loss or a weight is not finite. Waits for the device."""

    def state_dict(self) -> dict[str, Any]:
        """Return everything that is needed to continue with the same bits."""


class Observer(Protocol):
    """An object that is notified of the events of a :class:`Trainable`.

    An observer watches: it may end training with ``training.request_stop()``, and changes nothing else. The functions of
    :mod:`descend` also take objects with only some of these methods, and functions
    (:func:`descend.training.observers.as_observer`).
    """

    def started(self, training: Any) -> None:
        """Training starts, or continues after a resume."""

    def stepped(self, training: Any) -> None:
        """A step is done. Called at every step, so it must return quickly and must not wait for the device."""

    def epoch_ended(self, training: Any, record: Record) -> None:
        """An epoch is done and recorded."""

    def finished(self, training: Any) -> None:
        """Training has ended, for whatever reason."""


@dataclass
class Training:
    """The components of the training of one network, and its progress.

    Args:
        model: the module that is trained.
        objective: its loss on a step's rows, as a closure.
        optimizer: any ``torch.optim.Optimizer``.
        schedule: the learning rate over time.
        batches: the training rows, step by step.
        stopping: when to stop and which epoch is best.
        evaluate: loss and metrics on the validation rows, as 0-dimensional tensors on the device; None
            without such rows.
        monitor: the name of the monitored value among those of ``evaluate``.
        schedule_monitor: the loss reported to the schedule: "validation", or "objective" for the training loss.
        observers: notified of each event.
        average: a moving average of the weights, evaluated and kept in place of the last weights; None for none.
        lagrangian: the general conditions on the weights, if any. Epochs that violate them are kept only as long as none
            satisfies them.
        number: the number of the training among those that are trained together. Default 0.
        scheduled: settings that change from step to step.
    """

    model: nn.Module
    objective: Objective
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    batches: Batches
    stopping: Stopping
    evaluate: Callable[[], dict[str, Tensor]] | None = None
    monitor: str = "loss"
    schedule_monitor: str = "validation"
    observers: Sequence[Observer] = ()
    average: Average | None = None
    lagrangian: AugmentedLagrangian | None = None
    number: int = 0
    scheduled: Sequence[Scheduled] = ()

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    losses: list[Tensor] = field(default_factory=list)
    history: list[Record] = field(default_factory=list)
    best: dict[str, Tensor] | None = None
    stop_requested: bool = False
    stop_reason: str = ""
    stopped: str = ""

    _step: Step | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])

    def stepper(self) -> Callable[[Sequence[Batch]], Tensor]:
        """Return a function that takes one step: learning rate, objective, optimizer, average."""
        if self._step is None:
            self._step = lean_step(self.optimizer)
        self.model.train()
        objective, optimizer, schedule, step = self.objective, self.optimizer, self.schedule, self._step
        average, last = self.average, self.batches.steps_per_epoch - 1

        def advance(batches: Sequence[Batch]) -> Tensor:
            factor = schedule.factor(self.step)
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
            for setting in self.scheduled:
                setting.begin_step(self.step)
            objective.wants_norm = self.step_in_epoch == last
            loss = step(objective.at(batches, self.epoch, self.step_in_epoch))
            if average is not None:
                average.update(self.step + 1)
            return loss

        return advance

    def request_stop(self, reason: str = "requested") -> None:
        """End training after the current epoch, as an early-stopping rule does: the best weights are kept and evaluated.

        The rest of the current epoch is trained, since weights are measured at the end of an epoch only. Of several
        requests the first counts. Where an early-stopping rule ends training at the same epoch, its reason is recorded.

        Args:
            reason: recorded as ``metrics["stopped"]`` of the run. Default "requested".

        Raises:
            UserError: the reason is empty, or one of those that training itself records.
        """
        self.stop_reason = self.stop_reason or checked_reason(reason)

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of the first parameter group at a 0-based step."""
        return float(self.optimizer.param_groups[0]["initial_lr"] * self.schedule.factor(step))

    def close_epoch(self, seconds: Callable[[], float]) -> Record:
        """Measure the epoch, decide whether to keep its weights and whether to stop, and start the next."""
        if self.lagrangian is not None:
            self.lagrangian.epoch_ended()
        for setting in self.scheduled:  # the network is left as its recipe describes it
            setting.apply(1.0)
        with self.average.applied() if self.average is not None else nullcontext():
            record = _measured_epoch(self)
            self.losses, self.step_in_epoch = [], 0
            self.epoch += 1
            record["seconds"] = self.seconds = seconds()
            self.stopped = self.judge(self.stopping, record) or ""
            record["best"] = self.stopping.improved
            if self.stopping.improved:
                self.best = clone(self.model.state_dict())
        self.report_to_schedule(record)
        self.history.append(record)
        return record

    def judge(self, stopping: Stopping, record: Record) -> str | None:
        """Let a stopping rule observe the record of an epoch; return the reason to stop, if any."""
        return stopping.observe(
            _monitored(self, record),
            seconds=record["seconds"],
            gradient_norm=record.get("gradient_norm"),
            feasible=record.get("constraints", {}).get("feasible", True),
        )

    def report_to_schedule(self, record: Record, schedule: Schedule | None = None) -> None:
        """Report the loss of an epoch that the schedule monitors, if there is one, to the schedule or another one."""
        part = "train" if self.schedule_monitor == "objective" else "validation"
        if part in record:
            (schedule or self.schedule).observe(record[part]["loss"])

    def state_dict(self) -> dict[str, Any]:
        """Return everything that is needed to continue with the same bits.

        It contains no random state, since all random numbers are a function of (seed, epoch, step).
        """
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": dict(self.schedule.state_dict()),
            "stopping": self.stopping.state_dict(),
            "epoch": self.epoch,
            "step_in_epoch": self.step_in_epoch,
            "step": self.step,
            "seconds": self.seconds,
            "losses": list(self.losses),
            "gradient_norm": self.objective.norm,
            "gradients": self.objective.gradients,
            "several": self.objective.several,
            "average": None if self.average is None else self.average.state_dict(),
            "lagrangian": None if self.lagrangian is None else self.lagrangian.state_dict(),
            "history": list(self.history),
            "best": self.best,
            "stopped": self.stopped,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state returned by :meth:`state_dict`, which is copied."""
        state = clone(dict(state))
        self._step = None  # it refers to tensors of the optimizer's state, which are replaced
        device = next(self.model.parameters()).device
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.stopping.load_state_dict(state["stopping"])
        self.epoch, self.step_in_epoch = state["epoch"], state["step_in_epoch"]
        self.step, self.seconds = state["step"], state["seconds"]
        self.losses = [loss.to(device) for loss in state["losses"]]
        norm = state["gradient_norm"]
        self.objective.norm = None if norm is None else norm.to(device)
        self.objective.gradients, self.objective.several = state["gradients"], state["several"]
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.lagrangian is not None:
            self.lagrangian.load_state_dict(state["lagrangian"])
        self.history, self.best, self.stopped = state["history"], state["best"], state["stopped"]
        if self.best is not None:
            self.best = {name: tensor.to(device) for name, tensor in self.best.items()}

    def check_finite(self) -> None:
        """Raise :class:`NotFinite` if a loss of this epoch or a weight is not finite. Waits for the device."""
        values = [*self.losses, _weight_norm(self.model)]
        if not torch.stack(values).isfinite().all():
            raise NotFinite(f"a loss or a weight is not finite by step {self.step}")


def _measured_epoch(t: Training) -> Record:
    """Return the record of the epoch that has just ended, after one transfer from the device."""
    named = {"train.loss": epoch_loss(t.losses, t.batches.rows_per_step)}
    if t.objective.norm is not None:
        named["gradient_norm"] = t.objective.norm
    named["weight_norm"] = _weight_norm(t.model)
    if t.lagrangian is not None:
        named |= {f"constraints.{name}": value for name, value in t.lagrangian.metrics().items()}
    if t.evaluate is not None:
        named |= {f"validation.{name}": value for name, value in t.evaluate().items()}
    values = undefined_as_none(read_values(named))
    bad = not_finite(values)
    if bad:
        raise NotFinite(f"{', '.join(bad)} is not finite after epoch {t.epoch + 1}")
    record = record_of(values, t.epoch + 1, t.step, t.seconds, t.optimizer.param_groups[0]["lr"])
    if t.lagrangian is not None:
        constraints = record["constraints"]
        constraints["feasible"] = bool(constraints["feasible"])
        constraints["kkt"] = max(
            record.get("gradient_norm", 0.0), constraints["violation"], constraints["complementarity"]
        )
    return record | {"gradients": t.objective.gradients} if t.objective.several else record


def _monitored(t: Training, record: Record) -> float | None:
    return record["validation"].get(t.monitor) if "validation" in record else None


def _weight_norm(model: nn.Module) -> Tensor:
    """Return the Euclidean norm of all trainable weights."""
    return torch.nn.utils.get_total_norm([p.detach() for p in model.parameters() if p.requires_grad])
