"""The lecture's figures, measured anew: each a PNG and a page that works without a network.

A figure measures when it is asked for, on small problems, in seconds; it names what to see and the number that
shows it, and says so when the measurement does not support the lecture.

>>> from descend.gallery import FIGURES, draw
>>> "whitening" in FIGURES
True
>>> found = draw("whitening", seed=0)
>>> found.supported, found.value.value < 1e-9
(True, True)

Layers: ``spread`` (intervals) → ``picture`` (panels as plain numbers) → ``figures/`` (one a file: ``measure`` and
``picture``) → ``catalogue`` (by name); ``png`` and ``page`` draw a picture, ``folder`` writes the files.
"""

from descend.gallery.catalogue import FIGURES, draw
from descend.gallery.folder import Written, prepare, write, write_index
from descend.gallery.picture import Picture

__all__ = ["FIGURES", "Picture", "Written", "draw", "prepare", "write", "write_index"]
