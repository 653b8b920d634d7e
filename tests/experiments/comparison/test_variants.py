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
    def test_invalid_text(self, text):
        with pytest.raises(UserError):
            parse_variation(text)

    def test_all_problems_at_once(self):
        with pytest.raises(RecipeError) as caught:
            parse_variations(["optimizer", "model.dropout=0,", "model.norm=none,batch"])
        assert len(caught.value.problems) == 2

    def test_values_of_a_repeated_key_are_combined(self):
        assert parse_variations(["a.b=1", "a.b=2,3"]) == {"a.b": [1, 2, 3]}


class TestVariants:
    def test_all_combinations(self):
        variants = variants_of(Recipe(), {"optimizer.name": ["sgd", "adam"], "model.dropout": [0.0, 0.5]})
        assert [(v.recipe.get("optimizer.name"), v.recipe.get("model.dropout")) for v in variants] == [
            ("sgd", 0.0), ("sgd", 0.5), ("adam", 0.0), ("adam", 0.5),
        ]  # fmt: skip
        assert len({variant.name for variant in variants}) == 4

    def test_tables(self):
        variants = variants_of(Recipe(), {"optimizer": [{"name": "sgd", "momentum": 0.9}, "adam"]})
        assert [variant.name for variant in variants] == ["sgd(momentum=0.9)", "adam"]
        assert variants[0].recipe.get("optimizer.momentum") == 0.9

    def test_each_problem_is_reported_once(self):
        with pytest.raises(RecipeError) as caught:
            variants_of(Recipe(), {"optimizer.name": ["sgd", "adm"], "model.dropot": [0, 1], "mdl.x": [1]})
        messages = [str(problem) for problem in caught.value.problems]
        assert len(messages) == 3
        assert any("did you mean 'adam'" in message for message in messages)
        assert any("did you mean 'dropout'" in message for message in messages)
        assert all(message.startswith("vary: ") for message in messages)

    @pytest.mark.parametrize("vary", [{}, {"optimizer.name": ["sgd"]}, {"a.b": [1], "c.d": [2]}])
    def test_a_single_variant_is_refused(self, vary):
        with pytest.raises(UserError, match="at least two variants"):
            variants_of(Recipe(), vary)

    @pytest.mark.parametrize("values", ["sgd", 3, {"name": "sgd"}, []])
    def test_values_that_are_not_a_list(self, values):
        with pytest.raises(UserError, match="vary: 'optimizer\\.name'"):
            variants_of(Recipe(), {"optimizer.name": values})

    def test_a_repeated_value(self):
        with pytest.raises(UserError, match="more than once"):
            variants_of(Recipe(), {"optimizer.name": ["sgd", "adam", "sgd"]})

    def test_learning_rate(self):
        unset, set_ = variants_of(Recipe(), {"optimizer": ["sgd", {"name": "adam", "lr": 0.1}]})
        assert (unset.sets_lr, set_.sets_lr) == (False, True)
        assert unset.accepts_lr
        assert all(
            each.accepts_lr for each in variants_of(Recipe(), {"model.dropout": [0.0, 0.5]})
        )  # the default optimizer does
        assert unset.with_lr(0.5).get("optimizer.lr") == 0.5
        assert set_.with_lr(None) is set_.recipe
