"""Transfer learning: pretrained weights, frozen parts, learning rates by group."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from sklearn.datasets import load_digits
from tests.support.stop_at import StopAt
from torch import nn

import descend
from descend.errors import Interrupted, RecipeError, RunError, UserError
from descend.nn import mlp
from descend.recipe import Recipe
from descend.recipe.build import build_optimizer
from descend.recipe.facts import Facts
from descend.recipe.resolve import resolve
from descend.training.observers import Quiet
from descend.training.transfer import digest_of, freeze, matching, read_weights, transfer

X, Y = load_digits(return_X_y=True)
LOW, HIGH = Y < 5, (Y >= 5) & (Y < 8)
IMAGES = X.reshape(-1, 1, 8, 8).astype(np.float32)

FIRST = "the run on the digits 0 to 4"
BASE = Recipe(
    data={"batch_size": 32},
    model={"name": "convnet", "channels": [8], "dense": [16], "norm": "batch"},
    stop={"max_epochs": 3, "average": 0.0},
    engine={"threads": 1, "device": "cpu"},
)


def some(mask, count=200):
    return IMAGES[mask][:count], Y[mask][:count]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run on the digits 0 to 4."""
    folder = tmp_path_factory.mktemp("first") / "run"
    descend.train(some(LOW), BASE, out=folder)
    return folder


class TestMatching:
    NAMES = ("conv1.weight", "conv1.bias", "norm1.running_mean", "block.conv2.weight", "output.weight")

    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [
            ("conv1", NAMES[:2]),
            ("conv*", NAMES[:2]),
            ("*conv*", (*NAMES[:2], NAMES[3])),
            ("block", NAMES[3:4]),
            ("block.conv?", NAMES[3:4]),
            ("*.weight", (NAMES[0], NAMES[3], NAMES[4])),
            ("conv1.bias", NAMES[1:2]),
            ("*", NAMES),
            ("[no]*", (NAMES[2], NAMES[4])),
        ],
    )
    def test_names(self, pattern, expected):
        assert tuple(matching(pattern, self.NAMES)) == tuple(expected)

    @pytest.mark.parametrize("pattern", ["conv", "weight", "Conv1", "output.weights"])
    def test_a_pattern_without_matches_is_an_error_that_lists_the_modules(self, pattern):
        with pytest.raises(
            UserError, match=rf"'{pattern}'; its modules are conv1, norm1, block.conv2, output"
        ):
            matching(pattern, self.NAMES)


class TestTransfer:
    def pair(self, outputs=(4, 4), hidden=((6, 5), (6, 5))):
        torch.manual_seed(0)
        return [mlp((3,), k, hidden=widths, norm="batch") for k, widths in zip(outputs, hidden, strict=True)]

    def test_everything_matches(self):
        old, new = self.pair()
        report = transfer(new, old.state_dict())
        assert report.matched == tuple(new.state_dict())
        assert (report.replaced, report.missing, report.misshaped, report.unused) == ((), (), (), ())
        assert all(
            torch.equal(a, b)
            for a, b in zip(old.state_dict().values(), new.state_dict().values(), strict=True)
        )
        assert all(p.is_leaf and p.requires_grad for p in new.parameters())

    def test_other_classes_keep_the_initial_head(self):
        old, new = self.pair((4, 7))
        before = new.output.weight.detach().clone()
        report = transfer(new, old.state_dict())
        assert report.replaced == ("output.weight", "output.bias")
        assert torch.equal(new.output.weight, before)
        assert torch.equal(new.linear2.weight, old.linear2.weight)
        assert "output.weight, output.bias keep their initial values" in str(report)

    def test_a_kept_head_must_have_the_same_shape(self):
        old, new = self.pair((4, 7))
        with pytest.raises(
            UserError, match=r"different shapes: output.weight \(file \(4, 5\), network \(7, 5\)\)"
        ):
            transfer(new, old.state_dict(), "keep")
        assert transfer(self.pair()[1], self.pair()[0].state_dict(), "keep").replaced == ()

    def test_a_head_with_the_same_shape_can_be_replaced(self):
        old, new = self.pair()
        before = new.output.weight.detach().clone()
        assert transfer(new, old.state_dict(), "replace").replaced == ("output.weight", "output.bias")
        assert torch.equal(new.output.weight, before)

    def test_another_shape_elsewhere_changes_nothing(self):
        old, new = self.pair(hidden=((6, 5), (6, 8)))
        before = {name: value.clone() for name, value in new.state_dict().items()}
        with pytest.raises(
            UserError, match=r"different shapes: linear2.weight \(file \(5, 6\), network \(8, 6\)\)"
        ):
            transfer(new, old.state_dict())
        assert all(torch.equal(value, before[name]) for name, value in new.state_dict().items())

    def test_missing_and_unused_are_named(self):
        old, new = self.pair(hidden=((6,), (6, 5)))
        with pytest.raises(
            UserError, match=r"missing from the file: linear2.weight, linear2.bias, norm2.weight"
        ):
            transfer(new, old.state_dict())
        old, new = self.pair(hidden=((6, 5), (6,)))
        report = transfer(new, old.state_dict())
        assert report.unused[:2] == ("linear2.weight", "linear2.bias")
        assert "unused: linear2.weight" in str(report)

    def test_nothing_in_common(self):
        with pytest.raises(UserError, match="no tensor of the network is in the file"):
            transfer(nn.Linear(2, 3), {"other.weight": torch.zeros(3, 2)})

    def test_the_network_keeps_its_dtype(self):
        new = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        transfer(new, {name: value.half() for name, value in new.state_dict().items()})
        assert new[0].weight.dtype == torch.float32

    def test_a_head_with_weight_normalization_is_one_module(self):
        model = nn.Sequential(nn.Linear(2, 3), nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))
        report = transfer(model, model.state_dict(), "replace")
        assert len(report.replaced) == 3


