"""TabM in a recipe: members are trained on their own losses, and everything else is that of the mean prediction."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from sklearn.datasets import load_iris
from tests.support.small_runs import assert_same
from tests.support.stop_at import StopAt
from torch import nn
from torch.nn import functional as F

import descend
from descend.data.batches import Batch
from descend.errors import Interrupted, RecipeError
from descend.export import load_exported
from descend.losses import CrossEntropy, Loss
from descend.losses.focal import Focal
from descend.many import train_many
from descend.nn import MemberMean, tabm
from descend.regularization import decayed_parameters
from descend.runs import check_gradients, optimality_of
from descend.training.objective import Objective

CPU = torch.device("cpu")
K, N, C = 4, 24, 3
SMALL: dict[str, Any] = {
    "model": {"name": "tabm", "submodels": K, "hidden": [8]},
    "stop": {"max_epochs": 3},
    "engine": {"threads": 1},
}


def small(**changes: Any) -> dict[str, Any]:
    return {**SMALL, **changes, "model": {**SMALL["model"], **changes.get("model", {})}}


def network(**settings: Any) -> nn.Module:
    torch.manual_seed(0)
    return tabm((5,), C, submodels=K, hidden=(7,), dropout=0.0, link="logit", **settings).double()


def batch(*, weighted: bool = False, soft: bool = False) -> Batch:
    rng = torch.Generator().manual_seed(1)
    rows = torch.randn(N, 5, generator=rng).double()
    targets = torch.arange(N) % C
    if soft:
        targets = torch.rand(N, C, generator=rng).double().softmax(1)
    return Batch(rows, targets, torch.rand(N, generator=rng).double() if weighted else None)


def expected_loss(model: nn.Module, loss: Loss, of: Batch) -> torch.Tensor:
    """The mean over members of each member's weighted mean loss."""
    outputs = model(of.inputs).view(N, K, -1)
    weights = torch.ones(N).double() if of.weights is None else of.weights
    return torch.stack(
        [(weights * loss.per_sample(outputs[:, j], of.targets)).mean() for j in range(K)]
    ).mean()


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("parts", [1, 3])
def test_the_objective_is_the_mean_of_the_members_losses(
    soft: bool, weighted: bool, smoothing: float, parts: int
) -> None:
    model, of = network().train(), batch(weighted=weighted, soft=soft)
    loss = CrossEntropy(label_smoothing=smoothing)
    reference = expected_loss(model, loss, of)
    expected = torch.autograd.grad(reference, list(model.parameters()))
    at = torch.arange(N).tensor_split([10, 20] if parts == 3 else [])
    objective = Objective(model, loss, device=CPU).at([of.some(own) for own in at], 0, 0)
    torch.testing.assert_close(objective(), reference.detach(), rtol=1e-12, atol=0)
    for p, reference_gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, reference_gradient, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(objective.value(), reference.detach(), rtol=1e-12, atol=0)
    value, outputs, _ = objective.linearized()
    torch.testing.assert_close(value, reference, rtol=1e-12, atol=0)
    torch.testing.assert_close(objective.loss_of(outputs), reference, rtol=1e-12, atol=0)
    half = objective.part(0.5)()
    assert half.isfinite()


def test_a_loss_without_a_fused_form() -> None:
    model, of = network().train(), batch(weighted=True)
    objective = Objective(model, Focal(), device=CPU).at([of], 0, 0)
    torch.testing.assert_close(objective(), expected_loss(model, Focal(), of).detach(), rtol=1e-12, atol=0)


def test_in_evaluation_mode_the_objective_is_that_of_the_mean() -> None:
    model, of = network().eval(), batch()
    objective = Objective(model, CrossEntropy(), device=CPU).at([of], 0, 0)
    members = model.train()(of.inputs).view(N, K, C)
    expected = F.nll_loss(members.softmax(2).mean(1).log(), of.targets)
    model.eval()
    torch.testing.assert_close(objective.value(), expected.detach(), rtol=1e-12, atol=0)


def test_adapters_and_biases_do_not_decay() -> None:
    model = tabm((5,), C, submodels=K, hidden=(7, 6))
    decay, rest = decayed_parameters(model)
    assert [tuple(p.shape) for p in decay] == [(7, 5), (6, 7), (K, C, 6)]
    assert len(decay) + len(rest) == len(list(model.parameters()))
    mini, _ = decayed_parameters(tabm((5,), C, submodels=K, hidden=(7,), adapters="first"))
    assert [tuple(p.shape) for p in mini] == [(7, 5), (K, C, 7)]


