"""A recipe is checked before any work: every problem at once, where it is, and what to do."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch

from descend.errors import Problem, RecipeError
from descend.recipe import Recipe
from descend.recipe.catalogue import CATALOGUE, CHOICES
from descend.recipe.sections import SECTIONS


def problems(sections, **options) -> list[Problem]:
    with pytest.raises(RecipeError) as caught:
        Recipe.of(sections, **options)
    return list(caught.value.problems)


def messages(sections, **options) -> list[str]:
    return [str(problem) for problem in problems(sections, **options)]


class TestEverythingAtOnce:
    def test_each_with_file_section_key_expectation_and_nearest_name(self):
        text = """
            [optimiser]
            lr = 1
            [optimizer]
            name = "adm"
            lrr = 0.1
            eps = -1.0
            [model]
            hidden = [64, 0]
            activation = "rleu"
            dropout = true
            [stop]
            max_epoch = 5
            patience = 0
            monitor = 3
            [engine]
            precision = "float16"
        """
        with pytest.raises(RecipeError) as caught:
            Recipe.loads(text, source="my.toml")
        assert str(caught.value).splitlines() == [
            "The recipe has 11 problems:",
            "  my.toml: [optimiser]: no such section; did you mean 'optimizer'?",
            "  my.toml: [optimizer] name: no such optimizer 'adm'; did you mean 'adam'?",
            "  my.toml: [optimizer] lrr: unknown key; did you mean 'lr'?",
            "  my.toml: [optimizer] eps: expected a number >= 0, or a list of 2: a number >= 0 or "
            '"none", a number >= 0, '
            "got -1.0",
            "  my.toml: [model] hidden: expected a list of integers >= 1, got [64, 0]",
            "  my.toml: [model] activation: no such activation 'rleu'; did you mean 'relu'?",
            "  my.toml: [model] dropout: expected a number >= 0 and below 1, got true",
            "  my.toml: [stop] max_epoch: unknown key; did you mean 'max_epochs'?",
            '  my.toml: [stop] patience: expected an integer >= 1, "auto", or "none", got 0',
            '  my.toml: [stop] monitor: expected the name of a metric, a function or its import path, got 3; such as "f1"',
            '  my.toml: [engine] precision: expected "float32" or "bfloat16", got the string \'float16\'',
        ]

    def test_without_a_near_name_all_names_are_listed(self):
        (line,) = messages({"optimizer": {"name": "zzz"}})
        assert all(name in line for name in CATALOGUE["optimizer"])

    def test_a_key_of_another_section(self):
        (line,) = messages({"optimizer": {"patience": 5}})
        assert line == "[optimizer] patience: unknown key; [schedule] has a key of that name"

    def test_a_key_of_another_name(self):
        (line,) = messages({"optimizer": {"name": "adam", "momentum": 0.9}})
        assert line.startswith("[optimizer] momentum: unknown key of 'adam'; one of: amsgrad")


@pytest.mark.parametrize("name", list(SECTIONS))
class TestEverySection:
    def test_an_unknown_key(self, name):
        (problem,) = problems({name: {"no_such_key": 1}})
        assert (problem.section, problem.key) == (name, "no_such_key")

    def test_is_a_table(self, name):
        (problem,) = problems({name: 5})
        assert str(problem) == f"[{name}]: expected a table of keys, got 5"

    def test_empty_is_valid(self, name):
        assert Recipe.of({name: {}}) == Recipe()


class TestNumbers:
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize(
        "path",
        ["optimizer.lr", "stop.max_epochs", "stop.target", "data.clip", "gradient.clip_norm", "regularize.l2",
         "checkpoint.every_seconds", "init.output_gain", "schedule.beta", "loss.label_smoothing", "data.validation"],
    )  # fmt: skip
    def test_are_finite(self, path, value):
        section, _, key = path.partition(".")
        (problem,) = problems({section: {key: value}})
        assert (problem.section, problem.key) == (section, key)
        assert "must be finite" in problem.message

    def test_in_toml(self):
        for word in ("nan", "inf", "-inf", "1e999"):
            with pytest.raises(RecipeError, match="must be finite"):
                Recipe.loads(f"[optimizer]\nlr = {word}")
            with pytest.raises(RecipeError, match="must be finite"):
                Recipe().with_assignments([f"optimizer.lr={word}"])

    @pytest.mark.parametrize(
        "path",
        ["stop.max_epochs", "optimizer.lr", "gradient.accumulate", "engine.threads", "data.max_categories"],
    )
    def test_are_not_booleans(self, path):
        section, _, key = path.partition(".")
        (problem,) = problems({section: {key: True}})
        assert problem.message.endswith("got true")

    def test_threads_are_bounded(self):
        assert problems({"engine": {"threads": 2**40}})


class TestNames:
    @pytest.mark.parametrize("section", list(CATALOGUE))
    @pytest.mark.parametrize(
        "name", [None, 3, ["adam"], {"name": "adam"}, True, np.zeros(2), torch.zeros(2)], ids=str
    )
    def test_are_strings(self, section, name):
        (problem,) = problems({section: {"name": name}})
        assert (problem.key, problem.message) == ("name", f"expected a name, got {name!r}")

    @pytest.mark.parametrize("section", list(CATALOGUE))
    @pytest.mark.parametrize("name", ["", " ", "a.", ".a", "a b", "a:b:c", "1.2", "a..b"])
    def test_unknown_names(self, section, name):
        (problem,) = problems({section: {"name": name}})
        assert problem.message == f"no such {section} '{name}'"

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("no_such_module.Net", "cannot import 'no_such_module' for 'no_such_module.Net'"),
            ("torch.nn:Liner", "'torch.nn' has no 'Liner'"),
            ("torch.nn.Liner", "'torch.nn' has no 'Liner'"),
            ("math.pi", "'math.pi' is a float, not a class or function"),
        ],
    )
    def test_paths_that_do_not_exist(self, path, message):
        (problem,) = problems({"model": {"name": path}})
        assert message in problem.message

    def test_the_nearest_name_in_a_module(self):
        (problem,) = problems({"model": "torch.nn.Liner"})
        assert problem.hint.startswith("did you mean 'Line")

    def test_a_module_that_fails(self, tmp_path, monkeypatch):
        (tmp_path / "broken_module.py").write_text("raise OSError('no luck')")
        monkeypatch.syspath_prepend(tmp_path)
        (problem,) = problems({"model": "broken_module:Net"})
        assert problem.message.endswith("OSError: no luck")


class TestImportPaths:
    TEXT = '[optimizer]\nname = "torch.optim.NAdam"\nmomentum_decay = 0.004\n'

    def test_in_a_file_are_refused(self, tmp_path):
        (tmp_path / "r.toml").write_text(self.TEXT)
        with pytest.raises(RecipeError) as caught:
            Recipe.load(tmp_path / "r.toml")
        (problem,) = caught.value.problems  # the keys of what was not imported are no further problems
        assert "'torch.optim.NAdam' is an import path, and importing runs its code" in problem.message
        assert "allow_imports=True" in problem.hint

    def test_in_a_file_are_not_imported(self, tmp_path, monkeypatch):
        (tmp_path / "surprise_module.py").write_text("raise SystemExit('it was run')")
        monkeypatch.syspath_prepend(tmp_path)
        for text in (
            '[model]\nname = "surprise_module:Net"',
            '[model]\nname = "mlp"\nactivation = "surprise_module.Act"',
            '[model]\nactivation = { name = "surprise_module.Act" }',
            '[model]\nname = "torch.nn.Linear"\noutput = "surprise_module.Act"',
            'loss = "surprise_module.Loss"',
            '[data]\nscale = "surprise_module.scale"',
        ):
            (tmp_path / "r.toml").write_text(text)
            with pytest.raises(RecipeError, match="importing runs its code"):
                Recipe.load(tmp_path / "r.toml")
        assert "surprise_module" not in sys.modules

    def test_in_a_file_are_accepted_where_allowed(self, tmp_path):
        (tmp_path / "r.toml").write_text(self.TEXT)
        recipe = Recipe.load(tmp_path / "r.toml", allow_imports=True)
        assert recipe.get("optimizer.name") == "torch.optim.NAdam"

    def test_from_python_are_accepted(self):
        assert Recipe(optimizer="torch.optim.NAdam").get("optimizer.name") == "torch.optim.NAdam"
        assert Recipe(optimizer={"name": torch.optim.NAdam, "lr": 0.1}).get("optimizer.lr") == 0.1

    def test_their_keys_are_read_from_their_signature(self):
        (line,) = messages({"optimizer": {"name": "torch.optim.NAdam", "momentum_decai": 0.1}})
        assert "unknown key of 'torch.optim.NAdam'; did you mean 'momentum_decay'?" in line
        (line,) = messages({"optimizer": {"name": torch.optim.NAdam, "lr": "fast"}})
        assert "lr: expected a number" in line

    def test_any_keyword_means_any_key(self):
        assert Recipe(model={"name": AnyKeyword, "depth": 3, "x": [1]}).get("model.depth") == 3
        assert messages(
            {"model": {"name": AnyKeyword, "x": math.nan, "y": object, "z": {1}, "output": 3}}
        ) == [
            "[model] x: expected a number, a string, a list, a table or a class, got nan (numbers must be finite)",
            "[model] z: expected a number, a string, a list, a table or a class, got {1}",
            "[model] output: expected a string, got 3",
        ]

    def test_the_activation_of_a_user_class_may_be_anything(self):
        assert Recipe(model={"name": OwnActivation, "activation": "swish"}).get("model.activation") == "swish"
        (problem,) = problems({"model": {"name": OwnActivation, "output": "swish"}})
        assert problem.key == "output"


class AnyKeyword(torch.nn.Module):
    def __init__(self, inputs, outputs, **settings):
        super().__init__()


class OwnActivation(torch.nn.Module):
    def __init__(self, inputs, outputs, activation: str = "swish"):
        super().__init__()


class TestChoices:
    @pytest.mark.parametrize(("section", "key"), list(CHOICES))
    def test_unknown_names(self, section, key):
        (problem,) = problems({section: {key: "zzz"}})
        assert (problem.section, problem.key, problem.message) == (section, key, f"no such {key} 'zzz'")

    @pytest.mark.parametrize(
        ("table", "key", "message"),
        [
            ({"name": "rleu"}, "activation", "no such activation 'rleu'"),
            ({"negative_slope": 0.1}, "activation", "expected a name, or a table with the key 'name'"),
            ({}, "activation", "expected a name, or a table with the key 'name'"),
            ({"name": "auto", "alpha": 1}, "activation", "settings need the name of their method"),
            ({"name": 3}, "activation", "expected a name, got 3"),
            ({"name": "leaky_relu", "slope": 0.1}, "activation.slope", "unknown key of 'leaky_relu'"),
            ({"name": "relu", "slope": 0.1}, "activation.slope", "unknown key of 'relu'"),
            (
                {"name": "leaky_relu", "negative_slope": -1},
                "activation.negative_slope",
                "expected a number >= 0",
            ),
            ({"name": "maxout", "k": True}, "activation.k", "expected an integer >= 1, got true"),
            ({"name": "torch.nn.ELU", "alhpa": 1}, "activation.alhpa", "unknown key of 'torch.nn.ELU'"),
        ],
    )
    def test_their_settings_are_checked(self, table, key, message):
        (problem,) = problems({"model": {"activation": table}})
        assert problem.key == key
        assert message in problem.message

    def test_arguments_of_the_builder_are_not_settings(self):
        (problem,) = problems({"model": {"norm": {"name": "batch", "features": 3}}})
        assert problem.key == "norm.features"

    def test_settings_are_converted(self):
        recipe = Recipe(
            model={"activation": {"name": "elu", "alpha": 2}, "norm": {"name": "group", "groups": 2}}
        )
        assert repr(recipe.get("model.activation")) == "{'name': 'elu', 'alpha': 2.0}"

    def test_auto_without_settings(self):
        assert Recipe(model={"activation": "auto"}).get("model.activation") == "auto"


class TestRefusalsOfConstructors:
    @pytest.mark.parametrize(
        ("sections", "message"),
        [
            ({"optimizer": {"name": "sgd", "nesterov": True}}, "Nesterov momentum requires a momentum"),
            (
                {"optimizer": {"name": "sgd", "nesterov": True, "momentum": 0.9, "dampening": 0.1}},
                "Nesterov momentum requires a momentum and zero dampening",
            ),
            ({"optimizer": {"name": "torch.optim.NAdam", "lr": -1.0}}, "Invalid learning rate: -1.0"),
            ({"loss": "torch.nn.AdaptiveLogSoftmaxWithLoss"}, "missing 3 required positional arguments"),
        ],
    )
    def test_is_reported_before_any_work(self, sections, message):
        (problem,) = problems(sections)
        assert (problem.section, problem.key) == (next(iter(sections)), None)
        assert message in problem.message

    def test_any_exception_is_reported(self):
        def brittle(params, *, lr: float = 0.1):
            raise KeyError("lr")

        (problem,) = problems({"optimizer": {"name": brittle}})
        assert problem.message == "KeyError: 'lr'"

    def test_trying_them_prints_nothing_and_does_not_warn(self, recwarn, capsys):
        Recipe(init="zeros", optimizer="adam", schedule="plateau", loss="huber")
        assert not recwarn.list
        assert capsys.readouterr() == ("", "")

    def test_trying_them_uses_no_random_numbers(self):
        before = torch.get_rng_state()
        Recipe(init="orthogonal", optimizer="adam", model="mlp")
        assert torch.equal(before, torch.get_rng_state())
