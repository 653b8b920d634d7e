"""K-FAC against dense Gauss-Newton matrices, theorems and equivalent networks, and known faults of other implementations."""

import copy
import gc
import io
import math
import pickle

import pytest
import torch
from tests.support.optimizer_contract import Case, Contract, Problem, saved
from torch import nn
from torch.func import functional_call, hessian, jacrev
from torch.nn import functional as F

import descend
from descend.data.batches import Batch
from descend.errors import RecipeError, UserError
from descend.losses import CrossEntropy
from descend.many.pack.optimizer import optimizer_cannot_be_packed_because
from descend.nn import mlp
from descend.optim import KFAC, kfac
from descend.optim.layers import layers_of
from descend.training.objective import Objective

CASES = [
    Case("kfac", lr=0.01, layers=True, separable=False),
    Case(
        "kfac",
        {"momentum": 0.0, "damping": 1e-3, "factor_update_steps": 1, "inv_update_steps": 2, "factor_decay": 0.5},
        lr=0.02, layers=True, separable=False,
    ),
]  # fmt: skip


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


class TestContract(Contract):
    def test_no_weight_decay_where_it_is_zero(self, case):
        """As for the others, but after a forward pass of the layer, without which gradients are an error."""
        layer = nn.Linear(2, 1)
        before = copy.deepcopy(layer.state_dict())
        optimizer = case.plain(layer.parameters(), model=layer)
        (0.0 * layer(torch.ones(3, 2)).sum()).backward()
        optimizer.step()
        assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


