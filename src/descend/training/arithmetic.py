"""The arithmetic of training: the [engine] section of a recipe, and the context in which training computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le

from descend.linalg.products import Library
from descend.param_types import Natural
from descend.process import exclusive
from descend.rng import forked
from descend.training.denormals import Denormals, flushing_denormals
from descend.training.threads import using_threads

__all__ = ["EngineSettings", "arithmetic"]


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """Where and how the arithmetic runs.

    Args:
        device: "auto" uses a CUDA device if there is one; else "cpu", "cuda", "cuda:1", ...
        precision: "float32", or "bfloat16" for automatic mixed precision (weights stay float32).
        threads: the number of CPU threads; "auto" measures which number is fastest for this network
            and records it. A resumed run uses the recorded number, since another one changes the last bits.
        products: the library that multiplies the matrices of large linear layers on the CPU, PyTorch's "blas" or
            "onednn"; "auto" chooses the faster one for this processor and records it, as the last bits depend on it.
        denormals: "flush" treats numbers below the smallest normal one (1.2e-38 in float32) as zero on the CPU
            (:mod:`descend.training.denormals`): they are residues of rounding, and slow on many processors. "keep"
            computes with them.
        workers: the number of processes that load a torch ``Dataset``; 0 loads in the training process.
    """

    device: str = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    threads: Annotated[int, Ge(1), Le(1024)] | Literal["auto"] = "auto"
    products: Library | Literal["auto"] = "auto"
    denormals: Denormals = "flush"
    workers: Natural = 0


@contextmanager
def arithmetic(threads: int, device: torch.device, denormals: Denormals = "flush") -> Iterator[None]:
    """Context in which a training computes: its threads, its treatment of denormals, and its own random state.

    On exit the number of threads, the treatment of denormals and the random state are restored. One thread of the
    process is in the context at a time, so trainings in several threads run one after another, with the results of
    trainings in one thread.

    Args:
        threads: the number of CPU threads.
        device: the device whose random state is restored, in addition to the CPU's.
        denormals: whether numbers below the smallest normal one are flushed to zero on the CPU.

    >>> before = torch.get_rng_state()
    >>> with arithmetic(1, torch.device("cpu")):
    ...     _ = torch.rand(2), torch.get_num_threads()
    >>> torch.equal(before, torch.get_rng_state())
    True
    """
    with (
        exclusive(),
        using_threads(threads),
        flushing_denormals(enabled=denormals == "flush"),
        forked(device),
    ):
        yield
