"""Functions as losses: a function of outputs and targets, as the constructor of a loss with settings."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from descend.errors import UserError
from descend.param_types import signature_of

__all__ = ["LossFunction", "constructor_of"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class LossFunction:
    """The constructor of a loss that is a function of outputs and targets; its settings are the other arguments.

    Args:
        function: the function. Its first two arguments, or three without a default, are outputs, targets and possibly a
            variance; the others are settings.

    >>> loss = LossFunction(nn.functional.huber_loss)(delta=2.0)
    >>> loss(Tensor([[3.0]]), Tensor([[0.0]])).item()
    4.0
    """

    function: Callable[..., Tensor]
    __signature__: inspect.Signature = field(init=False, repr=False, compare=False)
    __name__: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        signature = inspect.signature(self.function)
        settings = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in signature.parameters.values()
            if parameter.kind is not inspect.Parameter.POSITIONAL_ONLY
            and parameter.default is not parameter.empty
        ]
        object.__setattr__(self, "__signature__", inspect.Signature(settings))
        object.__setattr__(self, "__name__", getattr(self.function, "__name__", "loss"))

    def __call__(self, **settings: Any) -> Callable[..., Tensor]:
        """Return the function with its settings bound."""
        return functools.partial(self.function, **settings)


def constructor_of(loss: Callable[..., Any]) -> Callable[..., Any]:
    """Return the constructor of a loss: a class or a function that returns a loss itself, or a loss that is a function.

    Raises:
        UserError: it is an object with settings of its own, which a recipe cannot store.

    >>> constructor_of(nn.MSELoss), constructor_of(nn.functional.mse_loss).__name__
    (<class 'torch.nn.modules.loss.MSELoss'>, 'mse_loss')
    """
    if inspect.isclass(loss) or isinstance(loss, LossFunction):
        return loss
    if isinstance(loss, nn.Module | functools.partial):
        is_module = isinstance(loss, nn.Module)
        of = type(loss).__name__ if is_module else getattr(loss.func, "__name__", "function")
        raise UserError(
            f"expected a class or a function, got an object {'of the class' if is_module else 'made from'} {of}; a recipe "
            f'stores the name and the settings: loss={{"name": {of}, "SETTING": VALUE}}'
        )
    signature = signature_of(loss)
    if signature is None:
        return loss
    required = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.kind in _POSITIONAL and parameter.default is parameter.empty
    ]
    any_number = any(
        parameter.kind is parameter.VAR_POSITIONAL for parameter in signature.parameters.values()
    )
    return LossFunction(loss) if len(required) >= 2 or any_number else loss
