class TestExport:
    def test_the_file_is_named(self, descend, trained, tmp_path, monkeypatch):
        calls = []

        def export(self, format, path=None):
            calls.append((self.path, format, path))
            return tmp_path / "made"

        monkeypatch.setattr("descend.runs.run.Run.export", export)
        folder, _ = trained
        result = descend("export", folder, "--format", "onnx")
        assert (result.status, result.out.strip()) == (0, str(tmp_path / "made"))
        descend("export", folder, "--format", "pt2", "--out", "there.pt2")
        assert [(path, format, str(out)) for path, format, out in calls] == [
            (folder, "onnx", "None"),
            (folder, "pt2", "there.pt2"),
        ]

    def test_nothing_is_overwritten(self, descend, trained, tmp_path):
        folder, _ = trained
        (tmp_path / "there.pt2").write_text("mine")
        result = descend("export", folder, "--format", "pt2", "--out", "there.pt2")
        assert result.status == 2
        assert (tmp_path / "there.pt2").read_text() == "mine"
