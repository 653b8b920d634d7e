import gzip
import io

import pytest

from descend.runs.run import load


class TestEvaluate:
    def test_the_metrics_are_those_of_python(self, descend, trained, houses):
        folder, _ = trained
        answer = descend("evaluate", folder, houses, "--json").json
        assert answer["metrics"] == pytest.approx(load(folder).evaluate(str(houses)))
        assert (answer["rows"], answer["task"], answer["run"]) == (240, "multiclass", str(folder))

    def test_what_people_see(self, descend, trained, houses):
        folder, _ = trained
        accuracy = load(folder).evaluate(str(houses))["accuracy"]
        result = descend("evaluate", folder, houses)
        assert "houses.csv" in result.out
        assert f"{100 * accuracy:.1f} %" in result.out

    def test_a_target_by_another_name(self, descend, trained, houses, tmp_path):
        folder, _ = trained
        text = houses.read_text(encoding="utf-8").replace("garden,band", "garden,class", 1)
        (tmp_path / "renamed.csv").write_text(text, encoding="utf-8")
        wrong = descend("evaluate", folder, "renamed.csv")
        assert wrong.status == 2
        assert "'band'" in wrong.err
        right = descend("evaluate", folder, "renamed.csv", "--target", "class", "--json")
        assert right.json["metrics"] == descend("evaluate", folder, houses, "--json").json["metrics"]

    def test_an_undefined_metric_is_null_and_a_dash(self, descend, trained, houses, tmp_path):
        """Rows of one class have no balanced accuracy."""
        folder, _ = trained
        lines = houses.read_text(encoding="utf-8").splitlines()
        first = lines[1].rpartition(",")[2]
        rows = [line for line in lines[1:] if line.endswith(f",{first}")]
        (tmp_path / "one.csv").write_text("\n".join([lines[0], *rows]), encoding="utf-8")
        metrics = descend("evaluate", folder, "one.csv", "--json").json["metrics"]
        assert metrics["balanced_accuracy"] is None
        assert metrics["roc_auc"] is None
        assert isinstance(metrics["accuracy"], float)
        shown = descend("evaluate", folder, "one.csv").out
        assert any(line.split() == ["balanced", "accuracy", "–"] for line in shown.splitlines())

    def test_rows_without_a_target_are_left_out_on_request(self, descend, trained, houses, tmp_path):
        folder, _ = trained
        header, *rows = houses.read_text(encoding="utf-8").splitlines()
        gaps = [
            row.rpartition(",")[0].removesuffix(',"dear') + "," if at in (3, 5) else row
            for at, row in enumerate(rows)
        ]
        (tmp_path / "gaps.csv").write_text("\n".join([header, *gaps]), encoding="utf-8")
        kept = [row for at, row in enumerate(rows) if at not in (3, 5)]
        (tmp_path / "kept.csv").write_text("\n".join([header, *kept]), encoding="utf-8")
        refused = descend("evaluate", folder, "gaps.csv")
        assert refused.status == 2
        assert "rows 3, 5 (lines 5, 7) have no value" in refused.err
        assert "--set data.drop_missing_targets=true" in refused.err
        result = descend("evaluate", folder, "gaps.csv", "--json", "--set", "data.drop_missing_targets=true")
        assert "2 rows without a target are not used" in result.err
        expected = descend("evaluate", folder, "kept.csv", "--json").json
        assert (result.json["rows"], result.json["metrics"]) == (238, expected["metrics"])

    def test_data_come_from_standard_input(self, descend, trained, houses, monkeypatch):
        folder, _ = trained
        expected = descend("evaluate", folder, houses, "--json").json["metrics"]
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(houses.read_bytes())))
        assert descend("evaluate", folder, "-", "--json").json["metrics"] == expected
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(houses.read_bytes()))))
        assert descend("evaluate", folder, "-", "--json").json["metrics"] == expected
