"""Milliseconds of second-order and constrained optimizers' steps, against the best of other libraries and loops.

    python benchmarks/second_order_speed.py [--reps 5] [--threads 1] [--only shampoo,layers,kfac,products,cayley]

Every comparison has a reference. All its contenders run in turns A B C, A B C, … in one process, after turns that do not
count; a turn is as many steps as it takes for every rare part (roots, inverses) to come as often as it should. Ratios are taken
turn by turn.

- *shampoo*: the optimizer's step alone on 784-512-512-10, batch 64 of MNIST, roots or bases every 10 steps, statistics
  every step; and the loss after 100 steps, of training and of 1,000 held-out rows: means of six seeds of weights and
  batches, the same for all, at the best of the rates (by training), four a decade around the best of two a decade. All are
  as their libraries set them, but for that and what their names say: ours has Nesterov's momentum, lengths of
  RMSProp's steps and first roots at the first step; ScalableShampoo Nesterov's momentum, SGD's lengths, roots from step 10 on.
- *layers*: the same on 40 layers of 64 x 64 with biases and norms, against one optimizer for each layer; of K-FAC the
  inverses and the step, as factors are learned in the pass of the model.
- *kfac*: the whole training step on 784-512-512-10, batch 512, factors every 10 and inverses every 100 steps, against Adam's.
- *products*: a Hessian- and a Gauss-Newton product against a gradient.
- *cayley*: the optimizer's step on 64 blocks of 256 x 32, and how far from orthonormal the blocks are after 1000 steps.
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
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from descend import optim
from descend.linalg import GaussNewton, Hessian
from instruments import machine
from instruments.problems import large
from instruments.quartiles import Quartiles
from instruments.session import Session, write
from instruments.table import markdown, plain
from instruments.threads import threads

Optimizer = torch.optim.Optimizer
Make = Callable[[nn.Module, float], Any]
RATES = tuple(10 ** (power / 2) for power in range(-8, 2))
SEEDS = range(6)


@dataclass(frozen=True)
class Turn:
    """A number of steps, and what runs them; it returns the seconds that count."""

    steps: int
    run: Callable[[], float]


@dataclass(frozen=True)
class Comparison:
    reference: str
    turns: Mapping[str, Turn]
    quality: Mapping[str, str]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--reps", type=int, default=5, help="turns of each contender; default 5")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; default 1")
    parser.add_argument("--only", default=",".join(COMPARISONS), help="comparisons, joined by commas")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "second-order-speed", help="file stem"
    )
    options = parser.parse_args(arguments)
    load_before = machine.load_average()
    header = ["comparison", "contender", "ms a step", "÷ reference", "quality"]
    rows: list[list[str]] = []
    found: dict[str, Any] = {}
    warnings.filterwarnings(
        "ignore"
    )  # of the peers, about PyTorch; they would stand between the lines of the table
    with threads(options.threads):
        for title in options.only.split(","):
            for name, comparison in COMPARISONS[title]():
                print(name, file=sys.stderr)
                seconds = in_turns(comparison.turns, options.reps)
                for who, sample in seconds.items():
                    cost = Quartiles.of([1e3 * each for each in sample])
                    ratio = Quartiles.of(
                        [a / b for a, b in zip(sample, seconds[comparison.reference], strict=True)]
                    )
                    words = "1" if who == comparison.reference else ratio.text(2)
                    rows.append([name, who, cost.text(2), words, comparison.quality.get(who, "")])
                    found[f"{name}: {who}"] = {
                        "milliseconds": asdict(cost),
                        "ratio": asdict(ratio),
                        "quality": comparison.quality.get(who, ""),
                    }
    session = Session.now(
        ["descend", "torch", "pytorch_optimizer", "heavyball", "geoopt"],
        repetitions=options.reps,
        threads=options.threads,
        load_before=load_before,
        load_after=machine.load_average(),
    )
    print(plain(header, rows), "", session.line(), sep="\n")
    text = "\n\n".join(
        [
            "# Second-order and constrained steps",
            "Medians of turns, quartiles in brackets.",
            markdown(header, rows),
            f"- {session.line()}",
        ]
    )
    write(options.out, session, {"comparisons": found}, text)
    return 0


def in_turns(turns: Mapping[str, Turn], repetitions: int) -> dict[str, list[float]]:
    """Seconds a step of each contender, turn by turn; the first turn does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for repetition in range(-1, repetitions):
        for name, turn in turns.items():
            spent = turn.run()
            if repetition >= 0:
                seconds[name].append(spent / turn.steps)
    return seconds