def double(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def natural(model, likelihood, **changes):
    """Plain natural gradient: no momentum, no clipping, a negligible damping, factors and inverses updated in every step."""
    settings = {
        "lr": 1.0, "momentum": 0.0, "damping": 1e-14, "kl_clip": None, "factor_update_steps": 1, "inv_update_steps": 1,
    }  # fmt: skip
    return KFAC(model.parameters(), model, likelihood, **(settings | changes))


def factors(optimizer, weight):
    return optimizer.state[weight]["input_moment"], optimizer.state[weight]["gradient_moment"]


def learned(model, likelihood, x, **changes):
    """An optimizer with the factors of one forward pass, after a step of length zero."""
    optimizer = natural(model, likelihood, lr=0.0, damping=1e-3, **changes)
    (0.0 * model(x).sum()).backward()
    optimizer.step()
    return optimizer


def gauss_newton(model, loss, x, y):
    """The dense generalized Gauss-Newton matrix of the mean loss, by torch.func, over the rows of [W b]."""
    held = {name: p.detach() for name, p in model.named_parameters()}
    jacobians = jacrev(lambda p: functional_call(model, p, (x,)))(held)
    parts = [jacobians["weight"]]
    if "bias" in jacobians:
        parts.append(jacobians["bias"].unsqueeze(-1))
    j = torch.cat(parts, -1).flatten(-2).flatten(0, -2)
    z = model(x).detach()
    h = hessian(lambda z: loss(z, y))(z).reshape(z.numel(), z.numel())
    return j.T @ h @ j


def kron(a, g):
    """A ⊗ G over the rows of a matrix (m, n)."""
    return torch.kron(g, a)


LOSSES = {
    "normal": (F.mse_loss, lambda z: torch.zeros_like(z)),
    "categorical": (F.cross_entropy, lambda z: torch.zeros(len(z), dtype=torch.long)),
    "bernoulli": (
        lambda z, y: F.binary_cross_entropy_with_logits(z, y),
        lambda z: torch.full_like(z, 0.3),
    ),
}


@pytest.mark.parametrize("likelihood", LOSSES)
def test_the_factors_of_one_linear_layer_form_the_gauss_newton_matrix(likelihood):
    """A ⊗ G is exact if the curvature of the loss is the same for all rows; G is an average over 40 000 samples."""
    torch.manual_seed(1)
    outputs = 1 if likelihood == "bernoulli" else 3
    model = nn.Linear(2, outputs, dtype=torch.float64)
    few = double(4, 2) if likelihood == "normal" else double(1, 2)
    loss, targets = LOSSES[likelihood]
    dense = gauss_newton(model, loss, few, targets(model(few)))
    a, g = factors(learned(model, likelihood, few.repeat(40_000 // len(few), 1)), model.weight)
    one = torch.cat([few, torch.ones(len(few), 1)], 1)
    # The mean squared error is a mean over outputs as well, so a row is three predictions.
    predictions = len(few) * (3 if likelihood == "normal" else 1)
    torch.testing.assert_close(a[0], one.T @ one / predictions)
    torch.testing.assert_close(kron(a[0], g[0]), dense, rtol=0, atol=0.03 * dense.abs().max().item())


def test_the_natural_gradient_of_linear_regression_is_the_newton_direction():
    """With one output G is a number, so the step points exactly to the least-squares solution, whatever the samples."""
    torch.manual_seed(0)
    model = nn.Linear(5, 1, dtype=torch.float64)
    x, y = double(300, 5) @ double(5, 5, seed=3), double(300, 1, seed=1)
    ones = torch.cat([x, torch.ones(300, 1)], 1)
    best = torch.linalg.lstsq(ones, y).solution[:, 0]
    start = torch.cat([model.weight[0], model.bias]).detach()
    F.mse_loss(model(x), y).backward()
    optimizer = natural(model, "normal")
    F.mse_loss(model(x), y).backward()
    model.zero_grad()
    F.mse_loss(model(x), y).backward()
    optimizer.step()
    step = torch.cat([model.weight[0], model.bias]).detach() - start
    assert torch.cosine_similarity(step, best - start, dim=0).item() > 1 - 1e-10
    length = (step.norm() / (best - start).norm()).item()
    assert abs(length - 1) < 0.2  # 1 over the mean square of 300 normal numbers


def trained(model, x, targets, loss, optimizer, steps=4):
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model(x), targets).backward()
        optimizer.step()
    return model(x).detach()


def two_layers(dtype=torch.float64):
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(4, 6, dtype=dtype), nn.Tanh(), nn.Linear(6, 3, dtype=dtype))


@pytest.mark.parametrize(("method", "same"), [("natural", True), ("sgd", False)])
def test_steps_are_invariant_to_scaling_mixing_and_shifting_the_inputs(method, same):
    x, y = double(60, 4), double(60, 3, seed=1)
    mix, shift = double(4, 4, seed=5) + 2 * torch.eye(4), 3 * double(4, seed=6)
    got = []
    for inputs in (x, x @ mix + shift):
        model = two_layers()
        if inputs is not x:
            with torch.no_grad():  # the same function of the data
                model[0].weight.copy_(model[0].weight @ torch.linalg.inv(mix).T)
                model[0].bias.sub_(model[0].weight @ shift)
        optimizer = (
            natural(model, "normal", lr=0.3, damping=1e-20)
            if method == "natural"
            else torch.optim.SGD(model.parameters(), lr=0.3)
        )
        got.append(trained(model, inputs, y, F.mse_loss, optimizer))
    assert (got[0] - two_layers()(x)).abs().max() > 0.1
    assert torch.allclose(*got, rtol=1e-6, atol=1e-7) == same


def test_factors_are_second_moments_of_inputs_and_output_gradients():
    """A exactly, and G up to its sampling error, from Jacobians by torch.func."""
    model, few = two_layers(), double(5, 4)
    optimizer = learned(model, "categorical", few.repeat(8000, 1))
    hidden = [few, model[:2](few)]
    for layer, inputs, rest in ((model[0], hidden[0], model[1:]), (model[2], hidden[1], nn.Identity())):
        a, g = factors(optimizer, layer.weight)
        ones = torch.cat([inputs, torch.ones(5, 1)], 1).detach()
        torch.testing.assert_close(a[0], ones.T @ ones / 5)
        exact = torch.zeros_like(g[0])
        for row in layer(inputs).detach():
            j = jacrev(rest)(row)
            p = torch.softmax(rest(row), 0).detach()
            exact += j.T @ (torch.diag(p) - torch.outer(p, p)) @ j / 5
        torch.testing.assert_close(g[0], exact.detach(), rtol=0, atol=0.03 * exact.abs().max().item())


@pytest.mark.parametrize("damping", [1e-4, 0.1, 10.0])
def test_damping_is_split_in_proportion_to_the_means_of_both_factors(damping):
    """The step against a dense solve with (A + π√λ I) ⊗ (G + √λ/π I); their means are shifted in the same proportion."""
    model, x, y = two_layers(), double(50, 4), torch.arange(50) % 3
    optimizer = natural(model, "categorical", damping=damping, lr=0.7)
    before = [p.detach().clone() for p in model.parameters()]
    trained(model, x, y, F.cross_entropy, optimizer, steps=1)
    for layer, weight, bias in ((model[0], *before[:2]), (model[2], *before[2:])):
        a, g = (each[0] for each in factors(optimizer, layer.weight))
        eyes = [torch.eye(len(each), dtype=each.dtype) for each in (a, g)]
        pi = math.sqrt((a.trace() / len(a)) / (g.trace() / len(g)))
        of_a, of_g = pi * math.sqrt(damping), math.sqrt(damping) / pi
        assert math.isclose(of_a / (a.trace() / len(a)), of_g / (g.trace() / len(g)), rel_tol=1e-9)
        gradient = torch.cat([layer.weight.grad, layer.bias.grad[:, None]], 1)
        matrix = kron(a + of_a * eyes[0], g + of_g * eyes[1])
        step = -0.7 * torch.linalg.solve(matrix, gradient.flatten()).view_as(gradient)
        torch.testing.assert_close(layer.weight - weight, step[:, :-1].detach(), rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(layer.bias - bias, step[:, -1].detach(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kl_clip", [1e-6, 1e-3, 1e6])
def test_kl_clip_limits_the_change_of_the_predictions(kl_clip):
    """Δᵀ F Δ = κ with the damped Fisher matrix F, unless the full step is shorter."""
    moves, squares = [], []
    for clip in (kl_clip, None):
        model, x, y = two_layers(), double(50, 4), torch.arange(50) % 3
        start = [p.detach().clone() for p in model.parameters()]
        optimizer = natural(model, "categorical", damping=1e-2, lr=0.5, kl_clip=clip)
        trained(model, x, y, F.cross_entropy, optimizer, steps=1)
        square = 0.0
        for place in (0, 2):
            state = optimizer.state[model[place].weight]
            move = torch.cat(
                [model[place].weight - start[place], (model[place].bias - start[place + 1])[:, None]], 1
            )
            a, g = (torch.linalg.inv(state[f"{name}_inverse"][0]) for name in ("input", "gradient"))
            square += (move * (g @ move @ a)).sum().item()
        moves.append(torch.cat([(p - s).flatten() for p, s in zip(model.parameters(), start, strict=True)]))
        squares.append(square)
    assert math.isclose(squares[0], min(kl_clip, squares[1]), rel_tol=1e-6)
    assert torch.cosine_similarity(*moves, dim=0).item() > 1 - 1e-9


def test_momentum_accumulates_a_geometric_series():
    """With constant gradient and factors, the n-th step is (1 − μⁿ)/(1 − μ) of the first."""
    layer = nn.Linear(2, 1, dtype=torch.float64)
    optimizer = natural(
        layer, "normal", momentum=0.5, factor_update_steps=1000, inv_update_steps=1000, damping=0.1
    )
    x, places = double(20, 2), []
    layer(x)
    for step in range(1, 8):  # the first steps update factors; passes in evaluation mode are ignored
        layer.train(step == 1)
        layer(x).sum().backward() if step == 1 else None
        layer.weight.grad, layer.bias.grad = torch.ones(1, 2).double(), torch.ones(1).double()
        before = layer.weight.detach().clone()
        optimizer.step()
        places.append((layer.weight - before).detach())
    for n, move in enumerate(places, start=1):
        torch.testing.assert_close(move, places[0] * (1 - 0.5**n) / 0.5)


GEOMETRIES = {
    "plain": {},
    "stride and padding": {"stride": (2, 1), "padding": (1, 2)},
    "dilation": {"dilation": (2, 1), "padding": 1},
    "groups": {"groups": 2},
    "depthwise": {"groups": 4, "out": 4},
    "same": {"padding": "same", "dilation": 2},
    "reflected": {"padding": 1, "padding_mode": "reflect"},
    "circular": {"padding": (1, 0), "padding_mode": "circular", "groups": 2},
    "no bias": {"bias": False, "stride": 2},
}


@pytest.mark.parametrize("settings", GEOMETRIES.values(), ids=GEOMETRIES)
def test_a_convolution_is_its_matrix_applied_to_patches(settings):
    """Regression: stride, padding, dilation and groups. The oracle is the convolution itself, and its gradient."""
    settings = dict(settings)
    conv = nn.Conv2d(4, settings.pop("out", 6), (3, 2), dtype=torch.float64, **settings)
    (layer,) = layers_of(conv, None)
    x = double(3, 4, 7, 6)
    y = conv(x)
    inputs, products = layer.inputs(conv, x), layer.output_gradients(conv, y)
    matrices = torch.zeros(layer.groups, *layer.shape, dtype=torch.float64)
    for view, p in zip(layer.views(matrices), layer.parameters, strict=True):
        view.copy_(p.detach())
    torch.testing.assert_close(inputs @ matrices.mT, products)
    gradient = double(*y.shape, seed=1)
    y.backward(gradient)
    gradients = layer.views(layer.output_gradients(conv, gradient).mT @ inputs)
    for gradient, p in zip(gradients, layer.parameters, strict=True):
        torch.testing.assert_close(gradient, p.grad)


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Halves(nn.Module):
    """One layer for each half of a row; both may be the same layer."""

    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x):
        return torch.cat([self.first(x[:, :4]), self.second(x[:, 4:])], 1)


def linear(weight, bias):
    made = nn.Linear(weight[0].numel(), len(weight), dtype=torch.float64)
    made.load_state_dict({"weight": weight.flatten(1), "bias": bias})
    return made


def conv(*settings, **more):
    return nn.Conv2d(*settings, dtype=torch.float64, **more)


def whole_image():
    of_image = conv(2, 3, 4)
    yield nn.Sequential(Apply(lambda x: x.view(-1, 2, 4, 4)), of_image, nn.Flatten())
    yield nn.Sequential(linear(of_image.weight, of_image.bias))


def dilated_kernel():
    corners = conv(2, 3, 2, dilation=3)
    yield nn.Sequential(Apply(lambda x: x.view(-1, 2, 4, 4)), corners, nn.Flatten())
    yield nn.Sequential(
        Apply(lambda x: x.view(-1, 2, 4, 4)[:, :, ::3, ::3].flatten(1)), linear(corners.weight, corners.bias)
    )


def two_groups():
    grouped = conv(8, 6, (1, 1), groups=2)
    yield nn.Sequential(Apply(lambda x: x[:, :8, None, None]), grouped, nn.Flatten())
    parts = zip(grouped.weight.chunk(2), grouped.bias.chunk(2), strict=True)
    yield nn.Sequential(Apply(lambda x: x[:, :8]), Halves(*(linear(*each) for each in parts)))


def positions():
    along = conv(4, 3, 1)
    yield nn.Sequential(Apply(lambda x: x.view(-1, 4, 1, 8)), along, nn.Flatten())
    yield nn.Sequential(
        Apply(lambda x: x.view(-1, 4, 8).mT),
        linear(along.weight, along.bias),
        Apply(lambda y: y.mT.flatten(1)),
    )


def called_twice():
    shared = nn.Linear(4, 3, dtype=torch.float64)
    yield nn.Sequential(Apply(lambda x: x[:, :8]), Halves(shared, shared))
    yield nn.Sequential(
        Apply(lambda x: x[:, :8].view(-1, 2, 4)), linear(shared.weight, shared.bias), nn.Flatten()
    )


def shared_weight():
    first, second = nn.Linear(4, 3, dtype=torch.float64), nn.Linear(4, 3, dtype=torch.float64)
    second.weight, second.bias = first.weight, first.bias
    yield nn.Sequential(Apply(lambda x: x[:, :8]), Halves(first, second))
    once = linear(first.weight, first.bias)
    yield nn.Sequential(Apply(lambda x: x[:, :8]), Halves(once, once))


def in_place():
    first = nn.Linear(32, 3, dtype=torch.float64)
    yield nn.Sequential(first, nn.ReLU(inplace=True))
    yield nn.Sequential(linear(first.weight, first.bias), nn.ReLU())


@pytest.mark.parametrize(
    "forms", [whole_image, dilated_kernel, two_groups, positions, called_twice, shared_weight, in_place]
)
def test_equivalent_networks_take_the_same_steps(forms):
    """Regression: dilation, groups, shared modules, in-place activations. Equal outputs have equal samples."""
    torch.manual_seed(4)
    x, got = double(40, 32), []
    for model in list(forms()):
        model.append(linear(double(2, len(model(x)[0]), seed=9), torch.zeros(2)))
        optimizer = KFAC(
            model.parameters(), model, "normal", lr=0.1, factor_update_steps=1, inv_update_steps=2
        )
        before = model(x).detach()
        got.append(trained(model, x, x[:, :2] - x[:, 2:4], F.mse_loss, optimizer, steps=5))
        assert (got[-1] - before).abs().max() > 0.05
    torch.testing.assert_close(got[0], got[1], rtol=1e-9, atol=1e-11)


def test_sharing_by_uncorrelated_places_yields_the_gauss_newton_matrix():
    """z = W u + W v with inputs whose products cancel over rows: A sums over the places, and G is their mean."""
    shared = nn.Linear(3, 2, bias=False, dtype=torch.float64)
    u, v = double(6, 3), double(6, 3, seed=1)
    both = torch.cat([torch.cat([u, v], 1), torch.cat([u, -v], 1)])
    model = nn.Sequential(Apply(lambda x: x.view(-1, 2, 3)), shared, Apply(lambda y: y.sum(1)))
    whole = nn.Linear(3, 2, bias=False, dtype=torch.float64)
    dense = gauss_newton(whole, F.mse_loss, both[:, :3] + both[:, 3:], torch.zeros(12, 2))
    a, g = factors(learned(model, "normal", both.repeat(3000, 1)), shared.weight)
    torch.testing.assert_close(kron(a[0], g[0]), dense, rtol=0, atol=0.03 * dense.abs().max().item())


class TestKnownFaults:
    def test_not_the_empirical_fisher_matrix(self):
        """With the targets of the data the gradients vanish at a perfect fit; with sampled targets they do not."""
        model, x = two_layers(), double(200, 4)
        found = []
        for y in (model(x).detach(), model(x).detach() + 5):  # a perfect fit, and a bad one
            optimizer = natural(model, "normal", lr=0.0)
            F.mse_loss(model(x), y).backward()
            optimizer.step()
            found.append(factors(optimizer, model[2].weight)[1][0].clone())
        assert torch.equal(*found)
        torch.testing.assert_close(found[0], 2.0 * torch.eye(3, dtype=torch.float64), rtol=0, atol=0.4)

    @pytest.mark.slow
    @pytest.mark.parametrize("rows", [10, 1000])
    def test_gradients_are_not_divided_by_the_batch_size(self, rows):
        """G is that of single predictions: for the mean squared error it is 2, for any number of rows and steps."""
        model = nn.Linear(2, 1, dtype=torch.float64)
        optimizer = natural(model, "normal", lr=0.0)
        means = []
        for _ in range(4000 // rows):
            model.zero_grad()
            F.mse_loss(model(double(rows, 2)), torch.zeros(rows, 1)).backward()
            optimizer.state[model.weight]["estimates"] = (
                0  # reset the average, so that it is the last estimate
            )
            optimizer.step()
            means.append(factors(optimizer, model.weight)[1].item())
        assert abs(sum(means) / len(means) - 2) < 0.2

    def test_averages_have_no_bias_from_an_initial_value(self):
        """The first estimates are averaged uniformly, later ones exponentially, without an initial identity matrix."""
        layer = nn.Linear(2, 1, bias=False, dtype=torch.float64)
        optimizer = natural(layer, "normal", lr=0.0, factor_decay=0.9)
        seen, rows = [], [double(20, 2, seed=k) * (k + 1) for k in range(30)]
        for x in rows:
            layer(x).sum().backward()
            optimizer.step()
            seen.append(factors(optimizer, layer.weight)[0][0].clone())
        single = [x.T @ x / 20 for x in rows]
        torch.testing.assert_close(seen[0], single[0])
        torch.testing.assert_close(seen[1], (single[0] + single[1]) / 2)
        torch.testing.assert_close(seen[9], sum(single[:10]) / 10)
        torch.testing.assert_close(seen[10], 0.9 * seen[9] + 0.1 * single[10])

    def test_factors_are_not_demoted_to_bfloat16(self):
        """A weight of low precision has factors in float32: in the state, in a file, and after loading."""
        model = nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.Linear(4, 2)).to(torch.bfloat16)
        x, optimizer = torch.randn(50, 6).to(torch.bfloat16), KFAC(model.parameters(), model, "normal")
        trained(model, x, torch.zeros(50, 2).to(torch.bfloat16), F.mse_loss, optimizer)
        again = KFAC(model.parameters(), model, "normal")
        again.load_state_dict(saved(optimizer))
        for layer in (model[0], model[2]):
            for name in ("input_moment", "gradient_moment", "input_inverse", "gradient_inverse", "momentum"):
                own, loaded = (each.state[layer.weight][name] for each in (optimizer, again))
                assert own.dtype == loaded.dtype == torch.float32
                assert torch.equal(own, loaded)
                assert not torch.equal(own, own.bfloat16().float())

    def test_moments_are_not_in_low_precision_under_autocast(self):
        model = nn.Linear(6, 4)
        optimizer = natural(model, "normal", lr=0.0)
        x = torch.randn(64, 6)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            z = model(x)
        z.float().sum().backward()
        optimizer.step()
        ones = torch.cat([x, torch.ones(64, 1)], 1)
        torch.testing.assert_close(factors(optimizer, model.weight)[0][0], ones.T @ ones / 256)

    def test_factors_are_not_lost_by_state_dict(self):
        """A state saved between estimates and inversions, loaded with weights_only, continues bit for bit."""
        x, y = torch.randn(40, 4), torch.randn(40, 3)
        settings = {"lr": 0.1, "factor_update_steps": 3, "inv_update_steps": 5}
        model = two_layers(torch.float32)
        optimizer = KFAC(model.parameters(), model, "normal", **settings)
        trained(model, x, y, F.mse_loss, optimizer, steps=7)
        twin = copy.deepcopy(model)
        again = KFAC(twin.parameters(), twin, "normal", **settings)
        again.load_state_dict(saved(optimizer))
        expected = trained(model, x, y, F.mse_loss, optimizer, steps=9)
        assert torch.equal(trained(twin, x, y, F.mse_loss, again, steps=9), expected)


def test_a_state_with_the_former_names_of_its_entries_is_loaded():
    model, x = two_layers(), double(40, 4)
    optimizer = KFAC(model.parameters(), model, "normal", lr=0.1)
    trained(model, x, double(40, 3, seed=1), F.mse_loss, optimizer)
    state, former = optimizer.state_dict(), {"input_moment": "inputs", "gradient_moment": "slopes"}
    former |= {"input_inverse": "inputs_inverse", "gradient_inverse": "slopes_inverse"}
    old = {
        key: {former.get(name, name): each for name, each in own.items()}
        for key, own in state["state"].items()
    }
    again = KFAC(model.parameters(), model, "normal", lr=0.1)
    again.load_state_dict({**state, "state": old})
    assert str(again.state_dict()) == str(optimizer.state_dict())


def test_the_saved_state_has_no_views_of_stacks():
    """A bias of one number is a column with the stride of a row, which cannot be viewed as bytes."""
    model = nn.Sequential(nn.Linear(4, 1), nn.Linear(1, 1))
    for state in KFAC(model.parameters(), model, "normal").state_dict()["state"].values():
        for each in state.values():
            if torch.is_tensor(each):
                each.reshape(-1).view(torch.uint8)


def test_layers_of_a_stack_are_independent():
    """Five layers of equal shape, one of which is missing in one step, against one optimizer for each layer."""
    layers = [nn.Linear(3, 3, dtype=torch.float64) for _ in range(5)]
    model = nn.Sequential(*layers)
    twin = copy.deepcopy(model)
    together = natural(model, "normal", damping=1e-2, momentum=0.9, lr=0.1)
    single = [natural(twin, "normal", damping=1e-2, momentum=0.9, lr=0.1) for _ in layers]
    still = nn.Parameter(torch.zeros(()))  # its gradient makes a step in which the layer has none
    still.grad = torch.zeros(())
    for one, layer in zip(single, twin, strict=True):
        one.param_groups.clear()
        one.add_param_group({"params": [*layer.parameters(), still], **one.defaults})
    x, y = double(30, 3), double(30, 3, seed=1)
    for step in range(4):
        for net in (model, twin):
            net.zero_grad()
            F.mse_loss(net(x), y).backward()
            if step == 2:
                net[3].weight.grad = net[3].bias.grad = None
        together.step()
        for one in single:
            one.step()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-11)


class TestRecording:
    def test_leaves_gradients_random_state_and_buffers_unchanged(self):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
        twin, x = copy.deepcopy(model), torch.randn(16, 4)
        optimizer = KFAC(model.parameters(), model, "categorical")
        results = []
        for net in (model, twin):
            torch.manual_seed(1)
            F.cross_entropy(net(x), torch.zeros(16, dtype=torch.long)).backward()
            results.append([*(p.grad for p in net.parameters()), *net.buffers(), torch.rand(3)])
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
        optimizer.step()
        assert optimizer.state[model[0].weight]["estimates"] == 1

    def test_happens_only_in_training_mode_with_gradients_at_update_steps(self):
        model, x = nn.Sequential(nn.Linear(4, 2)), torch.randn(16, 4)
        optimizer = KFAC(model.parameters(), model, "normal", factor_update_steps=4)
        counts = []
        for _ in range(10):
            with torch.no_grad():
                model(x)
            model.eval()(x)
            hooked = bool(model._forward_hooks)
            model.train()(x).sum().backward()
            optimizer.step()
            counts.append((hooked, optimizer.state[model[0].weight]["estimates"]))
        updates = [
            True,
            True,
            True,
            False,
            True,
            False,
            False,
            False,
            True,
            False,
        ]  # 0, 1, 2, then every fourth
        assert counts == [(update, sum(updates[: k + 1])) for k, update in enumerate(updates)]
        assert (
            factors(optimizer, model[0].weight)[0][0, 4, 4] == 0.5
        )  # 16 rows for 32 predictions: the other passes are ignored

    def test_a_pass_outside_of_the_closure_is_ignored(self):
        model, x = nn.Linear(2, 1, dtype=torch.float64), double(10, 2)
        optimizer = natural(model, "normal", lr=0.0)
        model(100 * x)

        def closure():
            loss = model(x).sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        assert factors(optimizer, model.weight)[0][0, 2, 2] == 1
        torch.testing.assert_close(factors(optimizer, model.weight)[0][0, :2, :2], x.T @ x / 10)

    def test_passes_of_one_step_are_weighted_by_their_rows(self):
        """As in gradient accumulation; the targets of each pass are sampled separately."""
        model, x = nn.Linear(2, 1, dtype=torch.float64), double(12, 2)
        optimizer = natural(model, "normal", lr=0.0)
        for part in (x[:8], x[8:]):
            model(part).sum().backward()
        optimizer.step()
        torch.testing.assert_close(factors(optimizer, model.weight)[0][0, :2, :2], x.T @ x / 12)

    def test_samples_are_a_function_of_seed_step_and_pass(self):
        def moment(seed, passes=1, skipped=0):
            model = nn.Linear(2, 1, dtype=torch.float64)
            optimizer = natural(model, "normal", lr=0.0, seed=seed)
            for _ in range(skipped):
                model(double(10, 2)).sum().backward()
                optimizer.step()
            optimizer.state[model.weight]["estimates"] = 0
            for _ in range(passes):
                torch.rand(3)
                model(double(10, 2)).sum().backward()
            optimizer.step()
            # The last bits of so small a product depend on its memory address.
            return round(factors(optimizer, model.weight)[1].item(), 9)

        assert moment(0) == moment(0)
        assert len({moment(0), moment(1), moment(0, skipped=1), moment(0, passes=2)}) == 4

    def test_a_copy_of_the_model_is_not_recorded_and_can_be_saved(self):
        model = nn.Sequential(nn.Linear(2, 1))
        optimizer = natural(model, "normal", lr=0.0)
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        others = [
            copy.deepcopy(model),
            pickle.loads(pickle.dumps(model)),
            torch.load(file, weights_only=False),
        ]
        for other in others:
            other(torch.ones(3, 2)).sum().backward()
        model(torch.ones(5, 2)).sum().backward()
        optimizer.step()
        assert optimizer.state[model[0].weight]["estimates"] == 1
        assert factors(optimizer, model[0].weight)[0][0, 0, 0] == 1

    @pytest.mark.slow
    def test_ends_with_the_optimizer(self):
        model = nn.Sequential(nn.Linear(2, 1))
        optimizer = KFAC(model.parameters(), model, "normal")
        assert model._forward_hooks
        assert model[0]._forward_hooks
        del optimizer
        gc.collect()
        assert not model._forward_hooks
        assert not model[0]._forward_hooks
        assert not model._forward_pre_hooks

    def test_a_layer_that_is_rarely_used_gets_factors_at_its_first_use(self):
        class Sometimes(nn.Module):
            def __init__(self):
                super().__init__()
                self.always, self.rare, self.both = nn.Linear(2, 2), nn.Linear(2, 2), False

            def forward(self, x):
                return self.always(x) + self.rare(x) if self.both else self.always(x)

        model, x = Sometimes(), torch.randn(20, 2)
        optimizer = KFAC(model.parameters(), model, "normal", lr=0.1)
        for step in range(8):
            model.both = step == 6  # not a step that updates factors
            optimizer.zero_grad()
            before = model.rare.weight.detach().clone()
            model(x).square().mean().backward()
            optimizer.step()
            assert torch.equal(model.rare.weight, before) == (step != 6)
        state = optimizer.state[model.rare.weight]
        assert state["estimates"] == 1
        assert "average" not in state


class TestOtherParameters:
    def test_take_adam_s_step(self):
        model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)).double()
        optimizer = KFAC(model.parameters(), model, "normal", lr=0.2, adam_lr_scale=0.05)
        twins = [nn.Parameter(p.detach().clone()) for p in model[1].parameters()]
        adam = torch.optim.Adam(twins, lr=0.01)
        for step in range(4):
            optimizer.zero_grad()
            model(double(20, 3, seed=step)).square().mean().backward()
            for twin, p in zip(twins, model[1].parameters(), strict=True):
                twin.grad = p.grad.clone()
            optimizer.step()
            adam.step()
            for twin, p in zip(twins, model[1].parameters(), strict=True):
                torch.testing.assert_close(p, twin, rtol=1e-12, atol=1e-14)

    def test_are_those_that_belong_to_no_layer(self):
        embedding, head = nn.Embedding(5, 3), nn.Linear(3, 5)
        head.weight = embedding.weight
        normed = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
        odd = nn.Linear(3, 2)
        other = nn.Linear(3, 2)
        other.weight = odd.weight  # with a different bias
        model = nn.ModuleList([embedding, head, normed, odd, other, nn.Conv2d(1, 1, 1)])
        found = layers_of(model, None)
        assert [(layer.name, layer.bias is None) for layer in found] == [("3", True), ("5", False)]
        frozen = [p for name, p in model.named_parameters() if name != "5.bias"]
        assert [layer.bias is None for layer in layers_of(model, frozen)] == [True, True]


def test_memory_is_as_documented():
    model = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.Flatten(), nn.Linear(8, 5), nn.LayerNorm(5))
    optimizer = KFAC(model.parameters(), model, "normal")
    model(torch.randn(6, 4, 3, 3)).sum().backward()
    optimizer.step()
    numbers = sum(
        value.numel()
        for state in optimizer.state.values()
        for value in state.values()
        if torch.is_tensor(value)
    )
    expected = 2 * (2 * (19**2 + 4**2) + 4 * 19) + (2 * (9**2 + 5**2) + 5 * 9) + 2 * 10
    assert abs(numbers / expected - 1) < 0.1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_the_input_moments_are_the_same_and_a_loaded_state_continues():
    """The sampled targets differ on a GPU, so only quantities that do not depend on them are compared."""
    x, found = torch.randn(60, 4), []
    for device in ("cpu", "cuda"):
        model = two_layers(torch.float32).to(device)
        optimizer = KFAC(model.parameters(), model, "categorical", lr=0.1)
        y = (x[:, 0] > 0).long().to(device)
        trained(model, x.to(device), y, F.cross_entropy, optimizer, steps=20)
        found.append(factors(optimizer, model[0].weight)[0].cpu())
        again = KFAC(model.parameters(), model, "categorical")
        again.load_state_dict(saved(optimizer))
        assert torch.equal(factors(again, model[0].weight)[1], factors(optimizer, model[0].weight)[1])
        assert F.cross_entropy(trained(model, x.to(device), y, F.cross_entropy, again, steps=30), y) < 0.3
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_numbers_that_are_not_finite_propagate_without_a_crash():
    for likelihood in ("categorical", "normal", "bernoulli"):
        model = nn.Linear(2, 3)
        optimizer = KFAC(model.parameters(), model, likelihood)
        model(torch.full((4, 2), math.nan)).sum().backward()
        optimizer.step()
        assert not model.weight.isfinite().any()


