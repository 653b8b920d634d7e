import json
import re
from pathlib import Path

import pytest

import descend as package
from descend.experiments.search import Space

FAST = ("--set", "stop.max_epochs=3", "--set", "engine.threads=1", "--engine", "loop")
SPACE = "optimizer.lr = { log_uniform = [1e-3, 1e-1] }\nmodel.hidden = [[8], [16]]\n"
DOCS = Path(package.__file__).parents[2] / "docs" / "search.md"


@pytest.fixture
def space(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text(SPACE)
    return path


class TestASearch:
    @pytest.mark.slow
    def test_the_answer_and_the_folder(self, descend, space, houses):
        result = descend("search", houses, "--target", "band", "--space", space, "--trials", 4,
                         "--out", "found", *FAST, "--seed", 2, "--json")  # fmt: skip
        assert result.status == 0, result.err
        answer = result.json
        assert answer["search"] == "found"
        assert answer["report"] == "found/report.html"
        assert (answer["method"], answer["metric"]) == ("random", "accuracy")
        assert answer["epochs"] == {"spent": 12, "most": 12}
        assert [trial["number"] for trial in answer["trials"]] == [0, 1, 2, 3]
        assert answer["winner"] in answer["trials"]
        assert answer["winner"]["score"] == max(trial["score"] for trial in answer["trials"])
        assert answer["best"]["run"] == "found/best"
        assert answer["best"]["seed"] == 2
        assert set(answer["best"]["metrics"]) == {"train", "validation", "test"}
        assert answer["best"]["recipe"]["optimizer"]["lr"] == answer["winner"]["values"]["optimizer.lr"]
        assert {path.name for path in Path("found").iterdir()} == {
            "search.json", "trials.jsonl", "best", "report.html"
        }  # fmt: skip
        assert Path("found/best/report.html").exists()
        assert "4 trials; 12 epochs of at most 12. Best: trial" in result.err
        again = descend("search", "--resume", "--out", "found", "--engine", "loop", "--json")
        assert again.status == 0, again.err
        assert again.json["trials"] == answer["trials"]
        other = descend("search", "--resume", "--out", "found", "--seed", 3)
        assert other.status == 2
        assert "seed: was 2, now 3" in other.err
        predicted = descend("predict", "found/best", houses, "--out", "predicted.csv")
        assert predicted.status == 0, predicted.err

    @pytest.mark.slow
    @pytest.mark.parametrize("method", ["grid", "quasi_random", "halving", "tpe"])
    def test_methods(self, descend, space, method):
        if method == "tpe":
            pytest.importorskip("optuna")
        result = descend(
            "search", "iris", "--space", space, "--trials", 4, "--method", method, *FAST, "--quiet"
        )
        assert result.status == 0, result.err
        assert result.err == ""
        assert re.fullmatch(r"runs/iris-search-[\d-]+\n", result.out)
        assert len(Path(result.out.strip(), "trials.jsonl").read_text().splitlines()) == 4

    def test_what_is_printed_is_not_wider_than_the_screen(self, descend, space):
        result = descend("search", "iris", "--space", space, "--trials", 2, *FAST)
        assert "The best configuration, trained again:" in result.out
        assert max(map(len, result.out.splitlines())) <= 100


class TestMistakes:
    def test_all_problems_of_a_space_at_once(self, descend, tmp_path):
        path = tmp_path / "wrong.toml"
        path.write_text(
            "optimizer.lr = { log_uniform = [0, 1] }\nmodel.dropout = { uniform = [0.5, 0.1] }\n"
            "optimizer.nme = ['sgd']\ndata.test = [0.1, 0.2]\nmodel.hidden = [[8], [-8]]\n"
        )
        result = descend("search", "iris", "--space", path, "--json")
        assert result.status == 2
        assert result.err.startswith("Error: The space has 5 problems:")
        assert "[optimizer] nme: unknown key; did you mean 'name'?" in result.err
        assert "[data] test: the rows reserved for the winner must be the same for all trials" in result.err
        assert "[model] hidden: " in result.err
        assert "[optimizer] lr: log_uniform runs from 0 to 1" in result.err
        assert "[model] dropout: uniform is empty" in result.err
        assert result.json["error"]["kind"] == "RecipeError"
        assert not Path("runs").exists() or not list(Path("runs").iterdir())

    def test_values_that_a_constructor_refuses(self, descend, tmp_path):
        path = tmp_path / "wrong.toml"
        path.write_text("optimizer.lrr = [1]\noptimizer.lr = { uniform = [-1, 1] }\n")
        result = descend("search", "iris", "--space", path)
        assert result.status == 2
        assert "lrr: unknown key; did you mean 'lr'?" in result.err
        assert "lr: expected a number above 0, got -1" in result.err

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ((), "specify the data"),
            (("iris", "--space", "none.toml"), "space file not found"),
            (("iris", "--method", "best"), "unknown search method 'best'"),
            (("iris", "--trials", "0"), "trials: expected an integer >= 1"),
            (("iris", "--engine", "steam"), "--engine: expected one of auto, packed, vmap, loop"),
            (("--resume",), "--out FOLDER"),
            (("--resume", "--out", "nowhere"), "contains no search"),
            (("iris", "--metric", "r2"), "no metric 'r2' for multiclass"),
        ],
    )
    def test_others(self, descend, arguments, words):
        result = descend("search", *arguments)
        assert result.status == 2
        assert words in result.err

    def test_all_diverged(self, descend, tmp_path):
        path = tmp_path / "space.toml"
        path.write_text("optimizer.lr = { uniform = [1e30, 2e30] }")
        result = descend(
            "search", "iris", "--space", path, "--trials", 2, *FAST, "--set", "optimizer.name=sgd"
        )
        assert result.status == 3
        assert "All 2 trials diverged" in result.err
        assert "gradient.clip_norm=1.0" in result.err


@pytest.mark.skipif(not DOCS.exists(), reason="the documents are not installed with the package")
class TestTheDocument:
    TEXT = DOCS.read_text(encoding="utf-8") if DOCS.exists() else ""

    @pytest.mark.slow
    def test_its_spaces_can_be_searched(self, descend, tmp_path):
        blocks = re.findall(r"```toml\n(.*?)```", self.TEXT, re.DOTALL)
        assert len(blocks) >= 3
        for block in blocks:
            Space.loads(block)
            path = tmp_path / "space.toml"
            path.write_text(block)
            result = descend("search", "iris", "--space", path, "--trials", 2, *FAST, "--json")
            assert result.status == 0, (block, result.err)

    @pytest.mark.slow
    def test_its_python_runs(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        blocks = re.findall(r"```python\n(.*?)```", self.TEXT, re.DOTALL)
        assert blocks
        for block in blocks:
            exec(block, {})

    def test_it_shows_a_record_as_it_is(self):
        block = re.search(r"```json\n(.*?)```", self.TEXT, re.DOTALL)
        assert block is not None
        from descend.experiments.search import Trial

        assert Trial.from_json(json.loads(block[1])).status == "finished"
