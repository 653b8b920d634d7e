import pytest


class TestReport:
    def test_it_is_written_anew(self, descend, tmp_path):
        assert descend("train", "iris", "--set", "stop.max_epochs=1", "--out", "run").status == 0
        (tmp_path / "run" / "report.html").unlink()
        result = descend("report", "run")
        assert (result.status, result.out.strip()) == (0, "run/report.html")
        assert "<html" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")

    @pytest.mark.parametrize("folder", ["nowhere", "."])
    def test_no_run(self, descend, folder):
        result = descend("report", folder)
        assert (result.status, result.out) == (2, "")
