"""Data larger than memory: the same schema, rows, order and bits as in memory, with bounded memory."""

import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from tests.support.stop_at import StopAt

import descend
from descend.cli import main
from descend.data import batches as batches_module
from descend.data import preparation as preparation_module
from descend.data.batches import Batch, MemoryBatches, MovedBatches, Order
from descend.data.columns import infer
from descend.data.encoding import StoredColumns
from descend.data.preparation import prepare
from descend.data.settings import DataSettings
from descend.data.sources import read
from descend.data.streaming import StoredTable, mapped
from descend.errors import DataError, Interrupted, RecipeError
from descend.runs.build import evaluation_batches, part_batches

ROWS = 400
RECIPE: dict[str, Any] = {
    "model": {"hidden": [8], "dropout": 0.2},
    "data": {"batch_size": 32},
    "stop": {"max_epochs": 2},
    "engine": {"threads": 1, "device": "cpu"},
}
STREAM: dict[str, Any] = {**RECIPE, "data": {"batch_size": 32, "stream": True}}


def people() -> pl.DataFrame:
    """Return a table with every kind of column, with missing values, and with columns that are not used."""
    draw = np.random.default_rng(0)
    gap = draw.random((5, ROWS)) < 0.1
    age, city = draw.normal(40, 12, ROWS), draw.choice(["Ulm", "Bonn", "Köln", "Rom"], ROWS)
    born = [datetime.date(1980, 1, 1) + datetime.timedelta(int(day)) for day in draw.integers(0, 9000, ROWS)]

    def holed(values, at):
        return [None if g else v for g, v in zip(gap[at], values, strict=True)]

    return pl.DataFrame(
        {
            "age": holed(age.tolist(), 0),
            "city": holed(city.tolist(), 1),
            "member": holed((age > 50).tolist(), 2),
            "born": holed(born, 3),
            "as text": holed([f"{v:.3f}" for v in draw.normal(size=ROWS)], 4),
            "source": ["file"] * ROWS,
            "income": draw.lognormal(3, 1, ROWS),
            "weight": draw.uniform(0.5, 2, ROWS),
            "buys": np.where(age / 40 + (city == "Bonn") > 1.2, "yes", "no"),
        }
    )


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("tables") / "people.parquet"
    people().write_parquet(path, row_group_size=64)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    draw = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (root / label).mkdir()
        for at in range(30):
            pixels = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8) // (2 if label == "cat" else 1)
            Image.fromarray(pixels).save(root / label / f"{at}.png")
    return root


def weights(run):
    return {name: value.clone() for name, value in run.model.state_dict().items()}


