"""For any input the readers return data or raise a single DataError."""

import datetime as dt
import io
import os
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from descend.data.preparation import prepare
from descend.data.preprocessing import Preprocess
from descend.data.schema import Schema
from descend.data.settings import DataSettings
from descend.data.sources import read
from descend.errors import DataError, RunError

fuzz = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "40")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def attempt(data, **options):
    """Return the prepared data, or None after a DataError; any other exception fails the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid data may cause any warning; the test is about exceptions
        try:
            source = read(data, **options)
            prepared = prepare(source)
        except DataError as refusal:
            message = str(refusal)
            if not 0 < len(message) < 5000:
                raise AssertionError(message) from refusal
            return None
    assert_sound(source, prepared)
    return prepared


def assert_sound(source, prepared):
    schema = prepared.schema
    assert Schema.from_json(schema.to_json()) == schema
    for part in (prepared.train, prepared.validation, prepared.test):
        assert torch.isfinite(part.inputs).all()
        assert torch.isfinite(part.targets.float()).all()
        assert part.inputs.shape[1:] == schema.input_shape
    encoded = Preprocess(schema)(schema.matrix(source))
    assert torch.equal(encoded[prepared.train.rows], prepared.train.inputs)
    if schema.classes:
        codes = prepared.train.targets.long()
        raw = source.targets.reshape(len(source), -1)[:, 0][prepared.train.rows]
        assert schema.labels[codes.numpy()].tolist() == raw.tolist()


CELL = st.one_of(
    st.sampled_from(
        ["", "NA", "1", "2.5", "-3e4", "inf", "nan", "true", "False", "red", "blue", "2024-01-05", '"', "'"]
    ),
    st.text(max_size=8),
    st.floats().map(str),
    st.integers().map(str),
)
NAMES = st.sampled_from(["a", "b", "y", "", "a b", "é", '"q"', "y "])


@st.composite
def csv_files(draw):
    separator = draw(st.sampled_from([",", ";", "\t", "|"]))
    width = draw(st.integers(1, 4))
    header = draw(st.lists(NAMES, min_size=width, max_size=width))
    rows = draw(st.lists(st.lists(CELL, min_size=width, max_size=width), max_size=25))
    if draw(st.booleans()) and rows:
        rows[draw(st.integers(0, len(rows) - 1))].append("extra")
    end = draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"]))
    return end.join(separator.join(row) for row in [header, *rows])


@fuzz
@given(text=csv_files(), target=NAMES, ending=st.sampled_from(["csv", "tsv"]))
def test_random_text_files(tmp_path, text, target, ending):
    path = tmp_path / f"data.{ending}"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    attempt(path, target=target)


@fuzz
@given(
    content=st.one_of(
        st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "ignore"))
    )
)
@pytest.mark.parametrize("ending", ["csv", "npz", "parquet", "arrow"])
def test_random_bytes(tmp_path, ending, content):
    path = tmp_path / f"data.{ending}"
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    attempt(path, target="y")


def valid_files():
    random = np.random.default_rng(0)
    frame = pl.DataFrame(
        {"a": random.normal(size=30), "c": ["x", "y", "z"] * 10, "y": random.normal(size=30)}
    )
    files = {}
    for ending, write in (
        ("parquet", frame.write_parquet),
        ("arrow", frame.write_ipc),
        ("csv", frame.write_csv),
    ):
        buffer = io.BytesIO()
        write(buffer)
        files[ending] = buffer.getvalue()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, X=random.normal(size=(30, 2)), y=np.arange(30) % 3)
    files["npz"] = buffer.getvalue()
    return files


FILES = valid_files()


@fuzz
@given(data=st.data())
@pytest.mark.parametrize("ending", ["csv", "npz"])
def test_damaged_files(tmp_path, ending, data):
    content = bytearray(FILES[ending])
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    path = tmp_path / f"data.{ending}"
    path.unlink(missing_ok=True)
    path.write_bytes(bytes(content))
    attempt(path, target=None if ending == "npz" else "y")


DAMAGE = """
import sys
from pathlib import Path
import numpy as np
from descend.data.table_files import read_table
from descend.errors import DataError

path = Path(sys.argv[1])
whole = path.read_bytes()
for seed in range(int(sys.argv[2]), int(sys.argv[3])):
    print(seed, flush=True)
    random = np.random.default_rng(seed)
    content = bytearray(whole)
    for _ in range(random.integers(1, 4)):
        content[random.integers(len(content))] = random.integers(256)
    path.unlink()
    path.write_bytes(content[: random.integers(len(content))] if seed % 3 == 0 else content)
    try:
        read_table(path)
    except DataError as refusal:
        assert path.name in str(refusal)
