"""Keep PyTorch's compiler out of processes that compile nothing.

Methods of ``torch.optim.Optimizer`` such as ``add_param_group`` are excluded from compilation by a wrapper that imports
the compiler, ``torch._dynamo``, at the first call; ``step`` of PyTorch's own optimizers imports it to mark where a
compiled graph ends. The import takes about a second of CPU time, and more than a short training. Until the compiler is
imported by something else, nothing is compiled, and there is nothing to exclude or to mark.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim import optimizer as torch_optimizer

from descend.optim.foreign import foreign_step, is_foreign

__all__ = ["defer_compiler_import", "eager_step"]

_CACHE = "__dynamo_disable"  # the attribute in which PyTorch's wrapper keeps the excluded function


def defer_compiler_import() -> None:
    """Let optimizers call the plain methods until ``torch._dynamo`` is imported, and from then on the excluded ones.

    Methods that are not wrapped, or wrapped differently in another version of PyTorch, stay as they are. Idempotent.
    """
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        plain = getattr(getattr(Optimizer, name), "__wrapped__", None)
        if plain is not None and not hasattr(plain, _CACHE) and "torch._dynamo" not in sys.modules:
            setattr(plain, _CACHE, _excluded_when_compiling(plain))


def _excluded_when_compiling(plain: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if "torch._dynamo" not in sys.modules:
            return plain(*args, **kwargs)
        excluded = torch.compiler.disable(plain, recursive=True)
        setattr(plain, _CACHE, excluded)
        return excluded(*args, **kwargs)

    return call


def eager_step(optimizer: Optimizer) -> Callable[[Callable[[], Any]], Any]:
    """Return ``optimizer.step`` for a closure, without the import of the compiler.

    The function, the hooks and their order are those of ``optimizer.step``, which is called itself once the compiler is
    imported, and for optimizers that are not PyTorch's own. The profiler does not see the step. Optimizers of other
    packages are adapted by :func:`descend.optim.foreign.foreign_step`.

    >>> w = torch.nn.Parameter(torch.ones(2))
    >>> step = eager_step(torch.optim.Adagrad([w], lr=0.5))
    >>> def closure():
    ...     w.grad = torch.ones(2)
    ...     return w.sum().detach()
    >>> step(closure), w.data
    (tensor(2.), tensor([0.5000, 0.5000]))
    """
    if is_foreign(optimizer):
        return foreign_step(optimizer)
    from_torch = type(optimizer).__module__.startswith("torch.optim.")
    if not from_torch or "differentiable" not in optimizer.defaults or "torch._dynamo" in sys.modules:
        return optimizer.step
    plain = inspect.unwrap(type(optimizer).step)

    def step(closure: Callable[[], Any]) -> Any:
        if "torch._dynamo" in sys.modules:
            return optimizer.step(closure)
        args: tuple[Any, ...] = (optimizer, closure)
        kwargs: dict[str, Any] = {}
        before = chain(
            torch_optimizer._global_optimizer_pre_hooks.values(), optimizer._optimizer_step_pre_hooks.values()
        )
        for hook in before:
            changed = hook(optimizer, args, kwargs)
            if changed is not None:
                args, kwargs = changed
        with torch.set_grad_enabled(optimizer.defaults["differentiable"]):
            loss = plain(*args, **kwargs)
        after = chain(
            optimizer._optimizer_step_post_hooks.values(),
            torch_optimizer._global_optimizer_post_hooks.values(),
        )
        for hook in after:
            hook(optimizer, args, kwargs)
        return loss

    return step
