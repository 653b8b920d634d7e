"""Build the objects that a resolved recipe describes: network, output, loss, optimizer, schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from descend.errors import Problem, RecipeError, UserError, message_of
from descend.losses import Loss
from descend.nn.ensemble import Ensemble
from descend.nn.init import initialize
from descend.nn.outputs import OUTPUTS, Link
from descend.optim import OPTIMIZERS, STIEFEL
from descend.optim.first_order import can_fuse
from descend.param_types import signature_of
from descend.process.memory import memory_shortage
from descend.recipe.adapters import CallableLoss, OnProbabilities, TorchSchedule
from descend.recipe.callable_losses import build_callable_loss, two_rows
from descend.recipe.catalogue import CATALOGUE, CHOICES, Constructor, find
from descend.recipe.compatibility import check_needs
from descend.recipe.constraints import ActiveConstraint, build_constraints
from descend.recipe.defaults import Facts
from descend.recipe.loss_requirements import loss_requirements
from descend.recipe.lr_factors import apply_lr_factors, split_by_lr_factor
from descend.recipe.memory import check_memory
from descend.recipe.parameters import of_settings
from descend.recipe.recipe import Recipe
from descend.recipe.sections import SECTIONS
from descend.recipe.transfer import freeze_parts
from descend.regularization import decayed_parameters, l1_prox, weight_decay
from descend.rng import forked, generator, key
from descend.schedules import Schedule

__all__ = [
    "build_loss",
    "build_model",
    "build_optimizer",
    "build_output",
    "build_schedule",
    "check_shape",
    "link_of",
    "network_outputs",
]

_LOG_LINKS = ("exp", "negative_binomial_mean")

_OUTPUTS_OF_TASK: Mapping[str, tuple[str, ...]] = {
    "regression": ("identity",),
    "multi_regression": ("identity",),
    "binary": ("sigmoid", "sine"),
    "multi_label": ("sigmoid", "sine"),
    "multiclass": ("softmax",),
}
"""Output activations of each task; that of a regression may also be the one that its loss requires."""


def _call(
    section: str, constructor: Constructor, context: Mapping[str, Any], settings: Mapping[str, Any]
) -> Any:
    """Call a constructor with the settings and the parts of the context that it takes; report its errors as problems."""
    named, takes_any = _parameter_names(constructor)
    supplied = {name: value for name, value in context.items() if name in named or takes_any}
    try:
        return constructor(**supplied, **settings)
    except RecipeError:
        raise
    except Exception as cause:  # anyone's constructor may raise anything
        if shortage := memory_shortage(cause):
            raise RecipeError([Problem(section, None, shortage, "use smaller or fewer layers")]) from cause
        raise RecipeError([Problem(section, None, message_of(cause))]) from cause


def _parameter_names(constructor: Constructor) -> tuple[set[str], bool]:
    """Return the names of a constructor's parameters, and whether it takes any other keyword."""
    signature = signature_of(constructor)
    if signature is None:
        return set(), True
    parameters = signature.parameters
    return set(parameters), any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _settings(recipe: Recipe, section: str) -> dict[str, Any]:
    """Return the constructor's settings: the section without ``name`` and the keys that belong to no constructor."""
    own = SECTIONS[section].settings
    excluded = {"name", *(of_settings(own) if own else ())}
    return {key: value for key, value in getattr(recipe, section).items() if key not in excluded}


def build_model(recipe: Recipe, facts: Facts, seed: int) -> nn.Module:
    """Build the network with its initial weights, on the CPU; a pure function of recipe, shapes and seed.

    Parts that the recipe freezes are frozen. Pretrained weights are a separate step
    (:func:`descend.recipe.transfer.start_from_pretrained`), since a network that is loaded does not need them again. An
    ensemble consists of networks with the first random samples of the initial weights.

    Raises:
        RecipeError: the settings of the model or of the initialization do not fit the data.
    """
    count = int(recipe.model.get("ensemble", 1))
    if count == 1:
        return _build_network(recipe, facts, seed, int(recipe.init.get("draw", 0)))
    link = link_of(recipe, facts)
    first = _build_network(recipe, facts, seed, 0)
    check_memory(first, count, "model", "ensemble")
    return Ensemble([first, *(_build_network(recipe, facts, seed, draw) for draw in range(1, count))], link)


