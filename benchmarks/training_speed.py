"""Microseconds per training step: descend with everything on, against hand-written loops and other libraries.

    python benchmarks/training_speed.py                       both sizes, 5 repetitions
    python benchmarks/training_speed.py --quick               a smoke test; its figures mean nothing
    python benchmarks/training_speed.py --size small --contenders descend,index-loop --reps 11

All contenders train the same network on the same rows with Adam, in one process and in turns. README.md
says what is measured and how to read it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from contenders import CONTENDERS, Contender, Problem
from instruments import machine
from instruments.problems import PROBLEMS
from instruments.quartiles import Quartiles
from instruments.session import Session, write
from instruments.speed_report import Entry, SpeedReport, outside_band, page
from instruments.threads import choices
from instruments.turns import Entrant, Lengths, Turn, take_turns

SHORT = 2
"""Epochs of the short fit."""
EPOCHS = {"small": 150, "large": 30}
"""Epochs by which the long fit is longer: so many that a setup which varies a little hardly shows."""
BAND = {"small": 0.03, "large": 0.03}
"""How far a validation accuracy may be from the median of all."""
TUNING_REPETITIONS = 3
"""How often the ways to write a contender are compared before it starts."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    names = chosen(options.contenders)
    reports = []
    for size in ["small", "large"] if options.size == "both" else [options.size]:
        more = options.epochs or (2 if options.quick else EPOCHS[size])
        repetitions = options.reps or (2 if options.quick else 5)
        lengths = Lengths(SHORT, SHORT + more)
        report = measure(PROBLEMS[size](), names, lengths, repetitions, options.threads, options.against)
        print(f"\n{report.plain()}", flush=True)
        reports.append(report)
    packages = {package: None for name in names for package in CONTENDERS[name].packages}
    session = Session.now(["numpy", *packages], thread_policy=options.threads)
    print(f"\n{session.line()}")
    out = options.out or (None if options.quick else Path(__file__).parent / "results" / "training_speed")
    if out is not None:
        content = {"reports": [asdict(report) for report in reports]}
        write(out, session, content, page(session, reports))
    return 0 if all(report.entries for report in reports) else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    about, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=[*PROBLEMS, "both"], default="both")
    parser.add_argument("--reps", type=int, help="repetitions; default 5")
    more = ", ".join(f"{size} {epochs}" for size, epochs in EPOCHS.items())
    parser.add_argument("--epochs", type=int, help=f"by which the long fit is longer; default {more}")
    names = ", ".join(CONTENDERS)
    parser.add_argument("--contenders", default="", help=f"comma-separated, or 'all' with extras: {names}")
    parser.add_argument("--against", default="descend", help="the reference of the ratios; default descend")
    parser.add_argument(
        "--threads",
        default="declared",
        help="declared: as each contender comes (default); best: everyone on the number measured to be best; "
        "or a number, for everyone who does not choose",
    )
    parser.add_argument("--quick", action="store_true", help="a smoke test: few steps, no files")
    parser.add_argument("--out", type=Path, help="file stem; default benchmarks/results/training_speed")
    return parser.parse_args(arguments)


def chosen(text: str) -> list[str]:
    """Names of contenders, in their fixed order."""
    if text in ("", "all"):
        return [name for name, contender in CONTENDERS.items() if text or not contender.extra]
    asked = text.split(",")
    unknown = sorted(set(asked) - set(CONTENDERS))
    if unknown:
        sys.exit(f"no such contender: {', '.join(unknown)}; there are {', '.join(CONTENDERS)}")
    return [name for name in CONTENDERS if name in asked]