class TestFiles:
    def test_run_folder_file_checkpoint_and_export_contain_the_same_weights(self, first, tmp_path):
        expected = descend.load(first).model.state_dict()
        exported = descend.load(first).export("safetensors", tmp_path / "it.safetensors")
        plain = tmp_path / "plain.safetensors"
        safetensors.torch.save_file(expected, plain)
        for path in (
            first,
            first / "weights.safetensors",
            first / "checkpoints" / "best.safetensors",
            exported,
            plain,
        ):
            actual = read_weights(str(path))
            assert set(actual) == set(expected), path
            assert all(torch.equal(actual[name], value) for name, value in expected.items()), path
        last = read_weights(first / "checkpoints" / "last.safetensors")
        assert set(last) == set(expected)

    def test_unreadable_files(self, first, tmp_path):
        for path, message in [
            (tmp_path / "nothing", "no such file"),
            (tmp_path, "contains no weights.safetensors"),
        ]:
            with pytest.raises(UserError, match=message):
                read_weights(path)
        damaged = tmp_path / "damaged.safetensors"
        content = (first / "weights.safetensors").read_bytes()
        damaged.write_bytes(content[: len(content) // 2])
        with pytest.raises(UserError, match="damaged"):
            read_weights(damaged)
        damaged.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(UserError, match="altered"):
            read_weights(damaged)
        with pytest.raises(UserError, match="cannot read the weights"):
            digest_of(tmp_path / "nothing")


class TestFreeze:
    def test_freezing_everything_is_an_error(self):
        with pytest.raises(UserError, match="leave nothing to train"):
            freeze(nn.Linear(2, 2), ["*"])

    def test_only_whole_modules_stay_in_evaluation_mode(self):
        model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
        assert freeze(model, ["1.weight"]) == ("1.weight",)
        before = model[1].running_mean.clone()
        model.train()(torch.randn(9, 2) + 3)
        assert not torch.equal(model[1].running_mean, before)
        assert model[1].training

    def test_dropout_is_not_frozen(self):
        model = nn.Sequential(nn.Linear(2, 64), nn.Dropout(0.5), nn.Linear(64, 1))
        freeze(model, ["0"])
        model.train()
        assert (model[:2](torch.ones(1, 2)) == 0).any()

    def test_no_patterns_freeze_nothing(self):
        model = nn.Linear(2, 2)
        assert freeze(model, []) == ()
        assert all(p.requires_grad for p in model.parameters())


def tensors(run_or_folder):
    if isinstance(run_or_folder, Path):
        return read_weights(run_or_folder)
    return run_or_folder.model.state_dict()


class TestTraining:
    def changes(self, first, **others):
        return {"model.pretrained": str(first), **others}

    @pytest.mark.filterwarnings("ignore:pretrained weights")  # the report of the matched tensors
    @pytest.mark.parametrize("freeze", ["conv*", ["conv1", "norm1"], ["*1"]], ids=str)
    def test_frozen_tensors_keep_their_bits(self, first, freeze):
        """Weight decay, averaging and batch statistics do not change frozen tensors; all others change."""
        recipe = BASE.replace(
            self.changes(
                first, **{"model.freeze": freeze, "stop.average": 2.0, "regularize.weight_decay": 0.1}
            )
        )
        run = descend.train(some(HIGH), recipe)
        before, after = tensors(first), tensors(run)
        frozen = set(matching(freeze, list(after))) if isinstance(freeze, str) else {
            name for each in freeze for name in matching(each, list(after))
        }  # fmt: skip
        assert "conv1.weight" in frozen
        for name, value in after.items():
            if name in frozen:
                assert torch.equal(value, before[name]), name
            elif name in before and not name.startswith("output"):
                assert not torch.equal(value, before[name]), name
        assert run.metrics["status"] == "finished"

    def test_negative_control_without_freezing_all_tensors_change(self, first):
        run = descend.train(some(LOW), BASE.replace(self.changes(first)))
        before, after = tensors(first), tensors(run)
        assert not any(torch.equal(before[name], after[name]) for name in after)

    def test_the_report_is_a_warning_and_is_recorded(self, first, tmp_path):
        with pytest.warns(UserWarning, match=r"output.weight, output.bias keep their initial values"):
            run = descend.train(some(HIGH), BASE.replace(self.changes(first)), out=tmp_path / "run")
        recorded = descend.load(tmp_path / "run").environment["pretrained"]
        assert recorded["path"] == str(first)
        assert recorded["replaced"] == ["output.weight", "output.bias"]
        assert "conv1.weight" in recorded["matched"]
        assert recorded["digest"] == digest_of(first)
        assert run.recipe.get("model.pretrained_head") == "auto"

    def test_the_finished_run_does_not_need_the_pretrained_one(self, first, tmp_path):
        other = tmp_path / "other"
        shutil.copytree(first, other)
        recipe = BASE.replace({"model.pretrained": str(other), "model.freeze": "conv1"})
        run = descend.train(some(LOW), recipe, out=tmp_path / "run")
        shutil.rmtree(other)
        again = descend.load(tmp_path / "run")
        assert (again.predict(IMAGES[:50]) == run.predict(IMAGES[:50])).all()
        assert not again.model.conv1.weight.requires_grad

    @pytest.mark.slow
    @pytest.mark.parametrize("format", ["safetensors", "pt2"])
    def test_a_partly_frozen_run_can_be_exported(self, first, tmp_path, format):
        recipe = BASE.replace(self.changes(first, **{"model.freeze": ["conv1", "norm1"]}))
        run = descend.train(some(LOW), recipe)
        assert run.export(format, tmp_path / f"it.{format}").exists()

    def test_a_resume_without_the_file_has_the_same_bits(self, first, tmp_path):
        other = tmp_path / "other.safetensors"
        shutil.copy(first / "weights.safetensors", other)
        recipe = BASE.replace(
            {
                "model.pretrained": str(other),
                "model.freeze": ["conv1", "norm1"],
                "optimizer.groups": {"dense*": 0.3},
                "checkpoint.every_seconds": 0.0,
            }
        )
        whole = descend.train(some(LOW), recipe, out=tmp_path / "whole")
        with pytest.raises(Interrupted):
            descend.train(some(LOW), recipe, out=tmp_path / "part", observers=[StopAt(7)])
        other.unlink()
        again = descend.train(some(LOW), out=tmp_path / "part", resume=True)
        assert all(
            torch.equal(a, b) for a, b in zip(tensors(whole).values(), tensors(again).values(), strict=True)
        )
        assert again.environment["pretrained"] == whole.environment["pretrained"]

    def test_a_run_without_a_checkpoint_needs_the_same_file(self, first, tmp_path):
        other = tmp_path / "other.safetensors"
        shutil.copy(first / "weights.safetensors", other)
        recipe = BASE.replace({"model.pretrained": str(other)})
        whole = descend.train(some(LOW), recipe, out=tmp_path / "whole")
        with pytest.raises(Interrupted):
            descend.train(some(LOW), recipe, out=tmp_path / "part", observers=[StopAt(2)])
        shutil.rmtree(tmp_path / "part" / "checkpoints")
        with pytest.raises(Interrupted):  # with the same file it starts from the beginning
            descend.train(some(LOW), out=tmp_path / "part", resume=True, observers=[StopAt(2)])
        shutil.rmtree(tmp_path / "part" / "checkpoints")
        safetensors.torch.save_file({name: value + 1 for name, value in tensors(whole).items()}, other)
        with pytest.raises(RunError, match="differ from those the run"):
            descend.train(some(LOW), out=tmp_path / "part", resume=True)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"model.pretrained": "nowhere"}, r"\[model\] pretrained: no such file: nowhere"),
            ({"model.pretrained": FIRST, "model.channels": [9]},
             r"different shapes: conv1.weight .*; the networks may differ in the last layer only"),
            ({"model.freeze": "cnov*"}, r"\[model\] freeze: no weight of the network matches 'cnov\*'; its modules are conv1"),
            ({"model.freeze": ["conv1", "*"]}, "leave nothing to train"),
            ({"optimizer.groups": {"cnov*": 0.1}}, r"\[optimizer\] groups: no weight .* 'cnov\*'; its modules are conv1"),
            ({"model.freeze": "conv1", "optimizer.groups": {"conv1": 0.1}}, "among the trainable parameters"),
            ({"optimizer.groups": {"conv1": 0.0}}, "groups: expected a number above 0, got 0.0, for the key 'conv1'"),
            ({"optimizer.name": torch.optim.LBFGS, "optimizer.lr": 0.1, "optimizer.groups": {"conv1": 0.5}},
             "parameter groups"),
        ],
        ids=lambda value: str(value)[:40],
    )  # fmt: skip
    def test_errors_are_raised_before_anything_is_written(self, first, tmp_path, changes, message):
        if changes.get("model.pretrained") == FIRST:
            changes = {**changes, "model.pretrained": str(first)}
        with pytest.raises(RecipeError, match=message):
            descend.train(some(LOW), BASE.replace(changes), out=tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_a_user_module_can_be_frozen(self):
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 5))
        before = model[1].weight.detach().clone()
        recipe = Recipe(model={"freeze": "1"}, stop={"max_epochs": 1})
        descend.train(some(LOW), recipe, model=model)
        assert torch.equal(model[1].weight, before)