def link_of(recipe: Recipe, facts: Facts) -> Link:
    """Return the link function, from predictions to raw outputs; an ensemble applies it to the mean prediction.

    Raises:
        RecipeError: the output activation, one from an import path, does not declare it.
    """
    link = getattr(build_output(recipe, facts), "link", None)
    if link is None:
        message = f"the output '{recipe.model['output']}' declares no link, which the mean prediction needs"
        raise RecipeError([Problem("model", "ensemble", message, f"use one of: {', '.join(OUTPUTS)}")])
    return cast(Link, link)


def _build_network(recipe: Recipe, facts: Facts, seed: int, draw: int) -> nn.Module:
    constructor = find("model", recipe.model["name"])
    context = {"inputs": facts.input_shape, "outputs": network_outputs(recipe, facts)}
    settings = _settings(recipe, "model")
    if recipe.model["name"] in CATALOGUE["model"]:
        settings = {key: _imported(key, value) for key, value in settings.items()}
    with forked():
        torch.default_generator.manual_seed(key(seed, "init", draw))
        model = _call("model", constructor, context, settings)
    if not isinstance(model, nn.Module):
        raise RecipeError(
            [
                Problem(
                    "model",
                    "name",
                    f"expected a torch.nn.Module, '{constructor}' returned a {type(model).__name__}",
                )
            ]
        )
    scheme = _call("init", find("init", recipe.init["name"]), {}, _settings(recipe, "init"))
    last = float(recipe.init["output_gain"])
    try:
        initialize(model, scheme, generator=generator(seed, "weights", draw), last_layer_gain=last)
    except UserError as cause:
        raise RecipeError([Problem("init", None, str(cause))]) from cause
    except Exception as cause:  # a scheme by import path may raise anything
        raise RecipeError(
            [Problem("init", "name", f"cannot initialize the weights: {message_of(cause)}")]
        ) from cause
    _start_at_average(recipe, model, facts)
    build_constraints(recipe, model, seed)
    check_shape(recipe, model, facts)
    freeze_parts(recipe, model)
    return model


def _imported(key: str, value: Any) -> Any:
    """Return the constructor, with its settings bound, where a choice of the model is an import path."""
    name = value.get("name") if isinstance(value, Mapping) else value
    if ("model", key) not in CHOICES or not isinstance(name, str) or name in CHOICES["model", key]:
        return value
    constructor = find("model", name, key)
    settings = {k: v for k, v in value.items() if k != "name"} if isinstance(value, Mapping) else {}
    return partial(constructor, **settings) if settings else constructor


def network_outputs(recipe: Recipe, facts: Facts) -> int:
    """Return the number of outputs of the network: the predictions of a row, each times the outputs that the loss takes."""
    return facts.outputs if facts.classification else facts.outputs * loss_requirements(recipe.loss).blocks


def _start_at_average(recipe: Recipe, model: nn.Module, facts: Facts) -> None:
    """Add the mean of the training targets to the bias of the last layer, where targets are learned in their own units.

    Otherwise a network would need many steps to move from 0 to targets of another size. With a log link the bias is the
    logarithm of the mean.
    """
    if not facts.target_average or recipe.model["name"] not in CATALOGUE["model"]:
        return
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    needs = loss_requirements(recipe.loss)
    if not layers or layers[-1].bias is None or len(layers[-1].bias) != network_outputs(recipe, facts):
        return
    start = torch.tensor(facts.target_average)
    if recipe.model["output"] in _LOG_LINKS:
        start = torch.log(start.clamp_min(torch.finfo(start.dtype).tiny))
    located = needs.blocks if needs.levels else 1
    with torch.no_grad():
        layers[-1].bias[: located * len(start)] += start.repeat(located)


def check_shape(recipe: Recipe, model: nn.Module, facts: Facts) -> None:
    """Evaluate the network on two rows, to report a shape that does not fit before training.

    Raises:
        RecipeError: the network cannot take the rows, or returns a wrong number of outputs.
    """
    modes = [(module, module.training) for module in model.modules()]
    first = next(model.parameters(), None)
    device = torch.device("cpu") if first is None else first.device
    try:
        with torch.no_grad(), forked(device):
            outputs = model.eval()(torch.zeros(2, *facts.input_shape, device=device))
    except Exception as cause:  # anyone's network may raise anything
        message = f"the network cannot take rows of shape {facts.input_shape}: {message_of(cause)}"
        raise RecipeError([Problem("model", None, message)]) from cause
    finally:
        for module, training in modes:
            module.training = training
    expected = network_outputs(recipe, facts)
    if not isinstance(outputs, Tensor) or tuple(outputs.shape) != (2, expected):
        got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        blocks = expected // facts.outputs
        why = f", {blocks} for each target as the loss requires" if blocks > 1 else ""
        raise RecipeError(
            [
                Problem(
                    "model",
                    None,
                    f"expected outputs of shape (rows, {expected}) for two rows{why}, got {got}",
                )
            ]
        )


