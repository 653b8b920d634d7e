"""The choice of an augmentation for images: which changes help is measured on rows that short runs are not trained on.

Whether a change keeps the meaning of an image depends on the data: a mirrored shoe is a shoe, a mirrored 2 is no digit.
A small network is trained on some of the training rows without augmentation, and once with each candidate. All runs
start from the same weights and see the same rows in the same order. A candidate helps if it lowers the loss on the other
rows by more than its noise. Those that help are combined, without the weakest ones if all together gain little.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from descend.augmentation import AUGMENTATIONS
from descend.augmentation.base import IMAGES, Layout
from descend.augmentation.pipeline import AugmentedBatches, Pipeline
from descend.augmentation.pixels import Pixels
from descend.data.batches import MemoryBatches, Order
from descend.data.preparation import Part, Prepared
from descend.errors import Problem, RecipeError, TrainingError
from descend.nn import image_resnet, init
from descend.optim import adamw
from descend.recipe.build_loss import build_loss, build_output, network_outputs
from descend.recipe.facts import facts_of
from descend.recipe.recipe import Recipe
from descend.recipe.resolve import Resolved
from descend.rng import generator
from descend.schedules import cosine
from descend.training.arithmetic import arithmetic
from descend.training.evaluation import outputs_of
from descend.training.loop import Training, fit
from descend.training.objective import Objective
from descend.training.stopping import Stopping

__all__ = ["AugmentationChoice", "AugmentationChoices", "candidates", "choose_augmentation", "refusal"]

FEWEST_TRAINED, MOST_TRAINED = 120, 700
"""Rows of a short run. Few rows show early whether an augmentation helps, since a network overfits them soon."""
FEWEST_MEASURED, MOST_MEASURED = 60, 1500
"""Rows on which the short runs are measured."""
EPOCHS, BATCH, LEARNING_RATE = 12, 25, 1e-2
CHANNELS = (16, 32, 32)
SHARE_TRAINED = 0.75
LARGEST_SIDE = 32
"""Larger images are averaged down to this many pixels for the short runs."""
BLOCKS = 20
"""The number of groups of measured rows, whose losses give the noise of a difference."""
LEAST_GAIN = 0.02
"""An augmentation must lower the loss by at least this fraction of the loss without, in addition to its noise."""
SHARE_OF_GAIN = 0.7
"""Augmentations are combined if together they keep this fraction of the gain of the best of them. They are not required to
gain more, since a short run has no time to learn from all of them."""

Table = Mapping[str, Any]


@dataclass(frozen=True)
class AugmentationChoice:
    """The augmentation chosen for some data.

    Args:
        augment: the value of ``data.augment``.
        reason: why, with the measured losses.
        losses: the loss on the measured rows of each short run, by the names of its augmentations; "none" without any.
    """

    augment: tuple[Table, ...]
    reason: str
    losses: Mapping[str, float]


class AugmentationChoices:
    """The choices of a process, each made once: equal data, losses and seeds have the same."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[Prepared, AugmentationChoice]] = {}

    def completed(
        self, resolved: Resolved, prepared: Prepared, layout: Layout, seed: int, device: torch.device, *,
        together: bool, explicit: bool,
    ) -> Resolved:  # fmt: skip
        """Return a resolved recipe with the augmentation that is chosen, and the reason.

        Args:
            resolved: the recipe, whose ``data.augment`` is "choose".
            prepared: the data.
            layout: of their rows.
            seed: of the run.
            device: where the short runs are trained.
            together: as for :func:`choose_augmentation`.
            explicit: whether the recipe specifies "choose". It is then refused where nothing can be chosen.

        Raises:
            RecipeError: nothing can be chosen for these data.
        """
        recipe, why_not = resolved.recipe, refusal(prepared, layout)
        if why_not and explicit:
            problem = Problem("data", "augment", why_not, 'name augmentations that fit, or use "none"')
            raise RecipeError([problem])
        key = repr((id(prepared), seed, dict(recipe.loss), recipe.model["output"], str(device)))
        if why_not:
            choice = AugmentationChoice((), why_not, {})
        elif key in self._made:
            choice = self._made[key][1]
        else:
            choice = choose_augmentation(prepared, recipe, seed, device, together=together)
            self._made[key] = (prepared, choice)  # keeps the data, so that their id stays theirs
        recipe = recipe.replace({"data.augment": choice.augment})
        return Resolved(recipe, {**resolved.reasons, "data.augment": choice.reason})


