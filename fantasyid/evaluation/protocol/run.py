"""Every video made once and measured once, whatever happens in between.

A prompt's id stands in the journal before the host hears of it. So after a kill it is looked for
in the host's queue, in its history, and among its files, and only made anew where it is nowhere.
"""

from __future__ import annotations

import io
import itertools
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors.torch import save

from ...views.frames import frames_of_video
from ...views.photos import read_photo
from ...weights.fingerprint import sha256_of_file
from ...whole_file import write_whole
from ..client import Ending, Host, HostError, HostFile, Result
from .journal import Journal, write_text
from .measuring import Meter
from .plan import Job
from .workflow import FOLDER, LATENT, SAVERS, VIDEO, nodes_of, result_folder

QUEUED, MADE, FAILED = "queued", "made", "failed"
NO_FACE = "no face found"
# One video is in the host while the one before it is measured.
LOOK_AHEAD = 2
# A prompt that was sent shortly before a kill may arrive a little later than this command.
_LOOKS_BEFORE_LOST = 4
_MOST_SENDINGS = 3
# Between two looks at a prompt; the first are quick, for small models.
_PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0)
# So many videos in a row that fail for other reasons than their photo: something else is wrong.
_MOST_FAILURES = 3


class Runner:
    """Makes and measures videos.

    Args:
        host: Where they are made.
        journal: What was done so far.
        out: Folder of the results.
    """

    def __init__(self, host: Host, meter: Meter, journal: Journal, out: Path) -> None:
        self._host, self._meter, self._journal, self._out = host, meter, journal, out
        self._uploaded: set[str] = set()
        self._host_words = ""

    def run(self, jobs: Sequence[Job], tick: Callable[[Job], object]) -> None:
        """Make what is not made and measure what is not measured, in order.

        Args:
            tick: Called with each one that needs nothing more.

        Raises:
            HostError: The host is not reachable, refuses the workflow, or fails again and again.
        """
        todo = deque(job for job in jobs if not self.is_made(job) and not self._is_hopeless(job))
        if todo:
            self._host_words = self._host.describe()
        sent: set[str] = set()
        failures = 0
        for job in jobs:
            while todo and len(sent) < LOOK_AHEAD:
                self._send(todo[0])
                sent.add(todo.popleft().id)
            if job.id in sent:
                self._collect(job)
                sent.remove(job.id)
                failed = not self.is_made(job) and not self._is_hopeless(job)
                failures = failures + 1 if failed else 0
                if failures >= _MOST_FAILURES:
                    reason = self._state(job)["reason"]
                    raise HostError(f"{failures} videos in a row failed; the last one: {reason}")
            if self.is_made(job):
                self._measure(job)
            tick(job)

    def is_made(self, job: Job) -> bool:
        """Whether the video of a job is here."""
        state = self._state(job)
        path = self.video(job)
        return (
            state.get("state") == MADE and path.is_file() and path.stat().st_size == state["size"]
        )

    def video(self, job: Job) -> Path:
        """Where the video of a job is, or will be."""
        return self._out / "videos" / f"{job.id}.mp4"

    def _state(self, job: Job) -> dict[str, Any]:
        return self._journal.last("job", job.id) or {}

    def _is_hopeless(self, job: Job) -> bool:
        """Whether it failed for a reason that stays."""
        state = self._state(job)
        return state.get("state") == FAILED and state["final"]

    def _send(self, job: Job) -> None:
        """Put a job into the host's queue, unless an earlier run did."""
        if self._state(job).get("state") != QUEUED:
            self._queue(job)

    def _queue(self, job: Job) -> None:
        reference = job.reference
        if reference.name_on_host not in self._uploaded:
            photo = Image.fromarray(read_photo(reference.path).pixels)
            png = io.BytesIO()
            photo.save(png, "PNG")
            self._host.upload(reference.name_on_host, FOLDER, png.getvalue())
            self._uploaded.add(reference.name_on_host)
        number = 1
        while self._host.exists(_file(job, VIDEO, number)):
            number += 1
        prompt_id = str(uuid.uuid4())
        self._journal.add("job", job.id, state=QUEUED, prompt_id=prompt_id, number=number)
        self._host.queue(job.graph, prompt_id)

    def _collect(self, job: Job) -> None:
        """Wait for a job and copy its files; note why where it failed."""
        for attempt in range(_MOST_SENDINGS):
            if attempt:
                self._queue(job)
            result = self._wait(self._state(job)["prompt_id"])
            if result is None:
                if self._take_left_behind(job):
                    return
            elif result.failure:
                node = result.error.get("node_type")
                final = node == "FantasyIDAlignFace" and NO_FACE in result.failure
                self._journal.add("job", job.id, state=FAILED, reason=result.failure, final=final)
                return
            elif self._take(job, result):
                return
        raise HostError(
            f"the host lost the same video {_MOST_SENDINGS} times: somebody empties its queue or "
            "its output folder, or it restarts; see its log, then run the same command again"
        )

    def _wait(self, prompt_id: str) -> Result | None:
        """The end of a prompt, or None where the host knows nothing of it."""
        lost = 0
        for look in itertools.count():
            result = self._host.result(prompt_id)
            if result.ending not in (Ending.UNKNOWN, Ending.WAITING):
                return result
            lost = lost + 1 if result.ending is Ending.UNKNOWN else 0
            if lost >= _LOOKS_BEFORE_LOST:
                return None
            pause = _PAUSES_S[min(look, len(_PAUSES_S) - 1)]
            time.sleep(max(pause, 1.0) if lost else pause)
        raise AssertionError("the count has no end")

    def _take(self, job: Job, result: Result) -> bool:
        """Copy what a prompt saved; False where the host has it no more."""
        files = {
            name: next(iter(result.files(node)), None)
            for class_type, name in SAVERS.items()
            for node in nodes_of(job.graph, class_type)
        }
        try:
            self._copy(job, files[VIDEO], files.get(LATENT))
        except FileNotFoundError:
            return False
        return True

    def _take_left_behind(self, job: Job) -> bool:
        """Copy what a prompt saved that the host has forgotten since, if it had come to its end."""
        number = self._state(job)["number"]
        video, latent = (_file(job, name, number) for name in (VIDEO, LATENT))
        if not self._host.exists(video):
            return False
        target = self.video(job)
        try:
            self._host.fetch(video, target)
            sum(1 for _ in frames_of_video(str(target)))
        except (FileNotFoundError, ValueError):  # the host was ended while it wrote
            target.unlink(missing_ok=True)
            return False
        self._copy(job, video, latent if self._host.exists(latent) else None)
        return True

    def _copy(self, job: Job, video: HostFile | None, latent: HostFile | None) -> None:
        if video is None:
            raise HostError(
                f"the host says that the video of {job.reference.name} is done, but not where it "
                "is: the Save Video node put out no file"
            )
        hashes = {}
        for name, file in ((VIDEO, video), (LATENT, latent)):
            if file is not None:
                target = self._out / f"{name}s" / f"{job.id}{Path(file.filename).suffix}"
                target = self.video(job) if name == VIDEO else target
                self._host.fetch(file, target)
                hashes[name] = sha256_of_file(target)
        size = self.video(job).stat().st_size
        self._journal.add("job", job.id, state=MADE, size=size, host=self._host_words, **hashes)

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


def _file(job: Job, name: str, number: int) -> HostFile:
    """What the host's saving nodes call their file."""
    suffix = {VIDEO: "mp4", LATENT: "latent"}[name]
    return HostFile(f"{name}_{number:05}_.{suffix}", result_folder(job.id))
