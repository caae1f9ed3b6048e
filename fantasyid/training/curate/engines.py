"""Where the stages run: a pool of processes on one machine, or Ray Data on many.

Both only fill the store; whoever reads it finds the same bytes.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch
import torch.multiprocessing as multiprocessing

from ..manifest import DataError
from .work import Work

Results = Iterator[tuple[str, str | None]]
DIED = "a worker process died on it (a damaged file, or too little memory)"
ROOT = Path(__file__).resolve().parents[3]


def run_pool(work: Work, paths: Sequence[str]) -> Results:
    """Run the stages on this machine's cores, in any order.

    A file that takes its process down is found by trying the suspects one by one, and only it is
    left out.

    Yields:
        A path, and why it must be tried again, or None.
    """
    workers = work.rules.workers or os.cpu_count() or 1
    waiting = list(reversed(paths))
    while waiting:
        running: dict[Future[str | None], str] = {}
        suspects: list[str] = []
        with _pool(workers) as pool:
            try:
                while waiting or running:
                    while waiting and len(running) < 2 * workers:
                        path = waiting.pop()
                        running[pool.submit(work, path)] = path
                    for done in wait(running, return_when=FIRST_COMPLETED).done:
                        path = running[done]
                        yield path, done.result()
                        del running[done]
            except BrokenProcessPool:
                suspects = list(running.values())
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        for path in suspects:
            with _pool(1) as pool:
                try:
                    yield path, pool.submit(work, path).result()
                except BrokenProcessPool:
                    yield path, DIED


def _pool(workers: int) -> ProcessPoolExecutor:
    # A forked copy of a process with torch's threads may hang.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, _begin)


def _begin() -> None:
    """A worker: one thread, deaf to Ctrl-C (the parent waits for it), gone when the parent is."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def run_ray(work: Work, paths: Sequence[str]) -> Results:
    """Run the stages on a Ray cluster, whose machines see the same folders.

    It is the cluster of `RAY_ADDRESS`, or one of this machine's cores.

    Raises:
        DataError: Ray is not installed.
    """
    try:
        import ray
        import ray.data
        from ray.exceptions import RayTaskError
    except ImportError as error:
        raise DataError(
            f"--engine ray needs Ray ({error}): pip install .[training-cluster]"
        ) from error
    if not ray.is_initialized():
        variables = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        ray.init(
            runtime_env={"env_vars": variables},
            num_cpus=None if "RAY_ADDRESS" in os.environ else work.rules.workers or None,
            include_dashboard=False if "RAY_ADDRESS" not in os.environ else None,
            log_to_driver=False,
        )
    ray.data.DataContext.get_current().enable_progress_bars = False
    # A block is what a lost machine must do again; what is in the store it does not do again.
    blocks = min(len(paths), 4096)
    rows = ray.data.from_items([{"path": path} for path in paths], override_num_blocks=blocks)
    try:
        for row in rows.map(lambda row: {**row, "why": work(row["path"]) or ""}).iter_rows():
            yield row["path"], row["why"] or None
    except RayTaskError as error:
        raise DataError(str(error.cause or error)) from error


ENGINES: dict[str, Callable[[Work, Sequence[str]], Results]] = {"pool": run_pool, "ray": run_ray}
