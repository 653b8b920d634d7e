import pytest

from descend.errors import RecipeError, UserError
from descend.experiments.comparison.variants import parse_variation, parse_variations, variants_of
from descend.recipe import Recipe


class TestParsing:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("optimizer.name=sgd,adam", ("optimizer.name", ["sgd", "adam"])),
            ("optimizer.lr=1e-3, 0.1", ("optimizer.lr", [0.001, 0.1])),
            ("model.hidden=[64],[64,64]", ("model.hidden", [[64], [64, 64]])),
            ('model.norm="none",batch', ("model.norm", ["none", "batch"])),
            ("data.columns='a,b','c'", ("data.columns", ["a,b", "c"])),
            ('a.b="x\\",y",z', ("a.b", ['x",y', "z"])),
            (
                'model.activation={name="leaky_relu",slope=[1, 2]},relu',
                ("model.activation", [{"name": "leaky_relu", "slope": [1, 2]}, "relu"]),
            ),
            ("optimizer=sgd", ("optimizer", ["sgd"])),
            ("stop.patience=none,5", ("stop.patience", ["none", 5])),
        ],
    )
    def test_values(self, text, expected):
        assert parse_variation(text) == expected

    @pytest.mark.parametrize(
        "text", ["optimizer.name", "=a,b", "a.=1,2", "a.b=1,", "a.b=,1", "a.b=x y,1", "a.b="]
    )
    def test_faults(self, text):
        with pytest.raises(UserError):
            parse_variation(text)

    def test_all_faults_at_once(self):
        with pytest.raises(RecipeError) as caught:
            parse_variations(["optimizer", "model.dropout=0,", "model.norm=none,batch"])
        assert len(caught.value.problems) == 2

    def test_a_key_named_again_has_more_values(self):
        assert parse_variations(["a.b=1", "a.b=2,3"]) == {"a.b": [1, 2, 3]}


class TestVariants:
    def test_all_combinations(self):
        found = variants_of(Recipe(), {"optimizer.name": ["sgd", "adam"], "model.dropout": [0.0, 0.5]})
        assert [(v.recipe.get("optimizer.name"), v.recipe.get("model.dropout")) for v in found] == [
            ("sgd", 0.0), ("sgd", 0.5), ("adam", 0.0), ("adam", 0.5),
        ]  # fmt: skip
        assert len({variant.name for variant in found}) == 4

    def test_tables(self):
        found = variants_of(Recipe(), {"optimizer": [{"name": "sgd", "momentum": 0.9}, "adam"]})
        assert [variant.name for variant in found] == ["sgd(momentum=0.9)", "adam"]
        assert found[0].recipe.get("optimizer.momentum") == 0.9

    def test_every_problem_once(self):
        with pytest.raises(RecipeError) as caught:
            variants_of(Recipe(), {"optimizer.name": ["sgd", "adm"], "model.dropot": [0, 1], "mdl.x": [1]})
        words = [str(problem) for problem in caught.value.problems]
        assert len(words) == 3
        assert any("did you mean 'adam'" in word for word in words)
        assert any("did you mean 'dropout'" in word for word in words)
        assert all(word.startswith("--vary: ") for word in words)

    @pytest.mark.parametrize("vary", [{}, {"optimizer.name": ["sgd"]}, {"a.b": [1], "c.d": [2]}])
    def test_one_is_no_comparison(self, vary):
        with pytest.raises(UserError, match="at least two variants"):
            variants_of(Recipe(), vary)

    @pytest.mark.parametrize("values", ["sgd", 3, {"name": "sgd"}, []])
    def test_values_are_a_list(self, values):
        with pytest.raises(UserError, match="vary: 'optimizer\\.name'"):
            variants_of(Recipe(), {"optimizer.name": values})

    def test_a_value_twice(self):
        with pytest.raises(UserError, match="twice"):
            variants_of(Recipe(), {"optimizer.name": ["sgd", "adam", "sgd"]})

    def test_where_the_rate_is(self):
        plain, said = variants_of(Recipe(), {"optimizer": ["sgd", {"name": "adam", "lr": 0.1}]})
        assert (plain.says_rate, said.says_rate) == (False, True)
        assert plain.has_rate
        assert all(
            each.has_rate for each in variants_of(Recipe(), {"model.dropout": [0.0, 0.5]})
        )  # the default's
        assert plain.at(0.5).get("optimizer.lr") == 0.5
        assert said.at(None) is said.recipe
