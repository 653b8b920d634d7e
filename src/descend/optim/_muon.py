"""Muon: momentum whose matrices are replaced by their nearest semi-orthogonal matrices.

For a weight matrix W (m, n) with gradient G, the momentum is M ← μ M + (1 − μ) G, and the step is along the orthogonal
factor U Vᵀ of B = (1 − μ) G + μ M (Nesterov), or of B = M, where B = U S Vᵀ. This is the steepest descent direction in the
spectral norm: all singular directions move by the same length.

U Vᵀ is approximated by a Newton–Schulz iteration. X₀ = B/‖B‖_F has singular values in (0, 1], and

    X ← a X + b (X Xᵀ) X + c (X Xᵀ)² X

maps each singular value s to the polynomial p(s) = a s + b s³ + c s⁵. The coefficients (3.4445, −4.7750, 2.0315) have the
steepest slope at 0 for which values stay bounded: after five steps those that were above 0.002 lie between 0.68 and 1.21 and
do not converge to 1, which does not matter for training. (15/8, −10/8, 3/8) converges to U Vᵀ.

Vectors, and matrices whose rows are separate vectors, such as the weights of embeddings and of the output layer, take AdamW's
step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from descend.cards import method
from descend.nn import LearnedCategories
from descend.optim.base import Params
from descend.optim.elementwise import ElementwiseStep, Moving
from descend.param_types import Count, Fraction, NonNegative, Positive

__all__ = ["Muon", "muon", "orthogonalized"]

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""The coefficients a, b, c of Keller Jordan."""

LrScale = Literal["original", "match_rms_adamw"]


def orthogonalized(
    matrices: Tensor, coefficients: Sequence[float] = COEFFICIENTS, steps: int = 5, eps: float = 1e-7
) -> Tensor:
    """Approximate the orthogonal factors U Vᵀ of matrices U S Vᵀ by Newton–Schulz iterations.

    Args:
        matrices: (k, m, n).
        coefficients: a, b and c of the polynomial. Default Keller Jordan's.
        steps: number of iterations. Default 5.
        eps: smallest Frobenius norm that a matrix is divided by. Default 1e-7.

    Returns:
        (k, m, n); a matrix of zeros remains zero.

    >>> orthogonalized(torch.tensor([[[3.0, 0.0], [0.0, 2.0]]]), (15 / 8, -10 / 8, 3 / 8), 12)
    tensor([[[1., 0.],
             [0., 1.]]])
    """
    a, b, c = coefficients
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp_min(eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def lr_scale(shape: Sequence[int], choice: LrScale | None) -> float:
    """Return the factor of the learning rate for a matrix (m, n): √max(1, m/n), or 0.2 √max(m, n) to match AdamW's steps."""
    rows, columns = shape
    if choice == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1.0, rows / columns))


def muon_update(moving: Moving) -> None:
    """Take a step along the orthogonal factors; matrices of equal shape are processed in batch."""
    group, lr, dtype = moving.group, moving.lr, getattr(torch, moving.group["ns_dtype"])
    momentum = group["momentum"]
    buffers = moving.tensors("momentum_buffer")
    torch._foreach_lerp_(buffers, moving.gradients, 1 - momentum)
    updates = torch._foreach_lerp(moving.gradients, buffers, momentum) if group["nesterov"] else buffers
    if group["weight_decay"]:
        torch._foreach_mul_(moving.params, 1 - lr * group["weight_decay"])
    by_shape: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
    for p, update in zip(moving.params, updates, strict=True):
        if update.numel() == 0:
            continue
        matrix = update.reshape(len(update), -1)
        by_shape.setdefault((matrix.shape[0], matrix.shape[1]), []).append((p, matrix))
    for shape, pairs in by_shape.items():
        stack = torch.stack([matrix for _, matrix in pairs])
        wide = dtype if dtype == torch.bfloat16 else torch.promote_types(stack.dtype, dtype)
        directions = orthogonalized(stack.to(wide), group["ns_coefficients"], group["ns_steps"], group["eps"])
        length = lr * lr_scale(shape, group["adjust_lr_fn"])
        for (p, _), direction in zip(pairs, directions, strict=True):
            p.add_(direction.view(p.shape).to(p.dtype), alpha=-length)


def adamw_update(moving: Moving) -> None:
    """Take AdamW's step."""
    group, k = moving.group, moving.step
    beta1, beta2 = group["adam_betas"]
    lr = moving.lr * group["adam_lr_scale"]
    averages, squares = moving.tensors("exp_avg"), moving.tensors("exp_avg_sq")
    if group["weight_decay"]:
        torch._foreach_mul_(moving.params, 1 - lr * group["weight_decay"])
    torch._foreach_lerp_(averages, moving.gradients, 1 - beta1)
    torch._foreach_mul_(squares, beta2)
    torch._foreach_addcmul_(squares, moving.gradients, moving.gradients, 1 - beta2)
    roots = torch._foreach_sqrt(squares)
    torch._foreach_div_(roots, math.sqrt(1 - beta2**k))
    torch._foreach_add_(roots, group["adam_eps"])
    torch._foreach_addcdiv_(moving.params, averages, roots, -lr / (1 - beta1**k))


