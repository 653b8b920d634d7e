"""Keys of the sections that choose a method by name, where the keys belong to no single method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from descend.nn.choice import Choice
from descend.param_types import Count, Natural, NonNegative, Positive, Probability
from descend.regularization.settings import SettingSchedule

__all__ = ["InitSettings", "ModelSettings", "OptimizerSettings"]


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Keys of the model section that belong to no single architecture.

    Args:
        output: the output activation, which turns raw outputs into predictions; "auto" follows from the task.
        preset: "quick" trains one network; "good" an ensemble of different ones on tables and vectors
            (:mod:`descend.recipe.presets`); "best" searches for networks and their ensemble on tables until a time is spent
            (``minutes``, :mod:`descend.many.budget`). It sets ``members`` and ``ensemble``, and no key that the recipe specifies.
            "auto" is "good" for a single training on tables and vectors in memory with validation rows, where the recipe
            specifies nothing about the network and its training, else "quick".
        minutes: the time that the preset "best" trains, in minutes of wall time; 10 if left out. Of a resumed run it may be
            changed.
        max_rounds: the largest number of rounds of the preset "best"; a run that reaches it before its time is spent depends on
            nothing but data, recipe and seed. Left out, the time decides. Of a resumed run it may be changed.
        searched_keys: the keys of the recipe that the preset "best" varies (:data:`descend.recipe.search_space.SEARCHED_KEYS`);
            by default those that the recipe does not specify.
        distill: whether one network, as the recipe describes it without ``members`` and ``ensemble``, is trained on the
            predictions of the ensemble, and is the result (:mod:`descend.many.distillation`).
        calibration: how the probabilities of classes are calibrated on the validation rows after training, "temperature",
            "platt", "isotonic" or "none" (:mod:`descend.nn.calibration`); "auto" is "temperature" where there are
            validation rows.
        ensemble: the number of networks whose mean prediction is the prediction. Their initial weights are the random
            samples 0, 1, ... under the seed; with more ``init.restarts``, the best of these on the validation rows.
        members: the networks of an ensemble that differ, each a table of the keys in which it differs from the recipe, such
            as {"model.hidden" = [64], "optimizer.lr" = 0.01}; keys of model, loss, init, optimizer, schedule, gradient and
            regularize. Each is trained ``init.restarts`` times, and ``ensemble`` is the largest number that is kept.
        ensemble_selection: how they are chosen on the validation rows: "best", the networks with the best monitored values;
            "greedy", one after another, each the one that lowers the loss of the mean prediction most, with repetition
            (:func:`descend.nn.greedy.greedy`); "auto" is "greedy" for ``members``, else "best".
        ensemble_shrinkage: how far the weights of greedy selection are moved toward equal weights of all networks: 0 leaves
            them, 1 is the plain mean (:func:`descend.nn.greedy.shrunk`). The weights of few validation rows are noisy.
        pretrained: a file of weights, or the folder of a run, from which training starts. Tensors are matched by name; the
            inputs are scaled by the new data's statistics.
        pretrained_head: what happens to the last layer: "auto" initializes it again where its shape differs, as with
            other classes, "replace" always does, "keep" never.
        freeze: patterns of names of weights or modules that are not trained, such as "conv*"; running statistics of
            frozen modules are not updated either.
        text_dimension: the size of the learned embedding of a text column (:class:`descend.nn.TextEmbedding`).
        dropout_schedule: a schedule of the rates of all dropout layers over the training, of ``stop.max_epochs`` epochs:
            "constant", "flat_cosine", "cosine" or "coslog4", each as the schedule of that name.
        number_embedding: how each number of a row enters the network: "none", "linear", "piecewise_linear" or "periodic", or a
            table with ``name`` and settings (:mod:`descend.nn.number_embedding`); "auto" is "none".
        category_embedding: how columns of categories enter the network: "none", their one-hot inputs, or "learned", a learned
            vector for each category of a column with more than 8, or a table with ``name`` and settings
            (:mod:`descend.nn.category_embedding`).
    """

    output: str = "auto"
    preset: Literal["auto", "quick", "good", "best"] = "auto"
    minutes: Positive | None = None
    max_rounds: Count | None = None
    searched_keys: tuple[str, ...] = ()
    distill: bool = False
    calibration: str = "auto"
    ensemble: Count | Literal["auto"] = "auto"
    members: tuple[Mapping[str, Any], ...] | Literal["auto"] = "auto"
    ensemble_selection: Literal["auto", "best", "greedy"] = "auto"
    ensemble_shrinkage: Probability | Literal["auto"] = "auto"
    pretrained: str | None = None
    pretrained_head: Literal["auto", "keep", "replace"] = "auto"
    freeze: str | tuple[str, ...] = ()
    text_dimension: Count = 32
    dropout_schedule: SettingSchedule = "constant"
    number_embedding: Choice = "auto"
    category_embedding: Choice = "none"


@dataclass(frozen=True, kw_only=True)
class InitSettings:
    """Keys of the init section that belong to no single scheme.

    Args:
        output_gain: factor of the output layer's initial weights; 0 gives every prediction the same initial value, so
            that the first steps need not undo random ones.
        sample_index: index of the random sample of initial weights under this seed; the split and the order of the rows do
            not depend on it.
        restarts: the number of networks trained, from the samples 0, 1, ...; the one with the best monitored value
            on the validation rows is kept.
    """

    output_gain: NonNegative | Literal["auto"] = "auto"
    sample_index: Natural = 0
    restarts: Count = 1


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """Keys of the optimizer section that belong to no single method.

    Args:
        groups: factors of the learning rate by pattern of the weights' names, such as {"conv*" = 0.1}; the first pattern
            that matches a weight applies, and weights that none matches have the learning rate itself.
        sam: sharpness-aware minimization with this distance rho, around the optimizer (:class:`descend.optim.SAM`), or a
            table such as {rho = 0.5, adaptive = true}; 0 is none. Each step costs two gradients.
        lookahead: Lookahead with this number of steps, around the optimizer (:class:`descend.optim.Lookahead`), or a table
            such as {steps = 5, alpha = 0.5}; 0 is none.
    """

    groups: Mapping[str, Positive] = field(default_factory=dict)
    sam: NonNegative | Mapping[str, Any] | None = None
    lookahead: Natural | Mapping[str, Any] | None = None
