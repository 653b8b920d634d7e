"""TabM and the layers of batch ensembles, against float64 algebra on independent formulas."""

from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from descend.errors import UserError
from descend.nn import (
    BatchEnsembleLinear,
    MemberLinear,
    MemberMean,
    initialize,
    members_of,
    mlp,
    per_member,
    resnet,
    tabm,
)
from descend.nn.ensemble import Ensemble
from descend.nn.init import kaiming_normal, orthogonal
from descend.nn.members import AdapterInit

K, D, H, C = 5, 4, 7, 3


def seeded(**settings: Any) -> nn.Sequential:
    torch.manual_seed(0)
    settings = {"submodels": K, "hidden": (H, H), "dropout": 0.0, "link": "logit", **settings}
    return tabm((D,), C, **settings).double()


def moved(model: nn.Module) -> nn.Module:
    """Move all weights, so that no adapter is at its initial value."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return model


def member_outputs(model: nn.Sequential, x: Tensor) -> Tensor:
    """The outputs (k, n, C) of each member as an ordinary network with the weight (s rᵀ) ⊙ W."""
    parts = dict(model.named_children())
    found = []
    for j in range(K):
        h = x * parts["adapter"].scale_in[j] if "adapter" in parts else x
        for name in ("linear1", "linear2"):
            layer: Any = parts[name]
            if isinstance(layer, BatchEnsembleLinear):
                weight = torch.einsum(
                    "o,i,oi->oi", layer.scale_out[j], layer.scale_in[j], layer.shared.weight
                )
                h = torch.einsum("ni,oi->no", h, weight) + layer.bias[j]
            else:
                h = torch.einsum("ni,oi->no", h, layer.weight) + layer.bias
            h = h.clamp_min(0.0)
        heads: Any = parts["output"]
        found.append(torch.einsum("ni,oi->no", h, heads.weight[j]) + heads.bias[j])
    return torch.stack(found)


@pytest.mark.parametrize("adapters", ["all", "first"])
def test_training_returns_each_member_and_evaluation_the_mean_probability(adapters: str) -> None:
    model = seeded(adapters=adapters)
    moved(model)
    x = torch.randn(6, D, dtype=torch.float64)
    expected = member_outputs(model, x)
    rows = model.train()(x)
    torch.testing.assert_close(rows, expected.transpose(0, 1).reshape(6 * K, C), rtol=1e-12, atol=1e-12)
    probabilities = model.eval()(x).softmax(1)
    torch.testing.assert_close(probabilities, expected.softmax(2).mean(0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("link", "outputs", "prediction"),
    [
        ("identity", 2, lambda z: z),
        ("logit", 1, torch.sigmoid),
        ("logits", 3, torch.sigmoid),
        ("log", 2, torch.exp),
        ("arcsine", 1, torch.sin),
    ],
)
def test_the_mean_prediction_of_each_link(link: Any, outputs: int, prediction: Any) -> None:
    mean = MemberMean(K, link).eval()
    z = 0.5 * torch.randn(6, K, outputs, dtype=torch.float64)
    torch.testing.assert_close(prediction(mean(z)), prediction(z).mean(1), rtol=1e-10, atol=1e-10)


def test_equal_adapters_and_heads_are_the_plain_network() -> None:
    model = seeded(adapter_init="ones")
    plain = mlp((D,), C, hidden=(H, H)).double()
    parts: Any = dict(model.named_children())
    with torch.no_grad():
        for name in ("linear1", "linear2"):
            layer: Any = getattr(plain, name)
            layer.weight.copy_(parts[name].shared.weight)
            layer.bias.copy_(parts[name].bias[0])
            assert torch.equal(parts[name].bias, parts[name].bias[:1].expand(K, -1))
        parts["output"].weight.copy_(parts["output"].weight[0].expand_as(parts["output"].weight).clone())
        parts["output"].bias.copy_(parts["output"].bias[0].expand_as(parts["output"].bias).clone())
        plain.output.weight.copy_(parts["output"].weight[0])
        plain.output.bias.copy_(parts["output"].bias[0])
    x = torch.randn(6, D, dtype=torch.float64)
    torch.testing.assert_close(model.eval()(x).softmax(1), plain(x).softmax(1), rtol=1e-12, atol=1e-12)


def test_each_member_is_trained_on_its_own_loss() -> None:
    model, x = seeded(), torch.randn(6, D, dtype=torch.float64)
    y = torch.randint(C, (6,))
    rows = model.train()(x)
    F.cross_entropy(rows, per_member(y, rows)).backward()
    heads: Any = model.output
    found = heads.weight.grad.clone()
    for j in range(K):
        model.zero_grad()
        (F.cross_entropy(model(x).view(6, K, C)[:, j], y) / K).backward()
        torch.testing.assert_close(heads.weight.grad[j], found[j], rtol=1e-12, atol=1e-12)
        assert not heads.weight.grad[[i for i in range(K) if i != j]].any()
    # The gradient of the loss of the mean prediction is another one.
    model.zero_grad()
    F.cross_entropy(model.eval()(x), y).backward()
    assert (heads.weight.grad - found).abs().max() > 1e-3 * found.abs().max()


@pytest.mark.parametrize("adapters", ["all", "first"])
def test_derivatives_agree_with_finite_differences(adapters: str) -> None:
    model = seeded(adapters=adapters, activation="tanh")
    moved(model)
    x = torch.randn(3, D, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in model.named_parameters()]

    def outputs(x: Tensor, *tensors: Tensor) -> Tensor:
        found: Tensor = torch.func.functional_call(model, dict(zip(names, tensors, strict=True)), (x,))
        return found

    for mode in (True, False):
        model.train(mode)
        assert torch.autograd.gradcheck(outputs, (x, *model.parameters()))


def test_the_number_of_parameters() -> None:
    count = sum(p.numel() for p in seeded().parameters())
    adapters = K * (D + H) + K * (H + H)
    assert count == D * H + H * H + adapters + 2 * K * H + K * (H * C + C)
    mini = sum(p.numel() for p in seeded(adapters="first").parameters())
    assert mini == K * D + (D * H + H) + (H * H + H) + K * (H * C + C)


def test_initial_adapters() -> None:
    for kind in get_args(AdapterInit):
        model: Any = tabm((500,), 1, submodels=4, hidden=(6, 6), adapter_init=kind)
        first = model.linear1.scale_in.detach()
        assert first.shape == (4, 500)
        assert torch.equal(model.linear1.scale_out, torch.ones(4, 6))
        assert torch.equal(model.linear2.scale_in, torch.ones(4, 6))
        if kind == "ones":
            assert (first == 1.0).all()
        elif kind == "signs":
            assert (first.abs() == 1.0).all()
            assert abs(float(first.mean())) < 4 / 2000**0.5
        else:
            assert abs(float(first.std()) - 1.0) < 0.1


def test_parts_and_shapes() -> None:
    model = tabm((2, 3), 2, submodels=2, hidden=(5, 4), dropout=0.3)
    assert [name for name, _ in model.named_children()] == [
        "flatten", "linear1", "act1", "drop1", "linear2", "act2", "drop2", "output", "mean",
    ]  # fmt: skip
    assert model.train()(torch.randn(7, 2, 3)).shape == (14, 2)
    assert model.eval()(torch.randn(7, 2, 3)).shape == (7, 2)
    assert tabm((3,), 2, submodels=4, hidden=())(torch.randn(5, 3)).shape == (20, 2)
    mini = tabm((3,), 1, submodels=2, hidden=(4,), dropout=0.0, adapters="first")
    assert [name for name, _ in mini.named_children()] == ["adapter", "linear1", "act1", "output", "mean"]


def test_members_have_their_own_dropout_masks() -> None:
    model = tabm((3,), 1, submodels=2, hidden=(50,), dropout=0.5, adapter_init="ones").train()
    hidden = model[:3](torch.ones(1, 3))
    assert not torch.equal(hidden[0, 0] == 0, hidden[0, 1] == 0)


def test_initialization_fills_each_member_on_its_own() -> None:
    model: Any = seeded().float()
    before = model.linear1.scale_in.clone()
    initialize(model, orthogonal(), generator=torch.Generator().manual_seed(0))
    for head in model.output.weight:
        torch.testing.assert_close(head @ head.T, torch.eye(C))
    shared = model.linear2.shared.weight
    torch.testing.assert_close(shared @ shared.T, 2.0 * torch.eye(H))
    assert not model.linear1.bias.any()
    assert not model.output.bias.any()
    assert torch.equal(model.linear1.scale_in, before)
    initialize(model, kaiming_normal(), generator=torch.Generator().manual_seed(0), last_layer_gain=0.0)
    assert not model.output.weight.any()
    assert model.linear2.shared.weight.any()


def test_members_of_and_per_member() -> None:
    assert members_of(nn.Sequential(nn.Linear(2, D), seeded())) == K
    assert members_of(mlp((2,), 1)) == 1
    rows = torch.arange(6).view(3, 2)
    assert per_member(rows, torch.zeros(6, 1)).tolist() == [[0, 1], [0, 1], [2, 3], [2, 3], [4, 5], [4, 5]]
    assert per_member(rows, torch.zeros(3, 1)) is rows


def test_an_ensemble_of_tabms_is_the_mean_of_all_members() -> None:
    models = [seeded(), seeded(adapter_init="normal")]
    x = torch.randn(4, D, dtype=torch.float64)
    every = torch.cat([member_outputs(model, x) for model in models])
    found = Ensemble(models, "logit").eval()(x).softmax(1)
    torch.testing.assert_close(found, every.softmax(2).mean(0), rtol=1e-12, atol=1e-12)


def test_member_linear_is_k_linear_layers() -> None:
    heads, x = MemberLinear(D, C, K).double(), torch.randn(6, K, D, dtype=torch.float64)
    expected = torch.einsum("nki,koi->nko", x, heads.weight) + heads.bias
    torch.testing.assert_close(heads(x), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("build", [tabm, resnet])
def test_maxout_is_refused(build: Any) -> None:
    with pytest.raises(UserError, match="'maxout' needs several outputs"):
        build((3,), 1, activation="maxout")


REFERENCE = {
    "all": (
        [[-0.3941525123, 1.0172725660], [0.8285305713, -2.0916614025], [-0.0465284210, -0.2903322332],
         [-0.5470579921, 1.2043118512], [0.4999123236, -1.8514665302], [-0.1687436390, -0.0787610048]],
        [[0.5684986086, 0.4315013914], [0.5128125919, 0.4871874081]],
        (0.9187181445066578, 0.6102268118671239),
    ),
    "first": (
        [[-0.2863769045, 1.3664648338], [0.1489136837, 0.2548672994], [-0.8066639291, -0.9343003706],
         [0.1052707980, 1.7934020248], [0.8178190864, -0.0457392045], [0.0221969939, -1.5947668288]],
        [[0.3887091534, 0.6112908466], [0.5646004283, 0.4353995717]],
        (1.0649993031750713, 0.6399242582614085),
    ),
}  # fmt: skip
"""Of the package tabm 0.0.3 in float64, with the weights sin(1), sin(2), …: outputs of three members on two rows, mean
probabilities, and the mean of the members' cross-entropies with its squared gradient norm."""


@pytest.mark.parametrize("adapters", list(REFERENCE))
def test_figures_of_the_reference_implementation(adapters: Any) -> None:
    model = tabm((2,), 2, link="logit", submodels=3, hidden=(4, 4), dropout=0.0, adapters=adapters).double()
    at = 0
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.sin(1.0 + torch.arange(at, at + p.numel(), dtype=torch.float64)).view(p.shape))
            at += p.numel()
    outputs, probabilities, (loss, squared_norm) = REFERENCE[adapters]
    x = torch.tensor([[0.5, -1.0], [2.0, 0.25]], dtype=torch.float64)
    rows = model.train()(x)
    torch.testing.assert_close(rows, torch.tensor(outputs).double(), rtol=0, atol=1e-7)
    value = F.cross_entropy(rows, per_member(torch.tensor([0, 1]), rows))
    value.backward()
    assert value.item() == pytest.approx(loss, rel=1e-12)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert sum(g.square().sum().item() for g in gradients) == pytest.approx(squared_norm, rel=1e-10)
    torch.testing.assert_close(
        model.eval()(x).softmax(1), torch.tensor(probabilities).double(), rtol=0, atol=1e-7
    )
