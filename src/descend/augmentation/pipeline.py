"""A sequence of augmentations applied to the training batches, with reproducible random numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from descend.augmentation.base import IMAGES, Layout, Mixed
from descend.augmentation.pixels import Pixels
from descend.data.batches import Batch, Batches, WrappedBatches
from descend.data.preprocessing import Preprocess
from descend.data.schema import Schema
from descend.rng import key

__all__ = ["AugmentedBatches", "Pipeline", "layout_of"]

Method = Callable[[Tensor, torch.Generator], Tensor | Mixed]
"""A change of a batch: an Augmentation, a Mixing, or any function of this form."""


def layout_of(schema: Schema, preprocess: Preprocess) -> Layout:
    """Return the layout of encoded rows."""
    if len(schema.input_shape) == 3 and schema.rotation is None:
        return Layout(IMAGES)
    if schema.rotation is not None and len(schema.input_shape) == 3:
        return Layout("rows", f"data.scale = '{schema.scale}' mixes the pixels before they can be changed")
    if schema.kind != "table":
        return Layout("rows", f"the rows have shape {schema.input_shape}")
    return Layout(
        "rows",
        "the rows are a table",
        numbers=torch.tensor(preprocess.numbers),
        columns=torch.tensor(preprocess.columns),
        has_texts=bool(schema.texts),
    )


class Pipeline:
    """Augmentations in sequence, with random numbers that are a pure function of seed, epoch and step.

    Method number m uses a generator seeded from (seed, "augment.m.a", epoch, step), where a is the
    position of the batch among those that a step accumulates. The random numbers of a method therefore do not depend on
    other methods, a step can be repeated, and a resumed run gives the same bits.

    Args:
        methods: in the order in which they are applied.
        pixels: for images, the conversion between encoded rows and pixels, on the device of the batches; None for
            other rows.
        classes: number of classes if targets are class codes, which a mixture converts to distributions
            (b, classes); 0 for other targets.
        seed: the run's seed.

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
        self._generators: dict[torch.device, torch.Generator] = {}

    def __call__(self, batch: Batch, epoch: int, step: int, place: int = 0) -> Batch:
        """Return the augmented batch.

        Args:
            batch: encoded rows.
            epoch: the epoch.
            step: the step within the epoch.
            place: the position of the batch within the step.
        """
        inputs, targets, weights = batch
        generator = self._generator(inputs.device)
        pixels = self._pixels
        with torch.no_grad():
            inputs = inputs if pixels is None else pixels.to_pixels(inputs)
            for at, method in enumerate(self.methods):
                generator.manual_seed(key(self.seed, f"augment.{at}.{place}", epoch, step))
                changed = method(inputs, generator)
                if isinstance(changed, Mixed):
                    targets, weights = self._mixed(changed, targets, weights)
                    changed = changed.inputs
                inputs = changed
            inputs = inputs if pixels is None else pixels.from_pixels(inputs)
        return Batch(inputs, targets, weights)

    def _generator(self, device: torch.device) -> torch.Generator:
        """Return the generator of a device, which is seeded before each use."""
        if device not in self._generators:
            self._generators[device] = torch.Generator(device=device)
        return self._generators[device]

    def _mixed(self, mixed: Mixed, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Mix targets and weights like the inputs.

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
    """Training batches, augmented on their device.

    The row numbers of a mixture are those of the rows that partners were added to.

    Args:
        batches: the batches.
        pipeline: the augmentations of each batch.
    """

    def __init__(self, batches: Batches, pipeline: Pipeline) -> None:
        self.batches, self.pipeline = batches, pipeline

    def epoch(self, epoch: int, start: int = 0) -> Iterator[list[Batch]]:
        """Yield, for each step from ``start`` on, its augmented batches."""
        for step, step_batches in enumerate(self.batches.epoch(epoch, start), start):
            yield [self.pipeline(batch, epoch, step, place) for place, batch in enumerate(step_batches)]
