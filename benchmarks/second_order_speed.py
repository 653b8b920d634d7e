"""Milliseconds per step of second-order and constrained optimizers, compared with other libraries and with Adam.

    python benchmarks/second_order_speed.py [--reps 5] [--threads 1] [--only shampoo,layers,kfac,products,cayley]

The contenders of a comparison are interleaved (A B C, A B C, …) in one process, after one repetition of warm-up. A
repetition has enough steps to contain infrequent operations (roots, inverses) in their true proportion. Ratios to the
reference of the comparison are taken within a repetition.

- *shampoo*: the optimizer step on 784-512-512-10, batch 64 of MNIST, with roots or bases every 10 steps and statistics
  at every step; and the loss after 100 steps on the training rows and on 1,000 held-out rows, as means over six seeds of
  weights and batches, the same for all contenders. The learning rate is the best for the training loss: the grid has two
  values per decade, then four per decade around the best. Other settings are the defaults of the libraries, except
  where the name says otherwise. descend's Shampoo uses Nesterov momentum, RMSProp grafting and roots from the first step;
  ScalableShampoo uses Nesterov momentum, SGD grafting and roots from step 10.
- *layers*: the same on 40 layers of 64 x 64 with biases and norms, against one optimizer per layer. For K-FAC, the time
  contains inverses and step; the factors are computed in the forward and backward pass of the model.
- *kfac*: the training step on 784-512-512-10, batch 512, with factors every 10 and inverses every 100 steps, against
  that of Adam.
- *products*: a Hessian-vector and a Gauss-Newton-vector product against a gradient.
- *cayley*: the optimizer step on 64 blocks of 256 x 32, and the deviation from orthonormality after 1000 steps.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from descend import optim
from descend.linalg import GaussNewton, Hessian
from instruments import machine
from instruments.interleaved import interleaved, timed
from instruments.problems import large
from instruments.quartiles import Quartiles
from instruments.results import add_out_option, report_table
from instruments.session import Session
from instruments.threads import threads

Optimizer = torch.optim.Optimizer
Make = Callable[[nn.Module, float], Any]
LEARNING_RATES = tuple(10 ** (power / 2) for power in range(-8, 2))
SEEDS = range(6)
Timer = Callable[[int], float]
"""Takes several steps and returns the seconds per step."""


@dataclass(frozen=True)
class Comparison:
    """Contenders that are timed together.

    Args:
        reference: name of the contender that the ratios refer to.
        timers: contenders by name.
        quality: remarks on the results of contenders, by name.
    """

    reference: str
    timers: Mapping[str, Timer]
    quality: Mapping[str, str]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--reps", type=int, default=5, help="repetitions; default 5")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; default 1")
    parser.add_argument(
        "--only", default=",".join(COMPARISONS), help="comma-separated comparisons; default all"
    )
    add_out_option(parser)
    options = parser.parse_args(arguments)
    load_before = machine.load_average()
    rows: list[list[str]] = []
    results: dict[str, Any] = {}
    remarks: list[str] = []
    warnings.filterwarnings("ignore")  # of the other libraries about PyTorch, between the lines of output
    with threads(options.threads):
        for title in options.only.split(","):
            try:
                compared = list(COMPARISONS[title]())
            except ModuleNotFoundError as error:
                remarks.append(f"{title}: skipped, {error.name} is not installed")
                continue
            for name, comparison in compared:
                print(name, file=sys.stderr)
                seconds = interleaved(comparison.timers, options.reps)
                for contender, sample in seconds.items():
                    cost = Quartiles.of([1e3 * second for second in sample])
                    ratio = Quartiles.of_ratios(sample, seconds[comparison.reference])
                    ratio_text = "1" if contender == comparison.reference else ratio.text(2)
                    quality = comparison.quality.get(contender, "")
                    rows.append([name, contender, cost.text(2), ratio_text, quality])
                    results[f"{name}: {contender}"] = {
                        "milliseconds": asdict(cost),
                        "ratio": asdict(ratio),
                        "quality": quality,
                    }
    session = Session.now(
        ["descend", "torch", "pytorch_optimizer", "heavyball", "geoopt"],
        repetitions=options.reps,
        threads=options.threads,
        load_before=load_before,
        load_after=machine.load_average(),
    )
    report_table(
        options.out,
        "second_order_speed",
        session,
        {"comparisons": results},
        title="Second-order and constrained optimizers",
        explanation="Medians, quartiles in brackets.",
        header=["comparison", "contender", "ms per step", "÷ reference", "quality"],
        rows=rows,
        remarks=remarks,
    )
    return 0


def network(*widths: int, norms: bool = False, seed: int = 0) -> nn.Module:
    """Build a multilayer perceptron with ReLU, optionally with layer normalization."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for index, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        layers.append(nn.Linear(n_in, n_out))
        if index < len(widths) - 2:
            layers += [nn.LayerNorm(n_out), nn.ReLU()] if norms else [nn.ReLU()]
    return nn.Sequential(*layers)


