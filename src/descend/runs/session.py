"""The main job: from data and a recipe to a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, overload

import torch
from torch import nn

from descend.runs.build import assemble, measured_threads
from descend.data.batches import Batches
from descend.runs.environment import describe_environment
from descend.errors import DivergedError, Interrupted, RunError, UserError
from descend.runs.finish import finish_run
from descend.runs.plan import Plan, choose_device, plan_run
from descend.recipe import Recipe
from descend.recipe.build import build_model, check_shape
from descend.recipe.defaults import facts_of
from descend.recipe.transfer import freeze_parts, start_from_pretrained
from descend.runs.run import Run
from descend.files import json_bytes, make_folder, read_json
from descend.training.arithmetic import arithmetic
from descend.training.checkpoint import Checkpointer, load_checkpoint
from descend.training.diagnosis import Origin, find_origin
from descend.training.loop import NotFinite, Observer, Training, fit
from descend.training.observers import HistoryFile, stopping_on_signals
from descend.training.settings import CheckpointSettings
from descend.files import write_atomically

__all__ = ["Session", "begin_folder", "execute", "lower_rate", "started_run", "train"]


@overload
def train(
    data: Any,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    *,
    target: str | Sequence[str] | None = None,
    seed: int = 0,
    seeds: int,
    out: str | Path | None = None,
    resume: bool = False,
    device: str | None = None,
    validation: Any = None,
    test: Any = None,
    sample_weight: Any = None,
    model: None = None,
    observers: Sequence[Observer] = (),
    allow_imports: bool = False,
) -> list[Run]: ...


@overload
def train(
    data: Any,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    *,
    target: str | Sequence[str] | None = None,
    seed: int = 0,
    seeds: None = None,
    out: str | Path | None = None,
    resume: bool = False,
    device: str | None = None,
    validation: Any = None,
    test: Any = None,
    sample_weight: Any = None,
    model: nn.Module | None = None,
    observers: Sequence[Observer] = (),
    allow_imports: bool = False,
) -> Run: ...


def train(
    data: Any,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    *,
    target: str | Sequence[str] | None = None,
    seed: int = 0,
    seeds: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    device: str | None = None,
    validation: Any = None,
    test: Any = None,
    sample_weight: Any = None,
    model: nn.Module | None = None,
    observers: Sequence[Observer] = (),
    allow_imports: bool = False,
) -> Run | list[Run]:
    """Train a network on data.

    Args:
        data: a bundled set ("digits"), a file, a folder of images by class, "package.module:function", (X, y),
            a data frame with ``target``, or a torch ``Dataset``.
        recipe: a :class:`Recipe`, a mapping of its sections, or a TOML file; what it does not say is chosen for the
            data.
        target: the column to predict, or several.
        seed: every random number of the run follows from it.
        seeds: train as many networks, with the seeds ``seed``, ``seed + 1``, ..., and return a list of their runs
            (:func:`descend.train_many`); ``out`` is then the folder of their folders.
        out: the run folder; without it nothing is written.
        resume: continue the run in ``out`` from its last checkpoint, to the same bits as if it had not
            stopped. Data and recipe must be those it started with; a recipe may be left out.
        device: shorthand for the recipe's ``engine.device``.
        validation: data that choose when to stop, in place of a part of ``data``.
        test: data touched once, at the end, in place of a part of ``data``.
        sample_weight: a weight per row of ``data``.
        model: a module to train in place of the recipe's, with outputs (n, K). It is trained in place.
        observers: who else watches.
        allow_imports: whether a recipe file may name import paths.

    Returns:
        The run, with the best weights by the monitored value; or a list of runs.

    Raises:
        UserError: the data, the recipe or the folder cannot be used; nothing was written.
        DivergedError: a number became NaN or infinite; the last good state was kept.
        Interrupted: a signal asked to stop; a checkpoint was saved if there is a folder.

    >>> run = train("iris", {"stop": {"max_epochs": 3}}, seed=1)
    >>> sorted(run.metrics["test"])
    ['accuracy', 'balanced_accuracy', 'loss']
    """
    if seeds is not None:
        from descend.many import train_many

        if model is not None or observers:
            raise UserError("seeds train several networks: give no model and no observers (watch train_many)")
        if seeds < 1:
            raise UserError(f"seeds: a number of networks, 1 or more, was expected; found {seeds}")
        return train_many(
            [recipe] * seeds,
            data,
            seeds=range(seed, seed + seeds),
            target=target,
            out=out,
            resume=resume,
            device=device,
            validation=validation,
            test=test,
            sample_weight=sample_weight,
            allow_imports=allow_imports,
        )
    folder = None if out is None else Path(out)
    planned = plan_run(
        data,
        recipe,
        folder,
        resume=resume,
        target=target,
        seed=seed,
        device=device,
        validation=validation,
        test=test,
        sample_weight=sample_weight,
        allow_imports=allow_imports,
    )
    return execute(planned, folder, resume=resume, model=model, observers=observers)


def execute(
    planned: Plan,
    folder: Path | None = None,
    *,
    resume: bool = False,
    model: nn.Module | None = None,
    observers: Sequence[Observer] = (),
    batches: Batches | None = None,
) -> Run:
    """Train what was planned; see :func:`train`. ``batches`` stand in for the training rows as the plan draws them."""
    if max(planned.recipe.init["restarts"], planned.recipe.model["ensemble"]) > 1:
        if model is not None or batches is not None:
            raise UserError(
                "init.restarts and model.ensemble train several networks from weights that the recipe draws, and cannot "
                "be used with a model of your own, nor in the scikit-learn estimators"
            )
        if observers:
            raise UserError(
                "init.restarts and model.ensemble train several networks, and observers watch one"
            )
        from descend.many.restarts import train_restarts

        run = train_restarts(planned, folder, resume=resume)
        if run.failed:
            raise DivergedError(run.metrics["message"])
        return run
    launched = Session(planned, folder, resume=resume, model=model, observers=observers, batches=batches)
    launched.advance()
    return launched.finish()


class Session:
    """A run on its way: built, trained for some epochs or to the end, then measured and written.

    Args:
        planned: what is trained.
        folder: the run folder, or None.
        resume: go on from the folder's last checkpoint.
        model: a network in place of the recipe's.
        observers: who else watches.
        batches: in place of the training rows as the plan draws them.
        tested: whether the test part is measured at the end.
        threads: how many CPU threads to use, and why; by default as the recipe says, or measured.
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
        if model is None:
            model = build_model(planned.recipe, facts, planned.seed)
        elif not isinstance(model, nn.Module):
            raise UserError(f"model must be a torch.nn.Module; found a {type(model).__name__}")
        else:
            check_shape(model, facts)
            freeze_parts(planned.recipe, model)
        state = load_checkpoint(folder / "checkpoints") if folder is not None and resume else None
        # A checkpoint holds the weights that training has come to; what it started from is past.
        pretrained = None if state is not None else start_from_pretrained(planned.recipe, model)
        network = model.to(self.device)
        self.threads, why = threads or measured_threads(planned, network, self.device)
        self.run = started_run(planned, network, self.device, self.threads, why, folder, pretrained)
        with self._arithmetic():
            self.training = assemble(planned, self.run, self.device, batches)
            if folder is not None and resume:
                first = read_json(folder / "environment.json")
                _check_pretrained(pretrained, first, folder)
                # The run is still the one that was started then, by that command.
                times = [*first.get("resumed", []), self.run.environment["started"]]
                self.run.environment = first | {"resumed": times}
                if state is not None:  # else it starts from the beginning, which gives the same bits as well
                    self.training.load_state_dict(state)
                if self.training.stopped == "interrupted":
                    self.training.stopped = ""
            elif folder is not None:
                begin_folder(folder, self.run)
        self._checkpointer = Checkpointer(
            None if folder is None else folder / "checkpoints",
            CheckpointSettings(**self.run.recipe.checkpoint),
            {"fingerprint": planned.prepared.schema.fingerprint},
        )
        files = [] if folder is None else [HistoryFile(folder / "history.jsonl")]
        self.training.observers = [*observers, *files, self._checkpointer]

    @contextmanager
    def _arithmetic(self) -> Iterator[None]:
        with arithmetic(self.threads, self.device, self.run.recipe.engine["denormals"]):
            yield

    def advance(self, until: int | None = None) -> str:
        """Train, at most to the end of an epoch; the reason to stop, or "" where training can go on.

        Raises:
            DivergedError: a number became NaN or infinite; the last good state was kept.
        """
        with self._arithmetic():
            try:
                with stopping_on_signals(self.training):
                    return fit(self.training, until=until)
            except NotFinite as cause:
                _give_up(self.run, self.training, self._checkpointer, self.planned, cause)
            finally:
                self._checkpointer.close()

    def finish(self) -> Run:
        """Measure and write the run.

        Raises:
            Interrupted: a signal asked to stop; a checkpoint was saved if there is a folder.
        """
        run, training = self.run, self.training
        with self._arithmetic():
            finish_run(run, training, self.planned, self.device, tested=self.tested)
        if training.stopped == "interrupted":
            where = f"; continue with --resume --out {run.path}" if run.path is not None else ""
            raise Interrupted(f"stopped in epoch {training.epoch + 1} after {training.step} steps{where}")
        return run


