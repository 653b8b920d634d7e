import math
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from descend import Recipe, load, train, train_many
from descend.errors import DivergedError, Interrupted, RecipeError, UserError
from descend.export import load_exported
from descend.many.pack.training import PackTraining
from descend.many.restarts import _best, train_restarts
from descend.metrics import Selection, find_metric
from descend.nn.ensemble import Ensemble
from descend.recipe.build import build_model
from descend.recipe.facts import facts_of
from descend.rng import forked, key
from descend.runs.plan import plan_run
from descend.training.checkpoint import Checkpointer
from descend.training.notification import as_observer

SMALL = Recipe(
    model={"hidden": [8], "dropout": 0.1},
    stop={"max_epochs": 4},
    init={"output_gain": 1.0},
    engine={"threads": 1},
)
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3], [5.9, 2.8, 4.2, 1.3]]


def weights_of(run):
    return torch.cat([p.detach().flatten() for p in run.model.parameters()])


class TestDraws:
    def test_differ_in_their_initial_weights_only(self):
        first, second = (plan_run("iris", SMALL.replace({"init.sample_index": number})) for number in (0, 1))
        facts = facts_of(first.prepared.schema)
        one, other = (build_model(p.recipe, facts, 0).state_dict() for p in (first, second))
        assert not torch.equal(one["linear1.weight"], other["linear1.weight"])
        assert np.array_equal(first.prepared.train.rows, second.prepared.train.rows)

    def test_first_equals_a_run_without_restarts(self):
        planned = plan_run("iris", SMALL.replace({"init.name": "torch"}))
        with forked():
            torch.manual_seed(key(0, "init"))
            expected = nn.Linear(4, 8).weight
        state = build_model(planned.recipe, facts_of(planned.prepared.schema), 0).state_dict()
        assert torch.equal(state["linear1.weight"], expected)


