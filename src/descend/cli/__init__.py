"""The command line: ``descend train DATA`` and its companions.

Each command is a thin shell around the function of the same name in Python. The heavy parts (PyTorch, readers
of data, the catalogue) are imported inside the commands that need them, so that ``descend --help`` is
immediate.

====================  ==============================================================
:mod:`.program`       the commands together, and how an error becomes words and an exit status
:mod:`.options`       arguments that several commands share
:mod:`.output`        where words for people go, and where the one JSON object goes
:mod:`.train`         ``train``
:mod:`.preview`       what ``train`` shows before training
:mod:`.summary`       what ``train`` shows after training, and prints with ``--json``
:mod:`.compare`       ``compare``
:mod:`.folders`       where results go when nobody says where
:mod:`.use`           ``predict``, ``evaluate``, ``report``, ``export``
:mod:`.recipe`        ``recipe``
:mod:`.default`       the default recipe as commented TOML
:mod:`.methods`       ``methods``
:mod:`.docstrings`    what each argument is, read from docstrings
====================  ==============================================================
"""

from descend.cli.program import main

__all__ = ["main"]
