"""Typed sections: equal to mappings, checked with the recipe, and understood by type checkers."""

from __future__ import annotations

import ast
import copy
import inspect
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from mypy import api
from tests.support import recipe_strategies as strategies
from tests.support.examples import examples

import descend
import descend.augmentation
import descend.optim
from descend import recipe as typed
from descend.errors import RecipeError
from descend.recipe import (
    MLP,
    Adam,
    Cosine,
    Flip,
    GroupNorm,
    LeakyReLU,
    Optimizer,
    Recipe,
    ReLU,
    Stop,
    Translate,
)
from descend.recipe.catalogue import CATALOGUE
from descend.recipe.sections import SECTIONS
from descend.recipe.specs import FAMILIES, Spec, base_names, spec_class, spec_names, spec_types
from descend.recipe.stubs import STUB, stub

SOURCE = Path(descend.__file__).parent


def problems(**sections) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        Recipe(**sections)
    return [str(each) for each in caught.value.problems]


class TestForms:
    def test_typed_sections_mappings_and_toml_give_equal_recipes(self):
        recipe = Recipe(
            optimizer=Adam(lr=1e-3),
            stop=Stop(patience=5),
            model=MLP(hidden=[64, 64]),
            schedule=Cosine(warmup=2),
        )
        as_mappings = Recipe(
            optimizer={"name": "adam", "lr": 1e-3},
            stop={"patience": 5},
            model={"name": "mlp", "hidden": [64, 64]},
            schedule={"name": "cosine", "warmup": 2},
        )
        assert recipe == as_mappings == Recipe.loads(recipe.to_toml())
        assert hash(recipe) == hash(as_mappings)

    def test_only_what_is_given_is_specified(self):
        assert Recipe(optimizer=Adam(), stop=Stop(patience=None)).specified() == {
            "optimizer.name": "adam",
            "stop.patience": None,
        }

    def test_a_method_without_settings_is_its_name(self):
        assert Recipe(optimizer=Adam()) == Recipe(optimizer=Adam) == Recipe(optimizer="adam")
        assert Recipe(model=MLP(activation=ReLU())) == Recipe(model={"name": "mlp", "activation": "relu"})

    def test_a_section_may_leave_its_method_open(self):
        assert Recipe(optimizer=Optimizer(lr=0.1)) == Recipe(optimizer={"lr": 0.1})
        assert Recipe(optimizer=Optimizer(name="sgd", lr=0.1)) == Recipe(optimizer={"name": "sgd", "lr": 0.1})

    def test_choices_within_a_section(self):
        recipe = Recipe(
            data=typed.Data(augment=[Flip(), Translate(pixels=3)], scale=typed.PCAScale(standardize=True)),
            model=MLP(activation=LeakyReLU(negative_slope=0.2), norm=GroupNorm(groups=4)),
            regularize=typed.Regularize(orthogonality=typed.SRIPPenalty(iterations=3)),
        )
        assert recipe == Recipe(
            data={"augment": ["flip", {"name": "translate", "pixels": 3}], "scale": {"name": "pca", "standardize": True}},
            model={
                "name": "mlp",
                "activation": {"name": "leaky_relu", "negative_slope": 0.2},
                "norm": {"name": "group", "groups": 4},
            },
            regularize={"orthogonality": {"name": "srip", "iterations": 3}},
        )  # fmt: skip

    def test_wherever_a_mapping_is_taken(self):
        as_mapping = Recipe(optimizer={"name": "adam", "lr": 0.1})
        assert Recipe.of({"optimizer": Adam(lr=0.1)}) == as_mapping
        assert Recipe().replace({"optimizer": Adam(lr=0.1)}) == as_mapping
        assert Recipe(optimizer="sgd").replace({"optimizer": Adam}) == Recipe(optimizer="adam")
        assert Recipe(model="mlp").replace({"model.activation": ReLU()}) == Recipe(
            model={"name": "mlp", "activation": "relu"}
        )

    @given(strategies.valid_sections())
    @settings(deadline=None, max_examples=examples(60))
    def test_any_valid_recipe(self, sections):
        by_name = {(each.section, each.method): name for name, each in spec_types().items()
                   if each.family is None or each.family.key == "name"}  # fmt: skip
        made = {}
        for section, values in sections.items():
            method = values.get("name") if section in CATALOGUE else None
            keys = {key: value for key, value in values.items() if method is None or key != "name"}
            made[section] = spec_class(by_name[section, method])(**keys)
        assert Recipe(**made) == Recipe(**sections)


