"""The base class of the optimizers: settings declared once, in the signature of the constructor, and checked there."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from descend.errors import DescendError, UserError
from descend.param_types import check, of_constructor

__all__ = [
    "CheckedOptimizer",
    "Params",
    "catalogue_name",
    "checked_settings",
    "list_params",
    "raising_user_errors",
]

Params = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]
"""Parameters, named parameters, or parameter groups: dicts with ``params`` and settings of their own."""


class CheckedOptimizer(Optimizer):
    """A ``torch.optim.Optimizer`` whose settings are the annotated arguments of its constructor.

    A subclass declares each setting once, as an argument with a type of :mod:`descend.param_types` and a default, and
    passes ``locals()`` on. The values become the defaults of the parameter groups. They are checked against the
    annotations here, and so are the settings of each parameter group that is added.

    Args:
        params: parameters or groups.
        arguments: ``locals()`` of the constructor; ``self``, ``params`` and ``__class__`` are ignored.
        exclude: names of arguments that are not settings of a parameter group, such as a model.

    Raises:
        UserError: a setting is outside its domain, or PyTorch refuses the parameters.

    >>> import torch
    >>> from descend.param_types import Positive
    >>> class SignDescent(CheckedOptimizer):
    ...     def __init__(self, params: Params, lr: Positive = 0.1) -> None:
    ...         super().__init__(params, locals())
    ...
    ...     @torch.no_grad()
    ...     def step(self, closure=None):
    ...         for group in self.param_groups:
    ...             for p in group["params"]:
    ...                 p -= group["lr"] * p.grad.sign()
    >>> w = torch.ones(1, requires_grad=True)
    >>> SignDescent([w], lr=0.5).defaults
    {'lr': 0.5}
    >>> SignDescent([w], lr=-1)
    Traceback (most recent call last):
    descend.errors.UserError: sign_descent: lr: expected a number above 0, got -1
    """

    def __init__(
        self, params: Params, arguments: Mapping[str, Any], *, exclude: Collection[str] = ()
    ) -> None:
        ignored = {"self", "params", "__class__", *exclude}
        settings = {name: value for name, value in arguments.items() if name not in ignored}
        defaults = checked_settings(type(self), settings)
        with raising_user_errors(self.name):
            super().__init__(list_params(params), defaults)

    lr_is_step_size: ClassVar[bool] = False
    """Whether a step at a constant gradient is in the long run the learning rate times the gradient, as proximal steps after
    it assume."""

    supports_complex: ClassVar[bool] = True
    """Whether parameters may be complex."""

    @property
    def name(self) -> str:
        """The name of the optimizer in the catalogue."""
        return catalogue_name(type(self))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group after checking its settings and the kind of its parameters.

        Raises:
            UserError: a setting is outside its domain or would have no effect; parameters are complex, and the optimizer
                supports real ones only.
        """
        own = {name: value for name, value in param_group.items() if name in self.defaults}
        ignored = [name for name in _CHANGE_THE_STEP if param_group.get(name) and name not in self.defaults]
        if ignored:
            raise UserError(f"{self.name}: {ignored[0]}: the optimizer has no such setting")
        with raising_user_errors(self.name):
            super().add_param_group({**param_group, **checked_settings(type(self), own)})
        if not self.supports_complex and any(p.is_complex() for p in self.param_groups[-1]["params"]):
            del self.param_groups[-1]
            raise UserError(
                f"{self.name}: expected real parameters, got complex ones; use adam or sgd, or train the real and the "
                "imaginary part as parameters of their own"
            )

    def evaluate(self, closure: Callable[[], Any]) -> tuple[Any, bool]:
        """Evaluate a closure once, and call ``backward()`` on its loss if the closure has left no gradient.

        Returns:
            The loss, and whether ``backward()`` was called here. In this case the caller discards the gradients after the
            step, since the closure does not, and they would be taken for those of the next evaluation.
        """
        with torch.enable_grad():
            loss = closure()
            if not (isinstance(loss, Tensor) and loss.requires_grad):
                return loss, False
            if any(p.grad is not None for group in self.param_groups for p in group["params"]):
                return loss, False
            loss.backward()
        return loss, True

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a state; settings that an older version did not save keep the values given to the constructor."""
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in self.defaults.items():
                if name != "differentiable":  # PyTorch adds it to the defaults
                    group.setdefault(name, value)


_CHANGE_THE_STEP = ("maximize", "weight_decay")
"""Settings of PyTorch's optimizers that an optimizer without them must not ignore in a parameter group."""


