"""Diagnosis of trainings: what is wrong, how certain this is, and what to change."""

from __future__ import annotations

from descend.doctor.examination import examine
from descend.doctor.findings import Finding
from descend.doctor.plan_examination import examine_data
from descend.doctor.remedies import Verification, train_repaired, verify_remedies
from descend.doctor.run_examination import examine_run
from descend.doctor.watching import Watched, watch

__all__ = [
    "Finding",
    "Verification",
    "Watched",
    "examine",
    "examine_data",
    "examine_run",
    "train_repaired",
    "verify_remedies",
    "watch",
]
