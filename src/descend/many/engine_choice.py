"""Choice of the engine for a group: the faster one by a short measurement, within the available memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from descend.data.batches import MemoryBatches
from descend.errors import RunError
from descend.many.engine import Engine
from descend.many.grouping import Group
from descend.many.loop_engine import LoopEngine, WorkerChoice
from descend.many.pack import CannotPack
from descend.many.packed_engine import PackedEngine
from descend.many.parallel_packs import choose_process_count, has_core_for_each
from descend.many.planned_member import PlannedMember
from descend.many.watchers import Watcher
from descend.nn.evaluation_mode import in_evaluation_mode
from descend.rng import forked
from descend.runs.plan import choose_device
from descend.training.loop import Training
from descend.training.state import clone
from descend.training.threads import cores, usable_threads, using_threads
from descend.training.timing import shortest_seconds

__all__ = ["EngineChoice", "choose_engines", "free_memory", "member_bytes"]

EngineChoice = Literal["auto", "packed", "vmap", "loop"]

SMALL_NETWORK = 30_000
"""Weights of a network of linear layers below which a pack is faster than all alternatives, without a measurement."""

COMPUTE_BOUND = 20_000_000
"""Weights of linear layers times rows of a batch from which on a step on the CPU is bound by arithmetic. A pack saves about
0.1 ms of overhead per step, while the arithmetic takes 2 ms and more, and the loop engine may use several processes."""

HOPELESS_PACK_SLOWDOWN = 2.0
"""A pack whose first steps take this many times as long as solo steps is not measured further."""

MAX_MEMORY_SHARE = 0.5
"""Share of the free memory that a pack may use."""


def choose_engines(
    group: Group,
    choice: EngineChoice,
    watcher: Watcher,
    folder: Path | None,
    *,
    resume: bool,
    workers: WorkerChoice = 1,
) -> list[Engine]:
    """Return the engines that train a group: one, or several packs if one exceeds the memory or processes share them.

    Args:
        group: members that can be packed together, or the reason why they cannot.
        choice: the requested engine.
        watcher: notified of epochs and ends.
        folder: of all runs, or None.
        resume: whether to continue from the contents of the folder; each group then keeps its engine and its packs.
        workers: the requested number of processes.
    """
    before = _engine_before(group) if resume else ""
    requested = before or choice
    if requested == "loop":
        return [
            LoopEngine(group.members, watcher, "requested" if not before else "as before the interruption")
        ]
    if group.not_packable_because and before:
        raise RunError(
            f"these runs were started in a pack, and cannot continue in one: {group.not_packable_because}; resume without "
            "this change, or start new runs in another folder"
        )
    if group.not_packable_because:
        return [LoopEngine(group.members, watcher, group.not_packable_because)]
    if len(group.members) == 1 and requested == "auto":
        return [LoopEngine(group.members, watcher, "no other member can be packed with it")]
    if requested == "auto" and not before and has_core_for_each(group.members, workers):
        return [LoopEngine(group.members, watcher, "there is a core for each member")]
    engines: list[Engine] = []
    for members, note in _split_into_packs(group.members):
        reason = group.not_stackable_because
        try:
            count = 1 if members[0].pack_before is not None else choose_process_count(members, workers)
            engines += _build_packs(
                members, requested, reason, note, watcher, folder, resume=resume, processes=count
            )
        except CannotPack as cause:
            engines.append(LoopEngine(members, watcher, "; ".join(filter(None, (reason, str(cause))))))
        except _PackIsSlower as cause:
            engines.append(LoopEngine(members, watcher, str(cause)))
    return engines


class _PackIsSlower(Exception):
    """A pack would be slower than solo trainings one after another; the message has the figures."""


def _build_packs(
    members: list[PlannedMember],
    requested: str,
    not_stackable_because: str,
    note: str,
    watcher: Watcher,
    folder: Path | None,
    *,
    resume: bool,
    processes: int,
) -> list[PackedEngine]:
    device = choose_device(members[0].plan.recipe.engine["device"])
    vmap = bool(not_stackable_because) or requested == "vmap"
    measured = requested == "auto" and (vmap or not _is_small(members[0].training.model))
    if measured and device.type == "cpu":
        weights, rows = _linear_weights(members[0].training.model), _batch_rows(members[0])
        if weights * rows >= COMPUTE_BOUND:
            raise _PackIsSlower(
                f"a step of {weights:,} weights on {rows} rows is bound by arithmetic, which a pack does not speed up"
            )

    def build(some: list[PlannedMember], threads: int | None = None) -> PackedEngine:
        place = None if folder is None else folder / "packs" / f"{min(member.number for member in some):04d}"
        return PackedEngine(some, watcher, device, place, vmap=vmap, threads=threads)

    parallel, threads = processes > 1, ""
    why = (
        f"by vmap, since {not_stackable_because}" if not_stackable_because else "their layers can be stacked"
    )
    packs: list[PackedEngine] = []
    if measured or not parallel:
        packs = [build(members, 1 if parallel else None)]
    if measured:
        threads, figures = _compare_with_solo(packs[0], processes)
        why = f"{why}; {figures}"
    elif not parallel:
        threads = packs[0].choose_threads()
    if parallel:
        packs.clear()  # a second copy of all members would double the memory
        # Members are assigned round-robin: adjacent members tend to stop together.
        packs += [build(members[place::processes], 1) for place in range(processes)]
        threads, why = f"one of {processes} processes", f"{why}; {processes} packs in parallel"
    if requested != "auto":
        why = f"{why}; {'as before the interruption' if resume else 'requested'}"
    for pack in packs:
        pack.begin("; ".join(filter(None, (why, note))), threads, resume=resume)
    return packs


def _compare_with_solo(pack: PackedEngine, processes: int) -> tuple[str, str]:
    """Return the reason for the pack's number of threads, and the times per step and member.

    Args:
        pack: of all members, on one thread if processes are to share them.
        processes: the number of processes.

    Raises:
        _PackIsSlower: solo steps are faster.
    """
    count = len(pack.members) * processes
    solo, packed = solo_step_seconds(pack.members[0], len(pack.members)), pack.step_seconds(1) / count
    threads = ""
    if packed < HOPELESS_PACK_SLOWDOWN * solo:
        threads = pack.choose_threads() if processes == 1 else ""
        packed = pack.step_seconds() / count
    figures = f"{1e6 * packed:,.0f} µs per step and member packed, {1e6 * solo:,.0f} µs one after another"
    if packed >= solo:
        raise _PackIsSlower(figures)
    return threads, figures


def _is_small(model: nn.Module) -> bool:
    if any(isinstance(module, (nn.Conv1d, nn.Conv2d)) for module in model.modules()):
        return False
    return sum(p.numel() for p in model.parameters()) < SMALL_NETWORK


def _linear_weights(model: nn.Module) -> int:
    """Return the number of weights of linear layers, which are used once per row; 0 if there are convolutions."""
    if any(isinstance(module, (nn.Conv1d, nn.Conv2d)) for module in model.modules()):
        return 0
    return sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Linear))


def _batch_rows(member: PlannedMember) -> int:
    batches = member.training.batches
    assert isinstance(batches, MemoryBatches)  # other batches cannot be packed
    return max(batches.order.sizes())


def solo_step_seconds(member: PlannedMember, members: int) -> float:
    """Return seconds per step and member if all members are trained one after another in the fastest way.

    Workers of one thread share the members, or one process uses all threads.
    """
    training = member.training
    device = next(training.model.parameters()).device
    counts = {1, usable_threads()} if device.type == "cpu" else {torch.get_num_threads()}
    with forked(device):
        seconds = {count: _step_seconds(training, count, device) for count in sorted(counts)}
    if device.type == "cpu":
        seconds[1] /= min(cores(), members)
    return min(seconds.values())


def _step_seconds(training: Training, threads: int, device: torch.device) -> float:
    before = clone(training.state_dict())
    try:
        with using_threads(threads):
            batches = next(training.batches.epoch(0))
            advance = training.stepper()
            return shortest_seconds(lambda: advance(batches), repeats=4, device=device)
    finally:
        training.load_state_dict(before)


def _engine_before(group: Group) -> str:
    """Return the engine that trained a group before it was interrupted; empty if its training had not begun."""
    for member in group.members:
        if member.engine_before:
            return member.engine_before
    return ""


def _split_into_packs(members: Sequence[PlannedMember]) -> list[tuple[list[PlannedMember], str]]:
    """Split members into packs, each with a note about its size; packs from before an interruption are kept.

    The checkpoint of a pack contains all its members, and the amount of free memory may have changed since.
    """
    before: dict[int, list[PlannedMember]] = {}
    for member in members:
        if member.pack_before is not None:
            before.setdefault(member.pack_before, []).append(member)
    packs = [(pack, "") for pack in before.values()]
    new = [member for member in members if member.pack_before is None]
    if new:
        parts, note = _split_by_memory(new)
        packs += [(part, note) for part in parts]
    return packs


def _split_by_memory(members: Sequence[PlannedMember]) -> tuple[list[list[PlannedMember]], str]:
    """Return the members in parts that fit into memory, and a note about the split."""
    device = choose_device(members[0].plan.recipe.engine["device"])
    free, each = free_memory(device), max(member_bytes(member) for member in members)
    most = max(1, int(MAX_MEMORY_SHARE * free // each))
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
    """Estimate the memory in bytes that one more member of a pack takes.

    It holds its weights about nine times (gradient, direction, two states of the optimizer, average, best, copies), the
    signals of a batch three times, and the widest signal of the validation rows twice.
    """
    training, prepared = member.training, member.plan.prepared
    sizes: list[int] = []

    def record_size(module: nn.Module, arguments: object, output: object) -> None:
        if isinstance(output, Tensor):
            sizes.append(output[0].numel())

    model = training.model
    handles = [
        module.register_forward_hook(record_size) for module in model.modules() if not list(module.children())
    ]
    try:
        device = next(model.parameters()).device
        with in_evaluation_mode(model), torch.inference_mode(), forked(device):
            model(torch.zeros(2, *prepared.schema.input_shape, device=device))
    finally:
        for handle in handles:
            handle.remove()
    row = max(1, torch.Size(prepared.schema.input_shape).numel())
    widest = max([row, *sizes])
    rows = min(member.plan.recipe.data["batch_size"], len(prepared.train))
    weights = sum(p.numel() for p in model.parameters())
    numbers = 9 * weights + 3 * rows * (row + sum(sizes)) + 2 * len(prepared.validation) * widest
    return int(numbers * next(model.parameters()).element_size())


def free_memory(device: torch.device) -> int:
    """Return the free memory of a device in bytes."""
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
