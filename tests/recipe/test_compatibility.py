"""Parts of a recipe that cannot be used together."""

from __future__ import annotations

import pytest

from descend.errors import RecipeError
from descend.nn import mlp
from descend.recipe.compatibility import check_batches


class TestBatchesOfOneRow:
    @pytest.mark.parametrize("norm", ["batch", "decorrelated", "iterative"])
    def test_are_refused_where_a_layer_needs_several(self, norm: str) -> None:
        model = mlp((4,), 3, hidden=(8,), norm=norm)
        with pytest.raises(
            RecipeError, match=r"\[data\] batch_size: 'norm1' .* no statistics in a batch of one row"
        ):
            check_batches(model, [4, 1])
        check_batches(model, [4, 2])

    def test_are_accepted_elsewhere(self) -> None:
        check_batches(mlp((4,), 3, hidden=(8,), norm="layer"), [1])