class TestProblems:
    def test_are_those_of_a_mapping_and_come_all_at_once(self):
        found = problems(
            optimizer=Adam(lr=-1),
            stop=Stop(patiense=5),  # type: ignore[call-arg]  # wrong on purpose
            model=MLP(activation=LeakyReLU(slope=1)),  # type: ignore[call-arg]  # wrong on purpose
        )
        assert found == problems(
            optimizer={"name": "adam", "lr": -1},
            stop={"patiense": 5},
            model={"name": "mlp", "activation": {"name": "leaky_relu", "slope": 1}},
        )
        assert "[optimizer] lr: expected a number above 0, got -1" in found
        assert "[stop] patiense: unknown key; did you mean 'patience'?" in found
        assert len(found) == 3

    @pytest.mark.parametrize(
        ("section", "given", "message"),
        [
            ("optimizer", Stop(), "[optimizer]: expected settings of [optimizer], got Stop, which belongs to [stop]"),
            ("stop", Adam, "[stop]: expected settings of [stop], got Adam, which belongs to [optimizer]"),
            ("model", ReLU(), "[model]: expected settings of [model], got ReLU, which belongs to the key activation of [model]"),
        ],
    )  # fmt: skip
    def test_a_section_in_the_place_of_another(self, section, given, message):
        assert problems(**{section: given}) == [message]
        with pytest.raises(RecipeError, match=re.escape(message)):
            Recipe().replace({section: given})

    def test_a_choice_of_another_family(self):
        assert "no such norm 'leaky_relu'" in problems(model=MLP(norm=LeakyReLU()))[0]

    def test_parameters_belong_to_the_optimizer_of_a_loop(self):
        with pytest.raises(TypeError, match=r"takes keyword arguments only, such as Adam\(lr=\.\.\.\)"):
            Adam(torch.nn.Linear(1, 1).parameters())

    def test_names_that_do_not_exist(self):
        with pytest.raises(AttributeError, match=r"'descend\.recipe' has no attribute 'Adm'"):
            typed.Adm  # type: ignore[attr-defined]  # noqa: B018 - the look-up is what is tested


class TestSpecs:
    def test_is_a_frozen_mapping(self):
        spec = Adam(lr=0.1)
        assert isinstance(spec, Mapping)
        assert spec == {"name": "adam", "lr": 0.1} == spec
        assert spec != Adam(lr=0.2)
        assert {**spec} == dict(spec)
        assert (spec["lr"], spec.get("eps"), "lr" in spec, len(spec), list(spec.values())) == (
            0.1, None, True, 2, ["adam", 0.1],
        )  # fmt: skip
        assert repr(spec) == "Adam(lr=0.1)"
        with pytest.raises(AttributeError, match="cannot be changed"):
            spec.lr = 0.2

    @pytest.mark.parametrize(
        "copied", [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))]
    )
    def test_is_copied(self, copied):
        spec = MLP(hidden=[3], activation=LeakyReLU(negative_slope=0.2))
        again = copied(spec)
        assert type(again) is MLP
        assert again == spec

    def test_its_signature_is_the_constructors(self):
        signature = inspect.signature(Adam)
        assert next(iter(signature.parameters)) == "lr"
        assert signature.parameters["lr"].default == 0.001
        assert "Args:\n    lr: " in inspect.getdoc(Adam)

    def test_every_section_and_method_has_a_class(self):
        described = {
            (each.section, each.family.key if each.family else None, each.method)
            for each in spec_types().values()
        }
        expected = {(section, None, None) for section in SECTIONS} | {
            (family.section, family.key, name) for family in FAMILIES for name in family.methods if name != "none"
        }  # fmt: skip
        assert described == expected
        assert len(spec_types()) == len(expected)
        assert set(spec_names()) <= set(typed.__all__)
        for name in spec_names():
            assert getattr(typed, name).__name__ == name
            assert issubclass(getattr(typed, name), Spec)

    @pytest.mark.parametrize("package", [torch.optim, torch.nn, descend.optim, descend.augmentation])
    def test_are_spelled_as_elsewhere(self, package):
        spelled = {name.lower(): name for name in vars(package) if name[0].isupper()}
        ours = {name.lower(): name for name in spec_types() if name.lower() in spelled}
        assert ours
        assert all(spelled[lower] == name for lower, name in ours.items())


