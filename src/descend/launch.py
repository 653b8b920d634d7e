"""The main job: from data and a recipe to a run."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from descend.data.batches import Batch, Batches, LoadedBatches, MemoryBatches, Order
from descend.data.prepare import Part, Prepared, prepare
from descend.data.schema import Schema
from descend.data.settings import DataSettings
from descend.data.source import Source, join
from descend.data.sources import read
from descend.environment import describe_environment
from descend.errors import DivergedError, Interrupted, Problem, RecipeError, RunError, UserError
from descend.metrics import METRICS, better
from descend.outcome import details, measured
from descend.recipe import Recipe
from descend.recipe.build import build_model, build_optimizer, build_penalty, build_schedule
from descend.recipe.defaults import facts_of
from descend.recipe.resolve import Resolved, resolve
from descend.run import Run, check_unused
from descend.training.averaging import WeightAverage
from descend.training.checkpoint import Checkpointer, load_checkpoint
from descend.training.diagnosis import Origin, find_origin
from descend.training.loop import NotFinite, Observer, Training, fit
from descend.training.objective import Objective
from descend.training.observers import HistoryFile, stopping_on_signals
from descend.training.settings import CheckpointSettings, GradientSettings
from descend.training.state import write_atomically
from descend.training.stopping import Stopping
from descend.training.threads import choose_threads, using_threads

__all__ = ["Plan", "execute", "plan", "plan_run", "train"]

EVALUATED_AT_ONCE = 1024


@dataclass(frozen=True)
class Plan:
    """What is going to be trained: data read and prepared, recipe resolved. Nothing is written yet."""

    source: Source
    prepared: Prepared
    resolved: Resolved
    seed: int

    @property
    def recipe(self) -> Recipe:
        """The complete recipe."""
        return self.resolved.recipe


def as_recipe(recipe: Recipe | Mapping[str, Any] | str | Path | None, allow_imports: bool) -> Recipe:
    """A recipe from whatever stands for one: None, a mapping of sections, a TOML file."""
    if recipe is None:
        return Recipe()
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, (str, Path)):
        return Recipe.load(recipe, allow_imports=allow_imports)
    return Recipe.of(recipe)


def plan(
    data: Any,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    *,
    target: str | Sequence[str] | None = None,
    seed: int = 0,
    device: str | None = None,
    validation: Any = None,
    test: Any = None,
    sample_weight: Any = None,
    allow_imports: bool = False,
) -> Plan:
    """Read and prepare data and resolve the recipe for them, without training; arguments as of :func:`train`."""
    asked = as_recipe(recipe, allow_imports)
    if device is not None:
        asked = asked.replace({"engine.device": device})
    if target is not None:
        names = (target,) if isinstance(target, str) else tuple(target)
        asked = asked.replace({"data.target": names[0] if len(names) == 1 else list(names)})
    settings = DataSettings(**{key: value for key, value in asked.data.items() if value is not None})
    source = read(data, settings=settings, weights=sample_weight)
    if validation is not None or test is not None:
        others = [None if each is None else read(each, settings=settings) for each in (validation, test)]
        source = join(source, *others)
        settings = dataclasses.replace(
            settings,
            validation=settings.validation if validation is None else 0.0,
            test=0.0,
        )
    prepared = prepare(source, settings, seed)
    chosen = choose_device(asked.get("engine.device", "auto"))
    resolved = resolve(asked, facts_of(prepared.schema, str(chosen)))
    _check_monitor(resolved.recipe, prepared)
    return Plan(source, prepared, resolved, seed)


def choose_device(name: str) -> torch.device:
    """The device of a name; "auto" takes CUDA where it is.

    Raises:
        RecipeError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as cause:
        first = str(cause).splitlines()[0]
        raise RecipeError([Problem("engine", "device", f"'{name}' cannot be used here: {first}")]) from None
    return device


def _check_monitor(recipe: Recipe, prepared: Prepared) -> None:
    """Combinations that only data and recipe together can refuse."""
    problems: list[Problem] = []
    task, monitor = prepared.schema.task, recipe.stop["monitor"]
    if monitor != "loss" and monitor not in METRICS[task]:
        problems.append(
            Problem(
                "stop",
                "monitor",
                f"no metric '{monitor}' for {task}",
                f"one of: loss, {', '.join(METRICS[task])}",
            )
        )
    validated = len(prepared.validation) > 0
    watches = recipe.schedule.get("monitor") == "validation"
    if not validated and watches:
        problems.append(
            Problem(
                "schedule",
                "monitor",
                "there are no validation rows to watch",
                'use "objective", or hold out rows',
            )
        )
    if not validated and recipe.get("stop.target") is not None:
        problems.append(Problem("stop", "target", "there are no validation rows to reach it on"))
    if problems:
        raise RecipeError(problems)