def build_output(recipe: Recipe, facts: Facts) -> nn.Module:
    """Build the output activation.

    Raises:
        RecipeError: it does not fit the task.
    """
    name = recipe.model["output"]
    needs = loss_requirements(recipe.loss)
    allowed = _OUTPUTS_OF_TASK[facts.task]
    if not facts.classification:
        free = not needs.declared and name == "exp"  # its loss takes logarithms
        allowed = (name,) if free else (needs.output,)
    if name in OUTPUTS and name not in allowed:
        raise RecipeError(
            [
                Problem(
                    "model",
                    "output",
                    f"'{name}' does not fit the task {facts.task}"
                    + ("" if facts.classification else f" with the loss {needs.name or recipe.loss['name']}"),
                    f"one of: {', '.join(allowed)}",
                )
            ]
        )
    context = {"levels": needs.levels} if needs.levels else {}
    return cast(nn.Module, _call("model", find("model", name, "output"), context, {}))


def build_loss(recipe: Recipe, facts: Facts, output: nn.Module) -> Loss | OnProbabilities | CallableLoss:
    """Build the loss as a function of (raw outputs, targets, weights).

    Where the loss has a numerically stable form in logits and the output's link is the logit, the two are fused.

    Raises:
        RecipeError: the loss does not fit the task.
    """
    loss = _call("loss", find("loss", recipe.loss["name"]), {}, _settings(recipe, "loss"))
    _check_target_scale(recipe, facts)
    if not isinstance(loss, Loss):
        return build_callable_loss(loss, facts, output, network_outputs(recipe, facts))
    if facts.task not in loss.tasks:
        raise RecipeError(
            [
                Problem(
                    "loss",
                    "name",
                    f"'{recipe.loss['name']}' does not fit the task {facts.task}",
                    f"it is for {' and '.join(sorted(loss.tasks))}",
                )
            ]
        )
    loss = loss.for_task(facts.task)
    built: Loss | OnProbabilities = loss
    if loss.form == "logits" and getattr(output, "link", None) != "logit":
        built = OnProbabilities(loss.on_probabilities(), output)
    try:
        built(*two_rows(facts, network_outputs(recipe, facts)))
    except UserError as cause:  # a cost matrix for another number of classes, for instance
        raise RecipeError([Problem("loss", None, str(cause))]) from cause
    return built


def _check_target_scale(recipe: Recipe, facts: Facts) -> None:
    """Refuse standardised targets where the loss takes those in their own units."""
    needs = loss_requirements(recipe.loss)
    if (
        not facts.classification
        and needs.target_space == "raw"
        and recipe.get("data.target_scale") == "standard"
    ):
        message = f"'standard' does not fit the loss {needs.name}, which takes targets in their own units"
        raise RecipeError([Problem("data", "target_scale", message, "use 'none' or 'auto'")])