def test_layers_below_weights_that_start_at_zero():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    nn.init.zeros_(model[2].weight)
    x = torch.randn(64, 3)
    optimizer = KFAC(model.parameters(), model, "normal", lr=0.1)
    y = x[:, :1].sin()
    trained(model, x, y, F.mse_loss, optimizer, steps=60)
    assert F.mse_loss(model(x), y) < 0.1 * y.var()


class TestRefusals:
    def test_settings(self):
        model = nn.Linear(2, 1)
        for name, value in [
            ("lr", -1.0), ("momentum", 1.0), ("damping", 0.0), ("factor_decay", 1.0), ("kl_clip", 0.0),
            ("factor_update_steps", 0), ("inv_update_steps", 0), ("adam_lr_scale", -1.0),
        ]:  # fmt: skip
            with pytest.raises(UserError, match=f"^kfac: {name}: expected a.* got {value}"):
                kfac(model.parameters(), model, "normal", **{name: value})

    @pytest.mark.parametrize("likelihood", ["gamma", None])
    def test_a_loss_without_likelihood(self, likelihood):
        model = nn.Linear(2, 1)
        with pytest.raises(
            UserError, match=r"needs a likelihood.*categorical, bernoulli, normal.*shampoo and adam"
        ):
            kfac(model.parameters(), model, likelihood)

    def test_a_model_without_layers(self):
        model = nn.Embedding(3, 2)
        with pytest.raises(UserError, match=r"Linear or Conv2d.*shampoo and adam"):
            kfac(model.parameters(), model, "normal")

    def test_sparse_gradients(self):
        model = nn.Sequential(nn.Embedding(3, 2, sparse=True), nn.Linear(2, 1))
        optimizer = kfac(model.parameters(), model, "normal")
        model(torch.tensor([0, 1])).sum().backward()
        before = model[1].weight.detach().clone()
        with pytest.raises(UserError, match="sparse_adam"):
            optimizer.step()
        assert torch.equal(model[1].weight, before)

    def test_outputs_that_are_not_one_tensor(self):
        model = nn.LSTM(2, 2)
        wrapped = nn.Sequential(nn.Linear(2, 2), model)
        optimizer = kfac(wrapped.parameters(), wrapped, "normal")
        with pytest.raises(UserError, match="one tensor; the model returned a tuple"):
            wrapped(torch.ones(3, 2))
        del optimizer

    def test_gradients_without_a_recorded_pass(self):
        model = nn.Linear(2, 1).eval()
        optimizer = kfac(model.parameters(), model, "normal")
        before = model.weight.detach().clone()
        model(torch.ones(3, 2)).sum().backward()
        with pytest.raises(UserError, match=r"none was recorded.*model\.train\(\)"):
            optimizer.step()
        assert torch.equal(model.weight, before)


