"""What a constraint is, which weights it holds, and how it is kept."""

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

__all__ = ["Constraint", "Following", "Held", "Place", "baked", "constrain"]


M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Place:
    """A weight: the module that holds it, its name there, and its name in the model."""

    module: nn.Module
    name: str
    path: str

    @property
    def weight(self) -> Tensor:
        """The weight as the module uses it."""
        found: Tensor = getattr(self.module, self.name)
        return found

    @property
    def parametrized(self) -> bool:
        """Whether it is computed from other variables."""
        return parametrize.is_parametrized(self.module, self.name)

    @property
    def parametrization(self) -> nn.Module:
        """What computes it, of a parametrised weight."""
        found: nn.Module = _parametrizations(self.module)[self.name][0]
        return found

    @property
    def variable(self) -> Tensor:
        """What it is computed from, of a parametrised weight."""
        found: Tensor = _parametrizations(self.module)[self.name].original
        return found


class Constraint(ABC):
    """A set that weights stay in.

    A constraint is kept in one of four ways: by a projection after each step; by a step along the set in place of the
    optimizer's; by a parametrisation, a function whose values all lie in the set; or, approximately, by a penalty.

    Attributes:
        fixes_size: whether all members of the set have one size, and are plain weights: to shrink them means nothing.
    """

    fixes_size: ClassVar[bool] = False

    @abstractmethod
    def impose(self, place: Place) -> None:
        """Bring a weight into the set, and parametrise it if that is how it stays there. Twice is as once."""

    def project_(self, place: Place) -> None:  # noqa: B027 - to do nothing is right for most
        """Bring a weight back after a step, in place; nothing for constraints that are kept otherwise."""

    def penalty(self, weight: Tensor) -> Tensor | None:
        """A differentiable term of the objective; None for constraints that are kept otherwise."""
        return None

    def follow(self, optimizer: Optimizer, places: Sequence[Place]) -> Sequence[RemovableHandle]:
        """Keep weights in the set from step to step of an optimizer; what ends that. Here: :meth:`project_` after each."""

        @torch.no_grad()
        def project(stepped: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            for place in places:
                self.project_(place)

        return [optimizer.register_step_post_hook(project)]


class Held:
    """A constraint and the weights that it holds."""

    def __init__(self, constraint: Constraint, places: Sequence[Place]) -> None:
        self.constraint, self.places = constraint, tuple(places)

    @property
    def fixed_in_size(self) -> list[Tensor]:
        """The weights whose size the constraint fixes, so that neither decay nor threshold is for them."""
        return [place.weight for place in self.places] if self.constraint.fixes_size else []

    def project_(self) -> None:
        """Bring every weight back into the set, in place. Call it after each change of the weights."""
        with torch.no_grad():
            for place in self.places:
                self.constraint.project_(place)

    def penalty(self) -> Tensor | None:
        """The sum of the penalties, to be added to the loss; None where the constraint needs none."""
        terms = [self.constraint.penalty(place.weight) for place in self.places]
        found = [term for term in terms if term is not None]
        return torch.stack(found).sum() if found else None

    def follow(self, optimizer: Optimizer) -> Following:
        """Keep the weights in the set from step to step of an optimizer, until ``remove()`` of the result is called.

        Call it last: what else changes weights before or after a step, such as a decay, is to come before it.
        """
        return Following(self.constraint.follow(optimizer, self.places))


class Following:
    """The hooks by which an optimizer keeps a constraint; ``remove()`` takes them away."""

    def __init__(self, handles: Sequence[RemovableHandle]) -> None:
        self._handles = handles

    def remove(self) -> None:
        """Let the weights go where the optimizer leads."""
        for handle in self._handles:
            handle.remove()


def constrain(model: nn.Module, constraint: Constraint, pattern: str | Sequence[str] = "*") -> Held:
    """Impose a constraint on the weights of a model whose names match.

    Do this before the optimizer is made, since a parametrisation replaces parameters.

    Args:
        model: changed in place.
        constraint: such as :func:`descend.constraints.norm_ball`.
        pattern: matched, as file names are, against weights' names (``linear1.weight``) and those of the
            modules that hold them (``linear1``); or several patterns. Weights are trainable parameters of two or
            more dimensions, outside norms. Default ``"*"``, all of them.

    Returns:
        What holds them: ``follow(optimizer)`` keeps the constraint from step to step.

    Raises:
        UserError: a pattern matches no weight, or the constraint cannot hold one of them.

    >>> from descend.constraints import norm_ball
    >>> model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=100.0)
    >>> handle = constrain(model, norm_ball(radius=2.0), "0").follow(optimizer)
    >>> model(torch.ones(1, 3)).sum().backward(); optimizer.step()
    >>> bool((model[0].weight.norm(dim=1) <= 2.0 + 1e-5).all())
    True
    """
    known = list(_places(model))
    patterns = [pattern] if isinstance(pattern, str) else list(pattern)
    for each in patterns:
        if not any(_matches(place, each) for place in known):
            names = ", ".join(place.path for place in known) or "none: the model has no weights to constrain"
            raise UserError(f"no weight is called '{each}'; there are: {names}")
    chosen = [place for place in known if any(_matches(place, each) for each in patterns)]
    for place in chosen:
        with torch.no_grad():
            constraint.impose(place)
    return Held(constraint, chosen)


def _matches(place: Place, pattern: str) -> bool:
    module = place.path.rpartition(".")[0]
    return fnmatchcase(place.path, pattern) or (bool(module) and fnmatchcase(module, pattern))


_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def _places(model: nn.Module) -> Iterator[Place]:
    seen: set[int] = set()
    for path, module in model.named_modules():
        if isinstance(module, (*_NORMS, parametrize.ParametrizationList)):
            continue
        own = [(name, p) for name, p in module.named_parameters(recurse=False) if p.requires_grad]
        # Parametrised by a constraint: still that weight. By anything else: its variables are not for us.
        own += [
            (name, held.original) for name, held in _parametrizations(module).items() if _constrains(held)
        ]
        for name, parameter in own:
            if parameter.dim() >= 2 and id(parameter) not in seen:
                seen.add(id(parameter))
                yield Place(module, name, f"{path}.{name}".lstrip("."))


def _parametrizations(module: nn.Module) -> dict[str, Any]:
    held: Any = module.parametrizations if parametrize.is_parametrized(module) else {}
    return dict(held.items())


def _constrains(held: Iterable[nn.Module]) -> bool:
    return any(getattr(each, "constrains", False) for each in held)


def baked(model: M, *, constraints_alone: bool = False) -> M:
    """The model with parametrised weights as plain ones of the same values, changed in place.

    Args:
        model: any module.
        constraints_alone: whether to leave parametrisations that are no constraints of this package.

    >>> from descend.constraints import binary
    >>> model = nn.Linear(2, 2)
    >>> _ = constrain(model, binary(scale=0.5))
    >>> list(baked(model).state_dict()), sorted(set(model.weight.detach().abs().flatten().tolist()))
    (['bias', 'weight'], [0.5])
    """
    for module in list(model.modules()):
        for name, held in _parametrizations(module).items():
            if not constraints_alone or _constrains(held):
                _bake(module, name)
    return model


def _bake(module: nn.Module, name: str) -> None:
    """Put a weight's value in the place of its parametrisation.

    ``torch.nn.utils.parametrize.remove_parametrizations`` takes the weight from the module's class, which copies of
    the module share; this gives the module a class of its own.
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
