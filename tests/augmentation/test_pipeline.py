"""Augmentation in training: reproducible, resumable, off in evaluation, refused for unsuitable rows."""

from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples
from tests.support.stop_at import StopAt

import descend
from descend.augmentation import AUGMENTATIONS, Cutmix, Flip, Mixup, Noise, Translate
from descend.augmentation.pipeline import AugmentedBatches, Pipeline, layout_of
from descend.augmentation.pixels import Pixels
from descend.cards import card
from descend.cli import main
from descend.data.batches import Batch, MemoryBatches, Order
from descend.data.preparation import prepare
from descend.data.settings import DataSettings
from descend.data.sources import read
from descend.errors import Interrupted, RecipeError
from descend.runs.build import assemble, augmented, part_batches
from descend.runs.plan import plan_run

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (60, 3, 9, 8), dtype=np.uint8)
LABELS = np.arange(60) % 3
PIXELS = torch.rand(7, 3, 9, 8, generator=torch.Generator().manual_seed(0))
CPU = torch.device("cpu")
QUICK = {
    "model": {"channels": [4], "dense": [6]},
    "data": {"batch_size": 16},
    "stop": {"max_epochs": 2},
    "engine": {"threads": 1, "device": "cpu"},
}
METHODS: dict[str, Any] = AUGMENTATIONS  # classes, which have `fits`
ALL = [name for name, method in METHODS.items() if "images" in method.fits]


def recipe(augment, **sections):
    merged = {**QUICK, **sections}
    return {**merged, "data": {**merged["data"], "augment": augment}}


def batches(order, rows=20):
    inputs = torch.arange(rows * 12.0).reshape(rows, 1, 3, 4)
    return MemoryBatches(inputs, torch.arange(rows) % 3, None, order)


class TestEveryMethod:
    @pytest.mark.parametrize("name", AUGMENTATIONS)
    def test_keeps_shape_and_dtype_leaves_inputs_unchanged_and_is_reproducible(self, name):
        method = AUGMENTATIONS[name]()
        before = PIXELS.clone()

        def run(seed):
            result = method(PIXELS, torch.Generator().manual_seed(seed))
            return result if isinstance(result, torch.Tensor) else result.inputs

        result = run(1)
        assert torch.equal(PIXELS, before)
        assert result.shape == PIXELS.shape
        assert result.dtype == PIXELS.dtype
        assert result.isfinite().all()
        assert torch.equal(result, run(1))
        assert not torch.equal(result, run(2))
        torch.rand(3)  # the global generator is not used
        assert torch.equal(result, run(1))

    @pytest.mark.parametrize("name", AUGMENTATIONS)
    def test_one_row_one_channel_one_pixel_no_row(self, name):
        for shape in ((1, 1, 1, 1), (1, 3, 1, 5), (2, 2, 6, 1), (0, 3, 8, 8)):
            result = AUGMENTATIONS[name]()(torch.rand(shape), torch.Generator())
            result = result if isinstance(result, torch.Tensor) else result.inputs
            assert result.shape == shape
            assert result.isfinite().all()

    def test_has_a_card(self):
        assert {card(method).row for method in AUGMENTATIONS.values()} == {"H2"}

    @settings(deadline=None, max_examples=examples(25))
    @given(st.lists(st.sampled_from(ALL), min_size=1, max_size=4, unique=True), st.integers(0, 2**31))
    def test_in_any_order(self, names, seed):
        methods = [AUGMENTATIONS[name]() for name in names]
        result = Pipeline(methods, classes=3, seed=seed)(Batch(PIXELS, torch.arange(7) % 3, None), 0, 0)
        assert result.inputs.shape == PIXELS.shape
        assert result.inputs.isfinite().all()
        if result.targets.dim() == 2:
            torch.testing.assert_close(result.targets.sum(1), torch.ones(7))


