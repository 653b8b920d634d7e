"""Training of the preset best: rounds until the time is spent, then the ensemble of the best networks of all rounds."""

from __future__ import annotations

import dataclasses
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from descend.data.batches import Batches
from descend.errors import Interrupted, RunError
from descend.files import json_bytes, make_folder, read_json, write_atomically
from descend.interface import resume_advice
from descend.many.budget.deadline import Deadline
from descend.many.budget.round import Candidate, Circumstances, load_round, restored_network, train_round
from descend.many.distillation import distilled
from descend.many.execution import EngineChoice
from descend.many.validation_outputs import ValidationOutputs
from descend.many.watchers import Watcher, Watchers
from descend.nn.ensemble import Ensemble
from descend.nn.greedy import greedy
from descend.recipe.build import build_model, link_of
from descend.recipe.facts import facts_of
from descend.recipe.members import selection_of
from descend.recipe.search_space import random_member, varied_member
from descend.rng import key
from descend.runs.finish import calibrate, measure_parts
from descend.runs.folder import ROUNDS, is_finished, reopen, write_failure
from descend.runs.plan import Plan, choose_device
from descend.runs.run import Run, load
from descend.runs.session import begin_folder, started_run
from descend.training.arithmetic import arithmetic
from descend.training.loop import Observer
from descend.training.observers import stopping_on_signals

__all__ = ["SPENT", "train_best"]

SPENT = ("minutes", "max_rounds")
"""The reasons of a search to end: its time, or its number of rounds."""

ROUND_SIZE = 8
"""The number of networks of each round after the first."""

MOST_CONSIDERED = 64
"""The number of networks with the lowest losses from which the ensemble is selected. The others rarely help, and each is
another chance that networks fit the validation rows together by accident."""

SEARCH = "search.json"
"""The file of the folder of rounds with the time spent and the networks of the first round."""


def train_best(
    planned: Plan,
    folder: Path | None = None,
    *,
    resume: bool = False,
    engine: EngineChoice = "auto",
    tested: bool = True,
    observers: Sequence[Observer] = (),
    watchers: Sequence[Watcher] = (),
    batches: Callable[[], Batches | None] = lambda: None,
    finishing: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Run:
    """Train rounds of networks until the time is spent; return the ensemble that is best on the validation rows.

    The time limits training: the data are read before, and the result is selected, distilled and evaluated after it. A round
    that is being trained when it is spent is stopped, and the best weights so far of its networks are used. After Ctrl-C or
    SIGTERM likewise; the run then has the status "stopped". A run in a folder is continued where it was stopped.

    Args:
        planned: with ``model.preset = "best"``.
        folder: the run folder, or None.
        resume: continue from the contents of the folder.
        engine: as for :func:`descend.train_many`; "auto" follows from the sizes of the networks.
        tested: whether the test part is evaluated.
        observers: notified of the events of each training, whose ``number`` is that of the network within its round.
        watchers: notified of the epochs and ends of the networks.
        batches: returns the training batches of a network, instead of those the plan describes; called for each.
        finishing: train nothing, and use what there is in the folder. Default False.
        clock: returns the current time in seconds.

    Returns:
        The run of the ensemble, whose history is that of its first network. ``metrics["search"]`` contains the number of
        rounds and the time spent. If all networks diverged, the run has failed (``run.failed``).

    Raises:
        Interrupted: a signal requested to stop before a network had completed an epoch.
        RunError: there is no network to finish with, or the rounds of a finished run were removed.
    """
    rounds = None if folder is None else folder / ROUNDS
    if folder is not None and rounds is not None and resume and is_finished(folder):
        if not finishing and _is_spent(planned, rounds):
            return load(folder, allow_imports=True)  # imports were checked when the plan was made
        if not (rounds / SEARCH).exists():
            raise RunError(
                f"the search in {folder} cannot be continued, since its folder {ROUNDS} was removed; start a new run in another "
                "folder"
            )
        reopen(folder)
    with ExitStack() as stack:
        if rounds is None:
            rounds = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="descend-")))
        search = _Search(planned, folder, rounds, resume, clock)
        search.train(engine, observers, Watchers(list(watchers)), batches, finishing=finishing)
        return search.result(tested=tested)


