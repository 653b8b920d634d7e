"""Microseconds per training step of descend with all features on, of hand-written loops and of other libraries.

    python benchmarks/training_speed.py                       all sizes, 5 repetitions
    python benchmarks/training_speed.py --quick               smoke test without meaningful figures
    python benchmarks/training_speed.py --size small --contenders descend,index-loop --reps 11

All contenders of a size train the same network on the same rows with Adam, interleaved in one process. README.md explains what
is measured and how to read the table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict

from contenders import CONTENDERS, Contender, Problem
from instruments import machine
from instruments.problems import PROBLEMS
from instruments.quartiles import Quartiles
from instruments.results import RESULTS, add_out_option, write_results
from instruments.session import Session
from instruments.speed_report import Entry, SpeedReport, outside_band, page
from instruments.step_cost import Configuration, Lengths, StepCost, measure_step_costs
from instruments.threads import choices

SHORT = 2
"""Number of epochs of the short fit."""
ADDITIONAL_EPOCHS = {"small": 150, "large": 30, "images": 4}
"""Additional epochs of the long fit, enough to make small variations of the setup time negligible."""
BAND = {"small": 0.03, "large": 0.03, "images": 0.03}
"""Tolerated difference between a validation accuracy and the median of all."""
TUNING_REPETITIONS = 3
"""Repetitions of the measurement that selects the variant of a contender."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    names = chosen(options.contenders)
    reports = []
    for size in list(PROBLEMS) if options.size == "all" else [options.size]:
        try:
            problem = PROBLEMS[size]()
        except ModuleNotFoundError as error:
            print(f"{size}: skipped, {error.name} is not installed", file=sys.stderr)
            continue
        additional = options.epochs or (2 if options.quick else ADDITIONAL_EPOCHS[size])
        repetitions = options.reps or (2 if options.quick else 5)
        lengths = Lengths(SHORT, SHORT + additional)
        report = measure(problem, names, lengths, repetitions, options.threads, options.against)
        print(f"\n{report.plain()}", flush=True)
        reports.append(report)
    packages = {package: None for name in names for package in CONTENDERS[name].packages}
    session = Session.now(["numpy", *packages], thread_policy=options.threads)
    print(f"\n{session.line()}")
    out = options.out or (None if options.quick else RESULTS)
    if reports and out is not None:
        content = {"reports": [asdict(report) for report in reports]}
        write_results(out, "training_speed", session, content, page(session, reports))
    return 0 if reports and all(report.entries for report in reports) else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    about, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=[*PROBLEMS, "all"], default="all")
    parser.add_argument("--reps", type=int, help="repetitions; default 5")
    defaults = ", ".join(f"{size} {epochs}" for size, epochs in ADDITIONAL_EPOCHS.items())
    parser.add_argument("--epochs", type=int, help=f"additional epochs of the long fit; default {defaults}")
    names = ", ".join(CONTENDERS)
    parser.add_argument("--contenders", default="", help=f"comma-separated, or 'all' with extras: {names}")
    parser.add_argument("--against", default="descend", help="reference of the ratios; default descend")
    parser.add_argument(
        "--threads",
        default="declared",
        help="declared: as each contender specifies (default); best: the fastest number for every contender; "
        "or a number, for every contender that does not choose",
    )
    parser.add_argument("--quick", action="store_true", help="smoke test: few steps, no result files")
    add_out_option(parser, default=None)
    return parser.parse_args(arguments)


def chosen(text: str) -> list[str]:
    """Return the names of the requested contenders, in their fixed order."""
    if text in ("", "all"):
        return [name for name, contender in CONTENDERS.items() if text or not contender.extra]
    requested = text.split(",")
    unknown = sorted(set(requested) - set(CONTENDERS))
    if unknown:
        sys.exit(f"unknown contenders: {', '.join(unknown)}; expected some of {', '.join(CONTENDERS)}")
    return [name for name in CONTENDERS if name in requested]