class TestRandomNumbers:
    def test_depend_on_seed_epoch_step_and_position_only(self):
        batch = Batch(PIXELS, torch.zeros(7), None)
        results = {
            (seed, epoch, step, place): Pipeline([Noise()], seed=seed)(batch, epoch, step, place).inputs
            for seed in (0, 1)
            for epoch in (0, 1)
            for step in (0, 1)
            for place in (0, 1)
        }
        one = Pipeline([Noise()], seed=0)
        for step in (5, 1, 0):  # previous calls have no influence
            one(batch, 3, step)
        assert torch.equal(one(batch, 0, 1).inputs, results[0, 0, 1, 0])
        distinct = list(results.values())
        assert all(not torch.equal(a, b) for at, a in enumerate(distinct) for b in distinct[:at])

    def test_of_a_method_do_not_depend_on_other_methods(self):
        batch = Batch(PIXELS, torch.zeros(7), None)
        alone = Pipeline([Flip(horizontal=0.0), Noise()], seed=3)(batch, 0, 0).inputs
        mixed = Pipeline([Translate(pixels=0), Noise()], seed=3)(batch, 0, 0).inputs
        assert torch.equal(alone, mixed)

    @pytest.mark.parametrize("accumulate", [1, 2])
    def test_an_epoch_may_start_anywhere(self, accumulate):
        order = Order(20, 4, accumulate, "epoch", seed=2)
        one = AugmentedBatches(batches(order), Pipeline([Noise(), Mixup()], classes=3, seed=2))
        whole = list(one.epoch(1))
        assert len(whole) == one.steps_per_epoch == order.steps_per_epoch
        assert one.rows_per_step == order.rows_per_step
        for start in range(len(whole)):
            for held, expected in zip(one.epoch(1, start), whole[start:], strict=True):
                for batch, other in zip(held, expected, strict=True):
                    assert torch.equal(batch.inputs, other.inputs)
                    assert torch.equal(batch.targets, other.targets)
        assert not torch.equal(whole[0][0].inputs, next(one.epoch(2))[0].inputs)
        if accumulate == 2:
            assert not torch.equal(whole[0][0].inputs, whole[0][1].inputs)
        assert [rows.tolist() for rows in one.rows(1, 1)] == [rows.tolist() for rows in order.step(1, 1)]

    def test_the_global_generator_is_not_used(self):
        torch.manual_seed(4)
        state = torch.get_rng_state()
        one = AugmentedBatches(batches(Order(20, 4)), Pipeline([Noise(), Cutmix()], classes=3))
        list(one.epoch(0))
        assert torch.equal(state, torch.get_rng_state())


class TestPixels:
    def test_images_range_from_black_to_white_for_any_scale(self):
        for scale in ("standard", "center", "minmax", "none"):
            prepared = prepare(read((IMAGES, LABELS)), DataSettings(scale=scale))
            pixels = Pixels.of(prepared.schema, prepared.train.inputs)
            shown = pixels.to_pixels(prepared.train.inputs)
            expected = torch.from_numpy(IMAGES[prepared.train.rows]).float() / 255
            torch.testing.assert_close(shown, expected, rtol=0, atol=1e-6)
            restored = pixels.from_pixels(shown)
            torch.testing.assert_close(
                restored, prepared.train.inputs, rtol=1e-5, atol=1e-4 if scale == "none" else 1e-5
            )

    def test_outside_the_image_is_black(self):
        prepared = prepare(read((IMAGES, LABELS)))
        pixels = Pixels.of(prepared.schema, prepared.train.inputs)
        one = Pipeline([Translate(pixels=30)], pixels=pixels)
        result = one(Batch(prepared.train.inputs, prepared.train.targets, None), 0, 0).inputs
        black = prepared.preprocess(torch.zeros(1, 3, 9, 8, dtype=torch.uint8))[0]
        gone = result.flatten(1) == black.flatten()
        assert torch.isclose(result, black, rtol=0, atol=1e-5).flatten(1).all(1).float().mean() > 0.5
        assert gone.dtype == torch.bool

    def test_a_table_of_pixels_is_an_image(self):
        """Columns are scaled independently and bounded; both are inverted."""
        source = read("digits")
        prepared = prepare(source)
        assert prepared.schema.clip == DataSettings().clip
        pixels = Pixels.of(prepared.schema, prepared.train.inputs)
        shown = pixels.to_pixels(prepared.train.inputs)
        expected = source.frame.to_numpy()[prepared.train.rows].reshape(-1, 1, 8, 8) / 16
        np.testing.assert_allclose(shown.numpy(), expected, atol=2e-3)  # near the bound the precision is low
        assert np.abs(shown.numpy() - expected).mean() < 1e-5
        torch.testing.assert_close(pixels.from_pixels(shown), prepared.train.inputs, rtol=1e-4, atol=1e-5)

    def test_images_of_other_numbers_range_from_the_smallest_to_the_largest(self):
        numbers = RANDOM.normal(size=(40, 2, 4, 4)) * 30 - 7
        prepared = prepare(read((numbers, np.arange(40) % 2)))
        shown = Pixels.of(prepared.schema, prepared.train.inputs).to_pixels(prepared.train.inputs)
        assert shown.min().item() == pytest.approx(0, abs=1e-6)
        assert shown.max().item() == pytest.approx(1, abs=1e-6)

    def test_a_torch_dataset_is_not_converted(self):
        data = torch.utils.data.TensorDataset(torch.rand(30, 1, 4, 4), torch.arange(30) % 2)
        prepared = prepare(read(data))
        pixels = Pixels.of(prepared.schema, prepared.train.inputs)
        assert torch.equal(pixels.to_pixels(PIXELS), PIXELS)


