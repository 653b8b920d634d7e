"""The figures of the gallery, one a file: ``measure(seed)`` gives numbers, ``picture`` says what they show."""
