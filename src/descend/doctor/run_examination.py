"""Diagnosis of a run: causes are tested by training the recipe with one change each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from descend.arguments import as_path
from descend.doctor.causes import CAUSES, CONSEQUENCES
from descend.doctor.findings import Finding, ranked
from descend.doctor.run_case import Proposal, RunCase, changed, single
from descend.errors import RunError, UserError
from descend.interface import option
from descend.many import train_many
from descend.runs.failed_run import load_failed
from descend.runs.folder import is_failed
from descend.runs.plan import Planner
from descend.runs.run import Run, load

__all__ = ["case_of", "examine_run", "opened"]

SMALL = 0.1
"""The part of the error that a change has to remove at least."""


def opened(run: Run | str | Path, allow_imports: bool = False) -> Run:
    """Return a run, or load it from its folder: a finished one, or one that diverged, with its initial weights.

    Raises:
        RunError: there is no run, or it was interrupted.
    """
    if isinstance(run, Run):
        return run
    folder = as_path("run", run)
    return (
        load_failed(folder, allow_imports=allow_imports)
        if is_failed(folder)
        else load(folder, allow_imports=allow_imports)
    )


def case_of(run: Run, data: Any = None, *, allow_imports: bool = False) -> tuple[RunCase, Any]:
    """Return a run with its prepared data, and the data as they are read.

    Raises:
        UserError: the run did not record where its data are.
        RunError: the data differ from those of the run.
    """
    reference = run.environment.get("data", {}).get("reference")
    if data is None and reference is None:
        raise UserError(
            f"the run did not record where its data are; specify them: {option('--data DATA', 'data=...')}"
        )
    given = reference if data is None else data
    planned = Planner(given, allow_imports=allow_imports).plan(
        single(run.recipe), int(run.environment["seed"])
    )
    if planned.prepared.schema.fingerprint != run.schema.fingerprint:
        raise RunError(
            "the data differ from those the run was trained on; specify the same data: "
            + option("--data DATA", "data=...")
        )
    return RunCase(run, planned), given


def examine_run(
    run: Run | str | Path, data: Any = None, *, allow_imports: bool = False, progress: bool | None = None
) -> list[Finding]:
    """Find why a run is worse than it could be.

    Each cause that may be present proposes changes of the recipe. All of them are trained on the same rows with the same
    seed, in packs where possible; a cause is reported where its change removes a part of the validation error that chance
    does not explain.

    Args:
        run: a finished run, or its folder.
        data: the data of the run. Default None: those that the run recorded.
        allow_imports: whether the recipe and the data may be imported by path, which runs code. Default False.
        progress: whether to show progress. Default None: only in a terminal or a notebook.

    Returns:
        Findings, most certain first; an empty list where no change helps.

    Raises:
        UserError: the data are not known, or the run has no validation rows.
        RunError: there is no run, or the data are not its data.

    >>> import descend
    >>> run = descend.train("digits", {"model.hidden": [8], "optimizer": {"name": "sgd", "lr": 1e-6}, "stop.max_epochs": 5})
    >>> examine_run(run, "digits")[0].cause
    'learning_rate_too_low'
    """
    run = opened(run, allow_imports)
    case, given = case_of(run, data, allow_imports=allow_imports)
    if not len(case.planned.prepared.validation):
        raise UserError("the run has no validation rows, by which changes of its recipe could be compared")
    found = [each.in_data(case.planned) for each in CAUSES]
    proposals = [proposal for each in CAUSES for proposal in each.proposals(case)]
    if proposals:
        runs = train_many(
            [changed(case.recipe, each.changes) for each in proposals],
            given,
            seeds=int(run.environment["seed"]),
            tested=False,
            progress=progress,
            allow_imports=allow_imports,
        )
        case.results = dict(zip(proposals, runs, strict=True))
        found += _helpful(case)
    return ranked([each for each in found if each is not None], CONSEQUENCES)


def _helpful(case: RunCase) -> list[Finding]:
    """Return a finding for each cause with a change that helps, the best of its changes."""
    gains = {each: case.improvement(run) for each, run in case.results.items()}
    most = max(gains.values(), default=0.0)
    causes = {each.name(): each for each in CAUSES}
    return [
        causes[proposal.cause].found(
            _certainty(gain, most),
            *proposal.evidence,
            f"with {_shown(proposal)} the validation error goes from {case.error(case.run):.4g} to "
            f"{case.error(case.results[proposal]):.4g}",
            remedy=proposal.changes,
        )
        for proposal, gain in gains.items()
        if gain >= SMALL
    ]


def _certainty(gain: float, most: float) -> float:
    """Return how certain a cause is: more, the more of the error its change removes, and the closer it is to the best."""
    return min(0.95, (0.5 + 0.5 * gain) * gain / most)


def _shown(proposal: Proposal) -> str:
    return ", ".join(f"{key} = {value}" for key, value in proposal.changes.items())