def same(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


class TestEqualToMemory:
    @pytest.mark.parametrize(
        "more", [{}, {"scale": "minmax"}, {"weights": "weight"}, {"columns": {"age": "ignore"}}]
    )
    def test_schema_split_and_rows_equal_those_in_memory(self, table, more):
        prepared = {}
        for stream in (False, True):
            settings = DataSettings(target="buys", stream=stream, **more)
            prepared[stream] = prepare(read(str(table), settings=settings), settings, seed=3)
        memory, disk = prepared[False], prepared[True]
        assert disk.schema == memory.schema  # including the fingerprint of the content
        assert disk.notes == memory.notes
        for part in ("train", "validation", "test"):
            one, other = getattr(disk, part), getattr(memory, part)
            assert torch.equal(one.inputs, other.inputs)
            assert torch.equal(one.targets, other.targets)
            assert np.array_equal(one.rows, other.rows)
            assert (one.weights is None) == (other.weights is None)
            assert one.weights is None or torch.equal(one.weights, other.weights)
            assert one.stored
            assert not other.stored

    def test_training_gives_the_same_bits(self, table, tmp_path):
        memory = descend.train(table, RECIPE, target="buys", seed=2)
        disk = descend.train(table, STREAM, target="buys", seed=2, out=tmp_path / "run")
        assert same(weights(memory), weights(disk))
        assert memory.metrics["test"] == disk.metrics["test"]
        assert memory.evaluation == disk.evaluation
        again = descend.load(tmp_path / "run")
        assert again.predict(table).tolist() == disk.predict(table).tolist()
        assert again.evaluate(table) == disk.evaluate(table)

    def test_images_give_the_same_bits(self, folder):
        recipe = {**RECIPE, "model": {"channels": [4], "dense": [6]}}
        stream = {**recipe, "data": {"batch_size": 32, "stream": True, "augment": ["flip", "noise"]}}
        memory = {**recipe, "data": {"batch_size": 32, "augment": ["flip", "noise"]}}
        one, other = (descend.train(folder, each, seed=2) for each in (stream, memory))
        assert same(weights(one), weights(other))
        assert one.schema == other.schema

    @pytest.mark.slow
    def test_blocks_are_shuffled_from_disk_as_from_memory_and_resumed(self, table, tmp_path, monkeypatch):
        monkeypatch.setattr("descend.runs.build.BLOCK_BYTES", 15 * 4 * 8)  # eight rows
        monkeypatch.setattr("descend.runs.build.BLOCKS_IN_WINDOW", 4)
        plain = descend.train(table, RECIPE, target="buys", seed=2)
        memory, disk = ({**each, "data": {**each["data"], "shuffle": "blocks"}} for each in (RECIPE, STREAM))
        whole = descend.train(table, disk, target="buys", seed=2)
        assert same(weights(whole), weights(descend.train(table, memory, target="buys", seed=2)))
        assert not same(weights(whole), weights(plain))
        for step in (3, 11):
            out = tmp_path / str(step)
            with pytest.raises(Interrupted):
                descend.train(table, disk, target="buys", seed=2, out=out, observers=[StopAt(step)])
            assert same(weights(whole), weights(descend.train(table, out=out, resume=True))), step

    @pytest.mark.slow
    def test_stopping_at_any_step_and_resuming_gives_the_same_bits(self, table, tmp_path):
        whole = descend.train(table, STREAM, target="buys", seed=2)
        for step in range(1, whole.metrics["steps"], 3):
            out = tmp_path / str(step)
            with pytest.raises(Interrupted):
                descend.train(table, STREAM, target="buys", seed=2, out=out, observers=[StopAt(step)])
            assert same(weights(whole), weights(descend.train(table, out=out, resume=True))), step

    @pytest.mark.slow
    def test_killing_and_resuming_gives_the_same_bits(self, table, tmp_path):
        program = textwrap.dedent("""
            import json, os, signal, sys
            import descend
            from descend.training.observers import Quiet

            class KillAt(Quiet):
                def stepped(self, training):
                    if training.step == 13:
                        os.kill(os.getpid(), signal.SIGKILL)

            recipe = json.loads(sys.argv[2]) | {"checkpoint": {"every_seconds": 0.0}}
            descend.train(sys.argv[1], recipe, target="buys", seed=2, out=sys.argv[3], observers=[KillAt()])
        """)
        out = tmp_path / "run"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", program, str(table), json.dumps(STREAM), str(out)],
            env=environment, check=False, capture_output=True,
        )  # fmt: skip
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert [each.name for each in tmp_path.iterdir()] == ["run"]  # nothing is left of the temporary files
        whole = descend.train(table, STREAM, target="buys", seed=2)
        assert same(weights(whole), weights(descend.train(table, out=out, resume=True)))


