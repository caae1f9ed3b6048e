"""Time, memory and waiting of some work on a device, and tables of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Reads(TorchDispatchMode):
    """Counts how often values of tensors are fetched for Python, which waits for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        result = func(*args, **(kwargs or {}))
        fetched = name in ("_local_scalar_dense", "item", "is_nonzero", "nonzero", "equal")
        if name in ("_to_copy", "copy_", "to") and isinstance(result, Tensor):
            source = args[1] if name == "copy_" else args[0]
            fetched = source.device.type != "cpu" and result.device.type == "cpu"
        self.count += fetched
        return result


def reads(work: Callable[[], Any]) -> int:
    """How often some work waits for the device."""
    with Reads() as counter:
        work()
    return counter.count


def num_bytes(tensors: Iterable[Tensor]) -> int:
    """Memory of some tensors."""
    return sum(t.numel() * t.element_size() for t in tensors)


def activation_peak(work: Callable[[], Any], device: torch.device) -> int:
    """The most bytes that some work holds at once, above what was there before it.

    Both ways ask torch's own allocator, so buffers inside an operation count. A CPU's allocator
    keeps no peak; the profiler lists its every allocation and release.
    """
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        work()
    events: Any = profile.profiler.kineto_results.events()  # type: ignore[union-attr]
    held = peak = 0
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def interleaved(
    works: dict[str, Callable[[], Any]], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of each work in each round, after one unmeasured round.

    On a GPU these are seconds of the clock. On a CPU they are seconds of the processor, which other
    programs do not lengthen; with more than one thread they would count waiting for each other.
    """
    cuda = device.type == "cuda"
    clock = time.perf_counter if cuda else time.process_time

    def seconds(work: Callable[[], Any]) -> float:
        start = clock()
        work()
        if cuda:
            torch.cuda.synchronize()
        return clock() - start

    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            took = seconds(work)
            if number:
                times[name].append(took)
    return times


def ratio(times: dict[str, list[float]], over: str, under: str) -> str:
    """The median of the rounds' ratios, and their range."""
    found = [a / b for a, b in zip(times[over], times[under], strict=True)]
    return f"{statistics.median(found):.3f} ({min(found):.3f} to {max(found):.3f})"


def milliseconds(times: list[float]) -> str:
    """The median of some times, and their range."""
    low, middle, high = (1e3 * f(times) for f in (min, statistics.median, max))
    return f"{middle:.4g} ms ({low:.4g} to {high:.4g})"


def table(rows: Sequence[Sequence[str]], markdown: bool) -> str:
    """Rows as text, the first of them the heading."""
    if markdown:
        lines = [f"| {' | '.join(row)} |" for row in rows]
        return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    )