def build_optimizer(
    recipe: Recipe,
    model: nn.Module,
    constraints: Sequence[ActiveConstraint] = (),
    *,
    loss: Any = None,
    seed: int = 0,
) -> torch.optim.Optimizer:
    """Build the optimizer over the model's trainable parameters, with the hooks before and after its steps.

    Weights are one parameter group and biases and norms another, so that only the former decay; ``optimizer.groups``
    divides them further by the factor of their learning rate. Weights whose constraint fixes their norm, such as
    orthonormal ones, neither decay nor are set to zero; they are a group of their own for an optimizer that moves along
    the manifold. After each step, the soft threshold is applied first and then the ``constraints``. An optimizer that
    has parameters of these names is also given the ``model``, the ``likelihood`` of the loss, the ``seed`` of the run, and
    the library of large ``products``.

    Raises:
        RecipeError: the optimizer refuses its settings or parameters.
    """
    constructor = find("optimizer", recipe.optimizer["name"])
    decay, rest = decayed_parameters(model)
    if not decay and not rest:
        raise RecipeError([Problem("model", None, "the network has no weights to train")])
    fixed = [p for each in constraints for p in each.fixed_norm_weights]
    fixed_ids = {id(p) for p in fixed}
    rest = [*rest, *(p for p in decay if id(p) in fixed_ids)]
    decay = [p for p in decay if id(p) not in fixed_ids]
    strength = float(recipe.regularize["weight_decay"])
    own_decay = recipe.optimizer["name"] == "adamw"
    groups: list[dict[str, Any]] = []
    if strength and decay:
        groups.append({"params": decay, **({"weight_decay": strength} if own_decay else {})})
        groups += [{"params": rest}] if rest else []
    else:
        groups.append({"params": [p for p in model.parameters() if p.requires_grad]})
    if fixed and recipe.optimizer["name"] in STIEFEL:
        for group in groups:
            group["params"] = [p for p in group["params"] if id(p) not in fixed_ids]
        groups = [*filter(lambda group: group["params"], groups), {"params": fixed, "orthonormal": True}]
    groups, factors = split_by_lr_factor(groups, model, recipe.optimizer["groups"])
    supplied = {
        "model": model,
        "likelihood": getattr(loss, "likelihood", None),
        "seed": seed,
        "products": recipe.engine["products"],
    }
    # A constructor that takes any keyword is not given these.
    named, _ = _parameter_names(constructor)
    context = {"params": groups} | {key: value for key, value in supplied.items() if key in named}
    settings = _settings(recipe, "optimizer")
    if any(constructor is each for each in OPTIMIZERS.values()):
        if "weight_decay" in named:  # the groups that decay have their own
            context["weight_decay"] = 0.0
        if "fused" in named:
            fused = settings.get("fused")
            settings["fused"] = (can_fuse(constructor, groups) if fused is None else fused) or None
    optimizer = _call("optimizer", constructor, context, settings)
    if not isinstance(optimizer, torch.optim.Optimizer):
        got = type(optimizer).__name__
        raise RecipeError([Problem("optimizer", "name", f"expected a torch.optim.Optimizer, got a {got}")])
    if isinstance(optimizer, torch.optim.SparseAdam) and not _has_sparse_gradients(model):
        raise RecipeError(
            [
                Problem(
                    "optimizer",
                    "name",
                    "'sparse_adam' needs sparse gradients, and no layer of this model has any",
                    "use 'adam', or an Embedding with sparse=True",
                )
            ]
        )
    check_needs(recipe, model, optimizer)
    apply_lr_factors(optimizer, factors)
    if strength and decay and not own_decay:
        weight_decay(optimizer, decay, strength)
    if recipe.regularize["l1_prox"] and decay:
        try:
            l1_prox(optimizer, decay, float(recipe.regularize["l1_prox"]))
        except UserError as cause:
            raise RecipeError(
                [Problem("regularize", "l1_prox", str(cause).removeprefix("l1_prox: "))]
            ) from cause
    for each in constraints:
        try:
            each.attach(optimizer)
        except UserError as cause:
            raise RecipeError([Problem("constrain", None, str(cause))]) from cause
    return optimizer


def _has_sparse_gradients(model: nn.Module) -> bool:
    return any(getattr(module, "sparse", False) for module in model.modules())


def build_schedule(recipe: Recipe, *, steps_per_epoch: int, total_steps: int) -> Schedule:
    """Build the schedule; a scheduler of ``torch.optim.lr_scheduler`` can be given by its import path."""
    constructor = find("schedule", recipe.schedule["name"])
    settings = _settings(recipe, "schedule")
    signature = signature_of(constructor)
    if signature is not None and "optimizer" in signature.parameters:
        step = signature_of(getattr(constructor, "step", constructor))
        if step is not None and "metrics" in step.parameters:
            message = "a scheduler of PyTorch is not given the value that it monitors"
            raise RecipeError([Problem("schedule", "name", message, "use 'plateau'")])
        return TorchSchedule(
            lambda optimizer: _call("schedule", constructor, {"optimizer": optimizer}, settings)
        )
    context = {"steps_per_epoch": steps_per_epoch, "total_steps": total_steps}
    schedule = _call("schedule", constructor, context, settings)
    if not all(
        callable(getattr(schedule, name, None))
        for name in ("factor", "observe", "state_dict", "load_state_dict")
    ):
        message = f"expected a schedule with the methods of descend.schedules.Schedule, got a {type(schedule).__name__}"
        raise RecipeError([Problem("schedule", "name", message)])
    return cast(Schedule, schedule)