class TestLayout:
    def test_of_a_table(self):
        frame = pl.DataFrame(
            {
                "age": [None if i % 9 == 0 else float(i) for i in range(60)],
                "member": [i % 2 == 0 for i in range(60)],
                "color": [("red", "blue", None)[i % 3] for i in range(60)],
                "size": [i * 0.5 for i in range(60)],
                "y": LABELS,
            }
        )
        prepared = prepare(read(frame, target="y"))
        layout = layout_of(prepared.schema, prepared.preprocess)
        assert prepared.preprocess.names == (
            "age", "member", "size", "color=blue", "color=red", "age is missing", "color is missing"
        )  # fmt: skip
        assert layout.numbers.tolist() == [True, False, True, False, False, False, False]
        assert layout.columns.tolist() == [0, 1, 3, 2, 2, 0, 2]

    def test_of_images_and_other_rows(self):
        for data, kind in (((IMAGES, LABELS), "images"), ("digits", "images"), ("iris", "rows")):
            prepared = prepare(read(data))
            assert layout_of(prepared.schema, prepared.preprocess).kind == kind
        prepared = prepare(read((RANDOM.normal(size=(60, 4, 3)), LABELS)))
        assert layout_of(prepared.schema, prepared.preprocess).kind == "rows"


class TestRefused:
    def refusal(self, source, augment, **sections):
        with pytest.raises(RecipeError) as caught:
            descend.train(source, recipe(augment, model={}, **sections))
        return str(caught.value)

    def test_methods_that_do_not_fit_the_rows(self):
        message = self.refusal("iris", ["flip", "noise", "cutmix"])
        assert "[data] augment: 'flip' is for images; the rows are a table" in message
        assert "methods that fit: noise, mixup, feature_dropout" in message
        assert "'cutmix' is for images" in message
        assert "'noise' is for" not in message
        message = self.refusal((IMAGES, LABELS), ["feature_dropout"])
        assert "'feature_dropout' is for rows; these are images" in message

    def test_pixels_that_a_scale_has_mixed(self):
        zca = {"data": {"scale": "zca", "batch_size": 256}}
        message = self.refusal("digits", "rotate", **zca)
        assert "data.scale = 'zca' mixes the pixels" in message
        assert descend.train("digits", recipe("noise", model={}, **zca)).metrics["epochs"] == 2

    def test_settings(self):
        for augment, words in (
            ("flipp", "no such augment 'flipp'; did you mean 'flip'"),
            ([{"name": "flip", "pixels": 1}], r"augment.pixels: unknown key of 'flip'"),
            ([{"name": "translate", "pixels": -1}], "augment.pixels: expected an integer >= 0"),
            ([{"pixels": 1}], "a table with the key 'name'"),
            (3, "expected a string, a table, or a list of strings or tables, got 3"),
        ):
            with pytest.raises(RecipeError) as caught:
                descend.Recipe(data={"augment": augment})
            assert words in str(caught.value)
        message = self.refusal((IMAGES, LABELS), [{"name": "occlude", "smallest": 0.9}])
        assert "smallest must not be above largest" in message
        with pytest.raises(RecipeError, match="importing runs its code"):
            descend.Recipe.of({"data": {"augment": ["mine:Jitter"]}}, allow_imports=False)

    def test_a_loss_that_takes_class_indices_only(self):
        message = self.refusal("iris", "mixup", loss={"name": "torch.nn.NLLLoss"})
        assert "mixing rows makes the targets distributions, which the loss does not take" in message


OWN = """
class Brighter:
    def __init__(self, *, by: float = 0.1) -> None:
        if by < 0:
            raise ValueError("by must be positive")
        self.by = by

    def __call__(self, inputs, generator):
        return inputs + self.by
"""


