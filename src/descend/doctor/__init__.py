"""Diagnosis of trainings: what is wrong, how certain this is, and what to change."""

from __future__ import annotations

from descend.doctor.examination import examine
from descend.doctor.findings import Finding
from descend.doctor.watching import Watched, watch

__all__ = ["Finding", "Watched", "examine", "watch"]
