"""Training: the objective, the loop, and what surrounds them.

=====================  =====================================================================
:mod:`.loop`           the loop: one function, and the parts it moves
:mod:`.objective`      the loss of a step's rows and its gradient, as a closure
:mod:`.chain`          gradients of plain chains of layers without a tape
:mod:`.stopping`       when to stop, and which epoch was best
:mod:`.averaging`      moving averages of weights
:mod:`.state`          the state as one tree, and as one file
:mod:`.checkpoint`     the state on disk, complete or absent, written while training goes on
:mod:`.observers`      history file, progress bar, TensorBoard, requests to stop
:mod:`.threads`        how many CPU threads
:mod:`.diagnosis`      where a NaN came from
:mod:`.evaluation`     loss and metrics on rows that are not learned from
:mod:`.settings`       the sections of a recipe that belong to no single method
=====================  =====================================================================
"""
