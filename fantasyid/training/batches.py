"""Batches from the cache: every random choice of a sample comes from its place in the run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import Dataset

from .cache import caption_key
from .config import Config
from .loss import draw_timesteps
from .manifest import ClipRow, DataError
from .order import Order, generator, share
from .part import Part

PER_SAMPLE = ("clean", "noise", "timesteps", "text", "keep_latent", "keep", "weight", "mask")
PER_REFERENCE = ("face_latent", "features", "vertices")
# Tokens of a text embedding that differ by less are one padding, seen through rounding.
PADDING_TOLERANCE = 1e-5


@dataclass(slots=True)
class Batch:
    """What one device sees in one accumulation part.

    `B` samples share `R` references: sample i belongs to reference `i // (B / R)`.

    Attributes:
        clean: `(B, F, C, H, W)` latents x0, scaled as the transformer takes them.
        noise: Like `clean`.
        timesteps: `(B,)`.
        text: `(B, L, C)`; its last token stands for `paddings` equal ones, see `kept_text`.
        face_latent: `(R, C, H, W)` of the reference view; zeros where it is dropped.
        keep_latent: `(B,)` 1, or 0 where the image-to-video channel stays empty.
        features: `(R, 1 + grid^2, C)` hidden state of the vision tower.
        vertices: `(R, V, 3)` metres.
        keep: `(B,)` 1, or 0 where the sample has no identity.
        weight: `(B,)` 1, or 0 where the sample could not be read.
        mask: `(B, F, 1, H, W)` of the loss.
        names: Clip of each sample, for messages.
        failures: What could not be read, and why.
    """

    clean: Tensor
    noise: Tensor
    timesteps: Tensor
    text: Tensor
    face_latent: Tensor
    keep_latent: Tensor
    features: Tensor
    vertices: Tensor
    keep: Tensor
    weight: Tensor
    mask: Tensor
    names: list[str]
    failures: list[str]
    paddings: int = 1

    def to(self, device: torch.device | str) -> Batch:
        """The same on a device."""
        tensors = {name: getattr(self, name) for name in (*PER_SAMPLE, *PER_REFERENCE)}
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
        return replace(self, **moved)


class Batches(Dataset[Batch]):
    """The batches of one device: item `step * parts + part`.

    Args:
        rows: Of the manifest; those that the cache does not hold are named and left out.
        parts: Of the cache.
        rank: This device among `world_size`.
        scale: VAE scaling factor (CogVideoX: 0.7).

    Raises:
        DataError: More clips than the config allows are not in the cache.
        ValueError: The batch does not divide among devices, accumulation and references.
    """

    def __init__(
        self,
        config: Config,
        rows: Sequence[ClipRow],
        parts: Mapping[str, Part],
        scale: float,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        train = config.train
        self.config, self.parts, self.scale = config, parts, scale
        self.rank, self.world_size = rank, world_size
        missing = [
            row.clip
            for row in rows
            if any(
                row.clip not in parts[name] for name in ("video", "features", "vertices", "face")
            )
            or caption_key(row.caption) not in parts["text"]
        ]
        if len(missing) > train.max_bad_share * len(rows):
            raise DataError(
                f"{len(missing)} of {len(rows)} clips are not in the cache (first: {missing[0]}): "
                "run `python -m fantasyid.training cache` first"
            )
        usable = [row for row in rows if row.clip not in set(missing)]
        people: dict[tuple[str, int, int], list[ClipRow]] = {}
        for row in usable:
            people.setdefault((row.person, row.width, row.height), []).append(row)
        self.people = list(people.values())
        self.data = data_of(usable, parts)
        sizes: dict[tuple[int, int], list[int]] = {}
        for number, clips in enumerate(self.people):
            sizes.setdefault((clips[0].width, clips[0].height), []).append(number)
        each = train.samples_per_reference
        if train.batch_size % (world_size * train.accumulation * each):
            raise ValueError(
                f"train.batch_size {train.batch_size} does not divide among {world_size} devices, "
                f"{train.accumulation} accumulation parts and {each} samples per reference"
            )
        self.text_kept, self._text_tokens = kept_text(parts["text"])
        self.order = Order(train.seed, tuple(map(tuple, sizes.values())), train.batch_size // each)

    def __len__(self) -> int:
        return self.config.train.steps * self.config.train.accumulation

    def __getitem__(self, index: int) -> Batch:
        train = self.config.train
        step, part = divmod(index, train.accumulation)
        units = list(enumerate(self.order.units(step)))
        mine = share(units, self.rank, self.world_size, part, train.accumulation)
        references = [self._reference(step, place, unit) for place, unit in mine]
        samples = [
            self._sample(step, place * train.samples_per_reference + i, unit, reference)
            for (place, unit), reference in zip(mine, references, strict=True)
            for i in range(train.samples_per_reference)
        ]
        stacked = {name: torch.stack([sample[name] for sample in samples]) for name in PER_SAMPLE}
        shared = {
            name: torch.stack([reference[name] for reference in references])
            for name in PER_REFERENCE
        }
        failures = [w for one in (*references, *samples) for w in one["failures"]]
        names = [sample["name"] for sample in samples]
        paddings = self._text_tokens - self.text_kept + 1
        return Batch(**stacked, **shared, names=names, failures=failures, paddings=paddings)

    def _reference(self, step: int, place: int, unit: int) -> dict:
        """One view of a person, drawn anew for every step."""
        clips = self.people[unit]
        draw = generator(self.config.train.seed, step, "reference", place)
        failures: list[str] = []
        row = clips[int(torch.randint(len(clips), (), generator=draw))]
        view = int(torch.randint(len(row.yaw_deg), (), generator=draw))
        take = int(torch.randint(self.config.cache.face_latent_draws, (), generator=draw))
        if self.config.train.single_view:
            row, view = clips[0], 0
        try:
            moments = self.parts["face"].get(row.clip)[view, take].float()
            features = self.parts["features"].get(row.clip)[view].float()
            vertices = self.parts["vertices"].get(row.clip)[view].float()
        except DataError as error:
            failures.append(str(error))
            moments, features, vertices = self._blank_reference(row)
        latent = self.scale * _sampled(moments, torch.randn(moments[::2].shape, generator=draw))
        return {
            "face_latent": latent,
            "features": features,
            "vertices": vertices,
            "failures": failures,
        }

    def _sample(self, step: int, position: int, unit: int, reference: dict) -> dict:
        train, clips = self.config.train, self.people[unit]
        draw = generator(train.seed, step, "sample", position)
        row = clips[int(torch.randint(len(clips), (), generator=draw))]
        no_text, no_identity, no_latent, masked, when = torch.rand(5, generator=draw).tolist()
        failures: list[str] = []
        try:
            moments = self.parts["video"].get(row.clip).float()
            caption = "" if no_text < train.null_text else row.caption
            text = self.parts["text"].get(caption_key(caption))[: self.text_kept].float()
        except DataError as error:
            failures.append(f"sample {position} of step {step}, clip {row.clip}: {error}")
            moments, text = self._blank_sample(row)
        clean = self.scale * _sampled(moments, torch.randn(moments[::2].shape, generator=draw))
        clean = clean.movedim(0, 1)  # (F, C, H, W)
        mask = torch.ones(clean.shape[0], 1, *clean.shape[2:])
        if masked < train.mask_loss:
            mask = face_mask(row, clean.shape[0], *clean.shape[2:])
        usable = not failures and not reference["failures"]
        return {
            "clean": clean,
            "noise": torch.randn(clean.shape, generator=draw),
            "timesteps": draw_timesteps(torch.tensor(when), train.timestep_power),
            "text": text,
            "keep_latent": torch.tensor(float(no_latent >= train.face_latent_dropout)),
            "keep": torch.tensor(float(no_identity >= train.identity_dropout)),
            "weight": torch.tensor(float(usable)),
            "mask": mask,
            "name": row.clip,
            "failures": failures,
        }

    def _any(self, name: str) -> Tensor:
        """Some tensor of a part, for the shape of what takes an unreadable sample's place."""
        part = self.parts[name]
        for key in part.places:
            try:
                return part.get(key).float()
            except DataError:
                continue
        raise DataError(f"nothing in {part.folder} can be read: delete it and run `cache` again")

    def _blank_reference(self, row: ClipRow) -> tuple[Tensor, Tensor, Tensor]:
        channels = self._any("face").shape[2]
        moments = torch.zeros(channels, row.height // 8, row.width // 8)
        return moments, torch.zeros_like(self._any("features")[0]), torch.zeros(5023, 3)

    def _blank_sample(self, row: ClipRow) -> tuple[Tensor, Tensor]:
        channels, frames = self._any("video").shape[:2]
        moments = torch.zeros(channels, frames, row.height // 8, row.width // 8)
        return moments, torch.zeros_like(self._any("text")[: self.text_kept])


def data_of(rows: Sequence[ClipRow], parts: Mapping[str, Part]) -> str:
    """What the order and the content of the samples depend on: how many clips, and a hash.

    Clips count by their content, so that a folder may move; parts by the encoders that made them.
    """
    told = [
        *((r.clip, r.person, r.caption, r.width, r.height, len(r.yaw_deg)) for r in rows),
        *sorted(part.folder.name for part in parts.values()),
    ]
    return f"{len(rows)} clips, {hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]}"


def kept_text(part: Part) -> tuple[int, int]:
    """How many tokens of the embeddings of a cache differ, and how many there are.

    Behind the longest prompt all tokens of an embedding are paddings. Where an encoder tells no
    place from another, as a T5 without relative positions, they are equal, and the first stands
    for all of them (`TrainedNetwork.velocity`).
    """
    kept = tokens = 1
    for key in part.places:
        try:
            text = part.get(key).float()
        except DataError:
            continue
        tokens = len(text)
        differs = ((text - text[-1:]).abs().amax(1) > PADDING_TOLERANCE).nonzero()
        kept = max(kept, int(differs[-1]) + 2 if len(differs) else 1)
    return min(kept, tokens), tokens


def _sampled(moments: Tensor, noise: Tensor) -> Tensor:
    """A draw from the VAE's diagonal Gaussian: `moments` holds means, then log variances."""
    mean, log_variance = moments.chunk(2)
    return mean + torch.exp(0.5 * log_variance.clamp(-30.0, 20.0)) * noise


def face_mask(row: ClipRow, frames: int, height: int, width: int) -> Tensor:
    """`(F, 1, H, W)`: 1 where the face is in one of the frames behind a latent frame."""
    mask = torch.zeros(frames, 1, height, width)
    for number, (left, top, right, bottom) in enumerate(row.face_boxes):
        frame = 0 if number == 0 else 1 + (number - 1) // 4
        if frame < frames and right > left:
            rows = slice(max(0, int(top // 8)), max(0, int(-(-bottom // 8))))
            columns = slice(max(0, int(left // 8)), max(0, int(-(-right // 8))))
            mask[frame, 0, rows, columns] = 1.0
    return mask if mask.any() else torch.ones_like(mask)
