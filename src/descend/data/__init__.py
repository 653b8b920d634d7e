"""From anyone's data to tensors: read, infer, split, encode, scale.

========================  ==========================================================================
:mod:`.settings`          the ``[data]`` section and its defaults
:mod:`.source`            data as they were read; joining given parts; the fingerprint
:mod:`.sources`           ``read``: one door for names, paths, arrays, frames, functions, datasets
:mod:`.bundled`           data sets that need no file
:mod:`.tables`            CSV, TSV, Parquet, Arrow files
:mod:`.pictures`          folders of images by class
:mod:`.arrays`            NumPy arrays, tensors, NPZ files
:mod:`.frames`            pandas, polars, pyarrow, dictionaries of columns
:mod:`.torch_datasets`    map-style torch datasets, kept lazy
:mod:`.functions`         ``package.module:function``
:mod:`.values`            raw columns to numbers and texts
:mod:`.columns`           the kind of each column
:mod:`.encoding`          the numbers that columns become; categories
:mod:`.labels`            class labels that come back as they went in
:mod:`.task`              regression, binary, multiclass: inferred, with the reason
:mod:`.split`             training, validation and test rows
:mod:`.schema`            everything prediction needs to know, as JSON
:mod:`.rotation`          scales of all inputs together: principal components, whitening
:mod:`.scaling`           scales, and the module that turns raw rows into network inputs
:mod:`.fitting`           categories, medians and scales from the training rows
:mod:`.streaming`         data larger than memory: stored tables, rows on disk
:mod:`.prepare`           all of it in order
:mod:`.batches`           mini-batches in an order that depends on seed and epoch alone
========================  ==========================================================================

>>> from descend.data.reader import read
>>> from descend.data.preparation import prepare
>>> prepared = prepare(read("iris"), seed=0)
>>> prepared.schema.task, tuple(prepared.train.inputs.shape)
('multiclass', (90, 4))
"""