class TestRestarts:
    def test_keep_the_best_by_validation(self):
        run = train_restarts(plan_run("iris", SMALL.replace({"init.restarts": 4}), seed=2), engine="loop")
        solo = [train("iris", SMALL.replace({"init.sample_index": number}), seed=2) for number in range(4)]
        monitor = run.metrics["members"]["monitor"]
        losses = [each.metrics["validation"][monitor] for each in solo]
        assert run.metrics["members"]["validation"] == losses
        best = int(np.argmin(losses))
        assert run.metrics["members"]["kept"] == [best]
        assert torch.equal(weights_of(run), weights_of(solo[best]))
        assert run.history[-1]["validation"] == solo[best].history[-1]["validation"]
        assert run.metrics["test"] == solo[best].metrics["test"]

    def test_a_network_without_a_value_is_kept_only_if_none_has_one(self):
        """The precision of a network that predicts no row as the second class is undefined."""
        selection = Selection("binary", 2, (find_metric("precision"),), "precision")
        members = [
            SimpleNamespace(
                run=SimpleNamespace(
                    selection=selection, failed=False, metrics={"validation": {"precision": value}}
                )
            )
            for value in (None, 0.25, 0.5)
        ]
        recipe = SMALL.replace({"model.ensemble": 2})
        one = SMALL.replace({"model.ensemble": 1, "init.restarts": 3})
        assert _best(members, recipe) == [members[2], members[1]]
        assert _best(members, one) == [members[2]]
        assert _best(members[:1], one) == members[:1]

    def test_maximize_a_monitored_score(self):
        run = train("iris", SMALL.replace({"init.restarts": 3, "stop.monitor": "accuracy"}))
        values = run.metrics["members"]["validation"]
        assert run.metrics["members"]["kept"] == [int(np.argmax(values))]

    def test_need_validation_rows(self, tmp_path):
        with pytest.raises(RecipeError, match=r"\[init\] restarts: there are no validation rows"):
            train("iris", SMALL.replace({"init.restarts": 2, "data.validation": 0.0}), out=tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_refuse_a_model_of_the_user(self):
        with pytest.raises(UserError, match="a model of your own"):
            train("iris", SMALL.replace({"init.restarts": 2}), model=nn.Linear(4, 3))

    @pytest.mark.parametrize("engine", ["loop", "packed"])
    def test_observers_watch_each_network_and_may_stop_it(self, engine):
        seen = []

        def watch(training, record):
            seen.append((training.number, record["epoch"]))
            if training.number == 1 and record["epoch"] == 1:
                training.request_stop("enough")

        recipe = SMALL.replace({"init.restarts": 2, "stop.max_epochs": 3})
        train_restarts(plan_run("iris", recipe), engine=engine, observers=[as_observer(watch)])
        assert sorted(seen) == [(0, 1), (0, 2), (0, 3), (1, 1)]

    def test_diverged_networks_are_not_kept(self):
        def build(**_):
            return RandomlyBroken()

        run = train(
            "diabetes", {"model": {"name": build}, "init": {"restarts": 6}, "stop": {"max_epochs": 1}}, seed=1
        )
        values = run.metrics["members"]["validation"]
        assert any(value is None for value in values)
        assert any(value is not None for value in values)

    def test_all_diverge(self, tmp_path):
        bad = SMALL.replace({"init.restarts": 2, "optimizer.name": "sgd", "optimizer.lr": 1e30})
        with pytest.raises(DivergedError, match="2 of 2 networks diverged"):
            train("iris", bad, out=tmp_path / "run")
        assert (tmp_path / "run" / "metrics.json").exists()
        runs = train_many([bad, SMALL], "iris")
        assert [run.failed for run in runs] == [True, False]


class RandomlyBroken(nn.Module):
    """A network that returns NaN in training for some initializations."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(10, 1)
        self.register_buffer("broken", torch.rand(()) < 0.5)

    def forward(self, inputs):
        return self.linear(inputs) * torch.where(self.broken & self.training, math.nan, 1.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    recipe = SMALL.replace({"model.ensemble": 2, "init.restarts": 4})
    return train("iris", recipe, out=tmp_path_factory.mktemp("runs") / "one")


class TestEnsembles:
    def test_predict_the_mean_of_the_best(self, run):
        assert isinstance(run.model, Ensemble)
        solo = [train("iris", SMALL.replace({"init.sample_index": number})) for number in range(4)]
        order = np.argsort([each.metrics["validation"]["loss"] for each in solo], kind="stable")[:2]
        assert run.metrics["members"]["kept"] == order.tolist()
        outputs = [
            solo[number].model(solo[number].preprocess(solo[number].schema.matrix(ROWS))) for number in order
        ]
        mean = torch.stack([torch.softmax(each, 1) for each in outputs]).mean(0)
        assert run.calibration is not None
        expected = torch.softmax(run.calibration(mean.log()), 1).detach().numpy()
        assert run.predict_proba(ROWS) == pytest.approx(expected, abs=1e-6)

    def test_are_evaluated_as_one_model(self, run):
        metrics = run.evaluate("iris")
        assert metrics["accuracy"] == pytest.approx((run.predict(np.array(load_rows())) == labels()).mean())
        assert set(run.metrics) >= {"train", "validation", "test"}

    def test_are_stored_in_one_folder(self, run):
        assert {path.name for path in run.path.iterdir()} >= {"weights.safetensors", "manifest.json"}
        assert not (run.path / "members").exists()
        loaded = load(run.path)
        assert np.array_equal(loaded.predict_proba(ROWS), run.predict_proba(ROWS))

    @pytest.mark.slow
    @pytest.mark.parametrize("format", ["pt2", "safetensors"])
    def test_are_exported(self, run, format, tmp_path):
        exported = load_exported(run.export(format, tmp_path / f"model.{format}"))
        assert exported.predict_proba(ROWS) == pytest.approx(run.predict_proba(ROWS), abs=1e-6)
        assert (exported.predict(ROWS) == run.predict(ROWS)).all()

    @pytest.mark.slow
    def test_are_exported_to_onnx(self, run, tmp_path):
        runtime = pytest.importorskip("onnxruntime")
        session = runtime.InferenceSession(str(run.export("onnx", tmp_path / "model.onnx")))
        inputs = {one.name: np.array(ROWS)[:, at] for at, one in enumerate(session.get_inputs())}
        outputs = session.run(None, inputs)
        assert any(
            each.shape == (3, 3) and np.allclose(each, run.predict_proba(ROWS), atol=1e-5) for each in outputs
        )

    def test_for_regression(self):
        run = train("diabetes", SMALL.replace({"model.ensemble": 3}))
        solo = [train("diabetes", SMALL.replace({"init.sample_index": number})) for number in range(3)]
        rows = np.random.default_rng(0).normal(0, 0.05, (5, 10))
        expected = np.mean([each.predict(rows) for each in solo], axis=0)
        assert run.predict(rows) == pytest.approx(expected, rel=1e-5)

    def test_need_no_validation_rows_if_all_are_kept(self):
        run = train("iris", SMALL.replace({"model.ensemble": 2, "data.validation": 0.0}))
        assert run.metrics["members"]["kept"] == [0, 1]

    def test_in_train_many(self):
        recipe = SMALL.replace({"model.ensemble": 2})
        one, other = train_many([recipe, SMALL], "iris", seeds=5)
        assert torch.equal(weights_of(one), weights_of(train("iris", recipe, seed=5)))
        assert not isinstance(other.model, Ensemble)
        with pytest.raises(UserError, match="rungs"):
            train_many([recipe], "iris", rungs=[1], survivors=lambda epoch, runs: list(runs))


def load_rows():
    from sklearn.datasets import load_iris

    return load_iris().data


def labels():
    from sklearn.datasets import load_iris

    return load_iris().target_names[load_iris().target]


def stopping(monkeypatch, owner, name, at):
    """Send SIGINT to this process at the call number ``at`` of a method; return the list of calls."""
    method, calls = getattr(owner, name), []

    def call(self, *arguments):
        calls.append(1)
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGINT)
        return method(self, *arguments)

    monkeypatch.setattr(owner, name, call)
    return calls


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "owner", "name", "share"),
    [
        # in the first, in the middle of the second, in the last of three networks
        ("loop", Checkpointer, "stepped", 0.1),
        ("loop", Checkpointer, "stepped", 0.5),
        ("loop", Checkpointer, "stepped", 0.9),
        ("packed", PackTraining, "close_epoch", 0.2),
    ],
)
def test_resume_is_exact(tmp_path, monkeypatch, engine, owner, name, share):
    recipe = SMALL.replace({"init.restarts": 3, "model.ensemble": 2, "checkpoint.every_seconds": 0.0})
    with monkeypatch.context() as patched:
        done = stopping(patched, owner, name, -1)
        whole = train_restarts(plan_run("iris", recipe), engine=engine)
        calls = len(done)
    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        stopping(patched, owner, name, max(1, int(share * calls)))
        with pytest.raises(
            Interrupted, match=f"training of 3 networks: .* continue with resume=True, out='{folder}'"
        ):
            train_restarts(plan_run("iris", recipe), folder, engine=engine)
    resumed = train("iris", recipe, out=folder, resume=True)
    assert torch.equal(weights_of(resumed), weights_of(whole))
    assert resumed.metrics["members"] == whole.metrics["members"]
    assert resumed.metrics["test"] == whole.metrics["test"]
    finished = train("iris", None, out=folder, resume=True)
    assert torch.equal(weights_of(finished), weights_of(whole))


class Landscape(nn.Module):
    """The multimodal function g(x, y) = Σ_i a_i sin(b_i x + c_i y) + d_i cos(e_i x + f_i y) at a trainable point."""

    A, B, C = (1.0, 0.8), (1.3, -0.7), (0.6, 1.9)
    D, E, F = (0.9, 0.6), (0.8, 2.1), (-1.4, 0.5)
    REACH = 3.0

    def __init__(self, **_):
        super().__init__()
        self.point = nn.Parameter(self.REACH * (2 * torch.rand(2) - 1))

    @classmethod
    def g(cls, x, y):
        return sum(
            a * torch.sin(b * x + c * y) + d * torch.cos(e * x + f * y)
            for a, b, c, d, e, f in zip(cls.A, cls.B, cls.C, cls.D, cls.E, cls.F, strict=True)
        )

    def forward(self, inputs):
        return self.g(*self.point).expand(len(inputs), 1)


class Value:
    """A loss that is the output of the network."""

    def __call__(self, outputs, targets):
        return outputs.mean()


@pytest.mark.slow
def test_restarts_find_the_global_minimum_more_often():
    """E5. Gradient descent from one random point rarely finds it; the best of eight points mostly does."""
    side = torch.linspace(-6, 6, 1201, dtype=torch.float64)
    minimum = Landscape.g(*torch.meshgrid(side, side, indexing="ij")).min().item()
    data = (np.arange(16.0)[:, None], np.arange(16.0))
    recipe = Recipe(
        model={"name": Landscape}, loss={"name": Value}, optimizer={"name": "sgd", "lr": 0.1},
        schedule={"name": "constant", "warmup": 0}, data={"sampling": "full", "batch_size": 16},
        stop={"max_epochs": 40, "patience": None, "average": 0.0, "min_improvement": 0.0}, engine={"threads": 1},
    )  # fmt: skip

    def successes(restarts):
        runs = train_many([recipe.replace({"init.restarts": restarts})] * 12, data, seeds=range(12))
        return sum(run.metrics["validation"]["loss"] < minimum + 0.02 for run in runs)

    # About a quarter of the points of this square lead to it, so eight should succeed with 1 - (3/4)^8 = 90 %.
    once, eight = successes(1), successes(8)
    assert 1 <= once <= 6
    assert eight >= 9