class TestEstimators:
    """The scikit-learn interface: fit and partial_fit."""

    RECIPE = BASE.replace({"stop.gradient_tolerance": 1e9, "stop.max_epochs": 3})

    @pytest.mark.parametrize("method", ["fit", "partial_fit"])
    def test_training_starts_from_the_weights_and_keeps_frozen_ones(self, first, method):
        recipe = self.RECIPE.replace({"model.pretrained": str(first), "model.freeze": ["conv1", "norm1"]})
        x, y = some(LOW, 100)
        classifier = descend.Classifier(recipe=recipe, random_state=0)
        if method == "fit":
            classifier.fit(x, y)
        else:
            classifier.partial_fit(x, y, classes=range(5))
        after, before = classifier.run_.model.state_dict(), tensors(first)
        assert all(torch.equal(after[name], before[name]) for name in after if name[:5] in ("conv1", "norm1"))
        assert not torch.equal(after["dense1.weight"], before["dense1.weight"])
        assert (
            after["dense1.weight"] - before["dense1.weight"]
        ).abs().max() < 0.1  # it started from the pretrained weights

    def test_partial_fit_ignores_the_gradient_tolerance(self):
        x, y = some(LOW, 100)
        classifier = descend.Classifier(recipe=self.RECIPE, random_state=0)
        for _ in range(3):
            classifier.partial_fit(x, y, classes=range(5))
        assert classifier.run_.metrics["epochs"] == 3


