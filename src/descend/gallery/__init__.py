"""Measured figures of what the methods do, each written as a PNG file and a self-contained HTML page.

A figure states a claim, measures it on small problems in seconds, and reports what to see, the measured number, and
whether the measurement supports the claim.

>>> from descend.gallery import FIGURES, measure
>>> "whitening" in FIGURES
True
>>> picture = measure("whitening", seed=0)
>>> picture.supported, picture.value.value < 1e-9
(True, True)

Layers: ``intervals`` (confidence intervals) → ``picture`` (panels as plain numbers) → ``figures/`` (``measure`` and
``picture``, one figure per file) → ``catalogue`` (figures by name); ``png`` and ``page`` render a picture, ``folder``
writes the files.
"""

from descend.gallery.catalogue import FIGURES, measure
from descend.gallery.folder import FigureFiles, prepare_folder, write_figure, write_index
from descend.gallery.picture import Picture

__all__ = ["FIGURES", "FigureFiles", "Picture", "measure", "prepare_folder", "write_figure", "write_index"]
