"""Seconds to train many networks with ``descend.train_many``, hand-written loops and search libraries.

    python benchmarks/packs.py                              all tasks, 5 repetitions
    python benchmarks/packs.py --quick                      smoke test without meaningful figures
    python benchmarks/packs.py --only configurations --reps 9
    python benchmarks/packs.py --gpu                        also 256 configurations on a CUDA device, if there is one

All contenders of a task train the same networks with the same learning rates on the same rows, interleaved. README.md
explains what is measured and how to read the tables.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial

import numpy as np

from contenders.interface import Problem
from contenders.many import (
    CONFIGURATIONS,
    ONE_RUN,
    TRAIN_MANY,
    Many,
    Variant,
    one_run,
    plain_loop,
    train_many,
)
from contenders.network import mlp
from instruments import problems
from instruments.many_fits import Goal, ManyReport, measure, slowest
from instruments.results import RESULTS, add_out_option, write_results
from instruments.session import Session
from instruments.text import paragraph
from instruments.threads import choices

LEARNING_RATES = (1e-4, 1e-1)
"""Bounds of the log-uniform distribution of learning rates."""
EPOCHS = 20


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    names = options.only.split(",") if options.only else list(TASKS)
    unknown = sorted(set(names) - set(TASKS))
    if unknown:
        sys.exit(f"unknown tasks: {', '.join(unknown)}; expected some of {', '.join(TASKS)}")
    repetitions = options.reps or (1 if options.quick else 5)
    reports: list[ManyReport] = []
    remarks: list[str] = []
    for name in names if not options.gpu else [*names, "gpu"]:
        if name == "gpu" and not has_cuda():
            remarks.append("gpu: skipped, no CUDA device is available")
            continue
        print(f"{name} …", file=sys.stderr, flush=True)
        for report in (gpu if name == "gpu" else TASKS[name])(repetitions, options.quick):
            print(f"\n{report.plain()}", flush=True)
            reports.append(report)
    packages = ["numpy", "torch", "descend", "sklearn", "optuna"]
    session = Session.now(packages, repetitions=repetitions)
    print("", *remarks, session.line(), sep="\n")
    out = options.out or (None if options.quick else RESULTS)
    if out is not None:
        content = {"reports": [asdict(report) for report in reports], "remarks": remarks}
        write_results(out, "packs", session, content, page(session, reports, remarks))
    return 0 if all(report.entries for report in reports) else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    about, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help=f"comma-separated: {', '.join(TASKS)}; default all")
    parser.add_argument("--reps", type=int, help="repetitions; default 5")
    parser.add_argument("--gpu", action="store_true", help="also 256 configurations on a CUDA device")
    parser.add_argument(
        "--quick", action="store_true", help="smoke test: few networks and epochs, no result files"
    )
    add_out_option(parser, default=None)
    return parser.parse_args(arguments)


def configurations(repetitions: int, quick: bool) -> list[ManyReport]:
    """One small network with random learning rates, as in a random search."""
    problem, count = problems.small(), 4 if quick else 64
    many = Many(problem, small_networks(problem, random_learning_rates(count)), 2 if quick else EPOCHS)
    goals = {
        "dataloader loop": Goal(15),
        "optuna": Goal(15),
        "RandomizedSearchCV": Goal(4),
        "plain loop in 2 processes": Goal(3),
    }
    contenders = list(CONFIGURATIONS.values())
    if quick:
        contenders = [replace(contender, count=contender.count and 2) for contender in contenders]
    title = f"{count} random learning rates: MLP 64-64-64-10, batch 32, {problem.source}"
    return [measure(title, many, contenders, repetitions, reference=TRAIN_MANY.name, goals=goals)]


def mixes(repetitions: int, quick: bool) -> list[ManyReport]:
    """The engine that train_many chooses for several kinds of networks, against its own and hand-written loops."""
    reports = []
    for task in [
        partial(small_convnets, 4 if quick else 16),
        partial(large_networks, 2 if quick else 4),
        partial(mixed_widths, 4 if quick else 16),
        two_small_networks,
    ]:
        try:
            title, many, goal = task()
        except ModuleNotFoundError as error:
            print(f"large networks: skipped, {error.name} is not installed", file=sys.stderr)
            continue
        shorter = replace(many, epochs=2) if quick else many
        loops = {
            "descend's loop": train_many("descend's loop", engine="loop", workers=1),
            "descend's loop, 2 processes": train_many(
                "descend's loop, 2 processes", engine="loop", workers=2
            ),
        }
        plain_loops = [plain_loop(number) for number in choices()]
        contenders = [TRAIN_MANY, *loops.values(), *plain_loops]
        goals = dict.fromkeys(["descend's loop", *(loop.name for loop in plain_loops)], Goal(goal))
        report = measure(title, shorter, contenders, repetitions, reference=TRAIN_MANY.name, goals=goals)
        reports.append(report)
    return reports


def seeds(repetitions: int, quick: bool) -> list[ManyReport]:
    """Four learning rates with five seeds each, against one run of the slowest of the four."""
    problem, repeats = problems.small(), 2 if quick else 5
    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)
    variants = small_networks(problem, [lr for lr in learning_rates for _ in range(repeats)])
    many = Many(problem, variants, 2 if quick else 2 * EPOCHS)
    offsets = [1000 * repeat for _ in learning_rates for repeat in range(repeats)]
    together = train_many("train_many, all", seeds=offsets)
    singles = [one_run(index * repeats, f"{ONE_RUN}, lr {lr:g}") for index, lr in enumerate(learning_rates)]
    title = (
        f"{repeats} seeds x {len(learning_rates)} learning rates at once, compared with one run: "
        "MLP 64-64-64-10, batch 32"
    )
    return [
        measure(
            title,
            many,
            [together, *singles],
            repetitions,
            reference=slowest([single.name for single in singles]),
            goals={together.name: Goal(4, at_most=True)},
            scaled=False,
        )
    ]


def gpu(repetitions: int, quick: bool) -> list[ManyReport]:
    """One small network with many random learning rates on a CUDA device."""
    problem, count = problems.small(), 8 if quick else 256
    many = Many(
        problem, small_networks(problem, random_learning_rates(count)), 2 if quick else EPOCHS, "cuda"
    )
    loop = replace(plain_loop(1, count=4), name="plain loop on CUDA")
    title = f"{count} random learning rates on CUDA: MLP 64-64-64-10, batch 32, {problem.source}"
    goals = {loop.name: Goal(50)}
    return [measure(title, many, [TRAIN_MANY, loop], repetitions, reference=TRAIN_MANY.name, goals=goals)]


TASKS: dict[str, Callable[[int, bool], list[ManyReport]]] = {
    "configurations": configurations,
    "mixes": mixes,
    "seeds": seeds,
}


def random_learning_rates(count: int) -> list[float]:
    """Return the first ``count`` learning rates of a fixed random sequence."""
    low, high = np.log(LEARNING_RATES)
    return [float(lr) for lr in np.exp(np.random.default_rng(0).uniform(low, high, count))]


def small_networks(problem: Problem, learning_rates: Sequence[float]) -> tuple[Variant, ...]:
    """Return the network of a problem with several learning rates."""
    return tuple(network(problem, problem.widths[1:-1], lr) for lr in learning_rates)


def network(problem: Problem, hidden: Sequence[int], learning_rate: float) -> Variant:
    """Return a multilayer perceptron for the rows of a problem."""
    widths = (problem.widths[0], *hidden, problem.widths[-1])
    model = {"name": "mlp", "hidden": list(hidden), "activation": "relu", "dropout": 0.0}
    return Variant(learning_rate, model, partial(mlp, widths))


def small_convnets(count: int) -> tuple[str, Many, float]:
    """Return title, networks and target ratio of small convolutional networks."""
    from descend.nn import convnet

    rows = problems.small()
    images = replace(
        rows,
        x_train=rows.x_train.reshape(-1, 1, 8, 8),
        x_validation=rows.x_validation.reshape(-1, 1, 8, 8),
    )
    settings = {"channels": (8, 16), "dense": (32,), "activation": "relu", "dropout": 0.0}
    build = partial(convnet, (1, 8, 8), 10, **settings)
    learning_rates = np.geomspace(3e-4, 3e-3, count)
    variants = tuple(Variant(float(lr), {"name": "convnet", **settings}, build) for lr in learning_rates)
    title = f"{count} small convnets: 8x8 images, channels 8 and 16, dense 32, batch 32, {rows.source}"
    return title, Many(images, variants, 8), 1.5


def large_networks(count: int) -> tuple[str, Many, float]:
    """Return title, networks and target ratio of networks whose arithmetic dominates."""
    problem = problems.large()
    variants = small_networks(problem, [float(lr) for lr in np.geomspace(3e-4, 3e-3, count)])
    return (
        f"{count} large networks: MLP 784-512-512-10, batch 64, {problem.source}",
        Many(problem, variants, 4),
        1.0,
    )


def mixed_widths(count: int) -> tuple[str, Many, float]:
    """Return title, networks and target ratio of networks with random widths."""
    problem, rng = problems.small(), np.random.default_rng(0)
    hidden = [[int(width) for width in rng.integers(16, 129, 2)] for _ in range(count)]
    variants = tuple(network(problem, widths, 1e-3) for widths in hidden)
    title = f"{count} networks of two hidden layers, 16 to 128 wide each, batch 32, {problem.source}"
    return title, Many(problem, variants, EPOCHS), 1.0


def two_small_networks() -> tuple[str, Many, float]:
    """Return title, networks and target ratio of two small networks."""
    problem = problems.small()
    many = Many(problem, small_networks(problem, [1e-3, 3e-3]), EPOCHS)
    return f"2 small networks: MLP 64-64-64-10, batch 32, {problem.source}", many, 1.0


def has_cuda() -> bool:
    """Return whether a CUDA device is available."""
    import torch

    return torch.cuda.is_available()


HOW_TO_READ = (
    "Medians, quartiles in brackets. *seconds* is the time for all networks, extrapolated for contenders that trained "
    "only some of them. The ratio is the number of seconds divided by that of the reference in the same repetition: "
    "above 1 is slower than the reference. *accuracy* is the median over the networks, on the validation rows after the "
    "last epoch; the next column is the accuracy of the reference on the same networks."
)


def page(session: Session, reports: Sequence[ManyReport], remarks: Sequence[str]) -> str:
    """Return the page with all tasks as Markdown."""
    notes = [HOW_TO_READ, f"{session.line()}.", *(f"{remark}." for remark in remarks)]
    sections = [report.markdown() for report in reports]
    return "\n\n".join(["# Many networks at once", *map(paragraph, notes), *sections])


if __name__ == "__main__":
    sys.exit(main())
