"""A list of augmentations applied to the batches of a training, in an order and with draws that repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from descend.augmentation.base import PICTURES, Layout, Mixed
from descend.augmentation.pixels import Pixels
from descend.data.batches import Batch, Batches, WrappedBatches
from descend.data.scaling import Preprocess
from descend.data.schema import Schema
from descend.rng import key

__all__ = ["AugmentedBatches", "Pipeline", "layout_of"]

Method = Callable[[Tensor, torch.Generator], Tensor | Mixed]
"""What changes a batch: an Augmentation, a Mixing, or any function of this form."""


def layout_of(schema: Schema, preprocess: Preprocess) -> Layout:
    """What the entries of encoded rows are."""
    if len(schema.input_shape) == 3 and schema.rotation is None:
        return Layout(PICTURES)
    if schema.rotation is not None and len(schema.input_shape) == 3:
        return Layout("rows", f"data.scale = '{schema.scale}' mixes the pixels before they could be changed")
    if schema.kind != "table":
        return Layout("rows", f"the rows have the shape {schema.input_shape}")
    return Layout(
        "rows",
        "the rows are a table",
        numbers=torch.tensor(preprocess.numbers),
        columns=torch.tensor(preprocess.columns),
    )


class Pipeline:
    """Augmentations one after another, with draws that are a pure function of seed, epoch and step.

    The method at place m draws from a generator seeded from (seed, "augment.m.a", epoch, step), a being the
    place of the batch among those that a step accumulates. So the draws of a method depend on no other method, a
    step can be repeated, and a run resumes to the same bits.

    Args:
        methods: in the order in which they are applied.
        pixels: between encoded rows and pixels, for pictures, on the device of the batches; None for other
            rows.
        classes: number of classes where targets are class numbers, which a mixture turns into distributions
            (b, classes); 0 for other targets.
        seed: of the run.

    >>> from descend.augmentation import Noise
    >>> batch = Batch(torch.zeros(2, 3), torch.zeros(2), None)
    >>> pipeline = Pipeline([Noise()], seed=1)
    >>> torch.equal(pipeline(batch, 0, 5).inputs, pipeline(batch, 0, 5).inputs)
    True
    """

    def __init__(
        self, methods: Sequence[Method], *, pixels: Pixels | None = None, classes: int = 0, seed: int = 0
    ) -> None:
        self.methods, self.classes, self.seed = tuple(methods), classes, seed
        self._pixels = pixels
        self._draws: dict[torch.device, torch.Generator] = {}

    def __call__(self, batch: Batch, epoch: int, step: int, place: int = 0) -> Batch:
        """The augmented batch.

        Args:
            batch: encoded rows.
            epoch: of the training.
            step: within the epoch.
            place: of the batch within the step.
        """
        inputs, targets, weights = batch
        draw = self._generator(inputs.device)
        pixels = self._pixels
        with torch.no_grad():
            inputs = inputs if pixels is None else pixels.shown(inputs)
            for at, method in enumerate(self.methods):
                draw.manual_seed(key(self.seed, f"augment.{at}.{place}", epoch, step))
                changed = method(inputs, draw)
                if isinstance(changed, Mixed):
                    targets, weights = self._mixed(changed, targets, weights)
                    changed = changed.inputs
                inputs = changed
            inputs = inputs if pixels is None else pixels.encoded(inputs)
        return Batch(inputs, targets, weights)

    def _generator(self, device: torch.device) -> torch.Generator:
        """One generator a device, which is seeded anew before each use."""
        if device not in self._draws:
            self._draws[device] = torch.Generator(device=device)
        return self._draws[device]

    def _mixed(self, mixed: Mixed, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Targets and weights as mixed as the inputs.

        With weights v, a loss that is linear in the targets becomes s v l(y) + (1 - s) v' l(y').
        """
        if not targets.is_floating_point():
            targets = functional.one_hot(targets, self.classes).float()
        if weights is None:
            return mixed.targets(targets), None
        total = mixed.targets(weights)
        own = mixed.share * weights / total.clamp_min(torch.finfo(total.dtype).tiny)
        return mixed._replace(share=own).targets(targets), total


class AugmentedBatches(WrappedBatches):
    """The batches of a training, augmented on the device where they are.

    The row numbers of a mixture are those of the rows that partners were added to.

    Args:
        batches: in memory, or loaded.
        pipeline: what is done to each.
    """

    def __init__(self, batches: Batches, pipeline: Pipeline) -> None:
        self.batches, self.pipeline = batches, pipeline

    def epoch(self, epoch: int, start: int = 0) -> Iterator[list[Batch]]:
        """For each step from ``start`` on, its augmented batches."""
        for step, held in enumerate(self.batches.epoch(epoch, start), start):
            yield [self.pipeline(batch, epoch, step, place) for place, batch in enumerate(held)]
