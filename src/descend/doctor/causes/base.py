"""A cause: how it is recognized in each kind of evidence, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from descend.doctor.findings import Finding

if TYPE_CHECKING:
    from descend.doctor.loop_record import LoopRecord
    from descend.doctor.program import Program
    from descend.doctor.run_case import Proposal, RunCase
    from descend.runs.plan import Plan

__all__ = ["Cause"]


class Cause:
    """Base of all causes. A subclass states what it is, and looks for itself in the evidence that it understands.

    Each method returns a :class:`Finding` where the cause is present, else None. What a cause cannot see in one kind of
    evidence it leaves to the others.
    """

    title: ClassVar[str]
    """The cause in one sentence."""
    advice: ClassVar[str]
    """What to change, in one sentence."""
    explains: ClassVar[tuple[str, ...]] = ()
    """The names of causes that this one brings about, which are not reported next to it."""

    @classmethod
    def name(cls) -> str:
        """The name of the cause: that of the class in lower case, with underscores.

        >>> class RowsInOrder(Cause): ...
        >>> RowsInOrder.name()
        'rows_in_order'
        """
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    @classmethod
    def found(
        cls,
        certainty: float,
        *evidence: str,
        remedy: Mapping[str, Any] | None = None,
        title: str = "",
        advice: str = "",
    ) -> Finding:
        """Return a finding of this cause."""
        return Finding(
            cls.name(), title or cls.title, certainty, evidence, advice or cls.advice, remedy or {}
        )

    @classmethod
    def in_loop(cls, loop: LoopRecord) -> Finding | None:
        """Look for the cause in what was recorded of a training loop."""
        return None

    @classmethod
    def before_training(cls, program: Program) -> Finding | None:
        """Look for the cause in a network, a loss, rows and an optimizer, by measurements on copies."""
        return None

    @classmethod
    def in_data(cls, planned: Plan) -> Finding | None:
        """Look for the cause in prepared data and a resolved recipe, without training."""
        return None

    @classmethod
    def proposals(cls, case: RunCase) -> list[Proposal]:
        """Return changes of a run's recipe that would help if this were the cause; they are tried by training."""
        return []

    @classmethod
    def proposal(cls, changes: Mapping[str, Any], *evidence: str) -> Proposal:
        """Return a proposal of this cause."""
        from descend.doctor.run_case import Proposal

        return Proposal(cls.name(), changes, evidence)
