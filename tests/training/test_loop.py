"""The training loop against a minimal reference loop, and its behavior on divergence."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import descend
from descend.data.batches import MemoryBatches, Order
from descend.errors import DivergedError
from descend.losses import CrossEntropy
from descend.nn import mlp
from descend.rng import generator, key
from descend.schedules import constant, exponential
from descend.training.averaging import WeightAverage
from descend.training.loop import Training, fit
from descend.training.objective import Objective
from descend.training.observers import Quiet
from descend.training.stopping import Stopping

CPU = torch.device("cpu")


def rows(n: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    return torch.randn(n, 6, generator=rng), torch.randint(3, (n,), generator=rng)


def training(model: nn.Module, *, epochs: int = 3, seed: int = 4, **options) -> Training:
    x, y = rows()
    order = Order(len(x), 8, seed=seed)
    loss = CrossEntropy()
    loss.trust(y)
    options.setdefault("schedule", exponential(order.steps_per_epoch, 99, beta=0.1, per="epoch"))
    return Training(
        model=model,
        objective=Objective(model, loss, device=CPU, seed=seed),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.01, fused=True),
        batches=MemoryBatches(x, y, None, order),
        stopping=Stopping(max_epochs=epochs),
        **options,
    )


def with_dropout_of_pytorch(model: nn.Module) -> nn.Module:
    """Replace layers whose masks are functions of the step by those that sample from PyTorch's generator."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Dropout):
            model.set_submodule(name, nn.Dropout(layer.p))
    return model


@pytest.mark.parametrize("activation", ["relu", "maxout"], ids=["chain", "autograd"])
def test_the_loop_equals_a_minimal_reference_loop(activation: str) -> None:
    torch.manual_seed(0)
    model = with_dropout_of_pytorch(mlp((6,), 3, hidden=(16,), dropout=0.2, activation=activation))
    torch.manual_seed(0)
    reference = with_dropout_of_pytorch(mlp((6,), 3, hidden=(16,), dropout=0.2, activation=activation))
    t = training(model)
    assert fit(t) == "max_epochs"

    x, y = rows()
    optimizer = torch.optim.Adam(reference.parameters(), lr=0.01)
    step, losses = 0, []
    for epoch in range(3):
        total = 0.0
        for batch, index in enumerate(torch.randperm(50, generator=generator(4, "order", epoch)).split(8)):
            torch.manual_seed(key(4, "step", epoch, batch))
            optimizer.param_groups[0]["lr"] = 0.01 * np.exp(-0.1 * epoch)
            loss = functional.cross_entropy(reference(x[index]), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(index)
            step += 1
        losses.append(total / 50)
    assert t.step == step
    for actual, expected in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)
    assert [record["train"]["loss"] for record in t.history] == pytest.approx(losses, rel=1e-5)
    assert t.history[-1]["lr"] == pytest.approx(0.01 * np.exp(-0.2))


def test_averaged_weights_are_evaluated_and_kept() -> None:
    torch.manual_seed(0)
    model = mlp((6,), 3, hidden=(8,))
    reference = [p.detach().clone() for p in model.parameters()]
    evaluated: list[list[torch.Tensor]] = []

    class ReferenceAverage(Quiet):
        def stepped(self, t: Training) -> None:
            decay = min(np.exp(-1 / 5), (1 + t.step) / (10 + t.step))
            for average, p in zip(reference, model.parameters(), strict=True):
                average.mul_(decay).add_(p.detach(), alpha=1 - decay)

    def evaluate() -> dict[str, torch.Tensor]:
        evaluated.append([p.detach().clone() for p in model.parameters()])
        return {"loss": torch.tensor(-float(len(evaluated)))}

    average = WeightAverage(list(model.parameters()), horizon=5)
    t = training(model, average=average, evaluate=evaluate, observers=[ReferenceAverage()])
    fit(t)
    for actual, expected in zip(evaluated[-1], reference, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-7)
    assert t.best is not None
    for actual, expected in zip(t.best.values(), evaluated[-1], strict=True):
        assert torch.equal(actual, expected)
    assert not torch.equal(next(model.parameters()), evaluated[-1][0])


def test_a_request_to_stop_ends_training_after_the_step() -> None:
    class StopRequest(Quiet):
        def stepped(self, t: Training) -> None:
            t.stop_requested = t.step >= 2

    t = training(mlp((6,), 3, hidden=(4,)), observers=[StopRequest()])
    assert fit(t) == "interrupted"
    assert (t.step, t.epoch, t.step_in_epoch, len(t.losses)) == (2, 0, 2, 2)


def table(modify: Callable[[np.ndarray], None] | None = None) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 4))
    y = (x[:, 0] > 0).astype(int)
    if modify is not None:
        modify(x)
    return x, y


RECIPE: dict[str, Any] = {
    "data": {"batch_size": 16, "scale": "none"},
    "model": {"name": "mlp", "hidden": [8, 8]},
    "stop": {"max_epochs": 4, "average": 0.0},
    "engine": {"threads": 1, "device": "cpu"},
}


