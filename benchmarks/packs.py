"""Seconds to train many networks: ``descend.train_many`` against loops by hand and search libraries.

    python benchmarks/packs.py                              all works, 5 repetitions
    python benchmarks/packs.py --quick                      a smoke test; its figures mean nothing
    python benchmarks/packs.py --only configurations --reps 9
    python benchmarks/packs.py --gpu                        256 configurations on a CUDA device, where there is one

All contenders of a work train the same networks at the same rates on the same rows, in turns. README.md says what is
measured and how to read it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np

from contenders.contract import Problem
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
from instruments.many_turns import Goal, ManyReport, measure, slowest
from instruments.session import Session, write
from instruments.threads import choices

RATES = (1e-4, 1e-1)
"""Learning rates are drawn log-uniformly from these."""
EPOCHS = 20


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    names = options.only.split(",") if options.only else list(WORKS)
    unknown = sorted(set(names) - set(WORKS))
    if unknown:
        sys.exit(f"no such work: {', '.join(unknown)}; there are {', '.join(WORKS)}")
    repetitions = options.reps or (1 if options.quick else 5)
    reports: list[ManyReport] = []
    remarks: list[str] = []
    for name in names if not options.gpu else [*names, "gpu"]:
        if name == "gpu" and not has_cuda():
            remarks.append("gpu: skipped, there is no CUDA device here")
            continue
        print(f"{name} …", file=sys.stderr, flush=True)
        for report in (gpu if name == "gpu" else WORKS[name])(repetitions, options.quick):
            print(f"\n{report.plain()}", flush=True)
            reports.append(report)
    packages = ["numpy", "torch", "descend", "sklearn", "optuna"]
    session = Session.now(packages, repetitions=repetitions)
    print("", *remarks, session.line(), sep="\n")
    out = options.out or (None if options.quick else Path(__file__).parent / "results" / "packs")
    if out is not None:
        content = {"reports": [asdict(report) for report in reports], "remarks": remarks}
        write(out, session, content, page(session, reports, remarks))
    return 0 if all(report.entries for report in reports) else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    about, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help=f"comma-separated: {', '.join(WORKS)}; default all")
    parser.add_argument("--reps", type=int, help="repetitions; default 5")
    parser.add_argument("--gpu", action="store_true", help="also 256 configurations on a CUDA device")
    parser.add_argument(
        "--quick", action="store_true", help="a smoke test: few networks and epochs, no files"
    )
    parser.add_argument("--out", type=Path, help="file stem; default benchmarks/results/packs")
    return parser.parse_args(arguments)


def configurations(repetitions: int, quick: bool) -> list[ManyReport]:
    """Random rates for one small network, as a search tries them."""
    problem, count = problems.small(), 4 if quick else 64
    many = Many(problem, small_networks(problem, drawn_rates(count)), 2 if quick else EPOCHS)
    goals = {
        "dataloader loop": Goal(15),
        "optuna": Goal(15),
        "RandomizedSearchCV": Goal(4),
        "plain loop in 2 processes": Goal(3),
    }
    contenders = list(CONFIGURATIONS.values())
    if quick:
        contenders = [replace(each, share=each.share and 2) for each in contenders]
    title = f"{count} random learning rates: MLP 64-64-64-10, batch 32, {problem.source}"
    return [measure(title, many, contenders, repetitions, reference=TRAIN_MANY.name, goals=goals)]


def mixes(repetitions: int, quick: bool) -> list[ManyReport]:
    """What train_many chooses for several kinds of members, against its own loop and against loops by hand."""
    found = []
    for title, many, goal in [
        small_convnets(4 if quick else 16),
        large_networks(2 if quick else 4),
        mixed_widths(4 if quick else 16),
        two_small_networks(),
    ]:
        shorter = replace(many, epochs=2) if quick else many
        loops = {
            "descend's loop": train_many("descend's loop", engine="loop", workers=1),
            "descend's loop, 2 processes": train_many(
                "descend's loop, 2 processes", engine="loop", workers=2
            ),
        }
        plain_loops = [plain_loop(number) for number in choices()]
        contenders = [TRAIN_MANY, *loops.values(), *plain_loops]
        goals = dict.fromkeys(["descend's loop", *(each.name for each in plain_loops)], Goal(goal))
        found.append(measure(title, shorter, contenders, repetitions, reference=TRAIN_MANY.name, goals=goals))
    return found


def seeds(repetitions: int, quick: bool) -> list[ManyReport]:
    """Four variants with five seeds each, against one run of the slowest of the four."""
    problem, rates, repeats = problems.small(), (3e-4, 1e-3, 3e-3, 1e-2), 2 if quick else 5
    variants = small_networks(problem, [rate for rate in rates for _ in range(repeats)])
    many = Many(problem, variants, 2 if quick else 2 * EPOCHS)
    together = train_many("train_many, all", seeds=[1000 * each for _ in rates for each in range(repeats)])
    singles = [one_run(place * repeats, f"{ONE_RUN}, rate {rate:g}") for place, rate in enumerate(rates)]
    title = (
        f"{repeats} seeds x {len(rates)} learning rates at once against one run: MLP 64-64-64-10, batch 32"
    )
    return [
        measure(
            title,
            many,
            [together, *singles],
            repetitions,
            reference=slowest([each.name for each in singles]),
            goals={together.name: Goal(4, at_most=True)},
            scaled=False,
        )
    ]


def gpu(repetitions: int, quick: bool) -> list[ManyReport]:
    """Many random rates on a CUDA device."""
    problem, count = problems.small(), 8 if quick else 256
    many = Many(problem, small_networks(problem, drawn_rates(count)), 2 if quick else EPOCHS, "cuda")
    loop = replace(plain_loop(1, share=4), name="plain loop on CUDA")
    title = f"{count} random learning rates on CUDA: MLP 64-64-64-10, batch 32, {problem.source}"
    goals = {loop.name: Goal(50)}
    return [measure(title, many, [TRAIN_MANY, loop], repetitions, reference=TRAIN_MANY.name, goals=goals)]


WORKS: dict[str, Callable[[int, bool], list[ManyReport]]] = {
    "configurations": configurations,
    "mixes": mixes,
    "seeds": seeds,
}


def drawn_rates(count: int) -> list[float]:
    """The same rates at every call; fewer are the first of more."""
    low, high = np.log(RATES)
    return [float(rate) for rate in np.exp(np.random.default_rng(0).uniform(low, high, count))]


def small_networks(problem: Problem, rates: Sequence[float]) -> tuple[Variant, ...]:
    return tuple(network(problem, problem.widths[1:-1], rate) for rate in rates)


def network(problem: Problem, hidden: Sequence[int], rate: float) -> Variant:
    """A multilayer perceptron on a problem's rows."""
    widths = (problem.widths[0], *hidden, problem.widths[-1])
    model = {"name": "mlp", "hidden": list(hidden), "activation": "relu", "dropout": 0.0}
    return Variant(rate, model, partial(mlp, widths))


