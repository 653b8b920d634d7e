"""Base class of whitening layers: groups of channels, batch statistics, running statistics, weight and bias."""

from __future__ import annotations

from abc import ABC
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from descend.errors import UserError
from descend.nn.whitening.products import baddbmm, matmul
from descend.nn.whitening.roots import Root
from descend.param_types import Count

__all__ = ["Groups", "Whitening", "group_count", "whiten"]

Groups = Count | Literal["auto"]

MAX_GROUP_SIZE = 16
"""The largest automatic group. Larger groups need more rows to estimate a covariance, and more time."""


def group_count(features: int, groups: int | str) -> int:
    """Return the number of groups of equal size; ``"auto"`` is the smallest number with at most 16 channels each.

    Raises:
        UserError: the number of groups does not divide the number of features.

    >>> group_count(256, "auto"), group_count(24, "auto"), group_count(24, 3)
    (16, 2, 3)
    """
    if groups == "auto":
        return next(
            g for g in range(1, features + 1) if features % g == 0 and features // g <= MAX_GROUP_SIZE
        )
    count = int(groups)
    if count < 1 or features % count:
        divisors = [g for g in range(1, features + 1) if features % g == 0]
        raise UserError(
            f"whitening: {groups} groups do not divide {features} features; use one of {divisors}"
        )
    return count


