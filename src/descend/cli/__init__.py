"""The command line: ``descend train DATA`` and its companions.

Each command is a thin shell around the function of the same name in Python. The heavy parts (PyTorch, readers
of data, the catalogue) are imported inside the commands that need them, so that ``descend --help`` is
immediate.

===================  =====================================================================
:mod:`.startup`      ``main``, before the commands are imported
:mod:`.signals`      signals that stop a command
:mod:`.streams`      standard streams that are closed, or not UTF-8
:mod:`.program`      the commands together; errors become messages and exit statuses
:mod:`.options`      options that several commands share
:mod:`.output`       output for people, and the JSON object of ``--json``
:mod:`.folders`      the default folders of results
:mod:`.train`        ``train``; :mod:`.preview` and :mod:`.summary` print before and after
:mod:`.predict`      ``predict``
:mod:`.evaluate`     ``evaluate``
:mod:`.report`       ``report``
:mod:`.export`       ``export``
:mod:`.compare`      ``compare``
:mod:`.search`       ``search``
:mod:`.check`        ``check gradients``, ``check optimality``
:mod:`.recipe`       ``recipe``; :mod:`.default` writes the default recipe
:mod:`.methods`      ``methods``
:mod:`.gallery`      ``gallery``
===================  =====================================================================
"""

from descend.cli.startup import main

__all__ = ["main"]