class Batches:
    """Batches of MNIST, the same for all contenders."""

    def __init__(self, size: int, seed: int = 0) -> None:
        problem = large()
        self.inputs, self.targets = torch.from_numpy(problem.x_train), torch.from_numpy(problem.y_train)
        self.held_out = torch.from_numpy(problem.x_validation), torch.from_numpy(problem.y_validation)
        order = torch.randperm(len(self.inputs), generator=torch.Generator().manual_seed(seed))
        self.batches = list(order.split(size))[: len(order) // size]

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        rows = self.batches[step % len(self.batches)]
        return self.inputs[rows], self.targets[rows]

    def losses(self, model: nn.Module) -> tuple[float, float]:
        """Return the loss over all training rows and over the held-out rows; infinite if it is NaN."""
        with torch.no_grad():
            training, held_out = (
                float(F.cross_entropy(model(inputs), targets))
                for inputs, targets in ((self.inputs, self.targets), self.held_out)
            )
        return (math.inf, math.inf) if math.isnan(training) else (training, held_out)


def optimizer_steps(model: nn.Module, optimizers: Sequence[Any], data: Any, steps: int) -> Timer:
    """Return a timer of the optimizer steps alone, without forward and backward pass."""

    def run(call: int) -> float:
        elapsed = 0.0
        for step in range(call * steps, (call + 1) * steps):
            inputs, targets = data[step]
            for optimizer in optimizers:
                optimizer.zero_grad()
            F.cross_entropy(model(inputs), targets).backward()
            start = time.perf_counter()
            for optimizer in optimizers:
                optimizer.step()
            elapsed += time.perf_counter() - start
        return elapsed / steps

    return run


def training_steps(model: nn.Module, optimizer: Any, data: Any, steps: int) -> Timer:
    """Return a timer of entire training steps."""

    def run(call: int) -> float:
        start = time.perf_counter()
        for step in range(call * steps, (call + 1) * steps):
            inputs, targets = data[step]
            optimizer.zero_grad()
            F.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
        return (time.perf_counter() - start) / steps

    return run


def other_libraries() -> dict[str, Make]:
    """Return Shampoo and SOAP of other libraries with matching settings; report and omit those not installed."""
    makers: dict[str, Make] = {}
    try:
        import pytorch_optimizer

        makers["pytorch_optimizer ScalableShampoo"] = lambda model, lr: pytorch_optimizer.ScalableShampoo(
            model.parameters(), lr=lr, preconditioning_compute_steps=10, start_preconditioning_step=10
        )
        makers["pytorch_optimizer ScalableShampoo, RMSProp grafting"] = (
            lambda model, lr: pytorch_optimizer.ScalableShampoo(
                model.parameters(), lr=lr, preconditioning_compute_steps=10, start_preconditioning_step=10,
                graft_type=3,
            )
        )  # fmt: skip
        makers["pytorch_optimizer SOAP"] = lambda model, lr: pytorch_optimizer.SOAP(
            model.parameters(), lr=lr, precondition_frequency=10, weight_decay=0.0
        )
    except ModuleNotFoundError as error:
        print(f"skipped: {error.name} is not installed", file=sys.stderr)
    try:
        import heavyball

        makers["heavyball SOAP"] = lambda model, lr: heavyball.SOAP(
            model.parameters(),
            lr=lr,
            precondition_frequency=10,
            weight_decay=0.0,
            use_precond_schedule=False,
        )
    except ModuleNotFoundError as error:
        print(f"skipped: {error.name} is not installed", file=sys.stderr)
    return makers


DESCEND_METHODS: Mapping[str, Make] = {
    "descend shampoo": lambda model, lr: optim.shampoo(model.parameters(), lr=lr, precondition_frequency=10),
    "descend shampoo, SGD grafting": lambda model, lr: optim.shampoo(
        model.parameters(), lr=lr, precondition_frequency=10, grafting="sgd"
    ),
    "descend shampoo, no blocks": lambda model, lr: optim.shampoo(
        model.parameters(), lr=lr, precondition_frequency=10, block_size=1024
    ),
    "descend soap": lambda model, lr: optim.soap(model.parameters(), lr=lr, precondition_frequency=10),
    "descend soap, no blocks": lambda model, lr: optim.soap(
        model.parameters(), lr=lr, precondition_frequency=10, block_size=1024
    ),
}
ADAM: Mapping[str, Make] = {
    "torch Adam, fused": lambda model, lr: torch.optim.Adam(model.parameters(), lr=lr, fused=True)
}


def losses_after(
    make: Make, batches: Sequence[Batches], seed: int, learning_rate: float, steps: int
) -> tuple[float, float]:
    """Return training and held-out loss after a number of steps."""
    model, data = network(784, 512, 512, 10, seed=seed), batches[seed]
    optimizer = make(model, learning_rate)
    for step in range(steps):
        inputs, targets = data[step]
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    return data.losses(model)


def tuned_loss(make: Make, batches: Sequence[Batches], steps: int) -> str:
    """Describe the losses after a number of steps at the learning rate with the lowest mean training loss."""

    def best(
        learning_rates: Iterable[float], seeds: Sequence[int]
    ) -> tuple[float, list[tuple[float, float]]]:
        losses = {
            lr: [losses_after(make, batches, seed, lr, steps) for seed in seeds] for lr in learning_rates
        }
        return min(losses.items(), key=lambda item: statistics.fmean(training for training, _ in item[1]))

    coarse, _ = best(LEARNING_RATES, SEEDS[:1])
    lr, losses = best((coarse * 10 ** (power / 4) for power in (-1, 0, 1)), SEEDS)
    training, held_out = zip(*losses, strict=True)
    edge = "" if min(LEARNING_RATES) < lr < max(LEARNING_RATES) else "; at the edge of the grid"
    return (
        f"loss {statistics.fmean(training):.4f} ({min(training):.4f}–{max(training):.4f}), held-out loss "
        f"{statistics.fmean(held_out):.3f}, after {steps} steps (lr {lr:.3g}{edge})"
    )


def shampoo() -> Iterator[tuple[str, Comparison]]:
    """Shampoo and SOAP on a network with large layers: time of the step, and loss after 100 steps."""
    batches = [Batches(64, seed) for seed in SEEDS]
    contenders = {**DESCEND_METHODS, **other_libraries(), **ADAM}
    timers = {}
    for name, make in contenders.items():
        model = network(784, 512, 512, 10)
        timers[name] = optimizer_steps(model, [make(model, 1e-3)], batches[0], 20)
    quality = {name: tuned_loss(make, batches, 100) for name, make in contenders.items()}
    yield "optimizer step, 784-512-512-10", Comparison("descend shampoo", timers, quality)


class Rows:
    """Random rows of 64 numbers, for comparisons of time alone."""

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(step % 50)
        return torch.randn(64, 64, generator=generator), torch.randint(64, (64,), generator=generator)


def parameters_by_layer(model: nn.Module) -> list[list[Tensor]]:
    """Return the parameters of each linear layer and of the norm after it."""
    groups: list[list[Tensor]] = []
    for module in model:
        if isinstance(module, nn.Linear):
            groups.append([])
        if groups:
            groups[-1] += module.parameters()
    return groups


def layers() -> Iterator[tuple[str, Comparison]]:
    """Optimizers that process layers of equal shape as stacks, against one optimizer per layer."""
    data, widths = Rows(), [64] * 41
    makes: dict[str, Callable[[Any, nn.Module], Any]] = {
        "shampoo": lambda params, model: optim.shampoo(params, lr=1e-4, precondition_frequency=10),
        "soap": lambda params, model: optim.soap(params, lr=1e-4, precondition_frequency=10),
        "kfac": lambda params, model: optim.kfac(
            params,
            model=model,
            likelihood="categorical",
            lr=1e-4,
            factor_update_steps=10,
            inv_update_steps=10,
        ),
    }
    for name, make in makes.items():
        stacked, separate = network(*widths, norms=True), network(*widths, norms=True)
        by_layer = [make(parameters, separate) for parameters in parameters_by_layer(separate)]
        timers = {
            "stacked": optimizer_steps(stacked, [make(stacked.parameters(), stacked)], data, 20),
            "one optimizer per layer": optimizer_steps(separate, by_layer, data, 20),
        }
        if name != "kfac":
            for contender, make_other in other_libraries().items():
                if name in contender.lower():
                    model = network(*widths, norms=True)
                    timers[contender] = optimizer_steps(model, [make_other(model, 1e-4)], data, 20)
        yield f"{name} step, 40 layers of 64 x 64", Comparison("stacked", timers, {})


def kfac() -> Iterator[tuple[str, Comparison]]:
    """A training step with K-FAC against one with Adam."""
    data = Batches(512)
    timers = {}
    model = network(784, 512, 512, 10)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    timers["torch Adam, fused"] = training_steps(model, adam, data, 100)
    model = network(784, 512, 512, 10)
    plain_adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    timers["torch Adam"] = training_steps(model, plain_adam, data, 100)
    model = network(784, 512, 512, 10)
    kfac_optimizer = optim.kfac(
        model.parameters(),
        model=model,
        likelihood="categorical",
        lr=1e-3,
        factor_update_steps=10,
        inv_update_steps=100,
    )
    timers["descend kfac"] = training_steps(model, kfac_optimizer, data, 100)
    yield "training step, batch 512", Comparison("torch Adam, fused", timers, {})


def products() -> Iterator[tuple[str, Comparison]]:
    """Products with curvature matrices against a gradient."""
    inputs, targets = Batches(512)[0]
    model = network(784, 512, 512, 10)
    parameters = list(model.parameters())
    outputs = model(inputs)
    loss = F.cross_entropy(outputs, targets)
    hessian, gauss_newton = Hessian(loss, parameters), GaussNewton(loss, outputs, parameters)
    vector = torch.randn_like(hessian.gradient)

    def gradient() -> None:
        model.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()

    def repeated(work: Callable[[], object], times: int = 10) -> Timer:
        def run() -> None:
            for _ in range(times):
                work()

        return lambda _: timed(run) / times

    timers = {
        "gradient": repeated(gradient),
        "Hessian product": repeated(lambda: hessian(vector)),
        "Gauss-Newton product": repeated(lambda: gauss_newton(vector)),
    }
    yield "products, 784-512-512-10, batch 512", Comparison("gradient", timers, {})


def cayley() -> Iterator[tuple[str, Comparison]]:
    """Optimization over orthonormal frames: time of the step, and deviation from orthonormality."""
    blocks, n, q = 64, 256, 32
    torch.manual_seed(0)
    goals = torch.randn(blocks, n, q)
    start = torch.linalg.qr(torch.randn(blocks, n, q)).Q

    def deviation(weights: Sequence[Tensor]) -> float:
        frames = torch.stack([w.detach() for w in weights]).double()
        return float((frames.mT @ frames - torch.eye(q, dtype=torch.float64)).abs().max())

    def steps_towards_goals(weights: Sequence[Tensor], optimizer: Any, steps: int = 10) -> Timer:
        def run(call: int) -> float:
            elapsed = 0.0
            for _ in range(steps):
                optimizer.zero_grad()
                for w, goal in zip(weights, goals, strict=True):
                    w.grad = w.detach() - goal
                start = time.perf_counter()
                optimizer.step()
                elapsed += time.perf_counter() - start
            return elapsed / steps

        return run

    def cayley_adam() -> tuple[list[Tensor], Any]:
        weights = [nn.Parameter(frame.clone()) for frame in start]
        return weights, optim.cayley_adam([{"params": weights, "orthonormal": True}], lr=1e-3)

    weights, optimizer = cayley_adam()
    timers, quality = {"descend cayley_adam": steps_towards_goals(weights, optimizer)}, {}
    weights, optimizer = cayley_adam()
    steps_towards_goals(weights, optimizer, 1000)(0)
    quality["descend cayley_adam"] = f"|X'X - I| {deviation(weights):.1e} after 1000 steps"
    try:
        import geoopt

        def riemannian_adam() -> tuple[list[Tensor], Any]:
            frames = [geoopt.ManifoldParameter(frame.clone(), manifold=geoopt.Stiefel()) for frame in start]
            return frames, geoopt.optim.RiemannianAdam(frames, lr=1e-3)

        timers["geoopt RiemannianAdam"] = steps_towards_goals(*riemannian_adam())
        frames, optimizer = riemannian_adam()
        steps_towards_goals(frames, optimizer, 100)(0)
        quality["geoopt RiemannianAdam"] = f"|X'X - I| {deviation(frames):.1e} after 100 steps"
    except ModuleNotFoundError as error:
        print(f"skipped: {error.name} is not installed", file=sys.stderr)
    yield "optimizer step, 64 blocks of 256 x 32", Comparison("descend cayley_adam", timers, quality)


COMPARISONS: Mapping[str, Callable[[], Iterator[tuple[str, Comparison]]]] = {
    "shampoo": shampoo,
    "layers": layers,
    "kfac": kfac,
    "products": products,
    "cayley": cayley,
}


if __name__ == "__main__":
    raise SystemExit(main())