class TestInATraining:
    def test_training_rows_only(self):
        """Evaluation uses the original rows: its metrics are those of the finished network on them."""
        run = descend.train((IMAGES, LABELS), recipe(["noise", "occlude", {"name": "mixup", "alpha": 1.0}]))
        planned = plan_run((IMAGES, LABELS), recipe(["noise"]))
        validation = planned.prepared.validation
        run.model.eval()
        with torch.no_grad():
            right = run.model(validation.inputs).argmax(1) == validation.targets
        assert run.metrics["validation"]["accuracy"] == pytest.approx(float(right.float().mean()))
        again = run.evaluate((IMAGES, LABELS))
        assert again == run.evaluate((IMAGES, LABELS))

    def test_batches_are_not_wrapped_without_augmentation(self):
        planned = plan_run((IMAGES, LABELS), recipe([]))
        own = part_batches(planned.prepared.train, Order(36, 16), CPU)
        assert augmented(own, planned, CPU) is own

    def test_methods_without_effect_change_nothing(self):
        plain = descend.train("iris", recipe([], model={}), seed=3)
        same = descend.train("iris", recipe([{"name": "noise", "std": 0.0}], model={}), seed=3)
        for name, weight in plain.model.state_dict().items():
            assert torch.equal(weight, same.model.state_dict()[name])
        other = descend.train("iris", recipe([{"name": "noise", "std": 0.1}], model={}), seed=3)
        assert any(
            not torch.equal(w, other.model.state_dict()[n]) for n, w in plain.model.state_dict().items()
        )

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("data", "augment", "sections"),
        [
            ("images", ALL, {}),
            ("images", ["crop", "mixup"], {"gradient": {"accumulate": 2}}),
            ("iris", ["noise", "feature_dropout", "mixup"], {"model": {}}),
            ("dataset", ["flip", "cutmix"], {}),
        ],
    )
    def test_stopping_at_any_step_and_resuming_gives_the_same_bits(self, tmp_path, data, augment, sections):
        source = {
            "images": (IMAGES, LABELS),
            "iris": "iris",
            "dataset": torch.utils.data.TensorDataset(
                torch.from_numpy(IMAGES).float() / 255, torch.from_numpy(LABELS)
            ),
        }[data]
        whole = descend.train(source, recipe(augment, **sections), seed=3, out=tmp_path / "whole")
        weights = (tmp_path / "whole" / "weights.safetensors").read_bytes()
        for step in range(1, whole.metrics["steps"], 2):
            folder = tmp_path / str(step)
            with pytest.raises(Interrupted):
                descend.train(
                    source,
                    recipe(augment, **sections),
                    seed=3,
                    out=folder,
                    observers=[StopAt(step)],
                )
            descend.train(source, recipe(augment, **sections), out=folder, resume=True)
            assert (folder / "weights.safetensors").read_bytes() == weights, step

    @pytest.mark.slow
    @pytest.mark.parametrize("scale", ["whiten", {"name": "zca", "ridge": 1e-3}, "minmax"])
    def test_resuming_gives_the_same_bits_with_every_scale(self, tmp_path, scale):
        sections = {"model": {}, "data": {"batch_size": 16, "scale": scale}}
        whole = descend.train("wine", recipe("noise", **sections), seed=3, out=tmp_path / "whole")
        with pytest.raises(Interrupted):
            descend.train(
                "wine", recipe("noise", **sections), seed=3, out=tmp_path / "part", observers=[StopAt(7)]
            )
        descend.train("wine", out=tmp_path / "part", resume=True)
        part = descend.load(tmp_path / "part")
        assert part.schema.rotation == whole.schema.rotation
        assert part.schema.columns == whole.schema.columns
        assert all(torch.equal(w, part.model.state_dict()[n]) for n, w in whole.model.state_dict().items())
        assert whole.schema.scale == (scale if isinstance(scale, str) else "zca")

    def test_a_repeated_step_has_the_same_rows(self):
        planned = plan_run((IMAGES, LABELS), recipe(["rotate", "mixup"]))
        run = descend.train((IMAGES, LABELS), recipe(["rotate", "mixup"]))
        training = assemble(planned, run, CPU)
        assert isinstance(training.batches, AugmentedBatches)
        first = next(training.batches.epoch(4, 1))
        again = next(training.batches.epoch(4, 1))
        assert torch.equal(first[0].inputs, again[0].inputs)
        assert torch.equal(first[0].targets, again[0].targets)

    @pytest.mark.parametrize("task", ["binary", "regression", "multi_regression"])
    def test_mixtures_of_other_tasks(self, task):
        rows = RANDOM.normal(size=(60, 4))
        targets = {
            "binary": rows[:, 0] > 0,
            "regression": rows[:, 0] * 9,
            "multi_regression": rows[:, :2] * 9,
        }[task]
        run = descend.train((rows, targets), recipe("mixup", model={}))
        assert run.schema.task == task
        assert np.isfinite(run.metrics["train"]["loss"])

    def test_the_recipe_is_saved_and_loaded(self, tmp_path):
        augment_recipe = ["flip", {"name": "translate", "pixels": 1}]
        run = descend.train((IMAGES, LABELS), recipe(augment_recipe), out=tmp_path / "run")
        again = descend.load(tmp_path / "run")
        assert again.recipe.get("data.augment") == ("flip", {"name": "translate", "pixels": 1})
        assert again.predict(IMAGES).tolist() == run.predict(IMAGES).tolist()

    def test_a_custom_method_by_its_import_path(self, tmp_path, monkeypatch):
        (tmp_path / "my_changes.py").write_text(OWN)
        monkeypatch.chdir(tmp_path)
        augment_recipe = recipe([{"name": "my_changes:Brighter", "by": 0.5}])
        planned = plan_run((IMAGES, LABELS), augment_recipe)
        own = part_batches(planned.prepared.train, Order(36, 16), CPU)
        before, after = (next(each.epoch(0))[0].inputs for each in (own, augmented(own, planned, CPU)))
        spread = torch.tensor(planned.prepared.schema.spread).reshape(3, 1, 1).float()
        torch.testing.assert_close(
            after - before, (0.5 * 255 / spread).expand_as(before), rtol=1e-4, atol=1e-4
        )
        with pytest.raises(RecipeError, match="by must be positive"):
            plan_run((IMAGES, LABELS), recipe([{"name": "my_changes:Brighter", "by": -1.0}]))

    def test_with_weights_of_rows(self):
        weights = np.arange(60) % 4 + 0.5
        run = descend.train((IMAGES, LABELS), recipe(["mixup", "flip"]), sample_weight=weights)
        assert np.isfinite(run.metrics["train"]["loss"])

    def test_training_of_many_equals_solo_runs(self):
        recipes = [recipe(augment, model={"hidden": [5]}) for augment in ([], "noise", ["noise", "mixup"])]
        for run, each in zip(descend.train_many(recipes, "iris", seeds=4), recipes, strict=True):
            alone = descend.train("iris", each, seed=4)
            for name, weight in alone.model.state_dict().items():
                torch.testing.assert_close(run.model.state_dict()[name], weight, rtol=1e-4, atol=1e-5)

    def test_with_the_estimators(self):
        rows = RANDOM.normal(size=(60, 4))
        model = descend.Classifier(
            max_epochs=2, recipe={"data": {"augment": ["noise", "mixup"]}}, random_state=0
        )
        first = model.fit(rows, LABELS).predict_proba(rows)
        assert (model.fit(rows, LABELS).predict_proba(rows) == first).all()

    @pytest.mark.slow
    def test_from_the_command_line(self, tmp_path):
        status = main(
            ["train", "digits", "--set", 'data.augment=["translate", "noise"]', "--set", "stop.max_epochs=1",
             "--set", "data.scale=minmax", "--quiet", "--out", str(tmp_path / "run")]
        )  # fmt: skip
        assert status == 0
        assert 'augment = ["translate", "noise"]' in (tmp_path / "run" / "recipe.toml").read_text()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_on_a_gpu_it_is_reproducible_and_does_not_synchronize(name):
    device = torch.device("cuda")
    method = AUGMENTATIONS[name]()
    images = PIXELS.to(device)
    samples = [torch.Generator(device=device).manual_seed(1) for _ in range(2)]
    first = method(images, samples[0])
    torch.cuda.set_sync_debug_mode("error")  # nothing may synchronize with the device
    try:
        again = method(images, samples[1])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    result = first if isinstance(first, torch.Tensor) else first.inputs
    other = again if isinstance(again, torch.Tensor) else again.inputs
    assert result.device.type == "cuda"
    assert torch.equal(result, other)
    assert result.isfinite().all()
