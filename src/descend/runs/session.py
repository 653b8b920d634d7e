"""A session: one network trained according to a plan, in one or several stages, then measured and written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn

from descend.arguments import kind_of
from descend.data.batches import Batches
from descend.data.row_numbers import named_rows, naming
from descend.errors import DivergedError, Interrupted, ObserverError, RunError, UserError
from descend.files import read_json
from descend.interface import resume_advice, setting
from descend.recipe.build import build_model, check_shape
from descend.recipe.facts import facts_of
from descend.recipe.transfer import freeze_parts, start_from_pretrained
from descend.runs.build import assemble, measured_threads
from descend.runs.environment import describe_environment
from descend.runs.finish import finish_run
from descend.runs.folder import (
    CHECKPOINTS,
    ENVIRONMENT,
    HISTORY,
    is_failed,
    is_finished,
    why_unfinished,
    write_failure,
    write_start,
)
from descend.runs.plan import Plan, choose_device
from descend.runs.recorded_data import recorded
from descend.runs.resume import CHANGEABLE, continue_training
from descend.runs.run import Run
from descend.training.arithmetic import arithmetic
from descend.training.checkpoint import Checkpointer, CheckpointSettings, load_checkpoint
from descend.training.diagnosis import Origin, find_origin
from descend.training.loop import STOPPED, NotFinite, Observer, Training, fit
from descend.training.notification import as_observer
from descend.training.observers import HistoryFile, stopping_on_signals

__all__ = ["Session", "begin_folder", "lower_lr", "started_run"]


class Session:
    """A run in progress: built, trained for some epochs or to the end, then evaluated and written.

    Args:
        planned: the plan of the run.
        folder: the run folder, or None.
        resume: continue from the folder's last checkpoint. Default False.
        model: a network to train instead of the recipe's.
        observers: objects that are notified of each epoch.
        batches: the training batches, instead of those the plan describes.
        tested: whether the test part is evaluated at the end. Default True.
        threads: the number of CPU threads and the reason for it. Default None: as the recipe specifies, or measured.
    """

    def __init__(
        self,
        planned: Plan,
        folder: Path | None = None,
        *,
        resume: bool = False,
        model: nn.Module | None = None,
        observers: Sequence[Observer] = (),
        batches: Batches | None = None,
        tested: bool = True,
        threads: tuple[int, str] | None = None,
    ) -> None:
        self.planned, self.tested = planned, tested
        self.device = choose_device(planned.recipe.engine["device"])
        facts = facts_of(planned.prepared.schema, str(self.device))
        own = model is not None
        if model is None:
            model = build_model(planned.recipe, facts, planned.seed, planned.prepared.train)
        elif not isinstance(model, nn.Module):
            raise UserError(f"model: expected a torch.nn.Module, got {kind_of(model)}{_module_advice(model)}")
        else:
            check_shape(planned.recipe, model, facts)
            freeze_parts(planned.recipe, model)
        state = load_checkpoint(folder / CHECKPOINTS) if folder is not None and resume else None
        # A checkpoint contains the current weights, so pretrained weights are not needed again.
        pretrained = None if state is not None else start_from_pretrained(planned.recipe, model)
        network = model.to(self.device)
        self.threads, why = threads or measured_threads(planned, network, self.device)
        self.run = started_run(planned, network, self.device, self.threads, why, folder, pretrained)
        if own:  # the recipe's model is another one
            self.run.environment["model"]["passed"] = type(network).__name__
        with self._arithmetic():
            self.training = assemble(planned, self.run, self.device, batches)
            self._shortened = False
            if folder is not None and resume:
                first = read_json(folder / ENVIRONMENT)
                _check_pretrained(pretrained, first, folder)
                # The environment remains that of the command which started the run.
                times = [*first.get("resumed", []), self.run.environment["started"]]
                changed = [*first.get("changed", []), *_changed(planned, times[-1])]
                self.run.environment = first | {"resumed": times} | ({"changed": changed} if changed else {})
                if state is not None:  # else training starts from the beginning, which gives the same bits
                    self.training.load_state_dict(state)
                    self.run.recipe, self._shortened = continue_training(
                        self.training, self.run.recipe, planned.before, folder
                    )
                if planned.before is not None or (is_finished(folder) and not self.training.stopped):
                    begin_folder(folder, self.run)
            elif folder is not None:
                begin_folder(folder, self.run)
        self._checkpointer = Checkpointer(
            None if folder is None else folder / CHECKPOINTS,
            CheckpointSettings(**self.run.recipe.checkpoint),
            {"fingerprint": planned.prepared.schema.fingerprint},
        )
        files = [] if folder is None else [HistoryFile(folder / HISTORY)]
        self.training.observers = [*map(as_observer, observers), *files, self._checkpointer]

    @contextmanager
    def _arithmetic(self) -> Iterator[None]:
        with arithmetic(self.threads, self.device, self.run.recipe.engine["denormals"]):
            yield

    def advance(self, until: int | None = None) -> str:
        """Train, at most to the end of epoch ``until``; return the reason to stop, or "" if training can continue.

        Raises:
            DivergedError: a number became NaN or infinite; the last good state was kept.
        """
        if self._shortened:  # the checkpoint contains a later state, from which the run can be continued
            return self.training.stopped
        with self._arithmetic():
            try:
                with stopping_on_signals(self.training):
                    return fit(self.training, until=until)
            except ObserverError as error:
                self._checkpointer.finished(self.training)
                raise ObserverError(f"{error}{self._remedy()}") from error.__cause__
            except NotFinite as cause:
                _fail(self.run, self.training, self._checkpointer, self.planned, cause)
            finally:
                self._checkpointer.close()

    def finish(self) -> Run:
        """Evaluate and write the run.

        Raises:
            Interrupted: a signal requested a stop; a checkpoint was saved if there is a folder.
        """
        run, training = self.run, self.training
        with self._arithmetic():
            finish_run(run, training, self.planned, self.device, tested=self.tested)
        if training.stopped == "interrupted":
            raise Interrupted(
                f"stopped in epoch {training.epoch + 1} after {training.step} steps{self._remedy()}",
                run=run if training.history else None,
                folder=run.path,
            )
        return run

    def finish_stopped(self) -> Run:
        """Evaluate and write the run in a folder with its best weights so far; its status is then "stopped".

        Raises:
            RunError: no epoch is complete, so there are no weights to use.
        """
        run, training = self.run, self.training
        assert run.path is not None
        if not training.history:
            raise RunError(why_unfinished(run.path))
        run.environment["resumed"] = run.environment["resumed"][:-1]  # evaluating continues no training
        training.stopped = training.stopped or ("diverged" if is_failed(run.path) else STOPPED)
        with self._arithmetic():
            finish_run(run, training, self.planned, self.device, tested=self.tested)
        return run

    def _remedy(self) -> str:
        return resume_advice(self.run.path)


def _changed(planned: Plan, time: str) -> list[dict[str, Any]]:
    """The keys of the recipe that a resumed run changes, with the time, as an entry of its environment."""
    if planned.before is None:
        return []
    old, new = planned.before.specified(), planned.recipe.specified()
    keys = [key for key in CHANGEABLE if old.get(key) != new.get(key)]
    return [{"time": time, **{key: [old.get(key), new.get(key)] for key in keys}}]


def _module_advice(model: object) -> str:
    """Return how to specify a network that is not a module."""
    if isinstance(model, type) and issubclass(model, nn.Module):
        return f"; pass an instance, {model.__name__}(...), or let each run build its own: recipe={{'model': {model.__name__}}}"
    if isinstance(model, str):
        return f"; a network is named in the recipe: recipe={{'model': {model!r}}}"
    return ""


def _check_pretrained(pretrained: dict[str, Any] | None, first: Mapping[str, Any], folder: Path) -> None:
    """Refuse to restart a run from pretrained weights that differ from those it was started with."""
    if pretrained is not None and first.get("pretrained", {}).get("digest") != pretrained["digest"]:
        raise RunError(
            f"the pretrained weights {pretrained['path']} differ from those the run in {folder} was started with; "
            "restore that file, or start a new run in another folder"
        )


def started_run(
    planned: Plan,
    network: nn.Module,
    device: torch.device,
    threads: int,
    why: str,
    folder: Path | None,
    pretrained: dict[str, Any] | None = None,
) -> Run:
    """Return the run as far as it is known before the first step; 0 threads mean that the number is not chosen yet.

    ``pretrained`` is the result of :func:`descend.recipe.transfer.start_from_pretrained`.
    """
    recipe = planned.recipe
    if threads and recipe.engine["threads"] == "auto":
        recipe = recipe.replace({"engine.threads": threads})
    environment = describe_environment() | {
        "threads": threads,
        "threads_reason": why,
        "device": str(device),
        "precision": recipe.engine["precision"],
        "seed": planned.seed,
        "data": {
            "reference": planned.source.reference,
            "name": planned.source.name,
            "rows": len(planned.source),
            **_paths(planned),
        },
        "model": {"summary": str(network), "parameters": sum(p.numel() for p in network.parameters())},
        **({} if pretrained is None else {"pretrained": pretrained}),
    }
    return Run(
        recipe=recipe,
        reasons={**planned.resolved.reasons, **({"engine.threads": why} if why else {})},
        schema=planned.prepared.schema,
        model=network,
        environment=environment,
        path=folder,
    )


def _paths(planned: Plan) -> dict[str, str | None]:
    """Where the data are, independent of the working directory: the file or folder, and given parts."""
    path = recorded(planned.source.reference)
    own = {} if path in (None, planned.source.reference) else {"path": path}
    return {**own, **planned.references}


def begin_folder(folder: Path, run: Run) -> None:
    """Write what is known before the first step, so that a killed run can be resumed and read."""
    write_start(
        folder,
        recipe=run.recipe,
        reasons=run.reasons,
        schema=run.schema,
        environment=run.environment,
    )


def _fail(
    run: Run, training: Training, checkpointer: Checkpointer, planned: Plan, cause: NotFinite
) -> NoReturn:
    """Find the origin of the non-finite number, restore the last good state, and raise an error with advice."""
    good = checkpointer.good
    assert good is not None
    origin = find_origin(training, good)
    training.load_state_dict(good)
    message = _explanation(origin, planned, run, str(cause))
    if run.path is not None:
        checkpointer.save(training)
        checkpointer.wait()
        metrics = {
            "status": "failed",
            "stopped": "diverged",
            "message": message,
            "task": run.schema.task,
            "epochs": training.epoch,
            "steps": training.step,
            "seconds": training.seconds,
        }
        write_failure(run.path, metrics)
    raise DivergedError(message) from None


def _explanation(origin: Origin | None, planned: Plan, run: Run, symptom: str) -> str:
    if origin is None:
        return f"Training diverged: {symptom}. Lower the learning rate: {setting('optimizer.lr', float(lower_lr(run)))}"
    lines = [f"Training diverged: {origin.what} is not finite at step {origin.step} (epoch {origin.epoch})."]
    if origin.rows:
        numbers = planned.prepared.train.rows[list(origin.rows)]
        with naming(planned.source.numbers):
            named = named_rows(numbers).removeprefix("rows ").removeprefix("row ")
        lines.append(f"Rows of the data: {named} ({len(numbers)} in the batch).")
    lines.append(
        f"The learning rate was {origin.learning_rate:g}. The network was restored to its last good state."
    )
    lines.append("Remedies, in this order:")
    lines.append(f"  a lower learning rate: {setting('optimizer.lr', float(lower_lr(run)))}")
    lines.append(f"  gradient clipping: {setting('gradient.clip_norm', 1.0)}")
    if origin.rows and len(origin.rows) <= 8:
        lines.append("  check the rows named above for extreme values")
    return "\n".join(lines)


def lower_lr(run: Run) -> str:
    """A tenth of the run's learning rate, as text."""
    return f"{float(run.recipe.optimizer.get('lr', 1e-3)) / 10:g}"