"""


def categories_of_pandas(ending):
    """Return a file with ordered categories, which pyarrow reads too."""
    sizes = pd.Categorical(["low", "mid", "high"] * 10, ["low", "mid", "high"], ordered=True)
    frame = pd.DataFrame({"a": np.arange(30.0) ** 2, "c": sizes, "y": np.arange(30.0)})
    buffer = io.BytesIO()
    (frame.to_parquet if ending == "parquet" else frame.to_feather)(buffer)
    return buffer.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("categories", [False, True])
@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_damaged_binary_tables(tmp_path, ending, categories):
    """In a subprocess: about one Parquet file in 3,000 makes polars request exabytes of memory, which aborts the process."""
    path = tmp_path / f"data.{ending}"
    start, end = 0, 10 * int(os.environ.get("FUZZ_EXAMPLES", "40"))
    while start < end:
        path.write_bytes(categories_of_pandas(ending) if categories else FILES[ending])
        child = [sys.executable, "-c", DAMAGE, str(path), str(start), str(end)]
        result = subprocess.run(child, capture_output=True, text=True, check=False)
        if result.returncode == 0:
            return
        assert ending == "parquet"
        assert "memory allocation of" in result.stderr, result.stderr[-3000:]
        start = int(result.stdout.split()[-1]) + 1


@pytest.mark.slow
@fuzz
@given(data=st.data())
@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "tif"])
def test_damaged_images(tmp_path, ending, data):
    image = pytest.importorskip("PIL.Image")
    for name in ("cat", "dog"):
        for number in range(3):
            path = tmp_path / name / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            image.fromarray(np.full((8, 8, 3), 40 * number, dtype=np.uint8)).save(path)
    buffer = io.BytesIO()
    image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(
        buffer, {"jpg": "jpeg", "tif": "tiff"}.get(ending, ending)
    )
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "cat" / f"damaged.{ending}").write_bytes(bytes(content))
    attempt(tmp_path)


VALUE = {
    "float": st.floats(),
    "sane float": st.floats(-1e6, 1e6),
    "integer": st.integers(-(2**70), 2**70),
    "small": st.integers(0, 3),
    "truth": st.booleans(),
    "text": st.text(max_size=6),
    "word": st.sampled_from(["red", "green", "blue", "NA"]),
    "date": st.dates(),
    "instant": st.datetimes(),
    "span": st.timedeltas(),
    "number text": st.floats().map(str),
    "date text": st.dates().map(str),
    "list": st.lists(st.integers(), max_size=2),
    "bytes": st.binary(max_size=3),
    "decimal": st.decimals(allow_nan=True, allow_infinity=True),
    "mixed": st.one_of(st.integers(), st.text(max_size=3), st.booleans(), st.none(), st.dates()),
}


@st.composite
def frames(draw):
    height = draw(st.integers(0, 25))
    columns = {}
    for name in draw(st.lists(st.sampled_from(["a", "b", "c", "y"]), unique=True, max_size=4)):
        value = VALUE[draw(st.sampled_from(list(VALUE)))]
        if draw(st.booleans()):
            value = st.one_of(value, st.none())
        columns[name] = draw(st.lists(value, min_size=height, max_size=height))
    return columns


@fuzz
@given(columns=frames())
def test_random_columns_of_python_values(columns):
    attempt(columns, target="y")


@pytest.mark.slow
@fuzz
@given(columns=frames())
def test_random_polars_frames(columns):
    try:
        frame = pl.DataFrame(columns, strict=False)
    except (TypeError, OverflowError, ValueError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return  # polars does not support these values
    attempt(frame, target="y")


@pytest.mark.slow
@fuzz
@given(columns=frames())
def test_random_pandas_frames(columns):
    import pandas

    frame = pandas.DataFrame(columns)
    attempt(frame, target="y")
    attempt(frame.convert_dtypes(), target="y")


DTYPES = ["f2", "f4", "f8", "i1", "u8", "i8", "?", "U3", "O", "c8", "M8[D]", "m8[s]", "S2", ">f8", "g"]


@fuzz
@given(
    dtypes=st.tuples(st.sampled_from(DTYPES), st.sampled_from(DTYPES)),
    shape=st.lists(st.integers(0, 5), min_size=0, max_size=4),
    rows=st.integers(0, 30),
    seed=st.integers(0, 100),
)
def test_random_arrays(dtypes, shape, rows, seed):
    random = np.random.default_rng(seed)

    def array(dtype, shape):
        values = random.integers(0, 4, shape)
        if np.dtype(dtype).kind in "fg" and random.random() < 0.7:
            with np.errstate(all="ignore"):
                values = values * random.choice([1e-300, 0.1, 1.0, 1e30, 1e300, np.inf, np.nan])
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy warns about casts that overflow
            return values.astype(dtype)

    attempt((array(dtypes[0], (rows, *shape)), array(dtypes[1], (rows,))))


@fuzz
@given(text=st.text(max_size=30))
def test_random_names(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    if text.strip("./\\") == "":
        return
    assert attempt(text) is None


@pytest.mark.slow
@fuzz
@given(frame=frames(), more=frames())
def test_a_fitted_schema_accepts_or_refuses_any_other_frame(frame, more):
    prepared = attempt(frame, target="y")
    if prepared is None:
        return
    try:
        matrix = prepared.schema.matrix(more)
    except DataError:
        return
    assert torch.isfinite(prepared.preprocess(matrix)).all()


@fuzz
@given(data=st.data())
def test_damaged_schemas(data):
    text = list(SCHEMA.to_json())
    for _ in range(data.draw(st.integers(1, 3))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.sampled_from('0-1.e"[]{},:aN'))
    try:
        schema = Schema.from_json("".join(text))
    except RunError:
        return
    Preprocess(schema)


DAYS = [str(dt.date(2024, 1, 1 + i % 28)) for i in range(40)]
SCHEMA = prepare(
    read({"a": np.arange(40.0) ** 2, "c": ["x", None] * 20, "d": DAYS, "y": ["u", "v"] * 20}, target="y"),
    DataSettings(clip=3.0),
).schema
