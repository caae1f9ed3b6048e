"""Makes videos of people and words that a miniature has not seen, and reads them back.

Everything is read from the frames by networks that were trained on drawn ones (`reading`,
`studio`). `table` puts it into words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fantasyid.face.crop import cut_crop, fit_similarity, warp_affine
from fantasyid.face.recognizer import ARCFACE_SIZE, ARCFACE_TEMPLATE_PX
from fantasyid.training.encoders import Encoders
from fantasyid.training.network import TrainedNetwork
from fantasyid.training.validation import sample

from .reading import COLUMNS, MotionReader, Reader, points_of, read
from .studio import FaceNetwork
from .world.dataset import SIZE, Cast, Person, draw_cast
from .world.films import BACKGROUNDS
from .world.people import JAW, WIDTH
from .world.people import SIZE as SIZE_OF_HEAD

STEPS = 12
BATCH = 20
PADDING_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class Given:
    """What sampling needs of `B` people, and what is known of them.

    Attributes:
        people: As drawn.
        features: (B, 577, C); `vertices` (B, 5023, 3); `face_latent` (B, C, H, W).
        text: (B, L, C) of each one's first film, paddings folded; `null` (1, L, C).
        paddings: How many the last token stands for.
    """

    people: list[Person]
    features: Tensor
    vertices: Tensor
    face_latent: Tensor
    text: Tensor
    null: Tensor
    paddings: int

    @property
    def motions(self) -> list[str]:
        return [person.films[0].motion for person in self.people]

    def column(self, name: str) -> Tensor:
        """The truth of a column of the reader, (B, C)."""
        one = [person.people for person in self.people]
        if name == "shape":
            return torch.stack([p.betas[0, [SIZE_OF_HEAD, WIDTH, JAW]] / 3.0 for p in one])
        return torch.stack([getattr(p, name)[0] for p in one])


def encode(cast: Cast, encoders: Encoders) -> Given:
    """Draw a cast and encode its first photo and the words of its first film."""
    people = list(draw_cast(cast))
    crops = torch.stack([
        (cut_crop(p.pictures[0].float() / 255, p.points[0].tolist()) * 255).round().byte()
        for p in people
    ])  # fmt: skip
    latents = [
        encoders.scale * encoders.moments(encoders.face_pixels(crop, SIZE, SIZE)).chunk(2)[0][:, 0]
        for crop in crops
    ]
    text = torch.stack([encoders.text(p.films[0].prompt) for p in people])
    null = encoders.text("")[None]
    both = torch.cat([text, null])
    differs = (both - both[:, -1:]).abs().amax((0, 2)) > PADDING_TOLERANCE
    kept = int(differs.nonzero()[-1]) + 2
    return Given(
        people, encoders.features(crops), encoders.vertices(crops), torch.stack(latents),
        text[:, :kept], null[:, :kept], text.shape[1] - kept + 1,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Condition:
    """One way to make the videos: whose photo each path gets; None gives the path nothing.

    A shift of 0 is the person's own, another number that of the person so many places on.
    """

    name: str
    latent: int | None = 0
    looks: int | None = 0
    vertices: int = 0


CONDITIONS = (
    Condition("whole"),
    Condition("without identity", None, None),
    Condition("tokens alone", None),
    Condition("face latent alone", looks=None),
    Condition("another's identity", 7, 7, 7),
    Condition("own vertices, another's looks", None, 7, 0),
)


@torch.no_grad()
def make_videos(
    network: TrainedNetwork,
    given: Given,
    decoder: Any,
    condition: Condition,
    cfg: float,
    scale: float,
    steps: int = STEPS,
    seed: int = 0,
) -> Tensor:
    """One video of each person, (B, 17, 96, 96, 3) uint8.

    Args:
        decoder: The host's VAE.
        scale: Of its latents.
    """
    network.eval()
    made = []
    count = len(given.people)
    for first in range(0, count, BATCH):
        rows = torch.arange(first, min(first + BATCH, count))
        image = torch.zeros(len(rows), 5, *given.face_latent.shape[1:])
        if condition.latent is not None:
            image[:, 0] = given.face_latent[(rows + condition.latent) % count]
        pairs = None
        if condition.looks is not None:
            pairs = network.identity(
                given.features[(rows + condition.looks) % count],
                given.vertices[(rows + condition.vertices) % count],
            )
        latents = sample(
            network, pairs, given.text[rows], given.null.expand(len(rows), -1, -1), image, steps,
            cfg, seed, given.paddings,
        )  # fmt: skip
        for latent in latents.movedim(1, 2) / scale:
            pixels = decoder.decode(latent[None])[0].clamp(-1, 1)
            made.append(((pixels + 1) * 127.5).round().byte().permute(1, 2, 3, 0))
    return torch.stack(made)


@torch.no_grad()
def embed(recognizer: FaceNetwork, pictures: Sequence[Tensor], points: Sequence[Tensor]) -> Tensor:
    """Embeddings (N, E) of pictures (H, W, 3) uint8 by their five points."""
    faces = []
    for picture, five in zip(pictures, points, strict=True):
        matrix = fit_similarity(five.double().numpy(), ARCFACE_TEMPLATE_PX)
        if matrix is None:
            faces.append(torch.zeros(ARCFACE_SIZE, ARCFACE_SIZE, 3))
        else:
            faces.append(warp_affine(picture.float() / 255, matrix, ARCFACE_SIZE, (0.0, 0.0, 0.0)))
    batch = torch.stack(faces).clamp(0, 1).permute(0, 3, 1, 2) * 2 - 1
    return F.normalize(torch.cat([recognizer(part) for part in batch.split(128)]))


@dataclass(frozen=True, slots=True)
class Found:
    """What was read from videos, a row per person.

    Attributes:
        found: (B,) 1 where the recognizer takes another photo of the person among all.
        likeness: (B,) cosine to the reference photo.
        color_own: (B,) mean error of skin and hair to the person's, in [0, 1]; `color_other` to
            another's.
        shape: (3,) correlation of the head's size, width and jaw with the person's.
        motion: (B,) 1 where the motion is the prompted one; `background` likewise.
        pose_copied: Correlation of the first frame's yaw with the photo's.
    """

    found: Tensor
    likeness: Tensor
    color_own: Tensor
    color_other: Tensor
    shape: Tensor
    motion: Tensor
    background: Tensor
    pose_copied: float


def measure(
    videos: Tensor, given: Given, reader: Reader, motions: MotionReader, recognizer: FaceNetwork
) -> Found:
    """Read videos (B, 17, 96, 96, 3) uint8 back."""
    people, count = given.people, len(given.people)
    reading = read(reader, videos)
    photos = [
        embed(recognizer, [p.pictures[n] for p in people], [p.points[n] for p in people])
        for n in (0, 1)
    ]
    looked = [0, 3]  # before the head has turned far
    frames = [videos[b, f] for b in range(count) for f in looked]
    points = [points_of(reading[b, f]) for b in range(count) for f in looked]
    faces = F.normalize(embed(recognizer, frames, points).view(count, len(looked), -1).mean(1))
    early = reading[:, :4].mean(1)
    five = points_of(early)
    far = five - five.mean(1, keepdim=True)
    haired = torch.tensor([bool(p.people.style[0] > 0) for p in people])

    def color_error(shift: int) -> Tensor:
        other = (torch.arange(count) + shift) % count
        skin = (early[:, COLUMNS["skin"]] - given.column("skin")[other]).abs().mean(1)
        hair = (early[:, COLUMNS["hair"]] - given.column("hair")[other]).abs().mean(1)
        both = haired & haired[other]
        return torch.where(both, (skin + hair) / 2, skin)

    backgrounds = torch.tensor([list(BACKGROUNDS).index(p.films[0].background) for p in people])
    told = reading[..., COLUMNS["background"]].mean(1).argmax(1)
    photo_yaw = torch.tensor([float(p.photos[0].pose[0, 0]) for p in people])
    correct = [a == b for a, b in zip(motions.motions(reading), given.motions, strict=True)]
    return Found(
        found=((faces @ photos[1].T).argmax(1) == torch.arange(count)).float(),
        likeness=(faces * photos[0]).sum(1),
        color_own=color_error(0),
        color_other=torch.stack([color_error(s) for s in range(3, 20)]).mean(0),
        shape=torch.stack([
            correlation(one, truth)
            for one, truth in zip(
                [far.norm(dim=(1, 2)), *early[:, COLUMNS["shape"]].T], given.column("shape").T,
                strict=True,
            )
        ]),
        motion=torch.tensor(correct).float(),
        background=(told == backgrounds).float(),
        pose_copied=float(correlation(reading[:, 0, COLUMNS["pose"]][:, 0], photo_yaw)),
    )  # fmt: skip


def correlation(one: Tensor, two: Tensor) -> Tensor:
    """Pearson's, of two rows of numbers."""
    return torch.corrcoef(torch.stack([one, two]))[0, 1]