class Whitening(nn.Module, ABC):
    """Base class of whitening layers.

    The C channels are divided into groups of d adjacent channels. Over the m rows (and positions) of a batch each
    group has a mean μ and a covariance S = 1/m Σ (x - μ)(x - μ)ᵀ, and

        y = γ ∘ (W (x - μ)) + β,    W = (S + ε I)^(-1/2),

    so that W (x - μ) has mean 0 and covariance I up to ε. W is the symmetric (ZCA) inverse root, the whitening
    matrix that changes the activations least. Gradients flow through μ and S.

    The layer keeps running averages of μ and of the unbiased covariance, as batch normalization does of the variance. The
    matrix W for evaluation is computed from the average covariance when the layer is set to evaluation mode, and is
    stored; evaluation itself is a matrix product. Averages of the matrices W, which the papers use, overestimate W for
    small batches.

    Shapes: (n, C) or (n, C, *positions) → the same.
    """

    running_mean: Tensor
    running_covariance: Tensor
    running_whitening: Tensor
    num_batches_tracked: Tensor
    batches_whitened: Tensor

    def __init__(
        self,
        features: int,
        root: Root,
        *,
        groups: int | Literal["auto"],
        dims: int,
        momentum: float,
        eps: float,
        affine: bool,
    ) -> None:
        super().__init__()
        self.num_features, self.groups = features, group_count(features, groups)
        self.momentum, self.eps = momentum, eps
        self._root, self._dims = root, dims
        eye = torch.eye(features // self.groups).repeat(self.groups, 1, 1)
        self.weight = nn.Parameter(torch.ones(features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(features)) if affine else None
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_covariance", eye)
        self.register_buffer("running_whitening", eye * (1.0 + eps) ** -0.5)
        self.register_buffer("num_batches_tracked", torch.tensor(0))
        self.register_buffer("batches_whitened", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        """Return the whitened activations.

        Raises:
            UserError: the number of channels or dimensions of the input is wrong, or, in training, the batch is a single
                row (and position), which has no covariance.
        """
        if x.dim() not in ((2, 3) if self._dims == 1 else (4,)):
            shape = "(n, C) or (n, C, L)" if self._dims == 1 else "(n, C, H, W)"
            raise UserError(f"{type(self).__name__} expects inputs of shape {shape}, got {tuple(x.shape)}")
        if x.shape[1] != self.num_features:
            raise UserError(f"{type(self).__name__} expects {self.num_features} channels, got {x.shape[1]}")
        if not self.training:
            return self._evaluate(x)
        count = x.numel() // x.shape[1]
        if count < 2:
            raise UserError(
                f"{type(self).__name__} needs the covariance of a batch, and a batch of one row has none; "
                "use larger batches, or a norm of single rows ('layer', 'group')"
            )
        y: Tensor
        y, mean, covariance = _Whiten.apply(x, self.weight, self.bias, self._root, self.groups)
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            unbiased = covariance.to(self.running_covariance.dtype) * (count / (count - 1))
            self.running_covariance.lerp_(unbiased, self.momentum)
            self.num_batches_tracked.add_(1)
        return y

    def _evaluate(self, x: Tensor) -> Tensor:
        matrix, mean = self.running_whitening, self.running_mean
        with torch.autocast(x.device.type, enabled=False):
            wide = x.to(matrix.dtype) - _along_channels(mean, x)
            columns = matrix @ _columns(wide, self.groups)
            y = _restore(columns, x)
            if self.weight is not None and self.bias is not None:
                y = y * _along_channels(self.weight, x) + _along_channels(self.bias, x)
            return y.to(x.dtype)

    def train(self, mode: bool = True) -> Self:
        """Set the training or evaluation mode; the latter computes W if the running covariance has changed."""
        super().train(mode)
        if not mode and not torch.equal(self.num_batches_tracked, self.batches_whitened):
            with torch.no_grad():
                self.running_whitening.copy_(self._root.of(self.running_covariance)[0])
                self.batches_whitened.copy_(self.num_batches_tracked)
        return self

    @property
    def is_spatial(self) -> bool:
        """Whether the inputs are images, whose positions count as rows, so that a single row has a covariance."""
        return self._dims > 1

    @property
    def twice_differentiable(self) -> bool:
        """Whether the layer can be differentiated twice."""
        return getattr(self._root, "backward", "exact") == "exact"

    def extra_repr(self) -> str:
        """Return the settings for the printed model."""
        return f"{self.num_features}, groups={self.groups}, momentum={self.momentum}, eps={self.eps}"


def _along_channels(values: Tensor, x: Tensor) -> Tensor:
    return values.view(-1, *[1] * (x.dim() - 2))


def _columns(x: Tensor, groups: int) -> Tensor:
    """Reshape activations (n, C, ...) to (groups, d, m), a column per row and position; a view of (n, C)."""
    size = x.shape[1] // groups
    if x.dim() == 2:
        return x.reshape(-1, groups, size).permute(1, 2, 0)
    return x.transpose(0, 1).reshape(groups, size, -1)


def _restore(columns: Tensor, like: Tensor) -> Tensor:
    """Invert :func:`_columns`."""
    if like.dim() == 2:
        return columns.permute(2, 0, 1).reshape(-1, like.shape[1])
    return columns.reshape(like.shape[1], -1, *like.shape[2:]).transpose(0, 1).contiguous()


def whiten(
    x: Tensor, root: Root, groups: int, weight: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """Return whitened activations γ ∘ (W (x - μ)) + β, by operations that autograd can differentiate any number of times.

    The layers use a faster implementation for first derivatives.

    Args:
        x: the activations, (n, C) or (n, C, *positions).
        root: the method for the inverse root of the covariance.
        groups: the number of groups.
        weight: γ, (C,). Default None, no weight.
        bias: β, (C,). Default None, no bias.

    >>> from descend.nn.whitening.roots import SpectralRoot
    >>> x = torch.randn(50, 4, dtype=torch.float64)
    >>> y = whiten(x, SpectralRoot(eps=1e-9), groups=1)
    >>> torch.allclose(y.T @ y / 50, torch.eye(4, dtype=torch.float64), atol=1e-6)
    True
    """
    columns = _columns(x, groups)
    centered = columns - columns.mean(-1, keepdim=True)
    covariance = centered @ centered.mT / columns.shape[-1]
    y = _restore(root.differentiable(covariance) @ centered, x)
    if weight is not None and bias is not None:
        y = y * _along_channels(weight, x) + _along_channels(bias, x)
    return y


class _Whiten(torch.autograd.Function):
    """Return y, μ and S of a batch; the backward pass consists of four matrix products.

    For centered columns X (d, m), with A = diag(γ) W, Y = A X + β and the incoming gradient G:

        M = G Xᵀ,   dL/dβ = Σ_m G,   dL/dγ_i = Σ_j W_ij M_ij,   dL/dW = sym(diag(γ) M),
        dL/dX = Aᵀ (G - mean G) + 2/m (dL/dS) X.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, root: Root, groups: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
            mean = wide.mean(_row_dims(x))
            centered = _centered_columns(wide, mean, groups)
            covariance = matmul(centered, centered.mT).div_(centered.shape[-1])
            matrix, saved = root.of(covariance)
            scaled = matrix if weight is None else matrix * weight.to(wide.dtype).view(groups, -1, 1)
            y = _restore_add(matmul(scaled, centered), None if bias is None else bias.to(wide.dtype), x)
            ctx.save_for_backward(x, weight, bias, centered, matrix, *saved)
            ctx.root, ctx.groups = root, groups
            ctx.mark_non_differentiable(mean, covariance)
        return y.to(x.dtype), mean, covariance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, centered, matrix, *saved = ctx.saved_tensors
        g = gradients[0]
        if torch.is_grad_enabled():  # the gradient will be differentiated again
            affine = (x, weight, bias)
            inputs = [each for each in affine if each is not None and each.requires_grad]
            y = whiten(x, ctx.root, ctx.groups, weight, bias)
            computed = iter(torch.autograd.grad(y, inputs, g, create_graph=True))
            grads = [next(computed) if each is not None and each.requires_grad else None for each in affine]
            return *grads, None, None
        with torch.autocast(x.device.type, enabled=False):
            wide = g.to(centered.dtype)
            count = centered.shape[-1]
            total = wide.sum(_row_dims(x))
            # The columns X sum to 0, so M is the same for centered and uncentered G.
            columns = _centered_columns(wide, total / count, ctx.groups)
            products = matmul(columns, centered.mT)
            of_weight = of_bias = None
            scaled = matrix
            if weight is not None:
                of_bias = total.to(weight.dtype)
                of_weight = (matrix * products).sum(-1).reshape(-1).to(weight.dtype)
                gamma = weight.to(centered.dtype).view(ctx.groups, -1, 1)
                products, scaled = products * gamma, matrix * gamma
            of_root = 0.5 * (products + products.mT)
            of_covariance = ctx.root.gradient(of_root, tuple(saved))
            of_x = baddbmm(matmul(scaled.mT, columns), of_covariance, centered, alpha=2.0 / count)
            return _restore_add(of_x, None, x).to(x.dtype), of_weight, of_bias, None, None


def _row_dims(x: Tensor) -> tuple[int, ...]:
    """Return the dimensions of rows and positions."""
    return (0, *range(2, x.dim()))


def _centered_columns(x: Tensor, mean: Tensor, groups: int) -> Tensor:
    """Return ``_columns(x - mean)``, in one pass over the memory."""
    if x.dim() == 2:
        return _columns(x - mean, groups)
    transposed = x.transpose(0, 1)
    columns = torch.empty(transposed.shape, dtype=x.dtype, device=x.device)
    torch.sub(transposed, mean.view(-1, *[1] * (x.dim() - 1)), out=columns)
    return columns.view(groups, x.shape[1] // groups, -1)


def _restore_add(columns: Tensor, bias: Tensor | None, like: Tensor) -> Tensor:
    """Return ``_restore(columns) + bias``, in one pass over the memory."""
    if like.dim() == 2:
        restored = columns.permute(2, 0, 1).reshape(like.shape)
        return restored if bias is None else restored.add_(bias)
    restored = columns.view(like.shape[1], like.shape[0], *like.shape[2:]).transpose(0, 1)
    if bias is None:
        return restored.contiguous()
    return torch.add(restored, _along_channels(bias, like), out=torch.empty_like(like, dtype=columns.dtype))
