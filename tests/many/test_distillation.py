import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from torch import nn

from descend import Recipe, load, train
from descend.errors import RecipeError
from descend.export import load_exported
from descend.many.distillation import _for_more_rows, rows_with_exchanged_values, soft_targets
from descend.recipe.members import single_recipe
from descend.rng import generator
from descend.runs.plan import plan_run

ENSEMBLE = Recipe(
    model={"hidden": [16], "ensemble": 3, "distill": True},
    stop={"max_epochs": 8},
    optimizer={"lr": 0.01},
    engine={"threads": 1},
)


class TestSoftTargets:
    def test_are_predictions(self):
        z = torch.tensor([[0.3, -1.0, 2.0], [5.0, 0.0, -3.0]])
        np.testing.assert_allclose(soft_targets(z, "multiclass"), softmax(z.numpy(), axis=1), atol=1e-7)
        np.testing.assert_allclose(soft_targets(z, "multi_label"), expit(z.numpy()), atol=1e-7)
        np.testing.assert_allclose(soft_targets(z[:, :1], "binary"), expit(z[:, 0].numpy()), atol=1e-7)
        assert torch.equal(soft_targets(z, "multi_regression"), z)


class TestRowsWithExchangedValues:
    def test_keep_columns_and_what_belongs_together(self):
        n = 4000
        numbers = torch.tensor([True, False, False, True])
        inputs = torch.arange(n, dtype=torch.float32)[:, None] + torch.tensor([0.0, 1e5, 2e5, 3e5])
        found = rows_with_exchanged_values(inputs, numbers, generator(0, "test"))
        rows = found - torch.tensor([0.0, 1e5, 2e5, 3e5])  # the number of the row that each value is from
        own = torch.arange(n)[:, None]
        assert ((rows >= 0) & (rows < n)).all()
        assert torch.equal(rows[:, 1], rows[:, 2])
        exchanged = rows != own
        # Four standard deviations of a share of n = 4,000: 4 (0.25 · 0.75 / 4000)^½ = 0.027.
        assert torch.allclose(exchanged.double().mean(0), torch.tensor(0.25).double(), rtol=0, atol=0.028)
        both = exchanged[:, 0] & exchanged[:, 3]  # independent of each other: a share of 1/16
        assert abs(float(both.double().mean()) - 0.0625) < 0.016
        assert torch.equal(rows[both, 0], rows[both, 3]), "one other row for each row"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train("wine", ENSEMBLE, out=tmp_path_factory.mktemp("distilled") / "run", seed=1)


class TestDistillation:
    def test_gives_one_network_of_the_recipe(self, run):
        plain = train(
            "wine", {"model": {"hidden": [16]}, "stop": {"max_epochs": 1}, "engine": {"threads": 1}}
        )
        assert isinstance(run.model, nn.Sequential)
        assert [p.shape for p in run.model.parameters()] == [p.shape for p in plain.model.parameters()]

    def test_reports_both(self, run):
        found = run.metrics["distilled"]
        assert set(found["ensemble"]) == {"train", "validation", "test"}
        assert found["ensemble"]["test"]["accuracy"] > 0.8
        assert run.metrics["test"]["accuracy"] > 0.8
        teacher, student = found["parameters"]
        assert student == sum(p.numel() for p in run.model.parameters())
        assert teacher == 3 * student
        assert {"1", "1000"} == set(found["milliseconds"][0]) == set(found["milliseconds"][1])

    def test_learns_the_predictions_of_the_ensemble(self, run):
        ensemble = train("wine", ENSEMBLE.replace({"model.distill": False}), seed=1)
        labels = train(
            "wine",
            ENSEMBLE.replace({"model.distill": False, "model.ensemble": 1, "init.sample_index": 7}),
            seed=1,
        )
        expected, found, other = (each.predict_proba("wine") for each in (ensemble, run, labels))
        assert run.metrics["distilled"]["ensemble"]["test"] == ensemble.metrics["test"]
        assert np.abs(found - expected).mean() < np.abs(other - expected).mean()

    def test_is_loaded_and_exported(self, run, tmp_path):
        expected = run.predict_proba("wine")
        assert np.array_equal(load(run.path).predict_proba("wine"), expected)
        exported = load_exported(run.export("safetensors", tmp_path / "model.safetensors"))
        rows = np.array([[13.0, 2.0, 2.4, 20.0, 100.0, 2.0, 2.0, 0.3, 1.5, 5.0, 1.0, 2.5, 700.0]])
        np.testing.assert_allclose(exported.predict_proba(rows), run.predict_proba(rows), atol=1e-6)

    def test_is_repeatable(self, run):
        again = train("wine", ENSEMBLE, seed=1)
        assert np.array_equal(again.predict_proba("wine"), run.predict_proba("wine"))

    def test_of_a_regression_learns_means(self):
        x = np.linspace(-2, 2, 200)[:, None]
        run = train((x, np.sin(x[:, 0])), ENSEMBLE.replace({"loss.name": "huber", "model.dropout": 0.0}))
        assert run.metrics["distilled"]["ensemble"]["test"]["r2"] > 0.5
        assert run.metrics["test"]["r2"] > run.metrics["distilled"]["ensemble"]["test"]["r2"] - 0.2

    @pytest.mark.parametrize(
        ("recipe", "message"),
        [
            ({"model": {"distill": True, "preset": "quick"}}, "this recipe trains none; add preset = good"),
            (
                {"model": {"distill": True, "ensemble": 2}, "loss": "gaussian"},
                "must be the means of the targets",
            ),
        ],
    )
    def test_refuses_what_it_cannot_learn(self, recipe, message):
        with pytest.raises(RecipeError, match=message):
            train("diabetes", recipe)


def test_automatic_regularization_is_that_of_the_larger_number_of_rows():
    planned = plan_run("diabetes", {"model": {"distill": True}})
    recipe = single_recipe(planned.recipe)
    found = _for_more_rows(recipe, planned, 2000)
    assert found == {"optimizer.lr": 0.001, "regularize.weight_decay": 0.01, "model.dropout": 0.1}
    assert "optimizer.lr" not in _for_more_rows(recipe.replace({"optimizer.lr": 0.3}), planned, 2000)
    assert {recipe.get(key) for key in found} == {0.0005, 1.0, 0.4}