def train(
    data: Any,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    *,
    target: str | Sequence[str] | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    device: str | None = None,
    validation: Any = None,
    test: Any = None,
    sample_weight: Any = None,
    model: nn.Module | None = None,
    observers: Sequence[Observer] = (),
    allow_imports: bool = False,
) -> Run:
    """Train a network on data.

    Args:
        data: a bundled set ("digits"), a file, a folder of images by class, "package.module:function", (X, y),
            a data frame with ``target``, or a torch ``Dataset``.
        recipe: a :class:`Recipe`, a mapping of its sections, or a TOML file; what it does not say is chosen for the
            data.
        target: the column to predict, or several.
        seed: every random number of the run follows from it.
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
        The run, with the best weights by the monitored value.

    Raises:
        UserError: the data, the recipe or the folder cannot be used; nothing was written.
        DivergedError: a number became NaN or infinite; the last good state was kept.
        Interrupted: a signal asked to stop; a checkpoint was saved if there is a folder.

    >>> run = train("iris", {"stop": {"max_epochs": 3}}, seed=1)
    >>> sorted(run.metrics["test"])
    ['accuracy', 'balanced_accuracy', 'loss']
    """
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


def plan_run(
    data: Any,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    folder: Path | None = None,
    *,
    resume: bool = False,
    seed: int = 0,
    allow_imports: bool = False,
    **arguments: Any,
) -> Plan:
    """The plan of a new run, or, to resume, of the run that a folder holds; the folder is checked first.

    ``folder`` is the run folder, or None; everything else is as in :func:`train`.

    Raises:
        RunError: the folder is in use, or holds no run that these data and this recipe continue.
    """
    if resume:
        if folder is None:
            raise UserError("resume needs the folder of the run: give out")
        recipe, seed = _saved_recipe(folder, recipe, allow_imports), _saved_seed(folder)
    elif folder is not None:
        check_unused(folder)
    planned = plan(data, recipe, seed=seed, allow_imports=allow_imports, **arguments)
    if folder is not None and resume:
        _check_fingerprint(folder, planned.prepared.schema)
    return planned


def _saved_seed(folder: Path) -> int:
    from descend.run import _read_json

    return int(_read_json(folder / "environment.json").get("seed", 0))


def _saved_recipe(
    folder: Path, recipe: Recipe | Mapping[str, Any] | str | Path | None, allow_imports: bool
) -> Recipe:
    """The recipe of an unfinished run, which what is said now must not contradict."""
    if not (folder / "recipe.toml").exists():
        raise RunError(f"nothing to resume in {folder}: it holds no run")
    saved = Recipe.load(folder / "recipe.toml", allow_imports=allow_imports)
    now = as_recipe(recipe, allow_imports).said()
    before = saved.said()
    changed = [
        f"{key}: was {before.get(key)!r}, now {value!r}"
        for key, value in now.items()
        if value != "auto" and value != before.get(key)
    ]
    if changed:
        raise RunError(
            f"the recipe is not the one that the run in {folder} was started with; resume without changes, or "
            "train anew in another folder:\n  " + "\n  ".join(changed)
        )
    return saved


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
    recipe, schema = planned.recipe, planned.prepared.schema
    device = choose_device(recipe.engine["device"])
    facts = facts_of(schema, str(device))
    network = (model if model is not None else build_model(recipe, facts, planned.seed)).to(device)
    threads, why = _threads(planned, network, device)
    if recipe.engine["threads"] == "auto":
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
    }
    run = Run(
        recipe=recipe,
        reasons={**planned.resolved.reasons, **({"engine.threads": why} if why else {})},
        schema=schema,
        model=network,
        environment=environment,
        path=folder,
    )
    with using_threads(threads):
        training = assemble(planned, run, device, batches)
        if folder is not None and resume:
            state = load_checkpoint(folder / "checkpoints")
            if state is not None:  # else it starts from the beginning, which gives the same bits as well
                training.load_state_dict(state)
            if training.stopped == "interrupted":
                training.stopped = ""
        elif folder is not None:
            _begin(folder, run)
        checkpointer = Checkpointer(
            None if folder is None else folder / "checkpoints",
            CheckpointSettings(**recipe.checkpoint),
            {"fingerprint": schema.fingerprint},
        )
        files = [] if folder is None else [HistoryFile(folder / "history.jsonl")]
        training.observers = [*observers, *files, checkpointer]
        try:
            with stopping_on_signals(training):
                fit(training)
        except NotFinite as cause:
            _give_up(run, training, checkpointer, planned, cause)
        _finish(run, training, planned, device)
    if training.stopped == "interrupted":
        where = f"; continue with --resume --out {folder}" if folder is not None else ""
        raise Interrupted(f"stopped in epoch {training.epoch + 1} after {training.step} steps{where}")
    return run


