"""Videos made on running hosts: one, or several that share the work.

A prompt's id stands in the journal before the host hears of it. So after a kill it is looked for
in the host's queue, in its history, and among its files, and only made anew where it is nowhere.
"""

from __future__ import annotations

import io
import itertools
import queue
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ...face.align import NoFaceError
from ...views.frames import frames_of_video
from ...views.photos import read_photo
from ...weights.fingerprint import sha256_of_file
from ..client import Ending, Host, HostError, HostFile, HostRefused, Result
from .journal import Journal
from .plan import Job
from .workflow import FOLDER, LATENT, SAVERS, VIDEO, nodes_of, result_folder

QUEUED, MADE, FAILED = "queued", "made", "failed"
# One video is in the host while the one before it is fetched and measured.
LOOK_AHEAD = 2
# A prompt that was sent shortly before a kill may arrive a little later than this command.
_LOOKS_BEFORE_LOST = 4
_MOST_SENDINGS = 3
# Between two looks at a prompt; the first are quick, for small models.
_PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0)
_IDLE_S = 0.2


class Maker:
    """Makes videos on one host.

    Args:
        host: Where.
        journal: What was done so far.
        out: Folder of the results.
    """

    def __init__(self, host: Host, journal: Journal, out: Path) -> None:
        self._host, self._journal, self._out = host, journal, out
        self.url = host.url
        self._uploaded: set[str] = set()
        self._host_words = ""

    def greet(self) -> None:
        """Ask the host what it is.

        Raises:
            HostError: It does not answer.
        """
        self._host_words = self._host.describe()

    def is_made(self, job: Job) -> bool:
        """Whether the video of a job is here."""
        state = self.state(job)
        path = self.video(job)
        return (
            state.get("state") == MADE and path.is_file() and path.stat().st_size == state["size"]
        )

    def video(self, job: Job) -> Path:
        """Where the video of a job is, or will be."""
        return self._out / "videos" / f"{job.id}.mp4"

    def state(self, job: Job) -> dict[str, Any]:
        return self._journal.last("job", job.id) or {}

    def is_hopeless(self, job: Job) -> bool:
        """Whether it failed for a reason that stays."""
        state = self.state(job)
        return state.get("state") == FAILED and state["final"]

    def send(self, job: Job) -> None:
        """Put a job into the host's queue, unless an earlier run did."""
        if not self.has_sent(job):
            self._queue(job)

    def has_sent(self, job: Job) -> bool:
        """Whether a job was put into this host's queue, and has not come out of it."""
        state = self.state(job)
        return state.get("state") == QUEUED and state.get("server", self.url) == self.url

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
        self._journal.add("job", job.id, state=QUEUED, server=self.url,
                          prompt_id=prompt_id, number=number)  # fmt: skip
        self._host.queue(job.graph, prompt_id)

    def collect(self, job: Job) -> None:
        """Wait for a job and copy its files; note why where it failed."""
        for attempt in range(_MOST_SENDINGS):
            if attempt:
                self._queue(job)
            result = self._wait(self.state(job)["prompt_id"])
            if result is None:
                if self._take_left_behind(job):
                    return
            elif result.failure:
                final = result.error_type == NoFaceError.__name__
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
        number = self.state(job)["number"]
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


class Crew:
    """Several hosts at one list of jobs: whoever is free takes the next one.

    What a host had when it was lost is taken over by the others.

    Args:
        makers: One per host.
        jobs: What is not made yet.
    """

    def __init__(self, makers: Sequence[Maker], jobs: Sequence[Job]) -> None:
        self._todo, self._left, self._alive = deque(jobs), len(jobs), len(makers)
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._ended: queue.Queue[Job | BaseException] = queue.Queue()
        for maker in makers:
            threading.Thread(target=self._work, args=(maker,), daemon=True).start()

    def ended(self) -> Iterator[Job]:
        """The jobs as they end, made or failed.

        Raises:
            HostError: The last host was lost, or one refuses the workflow.
        """
        while self._left:
            try:
                ended = self._ended.get(timeout=_IDLE_S)  # a wait without end hears no Ctrl-C
            except queue.Empty:
                continue
            if isinstance(ended, BaseException):
                raise ended
            self._left -= 1
            yield ended

    def close(self) -> None:
        """Let every host finish what it has, and send no more."""
        self._stop.set()

    def _work(self, maker: Maker) -> None:
        mine: deque[Job] = deque()
        try:
            while self._left and not self._stop.is_set():
                while len(mine) < LOOK_AHEAD and (job := self._take(maker)) is not None:
                    mine.append(job)
                    maker.send(job)
                if not mine:
                    self._stop.wait(_IDLE_S)  # another host may be lost yet
                    continue
                maker.collect(mine[0])
                self._ended.put(mine.popleft())
        except HostError as error:
            with self._lock:
                self._alive -= 1
                self._todo.extendleft(reversed(mine))
                last = self._alive == 0
            if last or isinstance(error, HostRefused):
                self._ended.put(error)
            else:
                sys.stderr.write(f"{error}\nThe other hosts go on without it.\n")
        except BaseException as error:  # noqa: BLE001 (raised where the others wait)
            self._ended.put(error)

    def _take(self, maker: Maker) -> Job | None:
        """The next job, first of all one that an earlier run sent to this host."""
        with self._lock:
            sent = next((job for job in self._todo if maker.has_sent(job)), None)
            if sent is None:
                return self._todo.popleft() if self._todo else None
            self._todo.remove(sent)
            return sent


def _file(job: Job, name: str, number: int) -> HostFile:
    """What the host's saving nodes call their file."""
    suffix = {VIDEO: "mp4", LATENT: "latent"}[name]
    return HostFile(f"{name}_{number:05}_.{suffix}", result_folder(job.id))
