"""What whitening layers share: groups of channels, batch statistics, running statistics, scale and shift."""

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

LARGEST = 16
"""Channels of an automatic group at most. More would need more rows for a covariance, and more time."""


def group_count(features: int, groups: int | str) -> int:
    """The number of groups of equal size: as said, or the fewest with at most 16 channels each.

    Raises:
        UserError: the groups do not divide the features.

    >>> group_count(256, "auto"), group_count(24, "auto"), group_count(24, 3)
    (16, 2, 3)
    """
    if groups == "auto":
        return next(g for g in range(1, features + 1) if features % g == 0 and features // g <= LARGEST)
    count = int(groups)
    if count < 1 or features % count:
        divisors = [g for g in range(1, features + 1) if features % g == 0]
        raise UserError(f"whitening: {groups} groups do not divide {features} features; one of {divisors}")
    return count


class Whitening(nn.Module, ABC):
    """Whitening of activations, the frame of the layers in this package.

    The C channels fall into groups of d neighbouring ones. Over the m rows (and positions) of a batch each
    group has a mean μ and a covariance S = 1/m Σ (x - μ)(x - μ)ᵀ, and

        y = γ ∘ (W (x - μ)) + β,    W = (S + ε I)^(-1/2),

    so that W (x - μ) has mean 0 and covariance I up to ε. W is the symmetric (ZCA) root: of all whitening
    matrices it is the one that changes the activations least. Gradients flow through μ and S.

    Running averages of μ and of the unbiased covariance are kept as batch norm keeps its variance. The
    evaluation's matrix W is computed from the average covariance when the layer is put into evaluation mode, and
    stored; evaluation itself is a matrix product. Averaging the matrices W instead, as the papers do, would
    overestimate them, the more the smaller the batches.

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
        """Whitened activations.

        Raises:
            UserError: the input has another number of channels or dimensions, or, in training, a single row
                (and position), which has no covariance.
        """
        if x.dim() not in ((2, 3) if self._dims == 1 else (4,)):
            shape = "(n, C) or (n, C, L)" if self._dims == 1 else "(n, C, H, W)"
            raise UserError(f"{type(self).__name__} takes inputs of shape {shape}; found {tuple(x.shape)}")
        if x.shape[1] != self.num_features:
            raise UserError(
                f"{type(self).__name__} was made for {self.num_features} channels; found {x.shape[1]}"
            )
        if not self.training:
            return self._evaluated(x)
        count = x.numel() // x.shape[1]
        if count < 2:
            raise UserError(
                f"{type(self).__name__} whitens by the covariance of a batch, and a batch of one row has none; "
                "use batches of more rows, or a norm of single rows ('layer', 'group')"
            )
        y: Tensor
        y, mean, covariance = _Whiten.apply(x, self.weight, self.bias, self._root, self.groups)
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            unbiased = covariance.to(self.running_covariance.dtype) * (count / (count - 1))
            self.running_covariance.lerp_(unbiased, self.momentum)
            self.num_batches_tracked.add_(1)
        return y

    def _evaluated(self, x: Tensor) -> Tensor:
        matrix, shift = self.running_whitening, self.running_mean
        with torch.autocast(x.device.type, enabled=False):
            wide = x.to(matrix.dtype) - _along_channels(shift, x)
            columns = matrix @ _columns(wide, self.groups)
            y = _restored(columns, x)
            if self.weight is not None and self.bias is not None:
                y = y * _along_channels(self.weight, x) + _along_channels(self.bias, x)
            return y.to(x.dtype)

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation mode; the latter computes W from the running covariance if that has changed."""
        super().train(mode)
        if not mode and not torch.equal(self.num_batches_tracked, self.batches_whitened):
            with torch.no_grad():
                self.running_whitening.copy_(self._root.of(self.running_covariance)[0])
                self.batches_whitened.copy_(self.num_batches_tracked)
        return self

    @property
    def is_spatial(self) -> bool:
        """Whether positions count as rows, so that a single row has a covariance."""
        return self._dims > 1

    @property
    def twice_differentiable(self) -> bool:
        """Whether the gradient has a derivative of its own."""
        return getattr(self._root, "backward", "exact") == "exact"

    def extra_repr(self) -> str:
        """The settings, as torch's norms show theirs."""
        return f"{self.num_features}, groups={self.groups}, momentum={self.momentum}, eps={self.eps}"


def _along_channels(values: Tensor, x: Tensor) -> Tensor:
    return values.view(-1, *[1] * (x.dim() - 2))


def _columns(x: Tensor, groups: int) -> Tensor:
    """Activations (n, C, ...) as (groups, d, m), a column per row and position. Of (n, C) it is a view."""
    size = x.shape[1] // groups
    if x.dim() == 2:
        return x.reshape(-1, groups, size).permute(1, 2, 0)
    return x.transpose(0, 1).reshape(groups, size, -1)


def _restored(columns: Tensor, like: Tensor) -> Tensor:
    """The reverse of :func:`_columns`."""
    if like.dim() == 2:
        return columns.permute(2, 0, 1).reshape(-1, like.shape[1])
    return columns.reshape(like.shape[1], -1, *like.shape[2:]).transpose(0, 1).contiguous()


def whiten(
    x: Tensor, root: Root, groups: int, weight: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """Whitened activations γ ∘ (W (x - μ)) + β, by operations that autograd differentiates as often as wanted.

    The layers use a faster form of it for first derivatives. Arguments as there.

    >>> from descend.nn.whitening.roots import SpectralRoot
    >>> x = torch.randn(50, 4, dtype=torch.float64)
    >>> y = whiten(x, SpectralRoot(eps=1e-9), groups=1)
    >>> torch.allclose(y.T @ y / 50, torch.eye(4, dtype=torch.float64), atol=1e-6)
    True
    """
    columns = _columns(x, groups)
    centred = columns - columns.mean(-1, keepdim=True)
    covariance = centred @ centred.mT / columns.shape[-1]
    y = _restored(root.differentiable(covariance) @ centred, x)
    if weight is not None and bias is not None:
        y = y * _along_channels(weight, x) + _along_channels(bias, x)
    return y


class _Whiten(torch.autograd.Function):
    """y, μ and S of a batch, with a backward of four matrix products.

    In columns X (d, m), centred, with A = diag(γ) W, Y = A X + β and the incoming gradient G:

        M = G Xᵀ,   dL/dβ = Σ_m G,   dL/dγ_i = Σ_j W_ij M_ij,   dL/dW = sym(diag(γ) M),
        dL/dX = Aᵀ (G - mean G) + 2/m (dL/dS) X.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, root: Root, groups: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
            mean = wide.mean(_over(x))
            centred = _centred_columns(wide, mean, groups)
            covariance = matmul(centred, centred.mT).div_(centred.shape[-1])
            matrix, saved = root.of(covariance)
            scaled = matrix if weight is None else matrix * weight.to(wide.dtype).view(groups, -1, 1)
            y = _restored_sum(matmul(scaled, centred), None if bias is None else bias.to(wide.dtype), x)
            ctx.save_for_backward(x, weight, bias, centred, matrix, *saved)
            ctx.root, ctx.groups = root, groups
            ctx.mark_non_differentiable(mean, covariance)
        return y.to(x.dtype), mean, covariance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, centred, matrix, *saved = ctx.saved_tensors
        g = gradients[0]
        if torch.is_grad_enabled():  # the gradient shall be differentiated again
            affine = (x, weight, bias)
            inputs = [each for each in affine if each is not None and each.requires_grad]
            y = whiten(x, ctx.root, ctx.groups, weight, bias)
            again = iter(torch.autograd.grad(y, inputs, g, create_graph=True))
            found = [next(again) if each is not None and each.requires_grad else None for each in affine]
            return *found, None, None
        with torch.autocast(x.device.type, enabled=False):
            wide = g.to(centred.dtype)
            count = centred.shape[-1]
            total = wide.sum(_over(x))
            # As the columns X sum to 0, it makes no difference to M whether those of G do.
            columns = _centred_columns(wide, total / count, ctx.groups)
            products = matmul(columns, centred.mT)
            of_weight = of_bias = None
            scaled = matrix
            if weight is not None:
                of_bias = total.to(weight.dtype)
                of_weight = (matrix * products).sum(-1).reshape(-1).to(weight.dtype)
                gain = weight.to(centred.dtype).view(ctx.groups, -1, 1)
                products, scaled = products * gain, matrix * gain
            of_root = 0.5 * (products + products.mT)
            of_covariance = ctx.root.gradient(of_root, tuple(saved))
            of_x = baddbmm(matmul(scaled.mT, columns), of_covariance, centred, alpha=2.0 / count)
            return _restored_sum(of_x, None, x).to(x.dtype), of_weight, of_bias, None, None


def _over(x: Tensor) -> tuple[int, ...]:
    """The dimensions that rows and positions are in."""
    return (0, *range(2, x.dim()))


def _centred_columns(x: Tensor, mean: Tensor, groups: int) -> Tensor:
    """``_columns(x - mean)``, in one pass over the memory."""
    if x.dim() == 2:
        return _columns(x - mean, groups)
    turned = x.transpose(0, 1)
    columns = torch.empty(turned.shape, dtype=x.dtype, device=x.device)
    torch.sub(turned, mean.view(-1, *[1] * (x.dim() - 1)), out=columns)
    return columns.view(groups, x.shape[1] // groups, -1)


def _restored_sum(columns: Tensor, shift: Tensor | None, like: Tensor) -> Tensor:
    """``_restored(columns) + shift``, in one pass over the memory."""
    if like.dim() == 2:
        turned = columns.permute(2, 0, 1).reshape(like.shape)
        return turned if shift is None else turned.add_(shift)
    turned = columns.view(like.shape[1], like.shape[0], *like.shape[2:]).transpose(0, 1)
    if shift is None:
        return turned.contiguous()
    return torch.add(turned, _along_channels(shift, like), out=torch.empty_like(like, dtype=columns.dtype))
