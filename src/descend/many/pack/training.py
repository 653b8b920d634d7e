"""The training of a pack: K trainings run as one, each with its own rows, random streams, settings, stopping and history.

A pack is built from ordinary :class:`descend.training.loop.Training` objects. It stacks their networks and optimizers;
schedule, stopping rule, history and, after a member has stopped, its best weights remain in its own training. The loop is
the ordinary one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from descend.data.batches import Batch, MemoryBatches
from descend.many.pack.batches import PackedBatches
from descend.many.pack.dropout_noise import DropoutNoise
from descend.many.pack.flat_buffer import FlatBuffer, per_member
from descend.many.pack.losses import PackedLoss
from descend.many.pack.member import PackMember, member_state, restore_member
from descend.many.pack.network import Network
from descend.many.pack.optimizer import PackedOptimizer
from descend.regularization import decayed_parameters
from descend.rng import forked
from descend.schedules import ClosedForm
from descend.training.averaging import WeightAverage
from descend.training.clipping import clip_coefficient
from descend.training.loop import NotFinite, Observer, Training
from descend.training.records import Record, epoch_loss, not_finite, read_values, record_of, undefined_as_none
from descend.training.state import clone

__all__ = ["PackTraining"]

COMPACT_AT = 0.125
"""Stopped members are removed once they make up this share of the pack."""

Evaluate = Callable[[Callable[[Tensor], Tensor], Sequence[int]], dict[str, Tensor]]
"""(function from inputs (K, n, …) to outputs, numbers of the members) -> values (K,) by name."""


@dataclass
class PackTraining:
    """K trainings run as one by :func:`descend.training.loop.fit`.

    Args:
        members: in the order of the pack.
        network: the networks of the members, run as one.
        evaluate: loss and metrics of all members on their validation rows; None without such rows.
        ended: called with a member after it has stopped; the model of its training then holds the best weights.
        recorded: called with a member's number and the record of its history, each epoch.
        observed: called with each member and its record after an epoch is measured; the model of its training then holds
            its weights. It may request the member to stop.
        observers: of the pack.
    """

    members: list[PackMember]
    network: Network
    evaluate: Evaluate | None = None
    ended: Callable[[PackMember], None] = lambda member: None
    recorded: Callable[[int, Record], None] = lambda number, record: None
    observed: Callable[[PackMember, Record], None] | None = None
    observers: Sequence[Observer] = ()

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    losses: list[Tensor] = field(default_factory=list)
    history: list[Record] = field(default_factory=list)
    stop_requested: bool = False
    stop_reason: str = ""
    stopped: str = ""

    def __post_init__(self) -> None:
        trainings = [member.training for member in self.members]
        first = trainings[0]
        self.batches = PackedBatches([_memory_batches(t) for t in trainings])
        self._loss = PackedLoss([t.objective.loss for t in trainings])
        decay, _ = decayed_parameters(first.model)
        decayed = {id(p) for p in decay}
        self._decayed = self.network.flags(lambda parameter: id(parameter) in decayed, first.model)
        self._weights = self.network.weights
        self._gradients = self._weights.zeros_like()
        decays = [member.decay for member in self.members]
        self._optimizer = PackedOptimizer(
            [t.optimizer for t in trainings], self._weights, self._decayed, decays
        )
        averaged = any(isinstance(t.average, WeightAverage) for t in trainings)
        self._averages = FlatBuffer(self._weights.views) if averaged else None
        self._best = [t.detach().clone() for t in self.network.tensors]
        self._norm: Tensor | None = None
        self._prepare()

    def _prepare(self) -> None:
        """Set up everything that depends on the members currently in the pack."""
        trainings = [member.training for member in self.members]
        device, dtype = self._weights.vector.device, self._weights.vector.dtype

        def vector(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)

        gradient = [t.objective.gradient for t in trainings]
        norms = [math.inf if g.clip_norm is None else g.clip_norm for g in gradient]
        values = [math.inf if g.clip_value is None else g.clip_value for g in gradient]
        self._clip_norm = vector(norms) if min(norms) < math.inf else None
        self._clip_value = vector(values) if min(values) < math.inf else None
        self._l1 = vector([r.l1 for r in self.members]) if any(r.l1 for r in self.members) else None
        self._l2 = vector([r.l2 for r in self.members]) if any(r.l2 for r in self.members) else None
        with forked(device):
            sample = next(self.batches.epoch(0))[0].inputs[:, :2]
            self.network.outputs(sample)  # dropout layers record the shapes of their noise
        self._noise = DropoutNoise(
            self.network.dropouts, [t.objective.seed for t in trainings], self.network.widths, device
        )
        self.network.prepare(self._gradients.views, self._loss)

    def stepper(self) -> Callable[[Sequence[Batch]], Tensor]:
        """Return the function that takes one step of all members on their batches and returns their losses (K,)."""
        remaining = self.batches.steps_per_epoch - self.step_in_epoch
        learning_rates = self._learning_rates(range(self.step, self.step + remaining))
        first = self.step_in_epoch
        self.network.train()

        def advance(batches: Sequence[Batch]) -> Tensor:
            lr = learning_rates[self.step_in_epoch - first]
            self._noise.sample(batches, self.epoch, self.step_in_epoch)
            self._optimizer.begin_step(lr)
            losses = self._differentiate(batches)
            self._optimizer.step(self._gradients, lr)
            if self._averages is not None:
                self._update_averages(self._averages, self.step + 1)
            return losses

        return advance

    def _learning_rates(self, steps: range) -> list[Tensor]:
        """Return the learning rates (K,) of some steps; equal ones are the same object, so that they can be cached."""
        of_schedule: dict[Any, list[float]] = {}
        columns = []
        for member in self.members:
            schedule = member.training.schedule
            # Schedules with a state may differ although their descriptions are equal.
            shared = member.schedule is not None and isinstance(schedule, ClosedForm)
            key = member.schedule if shared else id(schedule)
            if key not in of_schedule:
                of_schedule[key] = [float(schedule.factor(step)) for step in steps]
            columns.append(of_schedule[key])
        bases = [[member.training.optimizer.param_groups[0]["initial_lr"]] for member in self.members]
        vector = self._weights.vector
        products = torch.tensor(columns, dtype=torch.float64) * torch.tensor(bases, dtype=torch.float64)
        result = list(products.t().to(vector.dtype).contiguous().to(vector.device, non_blocking=True))
        factors = list(zip(*of_schedule.values(), strict=True))
        for at in range(1, len(result)):
            if factors[at] == factors[at - 1]:
                result[at] = result[at - 1]
        return result

    @torch.no_grad()
    def _differentiate(self, batches: Sequence[Batch]) -> Tensor:
        """Return losses (K,) with penalties, and write the clipped gradient to ``_gradients``."""
        sizes = [batch.targets.shape[1] for batch in batches]
        total: Tensor | None = None
        for place, (batch, size) in enumerate(zip(batches, sizes, strict=True)):
            self._noise.use(place)
            share = None if len(batches) == 1 else size / sum(sizes)
            losses = self.network.differentiate(batch, self._loss, self._gradients, share, first=place == 0)
            total = losses if total is None else total + losses
        assert total is not None
        if self._l1 is not None or self._l2 is not None:
            total = total + self._add_penalties()
        self._clip()
        return total

    def _add_penalties(self) -> Tensor:
        """Add the gradients of the l1 and l2 penalties; return their values (K,)."""
        value = torch.zeros_like(self._weights.vector[: len(self.members)])
        pieces = zip(self._weights.views, self._gradients.views, self._decayed, strict=True)
        for weight, gradient in ((w, g) for w, g, decays in pieces if decays):
            if self._l2 is not None:
                gradient.add_(weight * per_member(2.0 * self._l2, weight))
                value += self._l2 * weight.flatten(1).square().sum(1)
            if self._l1 is not None:
                gradient.add_(weight.sign() * per_member(self._l1, weight))
                value += self._l1 * weight.flatten(1).abs().sum(1)
        return value

    def _clip(self) -> None:
        recorded = self.step_in_epoch == self.batches.steps_per_epoch - 1
        if self._clip_norm is not None or recorded:
            self._norm = _norms(self._gradients.views)
        if self._clip_norm is not None and self._norm is not None:
            coefficients = clip_coefficient(self._norm, self._clip_norm)
            for gradient in self._gradients.views:
                gradient.mul_(per_member(coefficients, gradient))
        if self._clip_value is not None:
            for gradient in self._gradients.views:
                bound = per_member(self._clip_value, gradient)
                torch.clamp(gradient, -bound, bound, out=gradient)

    def _update_averages(self, averages: FlatBuffer, step: int) -> None:
        shares = [
            1.0 - t.average.decay_at(step) if isinstance(t.average, WeightAverage) else 1.0
            for t in (member.training for member in self.members)
        ]
        if len(set(shares)) == 1:
            averages.vector.lerp_(self._weights.vector, shares[0])
            return
        own = torch.tensor(shares, dtype=averages.vector.dtype, device=averages.vector.device)
        for average, weight in zip(averages.views, self._weights.views, strict=True):
            average.lerp_(weight, per_member(own, weight).expand_as(weight))

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Replace the weights by their averages inside the context; restore them to the bit afterwards."""
        if self._averages is None:
            with self._optimizer.evaluation_weights():
                yield
            return
        own = self._weights.vector.clone()
        self._weights.vector.copy_(self._averages.vector)
        try:
            yield
        finally:
            self._weights.vector.copy_(own)

    def close_epoch(self, seconds: Callable[[], float]) -> Record:
        """Measure all members, apply their stopping rules, and start the next epoch without those that have stopped."""
        before = self.seconds if not self.history else self.history[-1]["seconds"]
        recorded = [place for place, member in enumerate(self.members) if not member.training.stopped]
        with self._averaged():
            values = self._measured()
            self.losses, self.step_in_epoch = [], 0
            self.epoch += 1
            self.seconds = seconds()
            share = (self.seconds - before) / len(self.members)
            improved = [
                place for place in recorded if self._record(self.members[place], values, place, share)
            ]
            if improved:
                index = torch.tensor(improved, device=self._weights.vector.device)
                for best, now in zip(self._best, self.network.tensors, strict=True):
                    best.index_copy_(0, index, now.detach().index_select(0, index))
        record: Record = {"epoch": self.epoch, "step": self.step, "seconds": self.seconds}
        recorded = [place for place in recorded if not self.members[place].failure]
        record["members"] = sum(not member.training.stopped for member in self.members)
        self.history.append(record)
        if self.observed is not None:
            self._notify(self.observed, recorded)
        self._release_stopped()
        return record

    def _notify(self, observed: Callable[[PackMember, Record], None], places: Sequence[int]) -> None:
        """Notify the observers of the members at these places, which may request them to stop."""
        for place in places:
            member, t = self.members[place], self.members[place].training
            t.step_in_epoch = 0
            t.model.load_state_dict(self.network.state(place, self.network.tensors))
            observed(member, t.history[-1])
            t.stopped = t.stopped or t.stop_reason
            self.stop_requested = self.stop_requested or t.stop_requested

    def _measured(self) -> dict[str, list[float]]:
        """Return the values of all members by name, in one transfer from the device."""
        named = {"train.loss": epoch_loss(self.losses, self.batches.rows_per_step)}
        if self._norm is not None:
            named["gradient_norm"] = self._norm
        named["weight_norm"] = _norms(self._weights.views)
        if self.evaluate is not None:
            numbers = [member.number for member in self.members]
            named |= {f"validation.{k}": v for k, v in self.evaluate(self.network.outputs, numbers).items()}
        return read_values(named)

    def _record(
        self, member: PackMember, values: Mapping[str, list[float]], place: int, share: float
    ) -> bool:
        """Append the member's record and apply its stopping rule; return whether this epoch is its best."""
        t = member.training
        own = undefined_as_none({name: of_members[place] for name, of_members in values.items()})
        t.epoch, t.step, t.seconds = t.epoch + 1, self.step, t.seconds + share
        bad = not_finite(own)
        if bad:
            member.failure = f"{', '.join(bad)} is not finite after epoch {t.epoch}"
            t.stopped = "diverged"
            return False
        record = record_of(own, t.epoch, t.step, t.seconds, t.learning_rate(self.step - 1))
        t.stopped = t.judge(t.stopping, record) or ""
        record["best"] = t.stopping.improved
        t.report_to_schedule(record)
        t.history.append(record)
        self.recorded(member.number, record)
        return t.stopping.improved

    def request_stop(self, reason: str = "requested") -> None:
        """End the training of every member after the current epoch; see :meth:`Training.request_stop`."""
        for member in self.members:
            member.training.request_stop(reason)

    def drop(self, numbers: set[int], reason: str) -> None:
        """Stop the members with these numbers at once."""
        for member in self.members:
            if member.number in numbers and not member.training.stopped:
                member.training.stopped = reason
        self._release_stopped()

    def _release_stopped(self) -> None:
        """Report members that have just stopped, and compact the pack when enough of them have."""
        for place, member in enumerate(self.members):
            t = member.training
            if t.stopped and t.best is None and not member.failure:
                t.best = self.network.state(place, self._best)
                t.model.load_state_dict(t.best)
                self.ended(member)
            elif member.failure and t.best is None:
                t.best = {}
                self.ended(member)
        going = [place for place, member in enumerate(self.members) if not member.training.stopped]
        if not going:
            self.stopped = "finished"
        elif len(self.members) - len(going) >= COMPACT_AT * len(self.members):
            self._select(going)

    def _select(self, places: list[int]) -> None:
        """Keep only the members at these places; their results do not change."""
        index = torch.tensor(places, device=self._weights.vector.device)
        self.members = [self.members[place] for place in places]
        self.network = self.network.select(places)
        self._weights = self.network.weights
        self._gradients = self._weights.zeros_like()
        self._optimizer.select(places, self._weights)
        self._averages = None if self._averages is None else self._averages.select(index)
        self._best = [best.index_select(0, index) for best in self._best]
        self._loss = self._loss.select(places)
        self.batches = self.batches.select(places)
        self._norm = None if self._norm is None else self._norm.index_select(0, index)
        self._prepare()

    def check_finite(self) -> None:
        """Raise :class:`NotFinite` if no member has finite weights: one member is enough to continue."""
        if not _norms(self._weights.views).isfinite().any():
            raise NotFinite(f"no member's weights are finite by step {self.step}")

    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to continue to the same bits."""
        return {
            "numbers": [member.number for member in self.members],
            "tensors": [t.detach() for t in self.network.tensors],
            "optimizer": self._optimizer.state_dict(),
            "averages": None if self._averages is None else list(self._averages.views),
            "best_tensors": list(self._best),
            "losses": list(self.losses),
            "norm": self._norm,
            "members": [member_state(member) for member in self.members],
            "epoch": self.epoch,
            "step_in_epoch": self.step_in_epoch,
            "step": self.step,
            "seconds": self.seconds,
            "history": list(self.history),
            "stopped": self.stopped,
            "best": None,
            "stopping": {"best_epoch": 0},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the result of :meth:`state_dict`; members that are not part of it are removed."""
        state = clone(dict(state))
        numbers = [member.number for member in self.members]
        if state["numbers"] != numbers:
            self._select([numbers.index(number) for number in state["numbers"]])
        device = self._weights.vector.device
        pairs = [(self.network.tensors, state["tensors"]), (self._best, state["best_tensors"])]
        if self._averages is not None:
            pairs.append((self._averages.views, state["averages"]))
        with torch.no_grad():
            for own, saved in pairs:
                for tensor, value in zip(own, saved, strict=True):
                    tensor.copy_(value)
        self._optimizer.load_state_dict(state["optimizer"])
        self.losses = [loss.to(device) for loss in state["losses"]]
        self._norm = None if state["norm"] is None else state["norm"].to(device)
        for member, own in zip(self.members, state["members"], strict=True):
            restore_member(member, own)
        self.epoch, self.step_in_epoch, self.step = state["epoch"], state["step_in_epoch"], state["step"]
        self.seconds, self.history, self.stopped = state["seconds"], state["history"], state["stopped"]


def _memory_batches(training: Training) -> MemoryBatches:
    assert isinstance(training.batches, MemoryBatches)
    return training.batches


def _norms(tensors: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norms (K,) over all tensors of each member."""
    each = [torch.linalg.vector_norm(t.flatten(1), dim=1) for t in tensors]
    norms: Tensor = torch.linalg.vector_norm(torch.stack(each), dim=0)
    return norms