def candidates(shape: Sequence[int]) -> dict[str, Table]:
    """Return the augmentations that are tried for images, by a name for display.

    Args:
        shape: (channels, height, width) of the images.

    >>> candidates((1, 28, 28))["shifts"]
    {'name': 'translate', 'pixels': 2}
    """
    return {
        "shifts": {"name": "translate", "pixels": max(1, round(min(shape[1:]) / 14))},
        "rotations": {"name": "rotate", "degrees": 12.0},
        "scales": {"name": "crop", "smallest": 0.8},
        "horizontal flips": {"name": "flip", "horizontal": 0.5},
        "vertical flips": {"name": "flip", "horizontal": 0.0, "vertical": 0.5},
        "colors": {"name": "color"},
    }


def refusal(prepared: Prepared, layout: Layout) -> str:
    """Return why no augmentation can be chosen for some data, or "" if it can."""
    if layout.kind != IMAGES:
        return f"augmentations are chosen for images; {layout.why or 'these rows are none'}"
    if prepared.train.inputs is None:
        return "augmentations are chosen for images in memory; these are loaded one by one"
    return ""


def choose_augmentation(
    prepared: Prepared, recipe: Recipe, seed: int, device: torch.device, *, together: bool
) -> AugmentationChoice:
    """Choose the augmentation of images by short runs; a pure function of the data, the recipe's loss and the seed.

    Args:
        prepared: the data, for which :func:`refusal` is empty. The test part is not used.
        recipe: a resolved recipe, of which the loss is used.
        seed: of the run.
        device: where the short runs are trained.
        together: whether rows of one group, or of one part of a given split, have to stay together. The short runs are
            then measured on the validation part only, else also on training rows that they do not use.
    """
    rows = _rows(prepared, seed, together=together)
    if isinstance(rows, str):
        return AugmentationChoice((), rows, {})
    trial = _Trial(prepared, recipe, seed, device, *rows)
    with arithmetic(1, device):
        return _chosen(trial, prepared.schema.input_shape)


def _chosen(trial: _Trial, shape: Sequence[int]) -> AugmentationChoice:
    names = list(candidates(shape))
    plain = trial([])
    losses = {"none": _mean(plain)}
    if not math.isfinite(losses["none"]):
        return AugmentationChoice(
            (), "short runs without augmentation diverge, so nothing can be measured", losses
        )
    helpful: list[str] = []
    for name in names:
        changed = trial([name])
        losses[name] = _mean(changed)
        if _helps(changed, plain):
            helpful.append(name)
    helpful.sort(key=losses.__getitem__)
    chosen = helpful[:]
    while len(chosen) > 1:
        combined = [name for name in names if name in chosen]
        loss = losses[" + ".join(combined)] = _mean(trial(combined))
        if losses["none"] - loss >= SHARE_OF_GAIN * (losses["none"] - losses[chosen[0]]):
            break
        chosen.pop()
    tables = candidates(shape)
    shown = ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items())
    what = ", ".join(name for name in names if name in chosen)
    what = f"{what} lower the loss" if chosen else "no augmentation lowers the loss"
    reason = f"{what} of short runs on {trial.rows:,} rows that they are not trained on: {shown}"
    return AugmentationChoice(tuple(tables[name] for name in names if name in chosen), reason, losses)


def _helps(changed: Tensor, plain: Tensor) -> bool:
    """Whether the losses of blocks are lower than others by more than the noise and the smallest gain."""
    gain = plain - changed
    noise = gain.std() / math.sqrt(len(gain)) if len(gain) > 1 else gain.abs().max()
    return bool(gain.mean() > torch.maximum(noise, LEAST_GAIN * plain.mean().abs()))


def _mean(losses: Tensor) -> float:
    return float(losses.mean())


def _rows(prepared: Prepared, seed: int, *, together: bool) -> tuple[Tensor, Tensor, Tensor] | str:
    """Return the training rows of the short runs, the validation rows and the training rows to measure, or why not."""
    train, validation = len(prepared.train), min(MOST_MEASURED, len(prepared.validation))
    order = torch.randperm(train, generator=generator(seed, "augmentation.rows"))
    trained = min(MOST_TRAINED, train if together else round(SHARE_TRAINED * train))
    measured = order[trained:][: MOST_MEASURED - validation] if not together else order[:0]
    if trained < FEWEST_TRAINED or validation + len(measured) < FEWEST_MEASURED:
        return f"{train} training and {validation} validation rows are too few to measure which augmentation helps"
    return order[:trained], measured, torch.arange(validation)


