"""Every video made once and measured once, whatever happens in between."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from safetensors.torch import save

from ...whole_file import write_whole
from ..client import Host, HostError
from .journal import Journal, write_text
from .making import LOOK_AHEAD, Crew, Maker
from .measuring import Meter
from .plan import Job

# So many videos in a row that fail for other reasons than their photo: something else is wrong.
_MOST_FAILURES = 3


class Runner:
    """Makes and measures videos.

    Args:
        hosts: Where they are made; several share the work.
        journal: What was done so far.
        out: Folder of the results.
    """

    def __init__(self, hosts: Sequence[Host], meter: Meter, journal: Journal, out: Path) -> None:
        self._makers = [Maker(host, journal, out) for host in hosts]
        self._meter, self._journal, self._out = meter, journal, out
        self.is_made, self.video = self._makers[0].is_made, self._makers[0].video

    def run(self, jobs: Sequence[Job], tick: Callable[[Job], object]) -> None:
        """Make what is not made and measure what is not measured, in order.

        Args:
            tick: Called with each one that needs nothing more.

        Raises:
            HostError: No host is reachable, one refuses the workflow, or videos fail again and
                again.
        """
        first = self._makers[0]
        todo = [job for job in jobs if not self.is_made(job) and not first.is_hopeless(job)]
        for maker in self._makers if todo else ():
            maker.greet()
        waiting = {job.id for job in todo}
        done = self._alone(jobs, todo) if len(self._makers) == 1 else self._together(jobs, todo)
        failures = 0
        for job in done:
            if job.id in waiting:
                failed = not self.is_made(job) and not first.is_hopeless(job)
                failures = failures + 1 if failed else 0
                if failures >= _MOST_FAILURES:
                    reason = first.state(job)["reason"]
                    raise HostError(f"{failures} videos in a row failed; the last one: {reason}")
            if self.is_made(job):
                self._measure(job)
            tick(job)

    def _alone(self, jobs: Sequence[Job], todo: Sequence[Job]) -> Iterator[Job]:
        """All jobs in order, made by one host."""
        (maker,), waiting, sent = self._makers, deque(todo), set()
        for job in jobs:
            while waiting and len(sent) < LOOK_AHEAD:
                maker.send(waiting[0])
                sent.add(waiting.popleft().id)
            if job.id in sent:
                maker.collect(job)
                sent.remove(job.id)
            yield job

    def _together(self, jobs: Sequence[Job], todo: Sequence[Job]) -> Iterator[Job]:
        """What is there first, then what several hosts make, as it comes."""
        waiting = {job.id for job in todo}
        yield from (job for job in jobs if job.id not in waiting)
        with closing(Crew(self._makers, todo)) as crew:
            yield from crew.ended()

    def _measure(self, job: Job) -> None:
        """Measure a video, unless it was."""
        key = measured_key(job, self._meter.id)
        if self._journal.last("measured", key) is not None:
            return
        try:
            found = self._meter.measure(self.video(job), job.reference.path)
        except ValueError as error:
            raise HostError(
                f"{error}: look at the video; when it is deleted, the same command makes it anew"
            ) from error
        path = measured_path(job, self._meter, self._out)
        write_text(path.with_suffix(".json"), found.json)
        write_whole(path.with_suffix(".jpg"), lambda file: file.write(found.sheet))
        if found.features is not None:
            features = save({"features": found.features.half()})
            write_whole(path.with_suffix(".safetensors"), lambda file: file.write(features))
        self._journal.add("measured", key, **found.values)


def measured_key(job: Job, meter: str) -> str:
    """Under which the journal keeps a job's values."""
    return f"{job.id} {meter}"


def measured_path(job: Job, meter: Meter, out: Path) -> Path:
    """Of a job's frame values (.json), contact sheet (.jpg) and features (.safetensors)."""
    return out / "measured" / meter.id / job.id
