"""A folder of clips becomes a manifest, shards of views, and a page that gives reasons."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save

from ..config import Config, Curate, as_plain
from ..manifest import MANIFEST, ClipRow, DataError, write_manifest
from .captions import described, open_captioner, read_sidecar
from .engines import ENGINES
from .report import PAGE, write_report
from .stages import Stretch, need, open_faces, stretches
from .store import Store, key_of, put
from .verdict import Reason, judge, measure
from .work import Work, detector_hash

SUFFIXES = {".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"}
SHARD_CLIPS = 64
CLIPS = "clips.jsonl"
NOT_LOOKED_AT = {"error": "it was not looked at"}


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it.

    Attributes:
        kept: Clips in the manifest.
        rejected: Clips, or files, that are left out.
        page: `report.html`.
    """

    kept: int
    rejected: int
    page: Path


@dataclass(slots=True)
class Item:
    """One stretch, one shot that holds none, or one file that cannot be read.

    Attributes:
        path: Relative to the folder of clips.
        start_s: In the file.
        reason: Why it is left out, or None.
        detail: The number or the error behind the reason.
        scores: See `verdict.Measured`.
        thumb: A JPEG as text, or "".
        row: What the manifest holds of it.
        views: Where its crops are, and their numbers in the order of the row.
    """

    path: str
    start_s: float = 0.0
    reason: Reason | None = None
    detail: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    thumb: str = ""
    row: ClipRow | None = None
    views: tuple[str, tuple[int, ...]] = ("", ())


def run_curation(config: Config, engine: str, say: Callable[[str], None]) -> Report:
    """Look at what has not been looked at, judge everything, and write `work/curated`.

    Args:
        config: Of the training.
        engine: One of `engines.ENGINES`.
        say: Takes a line for people.

    Raises:
        DataError: There is no clip, a package or a detector's file is missing, or the folder
            cannot be written.
        ConfigError: The captioner cannot be imported.
    """
    from tqdm import tqdm

    rules, folder = config.curate, config.work / "curated"
    paths = find_clips(rules.clips)
    store = Store(folder / "store")
    captioner = open_captioner(rules.captioner)
    for package in ("scenedetect", "rapidocr"):
        need(package, package)
    open_faces(rules.detector, rules.face_models)
    try:
        work = Work(rules, store, detector_hash(rules, store))
        again: dict[str, str] = {}
        todo = [str(path) for path in paths if not work.is_done(str(path))]
        say(f"{len(paths)} files, {len(todo)} of them not looked at yet")
        with tqdm(total=len(todo), unit="file", disable=not todo) as bar:
            for path, why in ENGINES[engine](work, todo) if todo else ():
                bar.update()
                if why is not None:
                    again[path] = why
                    bar.write(f"{path}: {why}")
        items = list(_items(paths, work, again, captioner))
        return _write(items, rules, store, folder)
    except OSError as error:
        raise DataError(
            f"curation stopped, {error.filename or folder}: {error.strerror or error}; the same "
            "command goes on from here"
        ) from error


def find_clips(folder: Path) -> list[Path]:
    """The video files below a folder, by name.

    Raises:
        DataError: There is no such folder, or no video in it.
    """
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    )
    if not paths:
        there = "holds no video" if folder.is_dir() else "is no folder"
        raise DataError(f"curate.clips: {folder} {there} ({', '.join(sorted(SUFFIXES))})")
    return paths


def _items(
    paths: Sequence[Path], work: Work, again: dict[str, str], captioner: Callable | None
) -> Iterator[Item]:
    """What became of each file, in the order of their names."""
    seen: set[str] = set()
    rules, store = work.rules, work.store
    for path in paths:
        name = path.relative_to(rules.clips).as_posix()
        if str(path) in again:
            yield Item(name, reason=Reason.UNREADABLE, detail=again[str(path)])
            continue
        content = store.content_hash(path)
        found: dict[str, Any] = store.read("shots", work.shots_key(content)) or NOT_LOOKED_AT
        if "error" in found:
            yield Item(name, reason=Reason.UNREADABLE, detail=found["error"])
        elif content in seen:
            yield Item(name, reason=Reason.DUPLICATE, thumb=_thumb(found))
        else:
            for shot in found["shots"]:
                thumb, held = shot["thumb"], stretches(found, shot, rules)
                if not held:
                    detail = f"{shot['end_s'] - shot['start_s']:.2f} s"
                    yield Item(name, shot["start_s"], Reason.TOO_SHORT, detail, thumb=thumb)
                elif shot["fps"] < rules.fps * 0.95:
                    detail = f"{shot['fps']:g} a second"
                    yield Item(name, shot["start_s"], Reason.LOW_RATE, detail, thumb=thumb)
                elif held[0].size is None:
                    detail = f"{found['width']}x{found['height']}"
                    yield Item(name, shot["start_s"], Reason.SMALL_PICTURE, detail, thumb=thumb)
                else:
                    for stretch in held:
                        yield _item(path, name, content, stretch, work, captioner)
        seen.add(content)


