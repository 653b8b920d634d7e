"""The properties of the data and the machine that the rules of the default recipe depend on."""

from __future__ import annotations

from dataclasses import dataclass

from descend.data.category_inputs import CategoryInput, category_inputs
from descend.data.ngrams import NGrams
from descend.data.number_inputs import NumberInput, number_inputs
from descend.data.schema import Schema

__all__ = ["Facts", "facts_of"]


@dataclass(frozen=True)
class Facts:
    """The properties of the data and the machine that the rules depend on.

    Args:
        kind: "table", "images", "tensor" or "dataset".
        rows: training rows.
        task: "regression", "multi_regression", "binary", "multiclass" or "multi_label".
        input_shape: shape of one encoded row.
        outputs: the number of predictions per row: targets, labels, logits of classes. The loss may take several outputs
            of the network for each target.
        validation_rows: rows by which training decides when to stop.
        target_average: the means of the training targets where these are learned in their own units, else empty.
        device: where training runs.
        texts: how the texts at the end of an encoded row are hashed.
        numbers: which entries of an encoded row are numbers.
        categories: which entries are one-hot blocks of categories without an order.
        own_model: whether the network is a module that the recipe does not describe.
    """

    kind: str
    rows: int
    task: str
    input_shape: tuple[int, ...]
    outputs: int
    validation_rows: int
    device: str = "cpu"
    target_average: tuple[float, ...] = ()
    texts: tuple[NGrams, ...] = ()
    numbers: tuple[NumberInput, ...] = ()
    categories: tuple[CategoryInput, ...] = ()
    own_model: bool = False

    @property
    def images(self) -> bool:
        """Whether each row is an image, (channels, height, width)."""
        return self.kind != "table" and len(self.input_shape) == 3

    @property
    def classification(self) -> bool:
        """Whether the task predicts classes or labels."""
        return self.task in ("binary", "multiclass", "multi_label")


def facts_of(schema: Schema, device: str = "cpu") -> Facts:
    """Return the facts about encoded data and the device."""
    rows = dict(schema.rows)
    return Facts(
        kind=schema.kind,
        rows=rows.get("train", 0),
        task=schema.task,
        input_shape=schema.input_shape,
        outputs=schema.outputs,
        validation_rows=rows.get("validation", 0),
        device=device,
        target_average=schema.target_average,
        texts=schema.texts,
        numbers=number_inputs(schema),
        categories=category_inputs(schema),
    )