def measure(
    problem: Problem, names: list[str], lengths: Lengths, repetitions: int, policy: str, against: str
) -> SpeedReport:
    """Select the fastest variant of each contender, then measure all contenders interleaved."""
    print(f"{problem.name}: {', '.join(names)}", file=sys.stderr, flush=True)
    load_before = machine.load_average()
    missing = {name: reason for name in names if (reason := absence(CONTENDERS[name], problem))}
    configurations: dict[str, Configuration] = {}
    tried: dict[str, dict[str, Quartiles]] = {}
    for name in names:
        if name in missing:
            continue
        candidates = variants_to_try(CONTENDERS[name], policy)
        try:
            configurations[name], tried[name] = fastest(
                candidates, problem, lengths, min(repetitions, TUNING_REPETITIONS)
            )
        except LookupError as error:
            missing[name] = str(error)
    costs, failures = measure_step_costs(configurations, problem, lengths, repetitions)
    missing |= {name: f"failed: {reason}" for name, reason in failures.items()}
    reference = next(
        (name for name in [against, "index-loop", "image-loop", *costs] if name in costs), "none"
    )
    entries = {
        name: entry_of(CONTENDERS[name], configurations[name], costs[name], costs[reference], tried[name])
        for name in costs
    }
    return SpeedReport(
        problem=problem.name,
        source=problem.source,
        channels=problem.channels,
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


def fastest(
    candidates: dict[str, Configuration], problem: Problem, lengths: Lengths, repetitions: int
) -> tuple[Configuration, dict[str, Quartiles]]:
    """Return the fastest of several configurations of a contender, and the steady cost of each.

    Raises:
        LookupError: all configurations failed.
    """
    if len(candidates) == 1:
        return next(iter(candidates.values())), {}
    shorter = Lengths(lengths.short, lengths.short + max(1, (lengths.long - lengths.short) // 3))
    measurements, failures = measure_step_costs(candidates, problem, shorter, repetitions)
    if not measurements:
        raise LookupError(f"failed: {next(iter(failures.values()))}")
    steady = {label: Quartiles.of([cost.steady for cost in costs]) for label, costs in measurements.items()}
    return candidates[min(steady, key=lambda label: steady[label].median)], steady


def absence(contender: Contender, problem: Problem) -> str:
    """Return the reason why a contender does not run; empty if it does."""
    if reason := machine.not_installed(contender.packages):
        return reason
    if problem.name not in contender.sizes:
        return f"included only in: {', '.join(contender.sizes)}"
    return ""


def variants_to_try(contender: Contender, policy: str) -> dict[str, Configuration]:
    """Return every variant with every number of threads that the policy allows.

    A contender that chooses its number of threads does so under every policy.
    """
    numbers: tuple[int | None, ...]
    if contender.threads == "own":
        numbers = (None,)
    elif policy.isdigit():
        numbers = (int(policy),)
    else:
        numbers = choices() if "best" in (policy, contender.threads) else (None,)
    configurations = {}
    for variant, prepare in contender.variants.items():
        for number in numbers:
            on_threads = "" if number is None else f"{number} thread{'s' if number > 1 else ''}"
            label = ", ".join(part for part in (variant, on_threads) if part)
            configurations[label] = Configuration(prepare, number, label)
    return configurations


def entry_of(
    contender: Contender,
    configuration: Configuration,
    costs: list[StepCost],
    reference: list[StepCost],
    tried: dict[str, Quartiles],
) -> Entry:
    """Summarize the measurements of a contender."""
    steady = [cost.steady for cost in costs]
    ratio = Quartiles.of_ratios(steady, [cost.steady for cost in reference])
    return Entry(
        variant=configuration.label,
        on=contender.on,
        threads=", ".join(sorted({cost.threads for cost in costs})),
        steady=Quartiles.of(steady),
        gross=Quartiles.of([cost.gross for cost in costs]),
        cpu=Quartiles.of([cost.cpu for cost in costs]),
        accuracy=Quartiles.of([cost.accuracy for cost in costs]).median,
        ratio=None if costs is reference else ratio,
        tried=tried,
        evidence=costs[-1].evidence,
        measurements=costs,
    )


if __name__ == "__main__":
    sys.exit(main())