def test_the_problem_of_the_contract_is_the_same_with_layers():
    tables, layers = Problem(Case("sgd")), Problem(Case("kfac", layers=True))
    assert torch.equal(tables.loss(), layers.loss())


class TestInDescend:
    def test_accumulated_batches_of_the_training_loop_are_weighted_by_their_rows(self):
        """The input moments do not depend on whether the rows of a step come in one batch or in three."""
        x, y = double(30, 5), torch.arange(30) % 3
        found = []
        for sizes in ([30], [10, 10, 10]):
            torch.manual_seed(0)
            model = mlp((5,), 3, hidden=(7,), activation="tanh").double()
            optimizer = KFAC(model.parameters(), model, "categorical", lr=0.0)
            objective = Objective(model, CrossEntropy(), device=torch.device("cpu"))
            batches = [Batch(a, b, None) for a, b in zip(x.split(sizes), y.split(sizes), strict=True)]
            for step in range(12):
                optimizer.step(objective.at(batches, 0, step))
            state = optimizer.state[model.linear1.weight]
            assert state["estimates"] == 6  # at steps 0, 1, 2, 4, 8 and 10
            found.append(state)
        torch.testing.assert_close(found[0]["input_moment"], found[1]["input_moment"])
        assert not torch.allclose(found[0]["gradient_moment"], found[1]["gradient_moment"])

    def test_a_recipe_passes_the_likelihood_of_its_loss_and_the_seed(self):
        """A run is a function of its seed, and other seeds sample other targets."""
        x, y = double(64, 3).numpy(), double(64, seed=1).numpy()
        recipe = {
            "model": {"name": "mlp", "hidden": [4]}, "optimizer": {"name": "kfac", "lr": 0.05}, "stop": {"max_epochs": 2},
            "engine": {"threads": 1, "device": "cpu"},
        }  # fmt: skip
        runs = [descend.train((x, y), recipe, seed=seed) for seed in (0, 0, 1)]
        weights = [run.model.output.weight for run in runs]
        assert torch.equal(weights[0], weights[1])
        assert not torch.equal(weights[0], weights[2])

    def test_a_loss_without_a_likelihood_is_refused_before_training(self, tmp_path):
        x, y = double(64, 3).numpy(), double(64, seed=1).numpy()
        recipe = {"loss": {"name": "huber"}, "optimizer": {"name": "kfac"}}
        with pytest.raises(
            RecipeError, match=r"(?s)optimizer.*needs a likelihood.*shampoo and adam work with any loss"
        ):
            descend.train((x, y), recipe, out=tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_it_cannot_be_packed(self):
        model = nn.Linear(2, 1)
        assert (
            optimizer_cannot_be_packed_because(kfac(model.parameters(), model, "normal"))
            == "the optimizer KFAC has no packed form"
        )


def test_a_batch_without_rows_teaches_nothing():
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    optimizer = kfac(model.parameters(), model, "normal")
    before = [p.detach().clone() for p in model.parameters()]
    model(torch.zeros(0, 4)).sum().backward()
    optimizer.step()
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    optimizer.zero_grad()
    model(torch.ones(5, 4)).square().mean().backward()
    optimizer.step()
    assert not torch.equal(model[0].weight, before[0])


@pytest.mark.parametrize("kl_clip", [1e-3, None])
def test_inputs_whose_squares_overflow_leave_finite_weights(kl_clip):
    """The second moments of inputs of 1e20 are infinite in float32, and the inverse of such a factor is NaN for good."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = kfac(
        model.parameters(), model, "categorical", factor_update_steps=1, inv_update_steps=1, kl_clip=kl_clip
    )
    x, y = torch.randn(20, 4), torch.randint(0, 3, (20,))
    for step in range(12):
        optimizer.zero_grad()
        F.cross_entropy(model(x * (1e20 if step == 5 else 1.0)), y).backward()
        optimizer.step()
        assert all(torch.isfinite(p).all() for p in model.parameters())
    assert all(
        torch.isfinite(value).all()
        for value in optimizer.state[model.weight].values()
        if isinstance(value, torch.Tensor)
    )


@pytest.mark.parametrize("scale", [1e20, 1e30, 1e37])
def test_one_exploding_gradient_is_clipped(scale):
    """d·D overflows, but kl_clip makes the step independent of the gradient's length: it is that for any large gradient."""
    results = []
    for factor in (1e12, scale):
        torch.manual_seed(0)
        model, x = nn.Linear(4, 3), torch.randn(20, 4)
        optimizer = kfac(model.parameters(), model, "normal")
        for step in range(8):
            optimizer.zero_grad()
            (model(x).square().mean() * (factor if step == 5 else 1.0)).backward()
            optimizer.step()
        results.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-6)