@pytest.mark.parametrize("adapters", ["all", "first"])
def test_metrics_are_those_of_the_mean_prediction(adapters: str) -> None:
    run = descend.train("iris", small(model={"adapters": adapters, "calibration": "none"}), seed=3)
    x = load_iris().data
    (mean,) = (module for module in run.model.modules() if isinstance(module, MemberMean))
    assert (mean.link, mean.members) == ("logit", K)
    inputs = run.preprocess(run.schema.matrix(x))
    heads = nn.Sequential(*list(run.model.children())[:-1]).eval()
    with torch.no_grad():
        expected = heads(inputs).softmax(2).mean(1)
    np.testing.assert_allclose(run.predict_proba(x), expected.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("data", "output", "link"),
    [
        ("breast_cancer", "sigmoid", "logit"),
        ("breast_cancer", "sine", "arcsine"),
        ("diabetes", None, "identity"),
    ],
)
def test_the_link_is_that_of_the_output(data: str, output: str | None, link: str) -> None:
    run = descend.train(data, small(model={"output": output} if output else {}))
    (mean,) = (module for module in run.model.modules() if isinstance(module, MemberMean))
    assert mean.link == link


def test_predicted_distributions() -> None:
    for loss in ("gaussian", "quantile", "poisson"):
        run = descend.train("diabetes", small(loss={"name": loss}))
        assert np.isfinite(run.metrics["test"]["loss"])
    # Targets in their own units: each head starts at their mean, so that the first loss is that of the mean.
    run = descend.train("diabetes", small(loss={"name": "poisson"}, stop={"max_epochs": 1}))
    assert run.metrics["test"]["r2"] > -0.5


@pytest.mark.parametrize("adapters", ["all", "first"])
def test_saved_and_exported_networks_predict_the_mean(adapters: str, tmp_path: Path) -> None:
    x = load_iris().data
    run = descend.train("iris", small(model={"adapters": adapters}), out=tmp_path / "run")
    expected = run.predict_proba(x)
    assert np.array_equal(descend.load(tmp_path / "run").predict_proba(x), expected)
    for form in ("pt2", "safetensors"):
        model = load_exported(run.export(form, tmp_path / f"model.{form}"))
        np.testing.assert_allclose(model.predict_proba(x), expected, atol=1e-6)
    session = onnxruntime.InferenceSession(run.export("onnx", tmp_path / "model.onnx"))
    inputs = session.get_inputs()
    fed = {each.name: x[:, at] for at, each in enumerate(inputs)} if len(inputs) > 1 else {inputs[0].name: x}
    np.testing.assert_allclose(session.run(None, fed)[1], expected, atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model": {"adapters": "first", "number_embedding": "piecewise_linear"}},
        {"data": {"class_weights": "balanced"}, "gradient": {"accumulate": 2}},
        {"optimizer": "kfac"},
    ],
    ids=str,
)
def test_a_resumed_run_has_the_same_bits(changes: dict[str, Any], tmp_path: Path) -> None:
    recipe = small(**changes)
    whole = descend.train("iris", recipe, seed=2)
    with pytest.raises(Interrupted):
        descend.train("iris", recipe, seed=2, out=tmp_path / "run", observers=[StopAt(3)])
    assert_same(descend.train("iris", out=tmp_path / "run", resume=True), whole)


@pytest.mark.parametrize("engine", ["vmap", "loop"])
@pytest.mark.parametrize(
    ("data", "changes"),
    [
        ("iris", {}),
        ("iris", {"data": {"class_weights": "balanced"}, "model": {"adapters": "first"}}),
        ("breast_cancer", {"model": {"hidden": [8, 8]}}),
        ("diabetes", {"model": {"number_embedding": "piecewise_linear"}, "gradient": {"accumulate": 2}}),
        ("diabetes", {"loss": {"name": "gaussian"}}),
    ],
    ids=str,
)
def test_a_pack_trains_like_solo_runs(data: str, changes: dict[str, Any], engine: Any) -> None:
    recipes = [small(**{**changes, "model": {**changes.get("model", {}), "dropout": p}}) for p in (0.1, 0.3)]
    runs = train_many(recipes, data, seeds=4, engine=engine)
    for recipe, run in zip(recipes, runs, strict=True):
        assert run.environment["engine"]["name"] == engine
        solo = descend.train(data, recipe, seed=4)
        for name, tensor in solo.model.state_dict().items():
            torch.testing.assert_close(run.model.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)
        assert run.metrics["test"]["loss"] == pytest.approx(solo.metrics["test"]["loss"], rel=1e-4)


