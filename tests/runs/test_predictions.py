import numpy as np
import polars as pl
import pytest

import descend
from descend.errors import DataError, UserError
from descend.runs.predictions import reading_settings

RECIPE = {"stop": {"max_epochs": 2}, "model": {"hidden": [4]}, "engine": {"threads": 1}}
FRAME = pl.DataFrame(
    {
        "id": [f"{at:03d}" for at in range(30)],
        "x": np.arange(30) * 0.5,
        "größe": ["é", "ß"] * 15,
        "y": [0, 1] * 15,
    }
)


@pytest.fixture(scope="module")
def run():
    return descend.train(FRAME.drop("id"), RECIPE, target="y")


class TestPredictions:
    def test_the_table_holds_what_predict_returns(self, run):
        table = run.predictions(FRAME)
        assert table.columns == ["prediction", "probability_0", "probability_1"]
        assert table["prediction"].to_list() == run.predict(FRAME).tolist()
        assert np.array_equal(
            table.select("probability_0", "probability_1").to_numpy(), run.predict_proba(FRAME)
        )

    def test_columns_are_carried_through(self, run, tmp_path):
        FRAME.write_csv(tmp_path / "a.csv")
        for data in (FRAME, tmp_path / "a.csv"):
            table = run.predictions(data, keep=["id", "größe"])
            assert table.columns[:3] == ["id", "größe", "prediction"]
            assert table["id"].to_list() == FRAME["id"].to_list()
        assert run.predictions(FRAME, keep="id").columns[:2] == ["id", "prediction"]

    def test_names_that_are_taken_get_a_prefix(self, run):
        frame = FRAME.with_columns(prediction=pl.lit("before"), probability_0=pl.lit(0.25))
        table = run.predictions(frame, keep=["prediction", "probability_0"])
        assert table.columns[:3] == ["kept_prediction", "kept_probability_0", "prediction"]

    def test_rows_without_a_name_for_columns_are_refused(self, run):
        with pytest.raises(DataError, match="no column 'ID' to keep; did you mean 'id'"):
            run.predictions(FRAME, keep=["ID"])
        with pytest.raises(DataError, match="need data with column names"):
            run.predictions([[1.0, "é"]], keep=["id"])


class TestReadingSettings:
    def test_a_file_is_read_as_specified(self, run, tmp_path):
        (tmp_path / "a.csv").write_bytes(FRAME.write_csv(separator=":").encode("cp1252"))
        with pytest.raises(DataError, match="line 1 is not UTF-8"):
            run.predict(tmp_path / "a.csv")
        settings = {"encoding": "cp1252", "data.separator": ":"}
        assert run.predict(tmp_path / "a.csv", settings=settings).tolist() == run.predict(FRAME).tolist()
        assert run.predict_proba(tmp_path / "a.csv", settings=settings).shape == (30, 2)

    def test_rows_without_a_target_are_left_out(self, run):
        frame = FRAME.with_columns(y=pl.when(pl.col("x") < 2).then(None).otherwise("y"))
        with pytest.raises(DataError, match=r"rows 0, 1, 2, 3 have no value"):
            run.evaluate(frame)
        found = run.evaluate(frame, settings={"drop_missing_targets": True})
        assert found == run.evaluate(FRAME[4:])

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"scale": "none"}, r"data\.scale cannot be set for new data"),
            ({"encodng": "utf-8"}, "did you mean 'encoding'"),
            ({"encoding": 3}, r"data\.encoding: expected a string, got 3"),
            ({"separator": "::"}, r"data\.separator: expected"),
        ],
    )
    def test_other_settings_are_refused(self, settings, message):
        with pytest.raises(UserError, match=message):
            reading_settings(settings)

    def test_nothing_specified(self):
        assert reading_settings(None) is None
        assert reading_settings({}) is None

    def test_the_encoding_of_training_is_expected_of_new_files(self, tmp_path):
        (tmp_path / "a.csv").write_bytes(FRAME.write_csv().encode("cp1252"))
        (tmp_path / "b.csv").write_bytes(FRAME.write_csv().encode())
        run = descend.train(tmp_path / "a.csv", {**RECIPE, "data": {"encoding": "cp1252"}}, target="y")
        assert run.schema.encoding == "cp1252"
        assert run.predict(tmp_path / "a.csv").tolist() == run.predict(tmp_path / "b.csv").tolist()
        assert (
            run.predictions(tmp_path / "a.csv", keep="größe")["größe"].to_list() == FRAME["größe"].to_list()
        )
