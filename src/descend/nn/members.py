"""Networks with k submodels that share most weights: adapters, heads, and the mean of the submodels.

A batch ensemble is k networks in one. Its members are a dimension of all activations, (n, k, d), and differ by small tensors
of their own: adapters, which scale inputs and outputs of a shared linear layer, and heads.
"""

from __future__ import annotations

import math
from typing import Literal, final

import torch
from torch import Tensor, nn

from descend.cards import method
from descend.nn.ensemble import mean_outputs
from descend.nn.outputs import Link

__all__ = [
    "AdapterInit",
    "BatchEnsembleLinear",
    "MemberLinear",
    "MemberMean",
    "MemberScale",
    "members_of",
    "per_member",
]

AdapterInit = Literal["signs", "normal", "ones"]
"""Initial values of adapters: ±1 with equal probability, a standard normal distribution, or 1."""


@method(
    row="K9",
    reference="Wen, Tran and Ba 2020, BatchEnsemble; Gorishniy et al. 2025",
    formula="y_j = s_j * (W (r_j * x_j)) + b_j for the members j = 1 … k",
)
@final
class BatchEnsembleLinear(nn.Module):
    """Linear layer that k members share, each with an adapter of its own.

    Member j computes y_j = s_j ⊙ W (r_j ⊙ x_j) + b_j: the weight W is shared, and the input scales r_j, the output scales
    s_j and the bias b_j belong to the member. This equals a layer with the weight (s_j r_jᵀ) ⊙ W of its own.

    W is initialized as in ``torch.nn.Linear``, and all members start with the same bias, sampled in the same way.
    Shapes: (n, k, inputs) or (n, inputs), which all members then share → (n, k, outputs).

    Args:
        inputs: the number of inputs.
        outputs: the number of outputs.
        members: k.
        adapters: the initial values of the input scales. The output scales start at 1. Default ``"ones"``.

    Attributes:
        shared: the shared layer, without a bias.
        scale_in: r, (k, inputs).
        scale_out: s, (k, outputs).
        bias: b, (k, outputs).

    >>> layer = BatchEnsembleLinear(2, 3, 4)
    >>> x = torch.ones(5, 2)
    >>> torch.allclose(layer(x)[:, 1], layer.shared(x) + layer.bias[1])
    True

    Source: Wen, Tran and Ba, "BatchEnsemble: an alternative approach to efficient ensemble and lifelong learning", 2020.
    """

    def __init__(self, inputs: int, outputs: int, members: int, adapters: AdapterInit = "ones") -> None:
        super().__init__()
        self.shared = nn.Linear(inputs, outputs, bias=False)
        self.scale_in = nn.Parameter(_scales(members, inputs, adapters))
        self.scale_out = nn.Parameter(torch.ones(members, outputs))
        bound = 1.0 / math.sqrt(inputs) if inputs else 0.0
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound).repeat(members, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return s ⊙ W (r ⊙ x) + b for each member."""
        return torch.addcmul(self.bias, self.shared(_of_members(x) * self.scale_in), self.scale_out)

    def extra_repr(self) -> str:
        """Return the number of members for the printed model."""
        return f"members={len(self.bias)}"


@final
class MemberScale(nn.Module):
    """Adapter of k members at the input of a network that they share: x_j = r_j ⊙ x.

    Shapes: (n, inputs) → (n, k, inputs).

    Args:
        inputs: the number of inputs.
        members: k.
        adapters: the initial values of the scales. Default ``"signs"``.

    Attributes:
        scale_in: r, (k, inputs).

    >>> MemberScale(3, 2, "ones")(torch.ones(1, 3)).shape
    torch.Size([1, 2, 3])
    """

    def __init__(self, inputs: int, members: int, adapters: AdapterInit = "signs") -> None:
        super().__init__()
        self.scale_in = nn.Parameter(_scales(members, inputs, adapters))

    def forward(self, x: Tensor) -> Tensor:
        """Return r ⊙ x for each member."""
        return _of_members(x) * self.scale_in

    def extra_repr(self) -> str:
        """Return the number of members for the printed model."""
        return f"members={len(self.scale_in)}"


@final
class MemberLinear(nn.Module):
    """Linear layer with separate weights for each of k members: y_j = W_j x_j + b_j.

    Weights and biases are initialized as in ``torch.nn.Linear``, independently for each member.
    Shapes: (n, k, inputs) or (n, inputs), which all members then share → (n, k, outputs).

    Args:
        inputs: the number of inputs.
        outputs: the number of outputs.
        members: k.

    Attributes:
        weight: W, (k, outputs, inputs).
        bias: b, (k, outputs).

    >>> heads = MemberLinear(2, 1, 3)
    >>> x = torch.ones(4, 3, 2)
    >>> torch.allclose(heads(x)[:, 1], x[:, 1] @ heads.weight[1].T + heads.bias[1])
    True
    """

    def __init__(self, inputs: int, outputs: int, members: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(inputs) if inputs else 0.0
        self.weight = nn.Parameter(torch.empty(members, outputs, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Return W_j x_j + b_j for each member."""
        by_member = _of_members(x).expand(-1, len(self.weight), -1).transpose(0, 1)
        return torch.matmul(by_member, self.weight.mT).transpose(0, 1) + self.bias

    def extra_repr(self) -> str:
        """Return the sizes for the printed model."""
        members, outputs, inputs = self.weight.shape
        return f"in_features={inputs}, out_features={outputs}, members={members}"


@final
class MemberMean(nn.Module):
    """Last layer of a network with k members: one row for each member in training, the mean prediction in evaluation.

    In training mode the raw outputs of row i and member j are row i k + j, so that the mean loss over rows, with targets
    repeated by :func:`per_member`, is the mean of the members' losses: each is trained on its own loss. In evaluation mode
    the raw outputs are those whose prediction is the mean of the members' predictions
    (:func:`descend.nn.ensemble.mean_outputs`).
    Shapes: (n, k, K) → (n k, K) in training mode, (n, K) in evaluation mode.

    Args:
        members: k.
        link: the link of the output activation (:mod:`descend.nn.outputs`).

    >>> z = torch.tensor([[[0.0], [4.0]]])
    >>> MemberMean(2, "identity").train()(z).tolist(), MemberMean(2, "identity").eval()(z).tolist()
    ([[0.0], [4.0]], [[2.0]])
    """

    def __init__(self, members: int, link: Link) -> None:
        super().__init__()
        self.members, self.link = members, link

    def forward(self, outputs: Tensor) -> Tensor:
        """Return the raw outputs of each member, or those of the mean prediction."""
        return outputs.flatten(0, 1) if self.training else mean_outputs(outputs.transpose(0, 1), self.link)

    def extra_repr(self) -> str:
        """Return members and link for the printed model."""
        return f"members={self.members}, link={self.link}"


def members_of(model: nn.Module) -> int:
    """Return k, the number of output rows for each input row that a model in training mode returns; 1 for most models.

    >>> members_of(nn.Sequential(MemberLinear(2, 1, 4), MemberMean(4, "identity"))), members_of(nn.Linear(2, 1))
    (4, 1)
    """
    found = (module.members for module in model.modules() if isinstance(module, MemberMean))
    return next(found, 1)


def per_member(rows: Tensor, outputs: Tensor) -> Tensor:
    """Repeat targets, weights or other values of rows such that there is one for each row of the outputs.

    Args:
        rows: (n, ...).
        outputs: (n k, K), as :class:`MemberMean` returns; those of one prediction per row, k = 1, change nothing.

    >>> per_member(torch.tensor([1, 2]), torch.zeros(4, 3))
    tensor([1, 1, 2, 2])
    """
    if len(outputs) == len(rows):
        return rows
    return rows.repeat_interleave(len(outputs) // len(rows), 0)


def _of_members(x: Tensor) -> Tensor:
    """Return inputs with a dimension of members, of size 1 if all members share them."""
    return x.unsqueeze(1) if x.dim() == 2 else x


def _scales(members: int, inputs: int, adapters: AdapterInit) -> Tensor:
    if adapters == "ones":
        return torch.ones(members, inputs)
    normal = torch.randn(members, inputs)
    return normal if adapters == "normal" else torch.where(normal < 0.0, -1.0, 1.0)
