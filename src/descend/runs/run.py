"""A run: the result of a training, as an object and as a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from descend._version import __version__
from descend.arguments import as_path
from descend.data.batches import Batch
from descend.data.preparation import encode_source
from descend.data.preprocessing import Preprocess
from descend.data.schema import Schema
from descend.data.source import Source
from descend.data.sources import read
from descend.errors import CheckpointError, RecipeError, RunError, UserError
from descend.files import check_unused, make_folder, read_json, read_json_lines, read_text
from descend.nn.calibration import STATE_PREFIX
from descend.process import undisturbed
from descend.recipe import Recipe
from descend.recipe.build import build_loss, build_model, build_output
from descend.recipe.calibration import restored_calibration
from descend.recipe.constraints import build_constraints
from descend.recipe.facts import facts_of
from descend.recipe.renamed import with_current_names
from descend.recipe.selection import build_selection
from descend.recipe.toml import parse
from descend.runs.description import describe_run
from descend.runs.evaluate import measured
from descend.runs.folder import (
    ENVIRONMENT,
    EVALUATION,
    HISTORY,
    METRICS,
    RECIPE,
    SCHEMA,
    WEIGHTS,
    check_manifest,
    write_result,
)
from descend.runs.predictions import distribution_of, prediction_table, reading_settings
from descend.training.predictor import Predictor
from descend.training.records import read_all, undefined_as_none
from descend.training.state import read_state, to_bytes

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Run", "load"]

Array = np.ndarray[Any, Any]


@dataclass(eq=False, repr=False)
class Run:
    """A trained network with its recipe, its history and its metrics.

    Args:
        recipe: the resolved recipe, in which every key has a value.
        reasons: the reason for each value that was chosen automatically, by key.
        schema: the columns, classes, scaling and fingerprint of the data.
        model: the network with its best weights, a plain module with raw outputs.
        history: one record per epoch.
        metrics: status, epochs, seconds, and the loss and metrics of each part of the data.
        environment: versions, processor, command and seed.
        evaluation: the confusion matrix or the predicted against the true values, and the worst predictions.
        path: the run folder; None if the run was not saved.
        calibration: the map of raw outputs fitted on the validation rows (:mod:`descend.nn.calibration`), or None.

    >>> import descend
    >>> run = descend.train("iris", {"stop": {"max_epochs": 2}})
    >>> run.metrics["epochs"], run.predict([[5.1, 3.5, 1.4, 0.2]]).shape
    (2, (1,))
    """

    recipe: Recipe
    reasons: dict[str, str]
    schema: Schema
    model: nn.Module
    history: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None
    calibration: nn.Module | None = None

    def __post_init__(self) -> None:
        facts = facts_of(self.schema)
        output = build_output(self.recipe, facts)
        self.preprocess = Preprocess(self.schema)
        self.loss = build_loss(self.recipe, facts, output)
        self.measure = self.loss.unsmoothed()
        self.losses = {"loss": self.measure}
        self.selection = build_selection(self.recipe, self.schema.task, len(self.schema.classes))
        self.predictor = Predictor(
            self.schema,
            self.preprocess,
            self.model,
            output,
            self.recipe.engine["precision"],
            self.calibration,
        )

    @property
    def kept(self) -> list[int]:
        """The numbers of the networks that were kept, of a run that trained several; else empty."""
        return list(self.metrics.get("members", {}).get("kept", ()))

    def calibrate(self, calibration: nn.Module | None) -> None:
        """Set the map of raw outputs that predictions are computed from, or remove it."""
        self.calibration = calibration
        self.predictor = replace(self.predictor, calibration=calibration)

    def __repr__(self) -> str:
        """Return about ten lines: scores, epochs, choices and the folder."""
        return describe_run(self)

    @property
    def failed(self) -> bool:
        """Whether training diverged; ``metrics["message"]`` names the place and gives advice."""
        return self.metrics.get("status") == "failed"

    def predict(self, data: Any, *, settings: Mapping[str, Any] | None = None) -> Array:
        """Predict new rows: labels in the type of the training labels, or numbers in the target's units.

        Args:
            data: anything that training takes, without targets: a path, a data frame, an array, ...; for a network
                trained on images also the path of an image, or a list of paths.
            settings: how a file is read, where it differs from training: some of the keys ``separator``, ``encoding``
                and ``sheet`` of the recipe's ``[data]``. Default None.

        Returns:
            (n,), or (n, T) for several targets.
        """
        return self.predictor.predict(self._rows(data, settings))

    def predict_proba(self, data: Any, *, settings: Mapping[str, Any] | None = None) -> Array:
        """Probabilities of classes (n, K), or that labels hold (n, L), in the order of ``schema.classes`` or
        ``schema.target_names``; the arguments are those of :meth:`predict`.
        """
        return self.predictor.predict_proba(self._rows(data, settings))

    def predict_distribution(
        self, data: Any, *, settings: Mapping[str, Any] | None = None
    ) -> dict[str, Array]:
        """Return what the loss predicts about the distribution of the targets of new rows, in their units.

        ``gaussian``: ``mean`` and ``standard_deviation``. ``poisson`` and ``negative_binomial``: the same, and for the latter
        the ``dispersion``. ``quantile``: one entry for each level, such as ``quantile_0.9``.

        Args:
            data: as for :meth:`predict`.
            settings: as for :meth:`predict`.

        Returns:
            Arrays (n,), or (n, T) for several targets, by name.

        Raises:
            UserError: the loss predicts no distribution.

        >>> import descend
        >>> run = descend.train("diabetes", {"loss": "gaussian", "stop": {"max_epochs": 2}})
        >>> sorted(run.predict_distribution("diabetes"))
        ['mean', 'standard_deviation']
        """
        return self.distribution_of(self.predictor.outputs(self._rows(data, settings)))

    def distribution_of(self, outputs: Tensor) -> dict[str, Array]:
        """Return the distribution that raw outputs of the network describe; see :meth:`predict_distribution`."""
        return distribution_of(self.schema, self.loss, outputs)

    def predictions(
        self, data: Any, *, keep: Sequence[str] | str = (), settings: Mapping[str, Any] | None = None
    ) -> pl.DataFrame:
        """Return predictions, and for classes their probabilities, as a table, as ``descend predict`` writes it.

        Args:
            data: as in :meth:`predict`.
            keep: names of columns of the data that come first in the result, unchanged, such as an identifier of the
                rows. They need not have been columns of the training data. Default none.
            settings: as in :meth:`predict`.

        >>> import descend
        >>> run = descend.train({"x": [0, 1] * 20, "y": ["a", "b"] * 20}, {"stop": {"max_epochs": 1}}, target="y")
        >>> run.predictions({"id": ["007", "8"], "x": [0, 1]}, keep=["id"]).columns
        ['id', 'prediction', 'probability_a', 'probability_b']
        """
        keep = (keep,) if isinstance(keep, str) else tuple(keep)
        return prediction_table(self.predictor, self._rows(data, settings, keep), self.loss)

    def _rows(self, data: Any, settings: Mapping[str, Any] | None = None, keep: Sequence[str] = ()) -> Source:
        return read(data, schema=self.schema, predicting=True, settings=reading_settings(settings), keep=keep)

    def evaluate(
        self, data: Any, *, target: str | None = None, settings: Mapping[str, Any] | None = None
    ) -> dict[str, float | None]:
        """Return the loss and metrics on data with targets; None for a metric that is undefined on these rows.

        Args:
            data: anything that training takes; (X, y) for arrays.
            target: the name of the target column, if it differs from the one in training.
            settings: as in :meth:`predict`; ``drop_missing_targets`` leaves rows without a target out.
        """
        source = read(data, target=target, schema=self.schema, settings=reading_settings(settings))
        part = encode_source(source, self.schema, self.preprocess)
        if part.inputs is None:
            raise UserError("evaluate does not take a torch Dataset; pass arrays: run.evaluate((X, y))")
        device = next(self.model.parameters()).device
        moved = [None if t is None else t.to(device) for t in (part.inputs, part.targets, part.weights)]
        found = measured(
            self.predictor,
            [Batch(*moved)],  # type: ignore[arg-type]  # inputs and targets are there
            self.losses,
            self.selection.at_end(len(part)),
        )
        return undefined_as_none(read_all(found))

    @undisturbed
    def export(self, format: str, path: str | Path | None = None) -> Path:
        """Write the network to a file for use without descend; see :mod:`descend.export`."""
        from descend.export import export

        return export(self, format, path)

    def report(self) -> Path:
        """Write ``report.html`` again; the run must have been saved."""
        from descend.report import write

        if self.path is None:
            raise UserError("report needs a saved run; save it first: run.save(folder)")
        return write(self.path)

    def save(self, folder: str | Path) -> Path:
        """Write the run folder; it is complete once its manifest exists.

        Raises:
            RunError: the folder is in use.
        """
        path = as_path("folder", folder)
        check_unused(path)
        make_folder(path)
        self.path = path
        self.write_files()
        return path

    def write_files(self) -> None:
        """Write every file of the run, the manifest last."""
        assert self.path is not None
        fitted = {} if self.calibration is None else dict(self.calibration.named_buffers())
        calibration = {f"{STATE_PREFIX}{name}": value for name, value in fitted.items()}
        write_result(
            self.path,
            recipe=self.recipe,
            reasons=self.reasons,
            schema=self.schema,
            weights=to_bytes(
                self.model.state_dict() | calibration, {"descend": __version__, "members": self.kept}
            ),
            history=self.history,
            metrics=self.metrics,
            evaluation=dict(self.evaluation),
            environment=self.environment,
        )


def load(folder: str | Path, *, allow_imports: bool = False, model: nn.Module | None = None) -> Run:
    """Load a finished run from its folder. Nothing in the folder is executed.

    Args:
        folder: the run folder.
        allow_imports: whether the recipe may import classes by their path, which runs their code. Default False.
        model: the module to load the weights into, if the recipe cannot build it.

    Raises:
        RunError: there is no run, or it is incomplete, damaged, altered, or from a newer version.
    """
    path = as_path("folder", folder)
    check_manifest(path)
    recipe = _recipe(path / RECIPE, allow_imports, model)
    schema = Schema.from_json(read_text(path / SCHEMA), str(path / SCHEMA))
    environment = read_json(path / ENVIRONMENT)
    try:
        weights, meta = read_state(path / WEIGHTS)
        if model is None:  # the initial weights are replaced
            model = build_model(recipe, facts_of(schema), seed=0, kept=meta.get("members", ()))
        else:
            build_constraints(recipe, model, seed=0)
        fitted = {
            name.removeprefix(STATE_PREFIX): weights.pop(name)
            for name in list(weights)
            if STATE_PREFIX in name
        }
        model.load_state_dict(weights)
    except (CheckpointError, RuntimeError, TypeError) as cause:
        raise RunError(f"the weights of {path} do not fit the model: {cause}") from cause
    calibration = restored_calibration(recipe, facts_of(schema), fitted, str(path))
    model.eval()
    return Run(
        recipe=recipe,
        reasons={},
        schema=schema,
        model=model,
        history=read_json_lines(path / HISTORY),
        metrics=read_json(path / METRICS),
        environment=environment,
        evaluation=read_json(path / EVALUATION),
        path=path,
        calibration=calibration,
    )


def _recipe(path: Path, allow_imports: bool, model: nn.Module | None) -> Recipe:
    """The recipe of a folder. A recipe cannot name a class defined within a function; then ``model`` is used."""
    try:
        return Recipe.load(path, allow_imports=allow_imports or model is not None)
    except RecipeError as cause:
        if model is None or any(problem.section != "model" for problem in cause.problems):
            raise
        sections = with_current_names(parse(read_text(path)))
        saved = sections.get("model", {})
        sections["model"] = {
            "name": lambda: model,
            **{key: saved[key] for key in ("output", "calibration") if key in saved},
        }
        return Recipe.of(sections, source=str(path))
