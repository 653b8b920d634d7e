"""The training of a pack: K trainings as one, each with its own rows, draws, settings, stopping and history.

A pack is made of ordinary :class:`descend.training.loop.Training` objects. It takes their networks and optimizers
together, and leaves to each what is cheap and its own: schedule, stopping rule, history, the best weights once it has
stopped. The loop is the ordinary one.
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
from descend.many.pack.flat import Flat, spread
from descend.many.pack.losses import LossOfMembers
from descend.many.pack.member import PackMember, rate, restore, state_of
from descend.many.pack.network import Network
from descend.many.pack.noise import Noise
from descend.many.pack.updates import PackedOptimizer
from descend.regularization import decayed_parameters
from descend.rng import forked
from descend.schedules import ClosedForm
from descend.training.loop import NotFinite, Observer, Training
from descend.training.records import Record, record_of
from descend.training.state import clone

__all__ = ["PackTraining"]

COMPACT = 0.125
"""Members that have stopped are removed once they are this share of the pack."""

Evaluate = Callable[[Callable[[Tensor], Tensor], Sequence[int]], dict[str, Tensor]]
"""(outputs of (K, n, …) inputs, members' numbers) -> values (K,) by name."""


@dataclass
class PackTraining:
    """K trainings as one, for :func:`descend.training.loop.fit`.

    Args:
        riders: the members, in the order of the pack.
        network: their networks as one.
        evaluate: loss and metrics of all members on their validation rows; None without such rows.
        ended: called with a member when it has stopped; its training's model holds the best weights then.
        recorded: called with a member's number and the line of its history, each epoch.
        observers: who watches the pack.
    """

    riders: list[PackMember]
    network: Network
    evaluate: Evaluate | None = None
    ended: Callable[[PackMember], None] = lambda rider: None
    recorded: Callable[[int, Record], None] = lambda number, record: None
    observers: Sequence[Observer] = ()

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    losses: list[Tensor] = field(default_factory=list)
    history: list[Record] = field(default_factory=list)
    stop_requested: bool = False
    stopped: str = ""

    def __post_init__(self) -> None:
        trainings = [rider.training for rider in self.riders]
        first = trainings[0]
        self.batches = PackedBatches([_in_memory(t) for t in trainings])
        self._loss = LossOfMembers([t.objective.loss for t in trainings])
        decay, _ = decayed_parameters(first.model)
        chosen = {id(p) for p in decay}
        self._decayed = self.network.flags(lambda parameter: id(parameter) in chosen, first.model)
        self._weights = self.network.weights
        self._gradients = self._weights.twin()
        decays = [rider.decay for rider in self.riders]
        self._optimizer = PackedOptimizer(
            [t.optimizer for t in trainings], self._weights, self._decayed, decays
        )
        self._averages = Flat(self._weights.views) if any(t.average is not None for t in trainings) else None
        self._best = [t.detach().clone() for t in self.network.tensors]
        self._norm: Tensor | None = None
        self._prepare()

    def _prepare(self) -> None:
        """What follows from who is in the pack now."""
        trainings = [rider.training for rider in self.riders]
        device, dtype = self._weights.vector.device, self._weights.vector.dtype

        def vector(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)

        gradient = [t.objective.gradient for t in trainings]
        norms = [math.inf if g.clip_norm is None else g.clip_norm for g in gradient]
        values = [math.inf if g.clip_value is None else g.clip_value for g in gradient]
        self._clip_norm = vector(norms) if min(norms) < math.inf else None
        self._clip_value = vector(values) if min(values) < math.inf else None
        self._l1 = vector([r.l1 for r in self.riders]) if any(r.l1 for r in self.riders) else None
        self._l2 = vector([r.l2 for r in self.riders]) if any(r.l2 for r in self.riders) else None
        with forked(device):
            sample = next(self.batches.epoch(0))[0].inputs[:, :2]
            self.network.outputs(sample)  # dropout layers see the shapes that they draw for
        self._noise = Noise(
            self.network.dropouts, [t.objective.seed for t in trainings], self.network.widths, device
        )
        self.network.prepare(self._gradients.views, self._loss)

    def stepper(self) -> Callable[[Sequence[Batch]], Tensor]:
        """What takes one step of all members on their batches and gives their losses (K,)."""
        rates = self._rates(range(self.step, self.step + self.batches.steps_per_epoch - self.step_in_epoch))
        first = self.step_in_epoch
        self.network.train()

        def advance(batches: Sequence[Batch]) -> Tensor:
            own = rates[self.step_in_epoch - first]
            self._noise.draw(batches, self.epoch, self.step_in_epoch)
            self._optimizer.begin_step(own)
            losses = self._differentiate(batches)
            self._optimizer.step(self._gradients, own)
            if self._averages is not None:
                self._average(self._averages, self.step + 1)
            return losses

        return advance

    def _rates(self, steps: range) -> list[Tensor]:
        """The rates (K,) of some steps. Those that stay are one tensor, so that nothing is done for them again."""
        of_schedule: dict[Any, list[float]] = {}
        columns = []
        for rider in self.riders:
            schedule = rider.training.schedule
            # One that listens may be elsewhere than its like.
            alike = rider.schedule is not None and isinstance(schedule, ClosedForm)
            key = rider.schedule if alike else id(schedule)
            if key not in of_schedule:
                of_schedule[key] = [float(schedule.factor(step)) for step in steps]
            columns.append(of_schedule[key])
        bases = [[rider.training.optimizer.param_groups[0]["initial_lr"]] for rider in self.riders]
        vector = self._weights.vector
        products = torch.tensor(columns, dtype=torch.float64) * torch.tensor(bases, dtype=torch.float64)
        rates = list(products.t().to(vector.dtype).contiguous().to(vector.device, non_blocking=True))
        factors = list(zip(*of_schedule.values(), strict=True))
        for at in range(1, len(rates)):
            if factors[at] == factors[at - 1]:
                rates[at] = rates[at - 1]
        return rates

    @torch.no_grad()
    def _differentiate(self, batches: Sequence[Batch]) -> Tensor:
        """Losses (K,), penalties included; the gradient is left in ``_gradients``, clipped."""
        sizes = [batch.targets.shape[1] for batch in batches]
        total: Tensor | None = None
        for place, (batch, size) in enumerate(zip(batches, sizes, strict=True)):
            self._noise.use(place)
            share = None if len(batches) == 1 else size / sum(sizes)
            losses = self.network.differentiate(batch, self._loss, self._gradients, share, first=place == 0)
            total = losses if total is None else total + losses
        assert total is not None
        if self._l1 is not None or self._l2 is not None:
            total = total + self._penalise()
        self._clip()
        return total

    def _penalise(self) -> Tensor:
        value = torch.zeros_like(self._weights.vector[: len(self.riders)])
        pieces = zip(self._weights.views, self._gradients.views, self._decayed, strict=True)
        for weight, gradient in ((w, g) for w, g, decays in pieces if decays):
            if self._l2 is not None:
                gradient.add_(weight * spread(2.0 * self._l2, weight))
                value += self._l2 * weight.flatten(1).square().sum(1)
            if self._l1 is not None:
                gradient.add_(weight.sign() * spread(self._l1, weight))
                value += self._l1 * weight.flatten(1).abs().sum(1)
        return value

    def _clip(self) -> None:
        wanted = self.step_in_epoch == self.batches.steps_per_epoch - 1
        if self._clip_norm is not None or wanted:
            self._norm = _norms(self._gradients.views)
        if self._clip_norm is not None and self._norm is not None:
            factors = (self._clip_norm / (self._norm + 1e-6)).clamp(max=1.0)
            for gradient in self._gradients.views:
                gradient.mul_(spread(factors, gradient))
        if self._clip_value is not None:
            for gradient in self._gradients.views:
                bound = spread(self._clip_value, gradient)
                torch.clamp(gradient, -bound, bound, out=gradient)

    def _average(self, averages: Flat, step: int) -> None:
        start = (1 + step) / (10 + step)
        shares = [
            1.0 if t.average is None else 1.0 - min(math.exp(-1.0 / t.average.horizon), start)
            for t in (rider.training for rider in self.riders)
        ]
        if len(set(shares)) == 1:
            averages.vector.lerp_(self._weights.vector, shares[0])
            return
        own = torch.tensor(shares, dtype=averages.vector.dtype, device=averages.vector.device)
        for average, weight in zip(averages.views, self._weights.views, strict=True):
            average.lerp_(weight, spread(own, weight).expand_as(weight))

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Inside, the networks hold the averages of their weights; afterwards their own again, bit for bit."""
        if self._averages is None:
            yield
            return
        own = self._weights.vector.clone()
        self._weights.vector.copy_(self._averages.vector)
        try:
            yield
        finally:
            self._weights.vector.copy_(own)

    def close_epoch(self, seconds: Callable[[], float]) -> Record:
        """Measure all members, let each choose whether to stop, and start the next epoch without those that do."""
        before = self.seconds if not self.history else self.history[-1]["seconds"]
        with self._averaged():
            values = self._measured()
            self.losses, self.step_in_epoch = [], 0
            self.epoch += 1
            self.seconds = seconds()
            share = (self.seconds - before) / len(self.riders)
            improved = [
                place
                for place, rider in enumerate(self.riders)
                if not rider.training.stopped and self._record(rider, values, place, share)
            ]
            if improved:
                index = torch.tensor(improved, device=self._weights.vector.device)
                for best, now in zip(self._best, self.network.tensors, strict=True):
                    best.index_copy_(0, index, now.detach().index_select(0, index))
        record: Record = {"epoch": self.epoch, "step": self.step, "seconds": self.seconds}
        record["members"] = sum(not rider.training.stopped for rider in self.riders)
        self.history.append(record)
        self._let_go()
        return record

    def _measured(self) -> dict[str, list[float]]:
        """Values of all members by name, in one transfer from the device."""
        losses = torch.stack(self.losses)
        rows = self.batches.rows_per_step[: len(losses)]  # an epoch that diverged is closed in its middle
        shares = torch.tensor(rows, dtype=losses.dtype).to(losses.device, non_blocking=True)
        named = {"train.loss": (losses * shares.unsqueeze(1)).sum(0) / shares.sum()}
        if self._norm is not None:
            named["gradient_norm"] = self._norm
        named["weight_norm"] = _norms(self._weights.views)
        if self.evaluate is not None:
            numbers = [rider.number for rider in self.riders]
            named |= {f"validation.{k}": v for k, v in self.evaluate(self.network.outputs, numbers).items()}
        listed = torch.stack([value.float() for value in named.values()]).tolist()
        return dict(zip(named, listed, strict=True))

    def _record(self, rider: PackMember, values: Mapping[str, list[float]], place: int, share: float) -> bool:
        """Write the member's line and ask its stopping rule; whether this epoch is its best."""
        t = rider.training
        own = {name: each[place] for name, each in values.items()}
        t.epoch, t.step, t.seconds = t.epoch + 1, self.step, t.seconds + share
        bad = [name for name, value in own.items() if not math.isfinite(value)]
        if bad:
            rider.failure = f"{', '.join(bad)} is not finite after epoch {t.epoch}"
            t.stopped = "diverged"
            return False
        record = record_of(own, t.epoch, t.step, t.seconds, rate(t, self.step - 1))
        validation = record.get("validation")
        t.stopped = t.stopping.observe(validation[t.monitor] if validation else None, seconds=t.seconds) or ""
        record["best"] = t.stopping.improved
        t.report_to_schedule(record)
        t.history.append(record)
        self.recorded(rider.number, record)
        return t.stopping.improved

    def drop(self, numbers: set[int], reason: str) -> None:
        """Stop some members where they are."""
        for rider in self.riders:
            if rider.number in numbers and not rider.training.stopped:
                rider.training.stopped = reason
        self._let_go()

    def _let_go(self) -> None:
        """Hand out members that have just stopped, and close the ranks when enough of them have."""
        for place, rider in enumerate(self.riders):
            t = rider.training
            if t.stopped and t.best is None and not rider.failure:
                t.best = self.network.state(place, self._best)
                t.model.load_state_dict(t.best)
                self.ended(rider)
            elif rider.failure and t.best is None:
                t.best = {}
                self.ended(rider)
        going = [place for place, rider in enumerate(self.riders) if not rider.training.stopped]
        if not going:
            self.stopped = "finished"
        elif len(self.riders) - len(going) >= COMPACT * len(self.riders):
            self._select(going)

    def _select(self, places: list[int]) -> None:
        """Go on with the members of some places; what they compute does not change."""
        index = torch.tensor(places, device=self._weights.vector.device)
        self.riders = [self.riders[place] for place in places]
        self.network = self.network.select(places)
        self._weights = self.network.weights
        self._gradients = self._weights.twin()
        self._optimizer.select(places, self._weights)
        self._averages = None if self._averages is None else self._averages.select(index)
        self._best = [best.index_select(0, index) for best in self._best]
        self._loss = self._loss.select(places)
        self.batches = self.batches.select(places)
        self._norm = None if self._norm is None else self._norm.index_select(0, index)
        self._prepare()

    def check_finite(self) -> None:
        """Raise if no member that goes on has finite weights: a pack with one good member goes on."""
        if not _norms(self._weights.views).isfinite().any():
            raise NotFinite(f"no member's weights are finite by step {self.step}")

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on to the same bits."""
        return {
            "numbers": [rider.number for rider in self.riders],
            "tensors": [t.detach() for t in self.network.tensors],
            "optimizer": self._optimizer.state_dict(),
            "averages": None if self._averages is None else list(self._averages.views),
            "best_tensors": list(self._best),
            "losses": list(self.losses),
            "norm": self._norm,
            "members": [state_of(rider) for rider in self.riders],
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
        """Go on from what :meth:`state_dict` gave; members that were gone by then are let go."""
        state = clone(dict(state))
        numbers = [rider.number for rider in self.riders]
        if state["numbers"] != numbers:
            self._select([numbers.index(number) for number in state["numbers"]])
        device = self._weights.vector.device
        pairs = [(self.network.tensors, state["tensors"]), (self._best, state["best_tensors"])]
        if self._averages is not None:
            pairs.append((self._averages.views, state["averages"]))
        with torch.no_grad():
            for own, saved in pairs:
                for mine, theirs in zip(own, saved, strict=True):
                    mine.copy_(theirs)
        self._optimizer.load_state_dict(state["optimizer"])
        self.losses = [loss.to(device) for loss in state["losses"]]
        self._norm = None if state["norm"] is None else state["norm"].to(device)
        for rider, own in zip(self.riders, state["members"], strict=True):
            restore(rider, own)
        self.epoch, self.step_in_epoch, self.step = state["epoch"], state["step_in_epoch"], state["step"]
        self.seconds, self.history, self.stopped = state["seconds"], state["history"], state["stopped"]


def _in_memory(training: Training) -> MemoryBatches:
    assert isinstance(training.batches, MemoryBatches)
    return training.batches


def _norms(tensors: Sequence[Tensor]) -> Tensor:
    """Euclidean norms (K,) over all tensors of each member."""
    each = [torch.linalg.vector_norm(t.flatten(1), dim=1) for t in tensors]
    norms: Tensor = torch.linalg.vector_norm(torch.stack(each), dim=0)
    return norms