def _item(
    path: Path, name: str, content: str, stretch: Stretch, work: Work, captioner: Callable | None
) -> Item:
    """What became of a stretch."""
    rules, store = work.rules, work.store
    keys = {s: work.key(s, content, stretch) for s in ("faces", "text", "views")}
    faces, text, views = (store.read(stage, key) or {} for stage, key in keys.items())
    item = Item(name, stretch.start_s, thumb=faces.get("thumb", ""))
    problem = next((part["error"] for part in (faces, text, views) if "error" in part), None)
    if problem is not None or not faces:
        item.reason, item.detail = Reason.UNREADABLE, problem or NOT_LOOKED_AT["error"]
        return item
    measured = measure(faces, text, views, rules)
    item.scores = measured.scores
    broken = judge(measured.scores, rules)
    if broken is not None:
        item.reason, item.detail = broken
        return item
    caption, person = read_sidecar(path)
    if not caption and captioner is not None:
        caption, item.detail = described(path, content, rules.captioner, captioner, store)
    if not caption:
        item.reason = Reason.NO_CAPTION
        return item
    assert stretch.size is not None
    clip = key_of(content, stretch.start_s, rules.frames, rules.fps, stretch.size)
    taken = [views["views"][i] for i in measured.chosen]
    yaw, pitch, roll = (tuple(v[axis] for v in taken) for axis in ("yaw", "pitch", "roll"))
    item.row = ClipRow(
        clip, str(path), stretch.start_s, *stretch.size, caption, person or clip, "",
        yaw, pitch, roll, measured.boxes,
    )  # fmt: skip
    item.views = keys["views"], measured.chosen
    return item


def _thumb(found: dict[str, Any]) -> str:
    return found["shots"][0]["thumb"] if found.get("shots") else ""


def _write(items: list[Item], rules: Curate, store: Store, folder: Path) -> Report:
    """Shards, then the manifest that names them, then the page; nothing where all is there."""
    kept = sorted(((i.row, i) for i in items if i.row is not None), key=lambda pair: pair[0].clip)
    rows: list[ClipRow] = []
    shards: dict[str, list[tuple[ClipRow, Item]]] = {}
    for number, (row, item) in enumerate(kept):
        name = f"views-{number // SHARD_CLIPS:05d}.safetensors"
        rows.append(replace(row, shard=name))
        shards.setdefault(name, []).append((row, item))
    lines = "".join(json.dumps(_plain(item), sort_keys=True) + "\n" for item in items)
    state = key_of([str(r) for r in rows], [item.views for _, item in kept], lines, as_plain(rules))
    done = folder / "done.json"
    files = [folder / name for name in (MANIFEST, PAGE, CLIPS, *shards)]
    report = Report(len(kept), len(items) - len(kept), folder / PAGE)
    if done.is_file() and done.read_text("utf-8") == state and all(f.is_file() for f in files):
        return report
    # Without the manifest nobody reads shards that are half old and half new.
    done.unlink(missing_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    for old in folder.glob("views-*.safetensors"):
        if old.name not in shards:
            old.unlink()
    for name, held in shards.items():
        _write_shard(folder / name, held, store)
    put(folder / CLIPS, lambda p: p.write_text(lines, "utf-8"))
    write_report(items, rules, folder / PAGE)
    write_manifest(rows, folder)
    put(done, lambda p: p.write_text(state, "utf-8"))
    return report


def _write_shard(target: Path, held: Sequence[tuple[ClipRow, Item]], store: Store) -> None:
    tensors = {}
    for row, item in held:
        key, chosen = item.views
        pictures = store.read_pictures("views", key)
        if pictures is None:
            raise DataError(
                f"the views of {item.path} are gone from {store.root / 'views'}: delete that "
                "folder and curate again"
            )
        tensors |= {f"{row.clip}/{i}": pictures[str(view)] for i, view in enumerate(chosen)}
    data = save(tensors)
    if not target.is_file() or target.read_bytes() != data:
        put(target, lambda p: p.write_bytes(data))


def _plain(item: Item) -> dict[str, Any]:
    return {
        "path": item.path,
        "start_s": item.start_s,
        "clip": item.row.clip if item.row else None,
        "reason": item.reason.name if item.reason else None,
        "detail": item.detail,
        "scores": item.scores,
    }