class TestBoundedMemory:
    def test_columns_one_by_one_and_rows_in_blocks(self, table, monkeypatch):
        blocks, columns, files = [], [], []
        rows, column = StoredTable.rows, StoredTable.__getitem__
        monkeypatch.setattr(preparation_module, "_BLOCK", 50)
        monkeypatch.setattr(
            preparation_module, "mapped", lambda *arguments: files.append(mapped(*arguments)) or files[-1]
        )
        monkeypatch.setattr(
            StoredTable,
            "rows",
            lambda self, start, stop: blocks.append(stop - start) or rows(self, start, stop),
        )
        monkeypatch.setattr(
            StoredTable, "__getitem__", lambda self, name: columns.append(name) or column(self, name)
        )
        settings = DataSettings(target="buys", stream=True)
        prepared = prepare(read(str(table), settings=settings), settings)
        assert blocks == [50] * 8
        assert set(columns) == set(people().columns)
        parts = (prepared.train, prepared.validation, prepared.test)
        assert [part.inputs.data_ptr() for part in parts] == [array.ctypes.data for array in files]
        assert all(isinstance(array, np.memmap) for array in files)

    def test_columns_are_inferred_without_being_kept(self, table):
        stored = StoredTable.open(table)
        columns, parsed = infer(stored, DataSettings())
        expected, values = infer(people(), DataSettings())
        assert columns == expected
        assert parsed.columns == values.columns
        assert (parsed.height, values.height) == (0, ROWS)
        kept = StoredColumns(stored, columns, DataSettings().missing)
        assert all(kept[name].equals(values[name]) for name in values.columns)
        assert kept[100:140].equals(values[100:140])

    def test_batches_hold_no_more_than_a_window(self, table, monkeypatch):
        settings = DataSettings(target="buys", stream=True)
        prepared = prepare(read(str(table), settings=settings), settings)
        width = prepared.train.inputs.shape[1]
        window = 4 * 16 * width * 4  # of four batches
        monkeypatch.setattr(batches_module, "CHUNK_BYTES", window + 4 * 16 * 8)
        built: Any = part_batches(prepared.train, Order(len(prepared.train), 16, seed=1), torch.device("cpu"))
        assert built.tensors[0] is prepared.train.inputs  # no copy of all rows
        sizes = {batch.inputs.untyped_storage().nbytes() for step in built.epoch(0) for batch in step}
        assert max(sizes) <= window
        assert evaluation_batches(prepared.test, torch.device("cpu"))()[0].inputs is prepared.test.inputs

    def test_moved_batches_equal_the_batches(self):
        inner = MemoryBatches(
            torch.arange(20.0)[:, None], torch.arange(20), torch.ones(20), Order(20, 4, 2, seed=1)
        )
        moved = MovedBatches(inner, torch.device("cpu"))
        assert moved.steps_per_epoch == inner.steps_per_epoch
        assert moved.rows_per_step == inner.rows_per_step
        assert [rows.tolist() for rows in moved.rows(1, 2)] == [rows.tolist() for rows in inner.rows(1, 2)]
        for one, other in zip(moved.epoch(1, 1), inner.epoch(1, 1), strict=True):
            for batch, expected in zip(one, other, strict=True):
                assert isinstance(batch, Batch)
                assert all(torch.equal(a, b) for a, b in zip(batch, expected, strict=True))
        meta = next(MovedBatches(inner, torch.device("meta")).epoch(0))
        assert meta[0].inputs.device.type == "meta"


class TestMapped:
    def test_is_an_array_that_leaves_no_file(self, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        rows = mapped((5, 3), np.float32)
        rows[:] = np.arange(15).reshape(5, 3)
        tensor = torch.from_numpy(rows)
        tensor += 1
        assert rows.sum() == 15 * 8
        assert isinstance(rows, np.memmap)
        assert not list(tmp_path.iterdir())
        assert mapped((0, 3), np.float32).shape == (0, 3)

    def test_missing_disk_space_is_reported_at_once(self, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        free = shutil.disk_usage(tmp_path).free
        with pytest.raises(
            DataError, match=r"streaming needs .* GB of disk space for temporary files in .*set TMPDIR"
        ):
            mapped((free + 10**12,), np.uint8)


class TestRefused:
    def message(self, data, error=DataError, **more):
        settings = DataSettings(stream=True, **more)
        with pytest.raises(error) as caught:
            prepare(read(data, settings=settings), settings)
        return str(caught.value)

    def test_files_that_are_not_parquet(self, tmp_path):
        people().write_csv(tmp_path / "people.csv")
        assert "reads Parquet files and folders of images" in self.message(
            str(tmp_path / "people.csv"), target="buys"
        )
        (tmp_path / "bad.parquet").write_bytes(b"PAR1 and nothing more")
        assert "cannot be read as Parquet" in self.message(tmp_path / "bad.parquet", target="buys")
        people().clear().write_parquet(tmp_path / "empty.parquet")
        assert "has no rows" in self.message(tmp_path / "empty.parquet", target="buys")

    def test_data_already_in_memory(self):
        assert "already in memory" in self.message((np.zeros((9, 2)), np.arange(9)))
        assert "already in memory" in self.message(people(), target="buys")
        assert "already in memory" in self.message("iris")

    def test_scales_of_all_inputs_together(self, table):
        message = self.message(table, RecipeError, target="buys", scale="zca")
        assert "'zca' needs all inputs of all rows in memory" in message

    def test_an_unknown_target(self, table):
        assert "no column 'bys'; did you mean 'buys'?" in self.message(table, target="bys")

    def test_parts_in_several_files(self, table):
        with pytest.raises(DataError, match=r"data\.stream reads one file; specify the column"):
            descend.train(table, STREAM, target="buys", test=str(table))


def test_on_the_command_line(table, tmp_path):
    status = main(
        ["train", str(table), "--target", "buys", "--set", "data.stream=true", "--set", "stop.max_epochs=1",
         "--quiet", "--out", str(tmp_path / "run")]
    )  # fmt: skip
    assert status == 0
    assert descend.load(tmp_path / "run").predict(people()).shape == (ROWS,)
