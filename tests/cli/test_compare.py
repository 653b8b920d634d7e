import json
from pathlib import Path

COMMON = ("--set", "stop.max_epochs=2", "--set", "model.hidden=[8]", "--set", "engine.threads=1")


def test_json_holds_what_was_found(descend):
    result = descend(
        "compare", "iris", "--vary", "optimizer.name=sgd,adam", "--seeds", "2", "--tune", "2", "--json",
        "--seed", "3", "--out", "here", *COMMON,
    )  # fmt: skip
    assert result.status == 0, result.err
    found = result.json
    assert {"variants", "tests", "target", "seconds", "engine", "report"} <= set(found)
    for variant in found["variants"]:
        assert len(variant["scores"]) == 2
        assert {"settings", "lr", "mean", "interval", "seconds_to_target", "steps_to_target",
                "gradients_to_target"} <= set(variant)  # fmt: skip
    assert {"p", "adjusted"} <= set(found["tests"][0])
    assert json.loads(Path("here/comparison.json").read_text(encoding="utf-8"))["target"] == found["target"]


def test_the_table(descend):
    result = descend(
        "compare", "iris", "--vary", "model.activation=relu,tanh", "--seeds", "2", "--tune", "0", *COMMON
    )
    assert result.status == 0, result.err
    lines = result.out.splitlines()
    assert lines[0].split()[:5] == ["variant", "learning", "rate", "test", "accuracy"]
    assert [line.split()[0] for line in lines[1:3]] == ["relu", "tanh"]
    assert "Target: a validation accuracy of" in result.out
    assert "relu − tanh" in result.out
    assert "Report  runs/compare-iris-20" in result.out


def test_quiet(descend):
    result = descend("compare", "iris", "--vary", "model.activation=relu,tanh", "--seeds", "2", "--tune", "0",
                     "--quiet", "--out", "x", *COMMON)  # fmt: skip
    assert (result.status, result.out, result.err) == (0, "x\n", "")


def test_resume_needs_a_comparison_that_was_begun(descend):
    vary = ("--vary", "model.activation=relu,tanh", "--resume")
    for more, words in [
        ((), "--out FOLDER"),
        (("--out", "y"), "nothing to resume in y: it contains no comparison"),
    ]:
        result = descend("compare", "iris", *vary, *more, *COMMON)
        assert result.status == 2
        assert words in " ".join(result.err.split())


def test_every_mistake_at_once(descend, tmp_path):
    result = descend("compare", "iris", "--vary", "optimizer.name=sgd,adm", "--vary", "model.dropot=0,1")
    assert result.status == 2
    assert "did you mean 'adam'" in result.err
    assert "did you mean 'dropout'" in result.err
    assert list(tmp_path.rglob("*")) in ([], [tmp_path / "runs"])


def test_a_single_variant(descend):
    result = descend("compare", "iris", "--vary", "optimizer.name=sgd")
    assert result.status == 2
    assert "at least two variants" in result.err
    assert descend("compare", "iris").status == 2


def test_rates_that_are_none(descend):
    result = descend("compare", "iris", "--vary", "optimizer.name=sgd,adam", "--rates", "low")
    assert result.status == 2
    assert "--rates: expected two numbers" in result.err


def test_when_everything_diverges(descend):
    result = descend("compare", "iris", "--vary", "model.activation=relu,tanh", "--set", "optimizer.name=sgd",
                     "--seeds", "2", "--tune", "2", "--rates", "1e29,1e30", "--json", *COMMON)  # fmt: skip
    assert result.status == 3
    assert result.json["error"]["kind"] == "DivergedError"
    assert "all diverged" in result.err
    assert "lower learning rates: --rates" in result.err


def test_an_unfinished_comparison_of_an_earlier_version_continues(descend):
    variants = [
        "compare",
        "iris",
        "--vary",
        "model.activation=relu,tanh",
        "--seeds",
        "2",
        "--tune",
        "0",
        "--out",
        "x",
    ]
    assert descend(*variants, *COMMON).status == 0
    Path("x/comparison.json").unlink()
    Path("x/comparison_settings.json").rename("x/asked.json")
    assert "x is a comparison, not a run" in descend("predict", "x", "iris").err
    assert descend(*variants, *COMMON, "--resume").status == 0
    assert Path("x/comparison.json").exists()
