"""Distillation: one network that is trained on the predictions of an ensemble, in place of the ensemble.

An ensemble of M networks takes M times as long to predict and M times the memory. Its predictions contain more than the labels:
the probabilities of all classes, or means without the noise of the targets. One network that is trained on them keeps most of
what the ensemble has gained. Rows of which the ensemble predicts the targets cost nothing but time, so that the training rows
are supplemented by rows with exchanged values.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from descend.data.preparation import Part
from descend.errors import Interrupted
from descend.recipe.facts import facts_of
from descend.recipe.members import single_recipe
from descend.recipe.recipe import Recipe
from descend.recipe.resolve import resolve
from descend.rng import generator
from descend.runs.finish import calibrate, measure_parts
from descend.runs.plan import Plan
from descend.runs.run import Run
from descend.runs.session import Session
from descend.training.arithmetic import arithmetic
from descend.training.evaluation import outputs_of
from descend.training.timing import shortest_seconds

__all__ = ["distilled", "rows_with_exchanged_values", "soft_targets"]

MOST_ROWS = 20_000
"""The number of rows up to which rows are added to the training rows."""

MOST_COPIES = 4
"""The largest number of rows with exchanged values for each training row."""

EXCHANGED = 0.25
"""The share of the numbers of a row that are exchanged for those of another row."""

ROW_KEYS = ("optimizer.lr", "regularize.weight_decay", "model.dropout")
"""Keys whose automatic values depend on the number of training rows."""

_LOSSES: Mapping[str, str] = {"binary": "bce", "multi_label": "bce", "multiclass": "cross_entropy"}


def distilled(run: Run, planned: Plan, device: torch.device, *, tested: bool) -> Run:
    """Return the run with one network, trained on the predictions of the run's ensemble, as its model.

    The network is that of the recipe without members. It learns the calibrated probabilities of the ensemble by the
    cross-entropy, or its means by the squared error, on the training rows and on rows with exchanged values
    (:func:`rows_with_exchanged_values`), and is stopped by its loss on the validation rows with their own targets. It is
    calibrated like any other network. ``metrics["distilled"]`` contains the metrics of the ensemble, and the numbers of
    weights and milliseconds to predict one row and 1,000 rows of both.

    Args:
        run: with the ensemble as its model, calibrated and measured.
        planned: the plan of the run.
        device: of the networks.
        tested: whether the test part is evaluated.

    Raises:
        Interrupted: a signal requested to stop.
        DivergedError: a number became NaN or infinite.

    Source: Bucilă, Caruana and Niculescu-Mizil, "Model compression", 2006; Hinton, Vinyals and Dean, "Distilling the knowledge
    in a neural network", 2015.
    """
    part = planned.prepared.train
    assert part.inputs is not None
    teacher = run.predictor.network.to(device).eval()
    rows, copies = _rows(part, planned)
    with arithmetic(run.environment["threads"] or 1, device, planned.recipe.engine["denormals"]):
        outputs = outputs_of(teacher, rows.to(device), precision=run.predictor.precision).cpu()
    repeated = 1 + copies
    enlarged = Part(
        rows,
        soft_targets(outputs, planned.prepared.schema.task).to(
            part.targets.dtype if part.targets.is_floating_point() else outputs.dtype
        ),
        None if part.weights is None else part.weights.repeat(repeated),
        part.rows.repeat(repeated),
    )
    prepared = dataclasses.replace(planned.prepared, train=enlarged)
    recipe = _recipe_of_student(planned, run, len(rows))
    plan = dataclasses.replace(
        planned,
        prepared=prepared,
        resolved=dataclasses.replace(planned.resolved, recipe=recipe),
        before=None,
    )
    session = Session(plan)
    if session.advance() == "interrupted":
        raise Interrupted("stopped while the ensemble was distilled into one network")
    training = session.training
    network = session.run.model
    if training.best is not None:
        network.load_state_dict(training.best)
    before = run.metrics
    result = dataclasses.replace(
        run,
        model=network.eval(),
        history=training.history,
        metrics={
            **{key: value for key, value in before.items() if key not in ("train", "validation", "test")},
            "best_epoch": training.stopping.best_epoch,
            "epochs": training.epoch,
            "steps": training.step,
        },
        calibration=None,
    )
    with arithmetic(run.environment["threads"] or 1, device, planned.recipe.engine["denormals"]):
        calibrate(result, planned, device)
        measure_parts(result, planned, device, tested=tested)
        result.metrics["distilled"] = {
            "ensemble": {part: before[part] for part in ("train", "validation", "test") if part in before},
            "parameters": [_count(teacher), _count(network)],
            "milliseconds": [
                _milliseconds(each, part.inputs, device) for each in (teacher, result.predictor.network)
            ],
        }
    result.environment["model"] = {"summary": str(network), "parameters": _count(network)}
    return result


def soft_targets(outputs: Tensor, task: str) -> Tensor:
    """Return the targets that raw outputs (n, K) of an ensemble are for another network.

    Probabilities of the second class (n,) for two classes, of all classes (n, K), of labels (n, L), or means (n, T).

    >>> soft_targets(torch.tensor([[0.0], [40.0]]), "binary")
    tensor([0.5000, 1.0000])
    """
    if task == "binary":
        return torch.sigmoid(outputs).squeeze(1)
    if task == "multi_label":
        return torch.sigmoid(outputs)
    return torch.softmax(outputs, 1) if task == "multiclass" else outputs


def rows_with_exchanged_values(inputs: Tensor, numbers: Tensor, sampler: torch.Generator) -> Tensor:
    """Return for each row (n, d) one in which some values are those of another row.

    Each number is exchanged with the probability :data:`EXCHANGED`, each with that of the same other row; all other entries,
    such as the indicators of categories, together with the same probability. Each entry therefore has the distribution of its
    column, and each row is between two rows of the data.

    Args:
        inputs: encoded rows.
        numbers: (d,), whether an entry is a number.
        sampler: the source of random numbers.

    Source: Bucilă, Caruana and Niculescu-Mizil, "Model compression", 2006, exchange values of nearest neighbors.
    """
    n, d = inputs.shape
    other = inputs[torch.randint(n, (n,), generator=sampler)]
    own = torch.rand(n, d, generator=sampler) < EXCHANGED
    together = torch.rand(n, 1, generator=sampler) < EXCHANGED
    return torch.where(torch.where(numbers, own, together), other, inputs)


def _rows(part: Part, planned: Plan) -> tuple[Tensor, int]:
    """Return the training rows with the added ones, and how many there are for each training row."""
    inputs = part.inputs
    assert inputs is not None
    inputs = inputs.cpu()
    copies = min(MOST_COPIES, MOST_ROWS // max(1, len(inputs)) - 1) if inputs.dim() == 2 else 0
    if copies < 1:
        return inputs, 0
    facts = facts_of(planned.prepared.schema)
    numbers = torch.zeros(inputs.shape[1], dtype=torch.bool)
    numbers[[each.position for each in facts.numbers]] = True
    added = [
        rows_with_exchanged_values(inputs, numbers, generator(planned.seed, "distillation", copy))
        for copy in range(copies)
    ]
    return torch.cat([inputs, *added]), copies


def _recipe_of_student(planned: Plan, run: Run, rows: int) -> Recipe:
    """Return the recipe of the network: soft targets are not smoothed, and are learned by the loss of their task."""
    recipe = single_recipe(planned.recipe)
    task = planned.prepared.schema.task
    sections: dict[str, Any] = {name: dict(values) for name, values in recipe.items()}
    sections["loss"] = {"name": _LOSSES.get(task, "mse")}
    if sections["stop"]["monitor"] == "objective":
        sections["stop"]["monitor"] = "loss"
    sections["engine"]["threads"] = run.environment["threads"] or 1
    return Recipe.of(sections).replace(_for_more_rows(Recipe.of(sections), planned, rows))


def _for_more_rows(recipe: Recipe, planned: Plan, rows: int) -> dict[str, Any]:
    """Return the automatic values for a number of training rows of those keys that have the automatic value for fewer.

    Strong regularization keeps a network from learning the noise of few targets; predictions of an ensemble have little.
    """
    facts = facts_of(planned.prepared.schema)
    open_keys = Recipe.of(
        {section: {"name": recipe.get(f"{section}.name")} for section in ("model", "loss", "optimizer")}
    )
    before, after = (
        resolve(open_keys, each).recipe for each in (facts, dataclasses.replace(facts, rows=rows))
    )
    return {key: after.get(key) for key in ROW_KEYS if recipe.get(key) == before.get(key) is not None}


def _count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def _milliseconds(network: nn.Module, inputs: Tensor, device: torch.device) -> dict[str, float]:
    """Return the milliseconds that a network takes to predict one row, and 1,000 rows."""
    found = {}
    for rows in (1, 1000):
        batch = inputs[torch.arange(rows) % len(inputs)].to(device)
        measured = functools.partial(outputs_of, network, batch)
        seconds = shortest_seconds(measured, repeats=5, device=device)
        found[str(rows)] = round(1e3 * seconds, 4) if math.isfinite(seconds) else seconds
    return found