@pytest.mark.parametrize("optimizer", ["newton", "kfac", "shampoo", "soap", "lbfgs", "bfgs", "trust_region"])
def test_second_order_methods_train_it(optimizer: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of these warn of few rows in a batch
        changes: dict[str, Any] = {"schedule": {"warmup": 0.0}, "stop": {"max_epochs": 8}}
        settings = {"name": optimizer} | ({"lr": 0.03} if optimizer in ("kfac", "shampoo", "soap") else {})
        recipe = small(optimizer=settings, model={"dropout": 0.0}, **changes)
        run = descend.train("iris", recipe, seed=1)
    losses = [record["train"]["loss"] for record in run.history]
    assert losses[-1] < 0.95 * losses[0]


@pytest.mark.parametrize("adapters", ["all", "first"])
def test_derivatives(adapters: str) -> None:
    recipe = small(model={"adapters": adapters, "activation": "tanh"}, regularize={"l2": 0.1})
    assert check_gradients("iris", recipe).agrees


def test_the_objective_of_a_finished_run_is_that_of_the_members() -> None:
    """Without hidden layers the members' losses are convex, and Newton's method finds a stationary point of their mean."""
    recipe = {
        "model": {"name": "tabm", "submodels": 2, "hidden": [], "dropout": 0.0},
        "optimizer": {"name": "newton"},
        "regularize": {"l2": 0.1},
        "data": {"sampling": "full", "validation": 0.0, "test": 0.0},
        "loss": {"label_smoothing": 0.0},
        "schedule": {"warmup": 0.0},
        "stop": {"max_epochs": 30, "average": 0.0},
    }
    x, y = load_iris(return_X_y=True)
    run = descend.train((x, y), recipe)
    found = optimality_of(run, (x, y))
    assert found.gradient_norm < 1e-4
    heads: Any = run.model.get_submodule("output")
    inputs = run.preprocess(run.schema.matrix(x)).double()
    outputs = torch.einsum("ni,koi->nko", inputs, heads.weight.double()) + heads.bias.double()
    losses = F.cross_entropy(outputs.flatten(0, 1), torch.tensor(y).repeat_interleave(2))
    expected = losses + 0.1 * heads.weight.double().square().sum()
    assert found.loss == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("key", ["jacobian", "gradient_penalty"])
def test_penalties_of_single_rows_are_refused(key: str) -> None:
    with pytest.raises(RecipeError, match=rf"{key}.*'tabm' trains several members"):
        descend.train("iris", small(regularize={key: 0.1}))


def test_averages_of_outputs_are_refused() -> None:
    with pytest.raises(RecipeError, match="'scgd' averages the outputs of each row over steps"):
        descend.train("iris", small(optimizer="scgd"))


def test_augmented_and_mixed_rows() -> None:
    run = descend.train("digits", small(data={"augment": ["mixup"]}))
    assert np.isfinite(run.metrics["test"]["loss"])


def test_estimators_take_it() -> None:
    x, y = load_iris(return_X_y=True)
    model = descend.Classifier(recipe=small()).fit(x, y)
    assert model.predict_proba(x).shape == (150, 3)


def test_estimators_continue_it() -> None:
    x, y = load_iris(return_X_y=True)
    model = descend.Classifier(recipe=small())
    for _ in range(3):
        model.partial_fit(x, y, classes=np.unique(y))
    assert model.predict_proba(x).shape == (150, 3)


def test_pretrained_members_with_new_heads(tmp_path: Path) -> None:
    x, y = load_iris(return_X_y=True)
    descend.train((x, y), small(), out=tmp_path / "first")
    pretrained = small(model={"pretrained": str(tmp_path / "first")})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the output layer is new is also recorded
        run = descend.train((x, y > 0), pretrained)
    report = run.environment["pretrained"]
    assert report["replaced"] == ["output.weight", "output.bias"]
    assert report["matched"] == [
        f"linear1.{name}" for name in ("scale_in", "scale_out", "bias", "shared.weight")
    ]