def network(*widths: int, norms: bool = False, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for place, (inside, outside) in enumerate(itertools.pairwise(widths)):
        layers.append(nn.Linear(inside, outside))
        if place < len(widths) - 2:
            layers += [nn.LayerNorm(outside), nn.ReLU()] if norms else [nn.ReLU()]
    return nn.Sequential(*layers)


class Batches:
    """Batches of MNIST, the same for everyone."""

    def __init__(self, size: int, seed: int = 0) -> None:
        problem = large()
        self.inputs, self.targets = torch.from_numpy(problem.x_train), torch.from_numpy(problem.y_train)
        self.held = torch.from_numpy(problem.x_validation), torch.from_numpy(problem.y_validation)
        order = torch.randperm(len(self.inputs), generator=torch.Generator().manual_seed(seed))
        self.parts = list(order.split(size))[: len(order) // size]

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        rows = self.parts[step % len(self.parts)]
        return self.inputs[rows], self.targets[rows]

    def losses(self, model: nn.Module) -> tuple[float, float]:
        """Of all rows, and of held-out ones."""
        with torch.no_grad():
            all_of, held = (
                float(F.cross_entropy(model(inputs), targets))
                for inputs, targets in ((self.inputs, self.targets), self.held)
            )
        return (all_of, held) if all_of == all_of else (math.inf, math.inf)


def of_optimizer(model: nn.Module, optimizers: Sequence[Any], data: Any, steps: int) -> Turn:
    """Steps whose optimizer alone is on the clock."""
    at = 0

    def run() -> float:
        nonlocal at
        spent = 0.0
        for _ in range(steps):
            inputs, targets = data[at]
            at += 1
            for each in optimizers:
                each.zero_grad()
            F.cross_entropy(model(inputs), targets).backward()
            began = time.perf_counter()
            for each in optimizers:
                each.step()
            spent += time.perf_counter() - began
        return spent

    return Turn(steps, run)


def whole_step(model: nn.Module, optimizer: Any, data: Any, steps: int) -> Turn:
    at = 0

    def run() -> float:
        nonlocal at
        began = time.perf_counter()
        for _ in range(steps):
            inputs, targets = data[at]
            at += 1
            optimizer.zero_grad()
            F.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
        return time.perf_counter() - began

    return Turn(steps, run)


def peers() -> dict[str, Make]:
    """Shampoo and SOAP of other libraries, set as ours are; those that are not installed are left out."""
    found: dict[str, Make] = {}
    try:
        import pytorch_optimizer

        found["pytorch_optimizer ScalableShampoo"] = lambda model, lr: pytorch_optimizer.ScalableShampoo(
            model.parameters(), lr=lr, preconditioning_compute_steps=10, start_preconditioning_step=10
        )
        found["pytorch_optimizer ScalableShampoo, RMSProp's lengths"] = (
            lambda model, lr: pytorch_optimizer.ScalableShampoo(
                model.parameters(), lr=lr, preconditioning_compute_steps=10, start_preconditioning_step=10,
                graft_type=3,
            )
        )  # fmt: skip
        found["pytorch_optimizer SOAP"] = lambda model, lr: pytorch_optimizer.SOAP(
            model.parameters(), lr=lr, precondition_frequency=10, weight_decay=0.0
        )
    except ImportError as cause:
        print(f"left out: {cause}", file=sys.stderr)
    try:
        import heavyball

        found["heavyball SOAP"] = lambda model, lr: heavyball.SOAP(
            model.parameters(),
            lr=lr,
            precondition_frequency=10,
            weight_decay=0.0,
            use_precond_schedule=False,
        )
    except ImportError as cause:
        print(f"left out: {cause}", file=sys.stderr)
    return found


OURS: Mapping[str, Make] = {
    "descend shampoo": lambda model, lr: optim.shampoo(model.parameters(), lr=lr, precondition_frequency=10),
    "descend shampoo, SGD's lengths": lambda model, lr: optim.shampoo(
        model.parameters(), lr=lr, precondition_frequency=10, grafting="sgd"
    ),
    "descend shampoo, whole sides": lambda model, lr: optim.shampoo(
        model.parameters(), lr=lr, precondition_frequency=10, block_size=1024
    ),
    "descend soap": lambda model, lr: optim.soap(model.parameters(), lr=lr, precondition_frequency=10),
    "descend soap, whole sides": lambda model, lr: optim.soap(
        model.parameters(), lr=lr, precondition_frequency=10, block_size=1024
    ),
}
ADAM: Mapping[str, Make] = {
    "torch Adam, fused": lambda model, lr: torch.optim.Adam(model.parameters(), lr=lr, fused=True)
}


def after(make: Make, batches: Sequence[Batches], seed: int, rate: float, steps: int) -> tuple[float, float]:
    """Training and held-out loss after so many steps."""
    model, data = network(784, 512, 512, 10, seed=seed), batches[seed]
    optimizer = make(model, rate)
    for step in range(steps):
        inputs, targets = data[step]
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    return data.losses(model)


def loss_after(make: Make, batches: Sequence[Batches], steps: int) -> str:
    """The least training loss after so many steps over rates, a mean of seeds, with its range and the held-out loss."""

    def best(rates: Iterable[float], seeds: Sequence[int]) -> tuple[float, list[tuple[float, float]]]:
        found = {rate: [after(make, batches, seed, rate, steps) for seed in seeds] for rate in rates}
        return min(found.items(), key=lambda each: statistics.fmean(loss for loss, _ in each[1]))

    coarse, _ = best(RATES, SEEDS[:1])
    rate, found = best((coarse * 10 ** (power / 4) for power in (-1, 0, 1)), SEEDS)
    training, held = zip(*found, strict=True)
    edge = "" if min(RATES) < rate < max(RATES) else "; the last of the rates"
    return (
        f"loss {statistics.fmean(training):.4f} ({min(training):.4f}–{max(training):.4f}), held out "
        f"{statistics.fmean(held):.3f}, after {steps} steps (lr {rate:.3g}{edge})"
    )


def shampoo() -> Iterator[tuple[str, Comparison]]:
    batches = [Batches(64, seed) for seed in SEEDS]
    contenders = {**OURS, **peers(), **ADAM}
    turns = {}
    for name, make in contenders.items():
        model = network(784, 512, 512, 10)
        turns[name] = of_optimizer(model, [make(model, 1e-3)], batches[0], 20)
    quality = {name: loss_after(make, batches, 100) for name, make in contenders.items()}
    yield "optimizer step, 784-512-512-10", Comparison("descend shampoo", turns, quality)


class Rows:
    """Random rows of 64 numbers, for networks whose arithmetic alone matters."""

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        draw = torch.Generator().manual_seed(step % 50)
        return torch.randn(64, 64, generator=draw), torch.randint(64, (64,), generator=draw)


def each_layer(model: nn.Module) -> list[list[Tensor]]:
    """The parameters of each linear layer and of the norm behind it."""
    found: list[list[Tensor]] = []
    for module in model:
        if isinstance(module, nn.Linear):
            found.append([])
        if found:
            found[-1] += module.parameters()
    return found


def layers() -> Iterator[tuple[str, Comparison]]:
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
        stacked, apart = network(*widths, norms=True), network(*widths, norms=True)
        by_layer = [make(parameters, apart) for parameters in each_layer(apart)]
        turns = {
            "stacked": of_optimizer(stacked, [make(stacked.parameters(), stacked)], data, 20),
            "one for each layer": of_optimizer(apart, by_layer, data, 20),
        }
        if name != "kfac":
            for who, peer in peers().items():
                if name in who.lower():
                    model = network(*widths, norms=True)
                    turns[who] = of_optimizer(model, [peer(model, 1e-4)], data, 20)
        yield f"{name} step, 40 layers of 64 x 64", Comparison("stacked", turns, {})


def kfac() -> Iterator[tuple[str, Comparison]]:
    data = Batches(512)
    turns = {}
    model = network(784, 512, 512, 10)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    turns["torch Adam, fused"] = whole_step(model, adam, data, 100)
    model = network(784, 512, 512, 10)
    plain_adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    turns["torch Adam"] = whole_step(model, plain_adam, data, 100)
    model = network(784, 512, 512, 10)
    own = optim.kfac(
        model.parameters(),
        model=model,
        likelihood="categorical",
        lr=1e-3,
        factor_update_steps=10,
        inv_update_steps=100,
    )
    turns["descend kfac"] = whole_step(model, own, data, 100)
    yield "training step, batch 512", Comparison("torch Adam, fused", turns, {})


def products() -> Iterator[tuple[str, Comparison]]:
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

    def turn(work: Callable[[], object], steps: int = 10) -> Turn:
        def run() -> float:
            began = time.perf_counter()
            for _ in range(steps):
                work()
            return time.perf_counter() - began

        return Turn(steps, run)

    turns = {
        "gradient": turn(gradient),
        "Hessian product": turn(lambda: hessian(vector)),
        "Gauss-Newton product": turn(lambda: gauss_newton(vector)),
    }
    yield "products, 784-512-512-10, batch 512", Comparison("gradient", turns, {})


def cayley() -> Iterator[tuple[str, Comparison]]:
    blocks, n, q = 64, 256, 32
    torch.manual_seed(0)
    goals = torch.randn(blocks, n, q)
    start = torch.linalg.qr(torch.randn(blocks, n, q)).Q

    def drift(weights: Sequence[Tensor]) -> float:
        found = torch.stack([w.detach() for w in weights]).double()
        return float((found.mT @ found - torch.eye(q, dtype=torch.float64)).abs().max())

    def turn(weights: Sequence[Tensor], optimizer: Any, steps: int = 10) -> Turn:
        def run() -> float:
            spent = 0.0
            for _ in range(steps):
                optimizer.zero_grad()
                for w, goal in zip(weights, goals, strict=True):
                    w.grad = w.detach() - goal
                began = time.perf_counter()
                optimizer.step()
                spent += time.perf_counter() - began
            return spent

        return Turn(steps, run)

    def ours() -> tuple[list[Tensor], Any]:
        weights = [nn.Parameter(frame.clone()) for frame in start]
        return weights, optim.cayley_adam([{"params": weights, "orthonormal": True}], lr=1e-3)

    weights, optimizer = ours()
    turns, quality = {"descend cayley_adam": turn(weights, optimizer)}, {}
    long, steps = ours()
    turn(long, steps, 1000).run()
    quality["descend cayley_adam"] = f"|X'X - I| {drift(long):.1e} after 1000 steps"
    try:
        import geoopt

        theirs = [geoopt.ManifoldParameter(frame.clone(), manifold=geoopt.Stiefel()) for frame in start]
        turns["geoopt RiemannianAdam"] = turn(theirs, geoopt.optim.RiemannianAdam(theirs, lr=1e-3))
        long_theirs = [geoopt.ManifoldParameter(frame.clone(), manifold=geoopt.Stiefel()) for frame in start]
        turn(long_theirs, geoopt.optim.RiemannianAdam(long_theirs, lr=1e-3), 100).run()
        quality["geoopt RiemannianAdam"] = f"|X'X - I| {drift(long_theirs):.1e} after 100 steps"
    except ImportError as cause:
        print(f"left out: {cause}", file=sys.stderr)
    yield "optimizer step, 64 blocks of 256 x 32", Comparison("descend cayley_adam", turns, quality)


COMPARISONS: Mapping[str, Callable[[], Iterator[tuple[str, Comparison]]]] = {
    "shampoo": shampoo,
    "layers": layers,
    "kfac": kfac,
    "products": products,
    "cayley": cayley,
}


if __name__ == "__main__":
    raise SystemExit(main())
