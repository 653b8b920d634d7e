"""The embedding of texts agrees with its definition, a product with the matrix of the bags."""

from __future__ import annotations

import copy

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import Ridge
from sklearn.preprocessing import normalize
from tests.support.texts import messages, ngrams_of
from torch import Tensor, nn
from torch.func import functional_call

from descend.data.ngrams import NGrams, ngram_indices
from descend.nn import TextEmbedding
from descend.nn.text_embedding import GAIN, with_text_embedding


def layer(**changes: int) -> TextEmbedding:
    generator = torch.Generator().manual_seed(0)
    settings = {"lengths": (4, 3), "buckets": (9, 5), "dimension": 3, "generator": generator}
    return TextEmbedding(2, **{**settings, **changes}).double()


def rows(count: int = 6) -> Tensor:
    rng = np.random.default_rng(1)
    numbers = rng.normal(size=(count, 2))
    texts = (
        [rng.permutation(9)[:4] + 1 for _ in range(count)],
        [rng.permutation(5)[:3] + 1 for _ in range(count)],
    )
    first, second = (np.array(each) for each in texts)
    first[0, 2:], first[1:2], second[2:3, 1:] = 0, 0, 0
    return torch.from_numpy(np.concatenate([numbers, first, second], axis=1))


def bags(indices: Tensor, buckets: int) -> Tensor:
    """Return the dense matrix of the bags, one loop at a time."""
    matrix = torch.zeros(len(indices), buckets + 1, dtype=torch.float64)
    for row, own in enumerate(indices.long().tolist()):
        present = [index for index in own if index]
        for index in present:
            matrix[row, index] += GAIN / len(present) ** 0.5
    return matrix


