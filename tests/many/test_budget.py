import itertools
import json

import numpy as np
import pytest
import torch

import descend
from descend import Recipe, load, train, train_many
from descend.errors import Interrupted, ObserverError, RecipeError, RunError
from descend.export import load_exported
from descend.many.budget import _train_best, train_best
from descend.many.budget.deadline import Deadline
from descend.many.budget.round import load_round
from descend.runs.plan import plan_run
from descend.training.notification import as_observers
from descend.training.state import read_state

SMALL = Recipe(
    model={
        "preset": "best",
        "max_rounds": 3,
        "members": [{}, {"optimizer.lr": 0.01}],
        "hidden": [8],
        "activation": "relu",
        "scaling_layer": False,
        "number_embedding": "none",
    },
    stop={"max_epochs": 3},
    engine={"threads": 1},
)


@pytest.fixture(autouse=True)
def _small_rounds(monkeypatch):
    monkeypatch.setattr(_train_best, "ROUND_SIZE", 2)


def best(folder=None, *, resume=False, recipe=SMALL, changes=None, clock=lambda: 0.0, **arguments):
    observers = as_observers(arguments.pop("observers", ()))
    if resume:
        plan = plan_run("iris", Recipe().replace(changes or {}), folder, resume=True)
    else:
        plan = plan_run("iris", recipe.replace(changes or {}), folder)
    return train_best(
        plan, folder, resume=resume, engine="loop", clock=clock, observers=observers, **arguments
    )


def bits(run):
    return torch.cat([each.detach().double().flatten() for each in run.model.state_dict().values()])


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Three rounds without an interruption."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_train_best, "ROUND_SIZE", 2)
        folder = tmp_path_factory.mktemp("best") / "run"
        return best(folder)