def _is_spent(planned: Plan, rounds: Path) -> bool:
    """Whether a finished search has used its time or its rounds, so that nothing is left to train."""
    if not (rounds / SEARCH).exists():
        return planned.before is None
    model, most = planned.recipe.model, planned.recipe.model.get("max_rounds")
    if most is not None and load_round(rounds, int(most) - 1) is not None:
        return True
    return float(read_json(rounds / SEARCH)["seconds"]) >= 60.0 * float(model["minutes"])


class _Search:
    """A search in progress: the complete rounds, and the networks of one that was stopped."""

    def __init__(
        self, planned: Plan, folder: Path | None, rounds: Path, resume: bool, clock: Callable[[], float]
    ) -> None:
        self.folder, self._rounds = folder, rounds
        self.device = choose_device(planned.recipe.engine["device"])
        self.facts = facts_of(planned.prepared.schema, str(self.device))
        automatic = planned.recipe.engine["threads"] == "auto"
        threads = 1 if automatic else int(planned.recipe.engine["threads"])
        # A number of threads that is measured would make the last bits depend on the time of day.
        recipe = planned.recipe.replace({"engine.threads": threads})
        self.plan = dataclasses.replace(
            planned, resolved=dataclasses.replace(planned.resolved, recipe=recipe)
        )
        self.recipe, self.threads = recipe, threads
        network = build_model(recipe, self.facts, planned.seed, planned.prepared.train).to(self.device)
        why = "networks are trained in processes of one thread" if automatic else ""
        self.run = started_run(self.plan, network, self.device, threads, why, folder)
        if folder is not None and (planned.before is not None or not resume):
            begin_folder(folder, self.run)
        make_folder(rounds)
        saved = read_json(rounds / SEARCH) if (rounds / SEARCH).exists() else {}
        self.first = tuple(saved.get("first", recipe.model["members"])) or ({},)
        self.deadline = Deadline(
            60.0 * float(recipe.model["minutes"]), float(saved.get("seconds", 0.0)), clock
        )
        self.stop_requested, self.stopped = False, ""
        self.complete: list[list[Candidate]] = []
        self.partial: list[Candidate] = []
        self.trained = 0
        while (found := load_round(rounds, len(self.complete))) is not None:
            self.complete.append(found)
        self._save()

    @property
    def candidates(self) -> list[Candidate]:
        """The networks of all rounds."""
        return [each for one in self.complete for each in one] + self.partial

    def train(
        self,
        engine: EngineChoice,
        observers: Sequence[Observer],
        watcher: Watcher,
        batches: Callable[[], Batches | None],
        *,
        finishing: bool,
    ) -> None:
        """Train rounds until the time or the rounds are spent, or a signal requests to stop."""
        shared = Circumstances(self.plan, self.deadline, engine, observers, watcher, batches)
        most = self.recipe.model.get("max_rounds")
        with stopping_on_signals(self):
            while not self.stopped:
                number = len(self.complete)
                if most is not None and number >= int(most):
                    self.stopped = "max_rounds"
                elif self.stop_requested or (finishing and not (self._rounds / f"{number:04d}").exists()):
                    self.stopped = "interrupted"
                elif not finishing and number and self.deadline.passed:
                    self.stopped = "minutes"
                else:
                    tables = self._tables(number)
                    found, self.stopped = train_round(
                        shared, number, tables, self._rounds, finishing=finishing
                    )
                    if self.stopped:
                        self.partial = found
                    else:
                        self.complete.append(found)
                    self._save()

    def _save(self) -> None:
        content = {"seconds": self.deadline.spent, "first": [dict(each) for each in self.first]}
        write_atomically(self._rounds / SEARCH, json_bytes(content))

    def _tables(self, number: int) -> list[dict[str, Any]]:
        """Return the keys and values in which each network of a round differs from the recipe.

        Odd rounds explore: their networks are random. Even ones vary a network of the ensemble so far, which is chosen with
        its weight as the probability.
        """
        if number == 0:
            return [dict(each) for each in self.first]
        sections = {name: dict(values) for name, values in self.recipe.items()}
        keys, seed = self.recipe.model["searched_keys"], self.plan.seed
        chosen, weights = self._selected() if number % 2 == 0 else ([], [])
        if not chosen:
            return [random_member(sections, keys, seed, number, each) for each in range(ROUND_SIZE)]
        share = (key(seed, "best parent", number) >> 10) / 2**53
        at = 0
        while at < len(chosen) - 1 and share >= weights[at]:
            share -= weights[at]
            at += 1
        parent = chosen[at].table
        return [varied_member(sections, keys, parent, seed, number, each) for each in range(ROUND_SIZE)]

    def _selected(self) -> tuple[list[Candidate], list[float]]:
        """Return the networks of the ensemble with their weights in the mean prediction, the first one first."""
        usable = [each for each in self.candidates if math.isfinite(each.loss)]
        usable = sorted(usable, key=lambda one: one.loss)[:MOST_CONSIDERED]
        size = int(self.recipe.model["ensemble"])
        if not usable:
            return [], []
        if selection_of(self.recipe) == "best":
            best = usable[:size]
            return best, [1.0 / len(best)] * len(best)
        with arithmetic(self.threads, self.device, self.recipe.engine["denormals"]):
            rows = ValidationOutputs(self.run, self.plan.prepared.validation, self.device)
            outputs = [each.outputs.to(self.device) for each in usable]
            counts = greedy(outputs, link_of(self.recipe, self.facts), rows.loss, size=size)
        total = sum(counts.values())
        return [usable[at] for at in counts], [count / total for count in counts.values()]

    def result(self, *, tested: bool) -> Run:
        """Return the run of the ensemble, evaluated and written.

        Raises:
            Interrupted: a signal requested to stop, and there is no network.
            RunError: there is no network in the folder.
        """
        chosen, weights = self._selected()
        if not chosen:
            return self._without_networks()
        networks = [restored_network(self.plan, each) for each in chosen]
        model = (
            networks[0]
            if len(networks) == 1
            else Ensemble(
                networks,
                link_of(self.recipe, self.facts),
                None if selection_of(self.recipe) == "best" else weights,
            )
        )
        model = model.to(self.device).eval()
        first, count = chosen[0], len(self.candidates)
        tables = tuple(each.table for each in chosen)
        why = f"selected from {count:,} networks of {self._rounds_trained:,} rounds"
        run = dataclasses.replace(
            self.run,
            recipe=self.run.recipe.replace({"model.members": tables}),
            reasons={**self.run.reasons, "model.members": why},
            model=model,
            history=first.history,
            metrics={**first.metrics, "seconds": self.deadline.spent, "stopped": self.stopped},
        )
        run.environment["model"] = {
            "summary": str(model),
            "parameters": sum(p.numel() for p in model.parameters()),
        }
        run.metrics["status"] = "stopped" if self.stopped == "interrupted" else "finished"
        run.metrics["members"] = {
            "kept": list(range(len(chosen))),
            "weights": weights,
            "monitor": run.selection.monitor,
            "validation": [self._value(each, run.selection.monitor) for each in self.candidates],
        }
        run.metrics["search"] = {
            "rounds": len(self.complete),
            "networks": count,
            "minutes": self.deadline.spent / 60.0,
            "kept": [[each.round_number, each.number] for each in chosen],
        }
        with arithmetic(self.threads, self.device, self.recipe.engine["denormals"]):
            calibrate(run, self.plan, self.device)
            measure_parts(run, self.plan, self.device, tested=tested)
            run.metrics.pop("constraints", None)  # constraints apply to each network, not to the ensemble
        if self.recipe.model.get("distill", False):
            run = distilled(run, self.plan, self.device, tested=tested)
        if self.folder is not None:
            run.write_files()
        return run

    @property
    def _rounds_trained(self) -> int:
        return len(self.complete) + bool(self.partial)

    @staticmethod
    def _value(candidate: Candidate, monitor: str) -> float | None:
        value: float | None = candidate.metrics.get("validation", {}).get(monitor)
        return value

    def _without_networks(self) -> Run:
        if self.stopped == "interrupted":
            message = f"stopped before a network had completed an epoch{resume_advice(self.folder)}"
            raise Interrupted(message, folder=self.folder)
        self.run.metrics = {
            "status": "failed",
            "stopped": "diverged",
            "message": "all networks diverged. Lower the learning rate, or remove optimizer.lr from the recipe",
            "task": self.plan.prepared.schema.task,
            "epochs": 0,
            "steps": 0,
        }
        if self.folder is not None:
            write_failure(self.folder, self.run.metrics)
        return self.run
