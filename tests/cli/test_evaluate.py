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
