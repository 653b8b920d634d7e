"""The data of a run as its folder records them, and how other data differ from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from descend.data.bundled import BUNDLED
from descend.data.column import Column
from descend.data.functions import is_function_path
from descend.data.schema import Schema
from descend.data.source import Source
from descend.data.training_data import TrainingData
from descend.errors import MissingExtraError, RunError, UserError
from descend.files import read_json
from descend.interface import option
from descend.report.formatting import listing
from descend.runs.folder import ENVIRONMENT, why_unfinished

__all__ = ["difference", "explained", "given_parts", "recorded", "recorded_data", "references_of"]

GIVEN = ("validation", "test")
"""The parts that may have been given as data of their own."""


def references_of(data: TrainingData) -> dict[str, str | None]:
    """Return what identifies the validation and test data and the weights that were given; None for those in memory."""
    given = {name: getattr(data, name) for name in (*GIVEN, "sample_weight")}
    return {name: recorded(one) if name in GIVEN else None for name, one in given.items() if one is not None}


def recorded(data: Any) -> str | None:
    """Return what identifies data in any working directory: a name, or an absolute path; None for data in memory."""
    if not isinstance(data, str | Path):
        return None
    name = str(data)
    if name in BUNDLED or not Path(name).exists():
        return name
    return str(Path(name).absolute())


def recorded_data(folder: Path, *, allow_imports: bool = False) -> TrainingData:
    """Return the data that a run was started with, as recorded in its folder; nothing is read yet.

    Args:
        folder: the run folder.
        allow_imports: whether a function that the folder names may be called to load the data. Default False.

    Raises:
        RunError: there is no run, the data were in memory, their file does not exist, or a function would be called.
    """
    path = folder / ENVIRONMENT
    if not path.exists():
        raise RunError(f"nothing to resume: {why_unfinished(folder)}")
    data = read_json(path).get("data")
    if not isinstance(data, dict) or "reference" not in data:
        raise RunError(f"{path} is damaged: it does not record the data")
    return TrainingData(
        _usable(folder, data["reference"], data.get("path"), "data", allow_imports),
        **{
            name: _usable(folder, data[name], None, f"{name} data", allow_imports)
            for name in GIVEN
            if name in data
        },
    )


def given_parts(folder: Path, *, allow_imports: bool, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the validation and test data that a run was started with, apart from those known already."""
    path = folder / ENVIRONMENT
    data = read_json(path).get("data") if path.exists() else None
    if not isinstance(data, dict):
        return {}
    return {
        name: _usable(folder, data[name], None, f"{name} data", allow_imports)
        for name in GIVEN
        if name in data and known.get(name) is None
    }


def _usable(folder: Path, reference: Any, absolute: Any, what: str, allow_imports: bool) -> str:
    shell = {"data": "DATA", "validation data": "--validation DATA", "test data": "--test DATA"}[what]
    keyword = {"data": "data", "validation data": "validation", "test data": "test"}[what]
    remedy = f"specify them: {option(shell, f'{keyword}=...')}"
    if not isinstance(reference, str):
        raise RunError(
            f"the run in {folder} did not record where its {what} are, since they were in memory; {remedy}"
        )
    if reference in BUNDLED or Path(reference).exists():
        return reference
    if isinstance(absolute, str) and Path(absolute).exists():
        return absolute
    if is_function_path(reference):
        if allow_imports:
            return reference
        raise RunError(
            f"the {what} of the run in {folder} come from the function {reference}, and calling it runs its code; "
            "if you trust it, specify it: "
            f"{option(f'descend train {reference} --resume --out {folder}', f'{keyword}={reference!r}')}, or allow it: "
            f"{option('--allow-imports', 'allow_imports=True')}"
        )
    place = absolute if isinstance(absolute, str) else reference
    raise RunError(f"the {what} of the run in {folder} are not at {place} any more; {remedy}")


def explained(
    folder: Path, schema: Schema, data: TrainingData, sources: Sequence[Source], cause: UserError
) -> str:
    """Explain an error by data that are not those of a run; "" if they are, or if this is not known.

    Args:
        folder: the run folder.
        schema: the schema of the run.
        data: the data.
        sources: the data as read; empty if they could not be read.
        cause: the error.
    """
    if isinstance(cause, MissingExtraError) or "no such file" in str(cause):
        return ""
    for source in sources:
        if source.fingerprint() == schema.fingerprint:
            return ""
        return f"{difference(folder, schema, source)}. Resume with the same data, or start a new run in another folder"
    name, saved = recorded(data.source), read_json(folder / ENVIRONMENT).get("data")
    saved = saved if isinstance(saved, dict) else {}
    if name is None or name in (saved.get("reference"), saved.get("path")):
        return ""
    started = saved.get("name") or schema.name
    fault = str(cause).partition("; one of: ")[0]
    return (
        f"the run was started with {started}, and {name} cannot be read in its place ({fault}). Resume with the same data, "
        "or start a new run in another folder"
    )