def checked_settings(constructor: Callable[..., Optimizer], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Check settings against the annotations of a constructor, and convert them to the annotated types.

    Tensors stay tensors. As in PyTorch, a learning rate of 0 is accepted: it keeps a parameter group fixed.

    Raises:
        UserError: at least one setting is outside its domain; the message lists all of them.
    """
    declared = of_constructor(constructor, ()) or {}
    result, faults = dict(settings), []
    for name, value in settings.items():
        if isinstance(value, Tensor) and value.numel() == 1:
            value = value.detach().reshape(
                ()
            )  # a view: a learning rate of shape (1,) is a number, as in PyTorch
        if name not in declared or (name == "lr" and not _is_vector(value) and value == 0):
            continue
        converted, fault = check(declared[name], value)
        if fault is None and isinstance(converted, float) and abs(converted) > _LARGEST:
            fault = f"expected a number up to {_LARGEST:.2g}, the largest in single precision, got {value}"
        if fault is not None:
            faults.append(f"{name}: {fault}")
        elif not isinstance(value, Tensor):
            result[name] = converted
    if faults:
        raise UserError(f"{catalogue_name(constructor)}: {'; '.join(faults)}")
    return result


_LARGEST = torch.finfo(torch.float32).max
"""The largest setting: PyTorch multiplies float32 parameters by the settings, and refuses larger ones in the middle of a step."""


def _is_vector(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0


@contextmanager
def raising_user_errors(name: str) -> Iterator[None]:
    """Turn the errors with which PyTorch refuses parameters into UserErrors that start with the optimizer's name."""
    try:
        yield
    except DescendError:
        raise
    except (TypeError, ValueError, RuntimeError) as cause:
        raise UserError(f"{name}: {cause}") from cause


def list_params(params: Params) -> Any:
    """Return parameters or groups as lists, so that they can be read twice and the caller's groups stay unchanged.

    Raises:
        UserError: a group has no parameters.
        ValueError: a group contains a parameter twice.
    """
    if isinstance(params, Tensor):  # PyTorch raises the error
        return params
    entries = [_list_group(entry) if isinstance(entry, dict) else entry for entry in params]
    for each in (entry["params"] for entry in entries if isinstance(entry, dict)):
        _check_distinct(each)
    _check_distinct([entry for entry in entries if not isinstance(entry, dict)])
    return entries


def _check_distinct(params: Iterable[Any]) -> None:
    tensors = [each[1] if isinstance(each, tuple) and len(each) == 2 else each for each in params]
    if len({id(each) for each in tensors}) < len(tensors):
        raise ValueError(
            "a parameter occurs twice in a parameter group, and would be moved twice in a step; pass each parameter once "
            "(list(dict.fromkeys(params)) removes repetitions)"
        )


def _list_group(group: dict[str, Any]) -> dict[str, Any]:
    if "params" not in group:
        raise UserError(f"a parameter group needs the key 'params', got the keys {sorted(group)}")
    params = group["params"]
    return {**group, "params": [params] if isinstance(params, Tensor) else list(params)}


def catalogue_name(constructor: Callable[..., Any]) -> str:
    """Return the name of an optimizer in the catalogue.

    It is the attribute ``catalogue_name`` of the class, or else the name of the class in snake case.

    >>> import torch
    >>> catalogue_name(torch.optim.SparseAdam), catalogue_name(torch.optim.AdamW)
    ('sparse_adam', 'adamw')
    """
    name: str | None = getattr(constructor, "catalogue_name", None)
    return name or re.sub(r"(?<=[a-z])(?=[A-Z][A-Za-z])", "_", constructor.__name__).lower()
