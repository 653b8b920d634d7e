"""Figures of the gallery, one per file: ``measure(seed)`` returns numbers, ``picture`` turns them into panels and text."""
