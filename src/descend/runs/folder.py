"""The run folder: the names of its files, and who writes them when.

=========================  ============================================================================
``recipe.toml``            the resolved recipe, with the reasons of automatic choices as comments
``schema.json``            columns, categories, classes, scaling and fingerprint of the data
``environment.json``       versions, processor, command, seed
``history.jsonl``          a line per epoch, written while training
``checkpoints/``           the state of training (:mod:`descend.training.checkpoint`)
``weights.safetensors``    the best weights
``metrics.json``           status, loss and metrics of each part; also of a run that diverged
``evaluation.json``        the confusion matrix or predicted values, and the worst predictions
``manifest.json``          the format's version, and digests of recipe, schema and weights; written last
=========================  ============================================================================

:func:`write_start` writes the first three files before the first step, so that a killed run can be resumed.
:func:`write_result` writes the complete folder at the end. :func:`write_failure` records a run that diverged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from descend._version import __version__
from descend.data.schema import Schema
from descend.errors import RunError, closest
from descend.files import json_bytes, make_folder, read_json, write_atomically
from descend.interface import option
from descend.process import locked
from descend.process.locks import LOCK
from descend.recipe import Recipe
from descend.training.checkpoint import LAST_FILE
from descend.training.state import read_meta

__all__ = [
    "CHECKPOINTS",
    "ENVIRONMENT",
    "EVALUATION",
    "FORMAT",
    "HISTORY",
    "MANIFEST",
    "MEMBERS",
    "METRICS",
    "RECIPE",
    "ROUNDS",
    "SCHEMA",
    "SEALED",
    "WEIGHTS",
    "check_manifest",
    "counted",
    "epochs_in_checkpoint",
    "is_being_trained",
    "is_failed",
    "is_finished",
    "is_started",
    "reopen",
    "why_no_run",
    "why_unfinished",
    "write_failure",
    "write_result",
    "write_start",
]

FORMAT = 1
"""The version of the folder's layout; folders of a newer version are refused."""

RECIPE, SCHEMA, ENVIRONMENT = "recipe.toml", "schema.json", "environment.json"
HISTORY, CHECKPOINTS = "history.jsonl", "checkpoints"
WEIGHTS, METRICS, EVALUATION = "weights.safetensors", "metrics.json", "evaluation.json"
MANIFEST = "manifest.json"
MEMBERS = "members"
"""The folder of the networks of an unfinished run that trains several (``init.restarts``, ``model.ensemble``)."""

ROUNDS = "rounds"
"""The folder of the rounds of networks of a run with the preset best."""

SEARCH, BEST, COMPARISON = "search.json", "best", ("comparison_settings.json", "asked.json")
"""The files by which the folders of a search and of a comparison are recognized, and the best run of a search."""

SEALED = (RECIPE, SCHEMA, WEIGHTS)
"""The files that define a run; the manifest contains their digests."""


def is_started(folder: Path) -> bool:
    """Whether a folder contains a run, finished or not. A recipe without any other file of a run is the user's own."""
    return (folder / RECIPE).exists() and any((folder / name).exists() for name in (SCHEMA, ENVIRONMENT))


def is_failed(folder: Path) -> bool:
    """Whether a folder contains a run that diverged."""
    return (folder / METRICS).exists() and read_json(folder / METRICS).get("status") == "failed"


def is_finished(folder: Path) -> bool:
    """Whether a folder contains a finished run."""
    return (folder / MANIFEST).exists()


def write_start(
    folder: Path,
    *,
    recipe: Recipe,
    reasons: Mapping[str, str],
    schema: Schema,
    environment: Mapping[str, Any],
) -> None:
    """Create the folder and write what is known before the first step; the recipe last, since it marks a run.

    Earlier results of the run, which is then trained further, are removed. If a new run cannot be written completely,
    what was written of it is removed, so that the folder can be used again.
    """
    make_folder(folder)
    is_new = not (folder / RECIPE).exists()
    reopen(folder)
    try:
        write_atomically(folder / SCHEMA, schema.to_json().encode())
        write_atomically(folder / ENVIRONMENT, json_bytes(environment))
        write_atomically(folder / RECIPE, _recipe_text(recipe, reasons))
    except RunError:
        for name in (SCHEMA, ENVIRONMENT) if is_new else ():
            (folder / name).unlink(missing_ok=True)
        raise


def reopen(folder: Path) -> None:
    """Turn a finished run into one that can be trained further or written again; its checkpoints stay."""
    for name in (MANIFEST, METRICS):
        (folder / name).unlink(missing_ok=True)