def by_definition(module: TextEmbedding, x: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return torch.cat([x[:, :2], bags(x[:, 2:6], 9) @ first, bags(x[:, 6:], 5) @ second], dim=1)


def test_values_and_gradients_are_those_of_the_dense_matrix() -> None:
    module, x = layer(), rows()
    tables = [table.weight.detach().clone().requires_grad_() for table in module.tables]
    expected = by_definition(module, x, *tables)
    found = module(x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    direction = torch.randn(expected.shape, dtype=torch.float64)
    found.backward(direction)
    expected.backward(direction)
    for table, other in zip(module.tables, tables, strict=True):
        torch.testing.assert_close(table.weight.grad, other.grad, rtol=1e-12, atol=1e-14)


def test_padding_adds_nothing() -> None:
    module, x = layer(), rows()
    before = module(x)
    with torch.no_grad():
        for table in module.tables:
            table.weight[0] = 1000.0
    assert torch.equal(module(x), before)
    assert not before[1, 2:5].any(), "a text without n-grams"


def test_indices_are_rounded_and_limited() -> None:
    module, x = layer(), rows()
    noisy = x.clone()
    noisy[:, 2:] += 0.3 * torch.linspace(-1, 1, x[:, 2:].numel(), dtype=torch.float64).reshape(x[:, 2:].shape)
    assert torch.equal(module(noisy)[:, 2:], module(x)[:, 2:])
    outside = torch.tensor([[0.0, 0.0, 99.0, -3.0, 0.0, 0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(module(outside)[0, 2:5], GAIN * module.tables[0].weight[9])


def test_second_derivatives_and_forward_mode() -> None:
    module, x = layer(), rows()
    names = [name for name, _ in module.named_parameters()]

    def outputs(*tables: Tensor) -> Tensor:
        return functional_call(module, dict(zip(names, tables, strict=True)), (x,)).square().sum(1).sin()

    tables = tuple(p.detach().requires_grad_() for p in module.parameters())
    assert torch.autograd.gradcheck(outputs, tables, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(outputs, tables)


def test_vmap_over_rows_and_weights() -> None:
    modules = [layer(), layer()]
    with torch.no_grad():
        for p in modules[1].parameters():
            p.mul_(-2.0)
    stacked = {
        name: torch.stack([dict(m.named_parameters())[name] for m in modules])
        for name, _ in modules[0].named_parameters()
    }
    both = torch.stack([rows(), rows().flip(0)])
    template = copy.deepcopy(modules[0])
    found = torch.vmap(lambda p, x: functional_call(template, p, (x,)))(stacked, both)
    for own, module, x in zip(found, modules, both, strict=True):
        torch.testing.assert_close(own, module(x))


def test_numbers_keep_their_gradients() -> None:
    x = rows().requires_grad_()
    layer()(x).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad[:, :2], torch.ones(6, 2, dtype=torch.float64))
    assert not x.grad[:, 2:].any()


def test_many_rows_without_gradients_are_looked_up_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = layer(), rows(20)
    expected = module(x).detach()
    monkeypatch.setattr("descend.nn.text_embedding._ROWS_AT_ONCE", 7)
    with torch.no_grad():
        torch.testing.assert_close(module(x), expected, rtol=1e-14, atol=0)
        program = torch.export.export(
            module, (x,), dynamic_shapes=({0: torch.export.Dim("rows")},), strict=False
        )
        for count in (1, 7, 30):
            torch.testing.assert_close(program.module()(rows(count)), module(rows(count)))


def test_without_numbers() -> None:
    module = TextEmbedding(0, lengths=(3,), buckets=(4,), dimension=2)
    assert module(torch.tensor([[1.0, 0.0, 0.0]])).shape == (1, 2)
    assert module.outputs == 2


def test_the_initial_embedding_has_a_fixed_scale() -> None:
    module = TextEmbedding(0, lengths=(100,), buckets=(5000,), dimension=16)
    x = torch.stack([torch.randperm(5000)[:100] + 1 for _ in range(200)]).float()
    assert module(x).std().item() == pytest.approx(0.05, rel=0.1)
    equal = [
        TextEmbedding(0, lengths=(3,), buckets=(9,), generator=torch.Generator().manual_seed(5)) for _ in "ab"
    ]
    assert torch.equal(*(each.tables[0].weight for each in equal))


def test_layers_keep_their_names() -> None:
    front = layer()
    joined = with_text_embedding(nn.Sequential(nn.Linear(8, 2)), front)
    assert [name for name, _ in joined.named_children()] == ["text", "0"]
    other = with_text_embedding(nn.Bilinear(1, 1, 1), front)
    assert [name for name, _ in other.named_children()] == ["text", "network"]


def test_the_linear_case_equals_ridge_on_the_bag() -> None:
    """One embedding dimension is a linear function of the bag; with squares of the weights added it is ridge regression."""
    texts, labels = messages(150, noise=0.1)
    y = np.array([1.0 if label == "spam" else -1.0 for label in labels])
    ngrams = NGrams(buckets=2**22, length=1000, words=(1, 2), characters=(3, 4))
    analyzer = CountVectorizer(analyzer=lambda text: ngrams_of(text, ngrams), binary=True)
    bag = normalize(analyzer.fit_transform(texts).astype(np.float64)) * GAIN
    reference = Ridge(alpha=30.0, fit_intercept=False, solver="cholesky").fit(bag, y)

    x = torch.from_numpy(ngram_indices(pl.Series(texts), ngrams)).double()
    assert int((x > 0).sum(1).max()) < 1000
    used, x = torch.unique(x, return_inverse=True)  # a smaller table: index 0 stays 0
    module = TextEmbedding(0, lengths=(1000,), buckets=(len(used) - 1,), dimension=1).double()
    targets = torch.from_numpy(y)
    optimizer = torch.optim.LBFGS(
        module.parameters(),
        max_iter=500,
        tolerance_grad=1e-10,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        weights = module.tables[0].weight
        loss = (module(x.double())[:, 0] - targets).square().sum() + 30.0 * weights.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    found = module(x.double())[:, 0].detach().numpy()
    np.testing.assert_allclose(found, reference.predict(bag), rtol=0, atol=1e-6)
    # The different n-grams of these texts have different indices.
    assert len(used) - 1 == bag.shape[1]
