"""The films and photos of a group of people, drawn into memory or onto disk.

Which people: `TRAIN` teaches, `TUNE` is looked at while things are chosen, and `TEST` was written
down before any training and is drawn for the final table alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Generator, Tensor

from fantasyid.face.crop import cut_crop
from fantasyid.training.manifest import ClipRow, picture_bytes, write_manifest, write_video

from .drawing import PHOTO_ZOOM, draw, five_points
from .films import BACKGROUNDS, LIGHTS, MOTIONS, Film, draw_film, draw_photo
from .people import People, draw_people

FRAMES, SIZE, FPS = 17, 96, 8
PHOTO_SIZE = 256


@dataclass(frozen=True, slots=True)
class Cast:
    """A group of people: how many, and the seed that draws them."""

    name: str
    seed: int
    people: int
    films: int = 3
    photos: int = 4
    new_words: bool = True  # sentences that are in no film of the training


TRAIN = Cast("train", 1, 900, new_words=False)
TUNE = Cast("tune", 2, 40)
TEST = Cast("test", 3, 60)
CASTS = {cast.name: cast for cast in (TRAIN, TUNE, TEST)}


@dataclass(frozen=True, slots=True)
class Person:
    """One person of a cast with everything that was drawn of them.

    Attributes:
        number: In the cast.
        people: The row of this person.
        films: What the clips show; `clips` (n, 17, 96, 96, 3) uint8.
        photos: What the photos show; `pictures` (m, 256, 256, 3) uint8.
        points: (m, 5, 2) pixels of the photos, see `drawing.five_points`.
    """

    number: int
    people: People
    films: list[Film]
    clips: Tensor
    photos: list[Film]
    pictures: Tensor
    points: Tensor


@cache
def training_sentences() -> frozenset[str]:
    """All prompts of the training's films."""
    return frozenset(film.prompt for n in range(TRAIN.people) for film in plan(TRAIN, n)[0])


def plan(cast: Cast, number: int) -> tuple[list[Film], list[Film]]:
    """The films and photos of one person, a function of the cast's seed and the number alone."""
    source = Generator().manual_seed(1_000_003 * cast.seed + number)
    motions = [list(MOTIONS)[n] for n in torch.randperm(len(MOTIONS), generator=source)]
    films = [
        draw_film(
            motions[n],
            list(BACKGROUNDS)[int(torch.randint(len(BACKGROUNDS), (), generator=source))],
            list(LIGHTS)[int(torch.randint(len(LIGHTS), (), generator=source))],
            FRAMES,
            source,
            training_sentences() if cast.new_words else (),
        )
        for n in range(cast.films)
    ]
    return films, [draw_photo(source) for _ in range(cast.photos)]


def draw_cast(cast: Cast, first: int = 0, last: int | None = None) -> Iterator[Person]:
    """Draw the people of a cast from `first` to before `last`, one by one."""
    everyone = draw_people(cast.people, cast.seed)
    for number in range(first, cast.people if last is None else last):
        films, photos = plan(cast, number)
        one = everyone[[number] * max(len(films), len(photos))]
        yield Person(
            number=number,
            people=everyone[[number]],
            films=films,
            clips=torch.stack(draw(one[: len(films)], films, SIZE)),
            photos=photos,
            pictures=torch.cat(draw(one[: len(photos)], photos, PHOTO_SIZE, 1, PHOTO_ZOOM)),
            points=torch.cat([five_points(everyone[[number]], f, PHOTO_SIZE) for f in photos]),
        )


def write_curated(cast: Cast, folder: Path, first: int = 0, last: int | None = None) -> None:
    """Put a cast on disk as curation would: MP4 files, views in shards, a manifest.

    The world knows where its faces are, so nothing needs to be found.

    Args:
        cast: Who.
        folder: Of the manifest (`work/curated` of a training).
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[ClipRow] = []
    views: dict[str, Tensor] = {}
    for person in draw_cast(cast, first, last):
        crops = [
            (cut_crop(picture.float() / 255, points.tolist()) * 255).round().byte()
            for picture, points in zip(person.pictures, person.points, strict=True)
        ]
        # Every film has a photo of its own, the first film all that are left.
        shares = [[n] for n in range(len(person.films))]
        shares[0] += range(len(person.films), len(crops))
        for number, (film, clip) in enumerate(zip(person.films, person.clips, strict=True)):
            name = f"{cast.name}-{person.number:04d}-{number}"
            path = folder / "clips" / f"{name}.mp4"
            path.parent.mkdir(exist_ok=True)
            write_video(path, clip, FPS, "yuv444p", crf="8", preset="veryfast")  # hardly any loss
            shard = f"views-{person.number // 50:03d}.safetensors"
            poses = torch.stack([person.photos[n].pose[0] for n in shares[number]]).rad2deg()
            rows.append(
                ClipRow(
                    clip=name, path=str(path), start_s=0.0, width=SIZE, height=SIZE,
                    caption=film.prompt, person=f"{cast.name}-{person.number:04d}", shard=shard,
                    yaw_deg=tuple(poses[:, 0].tolist()), pitch_deg=tuple(poses[:, 1].tolist()),
                    roll_deg=tuple(poses[:, 2].tolist()),
                    face_boxes=((0.2 * SIZE, 0.1 * SIZE, 0.8 * SIZE, 0.9 * SIZE),) * FRAMES,
                )
            )  # fmt: skip
            for view, n in enumerate(shares[number]):
                views[f"{name}/{view}"] = picture_bytes(crops[n])
        if person.number % 50 == 49 or person.number + 1 == (last or cast.people):
            save_file(views, folder / f"views-{person.number // 50:03d}.safetensors")
            views = {}
            print(f"{cast.name}: {person.number + 1} of {cast.people} people", flush=True)
    write_manifest(rows, folder)
