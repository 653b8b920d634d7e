"""Build the objects that a resolved recipe describes: network, output, loss, optimizer, schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from descend.arguments import kind_of
from descend.data.preparation import Part
from descend.errors import Problem, RecipeError, UserError, message_of
from descend.interface import setting
from descend.nn.ensemble import Ensemble
from descend.nn.evaluation_mode import in_evaluation_mode
from descend.nn.front import preceded
from descend.nn.init import initialize
from descend.nn.members import MemberLinear
from descend.optim import OPTIMIZERS, OWN_DECAY, STIEFEL
from descend.optim.first_order import can_fuse
from descend.optim.foreign import closure_use, is_foreign
from descend.param_types import signature_of
from descend.recipe.adapters import TorchSchedule
from descend.recipe.build_loss import build_loss, build_output, link_of, network_outputs
from descend.recipe.catalogue import CATALOGUE, CHOICES, find
from descend.recipe.category_embedding import build_category_embedding
from descend.recipe.compatibility import check_needs
from descend.recipe.constraints import ActiveConstraint, build_constraints
from descend.recipe.construct import call, parameter_names, settings_of
from descend.recipe.data_driven import fit_initial_weights
from descend.recipe.facts import Facts
from descend.recipe.loss_requirements import loss_requirements
from descend.recipe.lr_factors import apply_lr_factors, split_by_lr_factor
from descend.recipe.members import network_recipe, networks_per_run, selection_of, single_recipe
from descend.recipe.memory import check_memory, check_size
from descend.recipe.number_embedding import build_number_embedding
from descend.recipe.recipe import Recipe
from descend.recipe.text_embedding import build_text_embedding
from descend.recipe.toml import path_of
from descend.recipe.transfer import freeze_parts
from descend.recipe.wrap_optimizer import check_evaluation_weights, wrap_optimizer
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


def build_model(
    recipe: Recipe, facts: Facts, seed: int, train: Part | None = None, kept: Sequence[int] = ()
) -> nn.Module:
    """Build the network with its initial weights, on the CPU; a pure function of recipe, shapes and seed.

    Parts that the recipe freezes are frozen. Pretrained weights are a separate step
    (:func:`descend.recipe.transfer.start_from_pretrained`), since a network that is loaded does not need them again. An
    ensemble consists of the networks ``kept``, by default of the first ones (:mod:`descend.recipe.members`).

    Args:
        recipe: a complete recipe.
        facts: about the data.
        seed: of the run.
        train: the training rows, which some parts are fitted on. Default None, for a network whose state is replaced by a
            saved one.
        kept: the numbers of the networks of an ensemble. Default (), the first ones.

    Raises:
        RecipeError: the settings of the model or of the initialization do not fit the data.
    """
    count, members = int(recipe.model.get("ensemble", 1)), recipe.model.get("members", ())
    if recipe.model.get("distill", False):
        recipe, count, members = single_recipe(recipe), 1, ()
    if count == 1 and not members:
        return _build_network(recipe, facts, seed, int(recipe.init.get("sample_index", 0)), train)
    numbers = list(kept) or list(range(min(count, networks_per_run(recipe))))
    if len(numbers) > 1:
        check_memory(_build_member(recipe, facts, seed, numbers[0], train), len(numbers), "model", "ensemble")
    networks = [_build_member(recipe, facts, seed, each, train) for each in numbers]
    if len(networks) == 1:
        return networks[0]
    # The weights of a file replace these.
    weights = [1.0] * len(networks) if selection_of(recipe) == "greedy" else None
    return Ensemble(networks, link_of(recipe, facts), weights)


def _build_member(recipe: Recipe, facts: Facts, seed: int, number: int, train: Part | None) -> nn.Module:
    own = network_recipe(recipe, number)
    return _build_network(own, facts, seed, int(own.init["sample_index"]), train)


def _build_network(recipe: Recipe, facts: Facts, seed: int, sample: int, train: Part | None) -> nn.Module:
    constructor = find("model", recipe.model["name"])
    texts = build_text_embedding(recipe, facts, seed, sample)
    inputs = facts.input_shape if texts is None else (texts.outputs,)
    categories = build_category_embedding(recipe, facts, inputs[0], seed, sample)
    inputs = inputs if categories is None else (categories.outputs,)
    # The numbers of a row come before its categories, so that their positions are still those of the row.
    numbers = build_number_embedding(recipe, facts, inputs[0], seed, sample, train)
    inputs = inputs if numbers is None else (numbers.outputs,)
    context: dict[str, Any] = {"inputs": inputs, "outputs": network_outputs(recipe, facts)}
    settings = settings_of(recipe, "model")
    if recipe.model["name"] in CATALOGUE["model"]:
        if "link" in parameter_names(constructor)[0]:
            context["link"] = link_of(recipe, facts)
        settings = {key: _imported(key, value) for key, value in settings.items()}
        check_size(constructor, context, settings, facts.device)
    with forked():
        torch.default_generator.manual_seed(key(seed, "init", sample))
        model = call("model", constructor, context, settings)
    if not isinstance(model, nn.Module):
        raise RecipeError(
            [
                Problem(
                    "model",
                    "name",
                    f"expected a torch.nn.Module, '{path_of(recipe.model['name'])}' returned {kind_of(model)}",
                )
            ]
        )
    scheme = call("init", find("init", recipe.init["name"]), {}, settings_of(recipe, "init"))
    last = float(recipe.init["output_gain"])
    try:
        initialize(model, scheme, generator=generator(seed, "weights", sample), last_layer_gain=last)
    except UserError as cause:
        raise RecipeError([Problem("init", None, str(cause))]) from cause
    except Exception as cause:  # a scheme by import path may raise anything
        raise RecipeError(
            [Problem("init", "name", f"cannot initialize the weights: {message_of(cause)}")]
        ) from cause
    _start_at_average(recipe, model, facts)
    network = model if numbers is None else preceded(model, "numbers", numbers.layer)
    network = network if categories is None else preceded(network, "categories", categories.layer)
    network = network if texts is None else preceded(network, "text", texts)
    fit_initial_weights(scheme, network, train, generator(seed, "rows", sample))
    build_constraints(recipe, network, seed)
    check_shape(recipe, network, facts)
    freeze_parts(recipe, network)
    return network


def _imported(key: str, value: Any) -> Any:
    """Return the constructor, with its settings bound, where a choice of the model is an import path."""
    name = value.get("name") if isinstance(value, Mapping) else value
    if ("model", key) not in CHOICES or not isinstance(name, str) or name in CHOICES["model", key]:
        return value
    constructor = find("model", name, key)
    settings = {k: v for k, v in value.items() if k != "name"} if isinstance(value, Mapping) else {}
    return partial(constructor, **settings) if settings else constructor


def _start_at_average(recipe: Recipe, model: nn.Module, facts: Facts) -> None:
    """Add the mean of the training targets to the bias of the last layer, where targets are learned in their own units.

    Otherwise a network would need many steps to move from 0 to targets of another size. With a log link the bias is the
    logarithm of the mean.
    """
    if not facts.target_average or recipe.model["name"] not in CATALOGUE["model"]:
        return
    layers = [module for module in model.modules() if isinstance(module, (nn.Linear, MemberLinear))]
    needs = loss_requirements(recipe.loss)
    if not layers or layers[-1].bias is None or layers[-1].bias.shape[-1] != network_outputs(recipe, facts):
        return
    start = torch.tensor(facts.target_average)
    if recipe.model["output"] in _LOG_LINKS:
        start = torch.log(start.clamp_min(torch.finfo(start.dtype).tiny))
    located = needs.blocks if needs.levels else 1
    with torch.no_grad():
        layers[-1].bias[..., : located * len(start)] += start.repeat(located)


def check_shape(recipe: Recipe, model: nn.Module, facts: Facts) -> None:
    """Evaluate the network on two rows, to report a shape that does not fit before training.

    Raises:
        RecipeError: the network cannot take the rows, or returns a wrong number of outputs.
    """
    first = next(model.parameters(), None)
    device = torch.device("cpu") if first is None else first.device
    try:
        with in_evaluation_mode(model), torch.no_grad(), forked(device):
            outputs = model(torch.zeros(2, *facts.input_shape, device=device))
    except Exception as cause:  # anyone's network may raise anything
        message = f"the network cannot take rows of shape {facts.input_shape}: {message_of(cause)}"
        raise RecipeError([Problem("model", None, message)]) from cause
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
    own_decay = recipe.optimizer["name"] in OWN_DECAY
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
    named, _ = parameter_names(constructor)
    context = {"params": groups} | {key: value for key, value in supplied.items() if key in named}
    settings = settings_of(recipe, "optimizer")
    if any(constructor is each for each in OPTIMIZERS.values()):
        if "weight_decay" in named:  # the groups that decay have their own
            context["weight_decay"] = 0.0
        if "fused" in named:
            fused = settings.get("fused")
            settings["fused"] = (can_fuse(constructor, groups) if fused is None else fused) or None
    optimizer = call("optimizer", constructor, context, settings)
    if not isinstance(optimizer, torch.optim.Optimizer):
        message = f"expected a torch.optim.Optimizer, got {kind_of(optimizer)}"
        raise RecipeError([Problem("optimizer", "name", message)])
    _check_use(recipe, optimizer)
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
    check_needs(recipe, model, optimizer, loss)
    check_evaluation_weights(recipe, optimizer, constraints)
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
    return wrap_optimizer(recipe, optimizer, constraints)


def _check_use(recipe: Recipe, optimizer: torch.optim.Optimizer) -> None:
    """Refuse an optimizer by import path whose steps the training loop cannot take."""
    if isinstance(optimizer, torch.optim.LBFGS) and recipe.data["sampling"] != "full":
        message = "LBFGS compares gradients of successive steps, so that each step needs all rows"
        hint = f"use {setting('data.sampling', 'full')}, or 'lbfgs', which evaluates both gradients on the same rows"
        raise RecipeError([Problem("optimizer", "name", message, hint)])
    if is_foreign(optimizer):
        try:
            closure_use(optimizer)
        except UserError as cause:
            raise RecipeError([Problem("optimizer", "name", str(cause))]) from cause


def _has_sparse_gradients(model: nn.Module) -> bool:
    return any(getattr(module, "sparse", False) for module in model.modules())


def build_schedule(recipe: Recipe, *, steps_per_epoch: int, total_steps: int) -> Schedule:
    """Build the schedule; a scheduler of ``torch.optim.lr_scheduler`` can be given by its import path."""
    constructor = find("schedule", recipe.schedule["name"])
    settings = settings_of(recipe, "schedule")
    signature = signature_of(constructor)
    if signature is not None and "optimizer" in signature.parameters:
        step = signature_of(getattr(constructor, "step", constructor))
        if step is not None and "metrics" in step.parameters:
            message = "a scheduler of PyTorch is not given the value that it monitors"
            raise RecipeError([Problem("schedule", "name", message, "use 'plateau'")])
        return TorchSchedule(
            lambda optimizer: call("schedule", constructor, {"optimizer": optimizer}, settings)
        )
    context = {"steps_per_epoch": steps_per_epoch, "total_steps": total_steps}
    schedule = call("schedule", constructor, context, settings)
    if not all(
        callable(getattr(schedule, name, None))
        for name in ("factor", "observe", "state_dict", "load_state_dict")
    ):
        message = (
            f"expected a schedule with the methods of descend.schedules.Schedule, got {kind_of(schedule)}"
        )
        raise RecipeError([Problem("schedule", "name", message)])
    return cast(Schedule, schedule)
