"""The layer that replaces the n-grams of texts by learned embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, final

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from descend.cards import method
from descend.nn.front import preceded

__all__ = ["TextEmbedding", "with_text_embedding"]

GAIN = 16.0
"""Factor of the bag: an embedding changes by about the learning rate per step, so a larger factor lets it learn faster."""
_INITIAL = 0.05  # standard deviation of an entry of a bag of different n-grams at the start


_ROWS_AT_ONCE = 1024  # texts whose embeddings are in memory together where no gradient is needed


@method(
    row="K13",
    reference="Joulin et al. 2017 (fastText); the bag of scikit-learn's HashingVectorizer(binary=True, norm='l2')",
    formula="y = [x, 16 / sqrt(n) (E_{i_1} + ... + E_{i_n})] for numbers x and the indices i of a text's n different n-grams",
    note="Unlike in fastText the sum is divided by sqrt(n) rather than n, so that its scale does not depend on the "
    "length of the text. The embeddings decay like other weights (regularize.weight_decay).",
)
@final
class TextEmbedding(nn.Module):
    """Bags of embeddings: each text of a row, given by the indices of its n-grams, becomes a vector of d numbers.

    A row consists of numbers x, and for each text of the indices i of its n-grams, padded with 0. With a table E of
    embeddings for each text column, the output is

        [x, 16/√n₁ Σ_j E₁[i₁_j], 16/√n₂ Σ_j E₂[i₂_j], ...],

    where n_k is the number of indices of text k that are not 0. A text without n-grams becomes 0. The factor 16 lets
    optimizers with steps of about the learning rate in each entry, such as Adam, learn the embeddings as fast as the weights
    of the next layer. The initial embeddings are normal with standard deviation 0.05/16.

    Shapes: (n, numbers + Σ lengths) → (n, numbers + texts · dimension). The indices are floating-point numbers, so that a
    row is one tensor. They are exact below 2^24, and are rounded and limited to the table; the output has no derivative
    with respect to them.

    Args:
        numbers: how many numbers a row starts with.
        lengths: for each text, the number of indices.
        buckets: for each text, the largest index.
        dimension: d. Default 16.
        generator: random generator of the initial embeddings. Default None, PyTorch's.

    >>> layer = TextEmbedding(1, lengths=(3,), buckets=(10,), dimension=2)
    >>> y = layer(torch.tensor([[5.0, 4.0, 7.0, 0.0], [6.0, 0.0, 0.0, 0.0]]))
    >>> E = layer.tables[0].weight
    >>> torch.allclose(y[0, 1:], 16 / 2**0.5 * (E[4] + E[7])), y[:, 0].tolist(), y[1, 1:].tolist()
    (True, [5.0, 6.0], [0.0, 0.0])
    """

    def __init__(
        self,
        numbers: int,
        *,
        lengths: Sequence[int],
        buckets: Sequence[int],
        dimension: int = 16,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.numbers, self.lengths, self.dimension = numbers, tuple(lengths), dimension
        self.tables = nn.ModuleList(_table(each, dimension, generator) for each in buckets)

    @property
    def outputs(self) -> int:
        """The size of an output row."""
        return self.numbers + len(self.lengths) * self.dimension

    def forward(self, rows: Tensor) -> Tensor:
        """Return the numbers of each row and the bags of its texts."""
        numbers, *texts = torch.split(rows, [self.numbers, *self.lengths], dim=-1)
        tables = [cast(Tensor, table.weight) for table in self.tables]
        bags = [_bags(text, table) for text, table in zip(texts, tables, strict=True)]
        return (
            torch.cat([numbers.to(bags[0].dtype), *bags], dim=-1) if self.numbers else torch.cat(bags, dim=-1)
        )

    def extra_repr(self) -> str:
        """Return the sizes, for the summary of a model."""
        return f"numbers={self.numbers}, lengths={self.lengths}, dimension={self.dimension}"


def _table(buckets: int, dimension: int, generator: Generator | None) -> nn.Embedding:
    weight = torch.empty(buckets + 1, dimension).normal_(0.0, _INITIAL / GAIN, generator=generator)
    weight[0] = 0.0
    return nn.Embedding(buckets + 1, dimension, padding_idx=0, _weight=weight)


def _bags(indices: Tensor, embeddings: Tensor) -> Tensor:
    """Return the bags of texts (b, length); without gradients a part at a time, so that few embeddings are in memory."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or len(indices) <= _ROWS_AT_ONCE:
        return _bag(indices, embeddings)
    return torch.cat([_bag(part, embeddings) for part in indices.split(_ROWS_AT_ONCE)])


def _bag(indices: Tensor, embeddings: Tensor) -> Tensor:
    """Return 16/√n times the sum of the embeddings whose index is not 0, (b, d)."""
    indices = torch.round(indices).clamp(0, len(embeddings) - 1)
    present = (indices > 0).to(embeddings.dtype)
    count = present.sum(dim=-1, keepdim=True)
    shares = present * (GAIN * torch.rsqrt(torch.clamp(count, min=1.0)))
    # An index that is 0 adds nothing, whatever the embedding of padding is.
    looked_up = F.embedding(indices.to(torch.int64), embeddings, padding_idx=0)
    return torch.bmm(shares.unsqueeze(-2), looked_up).squeeze(-2)


def with_text_embedding(network: nn.Module, embedding: TextEmbedding) -> nn.Sequential:
    """Return a network that applies the embedding first, as ``text``.

    The layers of an ``nn.Sequential`` keep their names; another module becomes ``network``.

    >>> embedding = TextEmbedding(0, lengths=(4,), buckets=(10,), dimension=2)
    >>> [name for name, _ in with_text_embedding(nn.Sequential(nn.Linear(2, 1)), embedding).named_children()]
    ['text', '0']
    """
    return preceded(network, "text", embedding)