def write_failure(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Record a run that diverged: ``metrics`` has the status "failed" and a message."""
    write_atomically(folder / METRICS, json_bytes(metrics))


def write_result(
    folder: Path,
    *,
    recipe: Recipe,
    reasons: Mapping[str, str],
    schema: Schema,
    weights: bytes,
    history: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    environment: Mapping[str, Any],
) -> None:
    """Write every file of a finished run, the manifest last; one that is there is removed first."""
    content = {
        RECIPE: _recipe_text(recipe, reasons),
        SCHEMA: schema.to_json().encode(),
        WEIGHTS: weights,
        HISTORY: "".join(json.dumps(record) + "\n" for record in history).encode(),
        METRICS: json_bytes(metrics),
        EVALUATION: json_bytes(evaluation),
        ENVIRONMENT: json_bytes(environment),
    }
    reopen(folder)
    for name, data in content.items():
        write_atomically(folder / name, data)
    digests = {name: _digest(content[name]) for name in SEALED}
    manifest = {"format": FORMAT, "descend": __version__, "digests": digests}
    write_atomically(folder / MANIFEST, json_bytes(manifest))


def check_manifest(folder: Path) -> None:
    """Check that a folder contains a finished run, and that its sealed files are unchanged.

    Raises:
        RunError: there is no run, or it is incomplete, damaged, altered, or from a newer version.
    """
    if folder.is_file():
        raise RunError(f"{folder} is a file, not the folder of a run{_near(folder)}")
    if not folder.is_dir():
        raise RunError(f"no such run folder: {folder}{_near(folder)}")
    if not is_finished(folder):
        raise RunError(why_unfinished(folder))
    manifest = read_json(folder / MANIFEST)
    if not isinstance(manifest.get("format"), int) or not isinstance(manifest.get("digests"), dict):
        raise RunError(f"{folder / MANIFEST} is damaged")
    if manifest["format"] > FORMAT:
        raise RunError(
            f"the run in {folder} was written by descend {manifest.get('descend')}, newer than this one "
            f"({__version__}); update descend"
        )
    for name in SEALED:
        try:
            content = (folder / name).read_bytes()
        except OSError as cause:
            raise RunError(
                f"the run in {folder} is incomplete: {name} cannot be read ({cause.strerror})"
            ) from cause
        if _digest(content) != manifest["digests"].get(name):
            raise RunError(f"{folder / name} was altered or cut short after training (its digest differs)")


def _near(folder: Path) -> str:
    """Return the run with the most similar name in the folder above, or in runs, as a question; empty if there is none."""
    for parent in dict.fromkeys((folder.parent, Path("runs"))):
        runs = [path.parent.name for path in parent.glob(f"*/{RECIPE}")] if parent.is_dir() else []
        close = closest(folder.name, runs)
        if close is not None:
            return f"; did you mean '{parent / close}'?"
    return ""


def why_unfinished(folder: Path) -> str:
    """Return why a folder without a manifest cannot be used as a run, and what to do."""
    if not is_started(folder):
        return why_no_run(folder)
    if is_being_trained(folder):
        return f"the run in {folder} is being trained by another process; wait for its end, or stop it"
    epoch = epochs_in_checkpoint(folder)
    finish = option(f"descend finish {folder}", f"descend.finish({str(folder)!r})")
    use = f"use its best weights so far with {finish}"
    if is_failed(folder):
        if epoch:
            return f"the run in {folder} diverged after {counted(epoch, 'epoch')}; {use}, or train again in another folder"
        return f"the run in {folder} diverged and has no trained network; train again in another folder"
    if epoch:
        return (
            f"the run in {folder} was stopped after {counted(epoch, 'epoch')} and is not finished; {use}, or continue it "
            f"with {_resume(folder)}"
        )
    return _no_weights(folder)


def _no_weights(folder: Path) -> str:
    """Why a run without a checkpoint of a complete epoch cannot be used."""
    engine = read_json(folder / ENVIRONMENT).get("engine")
    if isinstance(engine, dict) and "pack" in engine:
        return (
            f"the run in {folder} was trained in a pack of networks, which was stopped and has their weights; continue all "
            f"of them: {option('descend search --resume or descend compare --resume', 'train_many(..., resume=True)')}"
        )
    return (
        f"the run in {folder} was stopped before the end of its first epoch, so that it has no weights to use; continue "
        f"it with {_resume(folder)}"
    )


def _resume(folder: Path | None) -> str:
    return option(f"descend train --resume --out {folder}", f"resume=True, out={str(folder)!r}")


def why_no_run(folder: Path) -> str:
    """Return why a folder is not that of a run: it may be that of a search, a comparison or of several runs."""
    if not folder.exists():
        return f"no such run folder: {folder}{_near(folder)}"
    if (folder / SEARCH).exists():
        best = folder / BEST
        if is_finished(best):
            return f"{folder} is a search, not a run; its best run is {best}"
        return f"{folder} is a search that is not finished; continue it with descend search --resume --out {folder}"
    if any((folder / name).exists() for name in COMPARISON):
        return f"{folder} is a comparison, not a run; its runs are the folders within it"
    inner = sorted(path.parent for path in folder.glob(f"*/{RECIPE}"))
    if inner:
        return f"{folder} is not a run folder: it contains runs, such as {inner[0]}"
    return f"{folder} is not a run folder: it has no {MANIFEST}"


def is_being_trained(folder: Path) -> bool:
    """Whether another process trains into a folder at this moment."""
    if not (folder / LOCK).exists():
        return False
    try:
        with locked(folder):
            return False
    except RunError:
        return True


def counted(number: int, what: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "epoch"), counted(2000, "epoch")
    ('1 epoch', '2,000 epochs')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def epochs_in_checkpoint(folder: Path) -> int:
    """Return the number of complete epochs in the last checkpoint of a run; 0 if there is no readable checkpoint.

    A run of several networks has the checkpoints of each of them, or of packs of them; then it is the largest number.
    """
    last = Path(CHECKPOINTS, LAST_FILE)
    paths = [
        folder / last,
        *folder.glob(f"{MEMBERS}/*/{last}"),
        *folder.glob(f"{MEMBERS}/packs/*/{LAST_FILE}"),
        *folder.glob(f"{ROUNDS}/*/*/{last}"),
        *folder.glob(f"{ROUNDS}/*/packs/*/{LAST_FILE}"),
        *folder.glob(f"{ROUNDS}/*.safetensors"),
    ]
    return max((int(read_meta(path).get("epoch", 0)) for path in paths if path.exists()), default=0)


def _recipe_text(recipe: Recipe, reasons: Mapping[str, str]) -> bytes:
    return recipe.to_toml({key: f"auto: {reason}" for key, reason in reasons.items()}).encode()


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=16).hexdigest()
