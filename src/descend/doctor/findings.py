"""Findings: what is wrong with a training, how certain this is, and what to change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Finding", "ranked"]


@dataclass(frozen=True)
class Finding:
    """One cause of a fault.

    Args:
        cause: the name of the cause, such as ``"gradients_not_zeroed"``; ``descend methods NAME`` explains it.
        title: the cause in one sentence.
        certainty: how certain the cause is, between 0 and 1.
        evidence: sentences with the numbers that were measured.
        advice: what to change, in one sentence.
        remedy: the change as values of a recipe by key, such as ``{"optimizer.lr": 0.01}``; empty where no recipe can
            express it.

    >>> print(Finding("few_epochs", "Training ended too early.", 0.8, ("the loss still falls",), "Train longer."))
    Training ended too early. (80 % certain)
      Evidence: the loss still falls
      Advice: Train longer.
    """

    cause: str
    title: str
    certainty: float
    evidence: tuple[str, ...] = ()
    advice: str = ""
    remedy: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{self.title} ({self.certainty:.0%} certain)".replace("%", " %")]
        lines += [f"  Evidence: {each}" for each in self.evidence]
        if self.advice:
            lines.append(f"  Advice: {self.advice}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as it is written to JSON."""
        return {
            "cause": self.cause,
            "title": self.title,
            "certainty": round(self.certainty, 3),
            "evidence": list(self.evidence),
            "advice": self.advice,
            "remedy": dict(self.remedy),
        }


def ranked(findings: Iterable[Finding], consequences: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Return findings, most certain first, without those that others explain.

    A finding is left out where another one of at least half its certainty is a cause of it: inputs that are not scaled, for
    example, make gradients explode.

    Args:
        findings: in any order; of one cause the most certain is kept.
        consequences: the names of the causes that each cause brings about.

    >>> found = [Finding("exploding_gradients", "b", 0.9), Finding("unscaled_inputs", "a", 0.8)]
    >>> [each.cause for each in ranked(found, {"unscaled_inputs": ["exploding_gradients"]})]
    ['unscaled_inputs']
    """
    best: dict[str, Finding] = {}
    for each in findings:
        if each.cause not in best or each.certainty > best[each.cause].certainty:
            best[each.cause] = each
    kept = [
        each
        for each in best.values()
        if not any(
            each.cause in consequences.get(other.cause, ()) and other.certainty >= each.certainty / 2
            for other in best.values()
        )
    ]
    return sorted(kept, key=lambda each: (-each.certainty, each.cause))
