"""Embeddings of categories agree with a table that is looked up, one row and one column at a time."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from descend.nn import CategoryEmbedding, LearnedCategories
from descend.nn.category_embedding import dimension_of
from descend.optim import Muon
from descend.optim._muon import vectors_in_matrices
from descend.regularization import decayed_parameters
from descend.training.chain import Chain


def onehot(codes: list[list[int]], levels: list[int]) -> Tensor:
    """Return the blocks of rows of codes; a negative code is a block of zeros."""
    blocks = []
    for column, count in zip(zip(*codes, strict=True), levels, strict=True):
        code = torch.tensor(column)
        blocks.append(F.one_hot(code.clamp(min=0), count).float() * (code >= 0).unsqueeze(1))
    return torch.cat(blocks, dim=1)


@given(st.data())
def test_it_looks_up_the_category_of_each_large_column(data: st.DataObject) -> None:
    levels = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    above, dimension = data.draw(st.integers(0, 12)), data.draw(st.integers(1, 5))
    codes = data.draw(
        st.lists(st.tuples(*(st.integers(-1, each - 1) for each in levels)), min_size=1, max_size=6)
    )
    module = LearnedCategories(levels, above=above, dimension=dimension)
    y = module(onehot([list(row) for row in codes], levels))
    assert y.shape == (len(codes), module.outputs)
    for row, own in zip(codes, y, strict=True):
        expected: list[float] = []
        for at, (code, count) in enumerate(zip(row, levels, strict=True)):
            if count > above:
                table = getattr(module, f"table{at}")
                expected += table[code].tolist() if code >= 0 else [0.0] * dimension
            else:
                expected += [float(each == code) for each in range(count)]
        assert own.tolist() == expected


def test_eight_categories_are_one_hot_and_nine_are_embedded_as_in_realmlp() -> None:
    module = LearnedCategories([8, 9, 300])
    assert module.dimensions == (8, 8, 8)
    assert [tuple(each.shape) for each in module.parameters()] == [(9, 8), (300, 8)]


def test_the_dimension_follows_from_the_number_of_categories_if_it_is_zero() -> None:
    module = LearnedCategories([3, 40, 1000, 100_000], above=2, dimension=0)
    assert module.dimensions == tuple(min(50, round(1.6 * each**0.56)) for each in (3, 40, 1000, 100_000))
    assert module.dimensions == (3, 13, 50, 50)
    assert dimension_of(1) == 2


def test_initial_vectors_have_length_one_on_average() -> None:
    torch.manual_seed(0)
    table = next(LearnedCategories([20_000], dimension=16).parameters())
    assert float(table.detach().square().sum(1).mean()) == pytest.approx(1.0, abs=0.01)
    assert float(table.detach().mean()) == pytest.approx(0.0, abs=3 / math.sqrt(16 * 20_000 * 16))


def test_the_layer_leaves_other_entries_in_their_order() -> None:
    layer = CategoryEmbedding(
        LearnedCategories([2, 3], above=2, dimension=4), positions=(1, 2, 4, 5, 6), width=8
    )
    row = torch.tensor([[10.0, 0, 1, 11.0, 1, 0, 0, 12.0]])
    y = layer(row)
    assert y[0, :5].tolist() == [10.0, 11.0, 12.0, 0.0, 1.0]
    learned = layer.embedding
    assert isinstance(learned, LearnedCategories)
    assert torch.equal(y[0, 5:], learned.get_parameter("table1")[0])
    assert y.shape[1] == 8 - 5 + learned.outputs


def test_gradients_are_those_of_a_lookup() -> None:
    module = LearnedCategories([9], dimension=3)
    codes = torch.tensor([4, 4, 0])
    weights = torch.randn(3, 3)
    (module(F.one_hot(codes, 9).float()) * weights).sum().backward()
    table = module.get_parameter("table0")
    reference = table.detach().clone().requires_grad_()
    (F.embedding(codes, reference) * weights).sum().backward()
    torch.testing.assert_close(table.grad, reference.grad)


def test_the_gradient_chain_has_the_bits_of_autograd() -> None:
    torch.manual_seed(1)
    layer = CategoryEmbedding(LearnedCategories([9, 2], dimension=3), positions=tuple(range(1, 12)), width=13)
    model = nn.Sequential(layer, nn.Linear(7, 4), nn.ReLU(), nn.Linear(4, 1))
    chain = Chain.of(model)
    assert chain is not None
    x = torch.randn(6, 13)
    y, saved = chain.forward(x)
    gradients = chain.backward(torch.ones_like(y), saved)
    model(x).sum().backward()
    for own, parameter in zip(gradients, model.parameters(), strict=True):
        assert torch.equal(own, parameter.grad) if parameter.grad is not None else False


def test_a_network_with_an_own_embedding_has_no_chain() -> None:
    layer = CategoryEmbedding(nn.Dropout(0.5), positions=(0, 1), width=3)
    assert Chain.of(nn.Sequential(layer, nn.Linear(3, 1))) is None


def test_vectors_decay_and_muon_does_not_orthogonalize_them() -> None:
    layer = CategoryEmbedding(LearnedCategories([9], dimension=3), positions=tuple(range(9)), width=9)
    model = nn.Sequential(layer, nn.Linear(3, 4), nn.Linear(4, 2))
    table = layer.embedding.get_parameter("table0")
    decay, _ = decayed_parameters(model)
    assert any(each is table for each in decay)
    assert any(each is table for each in vectors_in_matrices(model))
    optimizer = Muon(model.parameters(), model=model)
    model(torch.eye(9)).sum().backward()
    optimizer.step()
    assert "exp_avg" in optimizer.state[table]