def vectors_in_matrices(model: nn.Module) -> Iterator[Tensor]:
    """Yield the parameters of embeddings and of the last layer of each network: the rows of their weights are separate vectors.

    A module with the attribute ``members``, such as an ensemble, consists of several networks.

    >>> network = nn.Sequential(nn.Embedding(3, 4), nn.Linear(4, 5), nn.Linear(5, 2))
    >>> [tuple(weight.shape) for weight in vectors_in_matrices(network)]
    [(3, 4), (2, 5), (2,)]
    """
    members = getattr(model, "members", None)
    for network in members if isinstance(members, nn.ModuleList) else [model]:
        modules = list(network.modules())
        layers = [each for each in modules if isinstance(each, (nn.Linear, nn.modules.conv._ConvNd))]
        for module in [
            each for each in modules if isinstance(each, (nn.Embedding, nn.EmbeddingBag, LearnedCategories))
        ] + layers[-1:]:
            yield from module.parameters()


@method(
    row="K1",
    reference="Jordan et al. 2024 (kellerjordan.github.io/posts/muon); Liu et al. 2025 for match_rms_adamw; torch.optim.Muon",
    formula="M <- mu M + (1-mu) G; W <- (1 - t w) W - t sqrt(max(1, m/n)) NS((1-mu) G + mu M), "
    "NS: five times X <- a X + b X X' X + c (X X')^2 X from X = B/|B|_F, which approximates U V' of B = U S V'",
    note="PyTorch's Muon takes matrices only and iterates in bfloat16; here vectors, embeddings and the output layer take "
    "AdamW's step, and the iteration is in float32 unless ns_dtype is bfloat16. In a recipe the scale is match_rms_adamw, so "
    "that one learning rate of AdamW's size suits both kinds of weights.",
)
@final
class Muon(ElementwiseStep):
    """Muon: orthogonalized momentum for the hidden matrices, and AdamW for all other parameters.

    A convolution's weight (o, i, h, w) is a matrix (o, i h w). Parameters of fewer than two dimensions take AdamW's step,
    and so do those of groups with ``use_muon=False``, and, if ``model`` is given, the weights of its embeddings and of its
    output layer. The output layer is the last linear or convolutional module.

    The state is one number for each parameter of a hidden matrix, ``momentum_buffer``, and Adam's two for others,
    ``exp_avg`` and ``exp_avg_sq``; ``step``, and ``use_muon``, 1 or 0, which kind a parameter is.

    A step costs 2 · ns_steps products with a matrix of the size of W and as many with square matrices of its smaller side.

    Args:
        params: parameters or groups.
        lr: t, the learning rate: 0.02 for adjust_lr_fn "original", AdamW's for "match_rms_adamw". Default 0.001.
        weight_decay: λ; x is multiplied by 1 − t λ. Default 0.1.
        momentum: μ. Default 0.95.
        nesterov: orthogonalize (1 − μ) G + μ M instead of M. Default True.
        ns_coefficients: a, b and c of the iteration. Default (3.4445, −4.7750, 2.0315).
        eps: smallest norm by which B is divided. Default 1e-7.
        ns_steps: number of iterations. Default 5.
        adjust_lr_fn: factor of the learning rate of a matrix (m, n): "original" is √max(1, m/n); "match_rms_adamw" is
            0.2 √max(m, n), with which the root mean square of a step is that of AdamW. Default None, "original"; in a recipe
            "match_rms_adamw".
        model: the network, by which embeddings and the output layer are recognized. Default None.
        adam_lr_scale: the learning rate of AdamW's steps relative to t. Default 1.
        adam_betas: AdamW's β₁ and β₂. Default (0.9, 0.95).
        adam_eps: AdamW's ε. Default 1e-10.
        ns_dtype: precision of the iteration: "bfloat16" is faster on GPUs and recent processors. Default "float32", or
            float64 for parameters in float64.
        use_muon: whether matrices take Muon's step; for parameter groups. Default True.

    Raises:
        UserError: a setting is outside its domain; a gradient is sparse or complex.

    >>> w = torch.zeros(2, 2, requires_grad=True)
    >>> optimizer = Muon([w], lr=1.0, ns_coefficients=(15 / 8, -10 / 8, 3 / 8), ns_steps=20)
    >>> (w * torch.tensor([[0.0, 5.0], [-3.0, 0.0]])).sum().backward(); optimizer.step()
    >>> w.detach().round(decimals=3) + 0.0  # U Vᵀ, whatever the size of the gradient
    tensor([[ 0., -1.],
            [ 1.,  0.]])
    """

    def __init__(
        self,
        params: Params,
        lr: Positive = 1e-3,
        weight_decay: NonNegative = 0.1,
        momentum: Fraction = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = COEFFICIENTS,
        eps: Positive = 1e-7,
        ns_steps: Count = 5,
        adjust_lr_fn: LrScale | None = None,
        *,
        model: nn.Module | None = None,
        adam_lr_scale: NonNegative = 1.0,
        adam_betas: tuple[Fraction, Fraction] = (0.9, 0.95),
        adam_eps: Positive = 1e-10,
        ns_dtype: Literal["float32", "bfloat16"] = "float32",
        use_muon: bool = True,
    ) -> None:
        self._vectors = set() if model is None else {id(p) for p in vectors_in_matrices(model)}
        super().__init__(params, locals(), exclude={"model"})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group, and record in the state of each parameter which step it takes."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        for p in group["params"]:
            is_matrix = p.dim() >= 2 and group["use_muon"] and id(p) not in self._vectors
            self.state[p]["use_muon"] = int(is_matrix)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.setdefault("_vectors", set())
        super().__setstate__(state)

    def advance(self, moving: Moving) -> None:
        """Move matrices by :func:`muon_update`, and other parameters by :func:`adamw_update`."""
        if moving.states[0]["use_muon"]:
            muon_update(moving)
        else:
            adamw_update(moving)


muon = Muon