class TestMany:
    """Members with pretrained weights are packed; one with frozen weights is trained separately and keeps them."""

    def test_each_member_starts_from_its_weights(self, tmp_path):
        rows, labels = X[LOW][:120], Y[LOW][:120]
        base = BASE.replace({"stop.max_epochs": 1})
        base = Recipe.of(
            {**dict(base.items()), "model": {"name": "mlp", "hidden": [8]}, "init": {"output_gain": 1.0}}
        )
        descend.train((rows, labels), base, out=tmp_path / "first")
        start = {"model.pretrained": str(tmp_path / "first"), "optimizer.lr": 1e-9}
        frozen = {"model.freeze": "linear1", "optimizer.lr": 0.1}
        recipes = [base.replace(start), base.replace(start), base.replace({**start, **frozen})]
        runs = descend.train_many(recipes, (rows, labels))
        before = tensors(tmp_path / "first")
        for run in runs[:2]:
            for name, value in tensors(run).items():
                torch.testing.assert_close(value, before[name], rtol=0, atol=1e-6)
        after = tensors(runs[2])
        assert torch.equal(after["linear1.weight"], before["linear1.weight"])
        assert not torch.allclose(after["output.weight"], before["output.weight"], atol=1e-3)
        assert runs[0].environment["pretrained"]["path"] == start["model.pretrained"]