class TestStub:
    def test_is_up_to_date(self):
        assert STUB.read_text(encoding="utf-8") == stub(), "run: python -m descend.recipe.stubs"

    def test_declares_every_class(self):
        classes = {node.name for node in ast.parse(stub()).body if isinstance(node, ast.ClassDef)}
        assert classes == {*spec_types(), *base_names()} == set(spec_names())

    @pytest.mark.slow
    def test_type_checkers_accept_and_reject(self, tmp_path, monkeypatch):
        sample = tmp_path / "sample.py"
        sample.write_text(SAMPLE, encoding="utf-8")
        monkeypatch.setenv("MYPYPATH", str(SOURCE.parent))
        parts = [SOURCE / "recipe" / name for name in ("__init__.py", "recipe.py", "specs.py", "typed.pyi")]
        # Other modules are skipped: their types are not needed here, and PyTorch's take a minute to read.
        options = [
            "--follow-imports=skip",
            f"--cache-dir={tmp_path / 'cache'}",
            "--config-file=",
            "--no-pretty",
        ]
        output, failure, _ = api.run([*options, str(sample), *map(str, parts)])
        assert not failure
        found = {
            (int(line), code)
            for line, code in re.findall(r"sample\.py:(\d+): error: .* \[([\w-]+)\]$", output, re.M)
        }
        expected = {
            (number, code.strip())
            for number, line in enumerate(SAMPLE.splitlines(), 1)
            for code in line.partition("# rejected: ")[2:]
            if code
        }
        assert found == expected, output


SAMPLE = """\
import torch
from descend.recipe import (
    MLP, Adam, Checkpoint, Constant, Cosine, Data, Flip, GroupNorm, HuberLoss, LeakyReLU, Optimizer, PCAScale, Recipe,
    Stop,
)

Recipe(optimizer=Adam(lr=1e-3), stop=Stop(patience=5), model=MLP(hidden=[64, 64]), schedule=Cosine(warmup=2))
Recipe(optimizer={"name": "adam", "lr": 1e-3}, stop={"patience": 5}, model="mlp", loss=torch.nn.CrossEntropyLoss)
Recipe(optimizer=Adam, loss=HuberLoss(delta=2), schedule=Constant())
Recipe(data=Data(augment=[Flip(), "rotate"], scale=PCAScale()), model=MLP(activation="relu", norm=GroupNorm(groups=4)))
Recipe(optimizer=Optimizer(lr=1, groups={"conv*": 0.1}), stop=Stop(patience=None, max_epochs="auto"))
Recipe(model=MLP(activation=torch.nn.Mish))

Stop(patiense=5)  # rejected: call-arg
Adam(lr="x")  # rejected: arg-type
Adam(betas=0.9)  # rejected: arg-type
Stop(patience="never")  # rejected: arg-type
MLP(norm_position="within")  # rejected: arg-type
MLP(norm=LeakyReLU())  # rejected: arg-type
Recipe(stop=Adam())  # rejected: arg-type
Recipe(optimizer=Stop())  # rejected: arg-type
Recipe(checkpoint="often")  # rejected: arg-type
Recipe(optimiser=Adam())  # rejected: call-arg
from descend.recipe import Adm  # rejected: attr-defined
"""