def measure(
    problem: Problem, names: list[str], lengths: Lengths, repetitions: int, policy: str, against: str
) -> SpeedReport:
    """Tune those contenders that have a choice, then measure all of them in turns."""
    print(f"{problem.name}: {', '.join(names)}", file=sys.stderr, flush=True)
    load_before = machine.load_average()
    missing = {name: reason for name in names if (reason := absence(CONTENDERS[name], problem))}
    entrants: dict[str, Entrant] = {}
    tried: dict[str, dict[str, Quartiles]] = {}
    for name in names:
        if name in missing:
            continue
        ways = ways_to_run(CONTENDERS[name], policy)
        try:
            entrants[name], tried[name] = tuned(ways, problem, lengths, min(repetitions, TUNING_REPETITIONS))
        except LookupError as reason:
            missing[name] = str(reason)
    turns, failures = take_turns(entrants, problem, lengths, repetitions)
    missing |= {name: f"failed: {reason}" for name, reason in failures.items()}
    reference = next((name for name in [against, "index-loop", *turns] if name in turns), "none")
    entries = {
        name: entry_of(CONTENDERS[name], entrants[name], turns[name], turns[reference], tried[name])
        for name in turns
    }
    return SpeedReport(
        problem=problem.name,
        source=problem.source,
        widths=problem.widths,
        batch_size=problem.batch_size,
        rows=(len(problem.x_train), len(problem.x_validation)),
        steps_per_epoch=problem.steps_per_epoch,
        lengths=lengths,
        repetitions=repetitions,
        reference=reference,
        entries=entries,
        missing=missing,
        quality_outside_band=outside_band(
            {name: entry.accuracy for name, entry in entries.items()}, BAND[problem.name]
        ),
        load_before=load_before,
        load_after=machine.load_average(),
    )


def tuned(
    ways: dict[str, Entrant], problem: Problem, lengths: Lengths, repetitions: int
) -> tuple[Entrant, dict[str, Quartiles]]:
    """The fastest of several ways to run a contender, and the steady cost of each."""
    if len(ways) == 1:
        return next(iter(ways.values())), {}
    fewer = Lengths(lengths.short, lengths.short + max(1, (lengths.long - lengths.short) // 3))
    turns, failures = take_turns(ways, problem, fewer, repetitions)
    if not turns:
        raise LookupError(f"failed: {next(iter(failures.values()))}")
    costs = {label: Quartiles.of([turn.steady for turn in each]) for label, each in turns.items()}
    return ways[min(costs, key=lambda label: costs[label].median)], costs


def absence(contender: Contender, problem: Problem) -> str:
    """Why a contender does not take part; empty if it does."""
    lacking = [package for package in contender.packages if not machine.installed(package)]
    if lacking:
        return f"not installed ({', '.join(lacking)})"
    if problem.name not in contender.sizes:
        return f"takes part only in: {', '.join(contender.sizes)}"
    return ""


def ways_to_run(contender: Contender, policy: str) -> dict[str, Entrant]:
    """Every variant on every number of threads that the policy lets it try.

    A contender that chooses its own threads does so under every policy.
    """
    numbers: tuple[int | None, ...]
    if contender.threads == "own":
        numbers = (None,)
    elif policy.isdigit():
        numbers = (int(policy),)
    else:
        numbers = choices() if "best" in (policy, contender.threads) else (None,)
    ways = {}
    for variant, prepare in contender.variants.items():
        for number in numbers:
            on_threads = "" if number is None else f"{number} thread{'s' if number > 1 else ''}"
            label = ", ".join(part for part in (variant, on_threads) if part)
            ways[label] = Entrant(prepare, number, label)
    return ways


def entry_of(
    contender: Contender,
    entrant: Entrant,
    turns: list[Turn],
    reference: list[Turn],
    tried: dict[str, Quartiles],
) -> Entry:
    ratios = [turn.steady / other.steady for turn, other in zip(turns, reference, strict=True)]
    return Entry(
        variant=entrant.label,
        on=contender.on,
        threads=", ".join(sorted({turn.threads for turn in turns})),
        steady=Quartiles.of([turn.steady for turn in turns]),
        gross=Quartiles.of([turn.gross for turn in turns]),
        cpu=Quartiles.of([turn.cpu for turn in turns]),
        accuracy=Quartiles.of([turn.accuracy for turn in turns]).median,
        ratio=None if turns is reference else Quartiles.of(ratios),
        tried=tried,
        evidence=turns[-1].evidence,
        turns=turns,
    )


if __name__ == "__main__":
    sys.exit(main())
