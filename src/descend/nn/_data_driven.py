"""Initialization of linear layers from the rows that reach them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Generator, Tensor, nn
from torch.nn.utils import parametrize

from descend.cards import method
from descend.errors import UserError
from descend.nn.evaluation_mode import in_evaluation_mode
from descend.param_types import Count

__all__ = ["DataDriven", "data_driven"]


@final
class DataDriven:
    """The scheme of :func:`data_driven`: a scheme like any other, and :meth:`fit`, which adapts a network to rows.

    Args:
        points: the number of rows that place a bias.
    """

    def __init__(self, points: int) -> None:
        self.points = points

    def __call__(self, weight: Tensor, gain: float, generator: Generator) -> None:
        """Fill a weight with N(0, g²/d_in), which :meth:`fit` scales."""
        inputs = max(1, weight[0].numel())
        with torch.no_grad():
            weight.normal_(0.0, gain / inputs**0.5, generator=generator)

    def fit(self, model: nn.Module, rows: Tensor, generator: Generator) -> None:
        """Adapt the linear layers of a network to rows, in the order of execution, in one pass; the last one is unchanged.

        Args:
            model: the network, with weights from this scheme; changed in place.
            rows: encoded rows (n, ...), n ≥ 1.
            generator: the random generator.

        Raises:
            UserError: a linear layer computes its weight from other tensors.
        """
        linear = [(name, each) for name, each in model.named_modules() if isinstance(each, nn.Linear)]
        for name, layer in linear[:-1]:
            if parametrize.is_parametrized(layer):
                raise UserError(
                    f"init 'data_driven' sets weights and biases, and the weight of '{name}' is computed from other tensors; "
                    "use another norm or constraint, or another init"
                )
        with (
            torch.no_grad(),
            in_evaluation_mode(model),
            self._fitting([layer for _, layer in linear[:-1]], generator),
        ):
            model(rows)

    @contextmanager
    def _fitting(self, layers: list[nn.Linear], generator: Generator) -> Iterator[None]:
        fitted: set[int] = set()

        def before(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
            if id(layer) not in fitted:  # a layer that is called again keeps its weights
                fitted.add(id(layer))
                assert isinstance(layer, nn.Linear)
                self._fit_layer(layer, arguments[0].reshape(-1, layer.in_features), generator)

        handles = [layer.register_forward_pre_hook(before) for layer in layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _fit_layer(self, layer: nn.Linear, x: Tensor, generator: Generator) -> None:
        """Scale each unit to standard deviation 1 on the rows x (n, d), and place its bias at a random point among them."""
        z = x @ layer.weight.t()
        deviation = z.std(dim=0, correction=0)
        scale = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
        layer.weight.div_(scale.unsqueeze(1))
        bias: Tensor | None = layer.bias
        if bias is None:
            return
        rows = torch.randint(
            len(x), (self.points, layer.out_features), generator=generator, device=generator.device
        )
        shares = torch.empty(self.points, layer.out_features, device=generator.device)
        shares.exponential_(generator=generator)
        chosen = (z / scale).gather(0, rows.to(z.device))
        shares = (shares / shares.sum(0)).to(z)
        bias.copy_(-(shares * chosen).sum(0))


@method(
    row="K8",
    reference="Holzmüller, Grinsztajn and Steinwart 2024, Better by default: strong pre-tuned MLPs (RealMLP)",
    formula="W_i ~ N(0, I) / std_rows(W_i x), b_i = - sum_p c_p W_i x_p, for random rows x_p and shares c_p",
    note="The shares are uniform on the simplex. The last layer has its weights from N(0, g²/d_in), with g = init.output_gain.",
)
def data_driven(*, points: Count = 5) -> DataDriven:
    """Data-driven initialization: hidden units of variance 1 on training rows, with biases at random points among them.

    In the order of execution each hidden linear layer gets normal weights, of which those of a unit are divided by the standard
    deviation of its output on at most 1024 training rows. Its bias is minus a random convex combination of the outputs of P
    rows: the unit's activation then bends where data are. Without rows (a network whose state is loaded) the weights are
    those of the first step.

    Args:
        points: P, the number of rows that place a bias. Default 5, as in RealMLP ("he+5").

    >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    >>> x, random = 5 + torch.randn(100, 3), torch.Generator().manual_seed(0)
    >>> data_driven().fit(model, x, random)
    >>> torch.allclose(model[0](x).std(0, correction=0), torch.ones(4), atol=1e-5)
    True
    """
    return DataDriven(points)