def difference(
    folder: Path, schema: Schema, source: Source, other: Schema | None = None, given: Collection[str] = ()
) -> str:
    """Describe how data differ from those that a run was started with.

    Args:
        folder: the run folder.
        schema: the schema of the run.
        source: the other data.
        other: their schema, from which the changed columns are known. Default None: it could not be made.
        given: which of the parts and weights are given as data of their own. Default: none.
    """
    data = read_json(folder / ENVIRONMENT).get("data")
    data = data if isinstance(data, dict) else {}
    name, rows = str(data.get("name") or schema.name), data.get("rows")
    found: list[str] = []
    if isinstance(rows, int) and rows != len(source):
        found.append(f"{len(source):,} rows, the run has {rows:,}")
    if tuple(source.target_names) != tuple(schema.target_names):
        found.append(f"the target {listing(source.target_names)}, the run has {listing(schema.target_names)}")
    found += _columns(schema, source)
    if "sample_weight" in data and source.weights is None:
        found.append("no sample_weight, the run has some")
    if "sample_weight" in given and "sample_weight" not in data:
        found.append("sample_weight, the run has none")
    if other is not None:
        found += _values(schema, other)
    if schema.kind != source.kind:
        found.append(f"they are of the kind {source.kind}, those of the run of the kind {schema.kind}")
    facts = "; ".join(found) or (
        "the same number of rows and the same columns with the same ranges, but other values, types, targets, weights or "
        "parts, or its rows are in another order"
    )
    return f"{source.name} has {facts}; the run was started with {name}"


def _columns(schema: Schema, source: Source) -> list[str]:
    frame = source.frame if source.frame is not None else source.stored
    if frame is None or not schema.columns:
        return []
    before, now = [column.name for column in schema.columns], [str(name) for name in frame.columns]
    if not schema.named:
        return [] if len(before) == len(now) else [f"{len(now)} columns, the run has {len(before)}"]
    absent, new = [name for name in before if name not in now], [name for name in now if name not in before]
    found = []
    if absent:
        found.append(f"no column {listing(absent, 3)}")
    if new:
        found.append(f"the additional column{'s' if len(new) > 1 else ''} {listing(new, 3)}")
    if not found and before != now:
        found.append("the same columns in another order")
    return found


def _values(schema: Schema, other: Schema) -> list[str]:
    """Return the changes of columns, task and classes that do not depend on the order of the rows."""
    now = {column.name: column for column in other.columns}
    pairs = [(column, now[column.name]) for column in schema.columns if column.name in now]
    found = [
        f"the column {new.name} as {new.kind}, the run as {old.kind}"
        for old, new in pairs
        if old.kind != new.kind
    ]
    found = [*found[:3], f"{len(found) - 3} more columns of another kind"] if len(found) > 4 else found
    changed = [old.name for old, new in pairs if old.kind == new.kind and _content(old) != _content(new)]
    if changed:
        found.append(f"other values in the column{'s' if len(changed) > 1 else ''} {listing(changed, 3)}")
    if schema.task != other.task:
        found.append(f"targets for the task {other.task}, the run for {schema.task}")
    elif set(schema.classes) != set(other.classes):
        found.append(
            f"the classes {listing(list(map(str, other.classes)), 5)}, the run has {listing(list(map(str, schema.classes)), 5)}"
        )
    elif schema.columns and _fitted(schema) == _fitted(other) and _targets(schema) != _targets(other):
        found.append(f"other targets ({listing(other.target_names)})")
    return found


def _content(column: Column) -> tuple[object, ...]:
    """What a schema records of all values of a column in any order."""
    return column.low, column.high, column.missing, frozenset(column.categories)


def _targets(schema: Schema) -> tuple[object, ...]:
    """What a schema records of the targets of the training rows."""
    return schema.target_mean, schema.target_scale, schema.classes


def _fitted(schema: Schema) -> list[Column]:
    """The columns with what does not depend on the targets."""
    return [dataclasses.replace(column, effects=(), note="") for column in schema.columns]