class _Trial:
    """Short runs on the same rows, from the same weights; a call returns the losses of blocks of measured rows."""

    def __init__(
        self, prepared: Prepared, recipe: Recipe, seed: int, device: torch.device,
        trained: Tensor, measured: Tensor, of_validation: Tensor,
    ) -> None:  # fmt: skip
        schema = prepared.schema
        self._facts, self._recipe, self._seed, self._device = facts_of(schema), recipe, seed, device
        self._classes = len(schema.classes)
        self._train = _small(prepared.train, trained, device)
        own = _small(prepared.train, measured, device)
        held_out = _small(prepared.validation, of_validation, device)
        self._measured = own.followed_by(held_out) if len(own.inputs) else held_out
        self._pixels = Pixels.of(schema, prepared.train.inputs[trained]).to(device)  # type: ignore[index]  # in memory
        self._candidates = candidates(self._train.inputs.shape[1:])
        self.rows = len(self._measured.inputs)

    def __call__(self, names: Sequence[str]) -> Tensor:
        """Train with some candidates; return the mean losses of the blocks, infinite if training diverges."""
        seed, device, train = self._seed, self._device, self._train
        shape = tuple(train.inputs.shape[1:])
        loss: Any = build_loss(self._recipe, self._facts, build_output(self._recipe, self._facts))
        # Smoothing hides in which probabilities short runs differ.
        loss = loss.unsmoothed() if hasattr(loss, "unsmoothed") else loss
        with torch.random.fork_rng(devices=[]):
            model = image_resnet(
                shape, network_outputs(self._recipe, self._facts), channels=CHANNELS, blocks=0,
                reduce=int(max(shape[1:]) > LARGEST_SIDE // 2),
            )  # fmt: skip
        init.initialize(model, init.kaiming_normal(), generator=generator(seed, "augmentation.init"))
        model.to(device)
        batches: Any = MemoryBatches(*train, Order(len(train.inputs), BATCH, seed=seed))
        if names:
            methods = [self._method(name) for name in names]
            batches = AugmentedBatches(
                batches, Pipeline(methods, pixels=self._pixels, classes=self._classes, seed=seed)
            )
        training = Training(
            model=model,
            objective=Objective(model, loss, device=device, seed=seed),
            optimizer=adamw(model.parameters(), lr=LEARNING_RATE),
            schedule=cosine(batches.steps_per_epoch, EPOCHS * batches.steps_per_epoch, warmup=2.0),
            batches=batches,
            stopping=Stopping(max_epochs=EPOCHS),
        )
        try:
            fit(training)
        except TrainingError:
            return torch.full((1,), torch.inf)
        outputs = outputs_of(model, self._measured.inputs)
        size = math.ceil(len(outputs) / BLOCKS)
        losses = []
        with torch.no_grad():
            for start in range(0, len(outputs), size):
                block = slice(start, start + size)
                weights = None if self._measured.weights is None else self._measured.weights[block]
                losses.append(loss(outputs[block], self._measured.targets[block], weights))
        return torch.stack(losses).float().cpu()

    def _method(self, name: str) -> Any:
        settings = dict(self._candidates[name])
        return AUGMENTATIONS[settings.pop("name")](**settings)


class _Rows(NamedTuple):
    """Rows of a part: inputs (n, channels, height, width), targets and weights."""

    inputs: Tensor
    targets: Tensor
    weights: Tensor | None

    def followed_by(self, others: _Rows) -> _Rows:
        """Return these rows and others."""
        if len(others.inputs) == 0:
            return self
        weights = None
        if self.weights is not None and others.weights is not None:
            weights = torch.cat([self.weights, others.weights])
        return _Rows(
            torch.cat([self.inputs, others.inputs]), torch.cat([self.targets, others.targets]), weights
        )


def _small(part: Part, rows: Tensor, device: torch.device) -> _Rows:
    """Return rows of a part, with images averaged down to the size of the short runs."""
    assert part.inputs is not None
    images = part.inputs[rows]
    longer, shorter = max(images.shape[2:]), min(images.shape[2:])
    factor = min(math.ceil(longer / LARGEST_SIDE), max(1, shorter // 8))
    if factor > 1 and len(images):
        images = functional.avg_pool2d(images, factor)
    weights = None if part.weights is None else (part.weights / part.weights.mean())[rows].to(device)
    return _Rows(images.to(device), part.targets[rows].to(device), weights)