class TestLearningRateGroups:
    FACTS = Facts("table", 60, "multiclass", (4,), 3, 10)

    def optimizer(self, groups, **sections):
        recipe = resolve(
            Recipe(**{"optimizer": {"name": "sgd", "lr": 0.1, "groups": groups}, **sections}), self.FACTS
        ).recipe
        torch.manual_seed(0)
        model = mlp((4,), 3, hidden=(6, 5))
        return model, build_optimizer(recipe, model)

    def learning_rates(self, model, optimizer):
        lr = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        return {name: lr[id(p)] for name, p in model.named_parameters()}

    def test_the_first_matching_pattern_sets_the_factor(self):
        model, optimizer = self.optimizer({"linear1": 0.1, "linear*": 0.5, "*.bias": 2.0})
        assert self.learning_rates(model, optimizer) == pytest.approx(
            {
                "linear1.weight": 0.01,
                "linear1.bias": 0.01,
                "linear2.weight": 0.05,
                "linear2.bias": 0.05,
                "output.weight": 0.1,
                "output.bias": 0.2,
            }
        )
        assert optimizer.param_groups[0]["lr"] == 0.1

    @pytest.mark.parametrize("name", ["sgd", "adamw"])
    def test_weights_decay_and_biases_do_not_in_any_group(self, name):
        model, optimizer = self.optimizer(
            {"linear1": 0.1},
            regularize={"weight_decay": 0.5},
            optimizer={"name": name, "lr": 0.1, "groups": {"linear1": 0.1}},
        )
        before = {key: p.detach().clone() for key, p in model.named_parameters()}
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
        for key, p in model.named_parameters():
            lr = 0.01 if key.startswith("linear1") else 0.1
            factor = 1.0 if key.endswith("bias") else 1 - lr * 0.5
            torch.testing.assert_close(p.detach(), factor * before[key], rtol=1e-6, atol=0)

    def test_a_step_is_scaled_by_the_factor(self):
        plain, one = self.optimizer({})
        model, other = self.optimizer({"linear1": 0.25})
        before = {key: p.detach().clone() for key, p in plain.named_parameters()}
        for net in (plain, model):
            for p in net.parameters():
                p.grad = torch.ones_like(p)
        one.step()
        other.step()
        for (key, a), b in zip(plain.named_parameters(), model.parameters(), strict=True):
            share = 0.25 if key.startswith("linear1") else 1.0
            torch.testing.assert_close(b - before[key], share * (a - before[key]), rtol=1e-5, atol=1e-8)

    def test_the_schedule_multiplies_every_learning_rate(self):
        recorded = []

        class Recorder(Quiet):
            def stepped(self, training):
                recorded.append([group["lr"] for group in training.optimizer.param_groups])

        recipe = BASE.replace(
            {
                "optimizer": {"name": "sgd", "lr": 0.1},
                "optimizer.groups": {"conv*": 0.1},
                "schedule": {"name": "exponential", "beta": 0.1, "warmup": 0.0},
                "stop.max_epochs": 1,
            }
        )
        run = descend.train(some(LOW), recipe, observers=[Recorder()])
        for step, (base, conv) in enumerate(recorded):
            assert base == pytest.approx(0.1 * np.exp(-0.1 * step))
            assert conv == pytest.approx(0.1 * base)
        assert Recipe.loads(run.recipe.to_toml()).get("optimizer.groups") == {"conv*": 0.1}

    @pytest.mark.parametrize("optimizer", ["heavy_ball", "nesterov", "adam", "rmsprop"])
    def test_with_any_optimizer(self, optimizer):
        recipe = BASE.replace({"optimizer": {"name": optimizer}, "optimizer.groups": {"conv*": 0.1}})
        assert descend.train(some(LOW), recipe).metrics["status"] == "finished"