def _check_fingerprint(folder: Path, schema: Schema) -> None:
    saved = Schema.from_json(
        (folder / "schema.json").read_text(encoding="utf-8"), str(folder / "schema.json")
    )
    if saved.fingerprint != schema.fingerprint:
        raise RunError(
            f"the data are not those that the run in {folder} was started with (fingerprint {schema.fingerprint}, "
            f"was {saved.fingerprint}); resume with the same data, or train anew in another folder"
        )


def _begin(folder: Path, run: Run) -> None:
    """Write what is known before the first step, so that a killed run can be resumed and read."""
    from descend.run import _json

    folder.mkdir(parents=True, exist_ok=True)
    reasons = {key: f"auto: {reason}" for key, reason in run.reasons.items()}
    write_atomically(folder / "schema.json", run.schema.to_json().encode())
    write_atomically(folder / "environment.json", _json(run.environment))
    write_atomically(folder / "recipe.toml", run.recipe.to_toml(reasons).encode())


def part_batches(part: Part, order: Order, device: torch.device, workers: int = 0) -> Batches:
    """The batches of a part, in memory on the device, or fetched."""
    if part.inputs is not None:
        weights = None if part.weights is None else part.weights.to(device)
        return MemoryBatches(part.inputs.to(device), part.targets.to(device), weights, order)
    return LoadedBatches(
        part.dataset, part.rows.tolist(), part.targets, part.weights, order, device=device, workers=workers
    )


def evaluation_batches(part: Part, device: torch.device, workers: int = 0) -> Callable[[], list[Batch]]:
    """All rows of a part in order; what is in memory is one batch that stays on the device."""
    if part.inputs is not None:
        weights = None if part.weights is None else part.weights.to(device)
        whole = [Batch(part.inputs.to(device), part.targets.to(device), weights)]
        return lambda: whole
    order = Order(len(part), EVALUATED_AT_ONCE, sampling="in_order")
    batches = part_batches(part, order, device, workers)
    return lambda: [each for step in batches.epoch(0) for each in step]


def assemble(planned: Plan, run: Run, device: torch.device, batches: Batches | None = None) -> Training:
    """The parts of the training, ready to start; ``batches`` stand in for the plan's own."""
    recipe, prepared, seed = run.recipe, planned.prepared, planned.seed
    workers = recipe.engine["workers"]
    order = Order(
        len(prepared.train),
        recipe.data["batch_size"],
        recipe.gradient["accumulate"],
        recipe.data["sampling"],
        seed,
    )
    batches = batches or part_batches(prepared.train, order, device, workers)
    loss: Any = run.loss
    loss.trust(prepared.train.targets)
    stop = recipe.stop
    total = stop["max_epochs"] * batches.steps_per_epoch
    schedule = build_schedule(recipe, steps_per_epoch=batches.steps_per_epoch, total_steps=total)
    objective = Objective(
        run.model,
        loss,
        device=device,
        gradient=GradientSettings(**recipe.gradient),
        penalty=build_penalty(recipe, run.model),
        precision=recipe.engine["precision"],
        seed=seed,
    )
    evaluate: Callable[[], dict[str, Tensor]] | None = None
    if len(prepared.validation):
        rows = evaluation_batches(prepared.validation, device, workers)
        evaluate = lambda: measured(run.predictor, rows(), run.measure)  # noqa: E731 - one line
    return Training(
        model=run.model,
        objective=objective,
        optimizer=build_optimizer(recipe, run.model),
        schedule=schedule,
        batches=batches,
        stopping=Stopping(
            max_epochs=stop["max_epochs"],
            patience=stop.get("patience"),
            larger_is_better=better(stop["monitor"]) == "higher",
            max_seconds=stop.get("max_seconds"),
            target=stop.get("target"),
            min_improvement=stop["min_improvement"],
        ),
        evaluate=evaluate,
        monitor=stop["monitor"],
        schedule_hears=recipe.schedule.get("monitor", "validation"),
        average=WeightAverage(objective.parameters, stop["average"] * batches.steps_per_epoch)
        if stop["average"]
        else None,
    )


