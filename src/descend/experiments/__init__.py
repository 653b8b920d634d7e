"""Experiments on many trainings: cross-validation, comparison of variants, and search over a space."""