def small_convnets(count: int) -> tuple[str, Many, float]:
    from descend.nn import convnet

    rows = problems.small()
    images = replace(
        rows,
        x_train=rows.x_train.reshape(-1, 1, 8, 8),
        x_validation=rows.x_validation.reshape(-1, 1, 8, 8),
    )
    said = {"channels": (8, 16), "dense": (32,), "activation": "relu", "dropout": 0.0}
    build = partial(convnet, (1, 8, 8), 10, **said)
    rates = np.geomspace(3e-4, 3e-3, count)
    variants = tuple(Variant(float(rate), {"name": "convnet", **said}, build) for rate in rates)
    title = f"{count} small convnets: 8x8 images, channels 8 and 16, dense 32, batch 32, {rows.source}"
    return title, Many(images, variants, 8), 1.5


def large_networks(count: int) -> tuple[str, Many, float]:
    problem = problems.large()
    variants = small_networks(problem, [float(rate) for rate in np.geomspace(3e-4, 3e-3, count)])
    return (
        f"{count} large networks: MLP 784-512-512-10, batch 64, {problem.source}",
        Many(problem, variants, 4),
        1.0,
    )


def mixed_widths(count: int) -> tuple[str, Many, float]:
    problem, draw = problems.small(), np.random.default_rng(0)
    hidden = [[int(width) for width in draw.integers(16, 129, 2)] for _ in range(count)]
    variants = tuple(network(problem, each, 1e-3) for each in hidden)
    title = f"{count} networks of two hidden layers, 16 to 128 wide each, batch 32, {problem.source}"
    return title, Many(problem, variants, EPOCHS), 1.0


def two_small_networks() -> tuple[str, Many, float]:
    problem = problems.small()
    many = Many(problem, small_networks(problem, [1e-3, 3e-3]), EPOCHS)
    return f"2 small networks: MLP 64-64-64-10, batch 32, {problem.source}", many, 1.0


def has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


HOW_TO_READ = (
    "Medians, quartiles in brackets. *seconds* is the time for all networks: a contender that trained only some is "
    "scaled by their number. The ratio is its seconds over the reference's in the same repetition: above 1 is slower "
    "than the reference. *accuracy* is the median over the networks, on the validation rows after the last epoch; "
    "beside it the reference's on the same networks."
)


def page(session: Session, reports: Sequence[ManyReport], remarks: Sequence[str]) -> str:
    """Everything, as Markdown."""
    said = [f"{session.line()}.", *(f"{remark}." for remark in remarks)]
    return "\n\n".join(
        ["# Many networks at once", HOW_TO_READ, *said, *(report.markdown() for report in reports)]
    )


if __name__ == "__main__":
    sys.exit(main())