class Ticks:
    """A clock that advances by a second at each reading."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


class TestRounds:
    def test_of_one_seed_give_the_same_bits_at_any_speed(self, straight):
        again = best(clock=itertools.count(0.0, 1e-3).__next__)
        assert torch.equal(bits(again), bits(straight))
        assert again.metrics["test"] == straight.metrics["test"]
        assert again.metrics["search"]["kept"] == straight.metrics["search"]["kept"]

    def test_differ_in_what_is_searched_and_in_their_initial_weights(self, straight):
        first, second, third = (load_round(straight.path / "rounds", number) for number in range(3))
        assert [dict(each.table) for each in first] == [{}, {"optimizer.lr": 0.01}]
        assert second[0].table.keys() == {"optimizer.lr", "regularize.weight_decay", "model.dropout"}
        assert second[0].table != second[1].table
        # Even rounds vary a network of the ensemble so far: the first is that network from other initial weights.
        known = [each for each in first + second if dict(each.table) == dict(third[0].table)]
        assert known
        assert not torch.equal(known[0].weights()["linear1.weight"], third[0].weights()["linear1.weight"])

    def test_train_networks_that_a_solo_training_gives(self, straight):
        candidate = load_round(straight.path / "rounds", 0)[1]
        plan = plan_run("iris", SMALL)
        recipe = SMALL.replace({"optimizer.lr": 0.01}).specified()
        for key in ("model.preset", "model.max_rounds", "model.members"):
            del recipe[key]
        seed = descend.rng.key(0, "best network", 0, 1)
        parts = {name: getattr(plan.prepared, name).rows for name in ("train", "validation", "test")}
        (solo,) = train_many([Recipe().replace(recipe)], "iris", seeds=seed, parts=[parts], engine="loop")
        for name, tensor in solo.model.state_dict().items():
            assert torch.allclose(tensor, candidate.weights()[name], rtol=0, atol=1e-6)


class TestResult:
    def test_is_the_weighted_mean_of_networks_of_all_rounds(self, straight):
        kept, weights = straight.metrics["search"]["kept"], straight.metrics["members"]["weights"]
        assert len(kept) == len(weights) <= 12
        assert sum(weights) == pytest.approx(1.0, abs=1e-12)
        inputs = plan_run("iris", SMALL).prepared.validation.inputs.double()
        mean = np.zeros((len(inputs), 3))
        for (number, member), weight in zip(kept, weights, strict=True):
            (own,) = [each for each in load_round(straight.path / "rounds", number) if each.number == member]
            tensors = {name: value.double().numpy() for name, value in own.weights().items()}
            hidden = np.maximum(inputs.numpy() @ tensors["linear1.weight"].T + tensors["linear1.bias"], 0.0)
            logits = hidden @ tensors["output.weight"].T + tensors["output.bias"]
            exp = np.exp(logits - logits.max(1, keepdims=True))
            mean += weight * exp / exp.sum(1, keepdims=True)
        with torch.no_grad():
            found = torch.softmax(straight.model(inputs.float()), 1).numpy()
        np.testing.assert_allclose(found, mean, rtol=0, atol=1e-5)

    def test_is_at_least_as_good_on_the_validation_rows_as_each_network(self, straight):
        losses = [each.loss for number in range(3) for each in load_round(straight.path / "rounds", number)]
        assert len(losses) == 6
        assert straight.metrics["validation"]["objective"] <= min(losses) + 1e-6
        assert len(straight.metrics["members"]["validation"]) == 6

    def test_is_loaded_and_exported_as_one_model(self, straight, tmp_path):
        rows = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]
        expected = straight.predict_proba(rows)
        assert np.array_equal(load(straight.path).predict_proba(rows), expected)
        exported = load_exported(straight.export("safetensors", tmp_path / "model.safetensors"))
        np.testing.assert_allclose(exported.predict_proba(rows), expected, rtol=0, atol=1e-6)

    def test_says_what_it_is(self, straight):
        assert straight.metrics["status"], straight.metrics["stopped"] == ("finished", "max_rounds")
        assert "of 6 trained networks" in repr(straight)
        assert "3 rounds were trained" in repr(straight)
        assert straight.metrics["search"]["rounds"] == 3

    def test_has_at_most_as_many_networks_as_specified(self):
        run = best(changes={"model.ensemble": 1})
        assert not hasattr(run.model, "members")
        assert run.metrics["members"]["weights"] == [1.0]

    def test_of_the_selection_best_has_equal_weights(self):
        run = best(changes={"model.ensemble": 2, "model.ensemble_selection": "best", "model.max_rounds": 1})
        assert run.metrics["members"]["weights"] == [0.5, 0.5]
        assert run.model.weights is None


class TestContinuing:
    def test_with_more_rounds_equals_a_search_that_had_them_from_the_start(self, straight, tmp_path):
        first = best(tmp_path / "run", changes={"model.max_rounds": 1})
        assert first.metrics["search"]["rounds"] == 1
        run = best(tmp_path / "run", resume=True, changes={"model.max_rounds": 3})
        assert torch.equal(bits(run), bits(straight))
        assert load(tmp_path / "run").metrics["search"]["rounds"] == 3

    def test_after_the_end_of_the_time_trains_the_round_to_its_end(self, straight, tmp_path):
        folder = tmp_path / "run"
        short = best(folder, changes={"model.minutes": 0.4}, clock=Ticks())
        assert short.metrics["stopped"] == "minutes"
        assert short.metrics["status"] == "finished"
        assert 0 < short.metrics["search"]["rounds"] < 3
        assert (
            best(folder, resume=True).metrics["seconds"] == short.metrics["seconds"]
        )  # nothing is left to train
        run = best(folder, resume=True, changes={"model.minutes": 1000})
        assert torch.equal(bits(run), bits(straight))

    def test_after_a_signal_gives_a_result_first(self, straight, tmp_path):
        folder, steps = tmp_path / "run", itertools.count()

        class Signal:
            def stepped(self, training):
                training.stop_requested = next(steps) == 20

        stopped = best(folder, observers=[Signal()])
        assert (stopped.metrics["status"], stopped.metrics["stopped"]) == ("stopped", "interrupted")
        assert stopped.metrics["search"]["rounds"] == 1
        assert load(folder).metrics["test"] == stopped.metrics["test"]
        run = best(folder, resume=True)
        assert torch.equal(bits(run), bits(straight))
        assert run.metrics["status"] == "finished"

    def test_after_a_crash_loses_no_round(self, straight, tmp_path):
        folder, epochs = tmp_path / "run", itertools.count()

        def crash(training, record):
            if next(epochs) == 10:
                raise OSError("disk full")

        with pytest.raises(ObserverError):
            best(folder, observers=[crash])
        stored = (folder / "rounds" / "0000.safetensors").read_bytes()
        with pytest.raises(RunError, match=r"descend\.finish"):
            load(folder)
        finished = descend.finish(folder)
        assert finished.metrics["status"] == "stopped"
        assert finished.metrics["search"]["rounds"] == 1
        assert torch.equal(bits(best(folder, resume=True)), bits(straight))
        assert (folder / "rounds" / "0000.safetensors").read_bytes() == stored

    def test_needs_the_rounds(self, tmp_path):
        run = best(tmp_path / "run", changes={"model.max_rounds": 1})
        (tmp_path / "run" / "rounds" / "search.json").unlink()
        assert torch.equal(bits(best(tmp_path / "run", resume=True)), bits(run))
        with pytest.raises(RunError, match="folder rounds was removed"):
            best(tmp_path / "run", resume=True, changes={"model.max_rounds": 2})

    def test_stopped_before_the_first_epoch_has_no_result(self, tmp_path):
        class Signal:
            def stepped(self, training):
                training.stop_requested = True

        with pytest.raises(Interrupted, match="before a network had completed an epoch; continue with"):
            best(tmp_path / "run", observers=[Signal()])


class TestTime:
    def test_that_is_spent_at_once_gives_a_network_with_an_epoch(self):
        run = best(changes={"model.minutes": 1e-6}, clock=Ticks())
        assert run.metrics["stopped"] == "minutes"
        assert run.metrics["epochs"] >= 1
        assert run.metrics["search"]["rounds"] == 0

    def test_of_earlier_sessions_counts(self, tmp_path):
        best(tmp_path / "run", changes={"model.max_rounds": 1}, clock=itertools.count(0.0, 0.5).__next__)
        first = json.loads((tmp_path / "run" / "rounds" / "search.json").read_text())["seconds"]
        run = best(tmp_path / "run", resume=True, changes={"model.max_rounds": 2})
        assert first > 0.0
        assert run.metrics["seconds"] == first  # this clock stands still

    def test_stops_a_pack_too_and_continues_it(self, tmp_path):
        changes = {"model.max_rounds": 1, "stop.max_epochs": 6}
        plan = plan_run("iris", SMALL.replace(changes))
        straight = train_best(plan, engine="packed", clock=lambda: 0.0)
        short = plan_run("iris", SMALL.replace({**changes, "model.minutes": 0.1}))
        stopped = train_best(short, tmp_path / "run", engine="packed", clock=Ticks())
        assert (stopped.metrics["stopped"], stopped.metrics["search"]["rounds"]) == ("minutes", 0)
        assert stopped.metrics["epochs"] < straight.metrics["epochs"]
        longer = plan_run("iris", {"model": {"minutes": 1000}}, tmp_path / "run", resume=True)
        run = train_best(longer, tmp_path / "run", resume=True, engine="packed", clock=lambda: 0.0)
        assert torch.equal(bits(run), bits(straight))

    def test_is_checked_after_the_first_epoch(self):
        class Training:
            epoch, stop_requested = 0, False

        training = Training()
        deadline = Deadline(1.0, 5.0, lambda: 0.0)
        deadline.stepped(training)
        assert not training.stop_requested
        training.epoch = 1
        deadline.stepped(training)
        assert training.stop_requested


class TestRefusals:
    @pytest.mark.parametrize(
        ("model", "message"),
        [
            ({"minutes": 3}, r"\[model\] minutes: it belongs to the preset best"),
            ({"preset": "good", "max_rounds": 3}, r"\[model\] max_rounds: it belongs to the preset best"),
            ({"preset": "best", "minutes": 0}, "expected a number above 0"),
            ({"preset": "best", "minutes": -1}, "expected a number above 0"),
            ({"preset": "best", "members": "auto", "name": "resnet"}, "the preset best chooses the networks"),
            ({"preset": "best", "name": "resnet"}, "the preset best chooses the networks"),
            (
                {"preset": "best", "searched_keys": ["stop.patience"]},
                r"'stop\.patience' is not a key that is",
            ),
        ],
    )
    def test_of_settings(self, model, message):
        with pytest.raises(RecipeError, match=message):
            train("iris", {"model": model})

    def test_without_validation_rows(self):
        with pytest.raises(RecipeError, match=r"there are none; set data\.validation"):
            train("iris", {"model": {"preset": "best"}, "data": {"validation": 0}})

    def test_of_pictures(self):
        pictures = np.zeros((20, 8, 8), np.uint8), np.arange(20) % 2
        with pytest.raises(RecipeError, match="networks for tables, and each row has the shape 1×8×8"):
            train(pictures, {"model": {"preset": "best"}})

    def test_in_a_set_of_trainings(self):
        with pytest.raises(RecipeError, match="it cannot be one of several trainings"):
            train_many([{}, {"model": {"preset": "best"}}], "iris")

    def test_of_the_passes_of_an_estimator(self):
        with pytest.raises(RecipeError, match="partial_fit trains one network"):
            descend.Classifier(preset="best", minutes=3).partial_fit([[0.0], [1.0]], [0, 1], classes=[0, 1])


class TestEstimator:
    def test_searches(self):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(80, 3))
        y = X[:, 0] - X[:, 1]
        model = descend.Regressor(
            preset="best",
            minutes=5,
            hidden=8,
            max_epochs=3,
            random_state=0,
            recipe={"model": {"max_rounds": 2}},
        ).fit(X, y)
        assert model.run_.metrics["search"]["rounds"] == 2
        assert model.predict(X).shape == (80,)


def test_a_file_of_a_round_that_is_damaged_is_reported(straight, tmp_path):
    path = tmp_path / "0000.safetensors"
    path.write_bytes((straight.path / "rounds" / "0000.safetensors").read_bytes()[:-7])
    with pytest.raises(descend.errors.CheckpointError, match="damaged or cut short"):
        load_round(tmp_path, 0)
    assert len(read_state(straight.path / "rounds" / "0000.safetensors")[0]["networks"]) == 2
