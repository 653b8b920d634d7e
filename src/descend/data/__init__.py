"""From a file, a data frame or arrays to batches of tensors.

The path of a CSV file, in the order of the calls:

1. **Source** (:mod:`.sources`, :mod:`.table_files`): :func:`read` parses the file and takes the target column out.
   The result is a :class:`Source`: raw columns, raw targets, nothing inferred or fitted yet.
2. **Split** (:mod:`.task`, :mod:`.split`): :func:`prepare` infers the task from the targets, and divides the rows into
   training, validation and test rows.
3. **Columns** (:mod:`.columns`, :mod:`.parsing`): it infers the kind of each column from its values.
4. **Fit** (:mod:`.fitting`, :mod:`.scaling`): it computes categories, medians and scales from the training rows only.
   The result is a :class:`Schema`, which is saved as ``schema.json``.
5. **Encode** (:mod:`.encoding`, :mod:`.preprocessing`): :class:`Preprocess`, a module built from the schema, turns raw
   rows into float32 tensors, one :class:`Part` for each part of the split.
6. **Batches** (:mod:`.batches`): the training loop reads the rows of a part in batches, in an order that depends on
   seed and epoch only.

==========================  ========================================================================
**Reading**
:mod:`.sources`             ``read``: data of any form as a ``Source``
:mod:`.source`              ``Source``: raw data; joining the parts of a given split; the fingerprint
:mod:`.table_sources`       tables as sources: targets, weights, groups and split are taken out
:mod:`.table_files`         table files of any format
:mod:`.text_files`          where the table of a text file begins
:mod:`.separator`           the separator of a text file
:mod:`.encodings`           the character encoding of a text file
:mod:`.compression`         compressed files
:mod:`.json_files`          tables in JSON
:mod:`.workbooks`           tables in workbooks of Excel and OpenDocument
:mod:`.arrow_orders`        the order of categories in Parquet and Arrow files
:mod:`.parts`               tables in several files; columns that are kept
:mod:`.standard_input`      data from standard input
:mod:`.missing_targets`     rows without a target
:mod:`.image_folders`       folders of images, one subfolder per class; single images
:mod:`.pixel_depth`         images with more than 8 bits per pixel
:mod:`.arrays`              NumPy arrays, tensors, NPZ files
:mod:`.frames`              pandas, polars and pyarrow data frames, dictionaries of columns
:mod:`.torch_datasets`      map-style torch datasets, whose items stay lazy
:mod:`.functions`           data returned by a function, ``package.module:function``
:mod:`.bundled`             data sets that need no file
:mod:`.streaming`           data larger than memory: tables read in pieces, rows stored on disk
**Inference and fitting**
:mod:`.training_data`       ``TrainingData``: the arguments of ``train`` about the data, in one object
:mod:`.settings`            the ``[data]`` section of a recipe and its defaults
:mod:`.preparation`         ``prepare``: steps 2 to 5 above
:mod:`.task`                regression, binary or multiclass: inferred, with the reason
:mod:`.columns`             the kind of each column
:mod:`.declared_kinds`      the kinds that users declare, checked
:mod:`.column`              ``Column``: its kind, and what is fitted on the training rows
:mod:`.ordered`             ordered categories
:mod:`.identifiers`         columns that only identify the rows
:mod:`.parsing`             raw column values as numbers, booleans, instants or strings
:mod:`.dates`               dates and times of day from the cells of a column
:mod:`.durations`           durations from the cells of a column
:mod:`.date_reading`        how a column of dates is read, decided from all of its cells
:mod:`.date_parts`          hour, weekday, month and other parts of dates as inputs
:mod:`.text`                the n-grams of text columns, fitted on the training rows
:mod:`.class_weights`       weights of classes
:mod:`.older_schemas`       names in schemas of earlier versions
:mod:`.ngrams`              hashed word and character n-grams of texts
:mod:`.labels`              class labels and their codes
:mod:`.split`               training, validation and test rows
:mod:`.fitting`             categories, medians and scales from the training rows
:mod:`.scaling`             scales of each input: standard, center, minmax
:mod:`.decorrelation`       scales of all inputs together: PCA, whitening, ZCA
:mod:`.schema`              everything prediction needs to know about the data, as JSON
**Encoding**
:mod:`.encoding`            parsed columns as a matrix of numbers
:mod:`.preprocessing`       modules from raw rows to network inputs, and from outputs to predictions
:mod:`.batches`             mini-batches in a reproducible order
**Messages**
:mod:`.messages`            values and row numbers as error messages show them
:mod:`.row_numbers`         rows by their number in the data and their line in the file
:mod:`.spellings`           labels and categories that differ only in capitals or blanks
==========================  ========================================================================

>>> from descend.data import prepare, read
>>> prepared = prepare(read("iris"), seed=0)
>>> prepared.schema.task, tuple(prepared.train.inputs.shape)
('multiclass', (90, 4))

Names are imported when they are first used, so that ``import descend.data`` loads neither torch nor NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from descend.data.preparation import Part, Prepared, encode_source, prepare
    from descend.data.preprocessing import Postprocess, Preprocess
    from descend.data.schema import Schema
    from descend.data.settings import DataSettings
    from descend.data.source import Source
    from descend.data.sources import read
    from descend.data.training_data import TrainingData

__all__ = [
    "DataSettings",
    "Part",
    "Postprocess",
    "Prepared",
    "Preprocess",
    "Schema",
    "Source",
    "TrainingData",
    "encode_source",
    "prepare",
    "read",
]

_MODULES = {
    "DataSettings": "settings",
    "Part": "preparation",
    "Postprocess": "preprocessing",
    "Prepared": "preparation",
    "Preprocess": "preprocessing",
    "Schema": "schema",
    "Source": "source",
    "TrainingData": "training_data",
    "encode_source": "preparation",
    "prepare": "preparation",
    "read": "sources",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"descend.data.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'descend.data' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*__all__, *globals()])