def test_a_divergence_is_reported_with_module_step_and_advice(tmp_path) -> None:
    recipe = {**RECIPE, "optimizer": {"name": "sgd", "lr": 1e30}}
    with pytest.raises(DivergedError) as raised:
        descend.train(table(), recipe, out=tmp_path / "run")
    message = str(raised.value)
    assert "Training diverged: the update of 'linear1.weight' is not finite at step" in message
    assert "{'optimizer.lr': 1e+29}" in message
    assert raised.value.exit_status == 3
    checkpoint = descend.training.checkpoint.load_checkpoint(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None
    assert all(bool(tensor.isfinite().all()) for tensor in checkpoint["model"].values())


def test_divergence_is_reported_if_averaged_weights_are_projected_onto_frames() -> None:
    """The projection happens before the epoch is measured, and so before the NaN is detected."""
    recipe = {
        **RECIPE,
        "optimizer": {"name": "sgd", "lr": 1e30},
        "stop": {"max_epochs": 4, "average": 3.0},
        "constrain": {"orthogonal": {"pattern": "linear*", "method": "cayley"}},
    }
    with pytest.raises(DivergedError, match=r"the update of 'linear1\.weight' is not finite at step"):
        descend.train(table(), recipe)


class Cliff(torch.nn.Linear):
    """A linear layer whose training output is NaN while the norm of its weights is above 1."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        outputs = super().forward(rows)
        over = self.training and float(self.weight.detach().norm()) > 1
        return outputs * math.nan if over else outputs


@pytest.mark.parametrize(
    "name", ["gd", "cg", "bfgs", "lbfgs", "newton", "trust_region", "coordinate_descent"]
)
def test_a_rejected_step_into_nan_is_not_a_divergence(name: str) -> None:
    model = Cliff(4, 1)
    torch.nn.init.zeros_(model.weight)
    recipe = {
        "data": {"sampling": "full", "scale": "none"},
        "optimizer": {"name": name},
        "stop": {"max_epochs": 6, "average": 0.0},
        "engine": {"threads": 1, "device": "cpu"},
    }
    run = descend.train(table(), recipe, model=model)
    assert run.history[-1]["epoch"] == 6
    assert run.history[-1]["train"]["loss"] < 0.6
    assert 0.5 < float(model.weight.detach().norm()) <= 1


@pytest.mark.filterwarnings("ignore:init")  # about the large values below
def test_rows_with_values_that_overflow_are_named() -> None:
    def set_large_values(x: np.ndarray) -> None:
        x[[7, 31]] = 1e36

    # All rows are in the training part, unscaled, with weights that only overflow on the modified rows.
    recipe = {
        **RECIPE,
        "data": {**RECIPE["data"], "validation": 0.0, "test": 0.0, "clip": "none"},
        "init": {"name": "normal", "std": 1e4},
    }
    with pytest.raises(DivergedError, match=r"output of module 'linear1' .*\nRows of the data: (7|31)\b"):
        descend.train(table(set_large_values), recipe)


def test_the_model_is_restored_to_its_last_good_state() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 1))
    with pytest.raises(DivergedError):
        descend.train(table(), {**RECIPE, "model": {}, "optimizer": {"name": "sgd", "lr": 1e30}}, model=model)
    assert all(bool(p.isfinite().all()) for p in model.parameters())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_no_step_waits_for_the_device() -> None:
    x, y = (each.cuda() for each in rows(512))
    model = mlp((6,), 3, hidden=(32, 32), dropout=0.1).cuda()
    loss = CrossEntropy()
    loss.trust(y)
    steps = []

    class SyncDetector(Quiet):
        def started(self, t: Training) -> None:
            torch.cuda.set_sync_debug_mode("error")

        def stepped(self, t: Training) -> None:
            steps.append(t.step)

        def epoch_ended(self, t: Training, record: dict) -> None:
            torch.cuda.set_sync_debug_mode("default")

    order = Order(512, 32)
    t = Training(
        model=model,
        objective=Objective(model, loss, device=torch.device("cuda")),
        optimizer=torch.optim.Adam(model.parameters(), fused=True),
        schedule=constant(16, 16),
        batches=MemoryBatches(x, y, None, order),
        stopping=Stopping(max_epochs=1),
        observers=[SyncDetector()],
    )
    # The last step of an epoch is followed by the transfer of its measurements, for which the mode is reset.
    last = order.steps_per_epoch - 1
    objective_at = t.objective.at

    def at(batches, epoch, step):
        if step == last:
            torch.cuda.set_sync_debug_mode("default")
        return objective_at(batches, epoch, step)

    t.objective.at = at  # type: ignore[method-assign]  # of this instance
    fit(t)
    assert len(steps) == order.steps_per_epoch


@pytest.mark.parametrize("monitor", ["loss", "mae"])
def test_an_undefined_metric_is_none_and_compares_to_nothing(monitor, tmp_path):
    """R² of one row is undefined: a solo run and a pack train on, and neither records it as a number."""
    x = np.linspace(-1, 1, 30)[:, None]
    y = x[:, 0] * 2
    recipe = {"stop": {"max_epochs": 3, "monitor": monitor, "patience": "none"}, "model": {"hidden": [4]}}
    one = {"validation": (x[:1], y[:1]), "test": (x[:1], y[:1])}
    run = descend.train((x, y), recipe, out=tmp_path / "run", **one)
    assert [record["validation"]["r2"] for record in run.history] == [None] * 3
    assert isinstance(run.metrics["train"]["r2"], float)
    assert run.metrics["test"]["r2"] is None
    assert "NaN" not in (tmp_path / "run" / "metrics.json").read_text()
    for member in descend.train_many([recipe, recipe], (x, y), **one):
        assert not member.failed
        assert [record["validation"]["r2"] for record in member.history] == [None] * 3
