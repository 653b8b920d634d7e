"""The interface of constraints on weights, and how one is imposed on the weights of a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from descend.errors import UserError

__all__ = [
    "ConstrainedWeight",
    "ConstrainedWeights",
    "Constraint",
    "ConstraintHandle",
    "constrain",
    "remove_parametrizations",
]


M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class ConstrainedWeight:
    """A weight that a constraint applies to.

    Args:
        module: the module that contains the weight.
        name: its name in the module, such as ``"weight"``.
        path: its name in the model, such as ``"linear1.weight"``.
    """

    module: nn.Module
    name: str
    path: str

    @property
    def weight(self) -> Tensor:
        """The weight as the module uses it."""
        weight: Tensor = getattr(self.module, self.name)
        return weight

    @property
    def parametrized(self) -> bool:
        """Whether the weight is computed from other variables."""
        return parametrize.is_parametrized(self.module, self.name)

    @property
    def parametrization(self) -> nn.Module:
        """The module that computes a parametrized weight."""
        parametrization: nn.Module = _parametrizations(self.module)[self.name][0]
        return parametrization

    @property
    def variable(self) -> Tensor:
        """The variable that a parametrized weight is computed from."""
        variable: Tensor = _parametrizations(self.module)[self.name].original
        return variable

    def require_unparametrized(self, constraint: str) -> None:
        """Raise an error if the weight is parametrized, so that a second constraint cannot apply to it.

        Args:
            constraint: the name of the second constraint, for the message.

        Raises:
            UserError: the weight is parametrized.
        """
        if self.parametrized:
            raise UserError(
                f"'{self.path}' is already constrained; a weight has at most one constraint, so {constraint} cannot be added"
            )


class Constraint(ABC):
    """A set that weights are kept in.

    A constraint is enforced in one of four ways: by a projection after each step; by a step along the set that replaces the
    optimizer's step; by a parametrization, a function whose values all lie in the set; or, approximately, by a penalty.

    Attributes:
        fixes_norm: whether all elements of the set have the same norm and are plain weights, so that weight decay has no
            effect on them.
    """

    fixes_norm: ClassVar[bool] = False

    @abstractmethod
    def impose(self, target: ConstrainedWeight) -> None:
        """Bring a weight into the set, and parametrize it if the constraint is a parametrization. Idempotent."""

    def project_(self, target: ConstrainedWeight) -> None:  # noqa: B027 - most constraints need no projection
        """Project a weight onto the set after a step, in place; no operation for constraints without a projection."""

    def penalty(self, weight: Tensor) -> Tensor | None:
        """Return a differentiable term of the objective; None for constraints without a penalty."""
        return None

    def attach(self, optimizer: Optimizer, targets: Sequence[ConstrainedWeight]) -> Sequence[RemovableHandle]:
        """Register hooks that keep weights in the set at each step of an optimizer, and return their handles.

        The default hook calls :meth:`project_` after each step.
        """

        @torch.no_grad()
        def project(stepped: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            for target in targets:
                self.project_(target)

        return [optimizer.register_step_post_hook(project)]


class ConstrainedWeights:
    """A constraint together with the weights that it is imposed on; :func:`constrain` creates it.

    Args:
        constraint: the constraint.
        weights: the weights.
    """

    def __init__(self, constraint: Constraint, weights: Sequence[ConstrainedWeight]) -> None:
        self.constraint, self.weights = constraint, tuple(weights)

    @property
    def fixed_norm_weights(self) -> list[Tensor]:
        """The weights whose norm the constraint fixes; weight decay and soft thresholds exclude them."""
        return [each.weight for each in self.weights] if self.constraint.fixes_norm else []

    def project_(self) -> None:
        """Project all weights onto the set, in place. Call it after each change of the weights."""
        with torch.no_grad():
            for each in self.weights:
                self.constraint.project_(each)

    def penalty(self) -> Tensor | None:
        """Return the sum of the penalties, to be added to the loss; None for a constraint without a penalty."""
        penalties = [self.constraint.penalty(each.weight) for each in self.weights]
        terms = [penalty for penalty in penalties if penalty is not None]
        return torch.stack(terms).sum() if terms else None

    def attach(self, optimizer: Optimizer) -> ConstraintHandle:
        """Keep the weights in the set at each step of an optimizer, until ``remove()`` of the result is called.

        Attach constraints last: other hooks that change weights before or after a step, such as weight decay, must be
        registered before.
        """
        return ConstraintHandle(self.constraint.attach(optimizer, self.weights))


class ConstraintHandle:
    """The hooks by which an optimizer keeps a constraint; ``remove()`` removes them.

    Args:
        handles: the handles of the hooks.
    """

    def __init__(self, handles: Sequence[RemovableHandle]) -> None:
        self._handles = handles

    def remove(self) -> None:
        """Remove the hooks: the optimizer no longer keeps the constraint."""
        for handle in self._handles:
            handle.remove()


def constrain(
    model: nn.Module, constraint: Constraint, pattern: str | Sequence[str] = "*"
) -> ConstrainedWeights:
    """Impose a constraint on the weights of a model whose names match a pattern.

    Call it before the optimizer is created, since a parametrization replaces parameters.

    Args:
        model: the model, changed in place.
        constraint: such as :func:`descend.constraints.norm_ball`.
        pattern: a shell-style pattern of the names of weights (``linear1.weight``) or of the modules that contain them
            (``linear1``); or several patterns. Weights are trainable parameters of two or more dimensions, except those
            of normalization layers. Default ``"*"``, all of them.

    Returns:
        The constrained weights; ``attach(optimizer)`` keeps the constraint at each step.

    Raises:
        UserError: a pattern matches no weight, a weight is not finite, or the constraint cannot apply to one of them.

    >>> from descend.constraints import norm_ball
    >>> model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=100.0)
    >>> handle = constrain(model, norm_ball(radius=2.0), "0").attach(optimizer)
    >>> model(torch.ones(1, 3)).sum().backward(); optimizer.step()
    >>> bool((model[0].weight.norm(dim=1) <= 2.0 + 1e-5).all())
    True
    """
    candidates = list(_candidates(model))
    patterns = [pattern] if isinstance(pattern, str) else list(pattern)
    for each in patterns:
        if not any(_matches(target, each) for target in candidates):
            names = ", ".join(target.path for target in candidates)
            names = names or "none: the model has no weights to constrain"
            raise UserError(f"no weight is called '{each}'; there are: {names}")
    targets = [target for target in candidates if any(_matches(target, each) for each in patterns)]
    for target in targets:  # all of them before the first is changed
        if not torch.isfinite(target.weight).all():
            raise UserError(
                f"the weight '{target.path}' contains NaN or infinite entries, from which no constrained weight can be "
                "computed; initialize it before it is constrained"
            )
    for target in targets:
        with torch.no_grad():
            constraint.impose(target)
    return ConstrainedWeights(constraint, targets)


def _matches(target: ConstrainedWeight, pattern: str) -> bool:
    module = target.path.rpartition(".")[0]
    return fnmatchcase(target.path, pattern) or (bool(module) and fnmatchcase(module, pattern))


_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def _candidates(model: nn.Module) -> Iterator[ConstrainedWeight]:
    """Yield the weights that a constraint can apply to, each shared one once."""
    seen: set[int] = set()
    for path, module in model.named_modules():
        if isinstance(module, (*_NORMS, parametrize.ParametrizationList)):
            continue
        own = [(name, p) for name, p in module.named_parameters(recurse=False) if p.requires_grad]
        # A weight that a constraint parametrizes is still that weight. Other parametrizations keep their variables.
        own += [
            (name, each.original) for name, each in _parametrizations(module).items() if _is_constraint(each)
        ]
        for name, parameter in own:
            if parameter.dim() >= 2 and id(parameter) not in seen:
                seen.add(id(parameter))
                yield ConstrainedWeight(module, name, f"{path}.{name}".lstrip("."))


def _parametrizations(module: nn.Module) -> dict[str, Any]:
    parametrizations: Any = module.parametrizations if parametrize.is_parametrized(module) else {}
    return dict(parametrizations.items())


def _is_constraint(parametrizations: Iterable[nn.Module]) -> bool:
    return any(getattr(each, "constrains", False) for each in parametrizations)


def remove_parametrizations(model: M, *, constraints_only: bool = False) -> M:
    """Replace parametrized weights by plain ones of the same values, in place, and return the model.

    Args:
        model: any module.
        constraints_only: whether to keep parametrizations that are not constraints of this package. Default False.

    >>> from descend.constraints import binary
    >>> model = nn.Linear(2, 2)
    >>> _ = constrain(model, binary(scale=0.5))
    >>> plain = remove_parametrizations(model)
    >>> list(plain.state_dict()), sorted(set(model.weight.detach().abs().flatten().tolist()))
    (['bias', 'weight'], [0.5])
    """
    for module in list(model.modules()):
        for name, parametrizations in _parametrizations(module).items():
            if not constraints_only or _is_constraint(parametrizations):
                _remove_parametrization(module, name)
    return model


def _remove_parametrization(module: nn.Module, name: str) -> None:
    """Replace one parametrized weight by its value.

    ``torch.nn.utils.parametrize.remove_parametrizations`` deletes the weight from the module's class, which copies of
    the module share; this function assigns a class of its own to the module.
    """
    value: Tensor = getattr(module, name).detach().clone(memory_format=torch.contiguous_format)
    parametrized = type(module)
    del module.parametrizations[name]  # type: ignore[union-attr, operator]  # a ModuleDict, where there is one
    if _parametrizations(module):
        body = {k: v for k, v in vars(parametrized).items() if k not in (name, "__dict__", "__weakref__")}
        module.__class__ = type(parametrized.__name__, parametrized.__bases__, body)
    else:
        del module.parametrizations
        module.__class__ = parametrized.__bases__[0]
    module.register_parameter(name, nn.Parameter(value))
