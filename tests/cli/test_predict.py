import csv
import gzip
import io
import json

import numpy as np
import polars as pl
import pytest
from PIL import Image

from descend.runs.run import load

LABELS = ["cheap", "dear, very", "fair"]


def table(text):
    return list(csv.DictReader(io.StringIO(text)))


class TestPredict:
    def test_labels_come_back_as_they_went_in(self, descend, trained, houses, new_houses):
        folder, _ = trained
        result = descend("predict", folder, new_houses)
        assert (result.status, result.err) == (0, "")
        rows = table(result.out)
        assert list(rows[0]) == ["prediction", *(f"probability_{label}" for label in LABELS)]
        run = load(folder)
        assert [row["prediction"] for row in rows] == run.predict(str(new_houses)).tolist()
        found = np.array([[float(row[f"probability_{label}"]) for label in LABELS] for row in rows])
        np.testing.assert_allclose(found, run.predict_proba(str(new_houses)), rtol=1e-6)
        assert [LABELS[at] for at in found.argmax(1)] == [row["prediction"] for row in rows]

    def test_a_target_in_the_data_is_ignored(self, descend, trained, houses):
        folder, _ = trained
        rows = table(descend("predict", folder, houses).out)
        truth = [row["band"] for row in table(houses.read_text(encoding="utf-8"))]
        share = np.mean([row["prediction"] == true for row, true in zip(rows, truth, strict=True)])
        measured = descend("evaluate", folder, houses, "--json").json["metrics"]["accuracy"]
        assert share == pytest.approx(measured)

    @pytest.mark.parametrize(
        ("name", "read"),
        [
            ("p.csv", pl.read_csv),
            ("p.tsv", lambda path: pl.read_csv(path, separator="\t")),
            ("p.parquet", pl.read_parquet),
            ("p.JSON", lambda path: pl.DataFrame(json.loads(path.read_text()))),
        ],
    )
    def test_the_ending_says_how_to_write(self, descend, trained, new_houses, tmp_path, name, read):
        folder, _ = trained
        result = descend("predict", folder, new_houses, "--out", name)
        assert (result.status, result.out) == (0, "")
        expected = table(descend("predict", folder, new_houses).out)
        assert read(tmp_path / name)["prediction"].to_list() == [row["prediction"] for row in expected]
        assert [path.name for path in tmp_path.iterdir()] == [name]

    @pytest.mark.parametrize(
        ("name", "words"),
        [("p.xlsx", ".csv"), ("p", ".csv"), ("no/p.csv", "no such folder"), ("there.csv", "already exists")],
    )
    def test_a_file_that_cannot_be_written(self, descend, trained, new_houses, tmp_path, name, words):
        folder, _ = trained
        (tmp_path / "there.csv").write_text("mine")
        result = descend("predict", folder, new_houses, "--out", name)
        assert result.status == 2
        assert words in result.err
        assert (tmp_path / "there.csv").read_text() == "mine"
        assert [path.name for path in tmp_path.iterdir()] == ["there.csv"]

    def test_a_missing_column_is_named(self, descend, trained, tmp_path):
        folder, _ = trained
        (tmp_path / "few.csv").write_text("size,garden\n100,true\n")
        result = descend("predict", folder, "few.csv")
        assert result.status == 2
        assert "'city'" in result.err

    def test_a_city_and_a_gap_never_seen(self, descend, trained, tmp_path):
        folder, _ = trained
        (tmp_path / "odd.csv").write_text("size,city,garden\n100,Atlantis,true\n90,,\n")
        result = descend("predict", folder, "odd.csv")
        assert result.status == 0, result.err
        assert {row["prediction"] for row in table(result.out)} <= set(LABELS)

    @pytest.mark.slow
    def test_truth_values_and_several_targets(self, descend, tmp_path):
        drawn = np.random.default_rng(0)
        x = drawn.normal(size=80)
        frame = pl.DataFrame({"x": x, "sign": x > 0, "double": 2 * x, "square": x**2})
        frame.select("x", "sign").write_csv(tmp_path / "truth.csv")
        frame.select("x", "double", "square").write_csv(tmp_path / "numbers.csv")
        for name, target in (("truth", "sign"), ("numbers", "double,square")):
            arguments = ["--target", target, "--set", "stop.max_epochs=2", "--out", name]
            assert descend("train", f"{name}.csv", *arguments).status == 0
        truths = table(descend("predict", "truth", "truth.csv").out)
        assert list(truths[0]) == ["prediction", "probability_false", "probability_true"]
        assert {row["prediction"] for row in truths} <= {"true", "false"}
        numbers = table(descend("predict", "numbers", "numbers.csv").out)
        assert list(numbers[0]) == ["prediction_double", "prediction_square"]
        expected = load(tmp_path / "numbers").predict(str(tmp_path / "numbers.csv"))
        np.testing.assert_allclose(
            [[float(v) for v in row.values()] for row in numbers], expected, rtol=1e-12
        )

    @pytest.mark.slow
    def test_pictures_are_named(self, descend, tmp_path):
        drawn = np.random.default_rng(0)
        for label, low in (("dark", 0), ("light", 128)):
            (tmp_path / "pictures" / label).mkdir(parents=True)
            for at in range(12):
                pixels = drawn.integers(low, low + 128, size=(8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "pictures" / label / f"{at}.png")
        done = descend("train", "pictures", "--set", "stop.max_epochs=1", "--out", "run")
        assert done.status == 0, done.err
        assert "images of 1 × 8 × 8" in done.out
        rows = table(descend("predict", "run", "pictures").out)
        assert list(rows[0]) == ["file", "prediction", "probability_dark", "probability_light"]
        assert {row["file"].rsplit("/", 1)[-1] for row in rows} == {f"{at}.png" for at in range(12)}
        light = [row for row in rows if row["file"].startswith("light/")]
        paths = [f"pictures/light/{at}.png" for at in range(12)]
        some = table(descend("predict", "run", *paths[:3]).out)
        assert [row["file"] for row in some] == paths[:3]
        own = {row["file"]: row["probability_dark"] for row in light}
        assert [float(row["probability_dark"]) for row in some] == pytest.approx(
            [float(own[path.removeprefix("pictures/")]) for path in paths[:3]], rel=1e-5
        )
        assert len(table(descend("predict", "run", paths[0]).out)) == 1


@pytest.mark.parametrize("command", [["predict"], ["evaluate"], ["export", "--format", "pt2"]])
def test_no_such_run(descend, houses, command):
    result = descend(*command, "nowhere", *([] if "export" in command else [houses]))
    assert (result.status, result.out) == (2, "")
    assert "no such run folder: nowhere" in result.err


class TestReading:
    def test_columns_are_kept_as_the_file_has_them(self, descend, trained, new_houses, tmp_path):
        folder, _ = trained
        lines = new_houses.read_text(encoding="utf-8").splitlines()
        numbered = ["id," + lines[0], *(f"{at:04d},{line}" for at, line in enumerate(lines[1:]))]
        (tmp_path / "numbered.csv").write_text("\n".join(numbered), encoding="utf-8")
        rows = table(descend("predict", folder, "numbered.csv", "--keep", "id, garden").out)
        assert list(rows[0])[:3] == ["id", "garden", "prediction"]
        assert [row["id"] for row in rows] == [f"{at:04d}" for at in range(len(rows))]
        without = table(descend("predict", folder, new_houses).out)
        assert [row["prediction"] for row in rows] == [row["prediction"] for row in without]
        result = descend("predict", folder, "numbered.csv", "--keep", "ids")
        assert result.status == 2
        assert "no column 'ids' to keep; did you mean 'id'?" in result.err

    def test_a_compressed_file_and_an_encoding(self, descend, trained, new_houses, tmp_path):
        folder, _ = trained
        expected = descend("predict", folder, new_houses).out
        content = new_houses.read_bytes()
        (tmp_path / "new.csv.gz").write_bytes(gzip.compress(content))
        assert descend("predict", folder, "new.csv.gz").out == expected
        (tmp_path / "wide.csv").write_bytes(content.decode().encode("utf-16-le"))
        result = descend("predict", folder, "wide.csv")
        assert result.status == 2
        assert "--set data.encoding=utf-16-le" in result.err
        assert descend("predict", folder, "wide.csv", "--set", "data.encoding=utf-16-le").out == expected

    def test_notes_on_the_file_go_to_the_screen(self, descend, trained, new_houses, tmp_path):
        folder, _ = trained
        (tmp_path / "new.csv").write_bytes(b"# exported\n" + new_houses.read_bytes())
        result = descend("predict", folder, "new.csv")
        assert result.out == descend("predict", folder, new_houses).out
        assert "Note: 1 line before the header is skipped" in result.err

    @pytest.mark.parametrize(
        ("assignment", "words"),
        [
            ("data.scale=none", "data.scale cannot be set for new data"),
            ("stop.patience=3", "only keys of [data]"),
        ],
    )
    def test_settings_of_training_are_refused(self, descend, trained, new_houses, assignment, words):
        folder, _ = trained
        result = descend("predict", folder, new_houses, "--set", assignment)
        assert result.status == 2
        assert words in result.err

    def test_several_tables_are_refused(self, descend, trained, new_houses, houses):
        folder, _ = trained
        result = descend("predict", folder, new_houses, houses)
        assert result.status == 2
        assert "several files can be predicted at once only if all are images" in result.err