def _threads(planned: Plan, network: nn.Module, device: torch.device) -> tuple[int, str]:
    """The number of CPU threads: as said, or measured on throw-away copies."""
    said = planned.recipe.engine["threads"]
    if said != "auto":
        return int(said), ""
    if device.type != "cpu":
        return torch.get_num_threads(), "the arithmetic runs on another device"
    if planned.prepared.train.inputs is None:
        return 1, "rows are loaded one by one"
    probe = Run(planned.recipe, {}, planned.prepared.schema, copy.deepcopy(network))
    training = assemble(planned, probe, device)
    step_batches = next(training.batches.epoch(0))
    training.model.train()
    rng = torch.get_rng_state()
    try:
        return choose_threads(lambda: training.optimizer.step(training.objective.at(step_batches, 0, 0)))  # type: ignore[arg-type]
    finally:
        torch.set_rng_state(rng)


def _finish(run: Run, training: Training, planned: Plan, device: torch.device) -> None:
    """Take the best weights, measure every part, and write the run."""
    if training.best is not None:
        run.model.load_state_dict(training.best)
    run.model.eval()
    run.history = training.history
    prepared = planned.prepared
    interrupted = training.stopped == "interrupted"
    run.metrics = {
        "status": "interrupted" if interrupted else "finished",
        "task": prepared.schema.task,
        "best_epoch": training.stopping.best_epoch,
        "epochs": training.epoch,
        "steps": training.step,
        "seconds": training.seconds,
        "stopped": training.stopped,
    }
    if interrupted:
        return
    shown: str | None = None
    for name in ("train", "validation", "test"):
        part: Part = getattr(prepared, name)
        if len(part):
            rows = evaluation_batches(part, device)
            run.metrics[name] = {k: float(v) for k, v in measured(run.predictor, rows(), run.measure).items()}
            shown = name
    if shown is not None:
        part = getattr(prepared, shown)
        rows = evaluation_batches(part, device)
        run.evaluation = details(run.predictor, rows(), run.measure, part.rows, planned.source, shown)
    if run.path is not None:
        run.write_files()


def _give_up(
    run: Run, training: Training, checkpointer: Checkpointer, planned: Plan, cause: NotFinite
) -> None:
    """Find where the bad number came from, go back to the last good state, and say what to do."""
    good = checkpointer.good
    assert good is not None
    origin = find_origin(training, good)
    training.load_state_dict(good)
    if run.path is not None:
        checkpointer.save(training)
        checkpointer.wait()
    raise DivergedError(_explained(origin, planned, run, str(cause))) from None


def _explained(origin: Origin | None, planned: Plan, run: Run, symptom: str) -> str:
    if origin is None:
        return f"Training diverged: {symptom}. Lower the learning rate: --set optimizer.lr={_lower(run)}"
    lines = [f"Training diverged: {origin.what} is not finite at step {origin.step} (epoch {origin.epoch})."]
    if origin.rows:
        numbers = planned.prepared.train.rows[list(origin.rows)]
        listed = ", ".join(str(int(row)) for row in numbers[:8]) + (", ..." if len(numbers) > 8 else "")
        lines.append(f"Rows of the data: {listed} ({len(numbers)} in the batch).")
    lines.append(f"The learning rate was {origin.rate:g}. The network was put back to its last good state.")
    lines.append("What helps, in this order:")
    lines.append(f"  a lower rate: --set optimizer.lr={_lower(run)}")
    lines.append("  limited gradients: --set gradient.clip_norm=1.0")
    if origin.rows and len(origin.rows) <= 8:
        lines.append("  a look at the rows named above: they may hold extreme values")
    return "\n".join(lines)


def _lower(run: Run) -> str:
    rate = run.recipe.optimizer.get("lr", 1e-3)
    return f"{float(rate) / 10:g}"
