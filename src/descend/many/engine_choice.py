"""Which engine trains a group: the one that a short measurement shows to be faster, within the memory there is."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from descend.data.batches import MemoryBatches
from descend.many.grouping import Group
from descend.many.loop_engine import LoopEngine, WorkerChoice
from descend.many.engine import Engine
from descend.many.planned_member import PlannedMember
from descend.many.watchers import Watcher
from descend.many.pack import CannotPack
from descend.many.packed_engine import PackedEngine
from descend.many.parallel_packs import has_core_for_each, choose_process_count
from descend.rng import forked
from descend.runs.plan import choose_device
from descend.training.loop import Training
from descend.training.state import clone
from descend.training.threads import cores, using_threads

__all__ = ["EngineChoice", "member_bytes", "choose", "free_memory"]

EngineChoice = Literal["auto", "packed", "vmap", "loop"]

SMALL_NETWORK = 30_000
"""Weights of a network of linear layers below which a pack is faster than anything else, without a measurement."""

COMPUTE_BOUND = 20_000_000
"""Weights of linear layers times rows of a batch from which on a step on the CPU is all arithmetic. A pack saves the work
around it, some 0.1 ms, where the arithmetic takes 2 ms and more, and loops may have several processes for it."""

CLEARLY_SLOWER = 2.0
"""A pack whose first steps take this many times as long as one after another is not measured further."""

MEMORY_SHARE = 0.5
"""Share of the free memory that a pack may take."""


def choose(
    group: Group,
    choice: EngineChoice,
    watcher: Watcher,
    folder: Path | None,
    *,
    resume: bool,
    workers: WorkerChoice = 1,
) -> list[Engine]:
    """The engines that train a group: one, or several packs where one would not fit into memory, or processes share them.

    Args:
        group: members that can ride together, or the reason why not.
        choice: what was asked for.
        watcher: is told what happens.
        folder: of all runs, or None.
        resume: whether to go on from what is there; then each group keeps the engine and the packs it had.
        workers: processes that were asked for.
    """
    before = _engine_before(group) if resume else ""
    wanted = before or choice
    if wanted == "loop":
        return [LoopEngine(group.members, watcher, "asked for" if not before else "as before")]
    if group.not_packable_because:
        return [LoopEngine(group.members, watcher, group.not_packable_because)]
    if len(group.members) == 1 and wanted == "auto":
        return [LoopEngine(group.members, watcher, "no other member can ride with it")]
    if wanted == "auto" and not before and has_core_for_each(group.members, workers):
        return [LoopEngine(group.members, watcher, "there is a core for each")]
    made: list[Engine] = []
    for members, note in _packs(group.members):
        reason = group.not_stackable_because
        try:
            count = 1 if members[0].pack_before is not None else choose_process_count(members, workers)
            made += _pack(members, wanted, reason, note, watcher, folder, resume=resume, processes=count)
        except CannotPack as cause:
            made.append(LoopEngine(members, watcher, "; ".join(filter(None, (reason, str(cause))))))
        except _Slower as found:
            made.append(LoopEngine(members, watcher, str(found)))
    return made


class _Slower(Exception):
    """A pack would be slower than one after another."""


def _pack(
    members: list[PlannedMember],
    wanted: str,
    not_stackable_because: str,
    note: str,
    watcher: Watcher,
    folder: Path | None,
    *,
    resume: bool,
    processes: int,
) -> list[PackedEngine]:
    device = choose_device(members[0].plan.recipe.engine["device"])
    vmap = bool(not_stackable_because) or wanted == "vmap"
    measured = wanted == "auto" and (vmap or not _is_small(members[0].training.model))
    if measured and device.type == "cpu":
        weights, rows = _linear_weights(members[0].training.model), _rows_of_a_batch(members[0])
        if weights * rows >= COMPUTE_BOUND:
            raise _Slower(
                f"a step of {weights:,} weights on {rows} rows is all arithmetic, which a pack does no faster"
            )

    def pack_of(some: list[PlannedMember], threads: int | None = None) -> PackedEngine:
        place = None if folder is None else folder / "packs" / f"{min(member.number for member in some):04d}"
        return PackedEngine(some, watcher, device, place, vmap=vmap, threads=threads)

    shared, threads = processes > 1, ""
    why = f"by vmap, since {not_stackable_because}" if not_stackable_because else "their layers can be stacked"
    packs: list[PackedEngine] = []
    if measured or not shared:
        packs = [pack_of(members, 1 if shared else None)]
    if measured:
        threads, figures = _timed_both_ways(packs[0], processes)
        why = f"{why}; {figures}"
    elif not shared:
        threads = packs[0].choose_threads()
    if shared:
        packs.clear()  # two of all members would take twice the memory
        # Every so-maniest: neighbours are alike, and stop alike.
        packs += [pack_of(members[place::processes], 1) for place in range(processes)]
        threads, why = f"one of {processes} processes", f"{why}; {processes} packs side by side"
    if wanted != "auto":
        why = f"{why}; {'as before' if resume else 'asked for'}"
    for pack in packs:
        pack.begin("; ".join(filter(None, (why, note))), threads, resume=resume)
    return packs


def _timed_both_ways(pack: PackedEngine, processes: int) -> tuple[str, str]:
    """The reason for the pack's number of threads, and the figures that speak for it.

    Args:
        pack: of all members, on one thread if processes are to share them.
        processes: how many.

    Raises:
        _Slower: the figures speak against it.
    """
    count = len(pack.members) * processes
    apart, together = solo_step_seconds(pack.members[0], len(pack.members)), pack.step_seconds(1) / count
    threads = ""
    if together < CLEARLY_SLOWER * apart:
        threads = pack.choose_threads() if processes == 1 else ""
        together = pack.step_seconds() / count
    figures = f"{1e6 * together:,.0f} µs a step and member together, {1e6 * apart:,.0f} µs one after another"
    if together >= apart:
        raise _Slower(figures)
    return threads, figures


def _is_small(model: nn.Module) -> bool:
    if any(isinstance(module, (nn.Conv1d, nn.Conv2d)) for module in model.modules()):
        return False
    return sum(p.numel() for p in model.parameters()) < SMALL_NETWORK


def _linear_weights(model: nn.Module) -> int:
    """Weights that are multiplied once for each row, and so are most of the arithmetic; 0 where there is more of it."""
    if any(isinstance(module, (nn.Conv1d, nn.Conv2d)) for module in model.modules()):
        return 0
    return sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Linear))


def _rows_of_a_batch(member: PlannedMember) -> int:
    batches = member.training.batches
    assert isinstance(batches, MemoryBatches)  # the others ride with nobody
    return max(batches.order.sizes())


def solo_step_seconds(member: PlannedMember, members: int) -> float:
    """Seconds for each step of each member when all are trained one after another, as fast as that goes.

    Workers of one thread share the members, or one process uses all threads.
    """
    training = member.training
    device = next(training.model.parameters()).device
    counts = {1, cores()} if device.type == "cpu" else {torch.get_num_threads()}
    with forked(device):
        alone = {count: _timed(training, count, device) for count in sorted(counts)}
    if device.type == "cpu":
        alone[1] /= min(cores(), members)
    return min(alone.values())


def _timed(training: Training, threads: int, device: torch.device, steps: int = 4) -> float:
    before = clone(training.state_dict())
    try:
        with using_threads(threads):
            batches = next(training.batches.epoch(0))
            advance = training.stepper()
            taken = []
            for _ in range(steps):
                began = time.perf_counter()
                advance(batches)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                taken.append(time.perf_counter() - began)
        return min(taken)
    finally:
        training.load_state_dict(before)


def _engine_before(group: Group) -> str:
    """The engine that trained a group before it was interrupted; empty where none had begun."""
    for member in group.members:
        if member.engine_before:
            return member.engine_before
    return ""


def _packs(members: Sequence[PlannedMember]) -> list[tuple[list[PlannedMember], str]]:
    """The members in packs, each with a word about its size; those that rode together before do so again.

    A pack's checkpoint is of all its members, and how much memory is free may have changed since.
    """
    before: dict[int, list[PlannedMember]] = {}
    for member in members:
        if member.pack_before is not None:
            before.setdefault(member.pack_before, []).append(member)
    packs = [(alike, "") for alike in before.values()]
    fresh = [member for member in members if member.pack_before is None]
    if fresh:
        parts, note = _fitting(fresh)
        packs += [(part, note) for part in parts]
    return packs


def _fitting(members: Sequence[PlannedMember]) -> tuple[list[list[PlannedMember]], str]:
    """The members in parts that fit into memory, and a word about it."""
    device = choose_device(members[0].plan.recipe.engine["device"])
    free, each = free_memory(device), max(member_bytes(member) for member in members)
    most = max(1, int(MEMORY_SHARE * free // each))
    if len(members) <= most:
        return [list(members)], ""
    count = -(-len(members) // most)
    size = -(-len(members) // count)
    parts = [list(members[at : at + size]) for at in range(0, len(members), size)]
    note = (
        f"in {len(parts)} packs of at most {size}, since a member takes about {each / 2**20:,.0f} MiB "
        f"and {free / 2**30:,.1f} GiB are free"
    )
    return parts, note


def member_bytes(member: PlannedMember) -> int:
    """About the memory that one more member of a pack takes.

    Its weights are there some nine times (gradient, direction, two states of the optimizer, average, best, networks_per_run),
    the signals of a batch three times, those of the validation rows twice at their widest.
    """
    training, prepared = member.training, member.plan.prepared
    sizes: list[int] = []

    def note(module: nn.Module, arguments: object, output: object) -> None:
        if isinstance(output, Tensor):
            sizes.append(output[0].numel())

    model = training.model
    handles = [
        module.register_forward_hook(note) for module in model.modules() if not list(module.children())
    ]
    modes = [(module, module.training) for module in model.modules()]
    try:
        device = next(model.parameters()).device
        with torch.inference_mode(), forked(device):
            model.eval()(torch.zeros(2, *prepared.schema.input_shape, device=device))
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode
    row = max(1, torch.Size(prepared.schema.input_shape).numel())
    widest = max([row, *sizes])
    rows = min(member.plan.recipe.data["batch_size"], len(prepared.train))
    weights = sum(p.numel() for p in model.parameters())
    numbers = 9 * weights + 3 * rows * (row + sum(sizes)) + 2 * len(prepared.validation) * widest
    return int(numbers * next(model.parameters()).element_size())


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    if hasattr(os, "sysconf"):
        return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    return 4 * 2**30