def _check_pretrained(pretrained: dict[str, Any] | None, first: Mapping[str, Any], folder: Path) -> None:
    """Refuse to start a run over from other weights than those it was started with."""
    if pretrained is not None and first.get("pretrained", {}).get("digest") != pretrained["digest"]:
        raise RunError(
            f"the pretrained weights {pretrained['path']} are not those that the run in {folder} was started with; "
            "put that file back, or train anew in another folder"
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
    """The run as far as it is known before the first step; 0 threads stand for a number not chosen yet.

    ``pretrained`` is what :func:`descend.recipe.transfer.start_from_pretrained` said of the network's weights.
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


def begin_folder(folder: Path, run: Run) -> None:
    """Write what is known before the first step, so that a killed run can be resumed and read."""
    make_folder(folder)
    reasons = {key: f"auto: {reason}" for key, reason in run.reasons.items()}
    write_atomically(folder / "schema.json", run.schema.to_json().encode())
    write_atomically(folder / "environment.json", json_bytes(run.environment))
    write_atomically(folder / "recipe.toml", run.recipe.to_toml(reasons).encode())


def _give_up(
    run: Run, training: Training, checkpointer: Checkpointer, planned: Plan, cause: NotFinite
) -> NoReturn:
    """Find where the bad number came from, go back to the last good state, and say what to do."""
    good = checkpointer.good
    assert good is not None
    origin = find_origin(training, good)
    training.load_state_dict(good)
    message = _explained(origin, planned, run, str(cause))
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
        write_atomically(run.path / "metrics.json", json_bytes(metrics))
    raise DivergedError(message) from None


def _explained(origin: Origin | None, planned: Plan, run: Run, symptom: str) -> str:
    if origin is None:
        return f"Training diverged: {symptom}. Lower the learning rate: --set optimizer.lr={lower_rate(run)}"
    lines = [f"Training diverged: {origin.what} is not finite at step {origin.step} (epoch {origin.epoch})."]
    if origin.rows:
        numbers = planned.prepared.train.rows[list(origin.rows)]
        listed = ", ".join(str(int(row)) for row in numbers[:8]) + (", ..." if len(numbers) > 8 else "")
        lines.append(f"Rows of the data: {listed} ({len(numbers)} in the batch).")
    lines.append(f"The learning rate was {origin.rate:g}. The network was put back to its last good state.")
    lines.append("What helps, in this order:")
    lines.append(f"  a lower rate: --set optimizer.lr={lower_rate(run)}")
    lines.append("  limited gradients: --set gradient.clip_norm=1.0")
    if origin.rows and len(origin.rows) <= 8:
        lines.append("  a look at the rows named above: they may hold extreme values")
    return "\n".join(lines)


def lower_rate(run: Run) -> str:
    """A tenth of the run's rate, in words."""
    rate = run.recipe.optimizer.get("lr", 1e-3)
    return f"{float(rate) / 10:g}"
